"""Fashion-MNIST: a small network learns to tell clothes apart, and shows where it fails.

60,000 pictures of clothes train a network of one hidden layer; 10,000 others test it:

    28×28 pixels  →  784 numbers  →  128 units, ReLU  →  10 units, softmax

The loss is the cross-entropy of the softmax with the class numbers, the optimizer is Adam with a constant learning
rate. One number, the accuracy, says little about what was learned. The confusion matrix says which classes are taken
for which; for each class, precision is the share of right answers among those that name it, recall the share of its
examples that were found:

    precision = right / named as this class        recall = right / examples of this class

See: Two of three mistakes are among shirts, T-shirts, pullovers and coats, which look alike at 28×28 pixels; trousers
and bags are hardly ever missed. Some units of the first layer look for a sleeve, a leg or a sole: red where they want
light, blue where they want dark. Of the mistakes that the network is surest of, some would be made by people too.

Try: `nissl run fashion --units 16 --seeds 1` is about 3 points worse with an eighth of the weights.
"""

from typing import Annotated

import numpy as np

import nissl as ns
from nissl import datasets, nn, optim, plots
from nissl.experiments.report import Option, Report

CHAPTER = 16


def network(units: int) -> nn.Sequential:
    """Return the network; the softmax is part of the loss."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, units), nn.ReLU(), nn.Linear(units, 10))


def train(
    data: ns.Dataset, test: ns.Dataset, units: int, epochs: int, lr: float, seed: int
) -> tuple[nn.Sequential, ns.History]:
    """Return a network trained from the initial weights and in the order of the examples that belong to a seed."""
    ns.manual_seed(seed)
    model = network(units)
    optimizer = optim.Adam(model.parameters(), lr=lr)
    return model, ns.fit(model, data, validation=test, optimizer=optimizer, epochs=epochs, seed=seed)


def first_weights(model: nn.Sequential) -> np.ndarray:
    """Return the weights of each unit of the first layer as an image, shape (units, 28, 28)."""
    return model.named_parameters()["1.weight"].numpy().T.reshape(-1, 28, 28)


def draw_mistakes(report: Report, model: nn.Sequential, test: ns.Dataset) -> None:
    """Draw the test images that were taken for another class with the greatest probability."""
    probabilities = ns.softmax(ns.predict(model, test.x)).numpy()
    names = np.array(test.class_names)
    true, answers = names[test.y].tolist(), names[probabilities.argmax(axis=1)].tolist()
    report.picture(plots.mistakes(test.x, true, answers, probabilities.max(axis=1)), "mistakes")


def run(
    report: Report,
    *,
    units: Annotated[int, Option("units of the hidden layer", least=1, most=1024)] = 128,
    epochs: Annotated[int, Option("epochs of each training", least=1, most=100)] = 5,
    lr: Annotated[float, Option("learning rate", above=0, most=1)] = 1e-3,
    seeds: Annotated[int, Option("how many trainings, each with other initial weights", least=1, most=100)] = 5,
) -> None:
    """Train from several seeds; look closely at the network whose accuracy is the median."""
    data, test = datasets.load("fashion-mnist")
    trained = [train(data, test, units, epochs, lr, seed) for seed in range(seeds)]
    accuracies = [float(history.validation_accuracy[-1]) for _, history in trained]
    middle = int(np.argsort(accuracies)[seeds // 2])
    model, history = trained[middle]

    median = float(np.median(accuracies))
    report.check(f"test accuracy, median of {seeds}", median, "at least 0.87", median >= 0.87)
    report.note("the lowest and the highest", (min(accuracies), max(accuracies)))
    evaluation = ns.evaluate(model, test)
    assert evaluation.confusion_matrix is not None  # the model answers with a class
    hardest = min(evaluation.by_class, key=lambda score: score.recall).name
    report.check("the class that is missed most", hardest, "Shirt", hardest == "Shirt")
    for score in evaluation.by_class:
        report.note(f"{score.name}: precision, recall", (round(score.precision, 3), round(score.recall, 3)))

    report.picture(plots.confusion_matrix(evaluation.confusion_matrix, evaluation.class_names))
    report.picture(plots.learning_curves(history, title="Fashion-MNIST, with validation on the test images"), "curves")
    report.picture(plots.weight_images(first_weights(model), title="What the first layer looks for"), "weights")
    draw_mistakes(report, model, test)
