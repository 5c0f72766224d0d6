"""Matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nissl.errors import ShapeError
from nissl.shapes import multiplied, normalize_axis
from nissl.tensor import Op, Tensor, TensorLike, apply, as_tensor, common_dtype, method


def _swap(x: Tensor) -> Tensor:
    """Exchange the last two axes."""
    if x.ndim == 2:
        return x.T
    return x.permute_dims((*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


_matmul: Op = Op(
    "matmul",
    kind="matmul",
    value=np.matmul,
    shape=multiplied,
    dtype=lambda a, b: a,
    gradients=(lambda g, y, a, b: apply(_matmul, g, _swap(b)), lambda g, y, a, b: apply(_matmul, _swap(a), g)),
    doc="The matrix product of the last two axes; the axes before them broadcast.",
)


@method
def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """Return the matrix product, y[..., i, j] = Σₖ a[..., i, k] b[..., k, j].

    As in NumPy, a Tensor of one axis is a row on the left, a column on the right, and leading axes broadcast.

    >>> import nissl as ns
    >>> ns.matmul(ns.ones((2, 3)), ns.ones((3, 4))).shape
    (2, 4)
    """
    a, b = as_tensor(a), as_tensor(b)
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(
            f"matmul got shapes {a.shape} and {b.shape}; both need an axis. For a product by a number use *"
        )
    if a.dtype != b.dtype:
        dtype = common_dtype((a, b))
        a, b = a.astype(dtype), b.astype(dtype)
    if a.ndim == 2 and b.ndim == 2:
        return apply(_matmul, a, b)
    if a.ndim == 1:
        y = matmul(a.reshape(1, -1), b)
        return y.reshape(*y.shape[:-2], y.shape[-1]) if b.ndim > 1 else y.reshape(())
    if b.ndim == 1:
        y = matmul(a, b.reshape(-1, 1))
        return y.reshape(y.shape[:-1])
    if b.ndim == 2 and a.shape[-1] == b.shape[0]:
        # One tall product instead of many small ones, and the gradient of b needs no sum over the leading axes.
        flat = apply(_matmul, a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b)
        return flat.reshape(*a.shape[:-1], b.shape[1])
    return apply(_matmul, a, b)


def tensordot(a: TensorLike, b: TensorLike, axes: int | Sequence[int | Sequence[int]] = 2) -> Tensor:
    """Return the sum of products over pairs of axes: the last `axes` of `a` with the first of `b`, or those named.

    >>> import nissl as ns
    >>> ns.tensordot(ns.ones((2, 3, 4)), ns.ones((4, 3, 5)), axes=((1, 2), (1, 0))).shape
    (2, 5)
    """
    a, b = as_tensor(a), as_tensor(b)
    if isinstance(axes, int):
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    summed_a = [normalize_axis(axis, a.ndim) for axis in np.atleast_1d(axes[0])]
    summed_b = [normalize_axis(axis, b.ndim) for axis in np.atleast_1d(axes[1])]
    pairs = [(a.shape[i], b.shape[j]) for i, j in zip(summed_a, summed_b, strict=False)]
    if len(summed_a) != len(summed_b) or any(m != n for m, n in pairs):
        raise ShapeError(f"tensordot got shapes {a.shape} and {b.shape}, whose axes {axes} do not pair up")
    kept_a = [i for i in range(a.ndim) if i not in summed_a]
    kept_b = [i for i in range(b.ndim) if i not in summed_b]
    size = math.prod(a.shape[i] for i in summed_a)
    rows = a.permute_dims((*kept_a, *summed_a)).reshape(math.prod(a.shape[i] for i in kept_a), size)
    columns = b.permute_dims((*summed_b, *kept_b)).reshape(size, math.prod(b.shape[i] for i in kept_b))
    shape = (*(a.shape[i] for i in kept_a), *(b.shape[i] for i in kept_b))
    return matmul(rows, columns).reshape(shape)
