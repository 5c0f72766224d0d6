"""Hyperparameters: a random search for learning rate and weight decay, in parallel processes.

What training itself does not find has to be tried. A small part of the data and few epochs are enough to tell what is
hopeless. Points drawn at random serve better than a grid, since each of them tries a new value of the hyperparameter
that matters; and they are drawn evenly on a logarithmic scale, since it is the factor between two values that counts:

    η = 10^u        u from −6 to 0           learning rate
    λ = 10^v        v from −8 to −1          weight decay: the loss is L + ½ λ Σ W²

The trials are judged on validation images that are neither trained on nor part of the test. They are independent of
each other, so that several processes can share them.

See: The learning rate decides: the best trials have it between about 0.02 and 0.5. Below 0.001 nothing is learned
within these epochs, and near 1 training jumps about. Weight decay may be almost anything: the best trials have it all
over its range. So the next search would draw learning rates from a narrower range.

Try: `nissl run hyperparameters --trials 200 --workers 4`: these points and 150 more; any number of workers gives the
same numbers.
"""

import functools
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import numpy as np

import nissl as ns
from nissl import datasets, nn, optim, plots
from nissl.experiments.report import Option, Report

CHAPTER = 17

RATES, DECAYS = (-6.0, 0.0), (-8.0, -1.0)  # powers of ten
TRAINING, VALIDATION = 400, 100  # images
LAYERS, UNITS, BATCH = 2, 100, 50
BEST = 9  # trials to draw


@dataclass(frozen=True)
class Trial:
    """A point of the search."""

    lr: float
    decay: float


def draw(trials: int, seed: int) -> list[Trial]:
    """Return points drawn evenly on logarithmic scales."""
    least, most = np.transpose([RATES, DECAYS])
    powers = np.random.default_rng(seed).uniform(least, most, size=(trials, 2))
    return [Trial(10.0**rate, 10.0**decay) for rate, decay in powers.tolist()]


def network() -> nn.Sequential:
    """Return a network of two hidden layers, with the same initial weights for all trials."""
    ns.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in [784] + [UNITS] * (LAYERS - 1):
        layers += [nn.Linear(inputs, UNITS), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(UNITS, 10))


def attempt(data: ns.Dataset, epochs: int, trial: Trial) -> np.ndarray:
    """Train once; return the accuracies of each epoch, shape (2, epochs): on training images, on validation images.

    They are all 0 if the training diverges.
    """
    model = network()
    weights = [p for path, p in model.named_parameters().items() if path.endswith("weight")]
    decay = ns.tensor(trial.decay)  # a Tensor is read anew by compiled code; a number would be compiled for each trial

    def loss(outputs: ns.Tensor, labels: ns.Tensor) -> ns.Tensor:
        return nn.cross_entropy(outputs, labels) + 0.5 * decay * sum((w**2).sum() for w in weights)

    optimizer = optim.SGD(model.parameters(), lr=trial.lr)
    try:
        history = ns.fit(
            model,
            data[:TRAINING],
            validation=data[TRAINING:],
            loss=loss,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=BATCH,
            seed=0,
        )
    except ns.DivergenceError:
        return np.zeros((2, epochs))
    return np.array([history.accuracy, history.validation_accuracy])


def start_worker() -> None:
    """Leave Ctrl-C to the process that waits for the results, and the other cores to the other workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ns.set_num_threads(1)


def search(data: ns.Dataset, epochs: int, trials: Sequence[Trial], workers: int) -> np.ndarray:
    """Return the curves of all trials, shape (trials, 2, epochs), computed by several processes."""
    spawn = multiprocessing.get_context("spawn")  # the only kind that every system has
    portion = -(-len(trials) // (4 * workers))  # trials that are sent at once, with the data
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=start_worker) as pool:
        return np.array(list(pool.map(functools.partial(attempt, data, epochs), trials, chunksize=portion)))


def spread(values: Sequence[float]) -> float:
    """Return how many powers of ten lie between the least and the greatest value."""
    return float(np.ptp(np.log10(values)))


def run(
    report: Report,
    *,
    trials: Annotated[int, Option("points to try", least=BEST, most=10_000)] = 50,
    epochs: Annotated[int, Option("epochs of each trial", least=1, most=1000)] = 20,
    workers: Annotated[int, Option("processes that share the trials", least=1, most=256)] = 2,
    seed: Annotated[int, Option("of the random points", least=0, most=2**32)] = 0,
) -> None:
    """Try the points and look at the best."""
    data, _ = datasets.load("mnist")
    points = draw(trials, seed)
    curves = search(data[: TRAINING + VALIDATION], epochs, points, workers)
    accuracies = curves[:, 1, -1]
    best = np.argsort(-accuracies, kind="stable")[:BEST].tolist()
    rates, decays = [points[i].lr for i in best], [points[i].decay for i in best]

    report.check("validation accuracy of the best", float(accuracies[best[0]]), "above 0.7", accuracies[best[0]] > 0.7)
    report.check("of the median trial", float(np.median(accuracies)), "below 0.5", np.median(accuracies) < 0.5)
    report.note("the best: learning rate, weight decay", (rates[0], decays[0]))
    report.check(f"the best {BEST}: powers of ten of learning rate", spread(rates), "below 2 of 6", spread(rates) < 2)
    report.check(f"the best {BEST}: powers of ten of weight decay", spread(decays), "above 3 of 7", spread(decays) > 3)

    panels = {
        f"{place}: η = {points[i].lr:.1e}, λ = {points[i].decay:.1e}": {
            "training": curves[i, 0],
            "validation": curves[i, 1],
        }
        for place, i in enumerate(best, start=1)
    }
    title = f"The best {BEST} of {trials} trials"
    report.picture(
        plots.lines(panels, np.arange(1, epochs + 1), x_label="epoch", y_label="accuracy", title=title, same_y=True)
    )
    report.picture(
        plots.scatter(
            [point.lr for point in points],
            [point.decay for point in points],
            accuracies,
            x_label="learning rate η",
            y_label="weight decay λ",
            value_label="validation accuracy",
            title=f"All {trials} trials",
            log="xy",
        ),
        "trials",
    )
