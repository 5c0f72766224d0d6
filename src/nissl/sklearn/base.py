"""`NeuralNetwork`, what classifier and regressor share: a nissl training, in the form that scikit-learn asks for.

A subclass says what becomes of y, and what outputs mean. `NetworkMixin` builds the network, `WeightsMixin` shows its
weights, `fitting` makes optimizer, loss and training of its parameters, and a `Run` takes the training to its end.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from nissl import nn, optim
from nissl.engines.base import evaluation_mode, recording
from nissl.evaluation import (
    COMPILED_BATCH,
    EVALUATION_BATCH,
    ForwardPass,
    History,
    Inputs,
    is_worth_compiling,
    model_dtype,
    outputs_of,
)
from nissl.objective import layers_in_order
from nissl.optim.optimizer import Schedule
from nissl.random import seeded
from nissl.sklearn import fitting, parameters
from nissl.sklearn.callbacks import CallbackSupportMixin, FitTask, with_callbacks
from nissl.sklearn.network import NetworkMixin
from nissl.sklearn.rows import Part, check_not_masked, dense, named, row_weights, rows_that_count, split, weighted
from nissl.sklearn.run import Run, warn
from nissl.sklearn.weights import WeightsMixin
from nissl.step import TrainingStep
from nissl.tensor import wrap
from nissl.threads import at_most

Array = npt.NDArray[Any]

BATCH_OF_AUTO = 200
# Attributes that stay in this process when an estimator is pickled, as they hold machine code.
OF_THIS_PROCESS = {"_step_of_parts", "_forward"}
# To predict, a batch has as many rows as make about so many numbers in the widest layer: few calls, which BLAS shares
# among threads, and little memory.
NUMBERS_AT_ONCE = 1 << 20


def takes_parts(estimator: Any) -> bool:
    """Return True, or raise where an estimator of these parameters has no `partial_fit`."""
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is not supported with solver='lbfgs', which takes all rows at once")
    return True


class NeuralNetwork(WeightsMixin, NetworkMixin, CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share."""

    # What __init__ keeps, beside what NetworkMixin reads; scikit-learn finds names and defaults in the subclasses'
    # signatures.
    solver: str
    alpha: float
    batch_size: int | str
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: bool | int
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    loss: str | Callable[..., Any]
    schedule: str | Schedule | None
    clip_norm: float | None
    engine: str
    dtype: Any

    optimizer_: optim.Optimizer
    history_: History
    out_activation_: str
    n_iter_: int
    t_: int
    engine_: str
    _forward: ForwardPass

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None) -> Any:  # noqa: N803
        """Train on X of shape (rows, features), dense or sparse, and y of shape (rows,) or (rows, outputs).

        `sample_weight`, of shape (rows,), says how much each row counts: 0 leaves it out. `X_val` and `y_val` are a
        validation set of your own: its scores and losses are kept in `validation_scores_` and `validation_loss_curve_`,
        and `early_stopping` uses it instead of a part of X.

        Ctrl-C raises KeyboardInterrupt after the current steps; the estimator keeps what it learned so far. Where data
        or parameters are refused, it stays as it was.
        """
        parameters.check(self)
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together, or neither of them")
        task = FitTask(self, X, y, sample_weight, int(self.max_iter))
        held = None if X_val is None else (X_val, y_val)
        self._fit(X, y, sample_weight, held, task)
        task.ends()
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Any:  # noqa: N803
        parameters.check(self)
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True: it sees only a part of the data")
        self._fit(X, y, sample_weight, None, None, classes)
        return self

    # What a subclass says.

    def _encode(self, y: Any, fresh: bool, classes: Any, incremental: bool) -> Array:
        """Return y as targets of the loss, of shape (rows,) or (rows, outputs); set `n_outputs_` and the like."""
        raise NotImplementedError

    def _encode_more(self, y: Any) -> Array:
        """Return further y as targets."""
        raise NotImplementedError

    def _decode(self, outputs: Array) -> Array:
        """Return predictions, as users see them."""
        raise NotImplementedError

    def _score_of(self, targets: Array, outputs: Array, weights: Array | None) -> float:
        """Return what `score` returns, from encoded targets."""
        raise NotImplementedError

    def _loss(self) -> Callable[..., Any]:
        """Return the loss."""
        raise NotImplementedError

    def _class_factors(self, targets: Array, weights: Array | None) -> Array | None:
        """Return the factor by which the rows of each class count more, or None."""
        return None

    def _look_back(self, x: Array, targets: Array) -> None:
        """Warn if nothing was learned."""

    _stratifies = False  # whether a slice for validation has the classes in the proportions of the whole

    # Fitting.

    def _fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        held: Any,
        task: FitTask | None,
        classes: Any = None,
    ) -> None:
        incremental = task is None
        given = {name: vars(self).get(f"_given_{name}") for name in ("coefs", "intercepts")}
        known = hasattr(self, "module_") or any(value is not None for value in given.values())
        fresh = not known or not (incremental or self.warm_start)
        random = np.random.RandomState() if self.random_state is None else check_random_state(self.random_state)
        before = dict(vars(self))
        with contextlib.ExitStack() as refusal:  # which leaves the estimator as it was
            refusal.callback(_restore, self, before)
            x, targets, weights = self._read(X, y, sample_weight, fresh, incremental, classes)
            if fresh or not hasattr(self, "module_"):
                self._build(x, random, {} if fresh else given)
                self._forget_curves()
            else:
                self._check_same_network(x.shape[1])
            if not incremental or not hasattr(self, "optimizer_"):
                rate = self._schedule_or_rate(len(x))
                self.optimizer_ = fitting.SOLVERS[self.solver](self.module_.parameters(), rate, vars(self))
            x, targets, weights = self._of_classes_that_count(x, targets, weights)
            train, validation = self._split(x, targets, weights, held, random)
            earlier = self.__dict__.pop("_step_of_parts", None)  # which is kept again if this training ends well
            goes_on = incremental and self._runs_only_our_code()
            # Examples seen so far are part of the seed: the same data give new orders and masks in each partial_fit.
            seeds = np.random.SeedSequence([int(random.randint(2**31 - 1)), self.t_])
            seed = int(seeds.generate_state(1, np.uint64)[0])
            epochs = 1 if incremental else int(self.max_iter)
            with self._training(train, validation, seed, epochs, earlier if goes_on else None) as training:
                # Arrays that something else holds are not changed in place.
                learned_before = [] if fresh else [(tensor, tensor.payload) for tensor in training.state()]
                try:
                    Run(self, training, task).to_the_end()
                except BaseException as error:
                    before.pop("_step_of_parts", None)  # it holds these rows by now
                    if self.n_iter_ or not isinstance(error, Exception):  # what was learned is kept, also after Ctrl-C
                        refusal.pop_all()
                    else:
                        for tensor, payload in learned_before:
                            tensor.payload = payload
                    raise
                finally:
                    training.step.let_go()  # else the rows would stay until Python looks for cycles
            refusal.pop_all()
        if goes_on:  # the next `partial_fit` need not trace and compile the step again
            self._step_of_parts = training.step
        if not incremental:
            if (forward_pass := self._forward_pass(len(x))) is not None:
                forward_pass(Inputs(x[:1], model_dtype(self.module_)))  # so that it is ready for the first prediction
            self._look_back(x, targets)

    def _read(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        fresh: bool,
        incremental: bool,
        classes: Any,
    ) -> Part:
        """Return the rows that count, with their targets and weights."""
        check_not_masked(X=X, y=y, sample_weight=sample_weight)
        X, y = validate_data(  # noqa: N806
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=isinstance(self, RegressorMixin),
            dtype=self._dtypes,
            order="C",
            reset=fresh,
        )
        y = y.toarray() if sparse.issparse(y) else y
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        x, targets = dense(X), self._encode(y, fresh, classes, incremental)
        weights = row_weights(sample_weight, len(targets), x.dtype)
        if weights is None or weights.all():
            return x, targets, weights
        return rows_that_count(x, targets, weights)  # a row without weight is none, in batches and in slices too

    def _of_classes_that_count(self, x: Array, targets: Array, weights: Array | None) -> Part:
        """Return the rows whose class has a weight."""
        factors = self._class_factors(targets, weights)
        if factors is None or factors[targets].all():
            return x, targets, weights
        counting = (factors > 0).astype(x.dtype)[targets]
        return rows_that_count(x, targets, counting if weights is None else weights * counting)

    @property
    def _dtypes(self) -> tuple[Any, ...]:
        return (np.float64, np.float32) if self.dtype is None else (np.dtype(self.dtype),)

    def _forget_curves(self) -> None:
        self.loss_curve_: list[float] = []
        self.validation_scores_: list[float] | None = None
        self.validation_loss_curve_: list[float] | None = None
        self.best_validation_score_: float | None = None
        self.best_loss_: float | None = None if self.early_stopping else math.inf
        self.t_ = 0
        self._no_improvement_count = 0

    def _schedule_or_rate(self, rows: int) -> float | Schedule:
        if self.schedule is None:
            return float(self.learning_rate_init)
        if self.learning_rate != "constant":
            raise ValueError(f"schedule= and learning_rate={self.learning_rate!r} both set the learning rate; use one")
        if callable(self.schedule):
            return self.schedule
        steps = int(self.max_iter) * math.ceil(rows / self._batch(rows))
        rate = wrap(np.array(float(self.learning_rate_init)))
        return fitting.Scaled(optim.schedules.named(self.schedule, 1.0, steps), rate)

    def _batch(self, rows: int) -> int:
        return min(BATCH_OF_AUTO if isinstance(self.batch_size, str) else int(self.batch_size), rows)

    def _split(
        self, x: Array, targets: Array, weights: Array | None, held: Any, random: Any
    ) -> tuple[Part, Part | None]:
        """Return rows, targets and weights to train on, and those to validate on, if any."""
        validation: Part | None = None
        if held is not None:
            own, y = held
            check_not_masked(X_val=own, y_val=y)
            with named("X_val"):
                own = dense(validate_data(self, own, accept_sparse="csr", dtype=self._dtypes, order="C", reset=False))
            with named("y_val"):
                y = validate_data(self, y=y, multi_output=True, reset=False)
                y = y.toarray() if sparse.issparse(y) else y
                y = self._encode_more(y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y)
            with named("X_val and y_val"):
                check_consistent_length(own, y)
            validation = own, y, None
        elif self.early_stopping:
            if self.validation_fraction == 0:
                raise ValueError("early_stopping with validation_fraction == 0 has no rows to validate on")
            (x, targets, weights), validation = split(
                x, targets, weights, self.validation_fraction, self._stratifies, random
            )
        if validation is not None and len(validation[0]) < 2:
            raise ValueError(
                "The validation set is too small: increase validation_fraction, or give more rows as X_val and y_val"
            )
        return (x, targets, weights), validation

    @contextlib.contextmanager
    def _training(
        self, train: Part, validation: Part | None, seed: int, epochs: int, earlier: TrainingStep | None
    ) -> Iterator[fitting.PenalizedTraining]:
        """Provide the training of `module_` on these rows, and in the block its random numbers and its threads."""
        x, targets, weights = train
        rows, batch = len(x), self._batch(len(x))
        if not isinstance(self.batch_size, str) and self.batch_size > rows:
            warn(f"batch_size={self.batch_size} is more than the {rows} rows, which are one batch")
        parts = self.module_.named_modules().values()
        has_batch_norm = any(isinstance(part, nn.BatchNorm) for part in parts)
        if self.solver == "lbfgs" and (has_batch_norm or any(isinstance(part, nn.Dropout) for part in parts)):
            raise ValueError(
                "solver='lbfgs' needs a loss that is the same for the same weights: no dropout, no batch_norm"
            )
        factors = self._class_factors(targets, weights)
        options: dict[str, Any] = {}
        if validation is not None:
            held, held_targets, held_weights = validation
            options["validation"] = held, held_targets, weighted(held_weights, factors, held_targets)
            options["metrics"] = {"score": lambda y, t: self._score_of(held_targets, y, held_weights)}
        self.engine_ = fitting.choose_engine(self.engine, self.module_, rows, math.ceil(rows / batch), epochs)
        with seeded(seed), self._share_of_threads():
            yield fitting.PenalizedTraining(
                self.module_,
                (x, targets),
                alpha=float(self.alpha),
                loss=fitting.objective(self._loss(), self.out_activation_),
                optimizer=self.optimizer_,
                epochs=epochs,
                batch_size=batch,
                engine=self.engine_,
                seed=seed,
                clip_norm=self.clip_norm,
                shuffle=bool(self.shuffle),
                drop_last=has_batch_norm and rows > batch and rows % batch == 1,  # one row has no variance
                sample_weight=weighted(weights, factors, targets),
                earlier=earlier,
                **options,
            )

    def _share_of_threads(self) -> contextlib.AbstractContextManager[None]:
        """Limit the threads of machine code in a block.

        Processes side by side, each with a thread for every core, would wait for each other most of the time.
        """
        return at_most(fitting.threads_of_blas()) if self.engine_ == "native" else contextlib.nullcontext()

    def _runs_only_our_code(self) -> bool:
        """Whether a step calls no function or Module of the user's own: a trace would freeze the numbers they read."""
        schedule: Any = self.optimizer_.schedule
        while hasattr(schedule, "schedule"):  # one that is scaled or delayed
            schedule = schedule.schedule
        called = [self._loss(), *([] if schedule is None else [schedule])]
        return self._has_only_our_layers() and all(map(_is_ours, called))

    def _has_only_our_layers(self) -> bool:
        return all(map(_is_ours, self.module_.named_modules().values()))

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: machine code stays here."""
        return {name: value for name, value in super().__getstate__().items() if name not in OF_THIS_PROCESS}

    # Using what was fitted.

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")

    def _rows(self, X: Any) -> Any:  # noqa: N803
        """Return rows to predict as an array, dense or sparse, checked."""
        check_is_fitted(self)
        check_not_masked(X=X)
        return validate_data(self, X, accept_sparse="csr", dtype=(np.float64, np.float32), order="C", reset=False)

    def _outputs(self, X: Any) -> Array:  # noqa: N803
        """Return the network's outputs for each row, before the output's activation."""
        return self._outputs_of(self._rows(X))

    def _outputs_of(self, x: Any) -> Array:
        """Return the network's outputs for checked rows; sparse ones batch by batch."""
        widest = max((p.shape[-1] for p in self.module_.named_parameters().values() if p.ndim), default=1)
        size = max(EVALUATION_BATCH, NUMBERS_AT_ONCE // (max(widest, x.shape[1]) if sparse.issparse(x) else widest))
        outputs = self._forward_pass(x.shape[0]) or functools.partial(outputs_of, self.module_, batch_size=size)
        dtype = model_dtype(self.module_)
        with self._share_of_threads():
            if not sparse.issparse(x):
                return outputs(Inputs(x, dtype))
            batches = range(0, x.shape[0], size)
            return np.concatenate([outputs(Inputs(x[i : i + size].toarray(), dtype)) for i in batches])

    def _forward_pass(self, rows: int) -> ForwardPass | None:
        """Return machine code for the network, if it was trained by machine code and gains by it for so many rows."""
        is_worth_it = rows >= COMPILED_BATCH and is_worth_compiling(self.module_, rows)
        if self.engine_ != "native" or not is_worth_it or not self._has_only_our_layers():
            return None
        if not hasattr(self, "_forward") or self._forward.model is not self.module_:
            self._forward = ForwardPass(self.module_, model_dtype(self.module_))
        return self._forward

    def predict(self, X: Any) -> Array:  # noqa: N803
        """Return the prediction for each row of X."""
        return self._decode(self._outputs(X))

    def hidden_activations(self, X: Any) -> list[Array]:  # noqa: N803
        """Return the outputs of each hidden layer for the rows of X: arrays (rows, units), after the activation.

        These are the inputs of the next Linear layer; layers before the first Linear only prepare the rows.
        """
        x = self._rows(X)
        if not isinstance(self.module_, nn.Sequential):
            raise ValueError(
                f"hidden_activations needs an nn.Sequential: a {type(self.module_).__name__} does not say which of its "
                "parts are hidden layers; nissl.inspect.watch shows what each part computes"
            )
        values = wrap(dense(x).astype(model_dtype(self.module_), copy=False))
        found: list[Array] = []
        is_hidden = False  # whether `values` have been through a Linear layer
        with evaluation_mode(), recording(False):
            for layer in layers_in_order(self.module_):
                has_linear = bool(fitting.linear_layers(layer))
                if has_linear and is_hidden:
                    found.append(values.numpy())
                is_hidden = is_hidden or has_linear
                values = layer(values)
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _is_ours(part: object) -> bool:
    return str(getattr(part, "__module__", "")).partition(".")[0] == "nissl"


def _restore(estimator: Any, attributes: Mapping[str, Any]) -> None:
    vars(estimator).clear()
    vars(estimator).update(attributes)
