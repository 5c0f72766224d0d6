"""What a column of a table is: a Column to predict from, or the Target; and how its cells become numbers or text.

A column is one of four kinds. `number`: numbers, whole ones too, since most of those are counts or have an order.
`category`: text that comes again and again. `yes/no`: text that says one or the other in a word of YES or NO. `date`:
text in one of DATE_FORMATS. `guessing` finds out which. What is kept with a model is plain data: names, words, formats.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError, OptionError
from nissl.tables.cells import Cells, values_of
from nissl.text import nearest, printable, some

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Array = npt.NDArray[Any]

KINDS = ("number", "category", "yes/no", "date")
TASKS = ("classification", "regression")
YES, NO = ("yes", "y", "true", "t"), ("no", "n", "false", "f")

# The first that fits all cells is taken: ISO 8601, then days first with points, months first with slashes. Texts that
# are plainly something else, seasons or versions, are no dates though they fit.
DATE_FORMATS = (
    "ISO8601",
    *(f"{date}{time}" for date in ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d-%m-%Y", "%d.%m.%y", "%m/%d/%y")
      for time in ("", " %H:%M", " %H:%M:%S")),
    *("%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%b %Y", "%B %Y"),
)  # fmt: skip
DATE_PARTS = ("days", "day", "hour")  # as numbers; days since 1970, with the fraction of the day
DATE_NAMES = ("month", "weekday")  # as categories


@dataclass(frozen=True)
class Column:
    """A column that a model takes: its name and kind, and how its cells are read.

    `date_format` is one of DATE_FORMATS; `hours` says whether the dates have times of day. `missing_words` are texts
    that stand for a missing number.
    """

    name: str
    kind: str
    date_format: str | None = None
    hours: bool = False
    missing_words: tuple[str, ...] = ()

    @property
    def number_parts(self) -> tuple[str, ...]:
        """What of a cell becomes a number; "" is the cell itself."""
        if self.kind == "date":
            return DATE_PARTS if self.hours else DATE_PARTS[:-1]
        return ("",) if self.kind == "number" else ()

    @property
    def category_parts(self) -> tuple[str, ...]:
        """What of a cell becomes a category; "" is the cell itself."""
        return DATE_NAMES if self.kind == "date" else () if self.kind == "number" else ("",)

    def numbers(self, cells: Series) -> Array:
        """Return the number parts of cells as an array (rows, parts) of float64, NaN where they are missing."""
        if self.kind == "number":
            return Cells(cells, self.name).as_numbers(self.missing_words)[:, None]
        if self.kind != "date":
            return np.empty((len(cells), 0))
        times = Cells(cells, self.name).as_dates(self.date_format)
        days = (times - np.datetime64(0, "s")) / np.timedelta64(1, "D")
        month = times.astype("datetime64[M]")
        # The difference of a missing date is NaT, which becomes NaN.
        day = (times.astype("datetime64[D]") - month.astype("datetime64[D]")) / np.timedelta64(1, "D") + 1
        hour = (days - np.floor(days)) * 24
        parts = {"days": days, "day": day, "hour": hour}
        return np.stack([parts[part] for part in self.number_parts], axis=1)

    def categories(self, cells: Series) -> Array:
        """Return the category parts of cells as an array (rows, parts) of text, "" where they are missing."""
        if self.kind == "number":
            return np.empty((len(cells), 0), object)
        if self.kind != "date":
            texts = Cells(cells, self.name).as_text()
            return (as_yes_or_no(texts) if self.kind == "yes/no" else texts)[:, None]
        times = Cells(cells, self.name).as_dates(self.date_format)
        months = times.astype("datetime64[M]").astype(np.int64) % 12 + 1
        weekdays = (times.astype("datetime64[D]").astype(np.int64) + 3) % 7 + 1  # 1 January 1970 was a Thursday
        known = ~np.isnat(times)
        names = np.array(["", *map(str, range(1, 13))], object)
        return np.stack([names[np.where(known, part, 0)] for part in (months, weekdays)], axis=1)


@dataclass(frozen=True)
class Target:
    """What a model predicts: a column of classes, or of numbers.

    `classes` are the texts of the classes in their order, none for numbers. `missing_words` are texts that stand for a
    missing number.
    """

    name: str
    task: str
    classes: tuple[str, ...] = ()
    missing_words: tuple[str, ...] = ()

    @property
    def class_values(self) -> tuple[Any, ...]:
        """The classes as what their texts say: whole numbers, numbers, True and False, or text."""
        return values_of(self.classes)

    def values(self, cells: Series) -> Array:
        """Return the numbers of the classes of cells, or their numbers; -1 or NaN where a cell is empty.

        Raises DataError for a class that is none of `classes`, or for text where a number belongs.
        """
        if self.task == "regression":
            return Cells(cells, self.name).as_numbers(self.missing_words)
        texts = Cells(cells, self.name).as_text()
        codes = {name: code for code, name in enumerate(self.classes)} | {"": -1}
        strange = sorted({text for text in texts if text not in codes})
        if strange:
            raise DataError(f"the target {some([self.name])} holds {some(strange, 3)}, not one of {some(self.classes)}")
        return np.array([codes[text] for text in texts], np.int64)


def as_yes_or_no(texts: Array) -> Array:
    """Return "yes" and "no" for texts that say so in a word of YES or NO, other texts as they are."""
    words = dict.fromkeys(YES, "yes") | dict.fromkeys(NO, "no")
    return np.array([words.get(text.lower(), text) for text in texts], object)


def as_frame(data: Any, where: str) -> DataFrame:
    """Return a DataFrame whose columns are named by text, each by a name of its own."""
    import pandas as pd

    if not isinstance(data, pd.DataFrame):
        one_row = "; for one row write frame.iloc[[i]]" if isinstance(data, pd.Series) else ""
        raise OptionError(f"{where} is a DataFrame of pandas, got {type(data).__name__}{one_row}")
    # Not by `rename`, which would name the levels of a MultiIndex, one by one.
    frame = data if all(isinstance(name, str) for name in data.columns) else data.set_axis([*map(str, data)], axis=1)
    double = sorted(set(frame.columns[frame.columns.duplicated()]))
    if double:
        raise DataError(f"{where} has more than one column named {some(double)}; give each a name of its own")
    return frame


def check_there(names: Collection[str], there: Collection[str], where: str) -> None:
    """Raise DataError if a table with the columns `there` lacks one, and say which of its own is most like it."""
    lacking = [name for name in names if name not in there]
    if len(lacking) > 1:
        raise DataError(f"{where} lacks the columns {some(lacking)}; it has {some(there)}")
    if lacking:
        near = nearest(lacking[0], there)
        raise DataError(f"{where} has no column '{printable(lacking[0])}'{near or f'; it has {some(there)}'}")
