"""What the commands that take a model share: the model with its notes, and outputs as probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from nissl import functional, nn, ops, storage
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
    shape = notes.get("input shape")
    return SavedModel(
        model,
        [str(name) for name in _list(notes.get("class names"))],
        tuple(int(n) for n in shape) if isinstance(shape, list) else None,
        notes.get("data set"),
        notes.get("loss"),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def probabilities(saved: SavedModel, outputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the outputs of a classifier as probabilities of its classes, of shape (rows, classes)."""
    last = last_layer(saved.model)
    if outputs.ndim == 1 or outputs.shape[-1] == 1:
        p = outputs.reshape(len(outputs))
        if not isinstance(last, nn.Sigmoid):
            p = ops.elementwise.sigmoid(Tensor(p)).numpy()
        return np.stack([1 - p, p], axis=1)
    return outputs if isinstance(last, nn.Softmax) else functional.softmax(Tensor(outputs)).numpy()
