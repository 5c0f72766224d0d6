"""Points: numbers that belong to places in the plane, such as how good each trial of a search was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nissl.errors import ShapeError
from nissl.plots.checks import check_above_zero, log_axes, numbers
from nissl.plots.style import BLACK, POINTS, SMALL, TEXT, TITLE, new_figure, plain, tidy, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 6.5 * POINTS, 5 * POINTS  # which texts beside the axes may take


def scatter(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    x_label: str = "",
    y_label: str = "",
    value_label: str = "",
    title: str | None = None,
    log: str = "",
) -> Figure:
    """Draw points (x, y) whose colour is a value: dark for low, bright for high; a star marks the highest,
    the first of several.

    `x`, `y` and `values` have shape (points,). `log` says which axes are logarithmic: "x", "y", "xy" or none.

    Raises DataError for NaN, infinity and numbers beyond ±1e300, and for 0 and less on a logarithmic axis.

    >>> figure = scatter([0.001, 0.1], [1e-5, 1e-8], [0.4, 0.9], log="xy", value_label="accuracy")
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['', 'accuracy']
    """
    log = log_axes("scatter", log)
    given, hint = {"x": x, "y": y, "values": values}, ", which have no place or colour; leave those points out"
    arrays = [numbers("scatter", name, array, ("points",), finite=True, hint=hint) for name, array in given.items()]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1:
        raise ShapeError(
            f"scatter got x, y and values of shapes {', '.join(map(str, shapes))}; expected (points,) for all three"
        )
    for axis, array in zip("xy", arrays, strict=False):
        if axis in log:
            check_above_zero("scatter", axis, array)
    figure = new_figure(8, 5.5)
    axes = figure.add_subplot()
    tidy(axes)
    # The highest last, so that low ones do not hide it; of several, the first, as argmax has it.
    order = np.argsort(-arrays[2], kind="stable")[::-1]
    across, up, height = (array[order] for array in arrays)
    drawn = axes.scatter(across, up, c=height, cmap="viridis", s=60, edgecolors=BLACK, linewidths=0.5)
    axes.plot(across[-1], up[-1], "*", color=BLACK, markersize=7)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    axes.set_xlabel(plain(x_label, 60), fontsize=TEXT)
    axes.set_ylabel(wrapped(plain(y_label, 60), TEXT, HEIGHT), fontsize=TEXT)
    if title:
        axes.set_title(wrapped(plain(title, 80), TITLE, WIDTH), fontsize=TITLE, pad=12)
    bar = figure.colorbar(drawn, ax=axes, aspect=25)
    bar.set_label(wrapped(plain(value_label, 60), TEXT, HEIGHT), fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
    return figure
