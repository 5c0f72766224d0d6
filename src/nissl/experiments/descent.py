"""Gradient descent: step against the gradient, again and again.

The gradient of a function points to where it grows fastest, so a step against it leads down:

    x ← x − η ∇f(x)

How long the step is, the learning rate η, decides everything. On f(x₀, x₁) = x₀² + x₁² the gradient is 2x, so each step
multiplies x by 1 − 2η: a factor of 0.8 for η = 0.1, which shrinks; of −19 for η = 10, which explodes; and of almost 1
for η = 10⁻¹⁰, which goes nowhere.

See: With a learning rate of 0.1 the path runs straight to the lowest point, and its steps get shorter where it is
flatter, though the learning rate stays the same. With 10 it jumps out of the frame at once, with 10⁻¹⁰ beginning and
end are one point.

Try: `nissl run descent --lr 0.5` arrives in a single step; `--lr 0.9` swings from side to side; beyond 1 it diverges.
"""

from typing import Annotated

import numpy as np

import nissl as ns
from nissl import plots
from nissl.experiments.report import Option, Report

CHAPTER = 7

START = (-3.0, 4.0)
LOST = 1e100  # how far from 0 a path is followed


def f(x: ns.Tensor) -> ns.Tensor:
    """Return the sum of squares, which is lowest at 0."""
    return (x**2).sum()


def descend(lr: float, steps: int) -> np.ndarray:
    """Return the points that gradient descent visits, as far as numbers can tell them."""
    x = ns.tensor(START, dtype="float64")
    path = [x.numpy()]
    for _ in range(steps):
        if np.abs(path[-1]).max() > LOST:
            break
        x = x - lr * ns.grad(f)(x)
        path.append(x.numpy())
    return np.array(path)


def run(
    report: Report,
    *,
    lr: Annotated[float, Option("learning rate of the first path", above=0, most=100)] = 0.1,
    steps: Annotated[int, Option("steps of each path", least=1, most=10_000)] = 100,
) -> None:
    """Descend with a good learning rate, one that is too large, and one that is too small."""
    rates = {"good": lr, "too large": 10.0, "too small": 1e-10}
    paths = {name: descend(rate, steps) for name, rate in rates.items()}
    ends = {name: float(np.abs(path[-1]).max()) for name, path in paths.items()}
    moved = float(np.abs(paths["too small"][-1] - START).max())
    report.check(f"how far from 0 it ends, learning rate {lr:g}", ends["good"], "at most 1e-9", ends["good"] <= 1e-9)
    report.check("the same, learning rate 10", ends["too large"], "above 1e6: diverges", ends["too large"] > 1e6)
    little = 1e-8 * steps
    report.check("how far it came, learning rate 1e-10", moved, f"below {little:.0e}: stands still", moved < little)

    titles = {"good": f"learning rate {lr:g}", "too large": "10: leaves the frame", "too small": "1e-10: stands still"}
    named = {titles[name]: path for name, path in paths.items()}
    report.picture(
        plots.contour_paths(
            lambda x, y: x**2 + y**2, named, x=(-5, 5), y=(-5, 5), axis_labels=("x₀", "x₁"), title="Gradient descent"
        )
    )
