"""Vanishing gradients: why deep networks of sigmoids do not learn, and what ReLU and He weights change.

Backpropagation takes the gradient down layer by layer, and each time multiplies it by the weights and by the slope of
the activation:

    ∂L/∂uₖ = (∂L/∂uₖ₊₁ · Wₖ₊₁ᵀ) · f′(uₖ)

The slope of the sigmoid is ¼ at most. With weights of std √(1/n), which keep the sums steady, each layer makes the
gradient four times smaller, 20 layers a million million times. The slope of tanh is 1 around 0, so that little is lost.
ReLU has slope 1 for half of the units and 0 for the others: with these weights it loses half of the variance in every
layer. He weights, √(2/n), make up for that.

See: In a network of 20 layers, the sigmoid's gradient falls along a steep straight line on the log scale: the first
layers get nothing to learn from, and He weights hardly help. ReLU with weights of std √(1/n) gets a small gradient in
all layers, the smaller the deeper the network is, as the second picture shows; with He weights it is level.

Try: `nissl run vanishing --depth 50` goes deeper. `nissl run vanishing --units 20` shows that narrow layers need luck.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np

import nissl as ns
from nissl import nn, plots
from nissl.experiments.report import Option, Report

CHAPTER = 11

ROWS = 64
CLASSES = 10
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "ReLU": nn.ReLU}
PLAIN, HE = "weights of std √(1/n)", "He weights, of std √(2/n)"
INITIALIZERS = {PLAIN: "lecun_normal", HE: "he_normal"}


def network(depth: int, units: int, activation: Callable[[], nn.Module], weight_init: str) -> nn.Sequential:
    """Return a network of so many layers, in float64, since its gradients may be very small."""
    hidden = [nn.Linear(units, units, weight_init=weight_init, dtype="float64") for _ in range(depth - 1)]
    last = nn.Linear(units, CLASSES, weight_init=weight_init, dtype="float64")
    return nn.Sequential(*[part for layer in hidden for part in (layer, activation())], last)


def shallower(deep: nn.Sequential, depth: int) -> nn.Sequential:
    """Return a network of the first layers of a deeper one, and its last."""
    return nn.Sequential(*list(deep)[: 2 * (depth - 1)], deep[len(deep) - 1])


def gradient_norms(model: nn.Module, x: ns.Tensor, labels: ns.Tensor) -> np.ndarray:
    """Return the norm of ∂L/∂W for each layer, the first one first."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    for weight in weights:
        weight.grad = None  # backward() adds to what is there
    nn.cross_entropy(model(x), labels).backward()
    return np.array([np.linalg.norm(weight.grad.numpy()) for weight in weights if weight.grad is not None])


def run(
    report: Report,
    *,
    depth: Annotated[int, Option("layers of the deepest network", least=10, most=100)] = 20,
    units: Annotated[int, Option("units of each layer", least=10, most=500)] = 100,
) -> None:
    """Measure the gradients in networks of 2 layers and more, for three activations and two initializations."""
    generator = np.random.default_rng(0)
    x = ns.tensor(generator.standard_normal((ROWS, units)))
    labels = ns.tensor(generator.integers(CLASSES, size=ROWS))
    depths = list(range(2, depth + 1))
    deepest: dict[str, dict[str, np.ndarray]] = {how: {} for how in INITIALIZERS}
    first: dict[str, dict[str, np.ndarray]] = {how: {} for how in INITIALIZERS}
    for how, weight_init in INITIALIZERS.items():
        for name, activation in ACTIVATIONS.items():
            deep = network(depth, units, activation, weight_init)
            norms = [gradient_norms(shallower(deep, layers), x, labels) for layers in depths]
            deepest[how][name] = norms[-1]
            first[how][name] = np.array([layers[0] for layers in norms])

    # What a further layer multiplies the first layer's gradient by, on average.
    factor = {how: {name: (n[-1] / n[0]) ** (1 / (depth - 2)) for name, n in by.items()} for how, by in first.items()}
    for how, name, low, high, expected in (
        (PLAIN, "sigmoid", 0.15, 0.25, "at most ¼: collapses"),
        (HE, "sigmoid", 0.2, 0.25 * 2**0.5, "at most ¼·√2: collapses"),
        (PLAIN, "tanh", 0.8, 1.05, "a little below 1"),
        (PLAIN, "ReLU", 0.6, 0.8, "about √½ = 0.71"),
        (HE, "ReLU", 0.9, 1.1, "about 1: level"),
    ):
        found = float(factor[how][name])
        report.check(f"{name}, {how}: factor of a layer", found, expected, low <= found <= high)
    gone = float(deepest[PLAIN]["sigmoid"][0] / deepest[PLAIN]["sigmoid"][-1])
    limit = 0.3 ** (depth - 1)
    report.check(f"sigmoid: layer 1 beside layer {depth}", gone, f"at most {limit:.1g}", gone <= limit)
    level = float(deepest[HE]["ReLU"][0] / deepest[HE]["ReLU"][-1])
    report.check(f"ReLU, He: layer 1 beside layer {depth}", level, "0.1 to 10", 0.1 <= level <= 10)

    layers = np.arange(1, depth + 1)
    title = f"How much gradient each of {depth} layers gets"
    picture = plots.lines(
        deepest, layers, x_label="layer", y_label="norm of ∂L/∂W", title=title, log="y", markers=True, same_y=True
    )
    report.picture(picture)
    title = "How much gradient the first layer gets"
    x_label = "layers of the network"
    picture = plots.lines(
        first, depths, x_label=x_label, y_label="norm of ∂L/∂W₁", title=title, log="y", markers=True, same_y=True
    )
    report.picture(picture, "depth")
