"""Every picture: one function each, from plain arrays to a matplotlib Figure.

The figures are made without pyplot, so nothing global changes and no window opens; a notebook shows them as they are.
Colours are those of Okabe and Ito, which people who are colour-blind can tell apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl.errors import ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
STYLE: Any = {
    "font.size": 12,
    "axes.titlesize": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
LABELS = {"loss": "loss", "accuracy": "accuracy (%)", "r2": "R²"}
MOST_MARKERS = 30
MOST_NUMBERED_CLASSES = 20
GRID = 5


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _style() -> Any:
    import matplotlib

    return matplotlib.rc_context(STYLE)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG of 150 dots per inch, whole or not at all."""
    from nissl.storage import write_atomically

    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def learning_curves(curves: Mapping[str, npt.ArrayLike], title: str | None = None) -> Figure:
    """Return a panel for each metric with its curve on training and, if there, on validation data, epoch by epoch.

    `curves` has arrays of shape (epochs,) under names such as loss, accuracy, validation_loss, validation_accuracy.

    >>> len(learning_curves({"loss": [2.0, 1.0], "accuracy": [0.5, 0.7]}).axes)
    2
    """
    arrays = {name: np.atleast_1d(np.asarray(curve, dtype=float)) for name, curve in curves.items()}
    metrics = list(dict.fromkeys(name.removeprefix("validation_") for name in arrays))
    with _style():
        figure = _figure(5.5 * max(len(metrics), 1), 4.2)
        for i, metric in enumerate(metrics):
            axes = figure.add_subplot(1, len(metrics), i + 1)
            _draw_metric(axes, metric, arrays)
        figure.suptitle(title or "Learning curves")
    return figure


def _draw_metric(axes: Axes, metric: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    shown = [(metric, "training", BLUE, "o"), (f"validation_{metric}", "validation", ORANGE, "s")]
    scale = 100 if "accuracy" in metric else 1
    everything = []
    for name, label, colour, marker in shown:
        if name in arrays:
            values = arrays[name] * scale
            everything.append(values)
            few = len(values) <= MOST_MARKERS
            style = marker if few else ""
            axes.plot(np.arange(1, len(values) + 1), values, color=colour, marker=style, label=label, linewidth=2)
    values = np.concatenate(everything)
    positive = values[np.isfinite(values)]
    if metric == "loss" and positive.size and positive.min() > 0 and positive.max() > 100 * positive.min():
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel(LABELS.get(metric, metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def confusion_matrix(matrix: npt.ArrayLike, class_names: Sequence[str]) -> Figure:
    """Return the counts of (true class, predicted class), coloured by their share of the true class.

    `matrix` has shape (classes, classes), true classes in rows.

    >>> confusion_matrix([[8, 2], [1, 9]], ["cat", "dog"]).axes[0].get_xlabel()
    'predicted class'
    """
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape != (len(class_names), len(class_names)):
        raise ShapeError(f"a confusion matrix of {len(class_names)} classes is square, got shape {counts.shape}")
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(class_names)
    with _style():
        side = min(max(5.0, 2.6 + 0.62 * size), 14)
        figure = _figure(side + 1.2, side)
        axes = figure.add_subplot()
        axes.grid(False)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        axes.set_xticks(range(size), class_names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(size), class_names)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        if size <= MOST_NUMBERED_CLASSES:
            for i, j in np.ndindex(counts.shape):
                colour = "white" if shares[i, j] > 50 else "black" if counts[i, j] else "#aaaaaa"
                axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=colour, fontsize=11)
        right = np.trace(counts) / max(counts.sum(), 1)
        axes.set_title(f"Confusion matrix: {right:.1%} of {counts.sum():,} right")
        figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class (%)")
    return figure


def mistakes(
    images: npt.ArrayLike, true_names: Sequence[str], predicted_names: Sequence[str], confidences: npt.ArrayLike
) -> Figure:
    """Return up to 25 images with what they are and what they were taken for, with which confidence.

    `images` has shape (examples, height, width), `confidences` shape (examples,), from 0 to 1; the surest come first.

    >>> len(mistakes(np.zeros((2, 8, 8)), ["3", "5"], ["8", "6"], [0.9, 0.8]).axes)
    2
    """
    pictures = np.asarray(images)
    if pictures.ndim != 3:
        raise ShapeError(f"mistakes draws images of shape (examples, height, width), got {pictures.shape}")
    shares = np.asarray(confidences)
    count = min(len(pictures), GRID * GRID)
    with _style():
        columns = min(max(count, 1), GRID)
        rows = -(-count // columns) or 1
        figure = _figure(2.3 * max(columns, 3), 2.75 * rows + 0.7)
        figure.suptitle("The surest mistakes" if count else "No mistakes")
        for i in range(count):
            axes = figure.add_subplot(rows, columns, i + 1)
            axes.imshow(pictures[i], cmap="gray_r")
            axes.set_axis_off()
            axes.set_title(f"{true_names[i]}\ntaken for {predicted_names[i]}\n{shares[i]:.1%} sure", fontsize=11)
    return figure
