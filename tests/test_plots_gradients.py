"""Pictures of computational graphs and of vector fields: what is drawn where, and what is refused."""

import numpy as np
import pytest
from matplotlib.quiver import Quiver

import nissl as ns
from nissl import plots
from nissl.errors import DataError, GradientError, OptionError, ShapeError
from nissl.plots.graphs import computational_graph


def variable(value):
    return ns.tensor(value, dtype="float64", requires_grad=True)


def texts(figure):
    return {text.get_text(): text.get_position() for text in figure.axes[0].texts}


def overlapping(figure):
    """Return the pairs of texts that cover each other."""
    figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts if text.get_text()]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    return [(a[0], b[0]) for a, b in pairs if a[1].overlaps(b[1])]


def test_a_graph_runs_from_left_to_right():
    w, x, b = variable(3.0), variable(2.0), variable(1.0)
    g = w * x
    places = texts(computational_graph(g + b, {"w": w, "x": x, "b": b, "g": g}, title="f = wx + b"))
    assert {"w", "x", "b", "×", "+", "g = 6", "7", "y", "f = wx + b"} <= set(places)
    across = [places[name][0] for name in ("w", "3", "×", "g = 6", "+", "7", "y")]
    assert across == sorted(across)
    assert places["w"][1] > places["x"][1] > places["b"][1]


def test_a_value_used_twice_shows_the_sum_of_its_gradients():
    x = variable(3.0)
    assert "Σ 6" in texts(computational_graph(x * x))


def test_of_large_tensors_shape_and_norm_are_shown():
    x = variable(np.ones((4, 4)))
    places = texts(computational_graph((x * 2.0).sum()))
    assert {"variable", "constant", "4×4, ‖4‖", "‖8‖", "4×4, ‖8‖", "sum", "32"} <= set(places)


def random_formula(seed, operations):
    """Return a Tensor made by many operations, each of which takes any two of the values before it."""
    rng = np.random.default_rng(seed)
    values = [variable(value) for value in rng.uniform(0.5, 1.5, 4)]
    for _ in range(operations):
        a, b = (values[i] for i in rng.integers(0, len(values), 2))
        values.append([a * b, a + b, a - b, (a * b).tanh()][rng.integers(4)])
    return values[-1] + values[-2]


@pytest.mark.parametrize("seed", range(4))
def test_texts_never_cover_each_other(seed):
    assert overlapping(computational_graph(random_formula(seed, 12), title=f"A formula, {seed}")) == []


def test_overlapping_can_tell():
    figure = computational_graph(variable(3.0) * 2.0)
    figure.axes[0].text(*figure.axes[0].texts[0].get_position(), "in the way")
    assert overlapping(figure)


def test_a_graph_is_saved_as_svg_and_png_and_a_notebook_shows_it(tmp_path):
    x = variable(2.0)
    figure = computational_graph(x * x)
    plots.save(figure, tmp_path / "graph.svg")
    plots.save(figure, tmp_path / "graph.png")
    assert "<svg" in (tmp_path / "graph.svg").read_text()
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in figure._repr_svg_()


def test_letters_of_a_graph_in_a_notebook_come_from_another_font_that_has_them():
    x = variable(2.0)
    figure = computational_graph(x * x, {"⌒": x})
    assert "<svg" in figure._repr_svg_()
    families = [text.get_fontfamily() for text in figure.axes[0].texts if "⌒" in text.get_text()]
    assert families
    assert all("DejaVu Sans Mono" in names for names in families)


def test_what_cannot_be_drawn_as_a_graph_is_refused():
    x = variable(2.0)
    with pytest.raises(GradientError, match="does not depend"):
        computational_graph(ns.tensor(2.0) * 3.0)
    with pytest.raises(GradientError, match="shape \\(2,\\)"):
        computational_graph(variable([1.0, 2.0]) * 2.0)
    with pytest.raises(DataError, match="made by 0 operations"):
        computational_graph(x)
    for _ in range(2000):
        x = x + 1.0
    with pytest.raises(DataError, match="made by 2000 operations"):
        computational_graph(x)


def arrows(figure):
    (found,) = [artist for artist in figure.axes[0].collections if isinstance(artist, Quiver)]
    return found


def test_a_vector_field_has_an_arrow_at_each_point():
    figure = plots.vector_field(lambda x, y: (-y, x), x=(-1, 1), y=(-1, 1), arrows=3, title="round and round")
    drawn = arrows(figure)
    np.testing.assert_array_equal(drawn.X, [-1, 0, 1] * 3)
    np.testing.assert_array_equal(drawn.U, [1, 1, 1, 0, 0, 0, -1, -1, -1])
    # The longest arrow, of √2, spans the step of 1.
    assert drawn.scale == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize("heights", [None, lambda x, y: x**2])
def test_any_field_can_be_drawn(heights, tmp_path):
    figure = plots.vector_field(lambda x, y: (0 * x, 0 * y), x=(0, 1), y=(5, 6), heights=heights)
    plots.save(figure, tmp_path / "field.png")


def test_fields_of_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"components from its field .* parts differ in shape"):
        plots.vector_field(lambda x, y: (x, y[0]), x=(0, 1), y=(0, 1))
    with pytest.raises(OptionError, match="arrows = 1; expected a whole number from 2"):
        plots.vector_field(lambda x, y: (x, y), x=(0, 1), y=(0, 1), arrows=1)
