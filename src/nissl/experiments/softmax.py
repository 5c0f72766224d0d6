"""Softmax: scores made into probabilities, without overflow.

A classifier's last layer gives a score x to each class. Softmax makes them positive and lets them add up to 1:

    yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ) = exp(xᵢ − c) / Σⱼ exp(xⱼ − c)

As written first, it fails for scores that a network may well have: exp(89) is too large for float32, exp(710) for
float64, and ∞/∞ is not a number. But a common shift c cancels out, so c = max x makes the largest exponent 0.

The larger score always gets the larger probability. So softmax may be left out where only the class is asked for. In
training it is needed, together with the cross-entropy: as one layer, on N rows, they have the simplest gradient there
is, what was answered minus what is true:

    L = −(1/N) Σ t log y        ∂L/∂x = (y − t) / N

See: In the first picture one score grows, and its class takes over smoothly. In the second, three scores move together
from −1000 to 1000, which should change nothing. The plain formula breaks off at 88 or 709, where exp overflows, and at
−104 or −745, where it rounds to 0; just before, it is wrong already. The shifted one never fails.

Try: `nissl run softmax --spread 0.01` brings the scores 10, 0 and −10 so near that the probabilities in the table are
almost equal; `--spread 0.1` leaves them apart.
"""

from typing import Annotated

import numpy as np

import nissl as ns
from nissl import nn, plots
from nissl.experiments.report import Option, Report

CHAPTER = 4

SCORES = (1010.0, 1000.0, 990.0)


def plain(x: np.ndarray) -> np.ndarray:
    """Return softmax as its formula is written, along the last axis."""
    with np.errstate(all="ignore"):  # the overflow is what we want to see
        e = np.exp(x)
        return e / e.sum(axis=-1, keepdims=True)


def shifted(x: np.ndarray) -> np.ndarray:
    """Return softmax with the largest score taken from all; `ns.softmax` does the same."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def gradient(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return (y − t) / N, the gradient of the mean cross-entropy with respect to the scores, of shape (N, classes)."""
    return (ns.softmax(scores).numpy() - targets) / len(scores)


def run(
    report: Report,
    *,
    spread: Annotated[float, Option("factor on the distances of the scores to the middle one", above=0, most=50)] = 1.0,
) -> None:
    """Overflow, mend it, and differentiate."""
    x = 1000 + spread * (np.array(SCORES) - 1000)
    naive, y = plain(x), ns.softmax(x).numpy()
    report.check("plain formula", naive, "nan: overflow", bool(np.isnan(naive).any()))
    same = bool(np.allclose(y, shifted(x), rtol=1e-12))
    report.check(
        "shifted by the largest score", shifted(x), "finite, as ns.softmax", same and bool(np.isfinite(y).all())
    )
    near = x - 1000
    error = float(np.abs(plain(near) - y).max())
    report.check("  − plain formula 1000 further down, largest", error, "at most 1e-12", error <= 1e-12)

    generator = np.random.default_rng(0)
    many = generator.normal(0, 3, (1000, 10))
    probabilities = ns.softmax(many).numpy()
    off = float(np.abs(probabilities.sum(axis=1) - 1).max())
    report.check("1000 rows of 10: how far a sum is from 1", off, "at most 1e-14", off <= 1e-14)
    kept = int((probabilities.argsort(axis=1) == many.argsort(axis=1)).all(axis=1).sum())
    report.check("  rows whose order is kept", kept, "1,000", kept == len(many))
    classes = int((probabilities.argmax(axis=1) == many.argmax(axis=1)).sum())
    report.check("  rows of the same class without softmax", classes, "1,000: leave it out", classes == len(many))

    few = many[:5]
    targets = np.eye(10)[generator.integers(10, size=5)]
    one_layer = ns.grad(lambda scores: nn.cross_entropy(scores, targets))(few).numpy()
    numerical = ns.numerical_gradient(lambda scores: nn.cross_entropy(scores, targets).item(), few.copy())
    error = float(np.abs(gradient(few, targets) - numerical).max())
    report.check("(y − t)/N − numerical gradient, largest", error, "at most 1e-9", error <= 1e-9)
    error = float(np.abs(gradient(few, targets) - one_layer).max())
    report.check("(y − t)/N − backpropagation, largest", error, "at most 1e-15", error <= 1e-15)

    score = np.linspace(-6, 8, 281)
    rows = np.stack([score, np.full_like(score, 2.0), np.zeros_like(score)], axis=1)
    shares = ns.softmax(rows).numpy()
    named = {name: shares[:, i] for i, name in enumerate(["score x", "score 2", "score 0"])}
    report.picture(plots.lines({"Softmax of x, 2 and 0": named}, score, x_label="x", y_label="probability"))

    level = np.linspace(-1000, 1000, 2001)
    together = level[:, None] + np.array([1.0, 0.0, -1.0])
    panels = {
        "plain formula, float32": plain(together.astype(np.float32)),
        "plain formula, float64": plain(together),
        "shifted by the largest score": shifted(together),
    }
    curves = {
        panel: {name: values[:, i] for i, name in enumerate(["score c + 1", "score c", "score c − 1"])}
        for panel, values in panels.items()
    }
    title = "Softmax of c + 1, c and c − 1"
    report.picture(plots.lines(curves, level, x_label="c", y_label="probability", title=title, same_y=True), "overflow")
