"""The cells of a column as text, numbers or dates, whatever they are kept as; what cannot be read so is refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError
from nissl.tables.reading import MISSING
from nissl.text import printable, some

if TYPE_CHECKING:
    from pandas import Series

Array = npt.NDArray[Any]

RELATIVE_DATES = ("now", "today")  # which pandas would read as the time at which it reads them


class Cells:
    """The cells of a column, each different value of which is read once.

    >>> import pandas as pd
    >>> Cells(pd.Series([3.0, None]), "x").as_text(), Cells(pd.Series([" a", "NA", "3.0"]), "x").as_text()
    (array(['3', ''], dtype=object), array(['a', '', '3'], dtype=object))
    """

    def __init__(self, series: Series, name: str) -> None:
        self.series = series
        self.name = name

    def __len__(self) -> int:
        return len(self.series)

    @cached_property
    def _codes_and_values(self) -> tuple[Array, Array]:
        import pandas as pd

        series = self.series
        if isinstance(series.dtype, pd.CategoricalDtype):
            series = series.astype(object)
        try:
            codes, values = pd.factorize(series)
        except TypeError:  # what cannot be hashed
            kind = type(next(value for value in series if not _has_hash(value))).__name__
            raise DataError(
                f"column {some([self.name])} holds {kind}, neither numbers nor text nor dates; leave it out: "
                f"drop={[printable(self.name)]}"
            ) from None
        return np.asarray(codes), np.asarray(values, object)

    @property
    def codes(self) -> Array:
        """For each cell, which of `values` it is, or -1 where it is missing."""
        return self._codes_and_values[0]

    @property
    def values(self) -> Array:
        """The different values."""
        return self._codes_and_values[1]

    @cached_property
    def texts(self) -> list[str]:
        """The different values as text, "" for one that means that a cell is missing."""
        return [text_of(value) for value in self.values]

    @cached_property
    def different(self) -> list[str]:
        """The different texts, sorted."""
        return sorted({text for text in self.texts if text})

    @cached_property
    def present(self) -> int:
        """How many cells are not missing."""
        return int(np.append([text != "" for text in self.texts], False)[self.codes].sum())

    @property
    def are_numbers(self) -> bool:
        """Whether the cells are kept as numbers."""
        import pandas as pd

        return pd.api.types.is_numeric_dtype(self.series) and not pd.api.types.is_complex_dtype(self.series)

    @property
    def are_dates(self) -> bool:
        """Whether the cells are kept as dates."""
        import pandas as pd

        return pd.api.types.is_datetime64_any_dtype(self.series)

    def as_text(self) -> Array:
        """Return cells as text, without blanks around them; "" for those that are missing, "3" for 3.0."""
        return np.array([*self.texts, ""], object)[self.codes]

    def as_numbers(self, missing_words: Collection[str] = ()) -> Array:
        """Return cells as float64, NaN where they are missing; raise DataError for text, or an infinite number."""
        if self.are_numbers:
            numbers = self.series.to_numpy(float, na_value=np.nan)
        else:
            said = numbers_in(self.values)
            wrong = np.isnan(said)
            wrong[wrong] = [text_of(value) not in {"", *missing_words} for value in self.values[wrong]]
            if wrong.any():
                raise self._strange(wrong, "numbers")
            numbers = np.append(said, np.nan)[self.codes]
        infinite = np.isinf(numbers)
        if infinite.any():
            row = self.series.index[int(infinite.argmax())]
            raise DataError(
                f"column {some([self.name])} holds an infinite number in row {row}; correct it, or leave the cell empty"
            )
        return numbers

    def as_dates(self, date_format: str | None) -> Array:
        """Return cells as datetime64[s] without a time zone (UTC where they had one), NaT where they are missing."""
        if self.are_dates:
            return _seconds(self.series)
        known = np.array([text != "" for text in self.texts], bool)
        dates = dates_in([text or None for text in self.texts], date_format or "ISO8601", errors="coerce")
        wrong = np.isnat(dates) & known
        if wrong.any():
            shown = "%Y-%m-%d" if date_format in (None, "ISO8601") else str(date_format)
            raise self._strange(wrong, f"dates such as {datetime(2024, 12, 31).strftime(shown)}")
        return np.append(dates, np.datetime64("NaT", "s"))[self.codes]

    def _strange(self, wrong: Array, held: str) -> DataError:
        """Return the error for a column that holds other than what it held; `wrong` says which values do."""
        row = int(np.flatnonzero(np.append(wrong, False)[self.codes])[0])
        word = printable(self.values[self.codes[row]])[:40]
        return DataError(f"column {some([self.name])} holds {held}, but row {self.series.index[row]} says '{word}'")


def _has_hash(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def text_of(value: object) -> str:
    """Return a value as text, "" for one that means that a cell is missing."""
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"[+-]?\d+\.0+", text):  # a whole number; "2.10.0" and "v1.0" are none
            return text.partition(".")[0]
        return "" if text in MISSING else text
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def numbers_in(values: Iterable[object]) -> Array:
    """Return each value as the number that it says, or NaN."""
    import pandas as pd

    texts = pd.Series([str(value).strip() for value in values], dtype=object)
    return np.asarray(pd.to_numeric(texts, errors="coerce"), float)


def dates_in(texts: Iterable[str | None], date_format: str, errors: Any) -> Array:
    """Return texts as datetime64[s]; those that are no dates raise ValueError, or are NaT if `errors` is "coerce"."""
    import pandas as pd

    said = pd.Series(list(texts), dtype=object)
    has_sign = said.str.startswith(("+", "-"), na=False)  # which would make a year before Christ of -1
    said = said.mask(said.str.lower().isin(RELATIVE_DATES) | has_sign, "no date")
    return _seconds(pd.Series(pd.to_datetime(said, format=date_format, errors=errors, utc=True)))


def _seconds(times: Series) -> Array:
    if getattr(times.dt, "tz", None) is not None:
        times = times.dt.tz_convert("UTC").dt.tz_localize(None)
    return times.to_numpy().astype("datetime64[s]")


def values_of(texts: tuple[str, ...]) -> tuple[Any, ...]:
    """Return texts as what all of them say: whole numbers, numbers, True and False, or text.

    >>> values_of(("1", "2")), values_of(("007", "008")), values_of(("0.5", "2"))
    ((1, 2), ('007', '008'), (0.5, 2.0))
    """
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,99})", text) for text in texts):
        return tuple(map(int, texts))
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,14})(\.\d+)?", text) for text in texts):  # float64 holds 15 digits
        return tuple(map(float, texts))
    if set(texts) <= {"True", "False"}:
        return tuple(text == "True" for text in texts)
    return texts
