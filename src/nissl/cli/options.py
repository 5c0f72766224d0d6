"""Kinds of option values that several commands share; a wrong one is a usage error with the nearest right one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np

from nissl.errors import unknown_name
from nissl.evaluation import class_scores
from nissl.tables.reading import SUFFIXES, is_table_path
from nissl.text import cut_apart, percent, table


class Name(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """One of some names."""

    name = "name"

    def __init__(self, kind: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.known = list(known)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the names, for the help text."""
        return f"[{'|'.join(self.known)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name if it is known."""
        if value not in self.known:
            self.fail(str(unknown_name(self.kind, value, self.known)), param, ctx)
        return str(value)


class DataSetOrTable(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """The name of a data set, or the path of a table."""

    name = "data set or table"

    def __init__(self, known: Iterable[str]) -> None:
        self.data_set = Name("data set", known)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | Path:
        """Return the name if it is known, or else the path."""
        if value not in self.data_set.known and is_table_path(str(value)):
            return Path(value)
        tables = [f"{value}{suffix}" for suffix in SUFFIXES if Path(f"{value}{suffix}").is_file()]
        if value not in self.data_set.known and tables:
            self.fail(f"there is no data set '{value}'; for the table write {tables[0]}", param, ctx)
        return self.data_set.convert(value, param, ctx)


class Number(click.FloatRange):
    """A finite number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return float(number)


class Sizes(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """Sizes of layers, as in 128,64; 0 or an empty text for none."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the sizes."""
        if isinstance(value, tuple):
            return value
        if value.strip() in ("", "0"):
            return ()
        try:
            sizes = tuple(int(part) for part in value.split(","))
        except ValueError:
            sizes = (0,)
        if any(not 1 <= size <= 1_000_000 for size in sizes):
            self.fail(f"{value!r}: the sizes of the hidden layers are whole numbers from 1, as in 128,64", param, ctx)
        return sizes


def write_json(document: dict[str, Any]) -> None:
    """Write one JSON object to standard output; NaN, which JSON lacks, becomes null."""
    click.echo(json.dumps(_plain(document)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def class_table(matrix: Any, names: list[str]) -> str:
    """Return a table of precision and recall of each class, from a confusion matrix.

    >>> print(class_table(np.array([[8, 2], [0, 0]]), ["cat", "dog"]))
    class  examples  recall  precision  most often taken for
    cat          10  80.0 %    100.0 %  dog (2)
    dog           0       -      0.0 %
    """
    rows: list[tuple[str, ...]] = [("class", "examples", "recall", "precision", "most often taken for")]
    names = cut_apart(names, 40)
    for i, score in enumerate(class_scores(matrix, names)):
        wrong = matrix[i].copy()
        wrong[i] = 0
        confused = f"{names[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
        rows.append((score.name, str(score.examples), percent(score.recall), percent(score.precision), confused))
    return table(rows, right="lrrrl")
