"""What a column seems to be, guessed from its cells: `examine` for those to predict from, `find_target` for the target.

A guess that could be wrong without a word is not made: the column is refused, with advice. Text that is different in
almost every row, such as names and numbers of tickets, is no kind: a network cannot learn from what it will never see
again. A column of one value tells nothing, and is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError
from nissl.tables.cells import Cells, dates_in, numbers_in, text_of
from nissl.tables.columns import DATE_FORMATS, NO, YES, Column, Target, as_yes_or_no
from nissl.text import cut_apart, printable, some

if TYPE_CHECKING:
    from pandas import Series

Array = npt.NDArray[Any]

FEW_CLASSES = 10  # a target of so many different whole numbers at most is taken for classes
FEW_WORDS = 20  # that are no numbers, in a column that is said to hold numbers
MANY_TEXTS = 20  # from so many on, texts that are mostly different are no categories

SEASON = re.compile(r"\d\d(\d\d)[-/](\d\d)")
THREE_NUMBERS = re.compile(r"(\d+)\.(\d+)\.(\d+)")

# A number with a currency, thousands separators or a unit.
DECORATED = re.compile(
    r"(?P<before>[$€£¥₹]|[A-Z]{3})?\s*[+-]?"
    r"(?:\d+|\d{1,3}(?:[,.'’ \u00a0\u202f]\d{3})+)(?:[.,]\d+)?"
    r"\s*(?P<after>[a-zA-Z%°²³µ/$€£¥₹]{0,8})"
)


class TableError(DataError):
    """A table that cannot be used as it is, but could be with other arguments of `read`.

    `remedies` maps words to such arguments by their names, each a text or a list of texts.
    """

    def __init__(self, problem: str, remedies: Mapping[str, Mapping[str, Any]]) -> None:
        self.problem = problem
        self.remedies = remedies
        super().__init__(self.said(lambda name, value: f"{name}={value!r}"))

    def said(self, spelled: Callable[[str, Any], str]) -> str:
        """Return problem and remedies in words, with arguments as `spelled` says them."""
        told = (
            f"{words}: {' '.join(spelled(*argument) for argument in arguments.items())}"
            for words, arguments in self.remedies.items()
        )
        return f"{self.problem}. {'; '.join(told)}"


@dataclass(frozen=True)
class Finding:
    """What was found out about a column: the Column, or why there is none; for a line of the overview.

    With `advice` the column cannot be used, and the table is refused; without, it is left out. `could_be` is the kind
    that it can be told to be nevertheless.
    """

    name: str
    column: Column | None
    kind: str
    values: str
    missing: int
    remark: str = ""
    advice: str = ""
    could_be: str = ""


def examine(series: Series, name: str, wanted: str | None = None) -> Finding:
    """Return what a column is, or what it is told to be by `wanted`, "number" or "category"."""
    import pandas as pd

    cells = Cells(series, name)
    different = cells.different
    if not different:
        return _finding(cells, "left out", "all missing")
    if len(different) == 1 and cells.present in (1, len(cells)):
        where = " in 1 row" if cells.present == 1 else ""
        return _finding(cells, "left out", f"only {_quoted(different)}{where}")
    if wanted == "category":
        return _category(cells)
    if wanted == "number":
        return _forced_number(cells)
    if cells.are_dates:
        return _date(cells, None)
    if pd.api.types.is_bool_dtype(series) or _say_yes_or_no(different):
        said = set(as_yes_or_no(np.array(different, object)))
        return _finding(cells, Column(name, "yes/no"), ", ".join(sorted(said)))
    if cells.are_numbers:
        return _number(cells)
    strange = [value for value in cells.values[:100] if not isinstance(value, str | int | float | np.number)]
    if strange:
        kind = type(strange[0]).__name__
        return _finding(cells, kind, _quoted(different[:1]), advice=f"'{name}' holds {kind}, not values")
    return _text(cells)


def _finding(cells: Cells, found: Column | str, values: str, **more: str) -> Finding:
    """Return the Finding that cells are a column, or are none but of a kind that is called so."""
    if isinstance(found, Column):
        return Finding(cells.name, found, found.kind, values, len(cells) - cells.present, **more)
    return Finding(cells.name, None, found, values, len(cells) - cells.present, **more)


def _text(cells: Cells) -> Finding:
    """Return what a column of text is."""
    name, different, present = cells.name, cells.different, cells.present
    words = _words(different)
    if not words:
        return _number(cells)
    date_format = _date_format(different)
    if date_format is not None:
        return _date(cells, date_format)
    example = _quoted(different[:3])
    if len(words) <= 0.2 * len(different):
        advice = f"'{name}' holds numbers, but also {some(words, 3)}: correct them, or take them as missing"
        return _finding(cells, "mixed", example, advice=advice, could_be="number")
    if _decorated(different):
        advice = (
            f"'{name}' holds numbers with thousands separators or units, such as {_quoted(words[-1:])}: write "
            "plain numbers, as in 1234.5, or keep them as text"
        )
        return _finding(cells, "decorated", example, advice=advice, could_be="category")
    if len(different) == present or (len(different) > MANY_TEXTS and len(different) > present / 2):
        words_each = np.mean([text.count(" ") + 1 for text in different[:1000]])
        kind = "free text" if words_each > 3 else "identifier"
        advice = (
            f"'{name}' ({kind}: {len(different)} different ones in {present} rows, such as {_quoted(different[:1])})"
        )
        return _finding(cells, kind, example, advice=advice)
    return _category(cells)


def _number(cells: Cells) -> Finding:
    numbers = cells.as_numbers()
    shown = _range(numbers)
    if cells.present > MANY_TEXTS and _number_the_rows(numbers, cells.series.index):
        advice = f"'{cells.name}' (identifier: it numbers the rows from {shown}, unless it means something)"
        return _finding(cells, "identifier", shown, advice=advice, could_be="number")
    return _finding(cells, Column(cells.name, "number"), shown)


def _number_the_rows(numbers: Array, index: Any) -> bool:
    """Return whether numbers are those from one on, each once; or go up with the index, of which rows may lack."""
    known = numbers[~np.isnan(numbers)]
    if (known != np.floor(known)).any():
        return False
    if known.max() == known.min() + len(known) - 1 and len(np.unique(known)) == len(known):
        return True
    return len(known) == len(numbers) and index.dtype.kind in "iu" and len(np.unique(known - np.asarray(index))) == 1


def _forced_number(cells: Cells) -> Finding:
    """Return a column of numbers, whatever it looks like; a few words in it stand for missing numbers."""
    unread = np.isnan(numbers_in(cells.values))
    words = sorted({text_of(value) for value in cells.values[unread]} - {""})
    if len(words) > FEW_WORDS or unread.all():
        advice = f"'{cells.name}' is no column of numbers: it holds {some(words, 3)}"
        return _finding(cells, "text", _quoted(words[:3]), advice=advice)
    numbers = cells.as_numbers(words)
    remark = f"{some(words, 3)} in '{cells.name}' count as missing" if words else ""
    column = Column(cells.name, "number", missing_words=tuple(words))
    return replace(_finding(cells, column, _range(numbers), remark=remark), missing=int(np.isnan(numbers).sum()))


def _category(cells: Cells) -> Finding:
    import pandas as pd

    counts = pd.Series(cells.as_text()).value_counts()
    names = [str(text) for text in counts.index if text != ""]
    more = ", …" if len(names) > 3 else ""
    shown = f"{len(names)}: {', '.join(_short(names[:3]))}{more}"
    return _finding(cells, Column(cells.name, "category"), shown)


def _say_yes_or_no(texts: list[str]) -> bool:
    """Return whether texts say yes in one word at most, and no in one, however they are capitalized.

    T and Y in one column are two codes, not yes twice.
    """
    words = {text.lower() for text in texts}
    return words <= {*YES, *NO} and len(words & {*YES}) <= 1 and len(words & {*NO}) <= 1


def _date(cells: Cells, date_format: str | None) -> Finding:
    times = cells.as_dates(date_format)
    known = times[~np.isnat(times)]
    hours = bool((known != known.astype("datetime64[D]")).any())
    unit = "m" if hours else "D"
    values = " to ".join(str(time.astype(f"datetime64[{unit}]")) for time in (known.min(), known.max()))
    remark = ""
    if date_format is not None and date_format.startswith("%m/%d/%"):
        days_first = date_format.replace("%m/%d", "%d/%m")
        if _fits(cells.different, days_first):
            remark = (
                f"dates in '{cells.name}' are read as month/day/year; if the day comes first, write them as 2024-12-31"
            )
    return _finding(cells, Column(cells.name, "date", date_format, hours), values, remark=remark)


def _date_format(texts: list[str]) -> str | None:
    """Return the first format in which all texts are dates."""
    if not any(letter.isdigit() for letter in texts[0]):
        return None
    sample = texts[:: max(1, len(texts) // 20)]  # most formats fail on the first of a few
    found = next((known for known in DATE_FORMATS if _fits(sample, known) and _fits(texts, known)), None)
    return None if found is None or _are_seasons(texts) or _are_versions(texts, found) else found


def _fits(texts: list[str], date_format: str) -> bool:
    try:
        return not np.isnat(dates_in(texts, date_format, "raise")).any()
    except (ValueError, OverflowError):  # pandas' ways to say no
        return False


def _are_seasons(texts: list[str]) -> bool:
    """Return whether each text is a year and the next one, as in 2009-10; as a month, each would be another."""
    matches = [SEASON.fullmatch(text) for text in texts]
    return all(match is not None and (int(match[1]) + 1) % 100 == int(match[2]) for match in matches)


def _are_versions(texts: list[str], date_format: str) -> bool:
    """Return whether texts that could be dates are rather versions, as 1.2.10 is, or 2020.1.3.

    Of three numbers with points between them, those of dates have two digits, or four for the year; or some day is
    beyond 12, where only a month of 1 to 12 stands beside it. With a year of four digits at the end they are dates.
    """
    matches = [THREE_NUMBERS.fullmatch(text) for text in texts]
    if date_format not in ("ISO8601", "%d.%m.%y") or None in matches:
        return False
    dates = [match.groups() for match in matches if match is not None]
    has_two_digits = all(len(part) in (2, 4) for date in dates for part in date)
    place_of_day = 2 if date_format == "ISO8601" else 0
    return not has_two_digits and all(int(date[place_of_day]) <= 12 for date in dates)


def find_target(series: Series, name: str, task: str | None = None) -> tuple[Target, str]:
    """Return the Target that a column of values is, and why it is taken for one of classes or numbers.

    Text, yes and no, and at most FEW_CLASSES different whole numbers are classes, other numbers are numbers. Raises
    DataError if there is nothing to predict.
    """
    cells = Cells(series, name)
    different = cells.different
    if not different:
        raise DataError(f"the target {some([name])} is missing in every row")
    if len(different) == 1:
        raise DataError(
            f"the target {some([name])} is {_quoted(different)} in every row that has one; nothing can be told apart"
        )
    numbers = numbers_in(different)
    if np.isnan(numbers).any():
        return _text_target(cells, task)
    whole = bool((np.isfinite(numbers) & (numbers == np.floor(numbers))).all())
    few = whole and len(different) <= FEW_CLASSES and len(different) <= cells.present / 2
    if task == "regression" or (task is None and not few):
        return Target(name, "regression"), "numbers" if task is None else "as told"
    _check_classes(cells)
    ordered = [different[i] for i in np.argsort(numbers, kind="stable")]
    reason = f"{len(different)} different whole numbers" if task is None else "as told"
    return Target(name, "classification", tuple(ordered)), reason


def _text_target(cells: Cells, task: str | None) -> tuple[Target, str]:
    """Return the Target for a column that is not numbers throughout."""
    name, different = cells.name, cells.different
    words = _words(different)
    if task == "regression":
        if len(words) > FEW_WORDS or len(words) > 0.2 * len(different):
            raise DataError(f"regression predicts numbers, but the target {some([name])} holds {_quoted(words[:3])}")
        return Target(name, "regression", missing_words=tuple(words)), "as told"
    if task is None and len(words) <= 0.2 * len(different):
        raise TableError(
            f"the target {some([name])} holds numbers, but also {some(words, 3)}: correct them",
            {"Or leave those rows out": {"task": "regression"}, "or take all as classes": {"task": "classification"}},
        )
    if task is None and len(different) > FEW_CLASSES and _decorated(different):
        raise TableError(
            f"the target {some([name])} holds numbers with thousands separators or units, such as "
            f"{_quoted(words[-1:])}: write plain numbers, as in 1234.5",
            {"Or take them as classes": {"task": "classification"}},
        )
    _check_classes(cells)
    return Target(name, "classification", tuple(different)), "text"


def _check_classes(cells: Cells) -> None:
    different, present = cells.different, cells.present
    if len(different) > present / 2:
        raise DataError(
            f"the target {some([cells.name])} has {len(different)} different values in {present} rows, such as "
            f"{_quoted(different[:1])}: too many to be classes"
        )


def _words(texts: list[str]) -> list[str]:
    """Return the texts that are no numbers."""
    return [text for text, number in zip(texts, numbers_in(texts), strict=True) if np.isnan(number)]


def _decorated(texts: list[str]) -> bool:
    """Return whether texts are numbers with one currency or unit, or with thousands separators."""
    found = [match for match in map(DECORATED.fullmatch, texts) if match]
    marks = Counter((match["before"] or "", match["after"]) for match in found)
    return len(found) > 0.8 * len(texts) and max(marks.values()) > 0.8 * len(found)


def _range(numbers: Array) -> str:
    return f"{np.nanmin(numbers):g} to {np.nanmax(numbers):g}"


def _quoted(texts: list[str]) -> str:
    return ", ".join(f"'{text}'" for text in _short(texts))


def _short(texts: Iterable[str]) -> list[str]:
    return cut_apart([printable(text) for text in texts], 24)
