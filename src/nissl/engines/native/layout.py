"""Layouts: the shape, strides and offset of a Symbol in the memory of another, and how movements change them.

Transposing, broadcasting, reversing, slicing and most reshaping copy nothing: the result is a view with other strides.
NumPy computes them: the rule of the op is applied to a ghost, an array with the right shape and strides and no memory
of its own, and the strides of the result are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.shapes import HOLE, Shape
from nissl.tensor import Op

VIEWS = ("reshape", "permute_dims", "broadcast_to", "flip", "index")


@dataclass(frozen=True)
class Layout:
    """Element (i, j, ...) is at index `offset` + i·strides[0] + j·strides[1] + ... of the memory, in elements."""

    shape: Shape
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def contiguous(self) -> bool:
        """Whether the elements are contiguous in row-major order, from the start of the memory."""
        return self == contiguous(self.shape)

    @property
    def unbroken(self) -> bool:
        """Whether the elements are contiguous in row-major order, at any offset."""
        steps = zip(self.shape, self.strides, _row_major(self.shape), strict=True)
        return all(size == 1 or stride == step for size, stride, step in steps)

    def broadcast(self, shape: Shape) -> Layout:
        """Return the layout broadcast to a larger shape."""
        if shape == self.shape:
            return self  # NumPy would set the strides of axes of length 1 to 0
        ghost = np.broadcast_to(_ghost(self), shape)
        return Layout(shape, ghost.strides, self.offset)

    def part(self, shape: Shape, start: Sequence[int]) -> Layout:
        """Return the layout of a block of the elements that begins at the index `start`."""
        offset = sum(place * stride for place, stride in zip(start, self.strides, strict=True))
        return Layout(shape, self.strides, self.offset + offset)

    def moved(self, op: Op, attributes: Mapping[str, Any]) -> Layout | None:
        """Return the layout after a movement, or None if elements have to be copied."""
        if op.name not in VIEWS or HOLE in attributes.get("key", ()):
            return None
        ghost = _ghost(self)
        if op.name == "flip" and not attributes["axes"]:
            return self
        if op.name == "index":
            key = attributes["key"]
            moved = ghost[key if Ellipsis in key else (*key, Ellipsis)]  # an array also if every axis is indexed
        elif op.name == "reshape":
            try:
                moved = np.reshape(ghost, attributes["shape"], copy=False)
            except ValueError:
                return None
        else:
            moved = op.value(ghost, **attributes)
        distance = moved.__array_interface__["data"][0] - ghost.__array_interface__["data"][0]
        return Layout(moved.shape, moved.strides, self.offset + distance)


def contiguous(shape: Shape) -> Layout:
    """Return the contiguous, row-major layout of a shape."""
    return Layout(shape, np.empty(shape, np.int8).strides if 0 in shape else _row_major(shape))


def _row_major(shape: Shape) -> tuple[int, ...]:
    strides, size = [], 1
    for n in reversed(shape):
        strides.append(size)
        size *= n
    return tuple(reversed(strides))


def _ghost(layout: Layout) -> npt.NDArray[Any]:
    """Return an array of bytes with the shape and strides of a layout; its elements must not be touched."""
    return np.lib.stride_tricks.as_strided(np.empty(1, np.int8), layout.shape, layout.strides, writeable=False)
