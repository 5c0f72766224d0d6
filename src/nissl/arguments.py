"""Arguments: numbers that a user gives, checked where they come in.

Each check returns what was given as a Python number, or raises OptionError: `NAME must be EXPECTED, got VALUE`.
"""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

import numpy as np

from nissl.errors import OptionError


def true_or_false(name: str, value: Any) -> bool:
    """Return a bool; numbers are none, since they may be meant for another argument.

    >>> true_or_false("bias", 2)
    Traceback (most recent call last):
    nissl.errors.OptionError: bias must be True or False, got 2
    """
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def whole_number(name: str, value: Any, least: int = 1, most: float = math.inf) -> int:
    """Return a whole number from `least` to `most` as an int; a bool is none.

    >>> whole_number("epochs", 0)
    Traceback (most recent call last):
    nissl.errors.OptionError: epochs must be a whole number from 1, got 0
    """
    try:
        whole = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = least - 1
    if not least <= whole <= most:
        to = "" if most == math.inf else f" to {most}"
        raise OptionError(f"{name} must be a whole number from {least}{to}, got {value!r}")
    return whole


def number(
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """Return a finite number in a range as a float.

    >>> number("momentum", 1.5, least=0, below=1)
    Traceback (most recent call last):
    nissl.errors.OptionError: momentum must be at least 0 and below 1, got 1.5
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise OptionError(f"{name} must be a number, got {value!r}")
    found = float(value)
    if not (math.isfinite(found) and least <= found <= most and above < found < below):
        raise OptionError(f"{name} must be {range_in_words(least, most, above, below) or 'finite'}, got {value}")
    return found


def range_in_words(
    least: float = -math.inf, most: float = math.inf, above: float = -math.inf, below: float = math.inf
) -> str:
    """Return the range of a number in words, or nothing if it has no ends.

    >>> range_in_words(above=0, most=1e6)
    'above 0 and at most 1,000,000'
    """
    ends = [("above", above), ("at least", least), ("below", below), ("at most", most)]
    return " and ".join(f"{word} {_short(end)}" for word, end in ends if math.isfinite(end))


def _short(x: float) -> str:
    return f"{int(x):,}" if x == int(x) and abs(x) < 1e15 else f"{x:g}"
