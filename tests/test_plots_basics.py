"""Pictures of decisions, neurons and small networks: what is drawn where, and what is refused."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from nissl import plots
from nissl.errors import DataError, OptionError, ShapeError
from nissl.plots.style import BLUE, GREEN, VERMILLION

SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def pixel(axes, x, y):
    """Return the colour of the plane at a place."""
    (image,) = axes.images
    left, right, bottom, top = image.get_extent()
    rows, columns = image.get_array().shape[:2]
    return image.get_array()[int((y - bottom) / (top - bottom) * rows), int((x - left) / (right - left) * columns)]


def nearest(colour):
    return min(
        (BLUE, VERMILLION, GREEN), key=lambda other: np.abs(1 - 0.4 * (1 - np.array(to_rgb(other))) - colour).sum()
    )


def test_regions_have_the_colour_of_the_class_that_is_chosen_there():
    def decide(x):
        return np.where(x[:, 0] > 0.5, 2, np.where(x[:, 1] > 0.5, 1, 0))

    (axes,) = plots.decision_regions({"three": decide}, SQUARE, [0, 1, 2, 2]).axes
    assert [nearest(pixel(axes, x, y)) for x, y in SQUARE] == [BLUE, VERMILLION, GREEN, GREEN]
    assert [line.get_color() for line in axes.lines] == [BLUE, VERMILLION, GREEN]
    assert len({line.get_marker() for line in axes.lines}) == 3
    assert axes.get_title() == "three"


def test_a_border_goes_where_the_decision_changes_and_scores_pale_towards_it():
    figure = plots.decision_regions({"score": lambda x: np.clip(x[:, 0], 0, 1)}, SQUARE, [0, 0, 1, 1])
    (axes,) = figure.axes
    (border,) = axes.collections
    np.testing.assert_allclose(border.get_paths()[0].vertices[:, 0], 0.5)
    assert pixel(axes, 0.45, 0.5).sum() > pixel(axes, 0.1, 0.5).sum()


def test_points_on_the_wrong_side_are_crossed_out():
    decisions = {"all 1": lambda x: np.ones(len(x)), "right": lambda x: x.sum(axis=1) > 0.5}
    figure = plots.decision_regions(decisions, SQUARE, [0, 1, 1, 1], labels=["no", "yes"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["no", "yes", "wrong"]
    crosses = [[line for line in axes.lines if line.get_marker() == "x"] for axes in figure.axes]
    assert [len(lines) for lines in crosses] == [1, 0]
    np.testing.assert_array_equal(crosses[0][0].get_xydata(), [[0, 0]])


def test_each_panel_may_have_classes_of_its_own():
    decisions = {"AND": lambda x: x.sum(axis=1) > 1.5, "OR": lambda x: x.sum(axis=1) > 0.5}
    classes = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1]}
    figure = plots.decision_regions(decisions, SQUARE, classes, x=(-1, 2), y=(-2, 3))
    assert [len(axes.lines[1].get_xdata()) for axes in figure.axes] == [1, 3]
    assert (figure.axes[1].get_xlim(), figure.axes[1].get_ylim()) == ((-1, 2), (-2, 3))
    assert len(figure.legends[0].get_texts()) == 2


def test_points_in_one_line_or_one_class_are_a_picture_too(tmp_path):
    plots.save(
        plots.decision_regions({"0": lambda x: np.zeros(len(x), int)}, [[1, 1], [1, 2]], [0, 0]), tmp_path / "a.png"
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ({"f": lambda x: x}, SQUARE, [0, 1, 1, 0]),
            ShapeError,
            r"'f' returned of shape \(40401, 2\).*expected \(40401,\)",
        ),
        (({"f": lambda x: x[:, 0] * 9}, SQUARE, [0, 1, 1, 0]), DataError, "scores outside 0 to 1"),
        (({"f": lambda x: x[:, 0] * np.nan}, SQUARE, [0, 1, 1, 0]), DataError, "scores outside 0 to 1"),
        (
            ({"f": lambda x: np.full(len(x), -1)}, SQUARE, [0, 1, 1, 0]),
            DataError,
            "from -1 to -1.*whole numbers from 0",
        ),
        (({"f": len}, SQUARE, [0, 1, 1]), ShapeError, r"classes of shape \(3,\) for 4 points"),
        (({"f": len}, SQUARE, [0, 0.5, 1, 1]), DataError, "whole numbers from 0"),
        (({"f": len}, SQUARE, {"g": [0, 0, 1, 1]}), DataError, "no classes for the panel 'f', only for g"),
        (({"f": len}, SQUARE.T, [0, 1]), ShapeError, r"points of shape \(2, 4\)"),
        (({"f": len}, np.zeros((0, 2)), []), ShapeError, r"points of shape \(0, 2\)"),
        (({}, SQUARE, [0, 1, 1, 0]), DataError, "no panels"),
    ],
)
def test_what_regions_cannot_be_drawn_of_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        plots.decision_regions(*arguments)


def test_too_few_labels_are_refused():
    with pytest.raises(OptionError, match="1 labels for classes 0 to 1"):
        plots.decision_regions({"f": lambda x: x[:, 0] > 0.5}, SQUARE, [0, 0, 1, 1], labels=["a"])


def test_a_neuron_shows_its_numbers():
    found = texts(plots.neuron([1, 0.5], [2, -3], 0.25, np.tanh))
    for text in ("dendrites", "soma", "axon", "x₂ = 0.5", "w₂ = −3", "b = 0.25", "u = Σwx + b\n= 0.75"):
        assert text in found
    assert f"z = f(u)\n= {np.tanh(0.75):.4g}" in found


@pytest.mark.parametrize("count", [1, 6])
def test_neurons_of_few_and_many_inputs_can_be_drawn(count, tmp_path):
    plots.save(plots.neuron(np.ones(count), np.ones(count), 0, lambda u: u), tmp_path / "neuron.png")


def test_what_no_neuron_can_be_drawn_of_is_refused():
    with pytest.raises(ShapeError, match=r"x of shape \(2,\) and weights of \(3,\)"):
        plots.neuron([1, 2], [1, 2, 3], 0, np.tanh)
    with pytest.raises(DataError, match="7 inputs; it draws at most 6"):
        plots.neuron(np.ones(7), np.ones(7), 0, np.tanh)


def test_a_network_shows_values_weights_and_biases():
    weights = [[[0.5, -1.5], [2.0, 0.0]], [[3.0], [-4.0]]]
    figure = plots.network(weights, [[1, 2], [0.25, -0.75], [9]], biases=[[0.1, 0.2], [0.3]])
    found = texts(figure)
    for text in ("1", "2", "0.25", "−0.75", "9", "0.5", "−1.5", "0", "3", "−4", "b = 0.1", "b = 0.3"):
        assert text in found
    widths = {line.get_color(): [] for line in figure.axes[0].lines}
    for line in figure.axes[0].lines:
        widths[line.get_color()].append(line.get_linewidth())
    assert (len(widths[BLUE]), len(widths[VERMILLION])) == (4, 2)
    assert max(widths[VERMILLION]) > max(widths[BLUE])


def test_what_no_network_can_be_drawn_of_is_refused():
    with pytest.raises(ShapeError, match=r"weights \[\(2, 1\)\] and values \[\(3,\), \(1,\)\]"):
        plots.network([np.ones((2, 1))], [np.ones(3), np.ones(1)])
    with pytest.raises(ShapeError, match=r"biases \[\(2,\)\]"):
        plots.network([np.ones((2, 1))], [np.ones(2), np.ones(1)], biases=[np.ones(2)])
    with pytest.raises(ShapeError, match="1 layer names for 2"):
        plots.network([np.ones((2, 1))], [np.ones(2), np.ones(1)], layer_names=["input"])
    with pytest.raises(DataError, match="13 units; it draws at most 12"):
        plots.network([np.ones((13, 1))], [np.ones(13), np.ones(1)])


def test_panels_of_lines_share_their_x_axis_also_where_a_line_has_gaps():
    x = np.linspace(0, 10, 11)
    gaps = np.where(x > 4, np.nan, x)
    figure = plots.lines({"whole": {"a": 10 * x}, "gaps": {"a": gaps}}, x)
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim()
    assert first.get_ylim() != second.get_ylim()
    first, second = plots.lines({"whole": {"a": 10 * x}, "gaps": {"a": gaps}}, x, same_y=True).axes
    assert first.get_ylim() == second.get_ylim()
