"""Planes: what a function or a model says at each point of a plane, and paths across it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError, OptionError, ShapeError
from nissl.plots.checks import (
    Array,
    Range,
    check_shape,
    checked_function,
    count,
    mapping,
    names,
    numbers,
    real_numbers,
    span,
)
from nissl.plots.style import (
    BLACK,
    COLOURS,
    MOST_IN_LEGEND,
    POINTS,
    SMALL,
    TEXT,
    add_legend,
    add_title,
    new_figure,
    plain,
    tidy,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = 201  # points along each side at which a function is looked at
MOST_LEVELS = 200
MOST_ARROWS = 100  # a side
PANEL = 3.8 * POINTS  # which texts beside a panel may take
MARKERS = "os^Dv*P"  # a class has a marker of its own too: colour is not the only thing that tells classes apart


def contour_paths(
    function: Callable[[Array, Array], npt.ArrayLike],
    paths: Mapping[str, npt.ArrayLike],
    *,
    x: Range,
    y: Range,
    levels: npt.ArrayLike | int = 15,
    axis_labels: tuple[str, str] = ("x", "y"),
    title: str | None = None,
) -> Figure:
    """Draw the paths of optimizers over the contours of a function of two numbers, a panel for each.

    `function(x, y)` gets two arrays of one shape and returns another. A path has shape (steps, 2): the points that were
    visited, in order; a ring marks its beginning, a star its end. What leaves the frame is cut off, as is what follows
    NaN or infinity. `levels` says how many contours there are, or their heights in rising order.

    >>> figure = contour_paths(lambda x, y: x**2 + y**2, {"lr 0.1": [[1, 1], [0.8, 0.8]]}, x=(-2, 2), y=(-2, 2))
    >>> figure.axes[0].get_title()
    'lr 0.1'
    """
    from matplotlib.lines import Line2D

    x, y = span("contour_paths", "x", x), span("contour_paths", "y", y)
    visited = {
        name: numbers("contour_paths", f"a path {name!r}", path, ("steps", 2), largest=np.inf)
        for name, path in mapping("contour_paths", "paths", paths, "{name: points}").items()
    }
    for name, path in visited.items():
        if not np.isfinite(path[0]).all():
            raise DataError(
                f"contour_paths got a path {name!r} that begins at {path[0]}, which is nowhere in the plane"
            )
    levels = _levels(levels)
    across_label, up_label = _two_names("contour_paths", axis_labels)
    ground = _heights("contour_paths", function, x, y)
    across = min(3, len(visited))
    down = -(-len(visited) // across)
    figure = new_figure(max(4.2 * across, 5), 4.4 * down + (0.9 if title else 0.6))
    ring: dict[str, Any] = {"marker": "o", "markersize": 9, "fillstyle": "none", "markeredgewidth": 2}
    star: dict[str, Any] = {"marker": "*", "markersize": 12}
    for position, (name, path) in enumerate(visited.items(), start=1):
        axes = figure.add_subplot(down, across, position)
        _draw_contours(axes, *ground, levels)
        colour = COLOURS[(position - 1) % len(COLOURS)]
        drawn = _within_reach(path, max(map(abs, (*x, *y))))
        axes.plot(*drawn.T, "-o", color=colour, markersize=3.5, linewidth=1.5)
        axes.plot(*drawn[0], color=BLACK, **ring)
        axes.plot(*drawn[-1], color=BLACK, **star)
        axes.set(xlim=x, ylim=y)
        axes.set_box_aspect(1)
        axes.set_title(wrapped(plain(name, 40), TEXT, PANEL), fontsize=TEXT)
        tidy(axes)
        axes.grid(False)
        axes.tick_params(labelsize=SMALL)
        axes.set_xlabel(across_label, fontsize=TEXT)
        if (position - 1) % across == 0:
            axes.set_ylabel(up_label, fontsize=TEXT)
    add_title(figure, title)
    marks = [Line2D([], [], color=BLACK, linestyle="", **mark) for mark in (ring, star)]
    add_legend(figure, marks, ["beginning", "end"], most_columns=2)
    return figure


def _levels(given: npt.ArrayLike | int) -> Array | int:
    if not hasattr(given, "__len__"):
        return count("contour_paths", "levels", given, most=MOST_LEVELS)
    levels = numbers("contour_paths", "levels", given, ("levels",), finite=True)
    if (np.diff(levels) <= 0).any():
        raise OptionError("contour_paths got levels that do not rise from each to the next")
    return levels


def _heights(where: str, function: Callable[..., Any], x: Range, y: Range) -> tuple[Array, Array, Array]:
    """Return the x, the y and the heights of a function on a fine grid."""
    columns, rows = np.meshgrid(np.linspace(*x, GRID), np.linspace(*y, GRID))
    found = checked_function(where, "a function of heights", function)(columns, rows)
    heights = numbers(where, "heights from its function", found, columns.shape)
    if not np.isfinite(heights).any():
        raise DataError(f"{where} got heights from its function that are all NaN or infinite")
    return columns, rows, heights


def _draw_contours(axes: Axes, columns: Array, rows: Array, heights: Array, levels: Array | int) -> None:
    low, high = heights[np.isfinite(heights)].min(), heights[np.isfinite(heights)].max()
    if low < high and (isinstance(levels, int) or ((low <= levels) & (levels <= high)).any()):  # else there are none
        axes.contour(columns, rows, heights, levels=levels, colors="grey", linewidths=0.7, alpha=0.6)


def _within_reach(path: Array, size: float) -> Array:
    """Return a path up to where it is lost in infinity; points far away come nearer, in the same direction."""
    finite = np.isfinite(path).all(axis=1)
    kept = path[: len(path) if finite.all() else max(int(finite.argmin()), 1)]
    reach = 100 * size
    return kept * np.minimum(1, reach / np.maximum(np.abs(kept).max(axis=1, keepdims=True), reach))


def decision_regions(
    panels: Mapping[str, Callable[[Array], npt.ArrayLike]],
    points: npt.ArrayLike,
    classes: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    *,
    x: Range | None = None,
    y: Range | None = None,
    labels: Sequence[object] | None = None,
    axis_labels: tuple[str, str] = ("x₁", "x₂"),
    columns: int = 3,
    title: str | None = None,
) -> Figure:
    """Draw which class is chosen where in the plane, and the points with their true classes, a panel for each decision.

    A decision is a function from points of shape (n, 2) to shape (n,): class numbers (integers or bools), or scores
    from 0 to 1 (floats) for class 1, which it chooses above 0.5. The colour gets paler where a score is unsure; a line
    marks the border. `points` has shape (points, 2), `classes` shape (points,), or a mapping from panel names to that.
    A point on the wrong side is crossed out. The frame is `x` and `y`, or what holds all points.

    >>> points = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> figure = decision_regions({"OR": lambda x: x.sum(axis=1) > 0.5}, points, [0, 1, 1, 1])
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['class 0', 'class 1']
    """
    from matplotlib.lines import Line2D

    where = "decision_regions"
    spots = numbers(where, "points", points, ("points", 2), finite=True)
    panels = mapping(where, "panels", panels, "{name: function}")
    truths = {name: _true_classes(name, classes, len(spots)) for name in panels}
    x = _frame(spots[:, 0]) if x is None else span(where, "x", x)
    y = _frame(spots[:, 1]) if y is None else span(where, "y", y)
    columns = count(where, "columns", columns)
    grid = np.stack(np.meshgrid(np.linspace(*x, GRID), np.linspace(*y, GRID)), axis=-1)
    shares = {name: _class_shares(name, decide, grid.reshape(-1, 2)) for name, decide in panels.items()}
    chosen = {name: _class_shares(name, decide, spots).argmax(axis=1) for name, decide in panels.items()}
    found = max(max(share.shape[1] for share in shares.values()), *(int(truth.max()) + 1 for truth in truths.values()))
    class_names = [f"class {i}" for i in range(found)] if labels is None else names(where, "labels", labels)
    if len(class_names) < found:
        raise OptionError(f"decision_regions got {len(class_names)} labels for classes 0 to {found - 1}")
    across_label, up_label = _two_names("decision_regions", axis_labels)

    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(max(4.2 * across, 5), 4.4 * down + (0.9 if title else 0.6))
    size = float(np.clip(40 / np.sqrt(len(spots)), 5, 13))  # of a point: smaller where there are many
    handles: dict[int, Line2D] = {}  # by class; that of the crosses comes last
    for position, (name, share) in enumerate(shares.items(), start=1):
        axes = figure.add_subplot(down, across, position)
        _draw_regions(axes, share.reshape(GRID, GRID, -1), x, y)
        for i in np.unique(truths[name]).tolist():
            here = spots[truths[name] == i]
            # Where the colours begin anew, the markers begin one further on.
            marker, colour = MARKERS[(i + i // len(COLOURS)) % len(MARKERS)], COLOURS[i % len(COLOURS)]
            axes.plot(*here.T, marker, color=colour, markersize=size, markeredgecolor="white", linestyle="")
            handles[i] = Line2D([], [], color=colour, marker=marker, markersize=9, linestyle="")
        wrong = spots[chosen[name] != truths[name]]
        if len(wrong):
            axes.plot(*wrong.T, "x", color=BLACK, markersize=1.4 * size, markeredgewidth=size / 6)
            handles[found] = Line2D([], [], color=BLACK, marker="x", markersize=9, markeredgewidth=2, linestyle="")
        axes.set(xlim=x, ylim=y)
        axes.set_box_aspect(1)
        axes.set_title(wrapped(plain(name, 40), TEXT, PANEL), fontsize=TEXT)
        tidy(axes)
        axes.grid(False)
        axes.set_xlabel(across_label, fontsize=TEXT)
        if (position - 1) % across == 0:
            axes.set_ylabel(up_label, fontsize=TEXT)
    add_title(figure, title)
    shown = sorted(handles)
    explained = [[*class_names[:found], "wrong"][i] for i in shown]
    add_legend(figure, [handles[i] for i in shown], explained, most_columns=3 * across)
    return figure


def _two_names(where: str, labels: object) -> list[str]:
    found = names(where, "axis_labels", labels)
    if len(found) != 2:
        raise OptionError(f"{where} got {len(found)} axis_labels; expected two, for across and up")
    return [wrapped(plain(label, 60), TEXT, PANEL) for label in found]


def _frame(values: Array) -> Range:
    """Return a range that holds all values with some room around them."""
    low, high = float(values.min()), float(values.max())
    room = 0.2 * (high - low) or max(1.0, 1e-6 * abs(high))
    return low - room, high + room


def _true_classes(name: str, classes: npt.ArrayLike | Mapping[str, npt.ArrayLike], points: int) -> Array:
    if isinstance(classes, Mapping):
        if name not in classes:
            raise DataError(f"decision_regions got no classes for the panel {name!r}, only for {', '.join(classes)}")
        classes = classes[name]
    truth = numbers("decision_regions", "classes", classes, ("points",))
    if truth.shape != (points,):
        raise ShapeError(
            f"decision_regions got classes of shape {truth.shape} for {points} points; expected ({points},)"
        )
    return _class_numbers("classes", truth)


def _class_numbers(what: str, given: Array) -> Array:
    # NaN and infinity fail this too.
    if not np.all((given >= 0) & (given == np.floor(given)) & (given < MOST_IN_LEGEND)):
        raise DataError(
            f"decision_regions got {what} from {given.min():g} to {given.max():g}; it needs class numbers, which are "
            f"whole numbers from 0, and can tell {MOST_IN_LEGEND} classes apart, up to {MOST_IN_LEGEND - 1}"
        )
    return given.astype(int)


def _class_shares(name: str, decide: Callable[[Array], npt.ArrayLike], points: Array) -> Array:
    """Return how much each point belongs to each class: shape (points, classes), rows that add up to 1."""
    what = f"what {name!r} returned"
    decided = real_numbers(
        "decision_regions", what, checked_function("decision_regions", f"panel {name!r}", decide)(points)
    )
    check_shape("decision_regions", what, decided, (len(points),), hint=f" for points of shape {points.shape}")
    if decided.dtype.kind == "f":
        # NaN fails this too.
        if not np.all((decided >= 0) & (decided <= 1)):
            raise DataError(f"decision_regions: {name!r} returned scores outside 0 to 1; class numbers are integers")
        return np.stack([1 - decided, decided], axis=1)
    classes = _class_numbers(what, decided)
    return np.eye(max(int(classes.max()) + 1, 2))[classes]


def _draw_regions(axes: Axes, shares: Array, x: Range, y: Range) -> None:
    """Colour the plane by the chosen class, paler where it is unsure, and draw the borders."""
    from matplotlib.colors import to_rgb

    colours = np.array([to_rgb(COLOURS[i % len(COLOURS)]) for i in range(shares.shape[2])])
    chosen, most = shares.argmax(axis=2), shares.max(axis=2, keepdims=True)
    strength = 0.1 + 0.3 * (2 * most - 1)  # of two classes the larger share is at least ½
    picture = 1 - strength * (1 - colours[chosen])
    half_x, half_y = np.ptp(x) / (GRID - 1) / 2, np.ptp(y) / (GRID - 1) / 2
    extent = (x[0] - half_x, x[1] + half_x, y[0] - half_y, y[1] + half_y)  # pixels lie around the points of the grid
    axes.imshow(picture, extent=extent, origin="lower", interpolation="nearest", aspect="auto", zorder=0)
    for i in range(1 if shares.shape[2] == 2 else 0, shares.shape[2]):
        others = np.delete(shares, i, axis=2).max(axis=2)
        ahead = shares[..., i] - others
        if ahead.min() < 0 < ahead.max():
            spread = (np.linspace(*x, GRID), np.linspace(*y, GRID))
            axes.contour(*spread, ahead, levels=[0], colors=BLACK, linewidths=1.2, zorder=1)


def vector_field(
    field: Callable[[Array, Array], tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    x: Range,
    y: Range,
    heights: Callable[[Array, Array], npt.ArrayLike] | None = None,
    arrows: int = 15,
    title: str | None = None,
) -> Figure:
    """Draw a field of vectors as arrows, `arrows` a side, over the contours of `heights` if it is given.

    `field(x, y)` gets two arrays of one shape and returns two of that shape, the components of the vector at each
    point; `heights(x, y)` returns one. The longest arrow spans the distance between two points, and the others are as
    long in proportion. Where the field is NaN or infinite, there is no arrow.

    >>> figure = vector_field(lambda x, y: (-2 * x, -2 * y), x=(-2, 2), y=(-2, 2), title="downhill")
    >>> figure.get_suptitle()
    'downhill'
    """
    where = "vector_field"
    arrows = count(where, "arrows", arrows, least=2, most=MOST_ARROWS)
    x, y = span(where, "x", x), span(where, "y", y)
    columns, rows = np.meshgrid(np.linspace(*x, arrows), np.linspace(*y, arrows))
    found = checked_function(where, "field", field)(columns, rows)
    across, up = numbers(where, "components from its field", found, (2, *columns.shape))
    there = np.isfinite(across) & np.isfinite(up)
    if not there.any():
        raise DataError("vector_field got a field that is NaN or infinite everywhere")
    across, up = np.where(there, across, np.nan), np.where(there, up, np.nan)
    figure = new_figure(6, 6 + (0.5 if title else 0))
    axes = figure.add_subplot()
    if heights is not None:
        _draw_contours(axes, *_heights(where, heights, x, y), levels=12)
    steps = np.array([np.ptp(x), np.ptp(y)]) / (arrows - 1)
    longest = np.nanmax(np.hypot(across / steps[0], up / steps[1]), initial=0.0)
    axes.quiver(
        columns,
        rows,
        across,
        up,
        color=COLOURS[0],
        angles="xy",
        scale_units="xy",
        scale=longest or 1.0,
        width=0.004,
        minlength=0.5,
    )
    axes.set(xlim=(x[0] - steps[0] / 2, x[1] + steps[0] / 2), ylim=(y[0] - steps[1] / 2, y[1] + steps[1] / 2))
    axes.set_box_aspect(1)
    tidy(axes)
    axes.grid(False)
    axes.set_xlabel("x₀", fontsize=TEXT)
    axes.set_ylabel("x₁", fontsize=TEXT)
    add_title(figure, title, 60)
    return figure
