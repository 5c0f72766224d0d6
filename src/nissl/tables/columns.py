"""What the columns of a table are, and their cells as numbers or as text.

A column is one of four kinds. `number`: numbers, whole ones too, since most of those are counts or have an order.
`category`: text that comes again and again. `yes/no`: text that says one or the other, each in one word of YES and NO;
where more of these words occur, they may be codes, and are categories. `date`: text in one of DATE_FORMATS. Text that
is different in almost every row, such as names and numbers of tickets, is no kind: a network cannot learn from what it
will never see again. A column of one value tells nothing.

Everything that is found here and kept with a model is plain data: names, words, formats.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError, OptionError
from nissl.tables.reading import MISSING
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

FEW_CLASSES = 10  # a target of so many different whole numbers at most is taken for classes
FEW_WORDS = 20  # that are no numbers, in a column that is said to hold numbers
MANY_TEXTS = 20  # from so many on, texts that are mostly different are no categories

SEASON = re.compile(r"\d\d(\d\d)[-/](\d\d)")
THREE_NUMBERS = re.compile(r"(\d+)\.(\d+)\.(\d+)")
RELATIVE_DATES = ("now", "today")  # which pandas would read as the time at which it reads them

# A number with a currency, thousands separators or a unit.
DECORATED = re.compile(
    r"(?P<before>[$€£¥₹]|[A-Z]{3})?\s*[+-]?"
    r"(?:\d+|\d{1,3}(?:[,.'’ \u00a0\u202f]\d{3})+)(?:[.,]\d+)?"
    r"\s*(?P<after>[a-zA-Z%°²³µ/$€£¥₹]{0,8})"
)


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
            return as_numbers(cells, self.name, self.missing_words)[:, None]
        if self.kind != "date":
            return np.empty((len(cells), 0))
        times = as_dates(cells, self.name, self.date_format)
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
            texts = as_text(cells)
            return (_as_yes_or_no(texts) if self.kind == "yes/no" else texts)[:, None]
        times = as_dates(cells, self.name, self.date_format)
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
        return plain_values(self.classes)

    def values(self, cells: Series) -> Array:
        """Return the numbers of the classes of cells, or their numbers; -1 or NaN where a cell is empty.

        Raises DataError for a class that is none of `classes`, or for text where a number belongs.
        """
        if self.task == "regression":
            return as_numbers(cells, self.name, self.missing_words)
        texts = as_text(cells)
        codes = {name: code for code, name in enumerate(self.classes)} | {"": -1}
        strange = sorted({text for text in texts if text not in codes})
        if strange:
            raise DataError(f"the target {some([self.name])} holds {some(strange, 3)}, not one of {some(self.classes)}")
        return np.array([codes[text] for text in texts], np.int64)


def as_text(cells: Series) -> Array:
    """Return cells as text, without blanks around them; "" for those that are missing, "3" for 3.0.

    >>> import pandas as pd
    >>> as_text(pd.Series([3.0, None])), as_text(pd.Series([" a", "NA", "3.0"]))
    (array(['3', ''], dtype=object), array(['a', '', '3'], dtype=object))
    """
    codes, found = _different(cells)
    texts = [_text(value) for value in found]
    return np.array([*texts, ""], object)[codes]


def _different(cells: Series) -> tuple[Array, Array]:
    """Return the different values, and for each cell which it is, or -1 where it is missing."""
    import pandas as pd

    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(object)
    try:
        codes, found = pd.factorize(cells)
    except TypeError:  # what cannot be hashed
        kind = type(cells.dropna().iloc[0]).__name__
        name = str(cells.name)
        raise DataError(
            f"column {some([name])} holds {kind}, neither numbers nor text nor dates; leave it out: "
            f"--drop {_argument(name)}"
        ) from None
    return np.asarray(codes), np.asarray(found, object)


def _text(value: object) -> str:
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"[+-]?\d+\.0+", text):  # a whole number; "2.10.0" and "v1.0" are none
            return text.partition(".")[0]
        return "" if text in MISSING else text
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def plain_values(texts: tuple[str, ...]) -> tuple[Any, ...]:
    """Return texts as what all of them say: whole numbers, numbers, True and False, or text.

    >>> plain_values(("1", "2")), plain_values(("007", "008")), plain_values(("0.5", "2"))
    ((1, 2), ('007', '008'), (0.5, 2.0))
    """
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", text) for text in texts):
        return tuple(map(int, texts))
    if all(re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", text) for text in texts):
        return tuple(map(float, texts))
    if set(texts) <= {"True", "False"}:
        return tuple(text == "True" for text in texts)
    return texts


def as_numbers(cells: Series, name: str, missing_words: Collection[str] = ()) -> Array:
    """Return cells as float64, NaN where they are missing; raise DataError for text, or a number that is infinite."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_complex_dtype(cells):
        numbers = cells.to_numpy(float, na_value=np.nan)
    else:
        codes, found = _different(cells)
        parsed = _parsed(found)
        wrong = np.isnan(parsed)
        wrong[wrong] = [_text(value) not in {"", *missing_words} for value in found[wrong]]
        if wrong.any():
            row = int(np.flatnonzero(np.append(wrong, False)[codes])[0])
            word = printable(found[codes[row]])[:40]
            raise DataError(f"column {some([name])} holds numbers, but row {cells.index[row]} says '{word}'")
        numbers = np.append(parsed, np.nan)[codes]
    infinite = np.isinf(numbers)
    if infinite.any():
        row = cells.index[int(infinite.argmax())]
        raise DataError(
            f"column {some([name])} holds an infinite number in row {row}; correct it, or leave the cell empty"
        )
    return numbers


def _parsed(values: Array) -> Array:
    """Return each value as the number that it says, or NaN."""
    import pandas as pd

    texts = pd.Series([str(value).strip() for value in values], dtype=object)
    return np.asarray(pd.to_numeric(texts, errors="coerce"), float)


def as_dates(cells: Series, name: str, date_format: str | None) -> Array:
    """Return cells as datetime64[s] without a time zone (UTC where they had one), NaT where they are missing."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(cells):
        return _seconds(cells)
    codes, found = _different(cells)
    texts = pd.Series([_text(value) for value in found], dtype=object)
    dates = _dates(texts.where(texts != ""), date_format or "ISO8601", errors="coerce")
    wrong = np.isnat(dates) & (texts != "").to_numpy()
    if wrong.any():
        row = int(np.flatnonzero(np.append(wrong, False)[codes])[0])
        word = printable(found[codes[row]])[:40]
        like = _dates(pd.Series(["2024-12-31"]), "ISO8601", "raise")[0].astype(object)
        shown = like.strftime("%Y-%m-%d" if date_format in (None, "ISO8601") else date_format)
        raise DataError(f"column {some([name])} holds dates such as {shown}, but row {cells.index[row]} says '{word}'")
    return np.append(dates, np.datetime64("NaT", "s"))[codes]


def _dates(texts: Series, date_format: str, errors: Any) -> Array:
    import pandas as pd

    texts = texts.mask(texts.str.lower().isin(RELATIVE_DATES), "no date")
    return _seconds(pd.Series(pd.to_datetime(texts, format=date_format, errors=errors, utc=True)))


def _seconds(times: Series) -> Array:
    if getattr(times.dt, "tz", None) is not None:
        times = times.dt.tz_convert("UTC").dt.tz_localize(None)
    return times.to_numpy().astype("datetime64[s]")


def _as_yes_or_no(texts: Array) -> Array:
    words = dict.fromkeys(YES, "yes") | dict.fromkeys(NO, "no")
    return np.array([words.get(text.lower(), text) for text in texts], object)


def _say_yes_or_no(texts: list[str]) -> bool:
    """Return whether texts say yes in one word at most, and no in one, however they are capitalized.

    T and Y in one column are two codes, not yes twice.
    """
    words = {text.lower() for text in texts}
    return words <= {*YES, *NO} and len(words & {*YES}) <= 1 and len(words & {*NO}) <= 1


@dataclass(frozen=True)
class Finding:
    """What was found out about a column: the Column, or why there is none; for a line of the overview.

    With `advice` the column cannot be used, and the table is refused; without, it is left out.
    """

    name: str
    column: Column | None
    kind: str
    values: str
    missing: int
    remark: str = ""
    advice: str = ""


def examine(cells: Series, name: str, wanted: str | None = None) -> Finding:
    """Return what a column is, or what it is told to be by `wanted`, "number" or "category"."""
    import pandas as pd

    codes, found = _different(cells)
    texts = [_text(value) for value in found]
    present = np.append([text != "" for text in texts], False)[codes]
    missing = int(len(cells) - present.sum())
    different = sorted({text for text in texts if text})
    alone = present.sum() == 1
    if not different:
        return Finding(name, None, "left out", "all missing", missing)
    if len(different) == 1 and (alone or not missing):
        where = " in 1 row" if alone else ""
        return Finding(name, None, "left out", f"only {_quoted(different)}{where}", missing)
    if wanted == "category":
        return _category(cells, name, missing)
    if wanted == "number":
        return _forced_number(cells, name, missing)
    if pd.api.types.is_datetime64_any_dtype(cells):
        return _date(cells, name, missing, None)
    if pd.api.types.is_bool_dtype(cells) or _say_yes_or_no(different):
        yes_or_no = set(_as_yes_or_no(np.array(different, object)))
        return Finding(name, Column(name, "yes/no"), "yes/no", ", ".join(sorted(yes_or_no)), missing)
    if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_complex_dtype(cells):
        return _number(cells, name, missing)
    strange = [value for value in found[:100] if not isinstance(value, str | int | float | np.number)]
    if strange:
        kind = type(strange[0]).__name__
        return Finding(name, None, kind, _quoted(different[:1]), missing, advice=f"'{name}' holds {kind}, not values")
    return _examine_text(cells, name, missing, different, int(present.sum()))


def _examine_text(cells: Series, name: str, missing: int, different: list[str], present: int) -> Finding:
    """Return what a column of text is."""
    numbers = _parsed(np.array(different, object))
    words = [text for text, number in zip(different, numbers, strict=True) if np.isnan(number)]
    if not words:
        return _number(cells, name, missing)
    date_format = _date_format(different)
    if date_format is not None:
        return _date(cells, name, missing, date_format)
    example = _quoted(different[:3])
    if len(words) <= 0.2 * len(different):
        advice = (
            f"'{name}' holds numbers, but also {some(words, 3)}: correct them, or take them as missing "
            f"with --number {_argument(name)}"
        )
        return Finding(name, None, "mixed", example, missing, advice=advice)
    if _decorated(different):
        advice = (
            f"'{name}' holds numbers with thousands separators or units, such as {_quoted(different[-1:])}: write "
            f"plain numbers, as in 1234.5, or keep them as text with --category {_argument(name)}"
        )
        return Finding(name, None, "decorated", example, missing, advice=advice)
    if len(different) == present or (len(different) > MANY_TEXTS and len(different) > present / 2):
        words_each = np.mean([text.count(" ") + 1 for text in different[:1000]])
        kind = "free text" if words_each > 3 else "identifier"
        advice = (
            f"'{name}' ({kind}: {len(different)} different ones in {present} rows, such as {_quoted(different[:1])})"
        )
        return Finding(name, None, kind, example, missing, advice=advice)
    return _category(cells, name, missing)


def _quoted(texts: list[str]) -> str:
    return ", ".join(f"'{_short(text)}'" for text in texts)


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= 24 else f"{text[:23]}…"


def _argument(text: str) -> str:
    """Return text as an argument on a command line."""
    import shlex

    return shlex.quote(printable(text))


def _number(cells: Series, name: str, missing: int) -> Finding:
    numbers = as_numbers(cells, name)
    known = numbers[~np.isnan(numbers)]
    low, high = known.min(), known.max()
    if len(known) > MANY_TEXTS and _number_the_rows(numbers, cells.index):
        advice = (
            f"'{name}' (identifier: it numbers the rows from {low:g} to {high:g}; if it means something, "
            f"--number {_argument(name)})"
        )
        return Finding(name, None, "identifier", f"{low:g} to {high:g}", missing, advice=advice)
    return Finding(name, Column(name, "number"), "number", f"{low:g} to {high:g}", missing)


def _number_the_rows(numbers: Array, index: Any) -> bool:
    """Return whether numbers are those from one on, each once; or go up with the index, of which rows may lack."""
    known = numbers[~np.isnan(numbers)]
    if (known != np.floor(known)).any():
        return False
    if known.max() == known.min() + len(known) - 1 and len(np.unique(known)) == len(known):
        return True
    return len(known) == len(numbers) and index.dtype.kind in "iu" and len(np.unique(known - np.asarray(index))) == 1


def _forced_number(cells: Series, name: str, missing: int) -> Finding:
    """Return a column of numbers, whatever it looks like; a few words in it stand for missing numbers."""
    _, found = _different(cells)
    unread = np.isnan(_parsed(found))
    words = sorted({_text(value) for value in found[unread]} - {""})
    if len(words) > FEW_WORDS or unread.all():
        advice = f"'{name}' is no column of numbers: it holds {some(words, 3)}"
        return Finding(name, None, "text", _quoted(words[:3]), missing, advice=advice)
    numbers = as_numbers(cells, name, words)
    known = numbers[~np.isnan(numbers)]
    remark = f"{some(words, 3)} in '{name}' count as missing" if words else ""
    column = Column(name, "number", missing_words=tuple(words))
    return Finding(name, column, "number", f"{known.min():g} to {known.max():g}", int(np.isnan(numbers).sum()), remark)


def _category(cells: Series, name: str, missing: int) -> Finding:
    import pandas as pd

    counts = pd.Series(as_text(cells)).value_counts()
    names = [str(text) for text in counts.index if text != ""]
    more = ", …" if len(names) > 3 else ""
    shown = f"{len(names)}: {', '.join(map(_short, names[:3]))}{more}"
    return Finding(name, Column(name, "category"), "category", shown, missing)


def _date(cells: Series, name: str, missing: int, date_format: str | None) -> Finding:
    times = as_dates(cells, name, date_format)
    known = times[~np.isnat(times)]
    hours = bool((known != known.astype("datetime64[D]")).any())
    unit = "m" if hours else "D"
    values = " to ".join(str(time.astype(f"datetime64[{unit}]")) for time in (known.min(), known.max()))
    remark = ""
    if date_format is not None and date_format.startswith("%m/%d/%") and _days_could_come_first(cells, date_format):
        remark = f"dates in '{name}' are read as month/day/year; if the day comes first, write them as 2024-12-31"
    column = Column(name, "date", date_format, hours)
    return Finding(name, column, "date", values, missing, remark)


def _days_could_come_first(cells: Series, date_format: str) -> bool:
    texts = [_text(value) for value in _different(cells)[1]]
    return _fits([text for text in texts if text], date_format.replace("%m/%d", "%d/%m"))


def _date_format(texts: list[str]) -> str | None:
    """Return the first format in which all texts are dates."""
    if not any(letter.isdigit() for letter in texts[0]) or texts[0][0] in "+-":
        return None  # a sign would make a year before Christ of it
    sample = texts[:: max(1, len(texts) // 20)]  # most formats fail on the first of a few
    found = next((known for known in DATE_FORMATS if _fits(sample, known) and _fits(texts, known)), None)
    return None if found is None or _are_seasons(texts) or _are_versions(texts, found) else found


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


def _fits(texts: list[str], date_format: str) -> bool:
    import pandas as pd

    try:
        return not np.isnat(_dates(pd.Series(texts, dtype=object), date_format, "raise")).any()
    except (ValueError, OverflowError):  # pandas' ways to say no
        return False


def _decorated(texts: list[str]) -> bool:
    """Return whether texts are numbers with one currency or unit, or with thousands separators."""
    found = [match for match in map(DECORATED.fullmatch, texts) if match]
    marks = Counter((match["before"] or "", match["after"]) for match in found)
    return len(found) > 0.8 * len(texts) and max(marks.values()) > 0.8 * len(found)


def find_target(cells: Series, name: str, task: str | None = None) -> tuple[Target, str]:
    """Return the Target that a column of values is, and why it is taken for one of classes or numbers.

    Text, yes and no, and at most FEW_CLASSES different whole numbers are classes, other numbers are numbers. Raises
    DataError if there is nothing to predict.
    """
    texts = as_text(cells)
    different = sorted(set(texts) - {""})
    if not different:
        raise DataError(f"the target {some([name])} is missing in every row")
    if len(different) == 1:
        raise DataError(
            f"the target {some([name])} is {_quoted(different)} in every row that has one; nothing can be told apart"
        )
    numbers = _parsed(np.array(different, object))
    present = int((texts != "").sum())
    if np.isnan(numbers).any():
        return _text_target(name, task, different, numbers, present)
    whole = bool((numbers == np.floor(numbers)).all())
    few = whole and len(different) <= FEW_CLASSES and len(different) <= present / 2
    if task == "regression" or (task is None and not few):
        return Target(name, "regression"), "numbers" if task is None else "as told"
    _check_classes(name, different, present)
    ordered = [different[i] for i in np.argsort(numbers, kind="stable")]
    reason = f"{len(different)} different whole numbers" if task is None else "as told"
    return Target(name, "classification", tuple(ordered)), reason


def _text_target(name: str, task: str | None, different: list[str], numbers: Array, present: int) -> tuple[Target, str]:
    """Return the Target for a column that is not numbers throughout."""
    words = [text for text, number in zip(different, numbers, strict=True) if np.isnan(number)]
    if task == "regression":
        if len(words) > FEW_WORDS or len(words) > 0.2 * len(different):
            raise DataError(f"regression predicts numbers, but the target {some([name])} holds {_quoted(words[:3])}")
        return Target(name, "regression", missing_words=tuple(words)), "as told"
    if task is None and len(words) <= 0.2 * len(different):
        raise DataError(
            f"the target {some([name])} holds numbers, but also {some(words, 3)}: correct them, or say "
            "--task regression to leave those rows out, or --task classification"
        )
    if task is None and len(different) > FEW_CLASSES and _decorated(different):
        raise DataError(
            f"the target {some([name])} holds numbers with thousands separators or units, such as "
            f"{_quoted(different[-1:])}: write plain numbers, as in 1234.5, or say --task classification"
        )
    _check_classes(name, different, present)
    return Target(name, "classification", tuple(different)), "text"


def _check_classes(name: str, different: list[str], present: int) -> None:
    if len(different) > present / 2:
        raise DataError(
            f"the target {some([name])} has {len(different)} different values in {present} rows, such as "
            f"{_quoted(different[:1])}: too many to be classes"
        )


def as_frame(data: Any, where: str) -> DataFrame:
    """Return a DataFrame whose columns are named by text, each by a name of its own."""
    import pandas as pd

    if not isinstance(data, pd.DataFrame):
        raise OptionError(f"{where} is a DataFrame of pandas, got {type(data).__name__}")
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
