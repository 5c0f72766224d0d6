"""Rows of a table as the numbers that a network takes, by scikit-learn's transformers.

Numbers: a missing one becomes the median, and is told by a column of its own (0 or 1) where any were missing in
training; then all are standardized, (x - mean) / scale. Categories: a column of 0 and 1 for each of the MOST_LEVELS - 1
most frequent, one for all others if there are others; missing is a category like the rest.

What was fitted is plain data, arrays and texts. The transformers are made anew from it, through their public
interface, for use in training and after loading alike; no pickle is needed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl.data import Dataset
from nissl.errors import DataError, OptionError
from nissl.tables.columns import Column, Target, as_frame, check_there
from nissl.tables.table import Table
from nissl.text import counted, cut, cut_apart, printable, some

if TYPE_CHECKING:
    from pandas import DataFrame

Array = npt.NDArray[Any]

MOST_LEVELS = 50
ROWS_AT_A_TIME = 1 << 16
SMALLEST_SPAN = 1e-150  # between the smallest and the largest number; the square of less is 0, as if all were equal
OTHER = "\0other"  # stands for all categories that have no column of their own; no cell of a text file holds a \0


@dataclass(frozen=True, eq=False)
class Preprocessor:
    """Turns rows with named columns into an array (rows, width) of float32, as fitted to the rows of training.

    For the number features, in the order of `number_features`: `medians`, `means`, `scales`, and `indicated`, which of
    them have a column that says that they are missing. For the category features: `levels`, the categories that have a
    column each, and `others`, those that share one, if there are any. For the target: `prior`, the shares of the
    classes in training or the mean, and `target_scale`, the standard deviation of numbers. For remarks alone: `ranges`,
    the smallest and the largest of each number feature in training, or None as in files that were written without them.
    """

    columns: tuple[Column, ...]
    target: Target
    medians: Array
    means: Array
    scales: Array
    indicated: Array
    levels: tuple[tuple[str, ...], ...]
    others: tuple[tuple[str, ...], ...]
    prior: Array
    target_scale: float
    ranges: Array | None = None

    @classmethod
    def fit(cls, table: Table) -> Preprocessor:
        """Return the preprocessor for these rows; give it those of training, not those of the test.

        >>> import pandas as pd
        >>> from nissl import tables
        >>> frame = pd.DataFrame({"x": [1.0, 3.0, None, 5.0] * 3, "colour": ["red", "blue"] * 6, "y": range(12)})
        >>> prepare = Preprocessor.fit(tables.from_frame(frame, target="y"))
        >>> prepare.feature_names
        ('x', 'x is missing', 'colour = blue', 'colour = red')
        >>> prepare.transform(frame[:3])
        array([[-1.4142135,  0.       ,  0.       ,  1.       ],
               [ 0.       ,  0.       ,  1.       ,  0.       ],
               [ 0.       ,  1.       ,  0.       ,  1.       ]], dtype=float32)
        """
        from sklearn.impute import SimpleImputer
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        table = _checked_table("Preprocessor.fit", table)
        numbers, texts = _numbers_and_texts(table.columns, table.frame)
        medians, means, scales, smallest, largest = np.zeros((5, numbers.shape[1]))
        if numbers.shape[1]:
            with np.errstate(all="ignore"):  # of numbers too large, which are told below
                imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(numbers)
                filled = imputer.transform(numbers)
                scaler = StandardScaler().fit(filled)
                spans = np.ptp(filled, axis=0)
            medians, means, scales = imputer.statistics_, scaler.mean_, scaler.scale_
            smallest, largest = filled.min(axis=0), filled.max(axis=0)
            _check_scales(table, means, scales, spans)
        levels: list[tuple[str, ...]] = []
        others: list[tuple[str, ...]] = []
        if texts.shape[1]:
            encoder = OneHotEncoder(max_categories=MOST_LEVELS, handle_unknown="infrequent_if_exist").fit(texts)
            for known, rare in zip(encoder.categories_, encoder.infrequent_categories_, strict=True):
                others.append(() if rare is None else tuple(map(str, rare)))
                infrequent = set(others[-1])
                levels.append(tuple(str(text) for text in known if text not in infrequent))
        return cls(
            table.columns,
            table.target,
            np.asarray(medians, float),
            np.asarray(means, float),
            np.asarray(scales, float),
            np.asarray(np.isnan(numbers).any(axis=0)),
            tuple(levels),
            tuple(others),
            *_prior_and_scale(table),
            np.stack([smallest, largest]),
        )

    def __repr__(self) -> str:
        """Return columns, features and target in short; `vars` has all that was fitted."""
        columns = some(cut_apart([column.name for column in self.columns], 24))
        what = f"{len(self.target.classes)} classes" if self.target.classes else "a number"
        name = cut(printable(self.target.name), 24)
        return (
            f"Preprocessor({counted(len(self.columns), 'column')}: {columns}; {counted(self.width, 'feature')}; "
            f"target '{name}': {what})"
        )

    @cached_property
    def number_features(self) -> tuple[tuple[Column, str], ...]:
        """The column and the part of it that each number comes from."""
        return tuple((column, part) for column in self.columns for part in column.number_parts)

    @cached_property
    def category_features(self) -> tuple[tuple[Column, str], ...]:
        """The column and the part of it that each category comes from."""
        return tuple((column, part) for column in self.columns for part in column.category_parts)

    @cached_property
    def _features(self) -> tuple[tuple[Column, str], ...]:
        """The column that each feature of the array comes from, and the name of the feature."""
        found = [(column, " ".join(filter(None, (column.name, part)))) for column, part in self.number_features]
        missing = [
            (column, f"{name} is missing") for (column, name), told in zip(found, self.indicated, strict=True) if told
        ]
        categories = []
        for (column, part), levels, other in zip(self.category_features, self.levels, self.others, strict=True):
            name = " ".join(filter(None, (column.name, part)))
            categories += [(column, f"{name} = {level}" if level else f"{name} is missing") for level in levels]
            categories += [(column, f"{name} is another")] if other else []
        return (*found, *missing, *categories)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What each number of a row says."""
        return tuple(name for _, name in self._features)

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return len(self._features)

    @property
    def outputs(self) -> int:
        """How many outputs a network for this target has: one for each class, or one number."""
        return len(self.target.classes) or 1

    def places(self, column: Column) -> Array:
        """Return which numbers of a row come from a column."""
        return np.flatnonzero([origin == column for origin, _ in self._features])

    @cached_property
    def transformers(self) -> tuple[Any, Any, Any]:
        """The SimpleImputer and StandardScaler of the numbers and the OneHotEncoder of the categories, as fitted."""
        from sklearn.impute import SimpleImputer
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        scaler = StandardScaler()
        if len(self.medians):
            imputer.fit(self.medians[None])  # whose medians are these
            scaler.fit(self.means[None])
            scaler.scale_, scaler.var_ = self.scales, self.scales**2
        known = [
            [*levels, OTHER] if other else [*levels] for levels, other in zip(self.levels, self.others, strict=True)
        ]
        encoder = OneHotEncoder(
            categories=[np.array(names, object) for names in known],
            min_frequency=2,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
            dtype=np.float32,
        )
        if known:
            # Rows in which every category is twice and OTHER once: it is infrequent, and takes all that is unknown.
            longest = 2 * max(map(len, known))
            sample = [
                ([*names, *levels] + longest * [levels[0]])[:longest]
                for names, levels in zip(known, self.levels, strict=True)
            ]
            encoder.fit(np.array(sample, object).T)
        return imputer, scaler, encoder

    def transform(self, data: Table | DataFrame) -> Array:
        """Return rows as an array (rows, width) of float32. Other columns and their order do not matter.

        Raises DataError if a column is missing, or holds text where it held numbers or dates.
        """
        frame = frame_of(data)
        check_there([column.name for column in self.columns], list(frame.columns), "the table")
        imputer, scaler, encoder = self.transformers
        rows = np.empty((len(frame), self.width), np.float32)
        for part, place in _parts(frame):
            numbers, texts = _numbers_and_texts(self.columns, part)
            filled = [np.isnan(numbers)[:, self.indicated]]
            if numbers.shape[1]:
                filled.insert(0, _as_float32(scaler.transform(imputer.transform(numbers)), self, part))
            if texts.shape[1]:
                filled.append(encoder.transform(texts))
            rows[place] = np.concatenate(filled, axis=1)
        return rows

    def range_of(self, column: Column) -> tuple[float, float]:
        """Return the smallest and the largest number of a column of numbers in training; NaN if they were not kept."""
        if self.ranges is None:
            return math.nan, math.nan
        smallest, largest = self.ranges[:, [origin for origin, _ in self.number_features].index(column)].tolist()
        return smallest, largest

    def remarks(self, frame: DataFrame) -> list[str]:
        """Return what in rows is unlike the rows of training: missing cells, strange values, other columns."""
        unlike, frame = Unlike(), as_frame(frame, "the table")
        unlike.count(self, frame)
        return unlike.remarks(self, list(frame.columns))

    def dataset(self, table: Table) -> Dataset:
        """Return rows with their targets for `ns.fit`: numbers of classes, or standardized numbers."""
        x = self.transform(_checked_table("dataset", table))
        if self.target.task == "classification":
            return Dataset(x, table.y, self.target.classes, table.name)
        return Dataset(x, ((table.y - self.prior[0]) / self.target_scale).astype(np.float32), None, table.name)


def frame_of(data: Table | DataFrame) -> DataFrame:
    """Return the rows of a Table, or a DataFrame whose columns are named by text."""
    return data.frame if isinstance(data, Table) else as_frame(data, "the table")


def _checked_table(caller: str, table: Any) -> Table:
    if not isinstance(table, Table):
        raise OptionError(
            f"{caller} takes a Table, as tables.from_frame(frame, target=...) makes it; got {type(table).__name__}"
        )
    return table


@dataclass
class Unlike:
    """Counts what in rows is unlike the rows of training, part by part of a table that is too large to hold."""

    missing: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    far: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def count(self, prepare: Preprocessor, frame: DataFrame) -> None:
        """Count by column: missing cells, categories that training did not have, numbers far outside of its own."""
        seen = {
            column.name: {"", *levels, *others}
            for (column, _), levels, others in zip(
                prepare.category_features, prepare.levels, prepare.others, strict=True
            )
        }
        for column in prepare.columns:
            cells = frame[column.name]
            if column.kind == "number":
                numbers = column.numbers(cells)[:, 0]
                self.missing[column.name] += int(np.isnan(numbers).sum())
                self._note(self.far, column.name, numbers[_far_outside(numbers, *prepare.range_of(column))])
                continue
            texts = column.categories(cells)[:, 0]
            self.missing[column.name] += int((texts == "").sum())
            if column.kind != "date":
                known = seen[column.name]
                self._note(self.unknown, column.name, [text for text in texts if text not in known])

    def _note(self, counter: Counter[str], name: str, strange: Sequence[Any] | Array) -> None:
        counter[name] += len(strange)
        if len(strange):
            first = strange[0]
            self.examples.setdefault(name, f"{first:.7g}" if isinstance(first, float) else str(first))

    def remarks(self, prepare: Preprocessor, names: Collection[str]) -> list[str]:
        """Return what was counted, in words; `names` are those of all columns."""
        known = {prepare.target.name, *(column.name for column in prepare.columns)}
        extra = [name for name in names if name not in known]
        found = [f"{'columns' if len(extra) > 1 else 'column'} not used: {some(extra)}"] if extra else []
        for name, count in (+self.missing).items():
            found.append(
                f"'{printable(name)}' is missing in {counted(count, 'row')}, where it is filled in as in training"
            )
        for column in prepare.columns:
            if count := self.far[column.name]:
                smallest, largest = prepare.range_of(column)
                name, rows = printable(column.name), f"{counted(count, 'row')}, such as {self.examples[column.name]}"
                if smallest == largest:  # the median where training had no number at all
                    found.append(f"'{name}' had no two different numbers in training, and has another in {rows}")
                else:
                    found.append(f"'{name}' is far outside training's {smallest:.7g} to {largest:.7g} in {rows}")
        for name, count in (+self.unknown).items():
            example = cut(printable(self.examples[name]), 40)
            rows = counted(count, "row")
            found.append(f"'{printable(name)}' has values never seen in training in {rows}, such as '{example}'")
        return found


def _far_outside(numbers: Array, smallest: float, largest: float) -> Array:
    """Return which numbers are farther from a range than it is wide; none are where it is NaN."""
    with np.errstate(over="ignore"):
        return np.abs(numbers - (smallest / 2 + largest / 2)) > 1.5 * (largest - smallest)


def _parts(frame: DataFrame) -> Iterator[tuple[DataFrame, slice]]:
    """Yield rows, so many at a time that what is made of them on the way stays small."""
    for start in range(0, len(frame), ROWS_AT_A_TIME):
        place = slice(start, start + ROWS_AT_A_TIME)
        yield frame.iloc[place], place


def _numbers_and_texts(columns: tuple[Column, ...], frame: DataFrame) -> tuple[Array, Array]:
    """Return the number features (rows, features) as float64, and the category features as text."""
    numbers = [np.empty((len(frame), 0)), *(column.numbers(frame[column.name]) for column in columns)]
    texts = [np.empty((len(frame), 0), object), *(column.categories(frame[column.name]) for column in columns)]
    return np.concatenate(numbers, axis=1), np.concatenate(texts, axis=1)


def _check_scales(table: Table, means: Array, scales: Array, spans: Array) -> None:
    names = [column.name for column in table.columns for _ in column.number_parts]
    for name, mean, scale, span in zip(names, means, scales, spans, strict=True):
        if not (np.isfinite(mean) and np.isfinite(scale)):
            raise DataError(f"column '{printable(name)}' holds numbers too large to scale; divide them first")
        if 0 < span < SMALLEST_SPAN:
            raise DataError(f"column '{printable(name)}' holds numbers too small to scale; multiply them first")


def _prior_and_scale(table: Table) -> tuple[Array, float]:
    """Return the shares of the classes and 1; or of numbers the mean and the standard deviation, 1 in place of 0."""
    if table.target.task == "classification":
        counts = np.bincount(table.y, minlength=len(table.target.classes))
        return counts / counts.sum(), 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = table.y.mean(), table.y.std()
    if not np.isfinite(deviation):
        name = printable(table.target.name)
        raise DataError(f"the target '{name}' holds numbers too large to scale; divide them first")
    if 0 < np.ptp(table.y) < SMALLEST_SPAN:
        name = printable(table.target.name)
        raise DataError(f"the target '{name}' holds numbers too small to scale; multiply them first")
    return np.array([mean]), float(deviation) or 1.0


def _as_float32(numbers: Array, prepare: Preprocessor, frame: DataFrame) -> Array:
    too_large = np.abs(numbers) > np.finfo(np.float32).max
    if too_large.any():
        row, place = np.argwhere(too_large)[0]
        name = prepare.number_features[place][0].name
        raise DataError(
            f"column '{printable(name)}' holds a number in row {frame.index[row]} that is far from all in training"
        )
    return numbers.astype(np.float32)
