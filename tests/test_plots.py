"""Pictures: what is drawn where, for whom, and what is refused. How they look, someone has to look at."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import colors

import nissl as ns
from nissl import plots
from nissl.errors import DataError, OptionError, ShapeError


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_learning_curves_draw_each_metric_with_its_validation_twin():
    curves = {
        "accuracy": [0.5, 0.75, 0.9],
        "loss": [2.0, 1.0, 0.5],
        "validation_loss": [2.1, 1.2, 0.9],
        "validation_accuracy": [0.4, 0.7, 0.8],
    }
    figure = plots.learning_curves(curves, title="A title")
    loss, accuracy = figure.axes
    assert figure.get_suptitle() == "A title"
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy (%)")
    assert loss.get_xlabel() == accuracy.get_xlabel() == "epoch"
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    np.testing.assert_array_equal(loss.lines[0].get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), [2.1, 1.2, 0.9])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [50, 75, 90])
    assert texts(accuracy) == ["training\n90.0 %", "validation\n80.0 %"]


def test_a_loss_over_many_decades_gets_a_log_scale_and_says_so():
    (axes,) = plots.learning_curves({"loss": np.geomspace(10, 0.01, 9)}).axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "loss (log scale)"
    (axes,) = plots.learning_curves({"loss": [3.0, 2.0, 0.0]}).axes
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim()[0] == 0


@pytest.mark.parametrize(
    "loss", [[1.0], [1.0, np.nan, 0.5], [np.nan, np.nan], [np.inf, 1.0], [1e30, 1e-30], [0.0, 0.0], [-1.0, -2.0]]
)
def test_any_curve_can_be_drawn(loss, tmp_path):
    plots.save(plots.learning_curves({"loss": loss}), tmp_path / "picture.png")


def test_labels_at_the_line_ends_keep_apart():
    (axes,) = plots.learning_curves({"loss": [1.0, 0.5], "validation_loss": [1.0, 0.5]}).axes
    heights = [text.xy[1] for text in axes.texts]
    assert abs(heights[0] - heights[1]) > 0.1


def test_a_confusion_matrix_has_a_row_for_each_true_class():
    matrix = [[8, 2, 0], [1, 9, 0], [0, 0, 0]]
    figure = plots.confusion_matrix(matrix, ["cat", "dog", "eel"])
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "eel"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "eel"]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[80, 20, 0], [10, 90, 0], [0, 0, 0]])
    assert {(text.get_position(), text.get_text()) for text in axes.texts} >= {((1, 0), "2"), ((0, 1), "1")}
    assert axes.get_title() == "Confusion matrix: 17 of 20 right (85.0 %)"


def test_counts_can_be_read_on_their_cells():
    axes = plots.confusion_matrix([[5, 95], [50, 50]], ["a", "b"]).axes[0]
    image = axes.images[0]
    for text in axes.texts:
        column, row = text.get_position()
        cell = image.cmap(image.norm(image.get_array()[row, column]))[:3]
        assert contrast(cell, colors.to_rgb(text.get_color())) > 3


def contrast(a, b):
    """Return the contrast of two colours by the Web Content Accessibility Guidelines, from 1 to 21."""

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_many_classes_are_drawn_without_numbers(tmp_path):
    axes = plots.confusion_matrix([[3, 1], [0, 2]]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1"]
    figure = plots.confusion_matrix(np.eye(100, dtype=int), [f"class number {i}" for i in range(100)])
    assert not figure.axes[0].texts
    plots.save(figure, tmp_path / "picture.png")


def test_mistakes_shows_the_wrong_answers_the_surest_first():
    images = np.arange(5)[:, None, None] * np.ones((1, 4, 4))
    figure = plots.mistakes(images, list("aabba"), list("abbaa"), [0.9, 0.6, 0.99, 0.8, 0.5])
    assert [axes.images[0].get_array()[0, 0] for axes in figure.axes] == [3, 1]
    assert texts(figure.axes[0]) == ["true b", "predicted a, 80 %"]
    assert figure.get_suptitle() == "The mistakes, the most confident first"


def test_at_most_25_mistakes_are_shown_and_the_title_says_of_how_many():
    figure = plots.mistakes(np.zeros((1200, 2, 2)), ["a"] * 1200, ["b"] * 1200, np.linspace(0, 1, 1200))
    assert len(figure.axes) == 25
    assert figure.get_suptitle() == "25 of 1,200 mistakes, the most confident first"


def test_no_mistakes_are_a_picture_too():
    figure = plots.mistakes(np.zeros((1, 2, 2)), ["a"], ["a"], [1.0])
    assert texts(figure.axes[0]) == ["No mistakes were found."]


def test_names_with_the_signs_of_formulas_are_drawn_as_they_are(tmp_path):
    figure = plots.confusion_matrix([[1, 0], [0, 1]], ["$x_1$", r"\alpha $"])
    assert figure.axes[0].get_yticklabels()[0].get_text() == r"\$x_1\$"
    plots.save(figure, tmp_path / "picture.png")


@pytest.mark.parametrize(
    ("draw", "kind", "message"),
    [
        (lambda: plots.learning_curves({}), DataError, "no epochs"),
        (lambda: plots.learning_curves({"loss": []}), DataError, "no epochs"),
        (lambda: plots.learning_curves({"loss": [1.0], "accuracy": [1.0, 2.0]}), ShapeError, "all equally many"),
        (lambda: plots.confusion_matrix([[1, 2]], ["a"]), ShapeError, r"shape \(1, 2\)"),
        (lambda: plots.confusion_matrix([[1]], ["a", "b"]), ShapeError, "2 class names"),
        (lambda: plots.confusion_matrix([[0.5]], ["a"]), DataError, "needs counts"),
        (lambda: plots.confusion_matrix([[-1]], ["a"]), DataError, "needs counts"),
        (lambda: plots.mistakes(np.zeros((2, 4)), ["a"], ["b"], [1.0]), ShapeError, r"\(2, 4\).*height"),
        (lambda: plots.mistakes(np.zeros((2, 4, 4)), ["a"], ["b"], [1.0]), ShapeError, "2 images, 1 true names"),
        (lambda: plots.mistakes(np.zeros((1, 4, 4)), ["a"], ["b"], [1.5]), OptionError, "from 1.5 to 1.5"),
    ],
)
def test_what_cannot_be_drawn_is_explained(draw, kind, message):
    with pytest.raises(kind, match=message):
        draw()


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_bytes(b"the old picture")
    figure = plots.learning_curves({"loss": [1.0, 0.5]})

    def full_disk(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(figure), "savefig", full_disk)
        with pytest.raises(OSError, match="No space left"):
            plots.save(figure, path)
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]
    assert path.read_bytes() == b"the old picture"
    plots.save(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_picture_in_another_format_and_an_unknown_one(tmp_path):
    figure = plots.learning_curves({"loss": [1.0, 0.5]})
    plots.save(figure, tmp_path / "picture.svg")
    assert "<svg" in (tmp_path / "picture.svg").read_text()
    with pytest.raises(OptionError, match=r"picture format 'pgn'.*png"):
        plots.save(figure, tmp_path / "picture.pgn")


def test_a_notebook_shows_a_picture():
    assert plots.learning_curves({"loss": [1.0]})._repr_png_().startswith(b"\x89PNG")


def test_no_global_state_of_pyplot_is_touched():
    code = """import sys; from nissl import plots
plots.learning_curves({'loss': [1.0]})
print('matplotlib.pyplot' in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_history_is_drawn_as_it_is():
    history = ns.History(
        [{"loss": 1.0, "accuracy": 0.5, "seconds": 3.0}, {"loss": 0.5, "accuracy": 0.9, "seconds": 2.0}]
    )
    assert [axes.get_ylabel() for axes in plots.learning_curves(history).axes] == ["loss", "accuracy (%)"]
