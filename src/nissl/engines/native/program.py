"""A program: the machine code of a graph, with the memory it works in.

Inputs that the graph gives new values to are written in place, unless someone else holds their array too. Results are
new arrays on each call; what lies between is one piece of memory, planned once, in which values that are not needed at
the same time share their places.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from nissl.engines.eager import evaluate
from nissl.engines.native.emitter import INDEX, POINTER, Emitter, Memory, UnsupportedEquation, emit_loop, index
from nissl.engines.native.layout import Layout
from nissl.engines.native.loops import Loops, spilled
from nissl.engines.native.machine import Code, machine_code, vector_bytes
from nissl.engines.native.plan import Call, Group, Plan, is_gather, make_plan
from nissl.engines.native.products import Product, needs_packing, packing_size
from nissl.errors import DataError
from nissl.graph.graph import Equation, Graph, Symbol
from nissl.graph.interpret import interpret
from nissl.graph.passes import simplified
from nissl.tensor import wrap

Array = npt.NDArray[Any]

ALIGNMENT = 64

# The arguments of the functions in machine code.
STEP = (ctypes.c_void_p,)
SCAN = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


def lanes_of(group: Group) -> int:
    """Return how many elements a vector holds: as many as registers have room for of the floats that there are."""
    symbols = [*group.levels, *group.inputs]
    sizes = [s.dtype.itemsize for s in symbols if s.dtype.kind == "f"] or [8]
    return max(vector_bytes() // min(sizes), 1)


class Program:
    """What runs a graph: called with arrays for its inputs, it returns arrays for its outputs."""

    def __init__(self, graph: Graph) -> None:
        self.original = graph
        self.graph = simplified(graph)
        left_to_numpy: list[Equation] = []
        while True:
            self.plan = make_plan(self.graph, left_to_numpy)
            for kernel in self.plan.kernels:
                if isinstance(kernel, Group) and kernel.leader is None:
                    extra = [s for s in spilled(kernel, lanes_of(kernel)) if s not in self.plan.stored]
                    self.plan.stored.extend(extra)
            try:
                self.memory = MemoryPlan(self.graph, self.plan)
                module, self.segments = emit(self.graph, self.plan, self.memory)
                break
            except UnsupportedEquation as found:
                left_to_numpy.append(found.equation)
        self.module = module
        names = [segment for segment in self.segments if isinstance(segment, str)]
        self.code = Code(machine_code(module), {**dict.fromkeys(names, STEP), "scan": SCAN}) if names else None
        self.arena = np.zeros(self.memory.size + ALIGNMENT, np.uint8)
        self.table = self.memory.new_table(self.arena)
        self.status = self.memory.status(self.arena)
        self.results = [self.memory.result(symbol) for symbol in self.graph.outputs]
        # Whose addresses are in the table already; arrays are looked at once only.
        self.known: list[Callable[[], Array | None]] = [_nothing] * len(graph.inputs)
        self.lock = threading.Lock()

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """Run the graph."""
        with self.lock:
            held = self.take(arrays)
            self.run(held)
            if self.status[0]:
                self.status[0] = 0
                interpret(self.original, arrays)  # raises what is wrong with the labels
                raise AssertionError("a label was out of range, but not on the reference engine")
            return [
                held[slot] if slot is not None else np.array(self.array_of(symbol, held))
                for symbol, slot in zip(self.graph.outputs, self.results, strict=True)
            ]

    @property
    def can_scan(self) -> bool:
        """Whether step after step can be run without Python: all state is changed in place, and NumPy has no part."""
        state = all(self.results[output] == place for output, place in self.graph.updates.items())
        return state and None not in self.results and [type(s) for s in self.segments] == [str]

    def scan(self, arrays: Sequence[Array], steps: int, stacked: Sequence[int]) -> list[Array]:
        """Run the graph `steps` times: inputs at the places `stacked`, and results, have a first axis of steps."""
        results = [slot for i, slot in enumerate(self.results) if slot is not None and i not in self.graph.updates]
        with self.lock:
            held = self.take(arrays, steps, results)
            moving = [*stacked, *results]
            slots = (ctypes.c_int64 * len(moving))(*moving)
            strides = (ctypes.c_int64 * len(moving))(*(held[slot].nbytes // steps for slot in moving))
            assert self.code is not None
            self.code.functions["scan"](self.table, steps, slots, strides, len(moving))
            self.known = [_nothing] * len(self.known)  # the addresses have moved
            if self.status[0]:
                self.status[0] = 0
                raise DataError("a label or a row's number was out of range in one of the steps")
            return [held[slot] for slot in self.results if slot is not None]

    def take(self, arrays: Sequence[Array], steps: int = 0, results: Iterable[int] = ()) -> list[Array]:
        """Fill the table with the addresses of inputs and of new arrays for results; return all that have a slot.

        The arrays of slots in `results` get an axis of steps.
        """
        held = list(arrays)
        for i in self.memory.written:
            # Held by the Tensor, the caller's list and the one here, and while it is looked at.
            if sys.getrefcount(held[i]) > HELD:
                held[i] = np.array(held[i], order="C")
        for i, known in enumerate(self.known):
            if known() is not held[i]:
                if not _is_plain(held[i]):
                    held[i] = np.array(held[i], order="C")
                self.table[i] = _address(held[i])
                self.known[i] = weakref.ref(held[i])
        held.extend(self.memory.constants)
        for symbol in self.memory.fresh:
            several = (steps,) if len(held) in results else ()
            array = np.empty((*several, *symbol.shape), symbol.dtype)
            self.table[len(held)] = _address(array)
            held.append(array)
        return held

    def run(self, held: Sequence[Array]) -> None:
        """Run all segments, and NumPy's equations between them."""
        for segment in self.segments:
            if isinstance(segment, str):
                assert self.code is not None
                self.code.functions[segment](self.table)
                if self.status[0]:
                    return
            else:
                self.call(segment.equation, held)

    def call(self, equation: Equation, arrays: Sequence[Array]) -> None:
        """Compute an equation by NumPy."""
        payloads = [self.array_of(x, arrays) if isinstance(x, Symbol) else x for x in equation.inputs]
        with np.errstate(all="ignore"):
            value = evaluate(equation.op, payloads, equation.attributes)
        for symbol, result in zip(equation.outputs, value if equation.op.outputs > 1 else (value,), strict=True):
            if symbol in self.memory.slots:
                self.array_of(symbol, arrays)[...] = result

    def array_of(self, symbol: Symbol, arrays: Sequence[Array]) -> Array:
        """Return the memory of a Symbol as an array."""
        base, layout = self.plan.places[symbol]
        slot = self.memory.slots[base]
        held = arrays[slot] if slot < len(arrays) else self.memory.in_arena(base, self.arena)
        return _strided(held, layout, symbol.dtype)


def _nothing() -> None:
    """Stand for a reference to an array that is gone."""


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _is_plain(array: Array) -> bool:
    return array.flags.c_contiguous and array.flags.aligned and array.flags.writeable and array.dtype.isnative


def _strided(array: Array, layout: Layout, dtype: np.dtype[Any]) -> Array:
    """Return a view of the memory of an array."""
    size = dtype.itemsize
    if 0 in layout.shape:
        return np.empty(layout.shape, dtype)
    strides = [stride * size for stride in layout.strides]
    return np.lib.stride_tricks.as_strided(array.reshape(-1)[layout.offset :], layout.shape, strides)


def _calibrated() -> int:
    """Return the number of references to an array that a Tensor and the lists of a call hold, on this Python."""

    def look(arrays: Sequence[Array]) -> int:
        given = list(arrays)
        for i in (0,):
            return sys.getrefcount(given[i])
        raise AssertionError

    tensors = [wrap(np.empty(1))]
    return look([tensor._array() for tensor in tensors])


HELD = _calibrated()


class MemoryPlan:
    """Which slot of the table of addresses belongs to which Symbol, and where in the arena it lies."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.plan = plan
        self.graph = graph
        self.constants = [np.ascontiguousarray(array).reshape(array.shape) for array in graph.constants.values()]
        self.slots: dict[Symbol, int] = {s: i for i, s in enumerate((*graph.inputs, *graph.constants))}
        self.written = sorted(self.slots[old] for old in plan.in_place.values())
        outputs = {s for s in graph.outputs if plan.places[s][0] is s}
        self.fresh = [s for s in plan.stored if s in outputs and s not in plan.in_place]
        for symbol in self.fresh:
            self.slots[symbol] = len(self.slots)
        self.slots.update({new: self.slots[old] for new, old in plan.in_place.items()})
        self.first_in_arena = len(graph.inputs) + len(graph.constants) + len(self.fresh)
        self.offsets: dict[Symbol, int] = {}
        self.packed: dict[Group, int] = {}
        self.size = ALIGNMENT  # of which the first bytes are the status
        self._arrange([s for s in plan.stored if s not in self.slots])

    def _arrange(self, symbols: Sequence[Symbol]) -> None:
        """Give each Symbol a place in the arena that no other has while it is needed."""
        order = {kernel: i for i, kernel in enumerate(self.plan.kernels)}
        last: dict[Symbol, int] = {}
        for kernel, i in order.items():
            for x in kernel.inputs:
                last[self.plan.places[x][0]] = i
        for x in self.graph.outputs:
            last[self.plan.places[x][0]] = len(order)
        wanted: list[tuple[int, int, int, Any]] = []  # first, last, size, for whom
        for symbol in symbols:
            first = order[self.plan.homes[symbol]]
            wanted.append((first, last.get(symbol, first), max(symbol.size * symbol.dtype.itemsize, 1), symbol))
        for kernel, i in order.items():
            if isinstance(kernel, Group) and kernel.leader is not None:
                b = kernel.leader.inputs[1]
                assert isinstance(b, Symbol)
                if needs_packing(self.plan.places[b][1]):
                    wanted.append((i, i, packing_size(b), kernel))
        placed: list[tuple[int, int, int, int]] = []  # first, last, start, end
        for first, end, size, owner in sorted(wanted, key=lambda w: -w[2]):
            size = -(-size // ALIGNMENT) * ALIGNMENT
            start = ALIGNMENT
            for _, _, taken, free in sorted((p for p in placed if p[0] <= end and first <= p[1]), key=lambda p: p[2]):
                if taken - start >= size:
                    break
                start = max(start, free)
            placed.append((first, end, start, start + size))
            self.size = max(self.size, start + size)
            if isinstance(owner, Group):
                self.packed[owner] = start
            else:
                self.offsets[owner] = start
        for symbol in symbols:
            self.slots[symbol] = len(self.slots) - len(self.plan.in_place)

    def new_table(self, arena: Array) -> ctypes.Array[ctypes.c_uint64]:
        """Return a table of addresses, with those of constants and in the arena filled in."""
        table = (ctypes.c_uint64 * (self.first_in_arena + len(self.offsets) + 1 + len(self.packed)))()
        for i, array in enumerate(self.constants):
            table[len(self.graph.inputs) + i] = _address(array)
        base = _aligned(arena)
        for symbol, offset in self.offsets.items():
            table[self.slots[symbol]] = base + offset
        table[self.status_slot] = base
        for i, offset in enumerate(self.packed.values()):
            table[self.status_slot + 1 + i] = base + offset
        return table

    @property
    def status_slot(self) -> int:
        """The slot of the flag for labels out of range."""
        return self.first_in_arena + len(self.offsets)

    def packed_slot(self, group: Group) -> int | None:
        """Return the slot of the memory in which a Group packs a matrix."""
        return self.status_slot + 1 + list(self.packed).index(group) if group in self.packed else None

    def status(self, arena: Array) -> npt.NDArray[np.int64]:
        """Return the flag for labels out of range."""
        start = _aligned(arena) - _address(arena)
        return arena[start : start + 8].view(np.int64)

    def in_arena(self, symbol: Symbol, arena: Array) -> Array:
        """Return the memory of a Symbol in the arena."""
        start = _aligned(arena) - _address(arena) + self.offsets[symbol]
        return arena[start : start + symbol.size * symbol.dtype.itemsize].view(symbol.dtype)

    def result(self, symbol: Symbol) -> int | None:
        """Return the slot whose array can be given away as an output, or None if it has to be copied."""
        base, layout = self.plan.places[symbol]
        own = base in self.fresh or base in self.plan.in_place
        whole = layout.contiguous and layout.shape == base.shape
        return self.slots[base] if own and whole and self.graph.outputs.count(symbol) == 1 else None


def _aligned(arena: Array) -> int:
    start = _address(arena)
    return -(-start // ALIGNMENT) * ALIGNMENT


Segment = str | Call


def emit(graph: Graph, plan: Plan, memory: MemoryPlan) -> tuple[ir.Module, list[Segment]]:
    """Return the module, and what is run in order: the names of functions in it, and NumPy's equations."""
    module = ir.Module("program")
    segments: list[Segment] = []
    waiting: list[ir.Function] = []

    def finish() -> None:
        if not waiting:
            return
        name = f"segment_{len(segments)}"
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), name)
        builder = ir.IRBuilder(function.append_basic_block())
        if not segments:
            check_labels(builder, graph, plan, memory)
        for part in waiting:
            builder.call(part, function.args)
        builder.ret_void()
        segments.append(name)
        waiting.clear()

    for number, kernel in enumerate(plan.kernels):
        if isinstance(kernel, Group):
            waiting.append(emit_group(module, f"kernel_{number}", kernel, plan, memory))
        else:
            finish()
            segments.append(kernel)
    finish()
    if len(segments) == 1 and isinstance(segments[0], str):
        emit_scan(module, segments[0], memory)
    return module, segments


def emit_scan(module: ir.Module, step: str, memory: MemoryPlan) -> None:
    """Write down `scan(table, steps, slots, strides, count)`: step after step, and some addresses move on after each.

    It ends early when a step finds a label out of range.
    """
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INDEX, POINTER, POINTER, INDEX]), "scan")
    table, steps, slots, strides, count = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    status = builder.load(builder.gep(table, [index(memory.status_slot)], source_etype=POINTER), typ=POINTER)

    def entry(pointer: ir.Value, place: ir.Value) -> ir.Value:
        return builder.load(builder.gep(pointer, [place], source_etype=INDEX), typ=INDEX)

    def once(_: ir.Value) -> None:
        builder.call(module.globals[step], [table])
        with builder.if_then(builder.icmp_signed("!=", builder.load(status, typ=INDEX), index(0)), likely=False):
            builder.ret_void()

        def move(i: ir.Value) -> None:
            address = builder.gep(table, [entry(slots, i)], source_etype=INDEX)
            builder.store(builder.add(builder.load(address, typ=INDEX), entry(strides, i)), address)

        emit_loop(builder, index(0), count, 1, move)

    emit_loop(builder, index(0), steps, 1, once)
    builder.ret_void()


def check_labels(builder: ir.IRBuilder, graph: Graph, plan: Plan, memory: MemoryPlan) -> None:
    """Look at the labels among the inputs, and return from the function if one is out of range: nothing has changed."""
    (table,) = builder.function.args

    def pointer(slot: int) -> ir.Value:
        return builder.load(builder.gep(table, [index(slot)], source_etype=POINTER), typ=POINTER)

    for equation in graph.equations:
        if equation.op.name == "one_hot":
            labels, low, high = equation.inputs[0], 0, equation.attributes["classes"]
        elif is_gather(equation):
            source, labels = equation.inputs
            high = source.shape[0]  # type: ignore[union-attr]
            low = -high
        else:
            continue
        assert isinstance(labels, Symbol)
        if plan.places[labels][0] not in graph.inputs or not labels.size:
            continue
        base, layout = plan.places[labels]
        found = Memory(pointer(memory.slots[base]), layout, labels.dtype)
        status = pointer(memory.status_slot)
        emitter = Emitter(builder, Group(labels.shape), {labels: found}.__getitem__, status)
        emitter.check_range(labels, low, high)
        with builder.if_then(builder.icmp_signed("!=", builder.load(status, typ=INDEX), index(0)), likely=False):
            builder.ret_void()


def emit_group(module: ir.Module, name: str, group: Group, plan: Plan, memory: MemoryPlan) -> ir.Function:
    """Write down the pass of a Group as a function of the table of addresses."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), name)
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    (table,) = function.args

    def pointer(slot: int) -> ir.Value:
        with builder.goto_entry_block():
            return builder.load(builder.gep(table, [index(slot)], source_etype=POINTER), typ=POINTER)

    pointers: dict[Symbol, ir.Value] = {}

    def memory_of(symbol: Symbol) -> Memory:
        base, layout = plan.places[symbol]
        if base not in pointers:
            pointers[base] = pointer(memory.slots[base])
        return Memory(pointers[base], layout, symbol.dtype)

    emitter = Emitter(builder, group, memory_of, pointer(memory.status_slot))
    stored = [s for s in plan.stored if s in group.levels]
    if group.leader is None:
        Loops(emitter, stored, lanes_of(group)).emit()
    else:
        slot = memory.packed_slot(group)
        Product(emitter, stored, lanes_of(group), None if slot is None else pointer(slot)).emit()
    builder.ret_void()
    return function
