"""Curves: how numbers go, epoch by epoch or over anything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError, OptionError, ShapeError
from nissl.plots.checks import Array, check_above_zero, log_axes, mapping, numbers, said
from nissl.plots.style import (
    BLUE,
    COLOURS,
    MOST_IN_LEGEND,
    POINTS,
    SMALL,
    TEXT,
    VERMILLION,
    add_legend,
    add_title,
    new_figure,
    plain,
    tidy,
    whole_numbers,
    wrapped,
)
from nissl.text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {  # name: colour, marker
    "training": (BLUE, "o"),
    "validation": (VERMILLION, "s"),
}
MOST_MARKERS = 30
MARKERS = "osD^vP*"  # in the order in which lines take them
DASHES = ("-", "--", ":", "-.")  # of the first lines, one for each colour, of the next, and so on
PANEL_WIDTH, PANEL_HEIGHT = 4.4 * POINTS, 3.4 * POINTS  # which texts beside a panel may take


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

    Raises ShapeError unless all have the same number of epochs, DataError for an accuracy outside 0 to 1.

    >>> figure = learning_curves({"loss": [0.9, 0.4], "validation_loss": [0.8, 0.5], "accuracy": [0.7, 0.9]})
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'accuracy (%)']
    """
    panels = _panels(_curves(curves))
    columns = min(2, len(panels))
    rows = ceil(len(panels) / columns)
    figure = new_figure(6.4 * columns, 4.2 * rows + 0.5)
    add_title(figure, title or "Learning curves", 80)
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
    colour in all panels, and one legend below explains them, at most 28. `markers` marks the points. NaN and infinity
    leave a gap, and a point between two gaps is marked in any case. `log` says which axes are logarithmic: "x", "y",
    "xy" or none. With `same_y` all panels have the y axis of the largest range, so that their lines compare.

    Raises DataError if nothing is finite, for numbers beyond ±1e300, and for 0 and less on a logarithmic axis.

    >>> figure = lines({"loss": {"SGD": [3.0, 2.0, 1.5], "Adam": [3.0, 1.0, 0.5]}})
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['SGD', 'Adam']
    """
    log = log_axes("lines", log)
    arrays = _line_arrays(panels)
    points = len(next(iter(next(iter(arrays.values())).values())))
    places = np.arange(points) if x is None else numbers("lines", "x", x, (points,))
    _check_drawable(arrays, places, log)
    names = list(dict.fromkeys(name for curves in arrays.values() for name in curves))
    if len(names) > MOST_IN_LEGEND:
        raise OptionError(f"lines got {len(names)} names of lines; it can tell at most {MOST_IN_LEGEND} apart")
    columns = 2 if len(arrays) == 4 else min(3, len(arrays))
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
            y = np.where(_drawn(places, y), y, np.nan)
            (handles[name],) = axes.plot(
                places,
                y,
                DASHES[number // len(COLOURS)],
                color=COLOURS[number % len(COLOURS)],
                linewidth=2,
                **_marked(y, MARKERS[number % len(MARKERS)], everywhere=markers),
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
        missing = [plain(name, 30) for name, y in curves.items() if not _drawn(places, y).any()]
        if missing:
            _say_in_corner(axes, f"not finite: {', '.join(missing)}")
        axes.set_title(wrapped(plain(panel, 60), TEXT, PANEL_WIDTH), fontsize=TEXT)
        axes.set_xlabel(wrapped(plain(x_label, 60), TEXT, PANEL_WIDTH), fontsize=TEXT)
        if (position - 1) % columns == 0:
            axes.set_ylabel(wrapped(plain(y_label, 60), TEXT, PANEL_HEIGHT), fontsize=TEXT)
    add_title(figure, title)
    if len(names) > 1:
        add_legend(figure, [handles[name] for name in names], names, most_columns=len(names))
    return figure


def _line_arrays(panels: object) -> dict[Any, dict[Any, Array]]:
    """Return the lines of each panel as arrays, all of one shape."""
    arrays = {
        panel: {
            name: numbers("lines", f"the line {name!r} of {panel!r}", y, ("points",))
            for name, y in mapping("lines", f"lines of {panel!r}", curves, "arrays by name").items()
        }
        for panel, curves in mapping("lines", "panels", panels, "{panel: {line: array}}").items()
    }
    shapes = {y.shape for curves in arrays.values() for y in curves.values()}
    if len(shapes) > 1:
        raise ShapeError(f"lines got arrays of shapes {sorted(shapes)}; expected (points,), the same for all lines")
    return arrays


def _check_drawable(panels: Mapping[Any, Mapping[Any, Array]], x: Array, log: str) -> None:
    """Raise DataError if there is nothing to see, or something that has no place on a logarithmic axis."""
    if "x" in log:
        check_above_zero("lines", "x", x)
    for panel, curves in panels.items():
        for name, y in curves.items() if "y" in log else ():
            check_above_zero("lines", f"the line {name!r} of {panel!r}", y)
    if not any(_drawn(x, y).any() for curves in panels.values() for y in curves.values()):
        raise DataError("lines got no point whose x and y are finite, so there is nothing to draw")


def _drawn(x: Array, y: Array) -> npt.NDArray[np.bool_]:
    """Return which points are drawn."""
    there: npt.NDArray[np.bool_] = np.isfinite(x) & np.isfinite(y)
    return there


def _marked(y: Array, marker: str, *, everywhere: bool) -> dict[str, Any]:
    """Return how the points of a line are marked: those without neighbours always, as no line leads there."""
    there = np.isfinite(np.concatenate([[np.nan], y, [np.nan]]))
    alone = np.flatnonzero(there[1:-1] & ~there[:-2] & ~there[2:])
    if everywhere or not alone.size:
        return {"marker": marker if everywhere else ""}
    return {"marker": marker, "markevery": alone.tolist()}


def _say_in_corner(axes: Axes, text: str) -> None:
    """Write a remark into the upper right corner, or into the lower one where lines end in the upper half."""
    to_height = axes.transScale + axes.transLimits  # of the axes: 0 is the bottom, 1 the top
    lines = (line.get_xydata() for line in axes.get_lines())
    ends = [points[np.isfinite(points).all(axis=1)][-1:] for points in map(np.asarray, lines)]
    up = any(to_height.transform(end)[0, 1] > 0.5 for end in ends if len(end))
    axes.text(
        0.98,
        0.03 if up else 0.97,
        wrapped(text, SMALL, PANEL_WIDTH),
        transform=axes.transAxes,
        fontsize=SMALL,
        horizontalalignment="right",
        verticalalignment="bottom" if up else "top",
    )


def _are_whole(numbers: Array) -> bool:
    """Whether all numbers that are finite are integers."""
    finite = numbers[np.isfinite(numbers)]
    return bool(np.all(finite == np.round(finite)))


def _curves(given: object) -> dict[str, npt.ArrayLike]:
    """Return what a History or a mapping holds, by name."""
    if not isinstance(given, Mapping) and isinstance(getattr(given, "curves", None), Mapping):
        return {name: curve for name, curve in given.curves.items() if name != "seconds"}  # type: ignore[attr-defined]
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise DataError(f"learning_curves got {said(given)}; expected a History, or {{name: numbers of the epochs}}")
    return dict(given)


def _panels(curves: Mapping[str, npt.ArrayLike]) -> dict[str, dict[str, Array]]:
    """Return for each metric, the loss first and the accuracy second, its lines by name."""
    where = "learning_curves"
    arrays = {name: numbers(where, f"the curve {name!r}", y, ("epochs",), empty=True) for name, y in curves.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ShapeError(f"learning_curves got shapes {shapes}; expected one number an epoch in each, all equally many")
    if not any(array.size for array in arrays.values()):
        raise DataError("learning_curves got no epochs, so there is nothing to draw; did the first epoch end?")
    metrics = dict.fromkeys(name.removeprefix("validation_") for name in arrays)
    panels = {}
    for metric in sorted(metrics, key=lambda metric: (metric != "loss", metric != "accuracy")):
        twins = {"training": metric, "validation": f"validation_{metric}"}
        panels[metric] = {line: arrays[name] for line, name in twins.items() if name in arrays}
    for share in panels.get("accuracy", {}).values():
        if (np.abs(share - 0.5) > 0.5 + 1e-6)[np.isfinite(share)].any():
            raise DataError("learning_curves got an accuracy outside 0 to 1; it comes as a share, not in percent")
    return panels


def _draw_lines(axes: Axes, metric: str, lines: Mapping[str, Array]) -> None:
    in_percent = metric == "accuracy"
    drawn = {name: np.where(np.isfinite(y), y, np.nan) * (100 if in_percent else 1) for name, y in lines.items()}
    epochs = len(next(iter(drawn.values())))
    for name, y in drawn.items():
        colour, marker = LINES[name]
        marks = _marked(y, marker, everywhere=epochs <= MOST_MARKERS)
        # A marker on the first or last epoch, or at 100 %, lies on the border: draw it whole.
        axes.plot(np.arange(1, epochs + 1), y, color=colour, linewidth=2, label=name, clip_on=False, **marks)

    tidy(axes)
    axes.set_xlim((1, epochs) if epochs > 1 else (0.5, 1.5))
    axes.xaxis.set_major_locator(whole_numbers())
    axes.set_xlabel("epoch", fontsize=TEXT)
    scale = _set_y_scale(axes, metric, np.concatenate(list(drawn.values())))
    label = {"accuracy": "accuracy (%)", "r2": "R²"}.get(metric, plain(metric.replace("_", " "), 60))
    axes.set_ylabel(wrapped(label + scale, TEXT, PANEL_HEIGHT), fontsize=TEXT)
    _label_line_ends(axes, drawn, (lambda y: percent(y / 100)) if in_percent else "{:.3g}".format)


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


def _label_line_ends(axes: Axes, lines: Mapping[str, Array], in_words: Callable[[float], str]) -> None:
    """Write name and last value to the right of each line, apart from each other where the lines meet."""
    to_height = axes.transScale + axes.transLimits  # of the axes: 0 is the bottom, 1 the top
    heights = {}
    for name, y in lines.items():
        finite = y[np.isfinite(y)]
        heights[name] = float(to_height.transform((1, finite[-1]))[1]) if finite.size else 0.5
    for (name, y), height in zip(lines.items(), _spread(list(heights.values()), 0.18), strict=True):
        value = in_words(y[-1]) if np.isfinite(y[-1]) else "not finite"
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
