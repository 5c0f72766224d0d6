"""Sources: Tensors made from nothing but numbers."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from nissl.errors import OptionError
from nissl.habits import explained
from nissl.shapes import Shape
from nissl.tensor import DTypeLike, Op, Tensor, apply, as_array, check_dtype

_full = Op(
    "full",
    kind="source",
    value=lambda shape, value, dtype: np.full(shape, value, dtype),
    shape=lambda shape, value, dtype: shape,
    dtype=lambda shape, value, dtype: dtype,
    doc="A Tensor of one value throughout.",
)


def _shape(shape: int | Sequence[int]) -> Shape:
    try:
        sizes = tuple(operator.index(n) for n in (shape if isinstance(shape, Sequence) else (shape,)))
    except TypeError:
        raise OptionError(f"a shape is a whole number or several, as in (3, 4); got {shape!r}") from None
    if any(n < 0 for n in sizes):
        raise OptionError(f"a shape has sizes of 0 or more, got {sizes}")
    return sizes


@explained
def full(shape: int | Sequence[int], fill_value: float, dtype: DTypeLike = None) -> Tensor:
    """Return a Tensor that holds `fill_value` everywhere.

    >>> import nissl as ns
    >>> ns.full((2, 2), 7)
    tensor([[7, 7],
            [7, 7]])
    """
    found = as_array(fill_value).dtype if dtype is None else check_dtype(dtype)
    return apply(_full, shape=_shape(shape), value=fill_value, dtype=found)


@explained
def zeros(shape: int | Sequence[int], dtype: DTypeLike = "float32") -> Tensor:
    """Return a Tensor of zeros.

    >>> import nissl as ns
    >>> ns.zeros(3)
    tensor([0., 0., 0.])
    """
    return full(shape, 0, dtype)


@explained
def ones(shape: int | Sequence[int], dtype: DTypeLike = "float32") -> Tensor:
    """Return a Tensor of ones.

    >>> import nissl as ns
    >>> ns.ones(3)
    tensor([1., 1., 1.])
    """
    return full(shape, 1, dtype)


def zeros_like(x: Tensor) -> Tensor:
    """Return zeros of the shape and dtype of `x`."""
    return full(x.shape, 0, x.dtype)


def ones_like(x: Tensor) -> Tensor:
    """Return ones of the shape and dtype of `x`."""
    return full(x.shape, 1, x.dtype)


@explained
def arange(start: float, stop: float | None = None, step: float = 1, dtype: DTypeLike = None) -> Tensor:
    """Return evenly spaced numbers from `start` (0 if one number is given) up to, not including, `stop`.

    >>> import nissl as ns
    >>> ns.arange(2, 5)
    tensor([2, 3, 4])
    """
    first, last = (0, start) if stop is None else (start, stop)
    values = np.arange(first, last, step)
    return Tensor(values, dtype or as_array([first, last, step]).dtype)


@explained
def linspace(start: float, stop: float, num: int = 50, dtype: DTypeLike = "float32") -> Tensor:
    """Return `num` evenly spaced numbers from `start` to `stop`, both included.

    >>> import nissl as ns
    >>> ns.linspace(0, 1, 3)
    tensor([0. , 0.5, 1. ])
    """
    return Tensor(np.linspace(start, stop, num), dtype)


@explained
def eye(n_rows: int, n_cols: int | None = None, dtype: DTypeLike = "float32") -> Tensor:
    """Return ones on the diagonal, zeros elsewhere.

    >>> import nissl as ns
    >>> ns.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    return Tensor(np.eye(n_rows, n_cols), dtype)
