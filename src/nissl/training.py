"""Training: a loop short enough to copy and change, and what stands around it.

`run` is the loop, a generator of events: a StepDone after every step, an EpochDone after every epoch. `fit` drains it
and feeds those who listen: progress, checkpoint, early stopping, callbacks. `evaluate` and `predict` use the model.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import math
import operator
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl import nn, notebook, optim, storage
from nissl.compiler import choose_engine, compile, joined
from nissl.data import Dataset, as_dataset
from nissl.data.dataset import as_array_of_rows, to_dtype
from nissl.divergence import explain_divergence
from nissl.engines.base import Gradient, current, recording, watching
from nissl.errors import DataError, NisslError, OptionError, ShapeError
from nissl.files import PathLike, remove_leftovers
from nissl.nn.module import Module
from nissl.objective import Loss, Objective, choose, fit_targets, last_layer
from nissl.optim.optimizer import Optimizer, Schedule, at_least, describe_schedule
from nissl.progress import reporter
from nissl.random import STREAMS, permutation_indices, streams
from nissl.shapes import describe
from nissl.tensor import Tensor, wrap
from nissl.text import printable
from nissl.version import __version__

Array = npt.NDArray[Any]
Metric = Callable[[Array, Array], float]
Data = Dataset | tuple[Any, Any]
WeightedData = Data | tuple[Any, Any, Any]  # with a weight for each example

CHECKPOINT_FILE = "checkpoint.safetensors"
SECONDS_BETWEEN_CHECKPOINTS = 2.0
EVALUATION_BATCH = 1000
STEPS_WORTH_A_TRACE = 10  # on NumPy, where tracing takes as long as ten steps, and saves an eighth of each
SECONDS_OF_A_SLICE = 0.05
ROWS_AHEAD = 1 << 12  # whose order is drawn at once, since a drawing costs much for few rows
ROWS_OF_A_SLICE = 1 << 20  # at most, of several epochs, since all their orders are made at once


class StopTraining(Exception):  # noqa: N818  (not an error)
    """Raised by a callback to end the training after the step or epoch that it was told of."""


@dataclass(frozen=True)
class StepDone:
    """A step was taken: where we are, and the mean loss and metric of the epoch so far."""

    epoch: int  # counted from 1
    epochs: int
    step: int  # in the epoch, counted from 1
    steps: int
    examples: int  # seen in this epoch
    values: Mapping[str, float]


@dataclass(frozen=True)
class EpochDone:
    """An epoch is over: its row of the History."""

    epoch: int
    epochs: int
    values: Mapping[str, float]
    improved: bool  # whether the validation loss is the lowest so far


Event = StepDone | EpochDone
Callback = Callable[[Event], Any]


class History:
    """The curves of a training, one number an epoch, as arrays: `history.loss`, `history.validation_accuracy`, ...

    `curves` has all of them by name; `epochs` counts from 1; `interrupted` says that Ctrl-C ended the training.
    """

    def __init__(self, rows: Sequence[Mapping[str, float]] = (), interrupted: bool = False) -> None:
        self.rows = [dict(row) for row in rows]
        self.interrupted = interrupted

    @property
    def epochs(self) -> Array:
        """The numbers of the epochs, from 1."""
        return np.arange(1, len(self.rows) + 1)

    @property
    def curves(self) -> dict[str, Array]:
        """Every curve by name."""
        names = self.rows[0] if self.rows else ()
        return {name: np.array([row[name] for row in self.rows]) for name in names}

    def __getattr__(self, name: str) -> Array:
        curves = self.curves if not name.startswith("_") and name != "rows" else {}
        if name not in curves:
            raise AttributeError(f"this History has no curve {name!r}; it has {', '.join(curves) or 'no epochs'}")
        return curves[name]

    def __len__(self) -> int:
        return len(self.rows)

    def table(self) -> str:
        """Return the curves as a table of text, one line an epoch."""
        names = list(self.curves)
        header = ["epoch", *names]
        body = [[str(i + 1), *(f"{row[name]:.4f}" for name in names)] for i, row in enumerate(self.rows)]
        widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
        lines = [
            "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in [header, *body]
        ]
        return "\n".join(lines)

    def to_csv(self) -> str:
        """Return the curves as comma-separated values, with every digit."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", *self.curves])
        writer.writerows([i + 1, *row.values()] for i, row in enumerate(self.rows))
        return text.getvalue()

    def __repr__(self) -> str:
        return self.table() if self.rows else "History of no epochs"

    def _repr_html_(self) -> str:
        """Return the curves as a picture for a notebook, with the numbers of the last epoch."""
        if not self.rows:
            return notebook.text(repr(self))
        from nissl import plots  # here, since only pictures need it

        numbers = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.rows[-1].items())
        return notebook.picture(plots.learning_curves(self)) + notebook.text(f"epoch {len(self)}: {numbers}")


@dataclass(frozen=True)
class ClassScore:
    """How well a model does on one class, of which there are so many examples.

    `precision` is the share that is right among the answers that name the class, `recall` the share that is found among
    its examples; NaN where there are none.
    """

    name: str
    examples: int
    precision: float
    recall: float


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on data: the mean loss, and the accuracy with the confusion matrix, or R².

    `confusion_matrix[i, j]` counts the examples of class i that were taken for class j.
    """

    loss: float
    accuracy: float | None = None
    confusion_matrix: npt.NDArray[np.int64] | None = None
    r2: float | None = None
    class_names: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def by_class(self) -> tuple[ClassScore, ...]:
        """Precision and recall of each class, in the order of the confusion matrix; empty without one.

        >>> matrix = np.array([[8, 2], [1, 9]])
        >>> [(score.name, score.recall) for score in Evaluation(0.5, 0.85, matrix, class_names=("cat", "dog")).by_class]
        [('cat', 0.8), ('dog', 0.9)]
        """
        if self.confusion_matrix is None:
            return ()
        right, examples = self.confusion_matrix.diagonal(), self.confusion_matrix.sum(axis=1)
        with np.errstate(invalid="ignore"):  # 0/0 is NaN
            precision, recall = right / self.confusion_matrix.sum(axis=0), right / examples
        names = map(str, self.class_names or range(len(examples)))
        rows = zip(names, examples.tolist(), precision.tolist(), recall.tolist(), strict=True)
        return tuple(ClassScore(*row) for row in rows)

    def __str__(self) -> str:
        lines = [f"loss {self.loss:.4f}"]
        if self.accuracy is not None:
            lines.append(f"accuracy {self.accuracy:.4f}")
        if self.r2 is not None:
            lines.append(f"r2 {self.r2:.4f}")
        lines.extend(f"{name} {value:.4f}" for name, value in self.metrics.items())
        if self.confusion_matrix is not None:
            names = tuple(map(str, self.class_names or range(len(self.confusion_matrix))))
            width = max([len(str(self.confusion_matrix.max())), *map(len, names)])
            lines.append("confusion matrix (rows: true class, columns: predicted class)")
            lines.append(" ".join(f"{name:>{width}}" for name in ("", *names)))
            for name, row in zip(names, self.confusion_matrix, strict=True):
                lines.append(" ".join([f"{name:>{width}}", *(f"{count:>{width}}" for count in row)]))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the numbers for a notebook, with the confusion matrix as a picture."""
        if self.confusion_matrix is None:
            return notebook.text(str(self))
        from nissl import plots

        names = self.class_names or range(len(self.confusion_matrix))
        matrix = plots.confusion_matrix(self.confusion_matrix, [str(name) for name in names])
        return notebook.text(str(replace(self, confusion_matrix=None))) + notebook.picture(matrix)


class Inputs:
    """The rows of data, brought to what a model computes in when they are taken: its dtype, and bytes into [0, 1]."""

    def __init__(self, x: Array, dtype: np.dtype[Any]) -> None:
        self.x = np.asarray(x)
        self.dtype = dtype

    def take(self, rows: Any) -> Array:
        """Return the rows as a new array."""
        taken = self.x[rows]
        if taken.dtype == np.uint8:
            return np.multiply(taken, self.dtype.type(1 / 255), dtype=self.dtype)
        return to_dtype(taken, self.dtype, "x")

    def __len__(self) -> int:
        return len(self.x)


def model_dtype(model: Module) -> np.dtype[Any]:
    """Return the dtype in which a model computes: that of its first parameter, or float32."""
    return next((p.dtype for p in model.named_parameters().values()), np.dtype(np.float32))


@contextlib.contextmanager
def in_mode(model: Module, training: bool) -> Iterator[None]:
    """Switch every Module of the tree to training or evaluation inside a block, and back to what each was before."""
    before = [(module, module.training) for module in model.named_modules().values()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


@contextlib.contextmanager
def _evaluating(model: Module) -> Iterator[None]:
    """Compute in evaluation mode inside a block, for no gradient; what overflows shows in what comes out."""
    with in_mode(model, training=False), recording(False), np.errstate(all="ignore"):
        yield


def _forward(model: Module, x: Array) -> Array:
    """Return the outputs for one batch."""
    outputs = model(wrap(x))
    if not isinstance(outputs, Tensor) or outputs.ndim == 0 or len(outputs) != len(x):
        found = f"shape {outputs.shape}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ShapeError(f"the model turned a batch of shape {x.shape} into {found}; it must give one row for each row")
    return outputs.numpy()


def predict(model: Module, x: Any, batch_size: int = EVALUATION_BATCH) -> Array:
    """Return the outputs of `model` in evaluation mode for the rows `x`, as an array (rows, outputs).

    `x` is brought to the model's dtype; bytes (uint8) are scaled into [0, 1].
    """
    _checked_model("predict", model)
    rows = as_array_of_rows(x.x if isinstance(x, Dataset) else x, "x")
    if rows.ndim == 0 or len(rows) == 0:
        raise DataError(f"predict got no rows: x has shape {rows.shape}")
    if rows.dtype.kind not in "biuf":
        raise DataError(f"predict needs numbers, got {rows.dtype}")
    inputs = Inputs(rows, model_dtype(model))
    size = _positive_integer("batch_size", batch_size)
    with _evaluating(model):
        outputs = [_forward(model, inputs.take(slice(i, i + size))) for i in range(0, len(inputs), size)]
    return np.concatenate(outputs)


def _score(
    model: Module,
    objective: Objective,
    inputs: Inputs,
    targets: Array,
    weights: Array | None = None,
    batch_size: int = EVALUATION_BATCH,
) -> tuple[dict[str, float], Array]:
    """Return mean loss and metric, and the outputs, for rows of data in evaluation mode."""
    loss = metric = amount = 0.0
    outputs = []
    with _evaluating(model):
        for i in range(0, len(inputs), batch_size):
            rows = slice(i, i + batch_size)
            outputs.append(_forward(model, inputs.take(rows)))
            y, t = wrap(outputs[-1]), wrap(targets[rows])
            w = None if weights is None else weights[rows]
            part = len(y) if w is None else float(w.sum(dtype=np.float64))
            loss += _loss_of(objective, y, t, None if w is None else wrap(w)).item() * part
            metric += objective.metric_sum(y, t).item()
            amount += part
    values = {"loss": loss / amount, objective.metric_name: objective.finish(metric, objective.scale(targets))}
    return values, np.concatenate(outputs)


def _loss_of(objective: Objective, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Return the loss of a batch; one that knows of no weights is only asked where there are none."""
    return objective.loss(outputs, targets) if weights is None else objective.loss(outputs, targets, weights=weights)


def _checked_weights(weights: Any, rows: int, objective: Objective, dtype: np.dtype[Any], name: str) -> Array | None:
    """Return the weights of so many examples in the dtype of the loss, or None; raise if they cannot be used."""
    if weights is None:
        return None
    if not objective.takes_weights:
        raise OptionError(
            f"the loss {objective.name} takes no weights, so it cannot heed {name}; give it a third parameter, "
            "`weights`, of shape (batch,), and average by them"
        )
    array = as_array_of_rows(weights, name)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} must hold one real number for each example, got {array.dtype}")
    array = to_dtype(array, dtype, name)
    if array.shape != (rows,):
        raise ShapeError(f"{name} has shape {array.shape}; there is one number for each example, in shape ({rows},)")
    if not (np.isfinite(array).all() and (array >= 0).all() and array.any()):
        raise DataError(f"{name} must hold finite numbers of 0 or more, not all of them 0")
    return array


def evaluate(
    model: Module,
    data: Data,
    *,
    loss: Loss | None = None,
    metrics: Mapping[str, Metric] | None = None,
    batch_size: int = EVALUATION_BATCH,
    sample_weight: Any = None,
) -> Evaluation:
    """Return how well `model` does on `data`, a Dataset or a pair (x, y), in evaluation mode.

    Without `loss`, it is chosen as in `fit`. `metrics` are further functions of (outputs, targets), both arrays.
    With `sample_weight`, of shape (examples,), the loss is the weighted mean; all else counts each example once.
    """
    _checked_model("evaluate", model)
    dataset = as_dataset(data, "data")
    inputs = Inputs(dataset.x, model_dtype(model))
    with _evaluating(model):
        example = _forward(model, inputs.take(slice(0, 1)))
    if loss is None and isinstance(last_layer(model), nn.Softmax):
        loss = nn.cross_entropy_error  # the outputs are probabilities
    objective = choose(loss, model, example.shape, dataset.y)
    targets = fit_targets(objective, example.shape, dataset.y, inputs.dtype)
    weights = _checked_weights(sample_weight, len(inputs), objective, inputs.dtype, "sample_weight")
    size = _positive_integer("batch_size", batch_size)
    values, outputs = _score(model, objective, inputs, targets, weights, size)
    extra = {name: float(metric(outputs, dataset.y)) for name, metric in (metrics or {}).items()}
    if not objective.classifies:
        return Evaluation(values["loss"], r2=values["r2"], metrics=extra)
    matrix = None
    predicted = objective.classes_of(outputs)
    true = targets.argmax(axis=-1) if predicted.ndim < targets.ndim else targets
    if predicted.size == len(predicted):
        classes = max(outputs.shape[-1] if outputs.ndim > 1 else 1, 2)
        pairs = true.reshape(-1).astype(np.int64) * classes + predicted.reshape(-1)
        matrix = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    names = tuple(dataset.class_names or ())
    names = names if matrix is not None and len(names) == len(matrix) else ()
    return Evaluation(values["loss"], values["accuracy"], matrix, class_names=names, metrics=extra)


def _checked_model(caller: str, model: Any) -> Module:
    if not isinstance(model, Module):
        raise OptionError(f"{caller} takes a Module first, got {type(model).__name__}")
    return model


def _positive_integer(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise OptionError(f"{name} must be an integer of 1 or more, got {value!r}")
    return number


@dataclass
class Progress:
    """Where a training stands: all that must be kept, besides model and optimizer, to go on exactly."""

    epoch: int = 0  # epochs that are done
    step: int = 0  # steps that are done in the epoch after them
    loss_sum: float = 0.0  # over the examples of these steps, by their weights
    weight_sum: float = 0.0  # of these examples: how many there are, if none has a weight
    metric_sum: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Array] = field(default_factory=dict)  # the model's state at the best epoch


class Training:
    """One training, ready to run: model, data, objective, optimizer, and where it stands."""

    def __init__(
        self,
        model: Module,
        data: Data,
        *,
        loss: Loss | Objective | None = None,
        optimizer: Optimizer | None = None,
        epochs: int = 5,
        batch_size: int = 32,
        validation: WeightedData | None = None,
        engine: str = "native",
        seed: int | None = None,
        metrics: Mapping[str, Metric] | None = None,
        clip_norm: float | None = None,
        patience: int | None = None,
        schedule: str | Schedule | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        sample_weight: Any = None,
    ) -> None:
        self.model = _checked_model("fit", model)
        self.epochs = _positive_integer("epochs", epochs)
        self.batch_size = _positive_integer("batch_size", batch_size)
        self.engine = choose_engine(engine)
        self.shuffle = shuffle
        self.metrics = dict(metrics or {})
        self.patience = None if patience is None else _positive_integer("patience", patience)
        self.clip_norm = None if clip_norm is None else at_least("clip_norm", clip_norm, 0.0)
        if not {"loss", "accuracy", "r2"}.isdisjoint(self.metrics):
            raise OptionError("a metric of yours cannot be named loss, accuracy or r2: those are there already")
        if validation is None and (patience is not None or metrics):
            raise OptionError("patience and metrics look at validation data; pass validation=(x, y) too")
        dataset = as_dataset(data, "data")
        self.inputs = Inputs(dataset.x, model_dtype(model))
        with _evaluating(model):
            outputs = _forward(model, self.inputs.take(slice(0, 1))).shape
        self.objective = choose(loss, model, outputs, dataset.y)
        self.targets = fit_targets(self.objective, outputs, dataset.y, self.inputs.dtype)
        weigh = functools.partial(_checked_weights, objective=self.objective, dtype=self.inputs.dtype)
        self.weights = weigh(sample_weight, len(self.inputs), name="sample_weight")
        self.validation: tuple[Inputs, Array, Array | None] | None = None
        if validation is not None:
            held_weights = None
            if isinstance(validation, tuple) and len(validation) == 3:
                *pair, held_weights = validation
                validation = (pair[0], pair[1])
            held = as_dataset(validation, "validation")
            if held.x.shape[1:] != dataset.x.shape[1:]:
                raise ShapeError(f"validation rows have shape {held.x.shape[1:]}, training rows {dataset.x.shape[1:]}")
            targets = fit_targets(self.objective, outputs, held.y, self.inputs.dtype)
            held_weights = weigh(held_weights, len(held), name="the weights of the validation data")
            self.validation = Inputs(held.x, self.inputs.dtype), targets, held_weights

        count = len(self.inputs)
        self.steps = count // self.batch_size if drop_last else math.ceil(count / self.batch_size)
        if self.steps == 0:
            raise DataError(f"drop_last with a batch of {batch_size} leaves nothing of {count} examples")
        self.optimizer = optim.Adam(model.parameters()) if optimizer is None else optimizer
        if not isinstance(self.optimizer, Optimizer):
            raise OptionError(f"an optimizer is made first, as in optim.Adam(model.parameters()); got {optimizer!r}")
        _check_trains(self.optimizer, model)
        if schedule is not None and self.optimizer.schedule is not None:
            raise OptionError("the optimizer has a schedule of its own; give the schedule there or to fit, not to both")
        if schedule is not None and not callable(schedule):
            schedule = optim.schedules.named(schedule, self.optimizer.lr.item(), self.epochs * self.steps)
        self.schedule = schedule
        self.first_step = self.optimizer.steps.item()  # of this training, as the optimizer counts
        if seed is None:
            self.seed = int(streams["shuffle"].bits().item())
        else:
            streams["dropout"].seed(seed)
            self.seed = int(seed)
        self.progress = Progress()
        self.scale = self.objective.scale(self.targets)
        self.rows_x, self.rows_y = wrap(self.inputs.x), wrap(self.targets)
        self.rows_weights = None if self.weights is None else wrap(self.weights)
        self.compiled = compile(self._step, engine=self.engine)
        self.ahead: tuple[int, Array] = (0, np.empty((0, count), np.int64))  # an epoch, the orders from it on
        self.kept: list[Array] = []  # what a step changes, as it was before the latest slice

    def _step(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step on the rows of these numbers: forward, backward, update. This is what is compiled."""
        x, targets = self._as_numbers(self.rows_x[rows]), self.rows_y[rows]
        outputs = self.model(x)
        loss = self.loss_of(outputs, targets, None if self.rows_weights is None else self.rows_weights[rows])
        loss.backward()
        if self.clip_norm is not None:
            optim.clip_grad_norm(self.optimizer.parameters.values(), self.clip_norm)
        self.optimizer.step()
        return loss, self.objective.metric_sum(outputs, targets)

    def loss_of(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Return what a step makes smaller; a subclass may add to the loss of the batch."""
        return _loss_of(self.objective, outputs, targets, weights)

    def _as_numbers(self, x: Tensor) -> Tensor:
        """Return rows in the dtype in which the model computes, bytes scaled into [0, 1]."""
        x, is_bytes = x.astype(self.inputs.dtype), x.dtype == np.uint8
        return x * (1 / 255) if is_bytes else x

    def run(self, stepwise: bool = True) -> Generator[Event, None, None]:
        """Train from where `progress` stands to the end, and yield what happens.

        Without `stepwise`, many steps are taken at a time, in slices of a few hundredths of a second, and only the
        last step of each is told.
        """
        p = self.progress
        with in_mode(self.model, training=True), self._scheduled():
            while p.epoch < self.epochs and not self._out_of_patience():
                several = self.slice_steps // self.steps if self.can_join_epochs and not stepwise else 1
                if several > 1 and p.step == 0:
                    yield from self._take_epochs(min(several, self.epochs - p.epoch))
                    continue
                order = self._order()
                started = time.perf_counter()
                while p.step < self.steps:
                    self._take_steps(order, 1 if stepwise else self.slice_steps)
                    yield self._step_done()
                yield self._finish_epoch(order, time.perf_counter() - started)

    slice_steps = 1  # as many steps as take SECONDS_OF_A_SLICE, as far as is known

    def _order(self) -> Array:
        """Return the order of the rows of data in the epoch at hand."""
        epoch, (first, orders) = self.progress.epoch, self.ahead
        if not first <= epoch < first + len(orders):
            several = max(min(ROWS_AHEAD // len(self.inputs), self.epochs - epoch), 1)
            self.ahead = first, orders = epoch, self._orders(several)
        return orders[epoch - first]

    def _orders(self, epochs: int) -> Array:
        """Return the order of the rows of data in each of the next epochs."""
        p, count = self.progress, len(self.inputs)
        if self.shuffle:
            return permutation_indices(self.seed, np.arange(p.epoch, p.epoch + epochs), count)
        return np.broadcast_to(np.arange(count), (epochs, count))

    @property
    def can_join_epochs(self) -> bool:
        """Whether epochs can follow each other in one slice: nothing is done between them, all batches are alike."""
        count = len(self.inputs)
        return self.validation is None and (count == self.steps * self.batch_size or count < self.batch_size)

    def _take_epochs(self, count: int) -> Iterator[Event]:
        """Take all steps of several epochs."""
        started = time.perf_counter()
        count = min(count, max(ROWS_OF_A_SLICE // len(self.inputs), 1))
        orders = self._orders(count)
        sums = self._scan(orders.reshape(count * self.steps, -1), started)
        losses, metrics = (found.reshape(count, self.steps).tolist() for found in sums)
        seconds = (time.perf_counter() - started) / count
        told: list[EpochDone] = []
        amounts = self._amounts(orders.reshape(count * self.steps, -1)).reshape(count, self.steps)
        for epoch in range(count):
            self._count(losses[epoch], metrics[epoch], amounts[epoch])
            if epoch == count - 1:
                yield from told
                yield self._step_done()
            told.append(self._finish_epoch(orders[epoch], seconds))
        yield told[-1]

    def _take_steps(self, order: Array, most: int) -> None:
        """Take up to `most` steps of the epoch whose rows come in this order; all batches of one size."""
        p, size, started = self.progress, self.batch_size, time.perf_counter()
        whole = len(order) // size - p.step  # batches left, besides a short one at the end
        rows = (
            order[p.step * size :][: min(most, whole) * size].reshape(-1, size)
            if whole
            else order[None, p.step * size :]
        )
        losses, metrics = self._scan(rows, started)
        self._count(losses.tolist(), metrics.tolist(), self._amounts(rows))

    def _amounts(self, rows: Array) -> Array:
        """Return how much the examples of each batch weigh together."""
        if self.weights is None:
            return np.full(len(rows), float(rows.shape[1]))
        return self.weights[rows].sum(axis=1, dtype=np.float64)

    def _count(self, losses: Sequence[float], metrics: Sequence[float], amounts: Array) -> None:
        """Add up what the steps of one epoch gave on batches whose examples weigh so much."""
        p = self.progress
        for loss, metric, amount in zip(losses, metrics, amounts.tolist(), strict=True):
            p.step += 1
            p.loss_sum += loss * amount
            p.weight_sum += amount
            p.metric_sum += metric

    @property
    def _mean_loss(self) -> float:
        """The mean loss of the epoch so far, 0 while no example has counted."""
        p = self.progress
        return p.loss_sum / p.weight_sum if p.weight_sum else 0.0

    def _scan(self, rows: Array, started: float) -> tuple[Array, Array]:
        """Take a step on the rows with the numbers in each line; return losses and metrics, all finite."""
        p = self.progress
        self._keep_state()
        with np.errstate(all="ignore"):  # NaN and infinity are looked for, and explained, below
            losses, metrics = (found.numpy() for found in self._take(rows))
        bad = np.flatnonzero(~np.isfinite(losses))
        # The weights that a step leaves show in the next loss; after the last step of an epoch they are looked at.
        if not bad.size and (p.step + len(rows)) % self.steps == 0 and not self._is_finite():
            bad = np.array([len(rows) - 1])
        if bad.size:
            self._explain(rows, int(bad[0]), float(losses[bad[0]]))
        seconds = (time.perf_counter() - started) / len(rows)
        self.slice_steps = max(1, min(int(SECONDS_OF_A_SLICE / seconds), 4 * self.slice_steps))
        return losses, metrics

    def _take(self, rows: Array) -> tuple[Tensor, Tensor]:
        """Take the steps; NumPy computes few of them sooner than they are traced, and gives the same bits."""
        # A watch tells steps apart by the calls of what is compiled.
        few = self.engine == "numpy" and self.epochs * self.steps < STEPS_WORTH_A_TRACE and current.watch is None
        losses, metrics = joined([self._take_eagerly(wrap(row)) for row in rows]) if few else self.compiled.scan(rows)
        return losses, metrics

    def _take_eagerly(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step without a trace, and leave what a compiled one leaves: no history, and no used gradients."""
        try:
            loss, metric = self._step(rows)
        except BaseException:
            self._go_back()  # a forward pass may have changed state before it failed
            raise
        for parameter in self.optimizer.parameters.values():
            if parameter.waiting_gradient is not None and parameter.waiting_gradient.used:
                parameter.waiting_gradient = Gradient(None, used=True)
        return loss.detach(), metric.detach()

    def _keep_state(self) -> None:
        """Copy all that a step changes, into the same memory each time, for there may be a slice for every step."""
        arrays = [tensor._array() for tensor in self.state()]
        if len(self.kept) != len(arrays):
            self.kept = [np.empty_like(array) for array in arrays]
        for kept, array in zip(self.kept, arrays, strict=True):
            np.copyto(kept, array)

    def _go_back(self) -> None:
        """Go back to the state before the latest slice."""
        for tensor, kept in zip(self.state(), self.kept, strict=True):
            tensor.payload = kept.copy()

    def _explain(self, rows: Array, step: int, loss: float) -> None:
        """Go back to the state before the first bad step of a slice, and raise what went wrong in it."""
        self._go_back()
        if step:
            with np.errstate(all="ignore"), watching(None):
                self.compiled.scan(rows[:step])
        epochs, self.progress.step = divmod(self.progress.step + step, self.steps)
        self.progress.epoch += epochs
        with watching(None):
            explain_divergence(self, wrap(rows[step]), loss)

    def state(self) -> list[Tensor]:
        """Return all Tensors that a step changes."""
        return [*self.model._state().values(), *self.optimizer._named_state().values(), streams["dropout"].draws]

    def _is_finite(self) -> bool:
        return all(bool(np.isfinite(tensor._array()).all()) for tensor in self.model._state().values())

    @contextlib.contextmanager
    def _scheduled(self) -> Iterator[None]:
        """Let the optimizer follow the schedule of this training inside a block, from the training's first step on."""
        before = self.optimizer.schedule
        if self.schedule is not None:
            late = self.first_step > 0
            self.optimizer.schedule = optim.schedules.delayed(self.schedule, self.first_step) if late else self.schedule
        try:
            yield
        finally:
            self.optimizer.schedule = before

    def _step_done(self) -> StepDone:
        p = self.progress
        examples = min(p.step * self.batch_size, len(self.inputs))
        values = {"loss": self._mean_loss}
        if self.objective.classifies:
            values["accuracy"] = p.metric_sum / (examples * self.objective.answers(self.targets[:1]))
        return StepDone(p.epoch + 1, self.epochs, p.step, self.steps, examples, values)

    def _finish_epoch(self, order: Array, seconds: float) -> EpochDone:
        p = self.progress
        seen = min(p.step * self.batch_size, len(order))
        scale = self.scale if seen == len(order) else self.objective.scale(self.targets[order[:seen]])
        values = {
            "loss": self._mean_loss,
            self.objective.metric_name: self.objective.finish(p.metric_sum, scale),
        }
        values |= self.validate()
        values["seconds"] = seconds
        p.rows.append(values)
        p.epoch, p.step, p.loss_sum, p.weight_sum, p.metric_sum = p.epoch + 1, 0, 0.0, 0.0, 0.0
        improved = self._is_best()
        if improved:
            p.best_epoch = p.epoch
            if self.patience is not None:
                p.best = self.model.state_dict()
        return EpochDone(p.epoch, self.epochs, values, improved)

    def validate(self) -> dict[str, float]:
        """Return loss and metrics on the validation data as they stand in a row of the History, or nothing."""
        if self.validation is None:
            return {}
        inputs, targets, weights = self.validation
        found, outputs = _score(self.model, self.objective, inputs, targets, weights)
        found |= {name: float(metric(outputs, targets)) for name, metric in self.metrics.items()}
        return {f"validation_{name}": value for name, value in found.items()}

    def _is_best(self) -> bool:
        if self.validation is None:
            return False
        *earlier, last = (row["validation_loss"] for row in self.progress.rows)
        return last < min((loss for loss in earlier if not math.isnan(loss)), default=math.inf)

    def _out_of_patience(self) -> bool:
        p = self.progress
        return self.patience is not None and p.epoch - p.best_epoch >= self.patience

    def restore_best(self) -> None:
        """With patience, give the model the weights of its best epoch."""
        if self.progress.best:
            self.model.load_state_dict(self.progress.best)

    def identity(self) -> dict[str, Any]:
        """Return the settings that a checkpoint must share with the training that goes on from it."""
        parameters = {name: describe(tensor) for name, tensor in self.model._state().items()}
        digests = {"data": _digest(self.inputs.x, self.targets)}
        if self.weights is not None:
            digests["sample_weight"] = _digest(self.weights)
        if self.validation is not None:
            held, targets, weights = self.validation
            digests["validation data"] = _digest(held.x, targets, *([] if weights is None else [weights]))
        return {
            "model": repr(self.model),
            "parameters": parameters,
            "loss": self.objective.name,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "steps an epoch": self.steps,
            "clip_norm": self.clip_norm,
            "patience": self.patience,
            "engine": self.engine,
            "metrics": sorted(self.metrics),
            "schedule": None if self.schedule is None else describe_schedule(self.schedule),
            "optimizer": repr(self.optimizer),
            **digests,
        }

    def save_checkpoint(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Write all that is needed to go on, to one file that is moved into place."""
        p = self.progress
        arrays = {f"model/{name}": array for name, array in self.model.state_dict().items()}
        arrays |= {f"optimizer/{name}": array for name, array in self.optimizer.state_dict().items()}
        arrays |= {f"best/{name}": array for name, array in p.best.items()}
        for name in STREAMS:
            arrays |= {
                f"random/{name}/key": streams[name].key.numpy(),
                f"random/{name}/draws": streams[name].draws.numpy(),
            }
        document = {
            "checkpoint": identity,
            "seed": str(self.seed),
            "first_step": self.first_step,
            "epoch": p.epoch,
            "step": p.step,
            "loss_sum": p.loss_sum,
            "weight_sum": p.weight_sum,
            "metric_sum": p.metric_sum,
            "rows": p.rows,
            "best_epoch": p.best_epoch,
        }
        storage.write_arrays(folder / CHECKPOINT_FILE, arrays, document)

    def load_checkpoint(self, folder: Path, identity: Mapping[str, Any], seed: int | None) -> None:
        """Go on from a checkpoint; refuse one of another training, and say in what it differs."""
        path = folder / CHECKPOINT_FILE
        arrays, document = storage.read_arrays(path)
        theirs = document.get("checkpoint")
        if not isinstance(theirs, dict):
            raise DataError(f"{path} is not a checkpoint")
        ours = dict(identity)
        if seed is not None:
            ours["seed"], theirs["seed"] = str(seed), document.get("seed")
        for name in ours | theirs:
            if ours.get(name) != theirs.get(name):
                raise OptionError(
                    f"the checkpoint in {folder} is of another training: its {name} is {_short(theirs.get(name))}, "
                    f"here it is {_short(ours.get(name))}. Use another folder, or the same settings"
                    + _written_by(document)
                )
        try:
            random = {name: (arrays[f"random/{name}/key"], arrays[f"random/{name}/draws"]) for name in STREAMS}
            found_seed, first_step = int(document["seed"]), _expect(document, "first_step", float)
            progress = Progress(
                _expect(document, "epoch", int),
                _expect(document, "step", int),
                _expect(document, "loss_sum", float),
                _expect(document, "weight_sum", float),
                _expect(document, "metric_sum", float),
                [{name: _expect(row, name, float) for name in row} for row in _expect(document, "rows", list)],
                _expect(document, "best_epoch", int),
                storage.under("best/", arrays),
            )
            self.model.load_state_dict(storage.under("model/", arrays))
            self.optimizer.load_state_dict(storage.under("optimizer/", arrays))
            for name, (key, draws) in random.items():
                streams[name].key.assign(wrap(key))
                streams[name].draws.assign(wrap(draws))
        except KeyError as error:
            raise DataError(
                f"{path} lacks {error}, so that another version of nissl wrote it: go on with that one, or train anew "
                "in another folder" + _written_by(document)
            ) from None
        except (TypeError, ValueError, IndexError, NisslError) as error:
            raise DataError(f"{path} is damaged: {error}" + _written_by(document)) from None
        self.seed, self.first_step, self.progress = found_seed, first_step, progress


def _written_by(document: Mapping[str, Any]) -> str:
    """Return, for the end of a message, which other version of nissl wrote a file, or nothing if it was this one."""
    writer = printable(document.get("version"))[:40]
    return "" if writer == __version__ else f". It was written by nissl {writer}, this is nissl {__version__}"


def _expect(document: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return what a document has under a name, if it is of the kind that it should be."""
    value = document[name]
    if not isinstance(value, (int, float) if kind is float else kind):
        raise DataError(f"{name} is {_short(value)}")
    return value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _digest(*arrays: Array) -> str:
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _check_trains(optimizer: Optimizer, model: Module) -> None:
    own = {id(p) for p in model.named_parameters().values() if p.requires_grad}
    if not own & {id(p) for p in optimizer.parameters.values()}:
        raise OptionError(
            "the optimizer holds none of this model's parameters; make it from model.parameters(), after the model"
        )


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C inside the block into an Event, so that no step is cut in half; a second one interrupts.

    A handler of the caller's own hears of it when the block has ended in order.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def on_interrupt(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:  # as nohup and job control have it: Ctrl-C is not meant for this program
        yield asked
        return
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
    if asked.is_set() and callable(before) and before is not signal.default_int_handler:
        before(signal.SIGINT, None)


def fit(
    model: Module,
    data: Data,
    *,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    epochs: int = 5,
    batch_size: int = 32,
    validation: WeightedData | None = None,
    engine: str = "native",
    seed: int | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: PathLike | None = None,
    progress: bool | str | None = None,
    metrics: Mapping[str, Metric] | None = None,
    clip_norm: float | None = None,
    patience: int | None = None,
    schedule: str | Schedule | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
    sample_weight: Any = None,
) -> History:
    """Train `model` on `data`, a Dataset or a pair of arrays (x, y), and return the curves.

    x has shape (examples, ...), y holds class numbers or targets. Without `loss`: cross-entropy for class labels,
    binary cross-entropy for one output, the mean squared error for real targets. Without `optimizer`: Adam. `schedule`
    is "constant", "cosine", "linear" or a function of the step (see `optim.schedules`).

    `validation` is looked at after each epoch; with `patience`, training ends when the validation loss has not improved
    for so many epochs, and the weights of the best epoch come back. `metrics` are functions of (outputs, targets) on
    the validation data. `callbacks` are called with each StepDone and EpochDone, and may raise StopTraining.

    `sample_weight`, of shape (examples,), says how much each example counts: the loss of a batch, and that of the
    History, is Σ wᵢ lᵢ / Σ wᵢ. The accuracy and R² count each example once. Validation data may bring weights of its
    own: (x, y, weights).

    `checkpoint` is a folder: what is learned is kept there, and the same call goes on where an earlier one was ended.
    Ctrl-C ends the training after the step at hand; the model keeps what it learned, and `History.interrupted` is True.
    A handler of SIGINT of your own is called then.
    `progress` is True, False, "lines" (one an epoch) or None: a live line where standard error is a terminal.

    Raises DivergenceError at the first NaN or infinite loss, with the module that it came from; the model then has
    the weights from before that step.
    """
    training = Training(
        model,
        data,
        loss=loss,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size,
        validation=validation,
        engine=engine,
        seed=seed,
        metrics=metrics,
        clip_norm=clip_norm,
        patience=patience,
        schedule=schedule,
        shuffle=shuffle,
        drop_last=drop_last,
        sample_weight=sample_weight,
    )
    if callable(callbacks):
        raise OptionError("callbacks is a list of functions; put the one into a list")
    folder = None if checkpoint is None else Path(checkpoint)
    identity = {}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder / CHECKPOINT_FILE)
        identity = training.identity()
        if (folder / CHECKPOINT_FILE).exists():
            training.load_checkpoint(folder, identity, seed)
    saved = -math.inf
    with deferred_interrupt() as interrupted, reporter(progress, training.epochs) as report:
        try:
            for event in training.run(stepwise=bool(callbacks)):
                report(event)
                for callback in callbacks:
                    callback(event)
                due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
                if folder is not None and isinstance(event, EpochDone) and due:
                    training.save_checkpoint(folder, identity)
                    saved = time.monotonic()
                if interrupted.is_set():
                    break
        except StopTraining:
            pass
        if folder is not None:
            training.save_checkpoint(folder, identity)
    if not interrupted.is_set():
        training.restore_best()
    return History(training.progress.rows, interrupted=interrupted.is_set())


__all__ = ["EpochDone", "Evaluation", "History", "StepDone", "StopTraining", "Training", "evaluate", "fit", "predict"]
