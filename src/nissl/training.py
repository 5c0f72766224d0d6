"""Training: a loop short enough to copy and change, and what is around it.

`run` is the loop, a generator of events: a StepDone after every step, an EpochDone after every epoch. `fit` drains it
and feeds those who listen: progress, checkpoint, early stopping, callbacks.
"""

from __future__ import annotations

import contextlib
import functools
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nissl import optim
from nissl.arguments import number, true_or_false, whole_number
from nissl.checkpoint import CHECKPOINT_FILE, Progress, identity, load_checkpoint, save_checkpoint
from nissl.compiler import choose_engine
from nissl.data import Dataset, as_dataset
from nissl.divergence import explain_divergence
from nissl.engines.base import watching
from nissl.errors import DataError, OptionError, ShapeError
from nissl.evaluation import (
    Array,
    Data,
    ForwardPass,
    History,
    Inputs,
    Metric,
    WeightedData,
    checked_metrics,
    checked_weights,
    evaluating,
    forward,
    in_training,
    is_worth_compiling,
    model_dtype,
    outputs_of,
    score,
    values_of,
)
from nissl.files import PathLike, checked_path, remove_leftovers
from nissl.habits import explained
from nissl.nn.module import Module, checked_model
from nissl.objective import Loss, Objective, check_probabilities, choose, fit_class_names, fit_targets
from nissl.optim.optimizer import Optimizer, Schedule
from nissl.progress import reporter
from nissl.random import permutation_indices, streams
from nissl.shapes import Shape
from nissl.step import TrainingStep
from nissl.tensor import Tensor, wrap

SECONDS_BETWEEN_CHECKPOINTS = 2.0
SECONDS_OF_A_SLICE = 0.05
ROWS_AHEAD = 1 << 12  # whose order is drawn at once, since a drawing costs much for few rows
ROWS_OF_A_SLICE = 1 << 20  # at most, of several epochs, since all their orders are made at once


class StopTraining(Exception):  # noqa: N818  (not an error)
    """Raised by a callback to end the training after the step or epoch that it was told of."""


@dataclass(frozen=True)
class StepDone:
    """A step was taken: how far the training is, and the mean loss and metric of the epoch so far."""

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


class Training:
    """One training, ready to run: model, data, objective, optimizer, and how far it is."""

    make_step: Callable[..., TrainingStep] = TrainingStep
    slice_steps = 1  # as many steps as take SECONDS_OF_A_SLICE, as far as is known

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
        earlier: TrainingStep | None = None,
    ) -> None:
        """Put together what `fit` describes; go on with the step of an earlier training if it does the same."""
        self.model = checked_model("fit", model)
        self.epochs = whole_number("epochs", epochs)
        self.batch_size = whole_number("batch_size", batch_size)
        self.engine = choose_engine(engine)
        self.shuffle = true_or_false("shuffle", shuffle)
        self.metrics = checked_metrics(metrics)
        self.patience = None if patience is None else whole_number("patience", patience)
        self.clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, least=0)
        if not {"loss", "accuracy", "r2"}.isdisjoint(self.metrics):
            raise OptionError("a metric of yours cannot be named loss, accuracy or r2: those are there already")
        if validation is None and (patience is not None or metrics):
            raise OptionError("patience and metrics look at validation data; pass validation=(x, y) too")
        dataset = self.checked(data)
        self.inputs = Inputs(dataset.x, model_dtype(model))
        with evaluating():
            outputs = forward(model, wrap(self.inputs.take(slice(0, 1)))).shape
        self.objective = choose(loss, model, outputs, dataset.y)
        fit_class_names(self.objective, outputs, dataset.class_names, "data")
        self.targets = fit_targets(self.objective, outputs, dataset.y, self.inputs.dtype)
        self.weights = self._checked_weights(sample_weight, len(self.inputs), "sample_weight")
        self.validation = None if validation is None else self._held_out(validation, outputs)
        held = 0 if self.validation is None else len(self.validation[0])
        compiles = self.engine == "native" and is_worth_compiling(model, held, self.epochs)
        self.outputs_of = ForwardPass(model, self.inputs.dtype) if compiles else functools.partial(outputs_of, model)

        count = len(self.inputs)
        whole = count // self.batch_size
        self.steps = whole if true_or_false("drop_last", drop_last) else math.ceil(count / self.batch_size)
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
        parts = self.model, self.objective, self.optimizer, self.inputs.dtype, self.clip_norm, self.engine
        self.step = self.make_step(*parts)
        if earlier is not None and earlier.does_the_same_as(self.step):
            self.step = earlier
        self.step.read_from(self.inputs.x, self.targets, self.weights)
        self.ahead: tuple[int, Array] = (0, np.empty((0, count), np.int64))  # an epoch, the orders from it on
        self.kept: list[Array] = []  # what a step changes, as it was before the latest slice

    def checked(self, data: Any) -> Dataset:
        """Return the data as a Dataset, or raise if they cannot be used."""
        return as_dataset(data, "data")

    def _held_out(self, validation: WeightedData, outputs: Shape) -> tuple[Inputs, Array, Array | None]:
        """Return validation data as rows, targets and weights that fit those of the training."""
        weights = None
        if isinstance(validation, tuple) and len(validation) == 3:
            x, y, weights = validation
            validation = (x, y)
        held, shape = as_dataset(validation, "validation"), self.inputs.x.shape[1:]
        if held.x.shape[1:] != shape:
            raise ShapeError(f"validation rows have shape {held.x.shape[1:]}, training rows {shape}")
        fit_class_names(self.objective, outputs, held.class_names, "the validation data")
        targets = fit_targets(self.objective, outputs, held.y, self.inputs.dtype)
        weights = self._checked_weights(weights, len(held), "the weights of the validation data")
        return Inputs(held.x, self.inputs.dtype), targets, weights

    def _checked_weights(self, weights: Any, count: int, name: str) -> Array | None:
        return checked_weights(weights, count, objective=self.objective, dtype=self.inputs.dtype, name=name)

    def run(self, stepwise: bool = True) -> Generator[Event, None, None]:
        """Train from where `progress` is to the end, and yield what happens.

        Without `stepwise`, many steps are taken at a time, in slices of a few hundredths of a second, and only the
        last step of each is told.
        """
        p = self.progress
        if self.objective.takes_probabilities:
            with evaluating():
                first = forward(self.model, wrap(self.inputs.take(slice(0, self.batch_size))))
                check_probabilities(self.objective, first.numpy())
        with in_training(self.model), self._scheduled():
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
        if whole:
            rows = order[p.step * size :][: min(most, whole) * size].reshape(-1, size)
        else:
            rows = order[None, p.step * size :]
        losses, metrics = self._scan(rows, started)
        self._count(losses.tolist(), metrics.tolist(), self._amounts(rows))

    def _amounts(self, rows: Array) -> Array:
        """Return how much the examples of each batch weigh together."""
        if self.weights is None:
            return np.full(len(rows), float(rows.shape[1]))
        return self.weights[rows].sum(axis=1, dtype=np.float64)

    def _count(self, losses: Sequence[float], metrics: Sequence[float], amounts: Array) -> None:
        """Add up what the steps of one epoch gave, on batches whose examples together weigh these amounts."""
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
        p, own = self.progress, [*self.model._state().values()]  # once, as finding them takes as long as a small step
        self._keep([*own, *self._state_beside()])
        with np.errstate(all="ignore"):  # NaN and infinity are looked for, and explained, below
            losses, metrics = (found.numpy().reshape(len(rows)) for found in self.step.compiled.scan(rows))
        bad = np.flatnonzero(~np.isfinite(losses))
        # The weights that a step leaves show in the next loss; after the last step of an epoch they are looked at.
        if not bad.size and (p.step + len(rows)) % self.steps == 0 and not all(map(_is_finite, own)):
            bad = np.array([len(rows) - 1])
        if bad.size:
            self._explain(rows, int(bad[0]), float(losses[bad[0]]))
        seconds = (time.perf_counter() - started) / len(rows)
        self.slice_steps = max(1, min(int(SECONDS_OF_A_SLICE / seconds), 4 * self.slice_steps))
        return losses, metrics

    def state(self) -> list[Tensor]:
        """Return all Tensors that a step changes."""
        return [*self.model._state().values(), *self._state_beside()]

    def _state_beside(self) -> list[Tensor]:
        """Return the Tensors that a step changes outside of the model."""
        return [*self.optimizer._named_state().values(), streams["dropout"].draws]

    def _keep(self, state: Sequence[Tensor]) -> None:
        """Copy all that a step changes, into the same memory each time, for there may be a slice for every step."""
        arrays = [tensor._array() for tensor in state]
        if len(self.kept) != len(arrays):
            self.kept = [np.empty_like(array) for array in arrays]
        for kept, array in zip(self.kept, arrays, strict=True):
            np.copyto(kept, array)

    def _explain(self, rows: Array, step: int, loss: float) -> None:
        """Go back to the state before the first bad step of a slice, and raise what went wrong in it."""
        for tensor, kept in zip(self.state(), self.kept, strict=True):
            tensor.payload = kept.copy()
        if step:
            with np.errstate(all="ignore"), watching(None):
                self.step.compiled.scan(rows[:step])
        epochs, self.progress.step = divmod(self.progress.step + step, self.steps)
        self.progress.epoch += epochs
        with watching(None):
            explain_divergence(self, wrap(rows[step]), loss)

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
        outputs = self.outputs_of(inputs)
        found = score(self.objective, outputs, targets, weights)
        found |= values_of(self.metrics, outputs, targets)
        return {f"validation_{name}": value for name, value in found.items()}

    def _is_best(self) -> bool:
        if self.validation is None:
            return False
        p = self.progress
        least = p.rows[p.best_epoch - 1]["validation_loss"] if p.best_epoch else math.inf
        return p.rows[-1]["validation_loss"] < least

    def _out_of_patience(self) -> bool:
        p = self.progress
        return self.patience is not None and p.epoch - p.best_epoch >= self.patience

    def restore_best(self) -> None:
        """With patience, give the model the weights of its best epoch."""
        if self.progress.best:
            self.model.load_state_dict(self.progress.best)


def _is_finite(tensor: Tensor) -> bool:
    return bool(np.isfinite(tensor._array()).all())


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
    # Ignored, as nohup and job control have it: Ctrl-C is not meant for this program. None: a handler that was not
    # installed from Python, which could not be put back.
    if before in (signal.SIG_IGN, None):
        yield asked
        return
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
    if asked.is_set() and callable(before) and before is not signal.default_int_handler:
        before(signal.SIGINT, None)


@explained
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
    binary cross-entropy for one output, the mean squared error for real targets; one-hot rows, and real targets that
    are all 0 or 1, need a `loss`, since they could be either. Without `optimizer`: Adam, with its own defaults.
    `schedule` is "constant", "cosine", "linear" or a function of the step, a Tensor (see `optim.schedules`).

    `epochs` passes over the data are made in batches of `batch_size`, reshuffled before each pass unless
    `shuffle=False`; a last, short batch is kept unless `drop_last`. `clip_norm` bounds the norm of the gradient. `seed`
    fixes shuffling and dropout, not the initial weights: call `ns.manual_seed` before the model is made for that.
    `engine` is "native" or "numpy".

    `validation` is looked at after each epoch; with `patience`, training ends when the validation loss has not improved
    for this many epochs, and the weights of the best epoch come back. `metrics` are functions of (outputs, targets) on
    the validation data. `callbacks` are called with each StepDone and EpochDone, and may raise StopTraining.

    `sample_weight`, of shape (examples,), says how much each example counts: the loss of a batch, and that of the
    History, is Σ wᵢ lᵢ / Σ wᵢ. The accuracy and R² count each example once. Validation data may bring weights of its
    own: (x, y, weights).

    `checkpoint` is a folder: what is learned is kept there, and the same call goes on where an earlier one was ended.
    Ctrl-C ends the training after the step at hand; the model keeps what it learned, and `History.interrupted` is True.
    A handler of SIGINT of your own is called then. A second Ctrl-C interrupts at once, with KeyboardInterrupt.
    `progress` is True, False, "lines" (one an epoch) or None: a live line where standard error is a terminal.

    Raises, before the first step,

    - OptionError if `model` is no Module, an option is unknown or out of range, `patience` or `metrics` come without
      `validation`, there are two schedules, the optimizer has none of the model's parameters, the loss cannot be told
      or takes no weights though there are some, the loss takes probabilities though outputs of the model are below 0
      or above 1, or the checkpoint is of another training;
    - DataError if there are no rows, a number is NaN, infinite or too large for the model's dtype, a label is outside
      the classes, a weight is negative, `drop_last` leaves no batch, or the checkpoint is damaged;
    - ShapeError if the model cannot take the rows or does not give one row for each, or if targets, weights or
      validation data do not have the shape that they need;
    - ModelFileError if the checkpoint cannot be read, OSError if its folder cannot be made;

    at the first step, TracingError if the model cannot be compiled (see `ns.compile`), and GradientError if the loss is
    not one number; and DivergenceError at the first NaN or infinite loss, with the module that it came from. The model
    then has the weights from before that step.
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
    if not all(map(callable, callbacks)):
        raise OptionError(f"callbacks are functions, called with each StepDone and EpochDone; got {callbacks!r}")
    folder = None if checkpoint is None else checked_path(checkpoint)
    settings = {}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder / CHECKPOINT_FILE)
        settings = identity(training)
        if (folder / CHECKPOINT_FILE).exists():
            load_checkpoint(training, folder, settings, seed)
    saved = -math.inf
    try:
        with deferred_interrupt() as interrupted, reporter(progress, training.epochs) as report:
            try:
                for event in training.run(stepwise=bool(callbacks)):
                    report(event)
                    for callback in callbacks:
                        callback(event)
                    due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
                    if folder is not None and isinstance(event, EpochDone) and due:
                        save_checkpoint(training, folder, settings)
                        saved = time.monotonic()
                    if interrupted.is_set():
                        break
            except StopTraining:
                pass
            if folder is not None:
                save_checkpoint(training, folder, settings)
    finally:
        training.step.let_go()  # else the rows would stay until Python looks for cycles
    if not interrupted.is_set():
        training.restore_best()
    return History(training.progress.rows, interrupted=interrupted.is_set())
