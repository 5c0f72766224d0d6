"""Pictures of weights and of trials: what is drawn where, and what is refused."""

import numpy as np
import pytest

from nissl import plots
from nissl.errors import DataError, ShapeError


def test_weight_images_stand_side_by_side_on_one_scale_around_zero():
    weights = np.zeros((3, 4, 5))
    weights[0, 0, 0], weights[2] = -2, 1
    figure = plots.weight_images(weights)
    (image,) = figure.axes[0].images
    wall = image.get_array()
    assert wall.shape == (4, 3 * 5 + 2 * 2)
    np.testing.assert_array_equal(wall[:, 14:], weights[2])
    assert np.ma.getmaskarray(wall)[:, 5:7].all()
    low, high = image.get_clim()
    assert low == -high
    assert image.cmap(image.norm(0.0))[:3] == pytest.approx((0.97, 0.97, 0.97), abs=0.01)
    red, _, blue, _ = image.cmap(image.norm(1.0))
    assert red > blue


def test_a_few_extreme_weights_do_not_make_the_others_pale():
    weights = np.random.default_rng(0).normal(size=(8, 20, 20))
    weights[0, 0, 0] = 1000
    _, high = plots.weight_images(weights).axes[0].images[0].get_clim()
    assert 2 < high < 4


def test_weights_that_are_all_zero_are_a_picture_too(tmp_path):
    plots.save(plots.weight_images(np.zeros((1, 2, 2))), tmp_path / "picture.png")


def test_scatter_marks_the_highest_and_says_what_the_colour_is():
    figure = plots.scatter([1, 10, 100], [3, 2, 1], [0.5, 0.9, 0.1], log="x", x_label="rate", value_label="accuracy")
    axes, bar = figure.axes
    ((x, y),) = (tuple(line.get_xydata()[0]) for line in axes.lines)
    assert (x, y) == (10, 2)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert (axes.get_xlabel(), bar.get_ylabel()) == ("rate", "accuracy")
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), [[100, 1], [1, 3], [10, 2]])


@pytest.mark.parametrize(
    ("draw", "kind", "message"),
    [
        (lambda: plots.weight_images(np.zeros((784, 128))), ShapeError, r"shape \(784, 128\).*T\.reshape"),
        (lambda: plots.weight_images(np.zeros((0, 2, 2))), ShapeError, r"shape \(0, 2, 2\)"),
        (lambda: plots.weight_images(np.full((1, 2, 2), np.nan)), DataError, "diverge"),
        (lambda: plots.scatter([1], [1, 2], [1]), ShapeError, r"\(1,\), \(2,\), \(1,\)"),
        (lambda: plots.scatter([], [], []), ShapeError, r"\(0,\)"),
        (lambda: plots.scatter([1], [1], [np.nan]), DataError, "no place or colour"),
    ],
)
def test_what_cannot_be_drawn_is_explained(draw, kind, message):
    with pytest.raises(kind, match=message):
        draw()
