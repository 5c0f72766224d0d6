"""Classification: which classes are taken for which, and the mistakes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sin, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError, OptionError, ShapeError
from nissl.plots.checks import Array, check_shape, names, numbers, real_numbers
from nissl.plots.style import (
    POINTS,
    SKY,
    SMALL,
    TEXT,
    TITLE,
    VERMILLION,
    message,
    new_figure,
    plain,
    plain_names,
    text_width,
)
from nissl.text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_MISTAKES = 25
MOST_EXAMPLES = 2**53  # which float64 counts exactly


def confusion_matrix(matrix: npt.ArrayLike, class_names: Sequence[str] | None = None) -> Figure:
    """Draw which classes are taken for which: a row for each true class, a column for each predicted one.

    `matrix` has shape (classes, classes) and holds counts; without names, classes go by their numbers. The colour is
    the share of the row, so that rare classes show as well as frequent ones; it rises steeply near zero, where the
    mistakes of a good model are. Where the cells get too small for numbers (many classes), the colour speaks alone.

    >>> figure = confusion_matrix([[48, 2], [5, 45]], ["cat", "dog"])
    >>> figure.axes[0].get_title()
    'Confusion matrix: 93 of 100 right (93.0 %)'
    """
    counts, written = _checked_counts(matrix, class_names)
    classes = len(written)
    side = min(max(8, 0.45 * classes), 13.5)  # of the matrix, in inches
    cell = POINTS * side / classes
    longest = max(text_width(name, TEXT) for name in written)
    rotated = longest > 0.9 * cell
    below = longest * sin(np.pi / 4) if rotated else TEXT
    figure = new_figure(side + longest / POINTS + 2, side + below / POINTS + 1.2)

    axes = figure.add_subplot()
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # an absent class has a row of zeros
    _draw_cells(figure, axes, shares)
    _write_counts(axes, counts, shares, cell)
    ticks = np.arange(0, classes, ceil(1.3 * TEXT / cell))  # every class, unless the names would touch
    shown = [written[tick] for tick in ticks]
    slant: dict[str, Any] = {"rotation": 45, "horizontalalignment": "right", "rotation_mode": "anchor"}
    axes.set_xticks(ticks, shown, fontsize=TEXT, **(slant if rotated else {}))
    axes.set_yticks(ticks, shown, fontsize=TEXT)
    axes.set_xlabel("predicted class", fontsize=TITLE)
    axes.set_ylabel("true class", fontsize=TITLE)
    right, total = int(np.trace(counts)), int(counts.sum())
    share = f" ({percent(right / total)})" if total else ""
    axes.set_title(f"Confusion matrix: {right:,} of {total:,} right{share}", fontsize=TITLE, pad=12)
    return figure


def _checked_counts(matrix: npt.ArrayLike, class_names: Sequence[str] | None) -> tuple[Array, list[str]]:
    hint = ", true classes down, predicted ones across"
    counts = numbers("confusion_matrix", "a matrix", matrix, ("classes", "classes"), hint=hint)
    if counts.shape[0] != counts.shape[1]:
        raise ShapeError(f"confusion_matrix got a matrix of shape {counts.shape}; expected (classes, classes){hint}")
    if class_names is None:
        class_names = [str(number) for number in range(len(counts))]
    written = plain_names(names("confusion_matrix", "class_names", class_names), 24)
    if len(written) != len(counts):
        raise ShapeError(
            f"confusion_matrix got {len(written)} class names for a matrix of shape {counts.shape}; "
            "it needs one name a row"
        )
    # NaN and infinity fail this too.
    if not (np.all((counts >= 0) & (counts == np.floor(counts))) and counts.sum() <= MOST_EXAMPLES):
        raise DataError(
            "confusion_matrix needs counts, which are whole numbers from 0, of at most 2⁵³ examples; "
            "it works out the shares itself"
        )
    return counts.astype(np.int64), written


def _draw_cells(figure: Figure, axes: Axes, shares: Array) -> None:
    from matplotlib.colors import PowerNorm

    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100))
    edges = np.arange(len(shares) + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="lightgrey", linewidth=0.7)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, ticks=[0, 1, 5, 10, 25, 50, 75, 100], shrink=0.8, aspect=25)
    bar.set_label("share of the true class (%)", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)


def _write_counts(axes: Axes, counts: Array, shares: Array, cell: float) -> None:
    """Write each count into its cell of `cell` points, or none if the largest would not fit."""
    widest = max(text_width(str(count), 1) for count in (counts.max(), 8))
    size = min(0.85 * cell / widest, 0.8 * cell, TITLE)
    if size < SMALL:
        return
    for (row, column), count in np.ndenumerate(counts):
        # Zeros step back. White is readable on the darker half of the blues, which begins at a quarter (see PowerNorm).
        colour = "darkgrey" if count == 0 else "white" if shares[row, column] > 30 else "black"
        axes.text(
            column,
            row,
            str(count),
            color=colour,
            fontsize=size,
            horizontalalignment="center",
            verticalalignment="center_baseline",
        )


def mistakes(
    images: npt.ArrayLike,
    true_names: Sequence[str],
    predicted_names: Sequence[str],
    confidences: npt.ArrayLike,
) -> Figure:
    """Draw the wrong answers that the model was surest of, at most 25, the surest first.

    `images` has shape (n, height, width); `true_names` and `predicted_names` say n class names, `confidences` n
    probabilities of the predicted classes. Right answers may be among them and are left out. One grey scale, from the
    least to the greatest value, serves all images; pixels that are NaN or infinite are blue.

    >>> figure = mistakes(np.zeros((2, 8, 8)), ["3", "7"], ["8", "7"], [0.97, 0.99])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['true 3', 'predicted 8, 97 %']
    """
    from matplotlib import colormaps

    pixels, true, predicted, certainty = _checked_answers(images, true_names, predicted_names, confidences)
    wrong = [i for i in range(len(pixels)) if true[i] != predicted[i]]
    chosen = sorted(wrong, key=lambda i: -certainty[i])[:MOST_MISTAKES]
    if not chosen:
        return message("No mistakes were found.")

    said = [f"true {plain(true[i], 20)}" for i in chosen]
    answered = [f"predicted {plain(predicted[i], 20)}, {percent(certainty[i], 0)}" for i in chosen]
    width = max(1.9, max(text_width(text, SMALL) for text in said + answered) / POINTS + 0.25)
    columns = len(chosen) if len(chosen) <= 4 else ceil(sqrt(len(chosen)))
    rows = ceil(len(chosen) / columns)
    figure = new_figure(max(width * columns, 5.5), 2.1 * rows + 0.6)
    what = "The mistakes" if len(chosen) == len(wrong) else f"{len(chosen)} of {len(wrong):,} mistakes"
    figure.suptitle(f"{what}, the most confident first", fontsize=TITLE)
    shown = numbers("mistakes", "images", pixels[chosen], ("n", "height", "width"))
    shown = np.ma.masked_invalid(shown)
    darkest, brightest = (0.0, 1.0) if shown.mask.all() else (shown.min(), shown.max())
    greys = colormaps["gray"].with_extremes(bad=SKY)
    for position, image in enumerate(shown):
        axes = figure.add_subplot(rows, columns, position + 1)
        axes.imshow(image, cmap=greys, vmin=darkest, vmax=brightest, interpolation="nearest")
        axes.set_axis_off()
        _write_above(axes, said[position], lines_up=1)
        _write_above(axes, answered[position], lines_up=0, color=VERMILLION)
    return figure


def _checked_answers(
    images: npt.ArrayLike, true_names: Sequence[str], predicted_names: Sequence[str], confidences: npt.ArrayLike
) -> tuple[Array, list[Any], list[Any], Array]:
    pixels = real_numbers("mistakes", "images", images)  # which stay as they are, since only few are drawn
    hint = ". Features that are no image cannot be drawn; flattened images have to be reshaped first"
    no_images = pixels.ndim == 3 and len(pixels) == 0
    check_shape("mistakes", "images", pixels, ("n", "height", "width"), empty=no_images, hint=hint)
    true, predicted = names("mistakes", "true_names", true_names), names("mistakes", "predicted_names", predicted_names)
    certainty = numbers("mistakes", "confidences", confidences, ("n",), empty=no_images)
    if len({len(pixels), len(true), len(predicted), len(certainty)}) > 1:
        raise ShapeError(
            f"mistakes got {len(pixels)} images, {len(true)} true names, {len(predicted)} predicted names and "
            f"{len(certainty)} confidences; expected one of each an example"
        )
    if not np.all((certainty >= 0) & (certainty <= 1)):
        raise OptionError(
            f"mistakes got confidences from {certainty.min():g} to {certainty.max():g}; "
            "expected probabilities between 0 and 1"
        )
    return pixels, true, predicted, certainty


def _write_above(axes: Axes, text: str, *, lines_up: int, **style: Any) -> None:
    axes.annotate(
        text,
        (0.5, 1),
        xycoords="axes fraction",
        xytext=(0, 4 + 1.3 * SMALL * lines_up),
        textcoords="offset points",
        horizontalalignment="center",
        fontsize=SMALL,
        **style,
    )
