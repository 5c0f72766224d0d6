"""Images: the weights of units that look at images, drawn as images themselves."""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nissl.plots.checks import Array, numbers
from nissl.plots.style import POINTS, SMALL, TEXT, TITLE, new_figure, plain, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP = 2  # pixels between two images
SHARE_IN_SCALE = 99.5  # percent of the weights; a few extreme ones would make all others pale
HINT = (
    ". The weight of a Linear layer has a column for each unit: layer.weight.numpy().T.reshape(-1, height, width). "
    "NaN comes from a training that diverged"
)


def weight_images(weights: npt.ArrayLike, *, title: str | None = None) -> Figure:
    """Draw the weights of units as images, side by side: what each unit looks for, and what speaks against it.

    `weights` has shape (units, height, width). For a first layer of weight (784, 128), behind images of 28×28, that is
    `layer.weight.numpy().T.reshape(-1, 28, 28)`. One scale serves all units: zero is white, positive weights are red,
    negative ones blue; the half percent that is farthest from zero is cut to the ends of the scale.

    >>> figure = weight_images(np.zeros((8, 5, 5)))
    >>> figure.axes[0].get_title()
    'Weights of 8 units'
    """
    from matplotlib import colormaps

    images = numbers("weight_images", "weights", weights, ("units", "height", "width"), finite=True, hint=HINT)
    columns = min(ceil(sqrt(2 * len(images))), len(images))
    wall = _side_by_side(images, columns)
    largest = float(np.percentile(np.abs(images), SHARE_IN_SCALE)) or float(np.abs(images).max()) or 1.0

    width = min(max(5.5, 0.85 * columns), 14)
    figure = new_figure(width + 1.2, width * wall.shape[0] / wall.shape[1] + 0.6)
    axes = figure.add_subplot()
    colours = colormaps["RdBu_r"].with_extremes(bad="white")
    image = axes.imshow(wall, cmap=colours, vmin=-largest, vmax=largest, interpolation="nearest")
    _draw_frames(axes, images.shape, columns)
    axes.set_axis_off()
    said = plain(title or f"Weights of {len(images)} units", 80)
    axes.set_title(wrapped(said, TITLE, POINTS * width), fontsize=TITLE)
    cut = "both" if np.abs(images).max() > largest else "neither"
    bar = figure.colorbar(image, ax=axes, extend=cut, shrink=0.8, aspect=25)
    bar.set_label("weight", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
    return figure


def _side_by_side(images: Array, columns: int) -> Array:
    """Return the images in rows of one large image, NaN between them."""
    units, height, width = images.shape
    rows = ceil(units / columns)
    wall = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), np.nan)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + GAP), (i % columns) * (width + GAP)
        wall[top : top + height, left : left + width] = image
    return wall


def _draw_frames(axes: Axes, shape: tuple[int, ...], columns: int) -> None:
    """Draw a thin frame around each image, since weights near zero are as white as the paper."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    units, height, width = shape
    corners = [((i % columns) * (width + GAP) - 0.5, (i // columns) * (height + GAP) - 0.5) for i in range(units)]
    frames = [Rectangle(corner, width, height) for corner in corners]
    axes.add_collection(PatchCollection(frames, facecolor="none", edgecolor="lightgrey", linewidth=0.7))
