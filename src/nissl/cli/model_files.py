"""What the commands that take a model share: the model with its notes, and outputs as probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from nissl import functional, nn, ops, storage, tables
from nissl.cli.train_run import MODEL_FILE
from nissl.errors import DataError, ModelFileError, ShapeError
from nissl.objective import last_layer
from nissl.tensor import Tensor
from nissl.text import printable

model_argument = click.argument("model", type=click.Path(path_type=str))


@dataclass(frozen=True)
class SavedModel:
    """A model from a file, with what was noted about it."""

    model: nn.Module
    class_names: list[str]
    input_shape: tuple[int, ...] | None
    data_set: str | None
    loss: str | None
    table: tables.TableModel | None = None


def open_model(path: str) -> SavedModel:
    """Return the model in a file, in evaluation mode."""
    if Path(path, MODEL_FILE).is_file():
        raise ModelFileError(f"{path} is a folder; the model in it is {Path(path, MODEL_FILE)}")
    notes = storage.load_notes(path)
    if storage.is_of_table(notes):
        return _open_table_model(path, notes.get("data set"))
    model: nn.Module = storage.load(path).eval()
    shape, names = notes.get("input shape"), notes.get("class names")
    if shape is not None and not (isinstance(shape, list) and all(isinstance(n, int) for n in shape)):
        raise ModelFileError(f"{path} is damaged: its note of the input shape is {str(shape)[:40]}")
    return SavedModel(
        model,
        [printable(name) for name in names] if isinstance(names, list) else [],
        None if shape is None else tuple(shape),
        None if notes.get("data set") is None else printable(notes["data set"]),
        notes.get("loss"),
    )


def _open_table_model(path: str, data_set: Any) -> SavedModel:
    table = tables.load(path)
    return SavedModel(
        table.network,
        [printable(name) for name in table.target.classes],
        (table.preprocessor.width,),
        None if data_set is None else printable(data_set),
        None,
        table,
    )


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


def table_of(saved: SavedModel, path: str) -> tables.TableModel:
    """Return the model of a table, or raise DataError if it is another."""
    if saved.table is None:
        raise DataError(f"{path} was not trained on a table, so it cannot tell what its columns mean")
    return saved.table
