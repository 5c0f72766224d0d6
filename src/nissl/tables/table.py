"""Table: rows with a target, and the columns to predict it from."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl import notebook
from nissl.arguments import number
from nissl.errors import DataError, OptionError, unknown_name
from nissl.files import PathLike
from nissl.tables.columns import TASKS, Column, Target, as_frame, check_there
from nissl.tables.guessing import Finding, TableError, examine, find_target
from nissl.tables.reading import find_layout, read_frame
from nissl.text import counted, cut_apart, printable, table

if TYPE_CHECKING:
    from pandas import DataFrame

FEWEST_ROWS = 10
HEAD = ("column", "kind", "values", "missing")
LONGEST_NAME = 40  # of a column or a class, in characters, where they are listed


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a DataFrame whose `target` is known, with the `columns` to predict it from.

    `y` holds the numbers of the classes, or the numbers to predict. `findings` says what was found in each column,
    `remarks` what else is worth knowing.
    """

    frame: DataFrame
    columns: tuple[Column, ...]
    target: Target
    y: npt.NDArray[Any]
    name: str
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return "\n".join([self._title, table([HEAD, *self._lines], right="lllr"), self.about_target, *self.remarks])

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        below = notebook.text("\n".join([self.about_target, *self.remarks]))
        return notebook.text(self._title) + notebook.table(HEAD, self._lines) + below

    @property
    def _title(self) -> str:
        return f"{self.name}: {len(self):,} rows"

    @property
    def _lines(self) -> list[tuple[str, ...]]:
        names = cut_apart([printable(found.name) for found in self.findings], LONGEST_NAME)
        rest = ((found.kind, found.values, str(found.missing or "")) for found in self.findings)
        return [(name, *more) for name, more in zip(names, rest, strict=True)]

    @property
    def about_target(self) -> str:
        """What is predicted, in words."""
        name = printable(self.target.name)
        if self.target.task == "regression":
            return f"target '{name}': a number, {self.y.min():g} to {self.y.max():g}"
        counts = np.bincount(self.y, minlength=len(self.target.classes))
        names = cut_apart(list(map(printable, self.target.classes)), LONGEST_NAME)
        pairs = [f"{text} ({count:,})" for text, count in zip(names, counts, strict=True)]
        more = f" and {len(pairs) - 8} more" if len(pairs) > 8 else ""
        return f"target '{name}': {len(pairs)} classes, {', '.join(pairs[:8])}{more}"

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Table:
        """Return the rows where `chosen`, an array of bools, is True."""
        return replace(self, frame=self.frame[chosen], y=self.y[chosen])

    def split(self, fraction: float, seed: int = 0) -> tuple[Table, Table]:
        """Return two parts: what remains, and `fraction` of the rows, drawn at random so that targets are spread alike.

        The rows are put in the order of their targets, at random among equals, and taken at even distances: each class
        is held out by its share, to a row, and so are high and low numbers. The only row of a class is never held out.
        """
        fraction = number("fraction", fraction, above=0, below=1)
        random = np.random.default_rng(seed)
        shuffled = random.permutation(len(self))
        order = shuffled[np.argsort(self.y[shuffled], kind="stable")]
        count = max(1, round(fraction * len(self)))
        places = ((np.arange(count) + random.random()) * len(self) / count).astype(int)
        held = np.zeros(len(self), bool)
        held[order[places]] = True
        if self.target.task == "classification":
            shared = np.bincount(self.y)[self.y] > 1
            held &= shared
            if shared.any() and not held.any():  # all places were those of such rows
                held[random.choice(np.flatnonzero(shared))] = True
        if held.all() or not held.any():
            raise DataError(f"{self.name}: a fraction of {fraction} of {len(self)} rows leaves one part empty")
        return self.rows(~held), self.rows(held)


def read(
    path: PathLike,
    target: str,
    *,
    task: str | None = None,
    category: Collection[str] = (),
    number: Collection[str] = (),
    drop: Collection[str] = (),
) -> Table:
    """Return the table in a file of comma-separated values, or of semicolons, tabs or bars, also compressed (.gz).

    `target` is the column to predict. The kinds of the others are found out; `category`, `number` and `drop` name
    columns of which you know better. `task` is "classification" or "regression", else it follows from the target. Rows
    without a target are left out.

    Raises DataError for a file that is no table, and for columns that a network cannot learn from, such as names.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "pets.csv"
    >>> _ = path.write_text("kind;kilos\\n" + 6 * "cat;4,5\\n" + 6 * "dog;20,1\\n")
    >>> print(read(path, target="kind"))
    pets.csv: 12 rows
    column  kind    values       missing
    kilos   number  4.5 to 20.1
    target 'kind': 2 classes, cat (6), dog (6)
    separated by semicolons, decimal commas
    """
    if not isinstance(path, str | os.PathLike):
        raise OptionError(
            f"tables.read takes the path of a file, got {type(path).__name__}; for a DataFrame, say tables.from_frame"
        )
    layout = find_layout(path)
    where = Path(path).name
    lists = _named(layout.names, where, target, category=category, number=number, drop=drop)
    text = lists["category"] if task == "regression" else [target, *lists["category"]]
    frame = read_frame(layout, text)
    return _examined(frame, target, task, lists, where, layout.remarks)


def from_frame(
    frame: DataFrame,
    target: str,
    *,
    task: str | None = None,
    category: Collection[str] = (),
    number: Collection[str] = (),
    drop: Collection[str] = (),
    name: str = "the table",
) -> Table:
    """Return the table in a DataFrame; see `read`."""
    given: Any = target  # by a number, too, where columns have numbers
    if isinstance(given, list):
        raise OptionError(f"the target is one column, named by its name; got {given!r}")
    frame, target = as_frame(frame, name), str(given)
    lists = _named(tuple(frame.columns), name, target, category=category, number=number, drop=drop)
    return _examined(frame, target, task, lists, name, [])


def _named(there: tuple[str, ...], where: str, target: str, **lists: Collection[Any]) -> dict[str, list[str]]:
    """Return the names of columns by their use; raise if a column is not there, or is named for two things."""
    named = {"target": [target]}
    for use, columns in lists.items():
        if isinstance(columns, str) or not isinstance(columns, Collection):
            raise OptionError(f"{use} takes a list of names of columns, got {columns!r}")
        named[use] = [*map(str, columns)]
    chosen: dict[str, str] = {}
    for use, names in named.items():
        if use != "target":
            _check_one_each(names, there, where, use)
        check_there(names, there, where)
        for column in names:
            if chosen.setdefault(column, use) != use:
                raise OptionError(
                    f"column '{printable(column)}' is named for {chosen[column]} and for {use}; choose one"
                )
    return named


def _check_one_each(columns: Collection[str], names: tuple[str, ...], where: str, use: str) -> None:
    """Raise if what should be the name of one column is a list of names with commas between them."""
    for column in columns:
        parts = str(column).split(",")
        if len(parts) > 1 and column not in names and {*parts} <= {*names}:
            problem = f"{where} has no column '{printable(column)}'"
            raise TableError(problem, {"Name each by itself": {use: [*map(printable, parts)]}})


def _examined(
    frame: DataFrame,
    target_name: str,
    task: str | None,
    lists: dict[str, list[str]],
    where: str,
    remarks: list[str],
) -> Table:
    """Return the table of the rows of a frame that have a target."""
    if task is not None and task not in TASKS:
        raise unknown_name("task", task, TASKS)
    target, reason = find_target(frame[target_name], target_name, task)
    y = target.values(frame[target_name])
    known = ~np.isnan(y) if target.task == "regression" else y >= 0
    if not known.all():
        remarks.append(f"{counted(int(np.sum(~known)), 'row')} without a target left out")
        frame, y = frame[known], y[known]
    if len(frame) < FEWEST_ROWS:
        raise DataError(
            f"{where} has {len(frame)} rows with a target; a network needs {FEWEST_ROWS} at the very least, to learn "
            "from some and be tested on others"
        )
    if reason not in ("as told", "text"):
        other = "regression" if target.task == "classification" else "classification"
        remarks.append(f"{target.task}, since the target holds {reason}; the task {other} overrules that")
    findings = []
    for name in frame.columns.drop([target_name, *lists["drop"]]):
        wanted = next((kind for kind in ("category", "number") if name in lists[kind]), None)
        findings.append(examine(frame[name], name, wanted))
    unusable = [finding for finding in findings if finding.advice]
    if unusable:
        advice = printable("; ".join(finding.advice for finding in unusable))
        remedies = {"Leave them out": {"drop": [printable(finding.name) for finding in unusable]}}
        for words, kind in (("or take as numbers", "number"), ("or take as categories", "category")):
            names = [printable(finding.name) for finding in unusable if finding.could_be == kind]
            remedies |= {words: {kind: names}} if names else {}
        raise TableError(f"{where} has columns that a network cannot learn from: {advice}", remedies)
    columns = tuple(finding.column for finding in findings if finding.column is not None)
    if not columns:
        raise DataError(f"{where} has no column left to predict '{printable(target_name)}' from")
    remarks += [printable(finding.remark) for finding in findings if finding.remark]
    return Table(frame, columns, target, y, where, tuple(findings), tuple(remarks))
