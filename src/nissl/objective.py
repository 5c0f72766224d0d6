"""The objective of a training: the loss, the metric that goes with it, and the form of the targets.

`choose` selects it by the given loss or, without one, by the dtype of the targets and the number of outputs.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl import nn
from nissl.data.dataset import to_dtype
from nissl.errors import DataError, OptionError, ShapeError
from nissl.nn.module import Module
from nissl.ops.reduce import argmax, sum
from nissl.tensor import Tensor
from nissl.text import some

Loss = Callable[..., Tensor]  # of outputs and targets, and, where examples have weights, of `sample_weight`
Array = npt.NDArray[Any]


def class_hits(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the number of rows whose largest output is that of their class."""
    classes = labels if labels.ndim < outputs.ndim else argmax(labels, -1)
    return sum(argmax(outputs, -1) == classes)


@functools.cache  # so that objectives with the same threshold are equal
def hits_above(threshold: float) -> Loss:
    """Return a function that counts the outputs on the side of `threshold` that their label, 0 or 1, stands for."""
    return lambda outputs, labels: sum((outputs > threshold) == (labels > 0.5))


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return Σ(y - t)²."""
    return sum((outputs - targets) ** 2)


@dataclass(frozen=True)
class Objective:
    """A loss, and a metric as a sum over examples, which `finish` turns into the value that is reported.

    The metric is the accuracy, or R² = 1 - Σ(t - y)²/Σ(t - mean t)².
    """

    loss: Loss
    metric_name: str  # "accuracy" or "r2"
    metric_sum: Callable[[Tensor, Tensor], Tensor]

    def __post_init__(self) -> None:
        """Wrap a loss Module that takes weights in a function, as calling a Module accepts no keyword arguments."""
        if isinstance(self.loss, Module) and _takes_weights(self.loss.forward):
            object.__setattr__(self, "loss", _weighted_loss_of(self.loss))

    @property
    def name(self) -> str:
        """The name of the loss."""
        return getattr(self.loss, "__name__", type(self.loss).__name__)

    @property
    def takes_probabilities(self) -> bool:
        """Whether the loss takes probabilities: outputs from 0 to 1."""
        return any(self.loss is loss for loss in OF_PROBABILITIES)

    @property
    def takes_weights(self) -> bool:
        """Whether the loss accepts a weight for each example."""
        return _takes_weights(self.loss)

    @property
    def classifies(self) -> bool:
        """Whether the targets are classes."""
        return self.metric_name == "accuracy"

    def finish(self, total: float, scale: float) -> float:
        """Return the accuracy, or R², from the sum over the examples and their scale."""
        if self.classifies:
            return total / scale
        return 1 - total / scale if scale else float("nan")

    def scale(self, targets: Array) -> float:
        """Return what the sum over examples is divided by: the number of answers, or Σ(t - mean t)²."""
        if self.classifies:
            return self.answers(targets)
        # In float64: NumPy adds up the rows of a float32 matrix one by one, and of many the mean would be far off.
        return float(((targets - targets.mean(axis=0, dtype=np.float64)) ** 2).sum())

    def answers(self, targets: Array) -> int:
        """Return the number of answers, each right or wrong: one for each label, or for each one-hot row."""
        one_hot = self.metric_sum is class_hits and targets.dtype.kind == "f"
        return math.prod(targets.shape[:-1]) if one_hot else targets.size

    def class_count(self, outputs: tuple[int, ...]) -> int:
        """Return the number of classes of which each row of outputs of a shape has one; 0 if it has several, or none.

        >>> choose(None, nn.Linear(4, 1), (8, 1), np.array([0, 1])).class_count((8, 1))
        2
        """
        if not self.classifies:
            return 0
        answers, count = (outputs[1:-1], outputs[-1]) if self.metric_sum is class_hits else (outputs[1:], 2)
        return count if math.prod(answers) == 1 else 0

    def classes_of(self, outputs: Array) -> Array:
        """Return the predicted class of each row of outputs."""
        if self.metric_sum is class_hits:
            return outputs.argmax(axis=-1)
        threshold = 0.5 if self.loss is nn.binary_cross_entropy else 0.0
        return (outputs > threshold).astype(np.int64)

    def classes_in(self, targets: Array) -> Array:
        """Return the class that each label, or each one-hot row, stands for."""
        if self.metric_sum is class_hits:
            return targets.argmax(axis=-1) if targets.dtype.kind == "f" else targets
        return (targets > 0.5).astype(np.int64)


def _takes_weights(function: Callable[..., Any]) -> bool:
    """Whether a function has a parameter `sample_weight` by name; **options do not count, as they may be ignored."""
    found = inspect.signature(function).parameters.get("sample_weight")
    return found is not None and found.kind in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY)


def _weighted_loss_of(module: Module) -> Loss:
    """Return a Module as a function that takes `sample_weight`, named after its class."""
    forward: Loss = module.forward

    def loss(outputs: Tensor, targets: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        if sample_weight is None:
            return module(outputs, targets)
        return forward(outputs, targets, sample_weight=sample_weight)

    loss.__name__ = type(module).__name__
    return loss


def layers_in_order(model: Module) -> list[Module]:
    """Return the layers of a model in order, with nested Sequentials flattened."""
    return [part for layer in model for part in layers_in_order(layer)] if isinstance(model, nn.Sequential) else [model]


def last_layer(model: Module) -> Module:
    """Return the layer whose output is the model's, searching only in Sequentials."""
    while isinstance(model, nn.Sequential) and len(model):
        model = model[-1]
    return model


def choose(loss: Loss | Objective | None, model: Module, outputs: tuple[int, ...], targets: Array) -> Objective:
    """Return the objective for a model whose output has shape `outputs`, and these targets.

    Without a loss: cross-entropy for integer or bool labels and two or more outputs, binary cross-entropy for one
    output, the mean squared error for real targets. Never guessed: one-hot rows, and real targets that are all 0 or 1,
    as they could be labels or numbers.
    """
    if isinstance(loss, Objective):
        return loss
    if loss is not None and not callable(loss):
        raise OptionError(f"a loss is a function of outputs and targets, such as nn.cross_entropy; got {loss!r}")
    labels = targets.dtype.kind in "biu"
    width = outputs[-1] if len(outputs) > 1 else 1
    if loss is None:
        ends_in_sigmoid = isinstance(last_layer(model), nn.Sigmoid)
        binary = nn.binary_cross_entropy if ends_in_sigmoid else nn.binary_cross_entropy_with_logits
        if not labels and _are_one_hot(targets, width):
            raise OptionError(
                f"the loss cannot be told for real targets of shape {targets.shape} whose rows are one-hot: pass "
                "loss=nn.cross_entropy if they are classes (class numbers, y.argmax(axis=1), need no loss), or "
                "loss=nn.mse_loss if they are numbers"
            )
        if not labels and _are_zeros_and_ones(targets, outputs):
            as_labels = " (as integers, y.astype('int64'), they need no loss)" if width == 1 else ""
            raise OptionError(
                f"the loss cannot be told for real targets that are all 0 or 1: pass loss=nn.{binary.__name__} if they "
                f"are labels{as_labels}, or loss=nn.mse_loss if they are numbers"
            )
        if not labels:
            loss = nn.mse_loss
        elif width == 1:
            loss = binary
        elif targets.ndim == len(outputs) - 1:
            loss = nn.cross_entropy
        elif targets.ndim == len(outputs) and targets.shape[-1] == 1:
            raise ShapeError(
                f"class numbers have shape {targets.shape[:-1]} for a model with {width} outputs, got {targets.shape}: "
                "write y.reshape(-1)"
            )
        else:
            raise OptionError(
                f"the loss cannot be told for integer targets of shape {targets.shape} and {width} outputs: pass "
                "loss=nn.cross_entropy if they are one-hot rows, loss=nn.binary_cross_entropy_with_logits if each "
                "column is a label of its own, or loss=nn.mse_loss if they are numbers"
            )
    if loss is nn.cross_entropy and isinstance(last_layer(model), nn.Softmax):
        raise OptionError(
            "cross_entropy takes logits, but the model ends in Softmax, so the softmax would be taken twice: "
            "remove the final Softmax, or train with loss=nn.cross_entropy_error"
        )
    if loss in (nn.cross_entropy, nn.cross_entropy_error):
        return Objective(loss, "accuracy", class_hits)
    if loss is nn.binary_cross_entropy:
        return Objective(loss, "accuracy", hits_above(0.5))
    if loss is nn.binary_cross_entropy_with_logits:
        return Objective(loss, "accuracy", hits_above(0.0))
    if labels and targets.ndim == len(outputs) - 1 and width > 1:
        return Objective(loss, "accuracy", class_hits)
    return Objective(loss, "r2", squared_error)


def _are_one_hot(targets: Array, width: int) -> bool:
    """Return whether each row of targets, one number for each of several outputs, is 1 at one place and 0 elsewhere."""
    if width < 2 or targets.ndim < 2 or targets.shape[-1] != width:
        return False
    return bool(((targets == 0) | (targets == 1)).all() and (targets.sum(axis=-1) == 1).all())


def _are_zeros_and_ones(targets: Array, outputs: tuple[int, ...]) -> bool:
    """Return whether targets, one number for each output, are 0 in some places and 1 in all others."""
    if targets[:1].size != math.prod(outputs[1:]):
        return False
    ones = targets == 1
    return bool(ones.any() and not ones.all() and (ones | (targets == 0)).all())


# The losses that take probabilities, and what to do about a model that gives none.
OF_PROBABILITIES: dict[Loss, str] = {
    nn.binary_cross_entropy: "end it in nn.Sigmoid(), or train with loss=nn.binary_cross_entropy_with_logits",
    nn.cross_entropy_error: "end it in nn.Softmax(), or train with loss=nn.cross_entropy",
}


def check_probabilities(objective: Objective, outputs: Array) -> None:
    """Raise OptionError if some outputs of a model are no probabilities, which the loss takes."""
    wrong = (outputs < 0) | (outputs > 1)
    if wrong.any():
        raise OptionError(
            f"{objective.name} takes probabilities, but the model gives {outputs[wrong].flat[0]:g}: "
            f"{OF_PROBABILITIES[objective.loss]}"
        )


def fit_class_names(
    objective: Objective, outputs: tuple[int, ...], class_names: tuple[str, ...] | None, name: str
) -> tuple[str, ...]:
    """Return the names of the classes that a model tells apart, () if they have none, or raise if they are others."""
    count = objective.class_count(outputs)
    if not class_names or not count:
        return ()
    if len(class_names) != count:
        raise DataError(
            f"class_names of {name} are {len(class_names)} ({some(class_names, 3)}), but the model tells {count} "
            "classes apart; give a name for each, in the order of their numbers, or none"
        )
    return class_names


def fit_targets(objective: Objective, outputs: tuple[int, ...], targets: Array, dtype: Any) -> Array:
    """Return the targets as the loss needs them, or raise: labels within the classes, numbers of the outputs' shape."""
    if objective.metric_sum is class_hits and targets.ndim == len(outputs) - 1:
        classes = outputs[-1]
        if targets.dtype.kind == "f" and (targets != np.floor(targets)).any():
            raise DataError(
                f"{objective.name} needs class numbers, which are integers; the targets hold "
                f"{targets[targets != np.floor(targets)].flat[0]:g}. For real targets use loss=nn.mse_loss"
            )
        wrong = (targets < 0) | (targets >= classes)
        if wrong.any():
            row = int(np.argwhere(wrong)[0, 0])
            hint = "; the labels count from 1: write y - 1" if (targets.min(), targets.max()) == (1, classes) else ""
            raise DataError(
                f"label {targets[wrong][0]:g} at row {row} is outside the classes 0 to {classes - 1} "
                f"of a model with {classes} outputs{hint}"
            )
        return targets.astype(np.int64, copy=False)
    if targets.shape[1:] != outputs[1:]:
        if targets[:1].size != int(np.prod(outputs[1:])):
            raise ShapeError(
                f"the model gives outputs of shape {('batch', *outputs[1:])}, the targets have shape {targets.shape}; "
                f"{objective.name} needs one target for each output. If the targets are class numbers, make them "
                "integers: y.astype('int64')"
            )
        targets = targets.reshape(len(targets), *outputs[1:])
    binary = objective.loss in (nn.binary_cross_entropy, nn.binary_cross_entropy_with_logits)
    if binary and ((targets < 0) | (targets > 1)).any():
        found = targets[(targets < 0) | (targets > 1)].flat[0]
        hint = "for more classes use that many outputs, for numbers loss=nn.mse_loss"
        if ((targets == -1) | (targets == 1)).all():
            hint = "write y > 0"
        raise DataError(f"{objective.name} needs targets between 0 and 1; found {found}: {hint}")
    return to_dtype(targets, dtype, "y")
