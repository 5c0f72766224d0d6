"""The first five experiments: what they claim, from numbers, and that each claim fails when its key line is broken."""

import functools
from itertools import product

import numpy as np
import pytest

import nissl as ns
from nissl import functional, nn
from nissl.experiments import activations, forward, gates, losses, softmax
from nissl.experiments.catalog import find


@functools.cache
def report(name):
    return find(name).run()


def broken(name, **options):
    """Return what the rows say that do not hold."""
    return [row.what for row in find(name).run(options).rows if row.holds is False]


@pytest.mark.parametrize("name", ["gates", "activations", "forward", "softmax", "losses"])
def test_what_an_experiment_claims_holds(name):
    rows = report(name).rows
    assert [row.what for row in rows if row.holds is False] == []
    assert 3 <= sum(row.holds is True for row in rows) <= len(rows) <= 15
    assert report(name).pictures


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gates", {"epochs": 20}),
        ("activations", {"reach": 1.0}),
        ("activations", {"reach": 100.0}),
        ("forward", {"x1": 100.0, "x2": -100.0}),
        ("softmax", {"spread": 0.1}),
        ("softmax", {"spread": 50.0}),
        ("losses", {"share": 0.0}),
        ("losses", {"share": 1.0}),
    ],
)
def test_the_claims_hold_at_the_ends_of_the_options(name, options):
    assert broken(name, **options) == []


@pytest.mark.parametrize(
    ("name", "answers", "chosen"),
    [
        ("gates", {"epochs": 20}, "XOR by one unit: fewest mistakes in 20 epochs"),
        ("forward", {"x1": 0.0}, "x = 0, 0.5: layer 1, a"),
        ("losses", {"share": 0.5}, "squared error of 0.5 for the right class, the rest shared"),
    ],
)
def test_options_change_what_runs(name, answers, chosen):
    assert chosen in [row.what for row in find(name).run(answers).rows]


# gates


@pytest.mark.parametrize("name", ["AND", "NAND", "OR"])
def test_a_gate_answers_all_four_rows_by_hand_and_learned(name):
    np.testing.assert_array_equal(gates.gate(name, gates.INPUTS), gates.TRUTH[name])
    states, mistakes = gates.learn(gates.TRUTH[name], 100)
    assert mistakes[-1] == 0
    np.testing.assert_array_equal(gates.unit(gates.INPUTS, states[-1][:2], states[-1][2]), gates.TRUTH[name])


def test_one_unit_goes_round_in_a_circle_on_xor_and_three_units_are_right():
    states, mistakes = gates.learn(gates.TRUTH["XOR"], 50)
    assert min(mistakes) > 0
    assert states[-1] in states[:-1]
    assert gates.added_conditions(gates.TRUTH["XOR"]) == (0, 0, 0)
    np.testing.assert_array_equal(gates.xor_of_gates(gates.INPUTS), [0, 1, 1, 0])
    # σ(5x₁ + 5x₂ − 8) and σ(−7x₁ − 7x₂ + 3), then σ(−11h₁ − 11h₂ + 6), worked out with NumPy.
    sums = gates.INPUTS.sum(axis=1)
    hidden = 1 / (1 + np.exp(8 - 5 * sums)) + 1 / (1 + np.exp(7 * sums - 3))
    np.testing.assert_allclose(gates.xor_of_sigmoids(gates.INPUTS), 1 / (1 + np.exp(11 * hidden - 6)), rtol=1e-12)
    np.testing.assert_array_equal(gates.xor_of_sigmoids(gates.INPUTS) > 0.5, [0, 1, 1, 0])


def test_conditions_that_add_up_to_nothing_are_those_of_the_gates_that_are_not_learned():
    for truth in product((0, 1), repeat=4):
        learned = gates.learn(truth, 20)[1][-1] == 0
        assert learned == any(gates.added_conditions(truth)), truth


@pytest.mark.parametrize(
    ("table", "entry", "value", "fails"),
    [
        ("WEIGHTS", "AND", ((0.5, 0.5), -0.2), "AND, weights by hand: rows right"),
        ("WEIGHTS", "NAND", ((0.5, 0.5), 0.7), "XOR = AND(NAND, OR): rows right"),
        ("TRUTH", "XOR", (0, 1, 1, 1), "XOR by one unit: fewest mistakes in 4 epochs"),
        ("TRUTH", "OR", (0, 1, 1, 0), "OR, learned in 20 epochs: rows right"),
    ],
)
def test_gates_fail_when_broken(monkeypatch, table, entry, value, fails):
    monkeypatch.setitem(getattr(gates, table), entry, value)
    assert fails in broken("gates", epochs=20)


def test_the_perceptron_rule_fails_when_its_unit_never_fires(monkeypatch):
    monkeypatch.setattr(gates, "step", lambda u: nn.Step()(u) * 0)
    assert "AND, learned in 20 epochs: rows right" in broken("gates", epochs=20)


# activations


def test_slopes_are_those_of_the_formulas():
    x = np.linspace(-5, 5, 41)
    slopes = {name: activations.slope(f, x) for name, f in activations.ACTIVATIONS.items()}
    np.testing.assert_allclose(slopes["tanh"], 1 - np.tanh(x) ** 2, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(slopes["ReLU"], x > 0)
    np.testing.assert_array_equal(slopes["step"], 0 * x)
    np.testing.assert_allclose(slopes["softplus"], 1 / (1 + np.exp(-x)), rtol=1e-12)
    table = activations.slope(activations.ACTIVATIONS["sigmoid"], np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    expected = [[0.19661193, 0.10499359, 0.04517666], [0.01766271, 0.00664806, 0.00246651]]
    np.testing.assert_allclose(table, expected, atol=1e-8)


def test_elu_has_the_slope_of_its_left_side_at_0():
    for alpha in (1.0, 1.5):
        gradient = ns.grad(lambda x, alpha=alpha: functional.elu(x, alpha).sum())(ns.tensor([-1.0, 0.0, 1.0]))
        np.testing.assert_allclose(gradient.numpy(), [alpha * np.exp(-1), alpha, 1], rtol=1e-6)


def test_relu_masks_a_gradient_and_leaves_the_incoming_one_alone():
    for incoming in (np.array([-2.0, 4.0, -1.1, 5.0]), np.array([[-2.0, 4.0], [-1.1, 5.0]])):
        x, before = np.array([-1.0, 2.1, -0.3, 4.2]).reshape(incoming.shape), incoming.copy()
        np.testing.assert_array_equal(activations.through_relu(x, incoming), np.where(x > 0, before, 0))
        np.testing.assert_array_equal(incoming, before)


def test_activations_fail_when_broken(monkeypatch):
    def in_place(x, incoming):
        incoming[x <= 0] = 0  # the mistake that many a first ReLU makes
        return incoming

    monkeypatch.setattr(activations, "through_relu", in_place)
    monkeypatch.setattr(activations, "sigmoid_slope", lambda x: ns.sigmoid(x).numpy())
    assert broken("activations") == ["sigmoid′ − y(1 − y), largest", "  the incoming array after that"]
    monkeypatch.setitem(activations.ACTIVATIONS, "sigmoid", nn.Tanh())
    assert {"sigmoid′ at 1, 2, 3", "sigmoid′ at 4, 5, 6", "largest slope of the sigmoid"} <= set(broken("activations"))


# forward


def test_the_network_gives_the_numbers_that_are_known():
    y = forward.network()(np.array([1.0, 0.5])).numpy()
    np.testing.assert_allclose(y, [0.31682708, 0.69627909], atol=1e-8)
    flow = forward.follow(forward.network(), np.array([1.0, 0.5]))
    np.testing.assert_allclose(flow[1], [0.3, 0.7, 1.1], rtol=1e-12)
    np.testing.assert_allclose(flow[2], 1 / (1 + np.exp([-0.3, -0.7, -1.1])), rtol=1e-12)
    np.testing.assert_array_equal(flow[-1], y)


def test_forward_fails_when_broken(monkeypatch):
    monkeypatch.setattr(forward.nn, "Sigmoid", nn.Tanh)
    assert broken("forward") == ["y for x = 1, 0.5", "y − the same in plain NumPy, largest"]


# softmax


def test_softmax_is_as_its_formula_says_where_that_can_be_computed():
    x = np.random.default_rng(1).normal(size=(20, 4))
    expected = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    for found in (softmax.plain(x), softmax.shifted(x), ns.softmax(x).numpy(), softmax.shifted(x + 500)):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    scores = np.array([1010.0, 1000.0, 990.0])
    assert np.isnan(softmax.plain(scores)).all()
    np.testing.assert_allclose(softmax.shifted(scores), [9.99954600e-01, 4.53978686e-05, 2.06106005e-09], rtol=1e-8)


def test_the_gradient_of_softmax_with_cross_entropy_is_the_difference():
    scores, targets = np.random.default_rng(2).normal(size=(3, 4)), np.eye(4)[[0, 3, 1]]
    numerical = ns.numerical_gradient(lambda x: nn.cross_entropy(x, targets).item(), scores.copy())
    np.testing.assert_allclose(softmax.gradient(scores, targets), numerical, atol=1e-9)


def test_softmax_fails_when_broken(monkeypatch):
    monkeypatch.setattr(softmax, "shifted", softmax.plain)
    assert broken("softmax") == ["shifted by the largest score"]
    monkeypatch.setattr(softmax, "gradient", lambda scores, targets: ns.softmax(scores).numpy() - targets)
    assert "(y − t)/N − numerical gradient, largest" in broken("softmax")


# losses


def test_losses_are_the_numbers_that_are_known():
    found = [loss(y, losses.TRUTH) for loss in (losses.squared_error, losses.cross_entropy) for y in
             (losses.SURE, losses.WRONG)]  # fmt: skip
    np.testing.assert_allclose(found, [0.0975, 0.5975, 0.510825457, 2.302584092], atol=1e-8)
    np.testing.assert_array_equal(losses.WRONG, [0.1, 0.05, 0.1, 0, 0.05, 0.1, 0, 0.6, 0, 0])
    batch = losses.cross_entropy(np.stack([losses.SURE, losses.WRONG]), np.stack([losses.TRUTH] * 2))
    assert batch == pytest.approx((0.510825457 + 2.302584092) / 2, abs=1e-8)


def test_losses_fail_when_broken(monkeypatch):
    monkeypatch.setattr(losses, "cross_entropy", lambda y, t: float(-(t * np.log(y + 1e-7)).sum()))
    assert broken("losses") == [
        "cross-entropy of both as a batch",
        "  with class numbers for rows of 0 and 1",
        "  of ten times as many examples",
    ]
    monkeypatch.setattr(losses, "WRONG", losses.SURE)
    assert "squared error, wrong class has 0.6" in broken("losses")
