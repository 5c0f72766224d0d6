"""Pictures of models of tables: what is drawn where, and what is refused."""

import time

import numpy as np
import pytest

from nissl import plots
from nissl.errors import DataError, ShapeError
from nissl.text import cut_apart


def test_bars_are_sorted_and_the_largest_of_many_are_kept(tmp_path):
    values = np.arange(40) / 100 - 0.05
    figure = plots.importances([f"column {i} {'long ' * 20}" for i in range(40)], values, values * 0 + 0.01)
    axes = figure.axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert len(names) == 30
    assert names[0].startswith("column 39")
    assert max(map(len, names)) <= 32
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], values[::-1][:30])
    assert "30 largest of 40" in axes.get_title()
    low, high = axes.get_ylim()
    assert low > high  # the first on top
    plots.save(figure, tmp_path / "picture.png")


ALIKE = [f"measurement_of_the_{side}_{part}_in_millimetres_by_hand" for side in ("left", "right") for part in "abc"]


def test_long_names_that_begin_and_end_alike_stay_apart():
    bars = plots.importances(ALIKE, np.zeros(6), np.zeros(6))
    matrix = plots.confusion_matrix(np.eye(6, dtype=int), ALIKE)
    curves = plots.lines({"loss": {name: [1.0, 2.0] for name in ALIKE}}, [1, 2])
    for texts, length in (
        (bars.axes[0].get_yticklabels(), 32),
        (matrix.axes[0].get_yticklabels(), 24),
        (curves.legends[0].get_texts(), 30),
    ):
        names = {text.get_text() for text in texts}
        assert len(names) == 6, names
        assert max(map(len, names)) <= length


def test_names_that_differ_only_in_their_middle_and_beginning_stay_apart():
    names = [f"{side}_measurement_of_the_leaf_{part}_taken_at_noon" for side in ("left", "right") for part in "ab"]
    for given in (names, [*names, "…a_taken_at_noon"], ["x" * 40 + f"{i:03}" + "y" * 40 for i in range(200)]):
        short = cut_apart(given, 24)
        assert len(set(short)) == len(given), short
        assert max(map(len, short)) <= 24
    assert len(set(cut_apart(names, 4))) == 4


def test_very_many_names_are_cut_in_a_moment():
    names = [f"class {i}" for i in range(20_000)]
    started = time.perf_counter()
    assert cut_apart(names, 24) == names
    assert time.perf_counter() - started < 2  # a time that grows with the square would be 6 s


def test_names_are_no_formulas(tmp_path):
    figure = plots.importances(["cost in $", "$x^"], [0.0, 0.0], [0.0, 0.0], title="$")
    plots.save(figure, tmp_path / "picture.png")
    plots.save(plots.predictions([1.0], [2.0], label="$"), tmp_path / "scatter.png")


def test_predictions_stand_on_equal_axes_with_a_line():
    figure = plots.predictions([0.0, 10.0], [2.0, 5.0], label="price")
    axes = figure.axes[0]
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlim()[0] < 0 < 10 < axes.get_xlim()[1]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), [[0, 2], [10, 5]])
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), axes.lines[0].get_ydata())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true price", "predicted price")


@pytest.mark.parametrize("number", [0.0, 7.0, -7.0, 1e20, 1e299, 1e-320])
def test_predictions_that_are_all_the_same_have_axes_around_them(number, tmp_path):
    figure = plots.predictions([number], [np.nextafter(number, np.inf)])
    low, high = figure.axes[0].get_xlim()
    assert low < number < high
    plots.save(figure, tmp_path / "picture.png")


def test_bars_of_numbers_far_apart_are_drawn(tmp_path):
    figure = plots.importances(np.array([1, 2]), [1e300, -1e300], [0.0, 1e300])
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["1", "2"]
    plots.save(figure, tmp_path / "picture.png")


def test_of_many_points_some_are_drawn_and_that_is_said():
    axes = plots.predictions(np.arange(20_000.0), np.arange(20_000.0)).axes[0]
    assert len(axes.collections[0].get_offsets()) == 5_000
    assert axes.texts[0].get_text() == "5,000 of 20,000 points"


@pytest.mark.parametrize(
    ("draw", "kind", "message"),
    [
        (lambda: plots.importances([], [], []), ShapeError, "0 names"),
        (lambda: plots.importances("age", [1, 2, 3], [1, 2, 3]), DataError, "names = 'age'; expected a list of names"),
        (lambda: plots.importances(None, [1], [1]), DataError, "names = None; expected a list of names"),
        (lambda: plots.importances(["a"], [1, 2], [1, 2]), ShapeError, r"values of shape \(2,\); expected \(1,\)"),
        (lambda: plots.importances(["a"], [1], 1), ShapeError, r"errors of shape \(\); expected \(1,\)"),
        (lambda: plots.importances(["a"], [np.nan], [0]), DataError, "values with NaN or infinity in it; give one"),
        (lambda: plots.importances(["a"], [None], [0]), DataError, "values with NaN or infinity"),
        (lambda: plots.importances(["a"], None, [0]), DataError, "values = None; expected real numbers"),
        (lambda: plots.importances(["a"], ["1"], [0]), DataError, r"values = \['1'\]; expected real numbers"),
        (lambda: plots.importances(["a"], [1], [1e308]), DataError, "errors with numbers beyond ±1e[+]300"),
        (lambda: plots.importances(["a", "b"], [1, 1], [0, -0.5]), DataError, "errors with -0.5 in them; an error"),
        (lambda: plots.predictions([1, 2], [1]), ShapeError, r"\(2,\) and \(1,\)"),
        (lambda: plots.predictions([[1]], [[1]]), ShapeError, r"true of shape \(1, 1\); expected \(points,\)"),
        (lambda: plots.predictions([], []), ShapeError, r"\(0,\)"),
        (lambda: plots.predictions([1], [np.inf]), DataError, "predicted with NaN or infinity in it; give two"),
        (lambda: plots.predictions([None], [1]), DataError, "true with NaN or infinity"),
        (lambda: plots.predictions(None, [1]), DataError, "true = None; expected real numbers"),
        (lambda: plots.predictions([1], "a"), DataError, "predicted = 'a'; expected real numbers"),
        (lambda: plots.predictions([1e308], [-1e308]), DataError, "numbers beyond ±1e[+]300"),
    ],
)
def test_what_cannot_be_drawn_is_explained(draw, kind, message):
    with pytest.raises(kind, match=message):
        draw()
