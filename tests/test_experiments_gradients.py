"""The experiments on gradients: what comes out, from the numbers, and that it does not when the key line is broken."""

import functools
import math
import os
from pathlib import Path

import numpy as np
import pytest

from nissl import optim
from nissl.experiments import catalog, descent, gradients, graph, optimizers
from nissl.ops.elementwise import mul

IMAGES = Path(os.environ.get("NISSL_DATA_HOME", "")) / "mnist"
needs_images = pytest.mark.skipif(
    not os.environ.get("NISSL_DATA_HOME") or not IMAGES.is_dir(),
    reason="the real images are not here; set NISSL_DATA_HOME to a folder that has them",
)


@functools.cache
def report(name):
    return catalog.find(name).run()


def broken(name, **options):
    """Run an experiment anew and return what no longer holds."""
    return [row.what for row in catalog.find(name).run(options).rows if row.holds is False]


@pytest.mark.parametrize("name", ["descent", "gradients", "graph"])
def test_every_row_holds_and_there_are_pictures(name):
    found = report(name)
    assert sum(row.holds is not None for row in found.rows) >= 3
    assert all(row.holds in (True, None) for row in found.rows)
    assert "" in found.pictures


# ---- gradients ----


def test_differences_have_the_slopes_of_the_book():
    def f(x):
        return 0.01 * x**2 + 0.1 * x

    for difference, tolerance in ((gradients.forward_difference, 2e-6), (gradients.central_difference, 1e-10)):
        assert difference(f, 5.0, 1e-4) == pytest.approx(0.2, abs=tolerance)
        assert difference(f, 10.0, 1e-4) == pytest.approx(0.3, abs=tolerance)


def test_the_error_of_a_central_difference_is_a_u():
    error = gradients.errors(gradients.central_difference, math.sin, np.linspace(1, 2, 100))
    best = error.argmin()
    assert 1e-6 < gradients.STEPS[best] < 1e-4
    falling = gradients.STEPS >= 1e-4
    # h²/6 times the third derivative: ten times nearer is a hundred times better.
    np.testing.assert_allclose(error[falling][:-4] / error[falling][4:], 100, rtol=0.02)
    assert (error[gradients.STEPS <= 1e-9] > 100 * error[best]).all()


def test_stepping_forward_twice_gives_0_everywhere():
    assert all(gradients.stepped_forward_twice(math.exp, x, h) == 0 for x in (-3, 0, 2) for h in (0.1, 1e-6))


def test_the_field_is_minus_twice_the_place():
    x, y = np.meshgrid([-2.0, 0.0, 3.0], [1.0, -4.0])
    found = gradients.downhill(x, y)
    np.testing.assert_array_equal(found, (-2 * x, -2 * y))


def test_a_central_difference_that_steps_forward_twice_is_noticed(monkeypatch):
    monkeypatch.setattr(gradients, "central_difference", gradients.stepped_forward_twice)
    assert "central difference, h 1e-4: error" in broken("gradients", points=3)


def test_a_mended_slip_is_noticed(monkeypatch):
    monkeypatch.setattr(gradients, "stepped_forward_twice", gradients.central_difference)
    assert broken("gradients", points=3) == ["how far off that is"]


# ---- descent ----


def test_each_step_takes_the_same_share():
    np.testing.assert_allclose(descent.descend(0.1, 100), np.outer(0.8 ** np.arange(101), (-3, 4)), rtol=1e-12)
    assert np.abs(descent.descend(0.1, 100)[-1]).max() <= 1e-9
    far = descent.descend(10.0, 10_000)
    assert np.isfinite(far).all()
    assert np.abs(far[-1]).max() > 1e100
    np.testing.assert_allclose(descent.descend(1e-10, 100)[-1], (-3, 4), atol=1e-7)


def test_going_up_is_noticed(monkeypatch):
    monkeypatch.setattr(descent, "f", lambda x: -(x**2).sum())
    assert "how far from 0 it ends, learning rate 0.1" in broken("descent")


# ---- graph ----


def test_the_bill_and_its_derivatives():
    leaves = [graph.variable(value) for value in (100, 2, 150, 3, 1.1)]
    total = graph.bill(*leaves)
    assert total.item() == pytest.approx(715, rel=1e-14)
    np.testing.assert_allclose(graph.gradients(total, *leaves), [2.2, 110, 3.3, 165, 650], rtol=1e-14)
    texts = {text.get_text() for text in report("graph").pictures[""].figure.axes[0].texts}
    values, slopes = {"100", "2", "150", "3", "1.1", "200", "450", "650", "715"}, {"2.2", "110", "3.3", "165"}
    assert values | slopes | {"apple price", "oranges", "tax", "bill", "×", "+"} <= texts


def test_the_options_change_the_bill():
    found = catalog.find("graph").run({"apples": 10, "oranges": 0, "tax": 2})
    assert all(row.holds for row in found.rows)
    assert found.rows[0].found == 2000


def test_a_wrong_rule_of_the_product_is_noticed(monkeypatch):
    monkeypatch.setitem(mul.__dict__, "gradients", (mul.gradients[0], lambda g, y, a, b: g * b))
    assert {"∂ bill / ∂ apples", "∂ bill / ∂ oranges", "∂ bill / ∂ tax"} <= set(broken("graph"))


# ---- optimizers ----


def test_sgd_zigzags_across_the_valley():
    steps = np.arange(31)
    expected = np.stack([-7 * 0.905**steps, 2 * (-0.9) ** steps], axis=1)
    np.testing.assert_allclose(optimizers.path("SGD"), expected, rtol=1e-12)


def by_the_book(name, eta):
    """Return the path of an optimizer as its paper and the textbook say it, in plain NumPy."""
    w, m, h = np.array([-7.0, 2.0]), np.zeros(2), np.zeros(2)
    visited = [w]
    for t in range(1, 31):
        g = w * (0.1, 2.0)
        if name == "Momentum":
            m = 0.9 * m - eta * g
            w = w + m
        elif name == "AdaGrad":
            h = h + g**2
            w = w - eta * g / np.sqrt(h)
        elif name == "RMSProp":
            h = 0.9 * h + 0.1 * g**2
            w = w - eta * g / np.sqrt(h)
        else:
            m, h = 0.9 * m + 0.1 * g, 0.999 * h + 0.001 * g**2
            w = w - eta * (m / (1 - 0.9**t)) / np.sqrt(h / (1 - 0.999**t))
        visited.append(w)
    return np.array(visited)


@pytest.mark.parametrize(("name", "eta"), [("Momentum", 0.1), ("AdaGrad", 1.5), ("RMSProp", 0.3), ("Adam", 0.3)])
def test_the_paths_are_those_of_the_formulas(name, eta):
    # The library adds 1e-8 to √h, the formulas do not; near the floor, where √h is small, that shows.
    np.testing.assert_allclose(optimizers.path(name), by_the_book(name, eta), atol=1e-6)


def test_mini_batches_arrive_first_and_full_batch_comes_to_rest():
    x, t = optimizers.line_data()
    lowest = np.polyfit(x, t, 1)
    full, mini = optimizers.fit_line(256, 60), optimizers.fit_line(8, 60)
    distances = [np.linalg.norm(visited - lowest, axis=1) for visited in (full, mini)]
    assert distances[1][2 * 32] < distances[0][2]
    assert distances[0][-1] < 0.01 < distances[1][-32:].mean()


@needs_images
def test_the_other_four_leave_sgd_behind_on_mnist():
    losses = {name: optimizers.mnist_losses(name, 0.01, 300, draw=0)[-100:].mean() for name in optimizers.METHODS}
    assert all(loss < 0.5 * losses["SGD"] for name, loss in losses.items() if name != "SGD"), losses


def instead_of_mnist(name, lr, steps, draw):
    """Stand for a training: what is said of the valley and the line needs none."""
    return np.linspace(2, 1 if name == "SGD" else 0.5, steps)


def test_what_is_said_of_the_valley_and_the_line_holds(monkeypatch):
    monkeypatch.setattr(optimizers, "mnist_losses", instead_of_mnist)
    assert broken("optimizers", draws=2) == []
    assert broken("optimizers", batch=128, passes=2) == []


def test_momentum_without_memory_is_noticed(monkeypatch):
    monkeypatch.setattr(optimizers, "mnist_losses", instead_of_mnist)
    monkeypatch.setitem(optimizers.METHODS, "Momentum", functools.partial(optim.SGD, momentum=0.5))
    assert broken("optimizers") == ["Momentum: off from v ← αv − ηg by"]


def test_batches_that_are_no_smaller_are_noticed(monkeypatch):
    monkeypatch.setattr(optimizers, "mnist_losses", instead_of_mnist)
    fit_line = optimizers.fit_line
    monkeypatch.setattr(optimizers, "fit_line", lambda batch, passes: fit_line(256, passes))
    assert broken("optimizers") == ["line, after two passes, batches of 8"]


@needs_images
def test_an_adagrad_that_is_sgd_is_noticed(monkeypatch):
    monkeypatch.setitem(optimizers.METHODS, "AdaGrad", optim.SGD)
    assert broken("optimizers", steps=100) == ["MNIST, AdaGrad"]
