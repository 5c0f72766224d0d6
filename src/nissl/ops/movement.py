"""Movement: ops that place elements elsewhere and compute nothing."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from nissl.errors import OptionError, ShapeError
from nissl.habits import explained
from nissl.shapes import Axes, Shape, concatenated, expanded, normalize_axes, normalize_axis, padded, permuted, reshaped
from nissl.tensor import Op, Tensor, TensorLike, apply, as_tensor, common_dtype, method

_reshape: Op = Op(
    "reshape",
    kind="movement",
    value=lambda x, shape: np.reshape(x, shape),
    shape=lambda old, shape: reshaped(old, shape),
    dtype=lambda dtype, shape: dtype,
    gradients=(lambda g, y, x, shape: apply(_reshape, g, shape=x.shape),),
    passes_through=True,
    doc="The same elements, in the same order, under another shape.",
)
_permute_dims: Op = Op(
    "permute_dims",
    kind="movement",
    value=lambda x, axes: np.transpose(x, axes),
    shape=lambda shape, axes: permuted(shape, axes),
    dtype=lambda dtype, axes: dtype,
    gradients=(lambda g, y, x, axes: apply(_permute_dims, g, axes=_inverse(axes)),),
    doc="The axes in another order.",
)
_broadcast_to = Op(
    "broadcast_to",
    kind="movement",
    value=lambda x, shape: np.broadcast_to(x, shape),
    shape=lambda old, shape: expanded(old, shape),
    dtype=lambda dtype, shape: dtype,
    gradients=(lambda g, y, x, shape: g,),  # the backward walk adds up over what was broadcast
    passes_through=True,
    doc="x repeated along new axes and axes of size 1.",
)
_flip: Op = Op(
    "flip",
    kind="movement",
    value=lambda x, axes: np.flip(x, axes),
    shape=lambda shape, axes: shape,
    dtype=lambda dtype, axes: dtype,
    gradients=(lambda g, y, x, axes: apply(_flip, g, axes=axes),),
    doc="The elements in reverse order along some axes.",
)
_pad = Op(
    "pad",
    kind="movement",
    value=lambda x, widths, value: np.pad(x, widths, constant_values=value) if widths else x,
    shape=lambda shape, widths, value: padded(shape, widths),
    dtype=lambda dtype, widths, value: dtype,
    gradients=(
        lambda g, y, x, widths, value: g[
            tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths, strict=True))
        ],
    ),
    doc="x with a border of one value.",
)


def _concat_gradient(position: int, g: Tensor, y: Tensor, *tensors: Tensor, axis: int) -> Tensor:
    start = sum(x.shape[axis] for x in tensors[:position])
    return g[(*[slice(None)] * axis, slice(start, start + tensors[position].shape[axis]))]


_concat = Op(
    "concat",
    kind="movement",
    value=lambda *arrays, axis: np.concatenate(arrays, axis),
    shape=concatenated,
    dtype=lambda *dtypes, axis: dtypes[0],
    variadic_gradient=_concat_gradient,
    doc="Tensors joined along an axis that they have.",
)


def _inverse(axes: Shape) -> Shape:
    return tuple(axes.index(i) for i in range(len(axes)))


def _one_tuple(sizes: tuple[int | Sequence[int], ...]) -> Shape:
    """Let `f(2, 3)` and `f((2, 3))` say the same."""
    given = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], Sequence) else sizes
    return tuple(operator.index(n) for n in given)  # type: ignore[arg-type]


@method
def reshape(x: TensorLike, *shape: int | Sequence[int]) -> Tensor:
    """Return the same elements under another shape; one size may be -1, which stands for what is left.

    >>> import nissl as ns
    >>> ns.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    x = as_tensor(x)
    return apply(_reshape, x, shape=reshaped(x.shape, _one_tuple(shape)))


@method
def permute_dims(x: TensorLike, *axes: int | Sequence[int]) -> Tensor:
    """Return `x` with its axes in the order given.

    >>> import nissl as ns
    >>> ns.ones((2, 3, 4)).permute_dims(2, 0, 1).shape
    (4, 2, 3)
    """
    x = as_tensor(x)
    order = tuple(normalize_axis(axis, x.ndim) for axis in _one_tuple(axes))
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(
            f"permute_dims of a Tensor of shape {x.shape} needs each of its {x.ndim} axes once, got {order}"
        )
    return apply(_permute_dims, x, axes=order)


@method
def broadcast_to(x: TensorLike, *shape: int | Sequence[int]) -> Tensor:
    """Return `x` repeated to `shape`, by NumPy's rules.

    >>> import nissl as ns
    >>> ns.tensor([1, 2]).broadcast_to(2, 2)
    tensor([[1, 2],
            [1, 2]])
    """
    return apply(_broadcast_to, as_tensor(x), shape=_one_tuple(shape))


@method
def squeeze(x: TensorLike, axis: Axes = None) -> Tensor:
    """Return `x` without the axes `axis`, each of size 1 (without all such axes if None).

    >>> import nissl as ns
    >>> ns.ones((1, 3, 1)).squeeze(0).shape
    (3, 1)
    """
    x = as_tensor(x)
    axes = normalize_axes(axis, x.ndim) if axis is not None else tuple(i for i, n in enumerate(x.shape) if n == 1)
    if any(x.shape[i] != 1 for i in axes):
        raise ShapeError(f"squeeze takes away axes of size 1; axis {axis} of shape {x.shape} is larger")
    return reshape(x, [n for i, n in enumerate(x.shape) if i not in axes])


@method
def expand_dims(x: TensorLike, axis: int = 0) -> Tensor:
    """Return `x` with a new axis of size 1 at place `axis` of the result.

    >>> import nissl as ns
    >>> ns.ones((3, 4)).expand_dims(-1).shape
    (3, 4, 1)
    """
    x = as_tensor(x)
    place = normalize_axis(axis, x.ndim + 1)
    return reshape(x, (*x.shape[:place], 1, *x.shape[place:]))


@method
def flip(x: TensorLike, axis: Axes = None) -> Tensor:
    """Return `x` in reverse order along `axis`.

    >>> import nissl as ns
    >>> ns.flip(ns.arange(3))
    tensor([2, 1, 0])
    """
    x = as_tensor(x)
    return apply(_flip, x, axes=normalize_axes(axis, x.ndim))


@method
def pad(x: TensorLike, widths: int | Sequence[tuple[int, int]], value: float = 0) -> Tensor:
    """Return `x` with a border of `value`: the same width on all sides, or a pair (before, after) for each axis.

    >>> import nissl as ns
    >>> ns.pad(ns.tensor([1, 2]), [(1, 2)])
    tensor([0, 1, 2, 0, 0])
    """
    x = as_tensor(x)
    pairs = [(widths, widths)] * x.ndim if isinstance(widths, int) else widths
    mistake = f"pad needs a pair (before, after) of sizes ≥ 0 for each axis of shape {x.shape}, got {widths}"
    try:
        border = tuple((operator.index(before), operator.index(after)) for before, after in pairs)
    except (TypeError, ValueError):
        raise ShapeError(mistake) from None
    if len(border) != x.ndim or any(width < 0 for pair in border for width in pair):
        raise ShapeError(mistake)
    return apply(_pad, x, widths=border, value=value)


@explained
def concat(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Return the Tensors joined along `axis`, which all of them have.

    >>> import nissl as ns
    >>> ns.concat([ns.zeros((2, 3)), ns.ones((1, 3))]).shape
    (3, 3)
    """
    if len(tensors) == 0:
        raise OptionError("concat and stack need at least one Tensor")
    _check_in_a_list("concat", axis)
    converted = [as_tensor(x) for x in tensors]
    dtype = common_dtype(converted)
    if converted[0].ndim == 0:
        raise ShapeError("concat joins along an axis, but these Tensors have none; use stack")
    axis = normalize_axis(axis, converted[0].ndim)
    return apply(_concat, *(x.astype(dtype) for x in converted), axis=axis)


@explained
def stack(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Return the Tensors, all of one shape, joined along a new axis.

    >>> import nissl as ns
    >>> ns.stack([ns.zeros(3), ns.ones(3)], axis=1).shape
    (3, 2)
    """
    _check_in_a_list("stack", axis)
    return concat([expand_dims(x, axis) for x in tensors], axis)


def _check_in_a_list(name: str, axis: object) -> None:
    if isinstance(axis, Tensor | np.ndarray | list | tuple):
        raise OptionError(f"{name} takes its Tensors in one list, as in ns.{name}([x, y], axis=0)")
