"""What pictures are given: mistakes are explained, nothing is left out in silence, and texts can be read."""

import io
import itertools
import re

import numpy as np
import pytest
from matplotlib.quiver import Quiver

import nissl as ns
from nissl import plots
from nissl.errors import DataError, OptionError, ShapeError
from nissl.plots import checks, fonts, style
from nissl.plots.neurons import RADIUS, UNIT
from nissl.plots.style import POINTS, TEXT, TITLE, plain, text_width, wrapped

NAN, INF = np.nan, np.inf
HUGE = 1e308
SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
IMAGES = np.zeros((1, 2, 2))


def line(y, **options):
    return plots.lines({"p": {"a": y}}, **options)


def histogram(values, **options):
    return plots.histograms({"row": {"column": values}}, **options)


def regions(decide=lambda x: x[:, 0] > 0.5, classes=(0, 0, 1, 1), points=SQUARE, **options):
    return plots.decision_regions({"f": decide}, points, classes, **options)


def contours(function=lambda x, y: x + y, path=((0, 0), (1, 1)), **options):
    return plots.contour_paths(function, {"a": path}, **{"x": (-2, 2), "y": (-2, 2), **options})


def field(function=lambda x, y: (x, y), **options):
    return plots.vector_field(function, **{"x": (-2, 2), "y": (-2, 2), **options})


def graph(names):
    return plots.computational_graph(ns.tensor(2.0, requires_grad=True) * 3.0, names)


@pytest.mark.parametrize(
    ("draw", "kind", "message"),
    [
        # What is no array of real numbers, or not of the right shape
        (lambda: line("text"), DataError, "the line 'a' of 'p' = 'text'; expected real numbers"),
        (lambda: line(None), DataError, "= None; expected real numbers"),
        (lambda: line(["1", "2"]), DataError, r"\['1', '2'\]; expected real numbers"),
        (lambda: line([1j, 2]), DataError, "expected real numbers"),
        (lambda: line([[1], [1, 2]]), ShapeError, r"\[\[1\], \[1, 2\]\], whose parts differ in shape"),
        (lambda: line({1, 2}), DataError, r"= \{1, 2\}; expected real numbers"),
        (lambda: line([[1, 2]]), ShapeError, r"of shape \(1, 2\); expected \(points,\)"),
        (lambda: line([]), ShapeError, r"shape \(0,\).*at least one number"),
        (lambda: line([1, 2], x="ab"), DataError, "lines got x = 'ab'"),
        (lambda: line([1, 2], x=[1]), ShapeError, r"x of shape \(1,\); expected \(2,\)"),
        (lambda: plots.learning_curves({"loss": "falling"}), DataError, "the curve 'loss' = 'falling'"),
        (lambda: plots.scatter([1], ["a"], [1]), DataError, r"scatter got y = \['a'\]"),
        (lambda: histogram([["a"]]), DataError, "histograms got the array 'row', 'column'"),
        (lambda: plots.weight_images(None), DataError, "weights = None"),
        (lambda: plots.confusion_matrix([["a"]], ["a"]), DataError, "a matrix"),
        (lambda: plots.mistakes("images", ["a"], ["b"], [1]), DataError, "images = 'images'"),
        (lambda: plots.mistakes(np.zeros((2, 0, 0)), "ab", "cd", [1, 1]), ShapeError, r"shape \(2, 0, 0\)"),
        (lambda: regions(classes=list("abcd")), DataError, "classes = .*; expected real numbers"),
        (lambda: regions(classes=None), DataError, "classes = None"),
        (lambda: regions(lambda x: ["a"] * len(x)), DataError, "what 'f' returned"),
        (lambda: regions(lambda x: None), DataError, "what 'f' returned = None"),
        (lambda: contours(lambda x, y: 3.0), ShapeError, r"heights .* of shape \(\); expected \(201, 201\)"),
        (lambda: contours(path=[1, 2]), ShapeError, r"expected \(steps, 2\)"),
        (lambda: field(heights=lambda x, y: x[0]), ShapeError, r"heights .* of shape \(201,\)"),
        (lambda: field(lambda x, y: (x, y, x)), ShapeError, r"from its field of shape \(3, 15, 15\)"),
        (lambda: field(lambda x, y: None), DataError, "from its field = None"),
        (lambda: plots.network(3, [[1], [2]]), DataError, "weights = 3; expected a list of arrays"),
        (lambda: plots.network([[["a"]]], [[1], [2]]), DataError, "an array of weights"),
        (lambda: plots.network([np.zeros((2, 0))], [[1, 2], []]), ShapeError, r"\(2, 0\)"),
        (lambda: plots.neuron([1], [1], "1", np.tanh), DataError, "bias = '1'"),
        (lambda: plots.neuron([1], [1], None, np.tanh), DataError, "bias = None"),
        (lambda: plots.neuron([1], [1], [1, 2], np.tanh), ShapeError, r"bias of shape \(2,\); expected one number"),
        (lambda: plots.neuron([1], [1], 1, lambda u: None), DataError, "its activation returned = None"),
        (lambda: plots.neuron([1], [1], 1, lambda u: (1, 2)), ShapeError, "its activation returned of shape"),
        # Numbers that cannot be drawn
        (lambda: line([HUGE, -HUGE]), DataError, r"the line 'a' of 'p' with numbers beyond ±1e\+300"),
        (lambda: plots.learning_curves({"loss": [-HUGE, 1, HUGE]}), DataError, "too large"),
        (lambda: plots.scatter([HUGE, -HUGE], [1, 2], [1, 2]), DataError, "too large"),
        (lambda: plots.scatter([1, 2], [1, 2], [HUGE, -HUGE]), DataError, "too large"),
        (lambda: plots.weight_images(np.full((1, 2, 2), HUGE)), DataError, "too large"),
        (lambda: histogram([HUGE, -HUGE]), DataError, "too large"),
        (lambda: field(lambda x, y: (0 * x + HUGE, y)), DataError, "too large"),
        (lambda: plots.scatter([1, NAN], [1, 2], [1, 2]), DataError, "scatter got x with NaN or infinity"),
        (lambda: regions(points=[[NAN, 0]], classes=[0]), DataError, "points with NaN or infinity"),
        (lambda: plots.confusion_matrix([[INF]], ["x"]), DataError, "needs counts"),
        (lambda: plots.confusion_matrix([[1e30]], ["x"]), DataError, "at most 2⁵³"),
        (lambda: plots.confusion_matrix([[2**62, 2**62], [3, 4]], ["x", "y"]), DataError, "at most 2⁵³"),
        (lambda: plots.learning_curves({"accuracy": [90, 95]}), DataError, "a share, not in percent"),
        # Nothing to see
        (lambda: line([NAN, NAN]), DataError, "no point whose x and y are finite"),
        (lambda: line([NAN, 1], x=[1, INF]), DataError, "no point whose x and y are finite"),
        (lambda: line([0, -1], log="y"), DataError, "numbers of 0 or below.*logarithmic"),
        (lambda: line([1, 2], log="x"), DataError, "lines got x with numbers of 0 or below"),
        (lambda: plots.scatter([-1, 1], [1, 2], [5, 2], log="xy"), DataError, "scatter got x with numbers of 0"),
        (lambda: plots.scatter([1, 1], [0, 2], [5, 2], log="y"), DataError, "scatter got y with numbers of 0"),
        (lambda: contours(path=[[NAN, 0], [1, 1]]), DataError, r"begins at \[nan  0.\]"),
        (lambda: contours(lambda x, y: x * NAN), DataError, "all NaN or infinite"),
        (lambda: field(lambda x, y: (x * NAN, y)), DataError, "NaN or infinite everywhere"),
        # Mappings, names and functions
        (lambda: plots.learning_curves(None), DataError, "learning_curves got None; expected a History"),
        (lambda: plots.learning_curves([1, 2]), DataError, r"got \[1, 2\]; expected a History"),
        (lambda: plots.learning_curves({1: [1, 2]}), DataError, "expected a History, or {name"),
        (lambda: plots.lines([[1, 2]]), DataError, r"panels = \[\[1, 2\]\]; expected \{panel: \{line: array\}\}"),
        (lambda: plots.lines({"a": [1, 2]}), DataError, "lines of 'a' = .*; expected arrays by name"),
        (lambda: plots.lines({"a": {}}), DataError, "no lines of 'a', so there is nothing"),
        (lambda: plots.histograms({"a": [1, 2]}), DataError, "arrays in the row 'a'"),
        (lambda: plots.contour_paths(len, [[1, 2]], x=(0, 1), y=(0, 1)), DataError, "expected {name: points}"),
        (lambda: plots.decision_regions([len], SQUARE, [0, 0, 1, 1]), DataError, "expected {name: function}"),
        (lambda: regions(3), OptionError, "panel 'f' = 3; expected a function"),
        (lambda: plots.neuron([1], [1], 0, 3), OptionError, "activation = 3; expected a function"),
        (lambda: contours(3), OptionError, "heights = 3; expected a function"),
        (lambda: plots.confusion_matrix([[1]], 3), DataError, "class_names = 3; expected a list of names"),
        (lambda: plots.confusion_matrix([[1, 0], [0, 1]], "ab"), DataError, "class_names = 'ab'"),
        (lambda: plots.mistakes(IMAGES, None, ["a"], [1]), DataError, "true_names = None"),
        (lambda: regions(axis_labels=None), DataError, "axis_labels = None"),
        (lambda: regions(axis_labels=["x"]), OptionError, "1 axis_labels; expected two"),
        (lambda: graph([3]), DataError, "names = .*; expected {name: Tensor}"),
        (lambda: graph({ns.tensor(1.0): "x"}), DataError, "expected {name: Tensor}"),
        (lambda: plots.computational_graph(None), OptionError, "got None; expected a Tensor"),
        (lambda: plots.computational_graph(np.ones(3)), OptionError, "expected a Tensor"),
        # Options
        (lambda: line([1, 2], log=True), OptionError, 'log = True; expected "x", "y", "xy"'),
        (lambda: line([1, 2], log=None), OptionError, "log = None"),
        (lambda: line([1, 2], log="exp y"), OptionError, "log = 'exp y'"),
        (lambda: plots.scatter([1], [1], [1], log="z"), OptionError, "scatter got log = 'z'"),
        (lambda: regions(columns=0), OptionError, "columns = 0; expected a whole number from 1"),
        (lambda: regions(columns=-1), OptionError, "columns = -1"),
        (lambda: histogram([1, 2], bins=2.5), OptionError, "bins = 2.5; expected a whole number from 1 to 1000"),
        (lambda: histogram([1, 2], bins="auto"), OptionError, "bins = 'auto'"),
        (lambda: histogram([1, 2], bins=10**6), OptionError, "bins = 1000000"),
        (lambda: field(arrows=5.5), OptionError, "arrows = 5.5"),
        (lambda: contours(levels=-5), OptionError, "levels = -5; expected a whole number from 1 to 200"),
        (lambda: contours(levels=[3, 2, 1]), OptionError, "levels that do not rise"),
        (lambda: contours(levels="many"), DataError, "levels = 'many'"),
        # Ranges
        (lambda: regions(x=(NAN, 1)), OptionError, r"x = \(nan, 1\); expected a range"),
        (lambda: regions(x=(0, 5e-324)), OptionError, "low < high"),
        (lambda: regions(x=(1,)), ShapeError, r"x = \(1,\); expected a range, two numbers"),
        (lambda: regions(y=3), ShapeError, "y = 3"),
        (lambda: contours(x=(1, 2, 3)), ShapeError, r"x = \(1, 2, 3\)"),
        (lambda: contours(y=(1, 1)), OptionError, r"y = \(1, 1\); expected a range \(low, high\) with low < high"),
        (lambda: field(x="ab"), DataError, "x = 'ab'"),
        (lambda: histogram([1, 2], x=(3, 1)), OptionError, r"x = \(3, 1\)"),
        # More than can be told apart
        (lambda: plots.lines({"p": {i: [1, 2] for i in range(29)}}), OptionError, "29 names of lines.* at most 28"),
        (lambda: regions(classes=[0, 1, 2, 28]), DataError, "classes from 0 to 28; .* 28 classes apart, up to 27"),
        (lambda: regions(lambda x: np.full(len(x), 10**6)), DataError, r"'f' returned from 1e\+06"),
        (lambda: regions(classes=[0, 1, INF, 1]), DataError, "classes from 0 to inf"),
    ],
)
def test_a_mistake_is_explained(draw, kind, message):
    with pytest.raises(kind, match=message):
        draw()


@pytest.mark.parametrize(
    ("figure", "path", "dpi", "message"),
    [
        ("good", "", 150, "path = ''; expected the name of a file"),
        ("good", None, 150, "path = None"),
        ("good", b"picture.png", 150, "path = b'picture.png'"),
        ("good", io.BytesIO(), 150, "path = <_io.BytesIO"),
        ("good", "a\0b.png", 150, "the name of a file"),
        (3, "picture.png", 150, "save got 3; expected a picture"),
        ("good", "picture.pgf", 150, "unknown picture format 'pgf'"),
        *(("good", "picture.png", dpi, "it has to be from 10 to") for dpi in (0, -5, 1, NAN, 100_000)),
        ("good", "picture.png", "big", "dpi = 'big'; expected real numbers"),
    ],
)
def test_what_cannot_be_saved_is_explained(figure, path, dpi, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((OptionError, DataError), match=re.escape(message)):
        plots.save(line([1, 2]) if figure == "good" else figure, path, dpi)
    assert not list(tmp_path.iterdir())


def markers(axes):
    """Return for each line of a panel which of its points are marked."""
    marked = {}
    for drawn in axes.lines:
        every = drawn.get_markevery()
        points = range(len(drawn.get_xdata()))
        marked[drawn.get_color()] = (
            [] if drawn.get_marker() in ("", "None") else list(points if every is None else every)
        )
    return list(marked.values())


@pytest.mark.parametrize(
    ("y", "marked"),
    [([1], [0]), ([1, 2], []), ([3, NAN, 2, NAN, 1], [0, 2, 4]), ([1, 2, INF, 3], [3]), ([NAN, 1, 2, NAN], [])],
)
def test_a_point_to_which_no_line_leads_is_marked(y, marked):
    assert markers(line(y).axes[0]) == [marked]


def test_every_other_epoch_is_enough_for_a_curve():
    loss = np.where(np.arange(100) % 2, NAN, 1.0)
    assert markers(plots.learning_curves({"loss": loss}).axes[0]) == [list(range(0, 100, 2))]
    assert markers(plots.learning_curves({"loss": np.ones(100)}).axes[0]) == [[]]


def test_a_line_without_finite_points_among_others_is_named():
    first, second = plots.lines({"p": {"a": [1, 2], "b": [NAN, INF]}, "q": {"a": [1, 2], "b": [2, 3]}}).axes
    assert [text.get_text() for text in first.texts] == ["not finite: b"]
    assert not second.texts


@pytest.mark.parametrize(("ends", "place"), [([0, 1], "bottom"), ([1, 0], "top")])
def test_a_remark_stands_where_the_lines_do_not_end(ends, place):
    (axes,) = plots.lines({"p": {"a": ends, "b": [NAN, NAN]}}).axes
    (said,) = axes.texts
    assert (said.get_text(), said.get_verticalalignment()) == ("not finite: b", place)
    box, line = said.get_window_extent(), axes.transData.transform(axes.get_lines()[0].get_xydata())
    assert not (box.y0 <= line[-1, 1] <= box.y1)


def test_an_infinite_arrow_is_left_out_and_the_others_stay():
    figure = field(lambda x, y: (np.where(x == 0, INF, 1.0), 0 * y), arrows=3)
    (drawn,) = (artist for artist in figure.axes[0].collections if isinstance(artist, Quiver))
    assert np.isfinite(drawn.scale)
    assert np.count_nonzero(~drawn.Umask) == 6


@pytest.mark.parametrize("weight", [NAN, INF])
def test_one_weight_that_is_not_finite_leaves_the_others_visible(weight):
    axes = plots.network([[[weight], [1.0], [-0.5]]], [[1, 1, 1], [0]]).axes[0]
    assert np.isfinite([drawn.get_linewidth() for drawn in axes.lines]).all()
    widths = {drawn.get_color(): drawn.get_linewidth() for drawn in axes.lines}
    assert max(widths.values()) == pytest.approx(4.7)


@pytest.mark.parametrize("value", [NAN, INF])
def test_one_image_that_is_not_finite_leaves_the_others_visible(value):
    images = np.stack([np.full((2, 2), value), np.eye(2)])
    bad, good = (axes.images[0] for axes in plots.mistakes(images, ["a", "a"], ["b", "b"], [1, 0.5]).axes)
    assert good.get_clim() == (0, 1)
    np.testing.assert_array_equal(good.get_array(), np.eye(2))
    assert bad.get_array().mask.all()
    assert len(set(bad.cmap(bad.norm(bad.get_array()))[0, 0][:3])) == 3  # no grey


def test_labels_may_come_as_tensors():
    figure = plots.mistakes(IMAGES, ns.tensor([2]), np.array([3]), ns.tensor([1.0]))
    assert figure.axes[0].texts[0].get_text() == "true 2"
    assert markers(line(ns.tensor([1.0, 2.0], requires_grad=True)).axes[0]) == [[]]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_legend_of_two_rows_is_even_and_read_row_by_row():
    names = [f"{i}.weight" for i in range(1, 12, 2)]
    figure = plots.lines({side: {name: [1.0, 2.0] for name in names} for side in ("left", "right")}, x=[0, 1])
    figure.draw_without_rendering()
    boxes = [(text.get_window_extent(), text.get_text()) for text in figure.legends[0].get_texts()]
    read = sorted(boxes, key=lambda box: (-round(box[0].y0), box[0].x0))
    assert [text for _, text in read] == names
    assert len({round(box.y0) for box, _ in boxes}) * len({round(box.x0) for box, _ in boxes}) == len(names)


def test_classes_of_one_name_each_have_their_place_in_the_legend():
    figure = regions(lambda x: np.ones(len(x), int), labels=["wrong", "wrong"])
    assert legend(figure) == ["wrong"] * 3
    assert len({handle.get_marker() for handle in figure.legends[0].legend_handles}) == 3


def test_28_classes_and_lines_look_different():
    figure = regions(lambda x: np.zeros(len(x), int), range(28), np.random.default_rng(0).random((28, 2)))
    looks = {(handle.get_color(), handle.get_marker()) for handle in figure.legends[0].legend_handles}
    assert len(looks) == 28 + 1
    figure = plots.lines({"p": {f"line {i}": [i, i] for i in range(28)}})
    assert len({(drawn.get_color(), drawn.get_linestyle()) for drawn in figure.axes[0].lines}) == 28


def written(figure):
    """Return all texts of a picture but those at the ticks."""
    found = [*figure.texts, *(text for box in figure.legends for text in box.get_texts())]
    for axes in figure.axes:
        found += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
    return [text for text in found if text.get_text()]


def outside(figure):
    """Return the texts that are cut by the border of a picture."""
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    boxes = [(text.get_text(), text.get_window_extent()) for text in written(figure)]
    return [text for text, box in boxes if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1]


IRIS = ["Iris setosa", "Iris versicolor", "Iris virginica", "Iris of some other kind"]
LONG = "a title with more words than have room in one line of a picture, which is why there are two"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: regions(lambda x: np.full(len(x), 3), [0, 1, 2, 3], labels=IRIS, title=LONG),
        lambda: plots.lines(
            {LONG: {f"{i} of {LONG}": [i, i] for i in range(20)}}, y_label=LONG, x_label=LONG, title=LONG
        ),
        lambda: histogram([1.0, 2.0], title="Histogram of the weights of the first layer"),
        lambda: plots.network([[[1.0]]], [[1], [2]], title=LONG, layer_names=[LONG, LONG]),
        lambda: plots.learning_curves({"m " * 150: [1, 2]}, title=LONG),
        lambda: plots.scatter([1, 2], [1, 2], [1, 2], title=LONG, y_label=LONG, value_label=LONG),
        lambda: plots.weight_images(IMAGES, title=LONG),
        lambda: contours(title=LONG),
        lambda: plots.neuron([1], [1], 1, np.tanh, title="W" * 100),
        lambda: plots.confusion_matrix(np.eye(2), ["benign", "malignant"]),
        lambda: plots.confusion_matrix(np.eye(2), ["W" * 12, "m" * 20]),
        lambda: plots.confusion_matrix(np.eye(3), IRIS[:3]),
    ],
)
def test_texts_stay_within_the_picture(draw):
    assert outside(draw()) == []


def touching(figure):
    """Return the pairs of texts of a picture, as it is saved, that are nearer to each other than four points."""
    style._lay_out(figure)
    figure.draw_without_rendering()
    apart = 4 / POINTS * figure.dpi
    boxes = [(text.get_text(), text.get_window_extent().padded(apart / 2)) for text in written(figure)]
    return [(a[0], b[0]) for i, a in enumerate(boxes) for b in boxes[:i] if a[1].overlaps(b[1])]


PANELS = [f"panel {i}" for i in range(5)]


@pytest.mark.parametrize("title", [None, "A title"])
@pytest.mark.parametrize("panels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["paths", "regions"])
def test_texts_of_panels_stay_apart_and_within_the_picture(kind, panels, title):
    if kind == "paths":
        paths = {name: [[0, 0], [1, 1]] for name in PANELS[:panels]}
        figure = plots.contour_paths(lambda x, y: x + y, paths, x=(-2, 2), y=(-2, 2), title=title)
    else:
        decisions = dict.fromkeys(PANELS[:panels], lambda x: x[:, 0] > 0.5)
        figure = plots.decision_regions(decisions, SQUARE, [0, 0, 1, 1], title=title)
    assert touching(figure) == []
    assert outside(figure) == []


def test_names_above_mistakes_stay_apart():
    answers = ["T-shirt/top"] * 25, ["Ankle boot"] * 25
    figure = plots.mistakes(np.zeros((25, 2, 2)), *answers, np.full(25, 0.5))
    figure.draw_without_rendering()
    texts = [axes.texts[1].get_window_extent() for axes in figure.axes]
    assert min(b.x0 - a.x1 for a, b in itertools.pairwise(texts[:5])) > 8 / POINTS * figure.dpi


def test_touching_can_tell():
    figure = line([1, 2], title="above", x_label="below")
    assert touching(figure) == []
    figure.text(0.5, 0.5, "here")
    figure.text(0.5, 0.5, "there")
    assert touching(figure) == [("there", "here")]


def test_paths_name_their_axes_and_explain_their_marks():
    figure = contours(axis_labels=("w", "b"))
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("w", "b")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["beginning", "end"]
    with pytest.raises(OptionError, match="contour_paths got 1 axis_labels; expected two"):
        contours(axis_labels=["w"])


def test_the_star_marks_the_first_of_the_highest_points():
    axes = plots.scatter([1, 2, 3, 4], [5, 6, 7, 8], [0.1, 0.9, 0.9, 0.2]).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[2, 6]]


def test_outside_can_tell():
    figure = line([1, 2])
    figure.text(0.9, 0.5, LONG)
    assert outside(figure) == [LONG]


def test_what_histograms_tell_has_room_in_its_panel():
    names = ["a layer with a long name", "another layer, longer name"]
    values = np.r_[np.full(50_000, NAN), 1e6 * np.ones(50_000)]
    figure = plots.histograms({"a": dict.fromkeys(names, values)}, x=(-10, 10))
    figure.draw_without_rendering()
    for axes in figure.axes:
        for text in (axes.title, axes.texts[-1] if "std" in axes.texts[-1].get_text() else axes.texts[0]):
            assert text.get_window_extent().width < axes.get_window_extent().width * 1.08


@pytest.mark.parametrize(("left", "right"), [(2, 3), (2, 12), (12, 2), (4, 4), (6, 6), (12, 12)])
def test_numbers_of_a_network_keep_clear_of_units_and_of_each_other(left, right):
    rng = np.random.default_rng(0)
    figure = plots.network([rng.normal(size=(left, right)) * 1e-5], [np.full(left, -1.2345e100), np.ones(right)])
    (axes,) = figure.axes
    figure.draw_without_rendering()
    found = [text for text in axes.texts if text.get_text()]
    weights = [text.get_window_extent() for text in found[: -left - right]]
    units = [patch.get_window_extent() for patch in axes.patches]
    assert len(weights) in (0, left * right)
    assert weights or left * right > 24
    assert not any(a.overlaps(b) for i, a in enumerate(weights) for b in weights[:i])
    assert all(box.x0 > units[0].x1 and box.x1 < units[-1].x0 for box in weights)
    for text, unit in zip(found[-left - right :], units, strict=True):
        assert text.get_window_extent().width < unit.width
    assert 2 * RADIUS * UNIT * figure.dpi / POINTS <= units[0].width * 1.05  # as the places were reckoned with


@pytest.mark.parametrize(
    "draw",
    [
        lambda name: plots.learning_curves({name: [1, 2]}, title=name),
        lambda name: regions(axis_labels=(name, name), labels=[name, name], title=name),
        lambda name: plots.lines({name: {name: [1, 2], "b": [1, 2]}}, x_label=name, y_label=name, title=name),
        lambda name: plots.network([[[1.0]]], [[1], [2]], layer_names=[name, name], title=name),
        lambda name: histogram([1, 2], title=name),
        lambda name: plots.scatter([1], [1], [1], x_label=name, y_label=name, value_label=name, title=name),
    ],
)
@pytest.mark.parametrize("name", ["lo$s_%x$", "$x$$", "y_{$", r"\$5 {$"])
def test_the_signs_of_formulas_can_stand_in_any_text(draw, name, tmp_path):
    plots.save(draw(name), tmp_path / "picture.png", dpi=20)


def test_the_result_of_a_graph_has_a_short_name():
    y = ns.tensor(2.0, requires_grad=True) * 3.0
    found = [text.get_text() for text in plots.computational_graph(y, {"$r" * 100: y}).axes[0].texts]
    assert [text for text in found if text.startswith(r"\$r")] == [plain("$r" * 100, 30)]


def test_a_dollar_that_was_escaped_is_a_dollar():
    assert plain(r"\$5", 10) == plain("$5", 10) == r"\$5"


@pytest.mark.parametrize("text", ["one", "several words of a title", "W" * 50, "short " + "$" * 60, "a b c " * 20])
@pytest.mark.parametrize("width", [20, 100, 400])
def test_wrapped_lines_are_no_wider_than_asked_for(text, width):
    lines = wrapped(plain(text, 100), TITLE, width).split("\n")
    assert all(text_width(line, TITLE) <= width or len(line) == 1 for line in lines)
    assert not any(line.rstrip("…").endswith("\\") for line in lines)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.learning_curves({"loss": [1, 2], "accuracy": [0.5, 0.6]}),
        lambda: plots.confusion_matrix([[1, 2], [3, 4]], ["a", "b"]),
        lambda: plots.mistakes(np.eye(3)[None], ["a"], ["b"], [1]),
        lambda: plots.weight_images(np.eye(4).reshape(4, 2, 2)),
        lambda: plots.scatter([1, 2], [1, 2], [1, 2]),
        lambda: line([1, 2]),
        regions,
    ],
)
def test_a_figure_looks_the_same_whenever_it_is_saved_and_shown(draw, tmp_path):
    once, shown = draw(), draw()
    shown._repr_png_()
    for figure, name in ((once, "a"), (once, "b"), (shown, "c")):
        plots.save(figure, tmp_path / name, dpi=50)
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1
    assert once._repr_png_() == shown._repr_png_()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: line([1e300, -1e300]),
        lambda: plots.scatter([1e300, -1e300], [1, 2], [1e300, -1e300]),
        lambda: plots.weight_images(np.full((1, 2, 2), 1e300)),
        lambda: histogram([1e300, -1e300]),
        lambda: histogram([0, 1e-320]),
        lambda: contours(path=[[0, 0], [HUGE, HUGE], [-HUGE, 0]]),
        lambda: contours(lambda x, y: 0 * x),
        lambda: contours(levels=[30, 40]),
        lambda: regions(points=1e-300 * SQUARE),
        lambda: regions(points=SQUARE + 1e15, classes=[0, 0, 0, 0]),
        lambda: regions(x=np.array([0, 1])),
        lambda: histogram([1, 2], x=np.array([0, 1])),
        lambda: plots.neuron([1e300], [1e300], np.array([1.0]), np.tanh),
    ],
)
def test_what_is_unusual_but_right_can_be_drawn(draw, tmp_path):
    plots.save(draw(), tmp_path / "picture.png", dpi=20)


def test_numbers_tell_what_they_are_of():
    np.testing.assert_array_equal(checks.numbers("f", "x", [True, None], ("n",)), [1, NAN])
    with pytest.raises(ShapeError, match=r"f got x of shape \(2,\); expected \(n, 2\)"):
        checks.numbers("f", "x", [1, 2], ("n", 2))
    assert checks.span("f", "x", [np.float32(0), 2]) == (0, 2)
    assert checks.count("f", "x", np.int64(3)) == 3
    assert text_width("W", TEXT) > text_width("i", TEXT)


def test_letters_come_from_another_font_that_has_them(tmp_path):
    figure = line([1, 2], title="⌒ is in DejaVu Sans Mono alone")
    for _ in range(2):
        plots.save(figure, tmp_path / "arc.png")
        families = [name for text in written(figure) for name in text.get_fontfamily()]
        assert families.count("DejaVu Sans Mono") == 1


def test_fonts_that_are_gone_or_damaged_are_passed_over(tmp_path, monkeypatch):
    (tmp_path / "damaged.ttf").write_text("no font")
    gone = [("gone", str(tmp_path / "gone.ttf")), ("damaged", str(tmp_path / "damaged.ttf"))]
    installed = fonts._installed()
    monkeypatch.setattr(fonts, "_installed", lambda: gone + installed)
    plots.save(line([1, 2], title="⌒"), tmp_path / "arc.png")


def test_letters_that_no_font_has_are_told_of_once(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "_installed", list)
    monkeypatch.setattr(fonts, "_told", set())
    with pytest.warns(UserWarning, match="no installed font has the letters ⌒⌓, so") as told:
        plots.save(line([1, 2], title="⌒⌓⌒ and plain ones"), tmp_path / "arcs.png")
    assert len(told) == 1
    plots.save(line([1, 2], title="⌒"), tmp_path / "arc.png")
