"""What the parameters of an estimator become: a network, an optimizer, a loss, an engine, and the steps of a training.

Where scikit-learn's multi-layer perceptron has a formula for it, that formula stands here: the bounds of the first
weights, the penalty on the weights, the scale of the losses, the form of Adam.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize as scipy_minimize
from threadpoolctl import ThreadpoolController

from nissl import nn, optim
from nissl.compiler import compile
from nissl.data import Dataset
from nissl.nn.activations import ACTIVATIONS as LAYERS
from nissl.nn.module import Module, Parameters
from nissl.objective import Objective, class_hits, hits_above, squared_error
from nissl.ops.elementwise import square
from nissl.ops.reduce import sum
from nissl.ops.source import zeros_like
from nissl.optim.optimizer import Optimizer, Schedule
from nissl.step import TrainingStep
from nissl.tensor import Tensor, TensorLike
from nissl.training import Training

Array = npt.NDArray[Any]

# By scikit-learn's names, and by ours.
ACTIVATIONS: Mapping[str, Callable[[], Module]] = {"identity": nn.Identity, "logistic": nn.Sigmoid, **LAYERS}

# What a fit costs on the NumPy engine, measured: a step of a small network, and operations per second.
SECONDS_OF_A_STEP, OPERATIONS_A_SECOND = 5e-4, 1e10
# Machine code for a new shape takes half a second to make: it must have something to win.
SECONDS_WORTH_COMPILING = 0.5


def network(
    units: Sequence[int],
    activations: Sequence[str],
    dropout: Sequence[float],
    batch_norm: bool,
    dtype: npt.DTypeLike,
    random: np.random.RandomState,
) -> nn.Sequential:
    """Return layers of so many units, the first being the inputs; hidden ones have an activation and a dropout each.

    Weights and intercepts are drawn by NumPy from [-b, b), b = √(6/(fan_in + fan_out)), or √(2/(fan_in + fan_out))
    where the activation is logistic (Glorot and Bengio, 2010): with the same `random`, scikit-learn draws the same.
    """
    layers: list[Module] = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(units)):
        layer = nn.Linear(inputs, outputs, weight_init="zeros", dtype=dtype)
        activation = activations[min(i, len(activations) - 1)]  # that of the last hidden layer for the outputs too
        bound = math.sqrt((2 if activation in ("logistic", "sigmoid") else 6) / (inputs + outputs))
        for parameter in layer.named_parameters().values():
            parameter.assign(Tensor(random.uniform(-bound, bound, parameter.shape), layer.dtype))
        layers.append(layer)
        if i < len(units) - 2:
            layers += [nn.BatchNorm(outputs, dtype=dtype)] if batch_norm else []
            layers += [ACTIVATIONS[activation]()]
            layers += [nn.Dropout(dropout[i])] if dropout[i] else []
    return nn.Sequential(*layers)


def linear_layers(module: Module) -> list[nn.Linear]:
    """Return the Linear layers of a network, from the inputs to the outputs."""
    found = module.named_modules().values()
    return [part for part in found if isinstance(part, nn.Linear)]


class Adam(optim.Adam):
    """Adam as in the note that ends section 2 of the paper, and in scikit-learn: eps is not corrected.

    p ← p - lr · √(1 - β₂ᵗ)/(1 - β₁ᵗ) · m / (√v + eps)
    """

    def factors(self, rate: Tensor) -> tuple[Tensor, ...]:
        """Return the step, and eps as it is."""
        step, _ = super().factors(rate)
        return step, Tensor(np.array(self.eps))


def _sgd(weights: Parameters, rate: float | Schedule, given: Mapping[str, Any]) -> Optimizer:
    momentum = given["momentum"]
    return optim.SGD(weights, rate, momentum, nesterov=given["nesterovs_momentum"] and momentum > 0)


# What makes the optimizer from the weights, a learning rate, and `given`, the parameters of the estimator.
SOLVERS: Mapping[str, Callable[[Parameters, float | Schedule, Mapping[str, Any]], Optimizer]] = {
    "sgd": _sgd,
    "adam": lambda weights, rate, given: Adam(weights, rate, (given["beta_1"], given["beta_2"]), given["epsilon"]),
    "rmsprop": lambda weights, rate, given: optim.RMSProp(weights, rate, given["beta_2"], given["epsilon"]),
    "adagrad": lambda weights, rate, given: optim.AdaGrad(weights, rate, given["epsilon"]),
    "lbfgs": lambda weights, rate, given: optim.SGD(weights, rate),  # which takes no step: see `minimize`
}


def change_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate; velocities keep the steps that they stand for, as where the rate is part of them."""
    before = float(optimizer.lr.item())
    if rate == before:
        return
    optimizer.lr = rate
    for state in optimizer.state.values():
        if "velocity" in state and rate > 0:
            state["velocity"].assign(state["velocity"] * (before / rate))


@dataclass(frozen=True)
class Scaled:
    """A schedule that starts at 1, times a learning rate that is read anew in each step, so that it is no constant."""

    schedule: Schedule
    rate: Tensor

    def __call__(self, step: Tensor) -> TensorLike:
        """Return the rate after `step` steps."""
        return self.schedule(step) * self.rate


def half_squared_error(outputs: Tensor, targets: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Return ½ Σ (y - t)² of a row, averaged over the rows."""
    return nn.mse_loss(outputs, targets, sample_weight) * (0.5 * outputs.shape[-1])


def absolute_error(outputs: Tensor, targets: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Return Σ |y - t| of a row, averaged over the rows."""
    return nn.l1_loss(outputs, targets, sample_weight) * outputs.shape[-1]


def huber(outputs: Tensor, targets: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Return Huber's loss with δ = 1, added up in a row, averaged over the rows."""
    return nn.huber_loss(outputs, targets, sample_weight=sample_weight) * outputs.shape[-1]


def poisson(outputs: Tensor, targets: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Return half the Poisson deviance, added up in a row, averaged over the rows."""
    return nn.poisson_loss(outputs, targets, sample_weight) * outputs.shape[-1]


def log_loss(outputs: Tensor, targets: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Return the log loss of answers of yes or no, added up in a row, averaged over the rows."""
    return nn.binary_cross_entropy_with_logits(outputs, targets, sample_weight) * outputs.shape[-1]


REGRESSION_LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "squared_error": half_squared_error,
    "poisson": poisson,
    "absolute_error": absolute_error,
    "huber": huber,
}


def objective(loss: Callable[..., Tensor], out_activation: str) -> Objective:
    """Return a loss with the metric that goes with outputs of that activation."""
    if out_activation == "softmax":
        return Objective(loss, "accuracy", class_hits)
    if out_activation == "logistic":
        return Objective(loss, "accuracy", hits_above(0.0))
    return Objective(loss, "r2", squared_error)


def choose_engine(engine: str, module: Module, rows: int, steps: int, epochs: int) -> str:
    """Return the engine; "auto" is "native" if NumPy would take long enough for the compiling to pay, by an estimate.

    NumPy takes about half a millisecond for each step, and a second for 10¹⁰ operations, of which an epoch has six for
    each weight and row: two forward, four backward. All epochs that may come are counted. No clock is read, so that
    the same fit takes the same engine on every machine and every day.
    """
    if engine != "auto":
        return engine
    weights = math.fsum(p.size for p in module.named_parameters().values())
    seconds = epochs * (steps * SECONDS_OF_A_STEP + 6 * weights * rows / OPERATIONS_A_SECOND)
    return "native" if seconds >= SECONDS_WORTH_COMPILING else "numpy"


def threads_of_blas() -> int:
    """Return how many threads BLAS may use: as many as there are cores, or the share that joblib gives a worker."""
    return min((library.num_threads for library in _libraries_of_blas()), default=1 << 30)


@functools.cache  # looking for them takes some milliseconds
def _libraries_of_blas() -> list[Any]:
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


class PenalizedStep(TrainingStep):
    """A step that makes ½ α Σ W² / Σ sample weights smaller too: W all weights, but no intercepts."""

    def __init__(self, *parts: Any, alpha: float) -> None:
        super().__init__(*parts)
        self.penalized = [p for p in self.model.named_parameters().values() if p.ndim > 1] if alpha else []
        self.made_of += (alpha,)
        self.alpha = Tensor(np.array(alpha, self.dtype))  # state of the step, so that no value is compiled anew

    def loss_of(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Return the loss of the batch and the penalty."""
        loss = super().loss_of(outputs, targets, weights)
        if not self.penalized:
            return loss
        squares = sum(square(self.penalized[0]))
        for weight in self.penalized[1:]:
            squares = squares + sum(square(weight))
        amount = len(outputs) if weights is None else sum(weights)
        return loss + (0.5 * self.alpha / amount) * squares


class PenalizedTraining(Training):
    """A Training whose steps are penalized, and which may end, or change the learning rate, after every epoch."""

    def __init__(self, module: Module, data: tuple[Array, Array], *, alpha: float, **options: Any) -> None:
        self.make_step = functools.partial(PenalizedStep, alpha=alpha)
        super().__init__(module, data, **options)

    def checked(self, data: Any) -> Dataset:
        """Return the data as they are: scikit-learn has checked them."""
        return Dataset(*data)

    @property
    def can_join_epochs(self) -> bool:
        """No: each epoch may be the last."""
        return False


def minimize(training: PenalizedTraining, told: Callable[[float], bool], options: Mapping[str, float]) -> Any:
    """Train on all rows at once by L-BFGS-B, which is SciPy's; return what SciPy tells of it.

    `told` hears the loss after each iteration, and may end the training by returning True.
    """
    parameters = [p for p in training.model.named_parameters().values() if p.requires_grad]

    @compile(engine=training.engine)
    def loss_and_gradients() -> tuple[Tensor, list[Tensor]]:
        step = training.step
        loss = step.loss_of(step.model(step.x), step.targets, step.weights)
        loss.backward()
        gradients = [zeros_like(p) if p.grad is None else p.grad for p in parameters]
        for p in parameters:
            p.grad = None
        return loss, gradients

    def take(vector: Array) -> None:
        ends = np.cumsum([p.size for p in parameters])
        for p, part in zip(parameters, np.split(vector, ends[:-1]), strict=True):
            p.assign(Tensor(part.reshape(p.shape), p.dtype))

    def at(vector: Array) -> tuple[float, Array]:
        take(vector)
        with np.errstate(all="ignore"):
            loss, gradients = loss_and_gradients()
        return float(loss.item()), np.concatenate([g.numpy().ravel() for g in gradients], dtype=np.float64)

    def after_iteration(intermediate_result: Any) -> None:
        take(intermediate_result.x)
        if told(float(intermediate_result.fun)):
            raise StopIteration

    start = np.concatenate([p.numpy().ravel() for p in parameters], dtype=np.float64)
    found = scipy_minimize(at, start, method="L-BFGS-B", jac=True, callback=after_iteration, options=dict(options))
    take(found.x)
    return found
