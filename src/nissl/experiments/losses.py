"""Losses: one number for how wrong an answer is.

Training makes a number small, so how wrong the answers are has to be a number. For probabilities y and the truth t, a 1
in the place of the right class and 0 elsewhere, two are

    squared error    ½ Σ (y − t)²
    cross-entropy    −Σ t log(y + 10⁻⁷)

In the cross-entropy, only the probability of the right class counts; 10⁻⁷ keeps the logarithm of 0 finite. Of a batch
the mean is taken, so that the loss of 10 examples and that of 10,000 can be compared.

Why not count mistakes? Because a small change of the weights hardly ever changes their number: its slope is 0 almost
everywhere, and a slope is what training goes by.

See: The less probability the right class gets, the larger both losses. But the cross-entropy grows without end, and so
does its slope: what is surely wrong is corrected most. The slope of the squared error is never steeper than −1.

Try: `nissl run losses --share 0.001` is nearly certain of something wrong.
"""

from typing import Annotated

import numpy as np

import nissl as ns
from nissl import nn, plots
from nissl.experiments.report import Option, Report

CHAPTER = 5

TRUTH = np.eye(10)[2]
SURE = np.array([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0])
WRONG = SURE[[0, 1, 7, 3, 4, 5, 6, 2, 8, 9]]  # the same with the numbers of classes 2 and 7 exchanged
EXPECTED = {"squared error": (0.0975, 0.5975), "cross-entropy": (0.510825, 2.302584)}


def squared_error(y: np.ndarray, t: np.ndarray) -> float:
    """Return ½ Σ (y − t)²."""
    return nn.sum_squared_error(y, t).item()


def cross_entropy(y: np.ndarray, t: np.ndarray) -> float:
    """Return −Σ t log(y + 10⁻⁷), the mean over the rows if y has rows."""
    return nn.cross_entropy_error(y, t).item()


def run(
    report: Report,
    *,
    share: Annotated[float, Option("probability of the right class in an answer of your own", least=0, most=1)] = 0.3,
) -> None:
    """Compare two losses on a right and a wrong answer, and take the mean of a batch."""
    for name, loss in {"squared error": squared_error, "cross-entropy": cross_entropy}.items():
        for what, y, expected in zip(("right", "wrong"), (SURE, WRONG), EXPECTED[name], strict=True):
            found = loss(y, TRUTH)
            report.check(f"{name}, {what} class has 0.6", found, f"{expected:.4f}", abs(found - expected) <= 1e-6)

    batch = np.stack([SURE, WRONG])
    mean = cross_entropy(batch, np.stack([TRUTH, TRUTH]))
    singles = [cross_entropy(y, TRUTH) for y in batch]
    report.check("cross-entropy of both as a batch", mean, "1.4067: the mean", abs(mean - sum(singles) / 2) <= 1e-12)
    numbers = nn.cross_entropy_error(batch, np.array([2, 2])).item()
    report.check("  with class numbers for rows of 0 and 1", numbers, "the same", numbers == mean)
    tenfold = cross_entropy(np.tile(batch, (10, 1)), np.tile(TRUTH, (20, 1)))
    report.check("  of ten times as many examples", tenfold, "the same", abs(tenfold - mean) <= 1e-12)
    certain = cross_entropy(np.eye(10)[7], TRUTH)
    report.check("cross-entropy, certain and wrong", certain, "16.1181, finite", abs(certain + np.log(1e-7)) <= 1e-9)

    own = np.full(10, (1 - share) / 9)
    own[2] = share
    report.note(f"squared error of {share:g} for the right class, the rest shared", squared_error(own, TRUTH))
    report.note("  cross-entropy", cross_entropy(own, TRUTH))

    p = ns.linspace(0.02, 1, 197, dtype="float64")
    losses = {"squared error": 0.5 * (p - 1) ** 2, "cross-entropy": -ns.log(p + 1e-7)}
    slopes = {"squared error": p - 1, "cross-entropy": -1 / (p + 1e-7)}
    panels = {"loss": losses, "slope of the loss": slopes}
    report.picture(plots.lines(panels, p, x_label="probability of the right class", title="Two losses"))
