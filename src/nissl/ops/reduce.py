"""Reductions: ops that make one value out of many along some axes.

`axis` is None for all axes, an integer, or several; negative ones count from the back. Mean, variance and the like are
compositions, in `nissl.functional`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.errors import ShapeError
from nissl.ops.elementwise import exp
from nissl.shapes import Axes, Shape, normalize_axes, normalize_axis, reduced
from nissl.tensor import DEFAULT_FLOAT, DEFAULT_INTEGER, Op, Tensor, TensorLike, apply, as_tensor, method


def _kept(x: Tensor, axes: Shape) -> Shape:
    return reduced(x.shape, axes, keepdims=True)


def _sum_gradient(g: Tensor, y: Tensor, x: Tensor, axes: Shape, keepdims: bool) -> Tensor:
    kept = _kept(x, axes)
    return (g if g.shape == kept else g.reshape(kept)).broadcast_to(x.shape)


def _sum_dtype(dtype: np.dtype[Any], axes: Shape, keepdims: bool) -> np.dtype[Any]:
    return dtype if dtype.kind == "f" else DEFAULT_INTEGER


def _extreme_gradient(g: Tensor, y: Tensor, x: Tensor, axes: Shape, keepdims: bool) -> Tensor:
    # Elements that tie for the extreme share the gradient equally.
    kept = _kept(x, axes)
    winners = (x == y.reshape(kept)).astype(x.dtype)
    return winners * (g.reshape(kept) / sum(winners, axes, keepdims=True))


def _extreme_shape(shape: Shape, axes: Shape, keepdims: bool) -> Shape:
    empty = [axis for axis in axes if shape[axis] == 0]
    if empty:
        raise ShapeError(f"no maximum or minimum over axis {empty[0]} of shape {shape}: it has no elements")
    return reduced(shape, axes, keepdims)


def _extreme(name: str, value: Callable[..., Any], doc: str) -> Op:
    return Op(
        name,
        kind="reduce",
        value=lambda x, axes, keepdims: value(x, axis=axes, keepdims=keepdims),
        shape=_extreme_shape,
        dtype=lambda dtype, axes, keepdims: dtype,
        gradients=(_extreme_gradient,),
        doc=doc,
    )


def _position(name: str, value: Callable[..., Any], doc: str) -> Op:
    return Op(
        name,
        kind="reduce",
        value=lambda x, axes, keepdims: value(x, axis=axes[0] if len(axes) == 1 else None, keepdims=keepdims),
        shape=_extreme_shape,
        dtype=lambda dtype, axes, keepdims: DEFAULT_INTEGER,
        doc=doc,
    )


_sum = Op(
    "sum",
    kind="reduce",
    value=lambda x, axes, keepdims: np.add.reduce(x, axes, _sum_dtype(x.dtype, axes, keepdims), keepdims=keepdims),
    shape=reduced,
    dtype=_sum_dtype,
    gradients=(_sum_gradient,),
    doc="The sum over some axes.",
)
_max = _extreme("max", np.maximum.reduce, doc="The largest element over some axes.")
_min = _extreme("min", np.minimum.reduce, doc="The smallest element over some axes.")
_argmax = _position("argmax", np.argmax, doc="Where the largest element is.")
_argmin = _position("argmin", np.argmin, doc="Where the smallest element is.")


def _log_softmax_value(x: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    if x.size == 0:
        return x
    # A common shift changes nothing but keeps eˣ from overflowing.
    shifted = x - np.maximum.reduce(x, axis, keepdims=True)
    return shifted - np.log(np.add.reduce(np.exp(shifted), axis, keepdims=True))


# An op of its own, though it could be composed: every classifier takes it in every step, and its gradient is short.
_log_softmax = Op(
    "log_softmax",
    kind="reduce",
    value=_log_softmax_value,
    shape=lambda shape, axis: shape,
    dtype=lambda dtype, axis: dtype,
    gradients=(lambda g, y, x, axis: g - exp(y) * g.sum(axis, keepdims=True),),
    doc="x - log Σ eˣ along an axis.",
)


@method
def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """Return x - log Σ eˣ along `axis`, the logarithm of the softmax, without its overflow and underflow.

    >>> import nissl as ns
    >>> ns.log_softmax(ns.tensor([0.0, 10000.0]))
    tensor([-10000.,      0.])
    """
    x = as_tensor(x)
    if x.dtype.kind != "f":
        x = x.astype(DEFAULT_FLOAT)
    return apply(_log_softmax, x, axis=normalize_axis(axis, x.ndim))


@method
def sum(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the sum over `axis`; bools and integers add up to int64.

    >>> import nissl as ns
    >>> ns.sum(ns.tensor([[1, 2], [3, 4]]), axis=0)
    tensor([4, 6])
    """
    x = as_tensor(x)
    return apply(_sum, x, axes=normalize_axes(axis, x.ndim), keepdims=keepdims)


@method
def max(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the largest element over `axis`; elements that tie share the gradient.

    >>> import nissl as ns
    >>> ns.max(ns.tensor([[1, 5], [3, 4]]), axis=1)
    tensor([5, 4])
    """
    x = as_tensor(x)
    return apply(_max, x, axes=normalize_axes(axis, x.ndim), keepdims=keepdims)


@method
def min(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the smallest element over `axis`; elements that tie share the gradient.

    >>> import nissl as ns
    >>> ns.min(ns.tensor([[1, 5], [3, 4]]), axis=1)
    tensor([1, 3])
    """
    x = as_tensor(x)
    return apply(_min, x, axes=normalize_axes(axis, x.ndim), keepdims=keepdims)


def _one_or_all(axis: int | None, ndim: int) -> Shape:
    return tuple(range(ndim)) if axis is None else (normalize_axis(axis, ndim),)


@method
def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the index of the largest element along `axis` (of the flattened Tensor if None), the first of several.

    >>> import nissl as ns
    >>> ns.argmax(ns.tensor([[1, 5], [3, 2]]), axis=1)
    tensor([1, 0])
    """
    x = as_tensor(x)
    return apply(_argmax, x, axes=_one_or_all(axis, x.ndim), keepdims=keepdims)


@method
def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the index of the smallest element along `axis` (of the flattened Tensor if None), the first of several.

    >>> import nissl as ns
    >>> ns.argmin(ns.tensor([[1, 5], [3, 2]]), axis=1)
    tensor([0, 1])
    """
    x = as_tensor(x)
    return apply(_argmin, x, axes=_one_or_all(axis, x.ndim), keepdims=keepdims)
