"""Indexing: reading elements by place, and adding them back, which is its gradient."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.arguments import whole_number
from nissl.engines.base import current
from nissl.errors import DataError, DTypeError, OptionError, ShapeError
from nissl.habits import explained
from nissl.shapes import HOLE, Hole, Index, Shape, expanded, indexed, normalize_axis
from nissl.tensor import DTypeLike, Op, Tensor, TensorLike, apply, as_tensor, check_dtype, method


def _fill(key: Index, arrays: Sequence[Any]) -> Any:
    """Put the index arrays back into their holes."""
    remaining = iter(arrays)
    return tuple(next(remaining) if isinstance(part, Hole) else part for part in key)


def _add_at(g: npt.NDArray[Any], *indices: npt.NDArray[Any], shape: Shape, key: Index) -> npt.NDArray[Any]:
    result = np.zeros(shape, g.dtype)
    if indices:
        np.add.at(result, _fill(key, indices), g)  # adds up where an element is named twice
    else:
        result[_fill(key, ())] = g
    return result


def _index_gradient(position: int, g: Tensor, y: Tensor, x: Tensor, *indices: Tensor, key: Index) -> Tensor:
    return apply(_index_add, g, *indices, shape=x.shape, key=key)


def _index_add_gradient(
    position: int, g: Tensor, y: Tensor, x: Tensor, *indices: Tensor, shape: Shape, key: Index
) -> Tensor:
    return apply(_index, g, *indices, key=key)


_index = Op(
    "index",
    kind="index",
    value=lambda x, *indices, key: x[_fill(key, indices)],
    shape=indexed,
    dtype=lambda dtype, *rest, key: dtype,
    variadic_gradient=_index_gradient,
    doc="x[key], by NumPy's rules for integers, slices, None, ... and integer arrays.",
)
_index_add = Op(
    "index_add",
    kind="index",
    value=_add_at,
    shape=lambda *shapes, shape, key: shape,
    dtype=lambda dtype, *rest, shape, key: dtype,
    variadic_gradient=_index_add_gradient,
    doc="Zeros of a shape, with x added at key.",
)


def _along(shape: Shape, indices: npt.NDArray[Any], axis: int) -> tuple[Any, ...]:
    """Return the index that np.take_along_axis stands for."""
    grid = np.ogrid[tuple(slice(n) for n in indices.shape)]
    return (*grid[:axis], indices, *grid[axis + 1 :])


def _add_along(g: npt.NDArray[Any], indices: npt.NDArray[Any], shape: Shape, axis: int) -> npt.NDArray[Any]:
    result = np.zeros(shape, g.dtype)
    np.add.at(result, _along(shape, indices, axis), g)
    return result


_take_along_axis = Op(
    "take_along_axis",
    kind="index",
    value=lambda x, indices, axis: np.take_along_axis(x, indices, axis),
    shape=lambda shape, indices, axis: indices,
    dtype=lambda dtype, _, axis: dtype,
    gradients=(lambda g, y, x, indices, axis: apply(_add_along_axis, g, indices, shape=x.shape, axis=axis), None),
    doc="For each element of the indices, the element of x at that place along an axis.",
)
_add_along_axis: Op = Op(
    "add_along_axis",
    kind="index",
    value=_add_along,
    shape=lambda g, indices, shape, axis: shape,
    dtype=lambda dtype, _, shape, axis: dtype,
    gradients=(lambda g, y, x, indices, shape, axis: apply(_take_along_axis, g, indices, axis=axis), None),
    doc="Zeros of a shape, with x added at places along an axis.",
)


def _one_hot_rows(labels: npt.NDArray[Any], classes: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        wrong = labels[(labels < 0) | (labels >= classes)].flat[0]
        raise DataError(f"label {wrong} is outside the classes 0 to {classes - 1}")
    return (labels[..., None] == np.arange(classes)).astype(dtype)


_one_hot = Op(
    "one_hot",
    kind="index",
    value=_one_hot_rows,
    shape=lambda shape, classes, dtype: (*shape, classes),
    dtype=lambda _, classes, dtype: dtype,
    doc="A row for each label: 1 at its class, 0 elsewhere.",
)


def _static_slice(part: slice) -> slice:
    return slice(*(None if bound is None else operator.index(bound) for bound in (part.start, part.stop, part.step)))


def _split(key: Any, shape: Shape) -> tuple[Index, list[Tensor]]:
    """Split an index into its static part, with holes for the arrays, and the arrays.

    A mask of bools stands for the places where it is True, so it needs values.
    """
    parts: list[Any] = []
    arrays: list[Tensor] = []
    masks: list[tuple[int, Shape]] = []  # place in parts, shape
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, slice):
            parts.append(_static_slice(part))
        elif part is None or part is Ellipsis:
            parts.append(part)
        elif isinstance(part, (int, np.integer)) and not isinstance(part, bool):
            parts.append(int(part))
        else:
            index = as_tensor(part, np.int64) if isinstance(part, list) and not part else as_tensor(part)
            if index.dtype.kind == "b":
                current.engine.require_values("indexing with a mask, whose result has no fixed shape,", "Use ns.where")
                if index.ndim == 0:
                    raise DTypeError("an index is made of integers, slices, None, ... or a mask, got one bool")
                masks.append((len(parts), index.shape))
                found = [as_tensor(places) for places in index.numpy().nonzero()]
            elif index.dtype.kind in "iu":
                found = [index]
            else:
                raise DTypeError(f"an index is made of integers, slices, None, ... or a mask, got {index.dtype}")
            parts.extend([HOLE] * len(found))
            arrays.extend(found)
    if parts.count(Ellipsis) > 1:
        raise OptionError("an index can hold one ... only")
    for place, mask in masks:
        first = _axes_used(parts[:place])
        if Ellipsis in parts[:place]:
            first += len(shape) - _axes_used(parts)
        if shape[first : first + len(mask)] != mask:
            raise ShapeError(f"a mask of shape {mask} does not fit a Tensor of shape {shape} at axis {first}")
    return tuple(parts), arrays


def _axes_used(parts: Sequence[Any]) -> int:
    return sum(part is not None and part is not Ellipsis for part in parts)


@method
def getitem(x: Tensor, key: Any) -> Tensor:
    """Return `x[key]`: integers, slices, None, `...`, integer arrays, or a mask of bools, as in NumPy."""
    parts, arrays = _split(key, x.shape)
    return apply(_index, x, *arrays, key=parts)


@method
def take(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """Return the elements at `indices` along `axis` (of the flattened Tensor if None).

    >>> import nissl as ns
    >>> ns.take(ns.tensor([10.0, 20.0, 30.0]), [2, 0])
    tensor([30., 10.])
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = normalize_axis(axis, x.ndim)
    return x[(*[slice(None)] * axis, as_tensor(indices))]


@method
def take_along_axis(x: TensorLike, indices: TensorLike, axis: int = -1) -> Tensor:
    """Return y[i, j, ...] = x[i, indices[i, j, ...], ...]: the axis `axis` indexed element by element.

    >>> import nissl as ns
    >>> ns.take_along_axis(ns.tensor([[1.0, 2.0], [3.0, 4.0]]), [[1], [0]], axis=1)
    tensor([[2.],
            [3.]])
    """
    x, indices = as_tensor(x), as_tensor(indices)
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"take_along_axis needs indices of integers, got {indices.dtype}")
    if indices.ndim != x.ndim:
        raise ShapeError(f"take_along_axis needs indices of as many axes as x: got {indices.shape} for {x.shape}")
    axis = normalize_axis(axis, x.ndim)
    # The other axes broadcast against each other.
    rest = indices.shape[axis]
    x = x.broadcast_to(_other_axes(x.shape, indices.shape, axis, x.shape[axis]))
    indices = indices.broadcast_to(_other_axes(indices.shape, x.shape, axis, rest))
    return apply(_take_along_axis, x, indices, axis=axis)


def _other_axes(shape: Shape, other: Shape, axis: int, size: int) -> Shape:
    wanted = tuple(
        size if i == axis else (n if m == 1 else m) for i, (m, n) in enumerate(zip(shape, other, strict=True))
    )
    return expanded(shape, wanted)


@explained
def one_hot(labels: TensorLike, classes: int, dtype: DTypeLike = "float32") -> Tensor:
    """Return a row of `classes` numbers for each label: 1 at its class, 0 elsewhere.

    Raises DataError for a label outside 0 to classes - 1.

    >>> import nissl as ns
    >>> ns.one_hot([2, 0], 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    labels = as_tensor(labels)
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"one_hot needs class numbers, which are integers; got {labels.dtype}")
    classes = whole_number("classes", classes, least=0)
    return apply(_one_hot, labels, classes=classes, dtype=check_dtype(dtype))
