"""Text files of rows: how a file is written is found out first, then pandas reads it.

Encoding, separator, decimal point and names of the columns are found here, because a wrong guess of any of them gives a
table that is wrong without an error. Files too large for memory are read in parts.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import os
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from nissl.errors import DataError
from nissl.files import PathLike
from nissl.text import some

if TYPE_CHECKING:
    from pandas import DataFrame

SUFFIXES = (".csv", ".tsv", ".txt", ".gz")
SEPARATORS = (",", ";", "\t", "|")

# Cells that say that a value is missing: those of pandas.read_csv but for ones of old Windows compilers,
# and the ? of the UCI repository.
MISSING = frozenset(
    ["", "?", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None"]
)

HEAD = 1 << 18  # bytes in which the separator is looked for
BLOCK = 1 << 20
RECORDS = 500
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark its own begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NOT_TEXT = {
    b"PK\x03\x04": "an Excel workbook or a ZIP archive; save it as CSV",
    b"\x1f\x8b": "compressed; give it a name that ends in .gz",
    b"PAR1": "a Parquet file; save it as CSV",
}
CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1a"))
COMMA = re.compile(r"^(\s*[+-]?\d*),(\d+(?:[eE][+-]?\d+)?\s*)$")
# Where commas are decimal, points stand between thousands.
GROUPED = re.compile(r"^\s*([+-]?[1-9]\d{0,2}(?:\.\d{3})+)((?:,\d+)?)\s*$")
COMMA_DECIMAL = re.compile(r"\s*[+-]?\d+,\d+\s*")
POINT_DECIMAL = re.compile(r"\s*[+-]?\d+\.\d+\s*")
ONE_THOUSANDS_MARK = re.compile(r"\s*[+-]?[1-9]\d{0,2}[.,]\d{3}\s*")
WHOLE = re.compile(r"[1-9]\d*")
# The first line of files for Excel, which is not one of names but says what separates the cells.
SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?(?:\r\n?|\n)')


@dataclass(frozen=True)
class Layout:
    """How a file of rows is written."""

    path: Path
    encoding: str
    separator: str
    decimal: str
    names: tuple[str, ...]
    separator_line: bool = False  # before that of the names
    ambiguous: tuple[tuple[str, str], ...] = ()  # columns, and a number of each, whose decimal mark may be none

    @property
    def says(self) -> str:
        """What is unusual about it, in words; nothing for commas, points and UTF-8."""
        names = {";": "semicolons", "\t": "tabs", "|": "bars"}
        unusual = [f"separated by {names[self.separator]}"] if self.separator in names else []
        unusual += ["decimal commas"] if self.decimal == "," else []
        unusual += [f"encoded in {self.encoding}"] if not self.encoding.startswith("utf-8") else []
        return ", ".join(unusual)

    @property
    def remarks(self) -> list[str]:
        """What is worth knowing about it."""
        values = [name for name in self.names if POINT_DECIMAL.fullmatch(name)]
        row = (
            f"the first line is taken for names of columns; if {some(values, 2)} in it are values, write names above it"
        )
        said = [*filter(None, [self.says]), *([row] if values else [])]
        if self.ambiguous:
            columns = some([name for name, _ in self.ambiguous], 3)
            number = self.ambiguous[0][1]
            mark = {",": "comma", ".": "point"}[self.decimal]
            said.append(
                f"{number} and the like in {columns} are read with a decimal {mark}; if it stands between thousands, "
                f"write {number.replace(self.decimal, '')}"
            )
        return said


def find_layout(path: PathLike, fewest_columns: int = 2) -> Layout:
    """Return how a file of rows is written.

    Raises DataError if it is none: missing, empty, not text, without a line of different names or with too few columns:
    two are one to predict and one to predict it from.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} {'is a folder, not a file of rows' if path.is_dir() else 'does not exist'}")
    with _said_plainly(path):
        encoding = _encoding(path)
        with _open_text(path, encoding) as file:
            head = file.read(HEAD)
        whole = len(head) < HEAD
        if not head.strip():
            raise DataError(f"{path} is empty")
        line = SEPARATOR_LINE.match(head)
        separators = line[1] if line else SEPARATORS
        separator, records = _separator(path, head[line.end() :] if line else head, separators, whole)
    names = tuple(name.strip() or f"Unnamed: {i}" for i, name in enumerate(records[0]))
    _check_names(path, names, fewest_columns)
    decimal = "." if separator == "," else _decimal(records[1:])
    ambiguous = () if separator == "," else _ambiguous(names, records[1:], decimal)
    return Layout(path, encoding, separator, decimal, names, line is not None, ambiguous)


def _check_names(path: Path, names: tuple[str, ...], fewest: int) -> None:
    if len(names) < fewest:
        raise DataError(
            f"{path} has one column, {names[0][:40]!r}, as far as can be seen; columns are separated by comma, "
            "semicolon, tab or |, and there must be one to predict and one to predict it from"
        )
    if all(_is_number(name) for name in names):
        raise DataError(f"{path} begins with numbers ({some(names, 3)}); its first line must name the columns")
    double = [name for name, count in Counter(names).items() if count > 1]
    if double:
        raise DataError(f"{path} has more than one column named {some(double)}; give each a name of its own")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _encoding(path: Path) -> str:
    """Return the encoding of a text file: by its mark, UTF-8 if it is that throughout, else that of old Windows."""
    with _open_bytes(path) as file:
        head = file.read(4096)
        for start, what in NOT_TEXT.items():
            if head.startswith(start):
                raise DataError(f"{path} is {what}")
        for mark, encoding in BYTE_ORDER_MARKS.items():
            if head.startswith(mark):
                return encoding
        zeros = [head[side::2].count(0) / max(len(head[side::2]), 1) for side in (0, 1)]
        if max(zeros) > 0.4 and min(zeros) < 0.1:  # letters of two bytes, one of which is mostly 0
            return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
        decoders = {name: codecs.getincrementaldecoder(name)() for name in ("utf-8", "cp1252")}
        while head:
            if len(head) - len(head.translate(None, CONTROL)) > len(head) // 100 or 0 in head:
                raise DataError(f"{path} is not a text file: it holds bytes that no text has")
            following = file.read(BLOCK)
            for name, decoder in list(decoders.items()):
                try:
                    decoder.decode(head, final=not following)
                except UnicodeDecodeError:
                    del decoders[name]
            head = following
    return next(iter(decoders), "latin-1")


def _separator(path: Path, head: str, separators: Iterable[str], whole: bool) -> tuple[str, list[list[str]]]:
    """Return the separator that cuts most of the first records into as many cells as the line of names, and these.

    csv.Sniffer counts letters of single lines, which fails on text in quotes and on short tables; csv.reader knows
    quotes.
    """
    found = []
    for separator in separators:
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=separator, skipinitialspace=separator != "\t")
        records: list[list[str]] = []
        try:
            for record in reader:
                if len(record) > 1 or any(cell.strip() for cell in record):  # pandas skips blank lines too
                    records.append(record)
                if len(records) > RECORDS:
                    break
            else:
                if not whole and len(records) > 1:
                    records.pop()  # cut off
        except csv.Error:  # a cell beyond csv.field_size_limit(): the records before it may tell, or another separator
            pass
        if not records:
            continue
        width = len(records[0])
        share = sum(len(record) == width for record in records) / len(records)
        found.append((width > 1 and share, width, share, separator, records))
    if not found:
        raise DataError(f"{path} does not begin with a line of names of columns")
    *_, separator, records = max(found, key=lambda one: one[:3])
    return separator, records


def _decimal(records: list[list[str]]) -> str:
    """Return whether commas or points are decimal in most cells; those between thousands speak for the other."""
    votes = {",": 0, ".": 0}
    for column in itertools.zip_longest(*records, fillvalue=""):
        for mark, other, kind in ((",", ".", COMMA_DECIMAL), (".", ",", POINT_DECIMAL)):
            marked = [cell for cell in column if kind.fullmatch(cell)]
            votes[other if _are_thousands(marked, column) else mark] += len(marked)
    return "," if votes[","] > votes["."] else "."


def _are_thousands(marked: list[str], column: tuple[str, ...]) -> bool:
    """Return whether the marks in some numbers of a column stand between thousands, as in 1.250 beside 7 and 870.

    Nobody writes decimals so: it would be 7.000, with as many digits, or 1.25, with no more than it takes.
    """
    if not all(map(ONE_THOUSANDS_MARK.fullmatch, marked)) or not any(cell.rstrip().endswith("0") for cell in marked):
        return False
    whole = [cell.strip() for cell in column if WHOLE.fullmatch(cell.strip())]
    return bool(whole) and max(map(len, whole)) <= 3


def _ambiguous(names: tuple[str, ...], records: list[list[str]], decimal: str) -> tuple[tuple[str, str], ...]:
    """Return columns of numbers whose decimal mark could stand between thousands for all that the file shows.

    It shows what the mark is by any number such as 3,5 or 0,125, and in a column by one such as 1250, without a mark.
    """
    kind = COMMA_DECIMAL if decimal == "," else POINT_DECIMAL
    found = []
    for name, column in zip(names, itertools.zip_longest(*records, fillvalue=""), strict=False):
        marked = [cell for cell in column if kind.fullmatch(cell)]
        if not all(map(ONE_THOUSANDS_MARK.fullmatch, marked)):
            return ()
        if marked and not any(WHOLE.fullmatch(cell.strip()) and len(cell.strip()) > 3 for cell in column):
            found.append((name, marked[0].strip()))
    return tuple(found)


def read_frame(layout: Layout, text: Iterable[str] = ()) -> DataFrame:
    """Return all rows of a file, counted from 1; the columns named in `text` as they are written.

    Raises DataError for rows of different lengths, or if there are none.
    """
    import pandas as pd

    with _said_plainly(layout.path):
        frame = pd.read_csv(
            layout.path,
            low_memory=False,  # a column has one kind, not one for each part of the file
            dtype=dict.fromkeys(text, str),
            na_values=sorted(MISSING),
            decimal=layout.decimal,
            **_options(layout),
        )
        if not len(frame):
            raise DataError(f"{layout.path} has names of columns, but no rows")
        if frame.iloc[:, -1].isna().any():
            _check_widths(layout)
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return with_points(frame, layout)


def read_parts(layout: Layout, rows: int) -> Iterator[DataFrame]:
    """Yield the rows of a file as text, as they are written, `rows` at a time and counted from 1."""
    import pandas as pd

    checked = False
    count = 0
    with _said_plainly(layout.path):
        options = _options(layout) | {"skipinitialspace": _has_blanks_between(layout)}
        # Of objects, pandas lets go of an empty cell after the last column, as it does in `read_frame`; not of str.
        with pd.read_csv(layout.path, dtype=object, na_filter=False, chunksize=rows, **options) as parts:
            for part in parts:
                if not checked and (part.iloc[:, -1] == "").any():
                    _check_widths(layout)
                    checked = True
                part.index = pd.RangeIndex(count + 1, count + len(part) + 1)
                count += len(part)
                if len(part):
                    yield part
        if not count:
            raise DataError(f"{layout.path} has names of columns, but no rows")


def with_points(frame: DataFrame, layout: Layout) -> DataFrame:
    """Return rows in which cells of text that are nothing but a number are written with a decimal point alone.

    A column has points between thousands unless one of them is decimal, as in 52.1: files may be put together of two.
    """
    import pandas as pd

    if layout.decimal == ".":
        return frame
    frame = frame.copy(deep=False)
    for name in frame.columns:
        if pd.api.types.is_string_dtype(frame[name]):
            cells = frame[name].str
            if not (cells.fullmatch(POINT_DECIMAL, na=False) & ~cells.fullmatch(GROUPED, na=False)).any():
                cells = cells.replace(GROUPED, lambda m: m[1].replace(".", "") + m[2], regex=True).str
            frame[name] = cells.replace(COMMA, r"\1.\2", regex=True)
    return frame


def _options(layout: Layout) -> dict[str, Any]:
    """Return what pandas must know of a file in any case."""
    return {
        "sep": layout.separator,
        "encoding": layout.encoding,
        "compression": "gzip" if layout.path.suffix.lower() == ".gz" else None,
        "names": list(layout.names),
        "header": 0,
        "skiprows": int(layout.separator_line),
        "index_col": False,  # else a row with one cell too many would shift all
        "skipinitialspace": layout.separator != "\t",
        "keep_default_na": False,
    }


def _has_blanks_between(layout: Layout) -> bool:
    """Return whether a file has blanks before quotes, or where a line ends in a separator: none is part of a cell."""
    found = re.compile(rf'(?:^|{re.escape(layout.separator)}) +(?:"|\r?\n?$)')
    with _open_text(layout.path, layout.encoding) as file:
        return layout.separator != "\t" and any(map(found.search, file))


def _check_widths(layout: Layout) -> None:
    """Raise if a row has fewer cells than there are names: pandas would fill in missing values."""
    width = len(layout.names)
    with _open_text(layout.path, layout.encoding) as file:
        reader = csv.reader(file, delimiter=layout.separator, skipinitialspace=layout.separator != "\t")
        for record in itertools.islice(reader, int(layout.separator_line), None):
            if len(record) < width and any(cell.strip() for cell in record):
                raise DataError(
                    f"{layout.path} is ragged: line {reader.line_num} has {len(record)} cells, the first line {width}"
                )


@contextmanager
def _said_plainly(path: Path) -> Iterator[None]:
    """Turn what pandas, csv and gzip raise for a damaged file into a DataError of one line."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except pd.errors.ParserWarning:
        raise DataError(f"{path} is ragged: its rows have more cells than the first line has names") from None
    except pd.errors.ParserError as error:
        counts = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if counts:
            width, line, found = counts.groups()
            raise DataError(f"{path} is ragged: line {line} has {found} cells, the first line {width}") from None
        if "inside string" in str(error):
            raise DataError(f"{path} has a cell that begins with a quote and never ends") from None
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    except (UnicodeError, EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise DataError(f"{path} is damaged: {error}") from None


def _open_bytes(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else open(path, "rb")


def _open_text(path: Path, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(_open_bytes(path), encoding=encoding, newline="")


def is_table_path(text: str) -> bool:
    """Return whether a text means a file of rows: by its ending, or because such a file is there.

    >>> is_table_path("houses.csv"), is_table_path("digits")
    (True, False)
    """
    return Path(text).suffix.lower() in SUFFIXES or os.sep in text or os.path.isfile(text)
