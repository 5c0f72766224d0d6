"""Activations: the bend between two layers, and its slope.

Without an activation, layers of weights collapse into one, W₂(W₁x) = (W₂W₁)x. What a network learns by, though, is not
the activation f but its slope: on the way back, a gradient g that arrives at y = f(x) goes on to x as

    g · f′(x)        sigmoid′ = y(1 − y)        tanh′ = 1 − y²        ReLU′ = 1 where x > 0, else 0

The sigmoid's slope is at most ¼ and almost 0 far from the middle: there the unit has saturated and learns no more. The
step has no slope at all, so nothing can be learned through it. ReLU's slope is 1 or 0, a mask: it lets a gradient
through whole, or not at all.

See: Each panel has an activation in blue and its slope in vermillion. Those of sigmoid and tanh die out to both sides,
ReLU's only to the left; leaky ReLU and ELU keep a little there, softplus, SiLU and GELU are ReLU with a round corner.

Try: `nissl run activations --reach 20` looks further out: which slopes are left?
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np

import nissl as ns
from nissl import nn, plots
from nissl.experiments.report import Option, Report

CHAPTER = 2

POINTS = 1001
BENT = ("step", "ReLU", "leaky ReLU (0.1)")  # with a jump or a kink at 0, where the two sides have different slopes
ACTIVATIONS: dict[str, Callable[[ns.Tensor], ns.Tensor]] = {
    "step": nn.Step(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "ReLU": nn.ReLU(),
    "leaky ReLU (0.1)": nn.LeakyReLU(0.1),
    "ELU": nn.ELU(),
    "softplus": nn.Softplus(),
    "SiLU (swish)": nn.SiLU(),
    "GELU": nn.GELU(),
}


def slope(f: Callable[[ns.Tensor], ns.Tensor], x: np.ndarray) -> np.ndarray:
    """Return f′ at each x by backpropagation: each x is in one term of the sum, so its gradient has all slopes."""
    return ns.grad(lambda points: f(points).sum())(x).numpy()


def difference_quotient(f: Callable[[ns.Tensor], ns.Tensor], x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """Return (f(x + h) − f(x − h)) / 2h at each x, which needs no rule."""
    return (f(ns.tensor(x + h)) - f(ns.tensor(x - h))).numpy() / (2 * h)


def sigmoid_slope(x: np.ndarray) -> np.ndarray:
    """Return y(1 − y) for y = sigmoid(x)."""
    y = ns.sigmoid(x).numpy()
    return y * (1 - y)


def through_relu(x: np.ndarray, incoming: np.ndarray) -> np.ndarray:
    """Return what of an incoming gradient arrives at the input x of a ReLU."""
    variable = ns.tensor(x, requires_grad=True)
    ns.relu(variable).backward(incoming)
    assert variable.grad is not None
    return variable.grad.numpy()


def run(
    report: Report,
    *,
    reach: Annotated[float, Option("how far the curves go to both sides", least=1, most=100)] = 5.0,
) -> None:
    """Draw activations and slopes, and check the slopes against formulas and differences."""
    x = np.linspace(-reach, reach, POINTS)
    slopes = {name: slope(f, x) for name, f in ACTIVATIONS.items()}

    error = float(np.abs(slopes["sigmoid"] - sigmoid_slope(x)).max())
    report.check("sigmoid′ − y(1 − y), largest", error, "at most 1e-15", error <= 1e-15)
    errors = {name: np.abs(slopes[name] - difference_quotient(f, x)) for name, f in ACTIVATIONS.items()}
    error = max(float(errors[name][(np.abs(x) > 1e-4) | (name not in BENT)].max()) for name in ACTIVATIONS)
    report.check("all slopes − difference quotients, largest", error, "at most 1e-5", error <= 1e-5)

    found = slope(ACTIVATIONS["sigmoid"], np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    expected = np.array([[0.196612, 0.104994, 0.045177], [0.017663, 0.006648, 0.002467]])
    for row, (values, numbers) in enumerate(zip(found, expected, strict=True)):
        what = f"sigmoid′ at {3 * row + 1}, {3 * row + 2}, {3 * row + 3}"
        text = "  ".join(f"{number:g}" for number in numbers)
        report.check(what, values, text, bool(np.abs(values - numbers).max() <= 1e-6))

    incoming = np.array([-2.0, 4.0, -1.1, 5.0])
    arrived = through_relu(np.array([-1.0, 2.1, -0.3, 4.2]), incoming)
    report.check("ReLU: of −2, 4, −1.1, 5 arrives", arrived, "0  4  0  5", arrived.tolist() == [0, 4, 0, 5])
    left = incoming.tolist() == [-2.0, 4.0, -1.1, 5.0]
    report.check("  the incoming array after that", incoming, "−2  4  −1.1  5: as it was", left)

    steepest = {name: float(values.max()) for name, values in slopes.items()}
    report.check("largest slope of the step", steepest["step"], "0: nothing to learn by", steepest["step"] == 0)
    report.check("largest slope of the sigmoid", steepest["sigmoid"], "0.25", abs(steepest["sigmoid"] - 0.25) < 1e-12)
    report.check("largest slope of tanh", steepest["tanh"], "1", abs(steepest["tanh"] - 1) < 1e-12)
    for name in ("sigmoid", "ReLU"):
        report.note(f"what ten {name} slopes leave of a gradient, at most", steepest[name] ** 10)

    curves = {name: {"f(x)": f(ns.tensor(x)).numpy(), "slope f′(x)": slopes[name]} for name, f in ACTIVATIONS.items()}
    report.picture(plots.lines(curves, x, x_label="x", title="Activations and their slopes"))
