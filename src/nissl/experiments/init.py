"""Initial weights: how wide they are spread decides whether signals live through the layers.

A unit adds up n inputs times weights. With weights of standard deviation s, its sum has the variance

    Var(u) = n · s² · E[z²]

so the activations stay as they are only if s² is about 1/n: √(1/n) for tanh and sigmoid (Xavier, whose n is the mean of
inputs and outputs, which are equally many here), and √(2/n) for ReLU, which silences half of the units (He). Weights
that are all equal make all units of a layer equal, and since they also get equal gradients, they stay equal: the layer
has one unit in effect.

See: Each row is an initialization, each column a layer. With weights of std 1 the sigmoid is at 0 or 1, where its slope
is nothing; with 0.01 all units say nearly the same. Xavier keeps sigmoid and tanh spread, He does so for ReLU. With
constants all units of a layer say the same of a row. On MNIST the ReLU network with std 0.01 does not begin to learn.

Try: `nissl run init --units 400` shows that a std of 1 gets worse with more units while Xavier and He stay as they are;
`nissl run init --steps 5000` asks whether std 0.01 only needed more time.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated

import numpy as np

import nissl as ns
from nissl import datasets, nn, optim, plots
from nissl.experiments.report import Option, Report

CHAPTER = 12

LAYERS = 5
ROWS = 1000
BATCH = 128
RATE = 0.01
ACTIVATIONS: Mapping[str, Callable[[ns.Tensor], ns.Tensor]] = {"sigmoid": ns.sigmoid, "ReLU": ns.relu, "tanh": ns.tanh}

Initializer = Callable[[tuple[int, int]], ns.Tensor]


def normal(std: float) -> Initializer:
    """Return an initializer that draws from the normal distribution."""
    return lambda shape: nn.init.normal(shape, std=std)


def constant(value: float) -> Initializer:
    """Return an initializer that gives every weight the same value."""
    return lambda shape: nn.init.constant(shape, value)


XAVIER, HE = "Xavier, √(1/n)", "He, √(2/n)"
INITIALIZERS: Mapping[str, Initializer] = {
    "std 1": normal(1.0),
    "std 0.01": normal(0.01),
    XAVIER: lambda shape: nn.init.normal(shape, std=(1 / shape[0]) ** 0.5),
    HE: lambda shape: nn.init.normal(shape, std=(2 / shape[0]) ** 0.5),
    "all 0": constant(0.0),
    "all 1": constant(1.0),
    "all 5": constant(5.0),
}
TRAINED = ("std 0.01", XAVIER, HE)


def activations(f: Callable[[ns.Tensor], ns.Tensor], initial: Initializer, units: int) -> list[np.ndarray]:
    """Return what each layer says to normally distributed inputs: arrays of shape (rows, units)."""
    z = ns.tensor(np.random.default_rng(0).standard_normal((ROWS, units), np.float32))
    found = []
    for _ in range(LAYERS):
        z = f(z @ initial((units, units)))
        found.append(z.numpy())
    return found


def training_losses(initializers: Mapping[str, Initializer], train: ns.Dataset, steps: int) -> dict[str, np.ndarray]:
    """Train a 784-100-100-100-100-10 network of ReLUs from each initialization; return the losses, one a step."""
    sizes = (784, 100, 100, 100, 100, 10)
    layers = [nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)]
    model = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    x, t = ns.tensor(train.x.reshape(len(train), -1)), ns.tensor(train.y)
    rows = np.random.default_rng(0).integers(len(train), size=(steps, BATCH))

    @ns.compile
    def step(rows: ns.Tensor) -> ns.Tensor:
        loss = nn.cross_entropy(model(x[rows]), t[rows])
        loss.backward()
        optimizer.step()
        return loss

    losses = {}
    for how, initial in initializers.items():
        for layer, shape in zip(layers, pairwise(sizes), strict=True):
            layer.load_state_dict({"weight": initial(shape), "bias": ns.zeros(shape[1:])})
        losses[how] = step.scan(rows).numpy()
    return losses


def spread(layer: np.ndarray) -> float:
    """Return the standard deviation of the activations of a layer."""
    return float(layer.std())


def difference(layers: list[np.ndarray]) -> float:
    """Return the largest difference between two units of a layer that see the same row, beside the largest number."""
    return max(float(np.ptp(z, axis=1).max() / max(np.abs(z).max(), 1e-30)) for z in layers)


def run(
    report: Report,
    *,
    units: Annotated[int, Option("units of each layer in the histograms", least=10, most=1000)] = 100,
    steps: Annotated[int, Option("training steps on MNIST", least=500, most=20_000)] = 1000,
) -> None:
    """Look at the activations under each initialization, then train from three of them."""
    found = {
        name: {how: activations(f, initial, units) for how, initial in INITIALIZERS.items()}
        for name, f in ACTIVATIONS.items()
    }
    sigmoid, relu, tanh = found.values()
    at_ends = float((np.abs(sigmoid["std 1"][-1] - 0.5) > 0.4).mean())
    report.check("sigmoid, std 1: share within 0.1 of 0 or 1", at_ends, "above 0.6: saturated", at_ends > 0.6)
    last = spread(sigmoid["std 0.01"][-1])
    report.check("sigmoid, std 0.01: std in layer 5", last, "below 0.03: all about ½", last < 0.03)
    last = spread(tanh["std 0.01"][-1])
    report.check("tanh, std 0.01: std in layer 5", last, "below 1e-3: vanished", last < 1e-3)
    last = spread(tanh[XAVIER][-1])
    report.check("tanh, Xavier: std in layer 5", last, "0.2 to 0.7: alive", 0.2 < last < 0.7)
    for how, low, high, word in (
        ("std 0.01", 0.0, 1e-3, "vanishes"),
        (XAVIER, 0.1, 0.5, "shrinks by about √½ a layer"),
        (HE, 0.5, 2.0, "stays"),
        ("std 1", 1e3, np.inf, "explodes"),
    ):
        ratio = spread(relu[how][-1]) / spread(relu[how][0])
        report.check(f"ReLU, {how}: std in layer 5 / layer 1", ratio, word, low <= ratio <= high)
    largest = max(difference(by[f"all {value}"]) for by in found.values() for value in (0, 1, 5))
    report.check("constants: difference of units in a layer", largest, "0, but for rounding", largest < 1e-4)

    losses = training_losses({how: INITIALIZERS[how] for how in TRAINED}, datasets.load("mnist")[0], steps)
    ends = {how: float(loss[-100:].mean()) for how, loss in losses.items()}
    small, xavier, he = ends.values()
    report.check(
        f"MNIST, {steps:,} steps, loss: std 0.01", small, "ln 10 = 2.3026: a guess", abs(small - np.log(10)) < 0.01
    )
    report.check("MNIST, loss: Xavier", xavier, "below 1: learns", xavier < 1)
    report.check("MNIST, loss: He", he, "below Xavier", he < xavier)

    for name, x in {"sigmoid": (0.0, 1.0), "ReLU": None, "tanh": (-1.0, 1.0)}.items():
        # The zeros of ReLU, half of all, would dwarf the others.
        shown = {how: [z[z > 0] if name == "ReLU" and z.any() else z for z in zs] for how, zs in found[name].items()}
        rows = {how: {f"layer {i}": z for i, z in enumerate(zs, start=1)} for how, zs in shown.items()}
        title = f"Activations of {name} layers{', those above 0,' if name == 'ReLU' else ''} by initial weights"
        report.picture(plots.histograms(rows, x=x, title=title), "" if name == "sigmoid" else name.lower())
    pieces = {how: loss[: steps // 20 * 20].reshape(-1, 20).mean(axis=1) for how, loss in losses.items()}
    at = 20 * np.arange(steps // 20) + 10
    report.picture(plots.lines({"A ReLU network with 5 layers on MNIST": pieces}, at, y_label="loss"), "training")
