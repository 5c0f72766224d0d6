"""Batch normalization: training that hardly depends on the scale of the initial weights.

A unit's input u = Σ w x + b is as large as the weights make it, layer upon layer: weights twice as large in five layers
give outputs 32 times as large. Batch normalization puts each unit's input back to mean 0 and variance 1 over the batch,
in front of the activation, and lets two learned numbers γ and β choose another place and width:

    u ← γ (u − μ)/√(σ² + ε) + β        μ, σ²: mean and variance of this unit over the batch

Then a factor on the weights cancels out, since u, μ and σ all get it. The same network of four hidden layers of 100
units is trained here on 1,000 images of MNIST, with and without batch normalization, from normal weights of several
standard deviations.

See: With batch normalization the network learns in every panel, over four powers of ten of initial scales. Without it
there is only a narrow range where it learns at all: larger weights let the loss explode (no curve is left), smaller
ones let signal and gradient vanish, and the network goes on guessing.

Try: `nissl run batchnorm --lr 0.01`: the scale shows again. The output stays the same when all weights are doubled, but
a step of the same length then turns them less; and weights so small that σ² is below ε are not brought back to 1.
"""

from typing import Annotated

import numpy as np

import nissl as ns
from nissl import datasets, nn, optim, plots
from nissl.experiments.report import Option, Report

CHAPTER = 15

SCALES = np.logspace(0, -4, 9)  # standard deviations of the initial weights
LAYERS, UNITS = 4, 100
BATCH = 100


def network(scale: float, normalized: bool) -> nn.Sequential:
    """Return a network whose initial weights are normal with standard deviation `scale`."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in [784] + [UNITS] * (LAYERS - 1):
        layers += [nn.Linear(inputs, UNITS), *([nn.BatchNorm(UNITS)] if normalized else []), nn.ReLU()]
    layers += [nn.Linear(UNITS, 10)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            layer.weight.assign(nn.init.normal(layer.weight.shape, std=scale))
    return nn.Sequential(*layers)


def learn(model: nn.Sequential, data: ns.Dataset, lr: float, epochs: int) -> np.ndarray:
    """Train with SGD and return the training accuracy of each epoch; NaN if the loss does not stay finite."""
    optimizer = optim.SGD(model.parameters(), lr=lr)
    try:
        return ns.fit(model, data, optimizer=optimizer, epochs=epochs, batch_size=BATCH, seed=0).accuracy
    except ns.DivergenceError:
        return np.full(epochs, np.nan)


def run(
    report: Report,
    *,
    lr: Annotated[float, Option("learning rate", above=0, most=10)] = 0.3,
    epochs: Annotated[int, Option("epochs of each training", least=1, most=1000)] = 20,
    images: Annotated[int, Option("training images", least=BATCH, most=60_000)] = 1000,
) -> None:
    """Train from each initial scale, with and without batch normalization."""
    train, _ = datasets.load("mnist")
    train = train[: images // BATCH * BATCH]  # whole batches: a batch of one has no variance
    panels: dict[str, dict[str, np.ndarray]] = {}
    for scale in SCALES:
        curves = panels[f"initial standard deviation {scale:.2g}"] = {}
        for name, normalized in (("batch norm", True), ("without", False)):
            ns.manual_seed(0)
            curves[name] = learn(network(float(scale), normalized), train, lr, epochs)

    ends = {name: np.array([curves[name][-1] for curves in panels.values()]) for name in ("batch norm", "without")}
    worst, learned = float(ends["batch norm"].min()), int((ends["without"] > 0.5).sum())
    report.check("with batch norm, the worst accuracy", worst, "above 0.9", worst > 0.9)
    report.check(f"without, scales of {len(SCALES)} that learn", learned, "1 to 3 get above 0.5", 1 <= learned <= 3)
    for scale, *accuracies in zip(SCALES, *ends.values(), strict=True):
        shown = ["diverges" if np.isnan(accuracy) else f"{accuracy:.3f}" for accuracy in accuracies]
        report.note(f"scale {scale:.2g}: with, without", "  ".join(shown))
    report.picture(
        plots.lines(
            panels,
            np.arange(1, epochs + 1),
            x_label="epoch",
            y_label="training accuracy",
            title="The same training with and without batch normalization",
            same_y=True,
        )
    )
