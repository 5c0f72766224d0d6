"""Memory planning: the slot of each Symbol in a program's table of addresses, and its offset in the arena.

Inputs and constants come first, then the results that the caller gets, which are new arrays on each call. All else is
in one block of memory, the arena, where values whose lifetimes do not overlap share memory.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.engines.native.kernels import Kernel, checked_first
from nissl.engines.native.plan import Plan
from nissl.graph.graph import Graph, Symbol

Array = npt.NDArray[Any]

ALIGNMENT = 64
# Values of so few bytes share their place with none: else a thread might have to wait for another to leave it.
SMALL = 4096


def address(array: Array) -> int:
    """Return the address of the first element of an array."""
    return int(array.__array_interface__["data"][0])


ARENA = -1
Region = tuple[int, int, int]  # slot of an array, or ARENA; first byte, and the byte after the last


def _overlap(some: Sequence[Region], others: Sequence[Region]) -> bool:
    """Whether any of some regions overlaps one of others."""
    return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a in some for b in others)


class MemoryPlan:
    """The slot of each Symbol in the table of addresses, and its offset in the arena."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.plan = plan
        self.graph = graph
        self.constants = [np.ascontiguousarray(array).reshape(array.shape) for array in graph.constants.values()]
        self.slots: dict[Symbol, int] = {s: i for i, s in enumerate((*graph.inputs, *graph.constants))}
        self.written = sorted(self.slots[old] for old in plan.in_place.values())
        checked = {self.slots[plan.places[numbers][0]] for _, numbers in checked_first(graph, plan.places)}
        self.checked = sorted(checked.difference(self.written))  # the inputs that nothing may change after their check
        outputs = {s for s in graph.outputs if plan.places[s][0] is s}
        self.fresh = [s for s in plan.stored if s in outputs and s not in plan.in_place]
        for symbol in self.fresh:
            self.slots[symbol] = len(self.slots)
        self.slots.update({new: self.slots[old] for new, old in plan.in_place.items()})
        self.first_in_arena = len(graph.inputs) + len(graph.constants) + len(self.fresh)
        self.offsets: dict[Symbol, int] = {}
        self.size = ALIGNMENT  # the status flag comes first
        self._arrange([s for s in plan.stored if s not in self.slots])

    def _arrange(self, symbols: Sequence[Symbol]) -> None:
        """Give each Symbol, largest first, the lowest offset in the arena that is free during its lifetime."""
        order = {kernel: i for i, kernel in enumerate(self.plan.kernels)}
        last: dict[Symbol, int] = {}
        for kernel, i in order.items():
            for x in kernel.inputs:
                last[self.plan.places[x][0]] = i
        for x in self.graph.outputs:
            last[self.plan.places[x][0]] = len(order)
        wanted: list[tuple[int, int, int, Symbol]] = []  # first and last kernel, size, Symbol
        for symbol in symbols:
            first = order[self.plan.homes[symbol]]
            wanted.append((first, last.get(symbol, first), max(symbol.size * symbol.dtype.itemsize, 1), symbol))
        placed: list[tuple[int, int, int, int]] = []  # first and last kernel, start and end in the arena
        for first, end, size, owner in sorted(wanted, key=lambda w: -w[2]):
            size = -(-size // ALIGNMENT) * ALIGNMENT
            start = ALIGNMENT
            for _, _, taken, free in sorted((p for p in placed if p[0] <= end and first <= p[1]), key=lambda p: p[2]):
                if taken - start >= size:
                    break
                start = max(start, free)
            if size <= SMALL:
                start = self.size
            else:
                placed.append((first, end, start, start + size))
            self.size = max(self.size, start + size)
            self.offsets[owner] = start
        for symbol in symbols:
            self.slots[symbol] = len(self.slots) - len(self.plan.in_place)

    def new_table(self, arena: Array) -> ctypes.Array[ctypes.c_uint64]:
        """Return a table of addresses in which those of constants and of the arena are filled in."""
        table = (ctypes.c_uint64 * (self.first_in_arena + len(self.offsets) + 1))()
        for i, array in enumerate(self.constants):
            table[len(self.graph.inputs) + i] = address(array)
        base = aligned(arena)
        for symbol, offset in self.offsets.items():
            table[self.slots[symbol]] = base + offset
        table[self.status_slot] = base
        return table

    @property
    def status_slot(self) -> int:
        """The slot of the status flag, which is set when a label is out of range."""
        return self.first_in_arena + len(self.offsets)

    def in_arena(self, symbol: Symbol, arena: Array) -> Array:
        """Return the memory of a Symbol in the arena, as a flat array."""
        start = aligned(arena) - address(arena) + self.offsets[symbol]
        return arena[start : start + symbol.size * symbol.dtype.itemsize].view(symbol.dtype)

    def collide(self, first: Kernel, second: Kernel) -> bool:
        """Whether two kernels cannot run at the same time, as one writes what the other reads or writes."""
        read, written = self.touched[first]
        read_too, written_too = self.touched[second]
        return _overlap(written, read_too + written_too) or _overlap(read, written_too)

    @functools.cached_property
    def touched(self) -> dict[Kernel, tuple[list[Region], list[Region]]]:
        """The regions that each kernel reads, and those that it writes."""
        found: dict[Kernel, tuple[list[Region], list[Region]]] = {}
        for kernel in self.plan.kernels:
            bases = {self.plan.places[x][0] for x in kernel.inputs}
            found[kernel] = [self._region(base) for base in bases], []
        for symbol in self.plan.stored:
            found[self.plan.homes[symbol]][1].append(self._region(symbol))
        return found

    def _region(self, symbol: Symbol) -> Region:
        """Return the region of a Symbol: in the arena, or in an array of its own."""
        if symbol in self.offsets:
            start = self.offsets[symbol]
            return ARENA, start, start + symbol.size * symbol.dtype.itemsize
        return self.slots[symbol], 0, 1

    def result(self, symbol: Symbol) -> int | None:
        """Return the slot whose array can be returned as this output, or None if it has to be copied."""
        base, layout = self.plan.places[symbol]
        own = base in self.fresh or base in self.plan.in_place
        whole = layout.contiguous and layout.shape == base.shape
        return self.slots[base] if own and whole and self.graph.outputs.count(symbol) == 1 else None


def aligned(arena: Array) -> int:
    """Return the first address in an arena that is aligned to a cache line."""
    start = address(arena)
    return -(-start // ALIGNMENT) * ALIGNMENT
