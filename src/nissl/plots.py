"""Pictures: one function each, from plain arrays to a matplotlib Figure.

A picture here knows nothing of models or training: it draws the arrays it is given, so that anyone can draw their own
numbers with it. The Figures are made without pyplot, hence without a window or any global state: a notebook shows one
that ends a cell, `save` writes it to a file, and one that is forgotten is garbage like any other object.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which colour-blind people can tell apart too.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil, sin, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError, OptionError, ShapeError, unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

BLUE, VERMILLION = "#0072B2", "#D55E00"
DPI = 150
# Sizes in points, readable from the back of a lecture room when the picture fills a slide.
TITLE, TEXT, SMALL = 15, 13, 11
POINTS = 72  # in an inch

LINES = {  # name: colour, marker
    "training": (BLUE, "o"),
    "validation": (VERMILLION, "s"),
}
MOST_MARKERS = 30
MOST_MISTAKES = 25


def learning_curves(curves: Mapping[str, npt.ArrayLike], *, title: str | None = None) -> Figure:
    """Draw how loss, accuracy and other metrics went, epoch by epoch; the numbers at the line ends are the last ones.

    `curves` maps names to arrays of shape (epochs,), as `History.curves` does. A metric and its `validation_` twin
    share a panel. Accuracy comes as a share and is drawn in percent. A loss that spans more than two decades gets a log
    scale. NaN and infinity leave a gap.

    >>> figure = learning_curves({"loss": [0.9, 0.4], "validation_loss": [0.8, 0.5], "accuracy": [0.7, 0.9]})
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'accuracy (%)']
    """
    panels = _panels(curves)
    columns = min(2, len(panels))
    rows = ceil(len(panels) / columns)
    figure = _figure(6.4 * columns, 4.2 * rows + 0.5)
    figure.suptitle(_plain(title or "Learning curves", 80), fontsize=TITLE)
    for position, (metric, lines) in enumerate(panels.items(), start=1):
        _draw_lines(figure.add_subplot(rows, columns, position), metric, lines)
    return figure


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
    from matplotlib.ticker import MaxNLocator

    in_percent = metric == "accuracy"
    drawn = {name: np.where(np.isfinite(y), y, np.nan) * (100 if in_percent else 1) for name, y in lines.items()}
    epochs = len(next(iter(drawn.values())))
    for name, y in drawn.items():
        colour, marker = LINES[name]
        marker = marker if epochs <= MOST_MARKERS else ""
        # A marker on the first or last epoch, or at 100 %, lies on the border: draw it whole.
        axes.plot(np.arange(1, epochs + 1), y, color=colour, marker=marker, linewidth=2, label=name, clip_on=False)

    _tidy(axes)
    axes.set_xlim((1, epochs) if epochs > 1 else (0.5, 1.5))
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
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


def confusion_matrix(matrix: npt.ArrayLike, class_names: Sequence[str]) -> Figure:
    """Draw which classes are taken for which: a row for each true class, a column for each predicted one.

    `matrix` has shape (classes, classes) and holds counts. The colour is the share of the row, so that rare classes
    show as well as frequent ones; it rises steeply near zero, where the mistakes of a good model are. Where the cells
    get too small for numbers (many classes), the colour speaks alone.

    >>> figure = confusion_matrix([[48, 2], [5, 45]], ["cat", "dog"])
    >>> figure.axes[0].get_title()
    'Confusion matrix: 93 of 100 right (93.0 %)'
    """
    counts = _checked_counts(matrix, class_names)
    names = [_plain(name, 24) for name in class_names]
    classes = len(names)
    side = min(max(8, 0.45 * classes), 13.5)  # of the matrix, in inches
    cell = POINTS * side / classes
    longest = max(_text_width(name, TEXT) for name in names)
    rotated = longest > 0.9 * cell
    below = longest * sin(np.pi / 4) if rotated else TEXT
    figure = _figure(side + longest / POINTS + 2, side + below / POINTS + 1.2)

    axes = figure.add_subplot()
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # an absent class has a row of zeros
    _draw_cells(figure, axes, shares)
    _write_counts(axes, counts, shares, cell)
    ticks = np.arange(0, classes, ceil(1.3 * TEXT / cell))  # every class, unless the names would touch
    shown = [names[tick] for tick in ticks]
    slant: dict[str, Any] = {"rotation": 45, "horizontalalignment": "right", "rotation_mode": "anchor"}
    axes.set_xticks(ticks, shown, fontsize=TEXT, **(slant if rotated else {}))
    axes.set_yticks(ticks, shown, fontsize=TEXT)
    axes.set_xlabel("predicted class", fontsize=TITLE)
    axes.set_ylabel("true class", fontsize=TITLE)
    right, total = int(np.trace(counts)), int(counts.sum())
    share = f" ({100 * right / total:.1f} %)" if total else ""
    axes.set_title(f"Confusion matrix: {right:,} of {total:,} right{share}", fontsize=TITLE, pad=12)
    return figure


def _checked_counts(matrix: npt.ArrayLike, class_names: Sequence[str]) -> Array:
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
        raise ShapeError(
            f"confusion_matrix got a matrix of shape {counts.shape}; expected (classes, classes), "
            "true classes down, predicted ones across"
        )
    if len(class_names) != len(counts):
        raise ShapeError(
            f"confusion_matrix got {len(class_names)} class names for a matrix of shape {counts.shape}; "
            "it needs one name a row"
        )
    # NaN fails both comparisons too.
    if not np.all((counts >= 0) & (counts == np.floor(counts))):
        raise DataError("confusion_matrix needs counts, which are whole numbers from 0; it works out the shares itself")
    return counts.astype(np.int64)


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
    widest = max(_text_width(str(count), 1) for count in (counts.max(), 8))
    size = min(0.85 * cell / widest, 0.8 * cell, TITLE)
    if size < SMALL:
        return
    for (row, column), count in np.ndenumerate(counts):
        # Zeros step back. White is readable on the darker half of the blues, which begins at a fifth (see PowerNorm).
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
    least to the greatest value, serves all images.

    >>> figure = mistakes(np.zeros((2, 8, 8)), ["3", "7"], ["8", "7"], [0.97, 0.99])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['true 3', 'predicted 8, 97 %']
    """
    pixels, certainty = _checked_answers(images, true_names, predicted_names, confidences)
    wrong = [i for i in range(len(pixels)) if true_names[i] != predicted_names[i]]
    chosen = sorted(wrong, key=lambda i: -certainty[i])[:MOST_MISTAKES]
    if not chosen:
        return _message("No mistakes were found.")

    said = [f"true {_plain(true_names[i], 20)}" for i in chosen]
    answered = [f"predicted {_plain(predicted_names[i], 20)}, {100 * certainty[i]:.0f} %" for i in chosen]
    width = max(1.5, max(_text_width(text, SMALL) for text in said + answered) / POINTS + 0.25)
    columns = len(chosen) if len(chosen) <= 4 else ceil(sqrt(len(chosen)))
    rows = ceil(len(chosen) / columns)
    figure = _figure(max(width * columns, 5.5), 2.1 * rows + 0.6)
    what = "The mistakes" if len(chosen) == len(wrong) else f"{len(chosen)} of {len(wrong):,} mistakes"
    figure.suptitle(f"{what}, the most confident first", fontsize=TITLE)
    shown = pixels[chosen]
    for position, image in enumerate(shown):
        axes = figure.add_subplot(rows, columns, position + 1)
        axes.imshow(image, cmap="gray", vmin=shown.min(), vmax=shown.max(), interpolation="nearest")
        axes.set_axis_off()
        _write_above(axes, said[position], lines_up=1)
        _write_above(axes, answered[position], lines_up=0, color=VERMILLION)
    return figure


def _checked_answers(
    images: npt.ArrayLike, true_names: Sequence[str], predicted_names: Sequence[str], confidences: npt.ArrayLike
) -> tuple[Array, Array]:
    pixels, certainty = np.asarray(images), np.asarray(confidences, float)
    if pixels.ndim != 3:
        raise ShapeError(
            f"mistakes got images of shape {pixels.shape}; expected (n, height, width). "
            "Features that are no image cannot be drawn; flattened images have to be reshaped first"
        )
    lengths = (len(pixels), len(true_names), len(predicted_names), certainty.size)
    if len(set(lengths)) > 1 or certainty.ndim != 1:
        raise ShapeError(
            "mistakes got {} images, {} true names, {} predicted names and confidences of shape {}; ".format(
                *lengths[:3], certainty.shape
            )
            + "expected one of each an example"
        )
    if not np.all((certainty >= 0) & (certainty <= 1)):
        raise OptionError(
            f"mistakes got confidences from {certainty.min():g} to {certainty.max():g}; "
            "expected probabilities between 0 and 1"
        )
    return pixels, certainty


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


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture to a file, whole or not at all: PNG, or what else the ending says, such as .svg or .pdf.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(learning_curves({"loss": [0.9, 0.4]}), f"{folder}/curves.png")
    ...     os.listdir(folder)
    ['curves.png']
    """
    from nissl.files import write_atomically

    kind = Path(path).suffix.removeprefix(".").lower() or "png"
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise unknown_name("picture format", kind, known)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=DPI)


def _figure(width: float, height: float) -> Figure:
    """Return an empty Figure of width and height in inches, which a notebook can show."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    # Notebooks ask for this method; they know Figures by themselves only once pyplot was imported, which we never do.
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _message(text: str) -> Figure:
    """Return a picture that only says something."""
    figure = _figure(5.5, 2)
    axes = figure.add_subplot()  # notebooks leave out a Figure without axes
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, fontsize=TITLE, horizontalalignment="center", verticalalignment="center")
    return figure


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)


def _plain(text: object, length: int) -> str:
    """Return `text` in one line of at most `length` characters, without what matplotlib would take for a formula.

    >>> _plain("a rather long name", 9)
    'a rather…'
    """
    line = " ".join(str(text).split())
    if len(line) > length:
        line = line[: length - 1].rstrip() + "…"
    return line.replace("$", r"\$")


def _text_width(text: str, size: float) -> float:
    """Return the width of a line of text, in points."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=size).get_extents().width) if text else 0.0
