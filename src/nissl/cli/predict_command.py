"""`nissl predict`: the class and its probability for each row of a file, or for a picture; or the rows of a table."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from nissl import evaluation
from nissl.cli.model_files import SavedModel, model_argument, open_model, probabilities
from nissl.cli.options import write_json
from nissl.errors import DataError, ModelFileError, ShapeError
from nissl.text import some, table


@click.command("predict")
@model_argument
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File for the rows of a table.")
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(model: str, file: Path, out: Path | None, as_json: bool) -> None:
    """Let MODEL name the class of each row in FILE: .npy, .npz (its x, or its only array), or a .png picture.

    If MODEL was trained on a table, FILE is one too, and its rows come back with the predictions beside them.
    """
    saved = open_model(model)
    if saved.table is not None:
        from nissl.cli import predict_table

        predict_table.run(saved.table, file, out, as_json)
        return
    if out is not None:
        raise click.UsageError("--out is for tables; without it, results go to standard output")
    rows = as_rows(read_rows(file), saved, file)
    found = probabilities(saved, evaluation.predict(saved.model, rows), model)
    names = saved.class_names or [str(i) for i in range(found.shape[1])]
    if len(names) != found.shape[1]:
        raise ModelFileError(
            f"{model} notes the class names {some(names, 3)}, but the model tells {found.shape[1]} classes apart; "
            "save it again with a name for each, as in ns.save(model, path, notes={'class names': [...]})"
        )
    chosen = found.argmax(axis=1)
    if as_json:
        write_json({"classes": [names[i] for i in chosen], "class_names": names, "probabilities": found})
        return
    header = ("row", "class", "probability", *names)
    lines = [(str(i), names[c], f"{found[i, c]:.4f}", *(f"{p:.4f}" for p in found[i])) for i, c in enumerate(chosen)]
    click.echo(table([header, *lines], right="rlr" + "r" * len(names)))


def read_rows(file: Path) -> npt.NDArray[Any]:
    """Return the array in a file."""
    if not file.is_file():
        raise DataError(f"{file} {'is a folder' if file.is_dir() else 'does not exist'}")
    readers = {".npy": _read_numpy, ".npz": _read_numpy, ".png": _read_picture}
    if file.suffix.lower() not in readers:
        raise DataError(f"{file} is not a file that predict reads; it reads {', '.join(readers)}")
    rows = readers[file.suffix.lower()](file)
    if rows.dtype.kind not in "biuf":
        raise DataError(f"{file} holds {rows.dtype}, not numbers")
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise DataError(f"{file} holds NaN or infinite numbers")
    return rows


def _read_numpy(file: Path) -> npt.NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd headers: what is wrong shows in the array, or as an error
            if file.suffix.lower() == ".npy":
                # Mapped rather than read, so that a header that lies takes no memory.
                return np.asarray(np.load(file, allow_pickle=False, mmap_mode="r"))
            with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as found:
                return _chosen(found, file)
    except DataError:
        raise
    except Exception as error:  # NumPy and the decompressors behind it raise many kinds for damaged files
        raise DataError(f"{file} is not a NumPy file, or it is damaged: {error}") from None


def _chosen(found: Any, file: Path) -> npt.NDArray[Any]:
    names = found.files
    name = "x" if "x" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise DataError(f"{file} holds arrays named {', '.join(names) or 'nothing'}; predict takes x, or the only one")
    return np.asarray(found[name])


def _read_picture(file: Path) -> npt.NDArray[Any]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=["PNG"]) as picture:
                return _grey(picture)
    except Exception as error:  # a damaged picture raises many kinds
        raise DataError(f"{file} is not a PNG picture, or it is damaged: {error}") from None


def _grey(picture: Any) -> npt.NDArray[Any]:
    """Return a picture as bytes from black to white; what is transparent is white, as on paper."""
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits, which Pillow would cut off, not scale
        return (np.asarray(picture, np.float64) / 257).round().clip(0, 255).astype(np.uint8)
    if picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
    return np.asarray(picture.convert("L"))


def as_rows(array: npt.NDArray[Any], saved: SavedModel, file: Path) -> npt.NDArray[Any]:
    """Return the array with an axis of rows, of the shape that the model takes."""
    shape = saved.input_shape
    if shape is None:
        return array
    if array.shape == shape:
        return array[None]
    if array.shape[1:] == shape:
        return array
    if array.ndim == 2 and array.shape[1] == np.prod(shape):
        return array.reshape(len(array), *shape)
    raise ShapeError(f"{file} has shape {array.shape}; the model takes one example of shape {shape}, or rows of them")
