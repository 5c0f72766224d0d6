"""Curves: how numbers go, epoch by epoch or over anything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError, ShapeError
from nissl.plots.style import (
    BLUE,
    COLOURS,
    POINTS,
    TEXT,
    TITLE,
    VERMILLION,
    Array,
    new_figure,
    plain,
    text_width,
    tidy,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {  # name: colour, marker
    "training": (BLUE, "o"),
    "validation": (VERMILLION, "s"),
}
MOST_MARKERS = 30
MARKERS = "osD^vP*"  # in the order in which lines take them


class HasCurves(Protocol):
    """What holds curves by name, as a History does."""

    @property
    def curves(self) -> Mapping[str, npt.ArrayLike]:
        """Every curve by name."""


def learning_curves(curves: Mapping[str, npt.ArrayLike] | HasCurves, *, title: str | None = None) -> Figure:
    """Draw how loss, accuracy and other metrics went, epoch by epoch; the numbers at the line ends are the last ones.

    `curves` is a History, whose seconds are left out, or maps names to arrays of shape (epochs,). A metric and its
    `validation_` twin share a panel. Accuracy comes as a share and is drawn in percent. A loss that spans more than two
    decades gets a log scale. NaN and infinity leave a gap.

    >>> figure = learning_curves({"loss": [0.9, 0.4], "validation_loss": [0.8, 0.5], "accuracy": [0.7, 0.9]})
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'accuracy (%)']
    """
    if not isinstance(curves, Mapping):
        curves = {name: curve for name, curve in curves.curves.items() if name != "seconds"}
    panels = _panels(curves)
    columns = min(2, len(panels))
    rows = ceil(len(panels) / columns)
    figure = new_figure(6.4 * columns, 4.2 * rows + 0.5)
    figure.suptitle(plain(title or "Learning curves", 80), fontsize=TITLE)
    for position, (metric, lines) in enumerate(panels.items(), start=1):
        _draw_lines(figure.add_subplot(rows, columns, position), metric, lines)
    return figure


def lines(
    panels: Mapping[str, Mapping[str, npt.ArrayLike]],
    x: npt.ArrayLike | None = None,
    *,
    x_label: str = "step",
    y_label: str = "",
    title: str | None = None,
    log: str = "",
    markers: bool = False,
    same_y: bool = False,
) -> Figure:
    """Draw lines over a common x, a panel for each entry of `panels`, in which each line has its name and colour.

    `x` has shape (points,) and counts from 0 unless given; each line has shape (points,) too. A name has the same
    colour in all panels, and one legend below explains them. `markers` marks the points. `log` says which axes
    are logarithmic: "x", "y", "xy" or none. With `same_y` all panels have the y axis of the largest range, so that
    their lines compare.

    >>> figure = lines({"loss": {"SGD": [3.0, 2.0, 1.5], "Adam": [3.0, 1.0, 0.5]}})
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['SGD', 'Adam']
    """
    arrays = {panel: {name: np.asarray(y, float) for name, y in curves.items()} for panel, curves in panels.items()}
    lengths = {y.shape for curves in arrays.values() for y in curves.values()}
    if len(lengths) != 1 or any(len(shape) != 1 for shape in lengths):
        raise ShapeError(f"lines got arrays of shapes {sorted(lengths)}; expected (points,), the same for all lines")
    ((points,),) = lengths
    places = np.arange(points) if x is None else np.asarray(x, float)
    if places.shape != (points,):
        raise ShapeError(f"lines got x of shape {places.shape} for lines of {points} points")
    names = list(dict.fromkeys(name for curves in arrays.values() for name in curves))
    columns = min(3, len(arrays))
    rows = ceil(len(arrays) / columns)
    figure = new_figure(max(4.6 * columns, 7), 3.8 * rows + 0.8)
    handles = {}
    first: Axes | None = None
    for position, (panel, curves) in enumerate(arrays.items(), start=1):
        # The same x axis for all, also where a line has gaps at its ends.
        axes = figure.add_subplot(rows, columns, position, sharex=first, sharey=first if same_y else None)
        first = first or axes
        for name, y in curves.items():
            number = names.index(name)
            (handles[name],) = axes.plot(
                places,
                np.where(np.isfinite(y), y, np.nan),
                "-" if number < len(COLOURS) else "--",
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)] if markers else "",
                linewidth=2,
            )
        tidy(axes)
        if "x" in log:
            axes.set_xscale("log")
        elif _are_whole(places):
            axes.xaxis.set_major_locator(whole_numbers())
        if "y" in log:
            axes.set_yscale("log")
        elif all(_are_whole(y) for y in curves.values()):
            axes.yaxis.set_major_locator(whole_numbers())
        axes.set_title(plain(panel, 60), fontsize=TEXT)
        axes.set_xlabel(x_label, fontsize=TEXT)
        if (position - 1) % columns == 0:
            axes.set_ylabel(y_label, fontsize=TEXT)
    if title:
        figure.suptitle(plain(title, 100), fontsize=TITLE)
    if len(names) > 1:
        figure.legend(
            [handles[name] for name in names],
            [plain(name, 30) for name in names],
            loc="outside lower center",
            ncols=_legend_columns([plain(name, 30) for name in names], POINTS * figure.get_figwidth()),
            frameon=False,
            fontsize=TEXT,
        )
    return figure


def _are_whole(numbers: Array) -> bool:
    """Whether all numbers that are finite are integers."""
    finite = numbers[np.isfinite(numbers)]
    return bool(np.all(finite == np.round(finite)))


def _legend_columns(names: Sequence[str], width: float) -> int:
    """Return how many names fit side by side below a picture of a width in points.

    >>> _legend_columns(["SGD", "Adam"], 500), _legend_columns(["a name of quite some length"] * 4, 300)
    (2, 1)
    """
    column = max(text_width(name, TEXT) for name in names) + 5 * TEXT  # with the line before it and the gap after
    return max(1, min(len(names), int((width + 2 * TEXT) / column)))


def _panels(curves: Mapping[str, npt.ArrayLike]) -> dict[str, dict[str, Array]]:
    """Return for each metric, the loss first and the accuracy second, its lines by name."""
    arrays = {name: np.asarray(values, float) for name, values in curves.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise ShapeError(f"learning_curves got shapes {shapes}; expected one number an epoch in each, all equally many")
    if not any(array.size for array in arrays.values()):
        raise DataError("learning_curves got no epochs, so there is nothing to draw; did the first epoch end?")
    metrics = dict.fromkeys(name.removeprefix("validation_") for name in arrays)
    panels = {}
    for metric in sorted(metrics, key=lambda metric: (metric != "loss", metric != "accuracy")):
        twins = {"training": metric, "validation": f"validation_{metric}"}
        panels[metric] = {line: arrays[name] for line, name in twins.items() if name in arrays}
    return panels


def _draw_lines(axes: Axes, metric: str, lines: Mapping[str, Array]) -> None:
    in_percent = metric == "accuracy"
    drawn = {name: np.where(np.isfinite(y), y, np.nan) * (100 if in_percent else 1) for name, y in lines.items()}
    epochs = len(next(iter(drawn.values())))
    for name, y in drawn.items():
        colour, marker = LINES[name]
        marker = marker if epochs <= MOST_MARKERS else ""
        # A marker on the first or last epoch, or at 100 %, lies on the border: draw it whole.
        axes.plot(np.arange(1, epochs + 1), y, color=colour, marker=marker, linewidth=2, label=name, clip_on=False)

    tidy(axes)
    axes.set_xlim((1, epochs) if epochs > 1 else (0.5, 1.5))
    axes.xaxis.set_major_locator(whole_numbers())
    axes.set_xlabel("epoch", fontsize=TEXT)
    scale = _set_y_scale(axes, metric, np.concatenate(list(drawn.values())))
    label = {"accuracy": "accuracy (%)", "r2": "R²"}.get(metric, metric.replace("_", " "))
    axes.set_ylabel(label + scale, fontsize=TEXT)
    _label_line_ends(axes, drawn, "{:.1f} %" if in_percent else "{:.3g}")


def _set_y_scale(axes: Axes, metric: str, values: Array) -> str:
    """Choose scale and limits of the y axis; return what its label has to say about it."""
    values = values[np.isfinite(values)]
    if metric == "loss" and values.size and 0 < 100 * values.min() < values.max():
        axes.set_yscale("log")
        return " (log scale)"
    # matplotlib leaves a margin around the values, but there is nothing beyond 100 % or below a loss of 0.
    bottom, top = axes.get_ylim()
    if metric in ("loss", "accuracy") and np.all(values >= 0):
        bottom = max(bottom, 0)
    if metric == "accuracy" and np.all(values <= 100):
        top = min(top, 100)
    axes.set_ylim(bottom, top)
    return ""


def _label_line_ends(axes: Axes, lines: Mapping[str, Array], number: str) -> None:
    """Write name and last value to the right of each line, apart from each other where the lines meet."""
    to_height = axes.transScale + axes.transLimits  # of the axes: 0 is the bottom, 1 the top
    heights = {}
    for name, y in lines.items():
        finite = y[np.isfinite(y)]
        heights[name] = float(to_height.transform((1, finite[-1]))[1]) if finite.size else 0.5
    for (name, y), height in zip(lines.items(), _spread(list(heights.values()), 0.18), strict=True):
        value = number.format(y[-1]) if np.isfinite(y[-1]) else "not finite"
        axes.annotate(
            f"{name}\n{value}",
            (1, height),
            xycoords="axes fraction",
            xytext=(12, 0),
            textcoords="offset points",
            verticalalignment="center",
            fontsize=TEXT,
            color=LINES[name][0],
        )


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move two heights between 0 and 1 apart until they are `gap` apart; one alone stays.

    >>> _spread([0.5, 0.5], 0.25)
    [0.625, 0.375]
    """
    if len(heights) < 2 or abs(heights[0] - heights[1]) >= gap:
        return list(heights)
    middle = min(max(sum(heights) / 2, gap / 2), 1 - gap / 2)
    up = 1 if heights[0] >= heights[1] else -1
    return [middle + up * gap / 2, middle - up * gap / 2]
