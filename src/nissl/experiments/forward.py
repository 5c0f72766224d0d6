"""Forward: what a network computes, number by number.

A layer multiplies its inputs by a matrix of weights, adds biases, and bends the sums with its activation:

    a = zW + b        z' = f(a)

Here are three layers, 2-3-2-2, with weights that can be followed by hand: W₁ of shape (2, 3) takes 2 numbers to 3, and
so on. The first two bend with the sigmoid; the last one, as for regression, hands its sums on as they are. A batch of
inputs is a matrix with a row each, and goes through the same products in one go.

See: The inputs enter on the left. Each circle holds a unit's answer z, each line the weight that it is passed on with;
a thick line weighs more. The sum a of the first unit is 0.1·1 + 0.2·0.5 + 0.1 = 0.3, and z = sigmoid(0.3) = 0.5744.

Try: `nissl run forward --x1 100 --x2 50` saturates the first layer: its units answer 1, and further input is lost.
"""

from typing import Annotated

import numpy as np

import nissl as ns
from nissl import nn, plots
from nissl.experiments.report import Option, Report

CHAPTER = 3

WEIGHTS = (
    [[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]],
    [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]],
    [[0.1, 0.3], [0.2, 0.4]],
)
BIASES = ([0.1, 0.2, 0.3], [0.1, 0.2], [0.1, 0.2])
EXPECTED = (0.31682708, 0.69627909)  # for the inputs 1 and 0.5


def linear(weights: list[list[float]], biases: list[float]) -> nn.Linear:
    """Return a layer with these numbers."""
    layer = nn.Linear(len(weights), len(biases), dtype="float64")
    layer.load_state_dict({"weight": np.array(weights), "bias": np.array(biases)})
    return layer


def network() -> nn.Sequential:
    """Return the 2-3-2-2 network."""
    first, second, third = (linear(w, b) for w, b in zip(WEIGHTS, BIASES, strict=True))
    return nn.Sequential(first, nn.Sigmoid(), second, nn.Sigmoid(), third, nn.Identity())


def follow(model: nn.Sequential, x: np.ndarray) -> list[np.ndarray]:
    """Return x and what each part of the network makes of it: x, a, z, a, z, a, y."""
    flow = [ns.tensor(x)]
    for part in model:
        flow.append(part(flow[-1]))
    return [value.numpy() for value in flow]


def by_hand(x: np.ndarray) -> np.ndarray:
    """Return the same as the network with nothing but NumPy."""
    z = x
    for weights, biases in zip(WEIGHTS[:-1], BIASES[:-1], strict=True):
        z = 1 / (1 + np.exp(-(z @ np.array(weights) + biases)))
    return z @ np.array(WEIGHTS[-1]) + BIASES[-1]


def run(
    report: Report,
    *,
    x1: Annotated[float, Option("first input", least=-100, most=100)] = 1.0,
    x2: Annotated[float, Option("second input", least=-100, most=100)] = 0.5,
) -> None:
    """Follow two numbers through the network."""
    model = network()
    y = model(np.array([1.0, 0.5])).numpy()
    error = float(np.abs(y - EXPECTED).max())
    report.check("y for x = 1, 0.5", y, "0.31682708  0.69627909, to 1e-6", error <= 1e-6)

    x = np.array([x1, x2])
    flow = follow(model, x)
    for layer in range(3):
        report.note(f"x = {x1:g}, {x2:g}: layer {layer + 1}, a", flow[2 * layer + 1])
        report.note(f"  layer {layer + 1}, z" if layer < 2 else "  y", flow[2 * layer + 2])
    error = float(np.abs(flow[-1] - by_hand(x)).max())
    report.check("y − the same in plain NumPy, largest", error, "at most 1e-15", error <= 1e-15)

    batch = np.random.default_rng(0).normal(size=(100, 2))
    alone = np.stack([model(row).numpy() for row in batch])
    error = float(np.abs(model(batch).numpy() - alone).max())
    report.check("100 inputs as one batch − one by one, largest", error, "at most 1e-15", error <= 1e-15)

    names = ["input x", "layer 1, sigmoid", "layer 2, sigmoid", "output y"]
    title = "What each unit answers"
    report.picture(plots.network(WEIGHTS, flow[::2], biases=BIASES, layer_names=names, title=title))
