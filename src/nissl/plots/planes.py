"""Planes: what a function or a model says at each point of a plane, and paths across it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nissl.errors import ShapeError
from nissl.plots.style import BLACK, COLOURS, SMALL, TEXT, TITLE, Array, new_figure, plain, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID = 201  # points along each side at which a function is looked at
Range = tuple[float, float]


def contour_paths(
    function: Callable[[Array, Array], npt.ArrayLike],
    paths: Mapping[str, npt.ArrayLike],
    *,
    x: Range,
    y: Range,
    levels: npt.ArrayLike | int = 15,
    title: str | None = None,
) -> Figure:
    """Draw the paths of optimizers over the contours of a function of two numbers, a panel for each.

    `function(x, y)` gets two arrays of one shape and returns another. A path has shape (steps, 2): the points that were
    visited, in order; a ring marks its beginning, a star its end. What leaves the frame is cut off.

    >>> figure = contour_paths(lambda x, y: x**2 + y**2, {"lr 0.1": [[1, 1], [0.8, 0.8]]}, x=(-2, 2), y=(-2, 2))
    >>> figure.axes[0].get_title()
    'lr 0.1'
    """
    visited = {name: np.asarray(path, float) for name, path in paths.items()}
    for name, path in visited.items():
        if path.ndim != 2 or path.shape[1] != 2:
            raise ShapeError(f"contour_paths got a path {name!r} of shape {path.shape}; expected (steps, 2)")
    columns, rows = np.meshgrid(np.linspace(*x, GRID), np.linspace(*y, GRID))
    heights = np.asarray(function(columns, rows), float)
    across = min(3, len(visited))
    down = -(-len(visited) // across)
    figure = new_figure(max(4.4 * across, 6), 4.0 * down + (0.5 if title else 0))
    for position, (name, path) in enumerate(visited.items(), start=1):
        axes = figure.add_subplot(down, across, position)
        axes.contour(columns, rows, heights, levels=levels, colors="grey", linewidths=0.7, alpha=0.6)
        colour = COLOURS[(position - 1) % len(COLOURS)]
        drawn = _within_reach(path, max(map(abs, (*x, *y))))
        axes.plot(*drawn.T, "-o", color=colour, markersize=3.5, linewidth=1.5)
        axes.plot(*drawn[0], "o", color=BLACK, markersize=9, fillstyle="none", markeredgewidth=2)
        axes.plot(*drawn[-1], "*", color=BLACK, markersize=12)
        axes.set(xlim=x, ylim=y)
        axes.set_box_aspect(1)
        axes.set_title(plain(name, 40), fontsize=TEXT)
        tidy(axes)
        axes.grid(False)
        axes.tick_params(labelsize=SMALL)
    if title:
        figure.suptitle(plain(title, 100), fontsize=TITLE)
    return figure


def _within_reach(path: Array, size: float) -> Array:
    """Return a path up to where it is lost in infinity; points far away come nearer, in the same direction."""
    finite = np.isfinite(path).all(axis=1)
    kept = path[: len(path) if finite.all() else max(int(finite.argmin()), 1)]
    reach = 100 * size
    return kept * np.minimum(1, reach / np.maximum(np.abs(kept).max(axis=1, keepdims=True), reach))
