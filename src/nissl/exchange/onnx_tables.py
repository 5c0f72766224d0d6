"""Models of tables in ONNX: each column is an input, preprocessing stands in front of the network, answers behind it.

What sklearn's transformers do in `nissl.tables.preprocessing` is said again in nodes, from the same fitted arrays. Of
what reading a file does, nodes can do little: texts come as they are in the file, without blanks around them, and dates
as numbers of days since 1970.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl import nn
from nissl.errors import OptionError
from nissl.exchange.onnx_nodes import BATCH, Nodes, element_type
from nissl.nn.module import Module
from nissl.tables import Column, Preprocessor
from nissl.tables.columns import NO, YES
from nissl.tables.reading import MISSING
from nissl.tensor import Tensor
from nissl.text import some

WHOLE = re.compile(r"[+-]?\d+")
DAYS_FROM_YEAR_0 = 719468  # from 1 March of year 0 to 1 January 1970


class OwnUnits(Module):
    """y = mean + scale·x in float64: standardized numbers in the units that they had."""

    def __init__(self, mean: float, scale: float) -> None:
        self.mean = mean
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Return x in its own units."""
        return self.mean + self.scale * x.astype("float64")


def answer_layer(prepare: Preprocessor) -> Module:
    """Return what turns the outputs of the network into answers: probabilities of the classes, or numbers."""
    if prepare.target.task == "classification":
        return nn.Softmax()
    return OwnUnits(float(prepare.prior[0]), prepare.target_scale)


def add_preprocessing(nodes: Nodes, prepare: Preprocessor) -> str:
    """Declare the columns as inputs and return the rows that the network takes, as `prepare.transform` makes them."""
    nodes.scope = "Preprocessing"
    # All inputs before the first node, whose name then is none of theirs.
    inputs = [_input(nodes, column) for column in prepare.columns]
    numbers: list[str] = []
    codes: list[str] = []
    shared = [bool(others) for others in prepare.others]  # whether the rare categories have a column
    levels = zip(prepare.levels, shared, strict=True)
    for column, name in zip(prepare.columns, inputs, strict=True):
        if column.kind == "number":
            numbers.append(name)
        elif column.kind == "date":
            parts = calendar(Number(nodes, name))
            numbers += [parts[part].name for part in column.number_parts]
            codes += [_code_of_whole(nodes, parts[part], *next(levels)) for part in column.category_parts]
        else:
            codes.append(_code_of_text(nodes, name, column, *next(levels)))
    parts_of_rows = _numbers(nodes, numbers, prepare) if numbers else []
    for code, known, other in zip(codes, prepare.levels, shared, strict=True):
        hit = nodes.add("Equal", code, nodes.constant(np.arange(len(known) + other)))
        parts_of_rows.append(nodes.add("Cast", hit, to=element_type(np.float32)))
    return nodes.add("Concat", *parts_of_rows, axis=1)


def _input(nodes: Nodes, column: Column) -> str:
    """Declare a column as an input and return its name."""
    if column.name in nodes.taken:
        raise OptionError(
            f"export_onnx: the column {some([column.name])} has the name of the output or of a parameter of the "
            "network, and names in an ONNX model differ. Give the output another name, output_name, or the parameters "
            "other paths, as nissl.tables.TableModel(nn.Sequential(model.network), model.preprocessor) does; or "
            "rename the column and train again"
        )
    if column.kind == "number":
        return nodes.input(column.name, np.float64, (BATCH, 1), "a number, NaN where it is missing")
    if column.kind == "date":
        doc = "a date as days since 1970-01-01, with the fraction of the day; NaN where it is missing"
        return nodes.input(column.name, np.float64, (BATCH, 1), doc)
    return nodes.input(column.name, np.str_, (BATCH, 1), f"{column.kind}, as text; '' where it is missing")


def _constant(nodes: Nodes, name: str, value: npt.NDArray[Any]) -> str:
    """Return the name of a constant: `name`, or one that ends in it where a column or parameter has that one."""
    while name in nodes.taken:
        name = f"preprocessing.{name}"
    return nodes.constant(value, name=name)


def _numbers(nodes: Nodes, numbers: list[str], prepare: Preprocessor) -> list[str]:
    """Return the numbers, filled and standardized, and which of them were missing."""
    found = nodes.add("Concat", *numbers, axis=1)
    missing = nodes.add("IsNaN", found)
    filled = nodes.add("Where", missing, _constant(nodes, "medians", prepare.medians), found)
    centred = nodes.add("Sub", filled, _constant(nodes, "means", prepare.means))
    scaled = nodes.add("Div", centred, _constant(nodes, "scales", prepare.scales))
    parts = [nodes.add("Cast", scaled, to=element_type(np.float32))]
    if prepare.indicated.any():
        told = nodes.add("Gather", missing, nodes.constant(np.flatnonzero(prepare.indicated)), axis=1)
        parts.append(nodes.add("Cast", told, to=element_type(np.float32)))
    return parts


def _codes(levels: tuple[str, ...], other: bool) -> tuple[dict[str, int], int]:
    """Return the place of each category among the columns of its feature, and that of all others: -1 for none."""
    return {level: place for place, level in enumerate(levels)}, len(levels) if other else -1


def _code_of_text(nodes: Nodes, text: str, column: Column, levels: tuple[str, ...], other: bool) -> str:
    """Return the place of a text among the categories."""
    places, unknown = _codes(levels, other)
    known = {word: places.get("", unknown) for word in ("", *sorted(MISSING))}
    if column.kind == "yes/no":
        for meant, words in (("yes", YES), ("no", NO)):
            for word in words:
                cases = map("".join, product(*zip(word, word.upper(), strict=True)))  # "no", "nO", "No", "NO"
                known |= dict.fromkeys(cases, places.get(meant, unknown))
    # A whole number may stand there as a float, as it does in a column of pandas with missing cells.
    known |= {f"{level}.0": place for level, place in places.items() if WHOLE.fullmatch(level)} | places
    return nodes.add(
        "LabelEncoder",
        text,
        domain="ai.onnx.ml",
        keys_strings=list(known),
        values_int64s=list(known.values()),
        default_int64=unknown,
    )


def _code_of_whole(nodes: Nodes, part: Number, levels: tuple[str, ...], other: bool) -> str:
    """Return the place of a month or weekday, numbered from 1, among the categories; 0 stands for a missing one."""
    places, unknown = _codes(levels, other)
    table = [places.get(str(number) if number else "", unknown) for number in range(13)]
    known = nodes.add("Where", nodes.add("IsNaN", part.name), nodes.constant(0.0), part.name)
    whole = nodes.add("Cast", known, to=element_type(np.int64))
    return nodes.add("Gather", nodes.constant(table, np.int64), whole, axis=0)


@dataclass(frozen=True)
class Number:
    """A float64 in the ONNX graph, with which can be reckoned."""

    nodes: Nodes
    name: str

    def _with(self, kind: str, other: Any) -> Number:
        right = other.name if isinstance(other, Number) else self.nodes.constant(float(other))
        return Number(self.nodes, self.nodes.add(kind, self.name, right))

    def __add__(self, other: Any) -> Number:
        return self._with("Add", other)

    def __sub__(self, other: Any) -> Number:
        return self._with("Sub", other)

    def __mul__(self, other: Any) -> Number:
        return self._with("Mul", other)

    def __floordiv__(self, other: Any) -> Number:
        return Number(self.nodes, self.nodes.add("Floor", self._with("Div", other).name))


def calendar(days: Number) -> dict[str, Number]:
    """Return the parts of a date from days since 1970 in the Gregorian calendar; NaN stays NaN.

    Years begin in March, so that the leap day is their last, and repeat every 400 (Hinnant, "chrono-compatible
    low-level date algorithms", 2013).
    """
    whole = days // 1
    shifted = whole + DAYS_FROM_YEAR_0
    day_of_era = shifted - (shifted // 146097) * 146097
    leap_days = day_of_era // 1460 - day_of_era // 36524 + day_of_era // 146096
    year = (day_of_era - leap_days) // 365
    day_of_year = day_of_era - (year * 365 + year // 4 - year // 100)
    month_from_march = (day_of_year * 5 + 2) // 153
    day = day_of_year - (month_from_march * 153 + 2) // 5 + 1
    month = month_from_march + 3 - (month_from_march // 10) * 12
    weekday = whole + 3 - ((whole + 3) // 7) * 7 + 1  # 1 January 1970 was a Thursday
    return {"days": days, "day": day, "hour": (days - whole) * 24, "month": month, "weekday": weekday}
