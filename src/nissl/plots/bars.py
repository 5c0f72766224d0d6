"""Bars: a number for each of some names, such as how important the columns of a table are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError, ShapeError
from nissl.plots.checks import names as checked_names
from nissl.plots.checks import numbers
from nissl.plots.style import BLACK, BLUE, POINTS, TEXT, TITLE, new_figure, plain, plain_names, text_width, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BARS = 30


def importances(
    names: Sequence[str],
    values: npt.ArrayLike,
    errors: npt.ArrayLike,
    *,
    label: str = "importance",
    title: str | None = None,
) -> Figure:
    """Draw a bar for each name, the longest first, with its error as a thin line; the 30 largest of more.

    `values` and `errors` have shape (names,); an error is drawn to both sides. `label` says what the values are.

    Raises ShapeError for no names, or values or errors that are not one for each; DataError for NaN, infinity, numbers
    beyond ±1e300 and errors below 0.

    >>> figure = importances(["age", "class"], [0.02, 0.2], [0.01, 0.02], label="loss of accuracy")
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['class', 'age']
    """
    listed = checked_names("importances", "names", names)
    if not listed:
        raise ShapeError("importances got 0 names, so there is nothing to draw; expected one or more")
    hint = "; give one finite number for each name"
    lengths = numbers("importances", "values", values, (len(listed),), finite=True, hint=hint)
    widths = numbers("importances", "errors", errors, (len(listed),), finite=True, hint=hint)
    if (widths < 0).any():
        raise DataError(f"importances got errors with {widths.min():g} in them; an error is 0 or more, to both sides")
    order = np.argsort(-lengths, kind="stable")[:MOST_BARS]
    shown = plain_names([listed[i] for i in order], 32)
    margin = max(text_width(name, TEXT) for name in shown) / POINTS
    figure = new_figure(margin + 6.5, 0.36 * len(order) + 1.6)
    axes = figure.add_subplot()
    tidy(axes)
    axes.grid(visible=False, axis="y")
    places = np.arange(len(order))
    axes.barh(places, lengths[order], xerr=widths[order], color=BLUE, error_kw={"linewidth": 1, "ecolor": BLACK})
    axes.axvline(0, color=BLACK, linewidth=1)
    axes.set_yticks(places, shown, fontsize=TEXT)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(order) - 0.4, -0.6)  # the first on top
    axes.set_xlabel(plain(label, 60), fontsize=TEXT)
    what = title or "Importance of each name"
    axes.set_title(
        plain(f"{what}, the {MOST_BARS} largest of {len(listed)}" if len(listed) > MOST_BARS else what, 70),
        fontsize=TITLE,
        pad=12,
    )
    return figure
