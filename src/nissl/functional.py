"""Compositions of ops: they have no gradient rules of their own, so they teach nothing new to any engine.

Where a formula would overflow, the form that does not is used, and a comment says so.
"""

from __future__ import annotations

import math

import numpy as np

from nissl.ops.elementwise import abs as absolute
from nissl.ops.elementwise import erf, exp, expm1, log, log1p, maximum, minimum, relu, sigmoid, square, where
from nissl.ops.movement import concat
from nissl.ops.reduce import max as largest
from nissl.ops.reduce import sum as total
from nissl.shapes import Axes, normalize_axes, reduced
from nissl.tensor import DEFAULT_FLOAT, DEFAULT_INTEGER, Tensor, TensorLike, as_tensor, method


def _floats(x: TensorLike) -> Tensor:
    x = as_tensor(x)
    return x if x.dtype.kind == "f" else x.astype(DEFAULT_FLOAT)


def _count(x: Tensor, axis: Axes) -> int:
    return math.prod(x.shape[a] for a in normalize_axes(axis, x.ndim))


@method
def mean(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the mean, Σx / n, over `axis`.

    >>> import nissl as ns
    >>> ns.mean(ns.tensor([[1.0, 2.0], [3.0, 6.0]]), axis=0)
    tensor([2., 4.])
    """
    x = _floats(x)
    return total(x, axis, keepdims) / _count(x, axis)


@method
def var(x: TensorLike, axis: Axes = None, keepdims: bool = False, correction: float = 0) -> Tensor:
    """Return the variance, Σ(x - mean)² / (n - correction), over `axis`.

    >>> import nissl as ns
    >>> ns.var(ns.tensor([1.0, 3.0]))
    tensor(1.)
    """
    x = _floats(x)
    return total(square(x - mean(x, axis, keepdims=True)), axis, keepdims) / (_count(x, axis) - correction)


@method
def std(x: TensorLike, axis: Axes = None, keepdims: bool = False, correction: float = 0) -> Tensor:
    """Return the standard deviation, √var, over `axis`.

    >>> import nissl as ns
    >>> ns.std(ns.tensor([1.0, 3.0]))
    tensor(1.)
    """
    return var(x, axis, keepdims, correction).sqrt()


@method
def prod(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the product over `axis`.

    It multiplies halves until one is left, so that its gradient is right, to any order, where elements are 0.

    >>> import nissl as ns
    >>> ns.prod(ns.tensor([2.0, 3.0, 4.0]))
    tensor(24.)
    """
    x = as_tensor(x)
    if x.dtype.kind != "f":
        x = x.astype(DEFAULT_INTEGER)
    axes = normalize_axes(axis, x.ndim)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    size = _count(x, axes)
    if size == 0:
        return total(x, axes, keepdims) + 1
    rows = x.permute_dims((*axes, *kept)).reshape((size, *(x.shape[a] for a in kept)))
    while len(rows) > 1:
        half = len(rows) // 2
        product = rows[:half] * rows[half : 2 * half]
        rows = product if len(rows) % 2 == 0 else concat([product, rows[2 * half :]])
    return rows.reshape(reduced(x.shape, axes, keepdims))


@method
def logsumexp(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return log Σ eˣ over `axis`, finite wherever the true value is.

    >>> import nissl as ns
    >>> ns.logsumexp(ns.tensor([1000.0, -1000.0]))
    tensor(1000.)
    """
    x = _floats(x)
    # eˣ overflows for large x: the largest is taken out first. Where it is infinite, x - shift would be NaN.
    shift = largest(x, axis, keepdims=True).detach()
    shift = where(absolute(shift) == np.inf, 0, shift)
    y = log(total(exp(x - shift), axis, keepdims=True)) + shift
    return y if keepdims else y.squeeze(normalize_axes(axis, x.ndim))


@method
def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """Return eˣ / Σ eˣ along `axis`: numbers above 0 that add up to 1, in the order of `x`.

    >>> import nissl as ns
    >>> ns.softmax(ns.tensor([1010.0, 1000.0, 990.0])).sum()
    tensor(1.)
    """
    x = _floats(x)
    if x.size == 0:
        return x
    # A common shift changes nothing but keeps eˣ from overflowing.
    e = exp(x - largest(x, axis, keepdims=True).detach())
    return e / total(e, axis, keepdims=True)


@method
def clip(x: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """Return `x` brought into [min, max]; None leaves a side open.

    >>> import nissl as ns
    >>> ns.clip(ns.tensor([-2.0, 0.5, 2.0]), 0.0, 1.0)
    tensor([0. , 0.5, 1. ])
    """
    x = as_tensor(x)
    if min is not None:
        x = maximum(x, min)
    return x if max is None else minimum(x, max)


def step(x: TensorLike) -> Tensor:
    """Return 1 where x > 0, else 0: the perceptron's activation. It has no gradient to learn from.

    >>> import nissl as ns
    >>> step(ns.tensor([-1.0, 0.0, 2.0]))
    tensor([0., 0., 1.])
    """
    x = _floats(x)
    return (x > 0).astype(x.dtype)


def leaky_relu(x: TensorLike, slope: float = 0.01) -> Tensor:
    """Return x where x > 0, slope·x elsewhere (Maas, Hannun and Ng, 2013).

    >>> import nissl as ns
    >>> leaky_relu(ns.tensor([-2.0, 2.0]), 0.5)
    tensor([-1.,  2.])
    """
    x = _floats(x)
    return where(x > 0, x, slope * x)


def elu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """Return x where x > 0, α(eˣ - 1) elsewhere (Clevert, Unterthiner and Hochreiter, 2016).

    >>> import nissl as ns
    >>> elu(ns.tensor([-100.0, 2.0]))
    tensor([-1.,  2.])
    """
    x = _floats(x)
    # eˣ is kept from overflowing on the side that is not taken. minimum(x, 0) would halve the slope at 0, which is α.
    return where(x > 0, x, alpha * expm1(where(x > 0, 0.0, x)))


def softplus(x: TensorLike) -> Tensor:
    """Return log(1 + eˣ), a smooth relu (Dugas et al., 2001).

    >>> import nissl as ns
    >>> softplus(ns.tensor([-1000.0, 1000.0]))
    tensor([   0., 1000.])
    """
    x = _floats(x)
    # eˣ is taken of -|x| only. maximum(x, 0) has slope ½ at 0, as softplus itself.
    return maximum(x, 0.0) + log1p(exp(-absolute(x)))


def silu(x: TensorLike) -> Tensor:
    """Return x·sigmoid(x), also called swish (Elfwing, Uchibe and Doya, 2018).

    >>> import nissl as ns
    >>> silu(ns.tensor([0.0]))
    tensor([0.])
    """
    x = _floats(x)
    return x * sigmoid(x)


def gelu(x: TensorLike) -> Tensor:
    """Return x·Φ(x), Φ the normal distribution function: x/2·(1 + erf(x/√2)) (Hendrycks and Gimpel, 2016).

    >>> import nissl as ns
    >>> gelu(ns.tensor([0.0]))
    tensor([0.])
    """
    x = _floats(x)
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


__all__ = [
    "clip",
    "elu",
    "gelu",
    "leaky_relu",
    "logsumexp",
    "mean",
    "prod",
    "relu",
    "silu",
    "softmax",
    "softplus",
    "std",
    "step",
    "var",
]
