"""Pytrees: Tensors and numbers alone or in nested tuples, lists and dicts, as functions take and return them.

`flatten` takes one apart, into its leaves, which are Tensors, and its structure, which is hashable; `unflatten` puts it
together again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.engines.base import Same
from nissl.tensor import Tensor, wrap

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Leaf:
    """The place of a Tensor in arguments or results."""

    position: int


def flatten(value: Any, leaves: list[Any]) -> Any:
    """Return the structure of nested tuples, lists and dicts, hashable; collect the Tensors and numbers in it.

    >>> leaves = []
    >>> structure = flatten((1.5, {"also": 2}), leaves)
    >>> leaves
    [tensor(1.5, dtype=float64), tensor(2)]
    >>> unflatten(structure, ["one", "two"])
    ('one', {'also': 'two'})
    """
    if isinstance(value, Tensor):
        leaves.append(value)
    elif isinstance(value, np.ndarray | np.generic):
        leaves.append(Tensor(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = Tensor(np.array(value))
        number.weak = True
        leaves.append(number)
    elif isinstance(value, tuple | list):
        return (type(value), tuple(flatten(part, leaves) for part in value))
    elif isinstance(value, dict):
        return (dict, tuple((key, flatten(part, leaves)) for key, part in value.items()))
    elif value is None or isinstance(value, bool | str | bytes):
        return value
    else:
        return Same(value)
    return Leaf(len(leaves) - 1)


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """Return the value of which `flatten` made `structure` and `leaves`."""
    if isinstance(structure, Leaf):
        return leaves[structure.position]
    if isinstance(structure, Same):
        return structure.thing
    if isinstance(structure, tuple):
        kind, parts = structure
        if kind is dict:
            return {key: unflatten(part, leaves) for key, part in parts}
        values = [unflatten(part, leaves) for part in parts]
        return kind(*values) if hasattr(kind, "_fields") else kind(values)
    return structure


def objects_in(structure: Any) -> list[Any]:
    """Return the objects in a structure that are no Tensors, numbers, containers or plain values."""
    if isinstance(structure, Same):
        return [structure.thing]
    return [thing for part in structure for thing in objects_in(part)] if isinstance(structure, tuple) else []


def joined(results: Sequence[Any], join: Callable[[list[Array]], Array] = np.stack) -> Any:
    """Return results of one structure as one, with their Tensors stacked, or joined otherwise."""
    leaves: list[list[Any]] = []
    for result in results:
        leaves.append([])
        structure = flatten(result, leaves[-1])
    whole = [wrap(join([leaf._array() for leaf in column])) for column in zip(*leaves, strict=True)]
    return unflatten(structure, whole)


def interleaved(results: Sequence[Any], turns: npt.NDArray[np.int64]) -> Any:
    """Return results of several scans as those of one, whose step i was taken by the scan turns[i]."""
    return joined(results, lambda parts: _in_turn(parts, turns))


def _in_turn(parts: Sequence[Array], turns: npt.NDArray[np.int64]) -> Array:
    """Return the rows of several arrays as one, whose row i is the next one of parts[turns[i]]."""
    whole = np.empty((len(turns), *parts[0].shape[1:]), parts[0].dtype)
    for turn, part in enumerate(parts):
        whole[turns == turn] = part
    return whole
