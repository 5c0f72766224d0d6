"""`nissl export`: a model as a file that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nissl import nn, storage
from nissl.cli.model_files import CLASS_LOSSES, SavedModel, model_argument, open_model
from nissl.cli.options import Name, write_json
from nissl.errors import DataError
from nissl.exchange.onnx import OPSET, followed_by, make_onnx, make_table_onnx, write_onnx
from nissl.objective import last_layer
from nissl.tensor import Tensor


class RowShape(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """The shape of one row, as in 28,28."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the sizes."""
        if isinstance(value, tuple):
            return value
        sizes = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() and len(part) < 10 for part in sizes):
            self.fail(f"{value!r}: the shape of one row is whole numbers, as in 28,28", param, ctx)
        return tuple(map(int, sizes))


@click.command("export")
@model_argument
@click.option("--to", type=Name("format", ["onnx"]), default="onnx", show_default=True, help="What to write.")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write, else MODEL with .onnx at its end.")
@click.option("--probabilities", is_flag=True, help="Give probabilities of the classes instead of logits.")
@click.option("--input-shape", type=RowShape(), help="Shape of one row, as in 28,28, if MODEL does not say it.")
@click.option("--opset", type=int, default=OPSET, show_default=True, help="Version of ONNX's operators.")
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(
    model: str,
    to: str,
    out: Path | None,
    probabilities: bool,
    input_shape: tuple[int, ...] | None,
    opset: int,
    as_json: bool,
) -> None:
    """Write MODEL, as it predicts, to a file that runs without nissl.

    An ONNX model takes x of shape (batch, ...), the batch of any size, as numbers: bytes from 0 to 255, as pictures
    have them, must be scaled into [0, 1] first, as nissl predict does. It gives y, what the model gives: for a
    classifier logits, or with --probabilities a probability for each class (for one output, that of the second class).
    The model of a table takes its columns, each of shape (batch, 1): numbers (NaN where missing), texts ('' where
    missing), dates as days since 1970-01-01. It gives probabilities, or numbers in their own units, in any case.

    What was noted about the model, such as the names of its classes, is in the metadata.
    """
    saved = open_model(model)
    path = out or Path(model).with_suffix(f".{to}")
    if path.exists() and path.samefile(model):
        raise click.UsageError(f"--out is MODEL itself, which would be lost; choose another file than {path}")
    notes = storage.load_notes(model)
    if saved.table is not None:
        if input_shape is not None:
            raise click.UsageError(
                "MODEL was trained on a table, whose columns are the inputs; leave out --input-shape"
            )
        if probabilities and saved.table.target.task == "regression":
            raise click.UsageError("--probabilities is for classes, but MODEL predicts numbers")
        del notes[storage.TABLE]  # what the nodes do
        document = make_table_onnx(saved.table, opset=opset, notes=notes)
    else:
        exported = with_probabilities(saved, model) if probabilities else saved.model
        document = make_onnx(exported, input_shape=input_shape or saved.input_shape, opset=opset, notes=notes)
    write_onnx(document, path)
    inputs, outputs = map(_kind, document.graph.input), map(_kind, document.graph.output)
    size = path.stat().st_size
    if as_json:
        write_json(
            {"file": str(path), "format": to, "opset": opset, "bytes": size, "inputs": [*inputs], "outputs": [*outputs]}
        )
        return
    arrow = f"{', '.join(map(_in_words, inputs))} -> {', '.join(map(_in_words, outputs))}"
    click.echo(f"{path}: {arrow}, opset {opset}, {size / 1e3:,.1f} kB")


def with_probabilities(saved: SavedModel, path: str) -> nn.Module:
    """Return a classifier that gives probabilities, whatever it gives now."""
    if saved.loss not in CLASS_LOSSES:
        raise DataError(f"{path} was trained with {saved.loss}: its outputs are numbers, not classes")
    if isinstance(last_layer(saved.model), nn.Softmax | nn.Sigmoid):
        return saved.model
    return followed_by(saved.model, nn.Sigmoid() if "binary" in str(saved.loss) else _Probabilities())


class _Probabilities(nn.Module):
    """The sigmoid of one logit, the softmax of several."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid() if x.ndim == 1 or x.shape[-1] == 1 else x.softmax()


def _kind(value: Any) -> dict[str, Any]:
    """Return name, dtype and shape of an input or output."""
    from onnx import helper

    kind = value.type.tensor_type
    shape = [n.dim_value if n.HasField("dim_value") else n.dim_param or None for n in kind.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return {"name": value.name, "dtype": "text" if dtype == "object" else dtype, "shape": shape}


def _in_words(kind: dict[str, Any]) -> str:
    return f"{kind['name']} {kind['dtype']} ({', '.join(str(n or '?') for n in kind['shape'])})"
