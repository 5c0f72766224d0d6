"""`NeuralNetClassifier` beside scikit-learn's `MLPClassifier`, both set alike: on pictures, a table, and small data."""

import statistics
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from benchmarks.results import Row, duration
from nissl import datasets
from nissl.sklearn import NeuralNetClassifier

REPETITIONS, EPOCHS = 5, 10
# Seconds before a time is taken: the threads of a BLAS stay busy for a while, and take a core from what comes next.
PAUSE = 0.2
MOST_OF_FIT, MOST_OF_PREDICT, MOST_OF_SMALL_FIT = 1 / 4, 1.0, 1.0
# All else is scikit-learn's default; the last two let both go through all epochs.
SETTINGS = {"max_iter": EPOCHS, "tol": 0.0, "n_iter_no_change": EPOCHS}
# Data sets that scikit-learn carries; a fit takes up to 200 epochs, as by default.
SMALL = {"iris": load_iris, "breast cancer": load_breast_cancer, "digits": load_digits}


def pictures() -> tuple[np.ndarray, ...]:
    train, test = datasets.load("fashion-mnist")
    rows = (part.x.reshape(len(part), -1) for part in (train, test))
    return *rows, train.y, test.y


def table() -> tuple[np.ndarray, ...]:
    x, y = make_classification(100_000, 20, n_informative=12, n_redundant=4, n_clusters_per_class=4, random_state=0)
    return tuple(train_test_split(x.astype(np.float32), y, test_size=0.2, random_state=0))


def seconds(work: Callable[..., object], *arguments: np.ndarray) -> float:
    time.sleep(PAUSE)
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def measure() -> Iterator[Row]:
    warnings.simplefilter("ignore", ConvergenceWarning)
    for title, data in (("Fashion-MNIST", pictures()), ("a table of 100,000 × 20", table())):
        x, x_test, y, y_test = data
        found: dict[type, list[tuple[float, float, float]]] = {NeuralNetClassifier: [], MLPClassifier: []}
        for seed in range(REPETITIONS + 1):  # the first is slow, as all is compiled in it
            for kind, times in found.items():
                estimator = kind(random_state=seed, **SETTINGS)
                fitted, predicted = seconds(estimator.fit, x, y), seconds(estimator.predict, x_test)
                times.append((fitted, predicted, estimator.score(x_test, y_test)))
        ours, theirs = (np.array(times) for times in found.values())
        first = ours[0, 0]
        (fit, predict, score), (their_fit, their_predict, their_score) = (
            np.median(times[1:], axis=0) for times in (ours, theirs)
        )
        fits, predictions = (statistics.median(ours[1:, i] / theirs[1:, i]) for i in (0, 1))
        yield Row(
            f"fit, {EPOCHS} epochs of {title}",
            f"{duration(fit)} (first {duration(first)}), MLPClassifier {duration(their_fit)}",
            f"≤ {MOST_OF_FIT} ×",
            fits <= MOST_OF_FIT,
            f"{fits:.3f} ×",
        )
        yield Row(
            f"test score on {title}",
            f"{score:.4f}, MLPClassifier {their_score:.4f}",
            "≥ its score",
            score >= their_score,
        )
        yield Row(
            f"predict, {len(x_test):,} rows of {title}",
            f"{duration(predict)}, MLPClassifier {duration(their_predict)}",
            f"≤ {MOST_OF_PREDICT:g} ×",
            predictions <= MOST_OF_PREDICT,
            f"{predictions:.3f} ×",
        )
    for title, load in SMALL.items():
        x, y = load(return_X_y=True)
        x = StandardScaler().fit_transform(x)
        taken = [
            [seconds(kind(random_state=seed).fit, x, y) for kind in (NeuralNetClassifier, MLPClassifier)]
            for seed in range(REPETITIONS + 1)
        ]
        fit, their_fit = np.median(taken[1:], axis=0)
        ratio = statistics.median(ours / theirs for ours, theirs in taken[1:])
        yield Row(
            f"fit, defaults, {title}, {x.shape[0]:,} × {x.shape[1]}",
            f"{duration(fit)} (first {duration(taken[0][0])}), MLPClassifier {duration(their_fit)}",
            f"≤ {MOST_OF_SMALL_FIT:g} ×",
            ratio <= MOST_OF_SMALL_FIT,
            f"{ratio:.3f} ×",
        )
