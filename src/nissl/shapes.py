"""Arithmetic on shapes: what broadcasting, reducing, reshaping and indexing do to tuples of integers.

Pure functions on tuples, no arrays. They serve as the shape rules of the ops, so the messages here are what a user
reads when shapes do not fit.
"""

import math
import operator
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

from nissl.errors import OptionError, ShapeError

Shape = tuple[int, ...]
Axes = int | Sequence[int] | None


def broadcast(*shapes: Shape) -> Shape:
    """Return the shape that NumPy's broadcasting gives.

    >>> broadcast((3, 1), (4,), ())
    (3, 4)
    """
    result: list[int] = []
    for position in range(1, max(map(len, shapes), default=0) + 1):
        sizes = {shape[-position] for shape in shapes if len(shape) >= position} - {1}
        if len(sizes) > 1:
            raise ShapeError(
                f"shapes {' and '.join(map(str, shapes))} do not broadcast: counted from the right, "
                f"axis {position} has sizes {' and '.join(map(str, sorted(sizes)))}"
            )
        result.append(sizes.pop() if sizes else 1)
    return tuple(reversed(result))


def normalize_axis(axis: int, ndim: int) -> int:
    """Return `axis` counted from the front.

    >>> normalize_axis(-1, 3)
    2
    """
    try:
        position = operator.index(axis)
    except TypeError:
        raise OptionError(f"an axis is an integer, got {axis!r}") from None
    if not -ndim <= position < ndim:
        raise ShapeError(f"axis {axis} is out of range for {ndim} axes")
    return position % ndim


def normalize_axes(axis: Axes, ndim: int) -> Shape:
    """Return the axes as a sorted tuple counted from the front; None means all of them.

    >>> normalize_axes((-1, 0), 3)
    (0, 2)
    """
    if axis is None:
        return tuple(range(ndim))
    axes = [normalize_axis(a, ndim) for a in (axis if isinstance(axis, list | tuple | range) else (axis,))]
    if len(set(axes)) != len(axes):
        raise OptionError(f"axis {axis} names an axis twice")
    return tuple(sorted(axes))


def reduced(shape: Shape, axes: Shape, keepdims: bool) -> Shape:
    """Return what is left of `shape` after a reduction over `axes`.

    >>> reduced((2, 3, 4), (1,), keepdims=True)
    (2, 1, 4)
    """
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def reshaped(shape: Shape, new: Sequence[int]) -> Shape:
    """Return `new` with its one -1, if any, worked out from the size of `shape`.

    >>> reshaped((2, 6), (3, -1))
    (3, 4)
    """
    sizes = tuple(operator.index(n) for n in new)
    size = math.prod(shape)
    if sizes.count(-1) > 1 or any(n < -1 for n in sizes):
        raise ShapeError(f"cannot reshape {shape} to {sizes}: sizes are 0 or more, and one of them may be -1")
    if -1 in sizes:
        known = math.prod(n for n in sizes if n != -1)
        if known and size % known == 0:
            sizes = tuple(size // known if n == -1 else n for n in sizes)
    if math.prod(sizes) != size or -1 in sizes:
        raise ShapeError(f"cannot reshape {shape}, which has {size} elements, to {sizes}")
    return sizes


def permuted(shape: Shape, axes: Shape) -> Shape:
    """Return `shape` with its axes in the order `axes`.

    >>> permuted((2, 3, 4), (2, 0, 1))
    (4, 2, 3)
    """
    return tuple(shape[a] for a in axes)


def expanded(shape: Shape, new: Shape) -> Shape:
    """Return `new` if `shape` broadcasts to it.

    >>> expanded((3, 1), (2, 3, 4))
    (2, 3, 4)
    """
    pairs = zip(reversed(shape), reversed(new), strict=False)
    if len(shape) > len(new) or any(a not in (1, b) for a, b in pairs):
        raise ShapeError(f"shape {shape} does not broadcast to {new}")
    return new


def concatenated(*shapes: Shape, axis: int) -> Shape:
    """Return the shape of arrays joined along `axis`.

    >>> concatenated((2, 3), (4, 3), axis=0)
    (6, 3)
    """
    first = shapes[0]
    for shape in shapes[1:]:
        if len(shape) != len(first) or any(
            i != axis and a != b for i, (a, b) in enumerate(zip(first, shape, strict=False))
        ):
            raise ShapeError(f"concat along axis {axis} got shapes {first} and {shape}; the other axes must be equal")
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def multiplied(a: Shape, b: Shape) -> Shape:
    """Return the shape of the matrix product of two arrays of at least two axes.

    >>> multiplied((5, 2, 3), (3, 4))
    (5, 2, 4)
    """
    if a[-1] != b[-2]:
        raise ShapeError(
            f"matmul got shapes {a} and {b}: the last axis of the first ({a[-1]}) must equal "
            f"the second-to-last axis of the second ({b[-2]})"
        )
    return (*broadcast(a[:-2], b[:-2]), a[-2], b[-1])


def padded(shape: Shape, widths: Sequence[tuple[int, int]]) -> Shape:
    """Return `shape` grown by `widths`, one pair (before, after) an axis.

    >>> padded((2, 3), ((1, 1), (0, 2)))
    (4, 5)
    """
    return tuple(before + n + after for n, (before, after) in zip(shape, widths, strict=True))


class Hole:
    """Stands in an index for the place of an integer array, which is passed beside it."""

    def __repr__(self) -> str:
        return "array"


HOLE = Hole()

IndexPart = int | slice | None | EllipsisType | Hole
Index = tuple[IndexPart, ...]


def indexed(shape: Shape, *index_shapes: Shape, key: Index) -> Shape:
    """Return the shape of `x[key]` for an `x` of `shape`, with NumPy's rules for basic and integer-array indices.

    >>> indexed((5, 6, 7), (2, 3), key=(slice(1, 4), HOLE))
    (3, 2, 3, 7)
    """
    used = sum(part is not None and part is not Ellipsis for part in key)
    if used > len(shape):
        raise ShapeError(f"got {used} indices for a Tensor of {len(shape)} axes, shape {shape}")
    if Ellipsis not in key:
        key = (*key, Ellipsis)
    # With an array among them, integers take part in the broadcast of the arrays, as in NumPy.
    advanced = HOLE in key
    gathered: Shape = broadcast(*index_shapes) if advanced else ()
    result: list[int] = []
    positions: list[tuple[int, int]] = []  # (place in key, place in result) of what the gathered axes replace
    axis = 0
    for place, part in enumerate(key):
        if part is None:
            result.append(1)
        elif part is Ellipsis:
            rest = len(shape) - used
            result.extend(shape[axis : axis + rest])
            axis += rest
        elif isinstance(part, slice):
            result.append(len(range(*part.indices(shape[axis]))))
            axis += 1
        else:
            if isinstance(part, int) and not -shape[axis] <= part < shape[axis]:
                raise IndexError(f"index {part} is out of range for axis {axis} of size {shape[axis]}")
            positions.append((place, len(result)))
            axis += 1
    if not advanced:
        return tuple(result)
    places = [place for place, _ in positions]
    together = places == list(range(places[0], places[0] + len(places)))
    start = positions[0][1] if together else 0
    return (*result[:start], *gathered, *result[start:])


def describe(payload: Any) -> str:
    """Return dtype and shape in short, as they stand in a printed graph.

    >>> import numpy as np
    >>> describe(np.zeros((32, 10), np.float32))
    'float32[32, 10]'
    """
    return f"{payload.dtype}[{', '.join(map(str, payload.shape))}]"
