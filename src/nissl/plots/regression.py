"""Regression: what was predicted against what was true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nissl.errors import ShapeError
from nissl.plots.checks import numbers
from nissl.plots.style import BLACK, BLUE, SMALL, TEXT, TITLE, new_figure, plain, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_POINTS = 5_000
NARROWEST = 1e-9  # width of the axes beside their ends: of narrower ones the ticks would be equal


def predictions(true: npt.ArrayLike, predicted: npt.ArrayLike, *, label: str = "", title: str | None = None) -> Figure:
    """Draw predicted numbers against true ones; on the line they are equal.

    Both have shape (points,); of more than 5,000 points, so many, evenly picked, are drawn. `label` names what the
    numbers are.

    Raises ShapeError for other shapes, or no points; DataError for NaN, infinity and numbers beyond ±1e300.

    >>> predictions([1.0, 2.0, 4.0], [1.1, 2.2, 3.5], label="price").axes[0].get_xlabel()
    'true price'
    """
    hint = "; give two finite numbers for each point"
    x, y = (
        numbers("predictions", name, given, ("points",), finite=True, hint=hint)
        for name, given in (("true", true), ("predicted", predicted))
    )
    if x.shape != y.shape:
        raise ShapeError(f"predictions got numbers of shapes {x.shape} and {y.shape}; expected (points,) for both")
    figure = new_figure(7, 7)
    axes = figure.add_subplot()
    tidy(axes)
    chosen = np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).astype(int)
    alpha = float(np.clip(300 / len(chosen), 0.15, 0.8))  # many points show where they are dense
    axes.scatter(x[chosen], y[chosen], s=24, color=BLUE, alpha=alpha, edgecolors="none")
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    size = max(abs(low), abs(high))
    margin = 0.03 * (high - low if high - low > NARROWEST * size else size) or 1.0
    ends = [low - margin, high + margin]
    axes.plot(ends, ends, color=BLACK, linewidth=1, zorder=1)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_aspect("equal")
    name = plain(label, 40)
    axes.set_xlabel(f"true {name}".strip(), fontsize=TEXT)
    axes.set_ylabel(f"predicted {name}".strip(), fontsize=TEXT)
    axes.set_title(plain(title or "Predicted against true", 60), fontsize=TITLE, pad=12)
    if len(chosen) < len(x):
        text = f"{len(chosen):,} of {len(x):,} points"
        axes.text(0.98, 0.02, text, fontsize=SMALL, horizontalalignment="right", transform=axes.transAxes)
    return figure
