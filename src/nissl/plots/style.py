"""What all pictures share: colours, sizes, how a Figure is made and saved.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which colour-blind people can tell apart too.
"""

from __future__ import annotations

import io
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from nissl.errors import unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

Array = npt.NDArray[Any]

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, YELLOW, BLACK = "#CC79A7", "#56B4E9", "#F0E442", "#000000"
# In the order in which lines take them; yellow is too light for a line on white.
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
DPI = 150
# Sizes in points, readable from the back of a lecture room when the picture fills a slide.
TITLE, TEXT, SMALL = 15, 13, 11
POINTS = 72  # in an inch


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = DPI) -> None:
    """Write a picture to a file, whole or not at all: PNG, or what else the ending says, such as .svg or .pdf.

    `dpi` is the number of pixels an inch of a PNG; the Figure has its size in inches.

    >>> import tempfile
    >>> from nissl.plots import learning_curves
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(learning_curves({"loss": [0.9, 0.4]}), f"{folder}/curves.png")
    ...     os.listdir(folder)
    ['curves.png']
    """
    from nissl.files import write_atomically

    kind = Path(path).suffix.removeprefix(".").lower() or "png"
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise unknown_name("picture format", kind, known)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty Figure of width and height in inches, which a notebook can show."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    # Notebooks ask for this method; they know Figures by themselves only once pyplot was imported, which we never do.
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def message(text: str) -> Figure:
    """Return a picture that only says something."""
    figure = new_figure(5.5, 2)
    axes = figure.add_subplot()  # notebooks leave out a Figure without axes
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, fontsize=TITLE, horizontalalignment="center", verticalalignment="center")
    return figure


def tidy(axes: Axes) -> None:
    """Take away what a picture does not need, and let a faint grid help the eye."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)


def whole_numbers() -> MaxNLocator:
    """Return what puts the ticks of an axis at whole numbers, in ones, twos, fives and tens."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)


def plain(text: object, length: int) -> str:
    """Return `text` in one line of at most `length` characters, without what matplotlib would take for a formula.

    >>> plain("a rather long name", 9)
    'a rather…'
    """
    line = " ".join(str(text).split())
    if len(line) > length:
        line = line[: length - 1].rstrip() + "…"
    return line.replace("$", r"\$")


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text, in points."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=size).get_extents().width) if text else 0.0
