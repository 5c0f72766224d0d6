"""What an experiment says of itself: which options it takes, and what came out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nissl import plots
from nissl.arguments import number, range_in_words
from nissl.plots.style import DPI

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Option:
    """A number that an experiment can be run with: what it means, and from where to where it may go.

    It stands in the annotation of an argument: `lr: Annotated[float, Option("step size", above=0)] = 0.1`.
    """

    help: str
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf

    @property
    def range(self) -> str:
        """The range in words.

        >>> Option("step size", above=0, most=10).range
        'above 0 and at most 10'
        >>> Option("steps", least=1, most=1e6).range
        'at least 1 and at most 1,000,000'
        """
        return range_in_words(self.least, self.most, self.above) or "any number"

    def check(self, name: str, value: float) -> None:
        """Raise OptionError unless a value is in the range."""
        number(name, value, least=self.least, most=self.most, above=self.above)


@dataclass(frozen=True)
class Row:
    """One thing that came out: a number, a text or several; and what was expected, if anything was."""

    what: str
    found: Any
    expected: str = ""
    holds: bool | None = None

    @property
    def verdict(self) -> str:
        """Whether it is as expected, in a word, if anything was expected."""
        return "" if self.holds is None else "yes" if self.holds else "NO"


def short(found: Any) -> str:
    """Return what came out as a text that is short enough for a table.

    >>> short((0.31682708, 2)), short("all rows right")
    ('0.316827  2', 'all rows right')
    """
    if isinstance(found, str):
        return found
    if isinstance(found, int):
        return f"{found:,}"
    if hasattr(found, "tolist"):
        found = found.tolist()
    if isinstance(found, list | tuple):
        return "  ".join(map(short, found))
    return f"{found:.6g}"


@dataclass(frozen=True)
class Picture:
    """A picture, and the formats that it is saved in: the first is the one that a page shows."""

    figure: Figure
    formats: tuple[str, ...] = ("png",)


@dataclass
class Report:
    """What came out of an experiment: rows of a small table, and pictures by name."""

    rows: list[Row] = field(default_factory=list)
    pictures: dict[str, Picture] = field(default_factory=dict)

    def note(self, what: str, found: Any) -> None:
        """Add a row that shows something."""
        self.rows.append(Row(what, found))

    def check(self, what: str, found: Any, expected: str, holds: bool) -> None:
        """Add a row that shows something beside what is expected, and whether that holds."""
        self.rows.append(Row(what, found, expected, bool(holds)))

    def picture(self, figure: Figure, name: str = "", formats: tuple[str, ...] = ("png",)) -> None:
        """Add a picture; the first needs no name."""
        self.pictures[name] = Picture(figure, formats)

    def paths(self, folder: Path, experiment: str) -> list[Path]:
        """Return where all pictures are, once they are saved in a folder."""
        return [path for path, _ in self._files(folder, experiment)]

    def save_pictures(self, folder: Path, experiment: str, dpi: int = DPI) -> None:
        """Write all pictures into a folder, which may be new."""
        folder.mkdir(parents=True, exist_ok=True)
        for path, figure in self._files(folder, experiment):
            plots.save(figure, path, dpi)

    def _files(self, folder: Path, experiment: str) -> Iterator[tuple[Path, Figure]]:
        for name, picture in self.pictures.items():
            for ending in picture.formats:
                yield (folder / picture_file(experiment, name)).with_suffix(f".{ending}"), picture.figure


def picture_file(experiment: str, picture: str) -> str:
    """Return the name of the file of a picture.

    >>> picture_file("xor", ""), picture_file("xor", "draws")
    ('xor.png', 'xor-draws.png')
    """
    return f"{experiment}-{picture}.png" if picture else f"{experiment}.png"
