"""Where the coefficients in `nissl/engines/native/maths.py` come from: `python -m benchmarks.polynomials` prints them.

Each is a minimax fit: weighted least squares on dense Chebyshev nodes of values with 40 digits, with weights raised
where the error is largest until it is level (Lawson, 1961). The error is relative to the function's value.
"""

from collections.abc import Callable

import mpmath
import numpy as np

Function = Callable[[mpmath.mpf], mpmath.mpf]

NODES = 2000
ROUNDS = 60


def fit(f: Function, weight: Function, low: float, high: float, degree: int) -> tuple[np.ndarray, float]:
    """Return the coefficients c₀, c₁, … of the best polynomial, and its largest weighted error."""
    nodes = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    x = (low + high) / 2 + (high - low) / 2 * nodes
    y, relative = (np.array([float(g(mpmath.mpf(float(v)))) for v in x]) for g in (f, weight))
    powers = np.vander(x, degree + 1, increasing=True)
    weights = np.ones(NODES)
    for _ in range(ROUNDS):
        scale = np.sqrt(weights) * relative
        coefficients = np.linalg.lstsq(powers * scale[:, None], y * scale, rcond=None)[0]
        error = np.abs((powers @ coefficients - y) * relative)
        weights *= error / error.max() + 1e-12
        weights /= weights.sum()
    return coefficients, float(error.max())


def root(s: mpmath.mpf) -> mpmath.mpf:
    return mpmath.sqrt(s)


HALF_LOG_2 = 0.3466
LOG_LOW, LOG_HIGH = float(mpmath.sqrt(0.5)) - 1, float(mpmath.sqrt(2)) - 1

# name: function, weight, interval, degree
FITS: dict[str, tuple[Function, Function, float, float, int]] = {
    "exp: (eʳ - 1 - r)/r²": (
        lambda r: (mpmath.exp(r) - 1 - r) / r**2,
        lambda r: r**2,
        -HALF_LOG_2,
        HALF_LOG_2,
        4,
    ),
    "expm1: (eʳ - 1 - r)/r²": (
        lambda r: (mpmath.exp(r) - 1 - r) / r**2,
        lambda r: r**2 / abs(mpmath.expm1(r)),
        -HALF_LOG_2,
        HALF_LOG_2,
        5,
    ),
    "log: (log(1 + f) - f + ½f²)/f³": (
        lambda f: (mpmath.log1p(f) - f + f**2 / 2) / f**3,
        lambda f: abs(f**3 / mpmath.log1p(f)),
        LOG_LOW,
        LOG_HIGH,
        8,
    ),
    "tanh: (tanh x/x - 1)/x², in x²": (
        lambda s: (mpmath.tanh(root(s)) / root(s) - 1) / s,
        lambda s: s * root(s) / mpmath.tanh(root(s)),
        1e-9,
        0.65**2,
        5,
    ),
    "erf: erf x/x - 1, in x²": (
        lambda s: mpmath.erf(root(s)) / root(s) - 1,
        lambda s: root(s) / mpmath.erf(root(s)),
        0.0,
        0.93**2,
        6,
    ),
    "erf: -log(1 - erf x) - x": (
        lambda x: -mpmath.log(mpmath.erfc(x)) - x,
        lambda x: mpmath.erfc(x) / mpmath.erf(x),
        0.9,
        4.0,
        7,
    ),
}


if __name__ == "__main__":
    with mpmath.workdps(40):
        for name, (f, weight, low, high, degree) in FITS.items():
            coefficients, error = fit(f, weight, low, high, degree)
            print(f"{name}, on [{low:.4g}, {high:.4g}], largest relative error {error:.1e}")
            print("   ", *(f"{np.float32(c):.9g}" for c in coefficients))
