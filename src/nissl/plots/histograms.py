"""Histograms: how the numbers of many arrays are spread, such as the activations of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nissl.errors import unknown_name
from nissl.plots.checks import Array, Range, count, mapping, numbers, span
from nissl.plots.style import COLOURS, POINTS, SMALL, TEXT, TITLE, new_figure, plain, plain_names, text_width, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARED = ("all", "row", "none")
MOST_BINS = 1000  # more than a panel has pixels
PANEL = 2.2  # least width, in inches
BAND = 0.04  # of its panel: how wide the bar of numbers is that are all equal


def histograms(
    rows: Mapping[str, Mapping[str, npt.ArrayLike]],
    *,
    x: Range | None = None,
    shared: str = "row",
    bins: int = 40,
    title: str | None = None,
) -> Figure:
    """Draw a histogram of each array, in a grid: a row for each entry of `rows`, a column for each name in them.

    The arrays have any shape. All histograms have the scale `x` or, without it, one that holds all numbers that share
    it: "all", those of the "row", or "none", each its own. The tallest bar is as high as its panel, whose corner tells
    the standard deviation, and how many numbers are NaN or infinite. A name that a row lacks leaves its place empty.

    >>> figure = histograms({"std 1": {"layer 1": [0.1, 0.9], "layer 2": [0.5, 0.6]}})
    >>> [axes.get_title() for axes in figure.axes]
    ['layer 1', 'layer 2']
    """
    where = "histograms"
    cells = {
        row: {
            name: numbers(where, f"the array {row!r}, {name!r}", values, None).ravel()
            for name, values in mapping(where, f"arrays in the row {row!r}", by, "{column: array}").items()
        }
        for row, by in mapping(where, "arrays", rows, "{row: {column: array}}").items()
    }
    if x is not None:
        x = span(where, "x", x)
    if shared not in SHARED:
        raise unknown_name("scale of histograms", shared, SHARED)
    bins = count(where, "bins", bins, most=MOST_BINS)
    columns = list(dict.fromkeys(name for by in cells.values() for name in by))
    everything = [values for by in cells.values() for values in by.values()]
    scales, corners = {}, {}
    for row, by in cells.items():
        for name, values in by.items():
            together = {"all": everything, "row": list(by.values()), "none": [values]}[shared]
            scales[row, name] = _scale(together) if x is None else x
            corners[row, name] = _said(values, scales[row, name])
    room = max(text_width(text, SMALL) for text in corners.values()) / POINTS + 0.2
    figure, grid = _grid(plain_names(cells, 24), plain_names(columns, 24), room, title)
    for i, ((row, by), colour) in enumerate(zip(cells.items(), cycle(COLOURS), strict=False)):
        for j, name in enumerate(columns):
            if name not in by:
                grid[i, j].set_visible(False)
                continue
            _draw(grid[i, j], by[name], scales[row, name], bins, colour, corners[row, name])
            if i == len(cells) - 1 or (x is None and shared != "all"):
                _label_ends(grid[i, j], scales[row, name])
    return figure


def _grid(rows: list[str], columns: list[str], room: float, title: str | None) -> tuple[Figure, Array]:
    """Return a figure with a row and a column of panels for each name, and the panels, of `room` inches or more."""
    left = max(text_width(name, TEXT) for name in rows) / POINTS + 0.3  # all in inches
    panel = max(PANEL, room, *(text_width(name, TEXT) / POINTS + 0.2 for name in columns))
    width = left + panel * len(columns)
    written = wrapped(plain(title, 100), TITLE, POINTS * width - 2 * TITLE) if title else ""
    top, bottom = (0.9 + written.count("\n") * 1.2 * TITLE / POINTS if title else 0.5), 0.4
    height = top + bottom + 1.15 * len(rows)
    figure = new_figure(width, height)
    # The usual layout engine tries each of many panels, which takes seconds; here all sizes are known.
    figure.set_layout_engine("none")
    frame = {"left": left / width, "bottom": bottom / height, "right": 1 - 0.1 / width, "top": 1 - top / height}
    places = figure.add_gridspec(len(rows), len(columns), **frame, wspace=0.08, hspace=0.35)
    grid = places.subplots(squeeze=False)
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name, fontsize=TEXT)
    for axes, name in zip(grid[:, 0], rows, strict=True):
        axes.annotate(
            name,
            (0, 0.35),
            xycoords="axes fraction",
            xytext=(-8, 0),
            textcoords="offset points",
            fontsize=TEXT,
            horizontalalignment="right",
            annotation_clip=False,
        )
    if title:
        figure.suptitle(written, fontsize=TITLE, y=1 - 0.12 / height, verticalalignment="top")
    return figure, grid


def _scale(arrays: list[Array]) -> Range:
    """Return a range that holds all finite numbers, and is not empty."""
    values = np.concatenate(arrays)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # numbers that are equal but for rounding
        half = 0.5 * max(abs(low), 1.0)
        return low - half, high + half
    return (0.0 if 0 < low < BAND * high else low), high  # what begins almost at 0 begins there


def _draw(axes: Axes, values: Array, x: Range, bins: int, colour: str, said: str) -> None:
    finite = values[np.isfinite(values)]
    low, high = x
    if finite.size and np.ptp(finite) <= BAND * (high - low) / 2:
        # One bar around the numbers, since a bin would put them off their place, or apart.
        edges = np.array([-0.5, 0.5]) * BAND * (high - low) + finite.mean()
        counts = np.array([finite.size])
    else:
        counts, edges = np.histogram(finite, bins, range=x)
    axes.stairs(counts / max(int(counts.max()), 1), edges, fill=True, color=colour)
    room = 0.03 * (high - low)
    axes.set(xlim=(low - room, high + room), ylim=(0, 1.35), xticks=[], yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.text(0.98, 0.97, said, transform=axes.transAxes, fontsize=SMALL, ha="right", va="top")


def _said(values: Array, x: Range) -> str:
    """Return what the corner of a panel tells of its numbers."""
    finite = values[np.isfinite(values)]
    outside = len(finite) - int(((finite >= x[0]) & (finite <= x[1])).sum())
    said = [f"std {_short(_deviation(finite))}"] if finite.size else []
    said += [f"{outside:,} outside"] if outside else []
    said += [f"{len(values) - len(finite):,} not finite"] if len(finite) < len(values) else []
    return ", ".join(said)


def _deviation(values: Array) -> float:
    """Return the standard deviation, also of numbers whose squares are too large for float64."""
    largest = float(np.abs(values).max())
    return largest * float((values / largest).std()) if largest > 1e100 else float(values.std())


def _label_ends(axes: Axes, x: Range) -> None:
    """Write below a panel where its scale begins and ends."""
    for end, alignment in zip(x, ("left", "right"), strict=True):
        axes.annotate(
            _short(end),
            (end, 0),
            xytext=(0, -4),
            textcoords="offset points",
            fontsize=SMALL,
            horizontalalignment=alignment,
            verticalalignment="top",
            annotation_clip=False,
        )


def _short(number: float) -> str:
    """Return a number in few characters.

    >>> _short(0.0123), _short(297.4), _short(1.57e12)
    ('0.012', '297', '1.6e12')
    """
    if 100 <= abs(number) < 1e6:
        return f"{number:,.0f}"
    return f"{number:.2g}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-")
