"""Histograms: what is drawn where, and what is refused."""

import numpy as np
import pytest

from nissl import plots
from nissl.errors import DataError, OptionError, ShapeError


def heights(axes):
    (patch,) = axes.patches
    return patch.get_data().values


def said(axes):
    return axes.texts[-1].get_text()


def test_histograms_have_a_row_and_a_column_for_each_name_and_leave_places_empty():
    figure = plots.histograms({"a": {"x": [1.0, 2.0], "y": [1.0, 3.0]}, "b": {"y": [0.0, 1.0]}}, title="A title")
    first, second, empty, last = figure.axes
    assert figure.get_suptitle() == "A title"
    assert (first.get_title(), second.get_title()) == ("x", "y")
    assert [axes.get_visible() for axes in (first, second, empty, last)] == [True, True, False, True]


def test_histograms_count_and_make_the_tallest_bar_full_height():
    (axes,) = plots.histograms({"a": {"x": [0.0, 0.1, 0.1, 1.0]}}, bins=2).axes
    np.testing.assert_allclose(heights(axes), [1, 1 / 3])


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({"shared": "none"}, [(0, 1), (0, 2), (0, 4)]),
        ({"shared": "row"}, [(0, 2), (0, 2), (0, 4)]),
        ({"shared": "all"}, [(0, 4), (0, 4), (0, 4)]),
        ({"x": (-1.0, 9.0)}, [(-1, 9), (-1, 9), (-1, 9)]),
    ],
)
def test_histograms_share_the_scale_that_is_asked_for(options, ends):
    rows = {"a": {"x": [0.0, 1.0], "y": [0.0, 2.0]}, "b": {"x": [0.0, 4.0]}}
    for axes, (low, high) in zip(plots.histograms(rows, **options).axes, ends, strict=False):
        room = 0.03 * (high - low)
        np.testing.assert_allclose(axes.get_xlim(), (low - room, high + room))


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-1e30, 1e30], [np.nan, 1.0], [np.inf], [[1, 2], [3, 4]]])
def test_any_numbers_can_be_drawn(values, tmp_path):
    plots.save(plots.histograms({"row": {"column": values}}), tmp_path / "picture.png")


def test_histograms_say_how_wide_and_what_is_not_there():
    (axes,) = plots.histograms({"a": {"x": [0.0, 2.0, 9.0, np.nan]}}, x=(0, 3)).axes
    assert "1 outside, 1 not finite" in " ".join(text.get_text() for text in axes.texts)
    (axes,) = plots.histograms({"a": {"x": [0.0, 2.0]}}).axes
    assert any(text.get_text() == "std 1" for text in axes.texts)


def test_numbers_that_are_all_equal_are_one_bar_at_their_place():
    axes, _ = plots.histograms({"a": {"x": [0.7] * 9, "y": [0.0, 1.0]}}).axes
    (patch,) = axes.patches
    np.testing.assert_allclose(patch.get_data().edges.mean(), 0.7)


def test_histograms_refuse_what_they_cannot_draw():
    with pytest.raises(DataError, match="no arrays"):
        plots.histograms({})
    with pytest.raises(ShapeError, match="'a', 'x'"):
        plots.histograms({"a": {"x": []}})
    with pytest.raises(OptionError, match="row"):
        plots.histograms({"a": {"x": [1.0]}}, shared="rows")
    with pytest.raises(OptionError, match="bins = 0; expected a whole number from 1"):
        plots.histograms({"a": {"x": [1.0]}}, bins=0)
