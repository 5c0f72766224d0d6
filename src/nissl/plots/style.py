"""What all pictures share: colours, sizes, how a Figure is made and saved.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which colour-blind people can tell apart too.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from functools import partial
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from nissl.errors import OptionError, unknown_name
from nissl.plots.checks import number, said
from nissl.plots.fonts import letters_supplied
from nissl.text import cut_apart

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, YELLOW, BLACK = "#CC79A7", "#56B4E9", "#F0E442", "#000000"
# In the order in which lines take them; yellow is too light for a line on white.
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
DPI = 150
# Sizes in points, readable from the back of a lecture room when the picture fills a slide.
TITLE, TEXT, SMALL = 15, 13, 11
POINTS = 72  # in an inch
LEAST_DPI, MOST_PIXELS = 10, 2.5e8  # with fewer, letters have no size; more take gigabytes
MOST_IN_LEGEND = 28  # names: each colour in four kinds, by its dashes or markers, which can just be told apart


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
    from matplotlib.figure import Figure

    from nissl.files import write_atomically

    if not isinstance(figure, Figure):
        raise OptionError(f"save got {said(figure)}; expected a picture, as plots.lines and the others return it")
    if not isinstance(path, str | os.PathLike) or not os.fspath(path) or "\0" in str(path):
        raise OptionError(f"save got path = {said(path)}; expected the name of a file, such as 'picture.png'")
    kind = Path(path).suffix.removeprefix(".").lower() or "png"
    known = set(figure.canvas.get_supported_filetypes()) - {"pgf"}  # which needs TeX
    if kind not in known:
        raise unknown_name("picture format", kind, known)
    width, height = map(float, figure.get_size_inches())
    most = sqrt(MOST_PIXELS / (width * height))
    if not LEAST_DPI <= number("save", "dpi", dpi) <= most:
        raise OptionError(
            f"save got dpi = {said(dpi)}; for a picture of {width:.3g} × {height:.3g} inches, "
            f"it has to be from {LEAST_DPI} to {most:.0f}"
        )
    with letters_supplied(figure), write_atomically(path) as temporary:
        _lay_out(figure)
        figure.savefig(temporary, format=kind, dpi=dpi)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty Figure of width and height in inches, which a notebook can show."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # One that compresses also leaves room beside axes which are not stretched, as those of matrices. With the padding
    # that is matplotlib's own, half of this, a title would touch the edge, or a text of the panel beside or above it.
    pad = 6 / POINTS
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(compress=True, h_pad=pad, w_pad=pad))
    # The layout is found once: the next search would begin at the result of the last, and move things.
    figure.canvas.mpl_connect("draw_event", lambda event: figure.set_layout_engine("none"))
    # Notebooks ask for this method; they know Figures by themselves only once pyplot was imported, which we never do.
    figure._repr_png_ = partial(as_bytes, figure, "png")  # type: ignore[attr-defined]
    return figure


def _lay_out(figure: Figure) -> None:
    """Find the layout, unless it was found before: always at one resolution, as letters have other sizes at others."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        dpi = figure.dpi
        figure.set_dpi(DPI)
        engine.execute(figure)  # not by a drawing, of which it is only the first third
        figure.set_layout_engine("none")
        figure.set_dpi(dpi)


def as_bytes(figure: Figure, kind: str) -> bytes:
    """Return what a file of a picture holds, of the kind "png" or "svg"."""
    file = io.BytesIO()
    with letters_supplied(figure):
        _lay_out(figure)
        figure.savefig(file, format=kind)
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


def add_title(figure: Figure, title: str | None, length: int = 100) -> None:
    """Write a title above a picture, if there is one; one that needs several lines makes the picture taller."""
    if title:
        lines = wrapped(plain(title, length), TITLE, POINTS * figure.get_figwidth() - 2 * TITLE)
        figure.set_figheight(figure.get_figheight() + lines.count("\n") * 1.2 * TITLE / POINTS)
        figure.suptitle(lines, fontsize=TITLE)


def add_legend(figure: Figure, handles: Sequence[Artist], names: Sequence[object], most_columns: int) -> None:
    """Explain lines and points below a picture; a legend of many rows makes it taller."""
    written = plain_names(names, 30)
    columns = min(most_columns, legend_columns(written, POINTS * figure.get_figwidth()))
    rows = ceil(len(written) / columns)
    columns = ceil(len(written) / rows)  # six names are three and three, not five and one
    figure.set_figheight(figure.get_figheight() + max(0, rows - 3) * 1.7 * TEXT / POINTS)
    # matplotlib fills column by column, and names are read row by row.
    order = [i for column in range(columns) for i in range(column, len(written), columns)]
    figure.legend(
        [handles[i] for i in order],
        [written[i] for i in order],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=TEXT,
    )


def legend_columns(names: Sequence[str], width: float) -> int:
    """Return how many names fit side by side below a picture of a width in points.

    >>> legend_columns(["SGD", "Adam"], 500), legend_columns(["a name of quite some length"] * 4, 300)
    (2, 1)
    """
    column = max(text_width(name, TEXT) for name in names) + 5 * TEXT  # with the line before it and the gap after
    return max(1, min(len(names), int((width + 2 * TEXT) / column)))


def plain(text: object, length: int) -> str:
    """Return `text` in one line of at most `length` characters, without what matplotlib would take for a formula.

    >>> plain("a rather long name", 9)
    'a ra…name'
    """
    return plain_names([text], length)[0]


def plain_names(texts: Iterable[object], length: int) -> list[str]:
    """Return each text as `plain` does, but so that different ones stay so."""
    lines = [" ".join(str(text).split()).replace(r"\$", "$") for text in texts]  # as somebody wrote it for matplotlib
    return [line.replace("$", r"\$") for line in cut_apart(lines, length)]


def wrapped(text: str, size: float, width: float) -> str:
    """Return a line of text in as many lines as a width in points asks for; words that are too long are cut.

    >>> wrapped("a rather long name", 10, 60)
    'a rather\\nlong name'
    """
    if text_width(text, size) <= width:
        return text
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(_cut(line, size, width) for line in lines)


def _cut(line: str, size: float, width: float) -> str:
    while len(line) > 1 and (taken := text_width(line, size)) > width:
        kept = min(int(len(line) * width / taken), len(line) - 2)
        line = line[: max(kept, 0)].rstrip("\\ …") + "…"  # a dollar that is cut takes its backslash along
    return line


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text, in points."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=size).get_extents().width) if text else 0.0
