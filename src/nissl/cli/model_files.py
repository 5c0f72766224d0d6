"""What the commands that take a model share: the model with its notes, and outputs as probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from nissl import functional, nn, ops, storage
from nissl.errors import DataError, ModelFileError, ShapeError
from nissl.objective import last_layer
from nissl.tensor import Tensor

model_argument = click.argument("model", type=click.Path(path_type=str))


@dataclass(frozen=True)
class SavedModel:
    """A model from a file, with what was noted about it."""

    model: nn.Module
    class_names: list[str]
    input_shape: tuple[int, ...] | None
    data_set: str | None
    loss: str | None


def open_model(path: str) -> SavedModel:
    """Return the model in a file, in evaluation mode."""
    model: nn.Module = storage.load(path).eval()
    notes = storage.load_notes(path)
    shape, names = notes.get("input shape"), notes.get("class names")
    if shape is not None and not (isinstance(shape, list) and all(isinstance(n, int) for n in shape)):
        raise ModelFileError(f"{path} is damaged: its note of the input shape is {str(shape)[:40]}")
    return SavedModel(
        model,
        [_printable(name) for name in names] if isinstance(names, list) else [],
        None if shape is None else tuple(shape),
        None if notes.get("data set") is None else _printable(notes["data set"]),
        notes.get("loss"),
    )


def _printable(text: Any) -> str:
    """Return text from a file without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


CLASS_LOSSES = (
    None,
    "cross_entropy",
    "cross_entropy_error",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
)


def probabilities(saved: SavedModel, outputs: npt.NDArray[Any], path: str) -> npt.NDArray[Any]:
    """Return the outputs of a classifier as probabilities of its classes, of shape (rows, classes)."""
    if saved.loss not in CLASS_LOSSES:
        raise DataError(f"{path} was trained with {saved.loss}: its outputs are numbers, not classes to predict")
    if outputs.ndim > 2:
        raise ShapeError(f"{path} gives outputs of shape {outputs.shape}, not one row of class scores for each example")
    if not np.isfinite(outputs).all():
        raise DataError(
            f"{path} gives NaN or infinite outputs for these rows; are they scaled as its training data was?"
        )
    last = last_layer(saved.model)
    if outputs.ndim == 1 or outputs.shape[-1] == 1:
        p = outputs.reshape(len(outputs))
        if not isinstance(last, nn.Sigmoid):
            p = ops.elementwise.sigmoid(Tensor(p)).numpy()
        return np.stack([1 - p, p], axis=1)
    return outputs if isinstance(last, nn.Softmax) else functional.softmax(Tensor(outputs)).numpy()
