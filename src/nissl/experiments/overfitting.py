"""Overfitting: a network learns its examples by heart, and what holds it back.

A network of six layers with 100 units each has some 130,000 numbers to set. Trained on 300 images it can give each of
them the right answer without having found what makes a seven a seven; only images that it has not seen tell the
difference. Two remedies make learning by heart harder. Weight decay adds the square of the weights to the loss, so
that each step also shrinks them; dropout leaves out each unit with probability p, anew in each step, so that no unit
can rely on another:

    L + ½ λ Σ W²          W ← W − η (∂L/∂W + λ W)
    x ← x · m / (1 − p)   m = 0 with probability p, else 1

The opposite mistake is a network too small for the task. It underfits: it does badly on the very images it is taught.

See: Without a remedy the training accuracy goes to 100 % while the test accuracy stops far below: the gap is what was
learned by heart. Weight decay and dropout narrow the gap from above: less is learned by heart, though for so few images
nothing else is learned instead. The network of five units a layer has hardly a gap, and is of no use: both of its
curves stay low.

Try: `nissl run overfitting --images 3000`: more examples are the best remedy, the gap without any other halves.
`--dropout 0.5` turns that remedy into underfitting.
"""

from typing import Annotated

import numpy as np

import nissl as ns
from nissl import datasets, nn, optim, plots
from nissl.experiments.report import Option, Report

CHAPTER = 14

LAYERS = 6
EVERY = 10  # epochs from one look at the accuracies to the next
TEST_IMAGES = 2000


def network(units: int, dropout: float = 0.0) -> nn.Sequential:
    """Return a network of six hidden layers, each with dropout behind it."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in [784] + [units] * (LAYERS - 1):
        layers += [nn.Linear(inputs, units), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(units, 10))


def accuracy(model: nn.Sequential, data: ns.Dataset) -> float:
    """Return the share of right answers, with the dropout switched off, as `ns.predict` does."""
    return float((ns.predict(model, data.x).argmax(axis=1) == data.y).mean())


def learn(
    model: nn.Sequential, data: ns.Dataset, test: ns.Dataset, lr: float, epochs: int, decay: float = 0.0
) -> dict[str, list[float]]:
    """Train with SGD; return how the accuracy went on the training images and on the test images."""
    curves: dict[str, list[float]] = {"training": [], "test": []}

    def look(event: ns.StepDone | ns.EpochDone) -> None:
        if isinstance(event, ns.EpochDone) and event.epoch % EVERY == 0:
            curves["training"].append(accuracy(model, data))
            curves["test"].append(accuracy(model, test))

    optimizer = optim.SGD(model.parameters(), lr=lr, weight_decay=decay)
    ns.fit(model, data, optimizer=optimizer, epochs=epochs, batch_size=100, seed=0, callbacks=[look])
    return curves


def run(
    report: Report,
    *,
    images: Annotated[int, Option("training images", least=100, most=10_000)] = 300,
    epochs: Annotated[int, Option("epochs of each training", least=EVERY, most=1000)] = 200,
    lr: Annotated[float, Option("learning rate", above=0, most=1)] = 0.01,
    decay: Annotated[float, Option("weight decay λ", least=0, most=1)] = 0.1,
    dropout: Annotated[float, Option("probability of leaving out a unit", least=0, most=0.9)] = 0.2,
) -> None:
    """Train the same network without a remedy, with each remedy, and one that is too small."""
    train, test = datasets.load("mnist")
    train, test = train[:images], test[:TEST_IMAGES]
    curves = {}
    for name, units, probability, shrink in [
        ("no remedy", 100, 0.0, 0.0),
        (f"weight decay {decay:g}", 100, 0.0, decay),
        (f"dropout {dropout:g}", 100, dropout, 0.0),
        ("five units a layer", 5, 0.0, 0.0),
    ]:
        ns.manual_seed(0)
        curves[name] = learn(network(units, probability), train, test, lr, epochs, shrink)

    ends = {name: (found["training"][-1], found["test"][-1]) for name, found in curves.items()}
    gaps = {name: training - unseen for name, (training, unseen) in ends.items()}
    plain, decayed, dropped, small = gaps
    report.check("no remedy: training accuracy", ends[plain][0], "1", ends[plain][0] == 1)
    report.check("no remedy: gap to the test", gaps[plain], "above 0.15: far below", gaps[plain] > 0.15)
    for name in (decayed, dropped):
        report.check(f"{name}: gap", gaps[name], f"below {gaps[plain]:.3f}", gaps[name] < gaps[plain])
    report.check(f"{small}: training accuracy", ends[small][0], "below 0.5: underfits", ends[small][0] < 0.5)
    report.check(f"{small}: gap", gaps[small], "below 0.1", gaps[small] < 0.1)
    for name, end in ends.items():
        report.note(f"{name}: training, test", tuple(round(value, 3) for value in end))

    looks = EVERY * (1 + np.arange(epochs // EVERY))
    report.picture(
        plots.lines(
            curves,
            looks,
            x_label="epoch",
            y_label="accuracy",
            title=f"Learning {images} images by heart",
            same_y=True,
        )
    )
