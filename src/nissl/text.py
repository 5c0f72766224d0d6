"""Text in columns, and names that are nearly right."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence


def table(rows: Sequence[tuple[str, ...]], right: str = "") -> str:
    """Return rows of text in aligned columns; `right` has an r for each column that is aligned to the right.

    >>> print(table([("name", "count"), ("a", "10")], right="lr"))
    name  count
    a        10
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [">" if side == "r" else "<" for side in right.ljust(len(widths), "l")]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    )


def printable(text: object) -> str:
    """Return text from a file without what would steer a terminal.

    >>> printable("red\\x1b[2J")
    'red?[2J'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def some(names: Iterable[str], most: int = 8) -> str:
    """Return names in quotes, fit for a terminal, and how many more there are; very long ones are cut.

    >>> some(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    listed = list(names)
    shown = ", ".join(f"'{cut(printable(name), 80)}'" for name in listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"


def in_decimals(value: float) -> str:
    """Return a number with four decimals; with an exponent where these were all zeros, or the digits too many.

    >>> in_decimals(0.25), in_decimals(1.2e-7), in_decimals(3.21e9), in_decimals(0.0)
    ('0.2500', '1.200e-07', '3.210e+09', '0.0000')
    """
    return f"{value:.4f}" if value == 0 or 5e-5 <= abs(value) < 1e6 else f"{value:.3e}"


def cut(text: str, length: int) -> str:
    """Return text of at most so many characters; of a longer one, the middle is left out.

    >>> cut("width of the left leaf", 15)
    'width o…ft leaf'
    """
    if len(text) <= length:
        return text
    return text[: length // 2].rstrip() + "…" + text[len(text) - (length - 1) // 2 :].lstrip()


def cut_apart(names: Sequence[str], length: int) -> list[str]:
    """Return names that are cut, but so that different ones stay so: what begins alike then lacks its beginning.

    >>> cut_apart(["length", "width of the left leaf", "width of the last leaf"], 12)
    ['length', '…eft leaf', '…ast leaf']
    """
    short = [cut(name, length) for name in names]
    names_of: dict[str, list[str]] = {}
    for name, its in dict(zip(names, short, strict=True)).items():
        names_of.setdefault(its, []).append(name)
    for text, alike in names_of.items():
        if len(alike) == 1 or length <= 3:
            continue
        taken = {its for its in short if its != text}
        start = next(i for i, letters in enumerate(itertools.zip_longest(*alike)) if len(set(letters)) > 1)
        for kept in (0, length // 3):  # of their beginning, which may be all that tells them from others
            ends = cut_apart([name[start:] for name in alike], length - kept - 1)
            apart = [f"{text[:kept]}…{end}" for end in ends]
            if len({*apart, *taken}) == len(apart) + len(taken):
                break
        else:
            marks = (f"…{number}" for number in itertools.count(1))
            numbered = (text[: max(length - len(mark), 0)] + mark for mark in marks)
            apart = list(itertools.islice((each for each in numbered if each not in taken), len(alike)))
        its_own = dict(zip(alike, apart, strict=True))
        short = [its_own.get(name, its) for name, its in zip(names, short, strict=True)]
    return short


def percent(share: float, decimals: int = 1) -> str:
    """Return a share in percent, as all that nissl prints has it, or a dash for NaN.

    >>> percent(0.925), percent(0.97853, 2), percent(float("nan"))
    ('92.5 %', '97.85 %', '-')
    """
    return "-" if math.isnan(share) else f"{100 * share:.{decimals}f} %"


def counted(number: int, noun: str) -> str:
    """Return how many there are of what a noun says.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question for the known name that is most like `name`, or nothing if none is.

    >>> nearest("pric", ["Price", "rooms"])
    "; did you mean 'Price'?"
    """
    import difflib  # here, as only mistakes need it

    lower = {other.lower(): other for other in known}
    # One wrong letter of three is near; at 0.6, difflib's own cutoff, 'iris' is like 'digits'.
    near = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.65)
    return f"; did you mean '{printable(lower[near[0]])}'?" if near else ""
