"""`nissl predict MODEL TABLE`: the rows of a file as they came, with predictions beside them.

A file is read, and its rows are written, a part at a time, so that its size does not matter.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import click
import numpy as np
import numpy.typing as npt

from nissl.cli.options import write_json
from nissl.errors import DataError, OptionError
from nissl.files import write_atomically
from nissl.tables import TableModel, Unlike
from nissl.tables.columns import check_there
from nissl.tables.reading import Layout, find_layout, read_parts, with_points
from nissl.text import some

if TYPE_CHECKING:
    from pandas import DataFrame

ROWS_AT_A_TIME = 50_000
CELLS_AT_A_TIME = 5_000_000  # of which each takes about 100 bytes
NOT_WRITTEN = (".xlsx", ".xls", ".ods", ".parquet", ".json")  # whose programs would take text for damage
PREDICTION = "prediction"
PROBABILITY = "probability of "


def run(model: TableModel, file: Path, out: Path | None, as_json: bool) -> None:
    """Write the rows of a file with predictions to `out`, or to standard output; or the predictions alone, as JSON."""
    import pandas as pd  # here, since it takes a while to load

    layout = find_layout(file, fewest_columns=1)
    check_there([column.name for column in model.preprocessor.columns], layout.names, str(file))
    unlike = Unlike()
    if as_json:
        if out is not None:
            raise click.UsageError("--json writes to standard output, --out to a file; choose one")
        write_json(as_document(model, layout, unlike))
    else:
        _check_new_names(model, layout)
        with _opened(out, file, layout) as written:
            if layout.separator_line:
                written.write(f"sep={layout.separator}\n")
            for number, (rows, answers) in enumerate(answered(model, layout, unlike)):
                beside = pd.DataFrame(named_answers(model, answers, layout.decimal), index=rows.index)
                complete = pd.concat([rows, beside], axis=1)
                complete.to_csv(
                    written,
                    index=False,
                    header=number == 0,
                    sep=layout.separator,
                    lineterminator="\n",
                    quoting=_quoting(complete),
                )
    for remark in unlike.remarks(model.preprocessor, layout.names):
        click.echo(f"{file.name}: {remark}", err=True)


def answered(model: TableModel, layout: Layout, unlike: Unlike) -> Iterator[tuple[DataFrame, npt.NDArray[Any]]]:
    """Yield rows as they are written, with the answers to them; count in `unlike` what training did not have."""
    for rows in read_parts(layout, min(ROWS_AT_A_TIME, max(1, CELLS_AT_A_TIME // len(layout.names)))):
        frame = with_points(rows, layout).copy(deep=False)
        for column in model.preprocessor.columns:
            if column.kind == "number":
                frame[column.name] = column.numbers(frame[column.name])[:, 0]
        unlike.count(model.preprocessor, frame)
        yield rows, model.predict_proba(frame) if model.target.classes else model.predict(frame)


def _quoting(rows: DataFrame) -> Literal[0, 1]:
    """Return which cells are put in quotes: those that need it.

    All, if one holds a carriage return: Python before 3.13 puts it in quotes only beside a line feed, and whoever reads
    the file takes it for the end of a row.
    """
    returns = any("\r" in cell for name in rows for cell in (name, *rows[name]))
    return csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL


def answer_names(model: TableModel) -> list[str]:
    """Return the names of the columns that are written beside the rows."""
    return [PREDICTION, *(f"{PROBABILITY}{name}" for name in model.target.classes)]


def named_answers(model: TableModel, answers: npt.NDArray[Any], decimal: str) -> dict[str, list[str]]:
    """Return answers as columns of text: numbers with seven digits, which is what float32 holds; or the classes."""
    names = answer_names(model)
    if not model.target.classes:
        return {names[0]: [f"{number:.7g}".replace(".", decimal) for number in answers]}
    columns = [[f"{p:.6f}".replace(".", decimal) for p in column] for column in answers.T]
    written = [
        text.replace(".", decimal) if isinstance(value, float) else text
        for text, value in zip(model.target.classes, model.target.class_values, strict=True)
    ]
    chosen = [written[i] for i in answers.argmax(axis=1)]
    return dict(zip(names, [chosen, *columns], strict=True))


def as_document(model: TableModel, layout: Layout, unlike: Unlike) -> dict[str, Any]:
    """Return the answers to all rows, for JSON."""
    answers = np.concatenate([answers for _, answers in answered(model, layout, unlike)])
    if not model.target.classes:
        return {"predictions": answers}
    chosen = [model.target.classes[i] for i in answers.argmax(axis=1)]
    return {"classes": chosen, "class_names": list(model.target.classes), "probabilities": answers}


def _check_new_names(model: TableModel, layout: Layout) -> None:
    taken = [name for name in answer_names(model) if name in layout.names]
    if taken:
        raise DataError(
            f"{layout.path} has {some(taken)} already, where the predictions would be written; rename or remove that"
        )


@contextlib.contextmanager
def _opened(out: Path | None, file: Path, layout: Layout) -> Iterator[TextIO]:
    """Give what the rows are written to: standard output, or a file that is there whole or not at all."""
    if out is None:
        with _whole_letters(sys.stdout):
            yield sys.stdout
        return
    if out.exists() and os.path.samefile(out, file):
        raise OptionError(f"--out {out} is the file that is read; choose another")
    if out.suffix.lower() in NOT_WRITTEN:
        raise OptionError(
            f"--out {out}: predictions are written as text, cell by cell; name it {out.with_suffix('.csv')}"
        )
    # Excel takes a file for UTF-8 only if it has the mark, so one that had it keeps it.
    encoding = "utf-8-sig" if layout.encoding == "utf-8-sig" else "utf-8"
    with write_atomically(out) as temporary:
        opener: Any = gzip.open if temporary.suffix.lower() == ".gz" else open
        with opener(temporary, "wt", encoding=encoding) as opened:
            yield opened


@contextlib.contextmanager
def _whole_letters(stream: TextIO) -> Iterator[None]:
    """Let a letter that the encoding of a pipe or file lacks be an error; a terminal may show a ? in its place."""
    if not isinstance(stream, io.TextIOWrapper) or stream.isatty():
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="strict")
    try:
        yield
    except UnicodeEncodeError as error:
        raise DataError(
            f"standard output is encoded in {stream.encoding}, which lacks '{error.object[error.start]}'; "
            "write to a file with --out, which is encoded in UTF-8"
        ) from None
    finally:
        stream.reconfigure(errors=before)
