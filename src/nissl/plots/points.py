"""Points: numbers that belong to places in the plane, such as how good each trial of a search was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError, ShapeError
from nissl.plots.style import BLACK, SMALL, TEXT, TITLE, new_figure, plain, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    """Draw points (x, y) whose colour is a value: dark for low, bright for high; a star marks the highest.

    `x`, `y` and `values` have shape (points,). `log` says which axes are logarithmic: "x", "y", "xy" or none.

    >>> figure = scatter([0.001, 0.1], [1e-5, 1e-8], [0.4, 0.9], log="xy", value_label="accuracy")
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['', 'accuracy']
    """
    arrays = [np.asarray(array, float) for array in (x, y, values)]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or arrays[0].ndim != 1 or not arrays[0].size:
        raise ShapeError(
            f"scatter got x, y and values of shapes {', '.join(map(str, shapes))}; expected (points,) for all three"
        )
    if not np.isfinite(arrays[2]).all():
        raise DataError("scatter got values that are NaN or infinite, which have no colour; leave those points out")
    figure = new_figure(8, 5.5)
    axes = figure.add_subplot()
    tidy(axes)
    order = np.argsort(arrays[2])  # the highest last, so that low ones do not hide it
    across, up, height = (array[order] for array in arrays)
    drawn = axes.scatter(across, up, c=height, cmap="viridis", s=60, edgecolors=BLACK, linewidths=0.5)
    axes.plot(across[-1], up[-1], "*", color=BLACK, markersize=7)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    axes.set_xlabel(plain(x_label, 60), fontsize=TEXT)
    axes.set_ylabel(plain(y_label, 60), fontsize=TEXT)
    if title:
        axes.set_title(plain(title, 80), fontsize=TITLE, pad=12)
    bar = figure.colorbar(drawn, ax=axes, aspect=25)
    bar.set_label(plain(value_label, 60), fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
    return figure
