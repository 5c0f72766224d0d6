"""Numerical gradients: slopes by differences, how exact they are, and where they point.

A derivative says how much f changes when x does. Two values of f give it, to the accuracy that their distance allows:

    f'(x) ≈ (f(x + h) − f(x)) / h             forward difference, wrong by about h
    f'(x) ≈ (f(x + h) − f(x − h)) / 2h        central difference, wrong by about h²

A smaller h brings the straight line nearer to the curve, but the two values of f nearer to each other: in their
difference the leading digits cancel, and what was rounded off, about 10⁻¹⁶ of f, is divided by h. Between the two lies
the best h. The larger f itself is, the more is rounded off, so for a loss, which sums up many numbers, h = 10⁻⁴ is a
good choice. Backpropagation has no h: it is exact up to rounding, and differences serve to check it.

See: Read from right to left, each error falls with h along a straight line and rises again where rounding takes over:
a U. The central difference falls twice as steeply and gets further down; with 1000 added to the function its lowest
point moves close to 10⁻⁴. In the other picture each arrow is minus the gradient: it points straight downhill, and is
longer where it is steep.

Try: `nissl run gradients --offset 1e6` for a function whose values are larger still: which h would you choose now?
With `--points 1` the mean over many x is gone, and the chance in rounding shows.
"""

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np

import nissl as ns
from nissl import plots
from nissl.experiments.report import Option, Report

CHAPTER = 6

STEPS = 10.0 ** np.arange(-1, -12.25, -0.25)  # h from 1e-1 to 1e-12
POINTS = [(3.0, 4.0), (0.0, 2.0), (3.0, 0.0)]
Function = Callable[[float], float]


def forward_difference(f: Function, x: float, h: float) -> float:
    """Return the slope between x and x + h."""
    return (f(x + h) - f(x)) / h


def central_difference(f: Function, x: float, h: float) -> float:
    """Return the slope between x - h and x + h."""
    return (f(x + h) - f(x - h)) / (2 * h)


def stepped_forward_twice(f: Function, x: float, h: float) -> float:
    """Return what a slip makes of the central difference: both values are taken at the same point."""
    return (f(x + h) - f(x + h)) / (2 * h)


def errors(difference: Callable[[Function, float, float], float], f: Function, places: np.ndarray) -> np.ndarray:
    """Return how far a difference is from cos, the exact slope of sin, for every h of STEPS; the mean over places."""
    return np.array([np.mean([abs(difference(f, x, h) - math.cos(x)) for x in places]) for h in STEPS])


def sum_of_squares(x: ns.Tensor) -> ns.Tensor:
    """Return the sum of squares, whose gradient is 2x."""
    return (x**2).sum()


def downhill(x0: np.ndarray, x1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return minus the gradient of x₀² + x₁² at many points at once."""
    # The sum over all points has at each point the gradient of that point alone.
    steepest = -ns.grad(sum_of_squares)(np.stack([x0, x1])).numpy()
    return steepest[0], steepest[1]


def run(
    report: Report,
    *,
    offset: Annotated[float, Option("added to sin, which makes its values larger", least=100, most=1e9)] = 1000.0,
    points: Annotated[int, Option("places x over which the errors are averaged", least=1, most=10_000)] = 100,
) -> None:
    """Compare differences with the exact slope for many h, then with backpropagation, and draw the gradient field."""
    places = np.linspace(1, 2, points)
    curves = {
        "forward": errors(forward_difference, math.sin, places),
        "central": errors(central_difference, math.sin, places),
        f"central, with {offset:g} added": errors(central_difference, lambda x: math.sin(x) + offset, places),
    }
    forward, central, lifted = curves.values()
    usual = float(central[np.isclose(STEPS, 1e-4)].item())
    report.check("central difference, h 1e-4: error", usual, "at most 2e-9", usual <= 2e-9)
    ends = float(min(central[0], central[-1]) / central.min())
    report.check("its error at the ends, h 1e-1 and 1e-12 / least", ends, "above 1e5: a U", ends > 1e5)
    gain = float(forward.min() / central.min())
    report.check("least error, forward / central", gain, "above 100", gain > 100)
    best, best_lifted = (float(STEPS[error.argmin()]) for error in (central, lifted))
    report.note("best h, forward", float(STEPS[forward.argmin()]))
    report.note("best h, central", best)
    report.check(f"best h, central, with {offset:g} added", best_lifted, f"above {best:.2g}", best_lifted > best)

    numerical = np.array([ns.numerical_gradient(sum_of_squares, np.array(point)) for point in POINTS])
    analytic = np.array([ns.grad(sum_of_squares)(np.array(point)).numpy() for point in POINTS])
    report.check("gradient of x₀² + x₁² at (3, 4)", numerical[0], "6  8", bool(np.allclose(numerical[0], (6, 8))))
    report.check("at (0, 2)", numerical[1], "0  4", bool(np.allclose(numerical[1], (0, 4))))
    report.check("at (3, 0)", numerical[2], "6  0", bool(np.allclose(numerical[2], (6, 0))))
    apart = float(np.abs(numerical - analytic).max())
    report.check("numerical gradient: off from backpropagation by", apart, "at most 1e-9", apart <= 1e-9)

    slips = np.array([stepped_forward_twice(math.sin, x, 1e-4) for x in np.linspace(-5, 5, 101)])
    missed = float(np.abs(slips - np.cos(np.linspace(-5, 5, 101))).max())
    report.note("stepping forward twice: largest slope of sin", float(np.abs(slips).max()))
    report.check("how far off that is", missed, "1: the whole slope", abs(missed - 1) < 1e-3)

    title = "error of the slope of sin, mean over x from 1 to 2"
    report.picture(plots.lines({title: curves}, STEPS, x_label="h", y_label="error", log="xy"))
    report.picture(
        plots.vector_field(
            downhill, x=(-2, 2), y=(-2, 2), heights=lambda x, y: x**2 + y**2, title="Minus the gradient of x₀² + x₁²"
        ),
        "field",
    )
