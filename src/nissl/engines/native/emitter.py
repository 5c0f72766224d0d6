"""The emitter of a Group: how its values are loaded, computed and stored at one place of its pass.

A Place is the current position of a pass: the row index, the first column, and the number of columns processed at once
(lanes). Values are emitted on demand: that of a Symbol is loaded, or computed from others at the same Place, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir

from nissl.engines.native.kernels import Group, Level, is_gather
from nissl.engines.native.layout import Layout
from nissl.engines.native.maths import (
    BOOL,
    BYTE,
    Element,
    NativeMaths,
    RoughElement,
    Unsupported,
    constant,
    load_apart,
    scalar_type,
    select,
    splat,
    stored_type,
    vector_of,
    widened,
)
from nissl.graph.graph import Equation, Symbol
from nissl.ops.random import KEY_STEPS, MULTIPLIERS, ROUNDS

INDEX = ir.IntType(64)
POINTER = ir.PointerType()
INT64 = np.dtype(np.int64)
UINT64 = np.dtype(np.uint64)


def index(number: int) -> ir.Constant:
    """Return an integer constant of the type of indices."""
    return constant(INDEX, number)


def emit_loop(
    builder: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: int, body: Callable[[ir.Value], None]
) -> None:
    """Emit a loop whose body gets start, start + step, ... below stop."""
    function, before = builder.function, builder.block
    inside, after = function.append_basic_block(), function.append_basic_block()
    builder.cbranch(builder.icmp_signed("<", start, stop), inside, after)
    builder.position_at_end(inside)
    place = builder.phi(INDEX)
    place.add_incoming(start, before)
    body(place)
    following = builder.add(place, index(step))
    place.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, stop), inside, after)
    builder.position_at_end(after)


class UnsupportedEquation(Exception):  # noqa: N818  (an answer)
    """There is no machine code for an equation, so NumPy has to compute it."""

    def __init__(self, equation: Equation) -> None:
        super().__init__(equation.op.name)
        self.equation = equation


@dataclass(eq=False)
class Share:
    """The part of a pass that one thread runs: units from `begin` up to, but not including, `end`."""

    begin: ir.Value
    end: ir.Value


@dataclass(eq=False)
class Place:
    """The current position of a pass, and the values computed there so far."""

    row: ir.Value
    column: ir.Value
    lanes: int
    values: dict[Symbol, Element] = field(default_factory=dict)


@dataclass(eq=False)
class Memory:
    """Where a Symbol's elements are in memory, for the pass of one Group."""

    pointer: ir.Value
    layout: Layout
    dtype: np.dtype[Any]


class Emitter:
    """Emits the equations of a Group."""

    def __init__(
        self,
        builder: ir.IRBuilder,
        group: Group,
        memory: Callable[[Symbol], Memory],
        status: ir.Value,
    ) -> None:
        self.builder = builder
        self.group = group
        self.memory = memory
        self.status = status  # address of the flag that a label or row index was out of range
        self.shape = group.shape  # that the pass iterates over; flattened to one row if row boundaries do not matter
        self.reloaded: set[Symbol] = set()  # results of an earlier stage that are reloaded, not recomputed
        self.current_row: ir.Value = index(0)
        self.rows: dict[Symbol, Element] = {}  # row-level values of the current row
        self.made_by = {symbol: e for e in group.equations for symbol in e.outputs}
        # What is read by the index of an element: not keys and draws of random numbers.
        indexed = chain.from_iterable(e.inputs for e in group.equations if e.op.kind != "random")
        self.read = [x for x in dict.fromkeys(indexed) if isinstance(x, Symbol) and x not in group.levels]

    # One row instead of many

    def is_flat(self) -> bool:
        """Whether the pass can be flattened to one row: nothing depends on row boundaries."""
        if any(level in (Level.ROW, Level.COLUMN) for level in self.group.levels.values()):
            return False
        if any(e.op.name == "one_hot" or is_gather(e) for e in self.group.equations):
            return False
        layouts = [self.memory(x).layout.broadcast(self.group.shape) for x in self.read]
        return all(layout.contiguous or not any(layout.strides) for layout in layouts)

    def flatten(self) -> None:
        """Flatten the pass to one row; the operands of a matrix product stay as they are."""
        memory, size = self.memory, math.prod(self.group.shape)
        elements = {*self.read, *self.group.levels}

        def flat(symbol: Symbol) -> Memory:
            found = memory(symbol)
            if symbol not in elements:
                return found
            layout = found.layout.broadcast(self.group.shape)
            stride = 1 if layout.contiguous else 0
            return Memory(found.pointer, Layout((size,), (stride,), layout.offset), found.dtype)

        self.memory = flat
        self.shape = (size,)

    # Loops

    def loop(self, start: ir.Value, stop: ir.Value, step: int, body: Callable[[ir.Value], None]) -> None:
        """Emit a loop whose body gets start, start + step, ... below stop."""
        emit_loop(self.builder, start, stop, step, body)

    def chunks(
        self,
        size: int,
        lanes: int,
        body: Callable[[ir.Value, int], None],
        share: Share | None = None,
        last: int | None = None,
    ) -> None:
        """Emit a loop over `size` columns, or a share of them, `lanes` at a time, and the body for the `last` columns.

        If it is not given, `last` is the remainder.
        """
        whole = size - (size % lanes if last is None else last)
        if share is not None:
            builder = self.builder
            stop = self.least(builder.mul(share.end, index(lanes)), index(whole))
            if whole:
                self.loop(builder.mul(share.begin, index(lanes)), stop, lanes, lambda column: body(column, lanes))
            if size > whole:
                with builder.if_then(builder.icmp_signed(">", share.end, index(whole // lanes))):
                    body(index(whole), size - whole)
            return
        if whole == lanes:
            body(index(0), lanes)
        elif whole:
            self.loop(index(0), index(whole), lanes, lambda column: body(column, lanes))
        if size > whole:
            body(index(whole), size - whole)

    def least(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the lesser of two indices."""
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    # Memory

    def address(self, memory: Memory, place: Place) -> tuple[ir.Value, int]:
        """Return the address of the element at a Place, and the stride of its columns."""
        layout = memory.layout.broadcast(self.shape)
        builder = self.builder
        *outer, inner = layout.strides or (0,)
        offset: ir.Value = index(layout.offset)
        rest = place.row
        # Unravel the row index into indices on the axes before the last.
        for axis in reversed(_merged(self.shape[:-1], outer)):
            size, stride, is_first = axis
            part = rest if is_first else builder.urem(rest, index(size))
            rest = rest if is_first else builder.udiv(rest, index(size))
            if stride:
                offset = builder.add(offset, builder.mul(part, index(stride)))
        if inner:
            offset = builder.add(offset, builder.mul(place.column, index(inner)))
        kind = stored_type(memory.dtype)
        return builder.gep(memory.pointer, [offset], source_etype=kind), inner

    def load(self, symbol: Symbol, place: Place) -> Element:
        """Load the elements of a Symbol at a Place."""
        return self.load_from(self.memory(symbol), place)

    def load_from(self, memory: Memory, place: Place) -> Element:
        """Load the elements of a Memory at a Place."""
        pointer, stride = self.address(memory, place)
        builder, kind = self.builder, stored_type(memory.dtype)
        size = memory.dtype.itemsize
        if stride == 1 or (place.lanes == 1 and stride):
            value = builder.load(pointer, typ=widened(kind, place.lanes), align=size)
        elif stride == 0:
            value = splat(builder, builder.load(pointer, typ=kind, align=size), place.lanes)
        else:
            value = load_apart(builder, pointer, kind, place.lanes, stride, size)
        if memory.dtype == BOOL:
            value = builder.trunc(value, widened(ir.IntType(1), place.lanes))
        return Element(builder, value, memory.dtype)

    def store(self, symbol: Symbol, element: Element, place: Place) -> None:
        """Store the elements of a Symbol at a Place."""
        memory = self.memory(symbol)
        pointer, stride = self.address(memory, place)
        assert stride == 1 or place.lanes == 1 or self.shape[-1:] in ((), (1,))
        self._write(pointer, element, memory.dtype)

    def _write(self, pointer: ir.Value, element: Element, dtype: np.dtype[Any]) -> None:
        value = element.value
        if dtype == BOOL:
            value = self.builder.zext(value, widened(BYTE, element.lanes))
        self.builder.store(value, pointer, align=dtype.itemsize)

    def store_row(self, symbol: Symbol, element: Element, row: ir.Value) -> None:
        """Store the value that a row-level Symbol has for a row."""
        memory = self.memory(symbol)
        pointer = self.builder.gep(memory.pointer, [row], source_etype=stored_type(memory.dtype))
        self._write(pointer, element, memory.dtype)

    def copy(self, source: Memory, target: Memory) -> None:
        """Copy all elements of the pass."""
        if source.dtype == target.dtype and source.layout.unbroken and target.layout.unbroken:
            self._copy_bytes(source, target)
            return

        def row(row: ir.Value) -> None:
            def column(column: ir.Value) -> None:
                place = Place(row, column, 1)
                pointer, _ = self.address(target, place)
                self._write(pointer, self.load_from(source, place), target.dtype)

            self.loop(index(0), index(self.shape[-1] if self.shape else 1), 1, column)

        self.loop(index(0), index(math.prod(self.shape[:-1])), 1, row)

    def _copy_bytes(self, source: Memory, target: Memory) -> None:
        """Copy a contiguous block by memcpy, which costs nothing to compile."""
        size = source.dtype.itemsize
        kind = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, INDEX, ir.IntType(1)])
        copy = self.builder.module.declare_intrinsic("llvm.memcpy.p0.p0.i64", fnty=kind)
        places = [
            self.builder.gep(memory.pointer, [index(memory.layout.offset * size)], source_etype=ir.IntType(8))
            for memory in (target, source)
        ]
        self.builder.call(copy, [*places, index(math.prod(self.shape) * size), ir.Constant(ir.IntType(1), 0)])

    def prefetch(self, pointer: ir.Value) -> None:
        """Ask for the cache line at an address, without waiting for it."""
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [POINTER, number, number, number])
        fetch = self.builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=kind)
        # Of 0 and 1, to read, not to write; of 0 to 3, to keep in all caches; of 0 and 1, data, not instructions.
        self.builder.call(fetch, [pointer, *(ir.Constant(number, choice) for choice in (0, 3, 1))])

    # Computing

    def value(self, symbol: Symbol, place: Place) -> Element:
        """Return the elements of a Symbol at a Place."""
        found = place.values.get(symbol)
        if found is not None:
            return found
        level = self.group.levels.get(symbol)
        if level is None or symbol in self.reloaded:
            found = self.load(symbol, place)
        elif level is Level.ROW:
            row = self.rows[symbol]
            found = row.like(splat(self.builder, row.value, place.lanes))
        else:
            equation = self.made_by[symbol]
            for result, element in zip(equation.outputs, self.evaluate(equation, place), strict=True):
                place.values[result] = element
            return place.values[symbol]
        place.values[symbol] = found
        return found

    def evaluate(self, equation: Equation, place: Place) -> Sequence[Element]:
        """Return the results of an equation at a Place."""
        try:
            return self._evaluate(equation, place)
        except Unsupported as reason:
            raise UnsupportedEquation(equation) from reason

    def _evaluate(self, equation: Equation, place: Place) -> Sequence[Element]:
        op = equation.op
        if op.name == "one_hot":
            return [self.one_hot(equation, place)]
        if op.name == "random_uniform":
            return [self.random_uniform(equation, place)]
        if op.name == "full":
            return [self.full(equation, place)]
        if is_gather(equation):
            return [self.gather(equation, place)]
        operands: list[Any] = [self.value(x, place) if isinstance(x, Symbol) else x for x in equation.inputs]
        if op.kind != "elementwise":  # a row-level value in another shape
            return operands
        return apply_rule(equation, operands)

    def evaluate_row(self, equation: Equation) -> None:
        """Compute an equation between row-level values."""
        place = Place(self.current_row, index(0), 1)
        operands: list[Any] = []
        for x in equation.inputs:
            if isinstance(x, Symbol):
                operands.append(self.rows[x] if x in self.rows else self.load_row(x, place))
            else:
                operands.append(x)
        results = apply_rule(equation, operands) if equation.op.kind == "elementwise" else operands[:1]
        self.rows.update(zip(equation.outputs, results, strict=True))

    def load_row(self, symbol: Symbol, place: Place) -> Element:
        """Load the current row's value of a Symbol from outside the Group, which broadcasts to the shape of rows."""
        memory = self.memory(symbol)
        layout = memory.layout
        if len(layout.shape) < len(self.shape):
            # Its axes are those of the Group without the last.
            layout = Layout((*layout.shape, 1), (*layout.strides, 0), layout.offset)
        return self.load_at(Memory(memory.pointer, layout, memory.dtype), place)

    def load_at(self, memory: Memory, place: Place) -> Element:
        """Load one element."""
        pointer, _ = self.address(memory, place)
        value = self.builder.load(pointer, typ=stored_type(memory.dtype), align=memory.dtype.itemsize)
        if memory.dtype == BOOL:
            value = self.builder.trunc(value, ir.IntType(1))
        return Element(self.builder, value, memory.dtype)

    # Elements that are computed from their index

    def columns(self, place: Place) -> Element:
        """Return the indices of the columns at a Place."""
        first = splat(self.builder, place.column, place.lanes)
        if place.lanes > 1:
            steps = ir.Constant(ir.VectorType(INDEX, place.lanes), list(range(place.lanes)))
            first = self.builder.add(first, steps)
        return Element(self.builder, first, INT64)

    def full(self, equation: Equation, place: Place) -> Element:
        """Return a constant in all lanes."""
        dtype = np.dtype(equation.attributes["dtype"])
        number = np.asarray(equation.attributes["value"]).astype(dtype).item()
        kind = scalar_type(dtype)
        return Element(self.builder, splat(self.builder, ir.Constant(kind, number), place.lanes), dtype)

    def one_hot(self, equation: Equation, place: Place) -> Element:
        """Return 1 where the column is the row's label, else 0; set the status flag if the label is out of range."""
        labels = equation.inputs[0]
        assert isinstance(labels, Symbol)
        classes = equation.attributes["classes"]
        memory = self.memory(labels)
        layout = Layout((*memory.layout.shape, 1), (*memory.layout.strides, 0), memory.layout.offset)
        label = NativeMaths.astype(self.load_at(Memory(memory.pointer, layout, memory.dtype), place), INT64)
        self.check(label, 0, classes)
        wanted = label.like(splat(self.builder, label.value, place.lanes))
        return NativeMaths.astype(self.columns(place) == wanted, np.dtype(equation.attributes["dtype"]))

    def gather(self, equation: Equation, place: Place) -> Element:
        """Return elements of the rows with the given indices; set the status flag if an index is out of range."""
        symbol = equation.inputs[0]
        assert isinstance(symbol, Symbol)
        source = self.memory(symbol)
        first, *strides = source.layout.strides
        builder = self.builder

        def row_of(place: ir.Value) -> ir.Value:
            """Return the offset of the row whose index is at a place among the row indices."""
            number = self.row_index(equation, place)
            safe = select(self.check(number, 0, symbol.shape[0]), number.coerce(0), number)
            return builder.mul(safe.value, index(first))

        kind = stored_type(source.dtype)
        if strides:
            size = math.prod(self.shape[1:-1])
            start = row_of(builder.udiv(place.row, index(size)))
            pointer = builder.gep(source.pointer, [start], source_etype=kind)
            return self.load_from(
                Memory(pointer, Layout(self.shape, (0, *strides), source.layout.offset), source.dtype), place
            )
        found = []
        for lane in range(place.lanes):
            start = row_of(builder.add(place.column, index(lane)))
            pointer = builder.gep(source.pointer, [builder.add(start, index(source.layout.offset))], source_etype=kind)
            found.append(builder.load(pointer, typ=kind, align=source.dtype.itemsize))
        value = found[0] if place.lanes == 1 else vector_of(builder, found, kind, place.lanes)
        if source.dtype == BOOL:
            value = builder.trunc(value, widened(ir.IntType(1), place.lanes))
        return Element(builder, value, source.dtype)

    def row_index(self, gather: Equation, place: ir.Value) -> Element:
        """Return the row index at a place among those of a gather, with negative ones counted from the first row."""
        source, numbers = gather.inputs
        assert isinstance(source, Symbol)
        assert isinstance(numbers, Symbol)
        memory, builder, kind = self.memory(numbers), self.builder, stored_type(numbers.dtype)
        (stride,) = memory.layout.strides
        offset = builder.add(builder.mul(place, index(stride)), index(memory.layout.offset))
        loaded = builder.load(builder.gep(memory.pointer, [offset], source_etype=kind), typ=kind)
        number = NativeMaths.astype(Element(builder, loaded, numbers.dtype), INT64)
        return select(number < 0, number + source.shape[0], number)

    def check(self, number: Element, low: int, high: int) -> Element:
        """Set the status flag if a number is not in [low, high); return whether it is not."""
        wrong = NativeMaths.logical_or(number < low, number >= high)
        with self.builder.if_then(wrong.value, likely=False):  # else threads would contend for its cache line
            self.builder.store(index(1), self.status)
        return wrong

    def check_range(self, numbers: Symbol, low: int, high: int) -> None:
        """Set the status flag if any element is out of range."""
        memory, columns = self.memory(numbers), self.shape[-1] if self.shape else 1

        def check_row(row: ir.Value) -> None:
            def check(column: ir.Value) -> None:
                self.check(NativeMaths.astype(self.load_at(memory, Place(row, column, 1)), INT64), low, high)

            self.loop(index(0), index(columns), 1, check)

        self.loop(index(0), index(math.prod(self.shape[:-1])), 1, check_row)

    def random_uniform(self, equation: Equation, place: Place) -> Element:
        """Return numbers from [0, 1), as `nissl.ops.random` defines them."""
        attributes, builder = equation.attributes, self.builder
        key, draw = equation.inputs
        assert isinstance(key, Symbol)
        assert isinstance(draw, Symbol)
        columns = self.shape[-1] if self.shape else 1
        first = builder.mul(place.row, index(columns))
        place_in_all = self.columns(place).like(
            builder.add(self.columns(place).value, splat(builder, first, place.lanes)), UINT64
        )
        low = place_in_all.coerce(0xFFFFFFFF)

        def word(symbol: Symbol, at: int) -> Element:
            memory = self.memory(symbol)
            pointer = builder.gep(memory.pointer, [index(memory.layout.offset + at)], source_etype=ir.IntType(32))
            number = builder.zext(builder.load(pointer, typ=ir.IntType(32), align=4), INDEX)
            return Element(builder, splat(builder, number, place.lanes), UINT64)

        counter = [_and(place_in_all, low), _right(place_in_all, 32), word(draw, 0), low.coerce(attributes["stream"])]
        words = _philox(counter, (word(key, 0), word(key, 1)))
        first_word, second_word = words[2 * attributes["half"] : 2 * attributes["half"] + 2]
        dtype = np.dtype(attributes["dtype"])
        if dtype == np.float32:
            return NativeMaths.astype(_right(first_word, 8).like(_right(first_word, 8).value, INT64), dtype) * 2.0**-24
        bits = _right(_or(_left(second_word, 32), first_word), 11)
        return NativeMaths.astype(bits.like(bits.value, INT64), dtype) * 2.0**-53


def apply_rule(equation: Equation, operands: Sequence[Any]) -> Sequence[Element]:
    """Return the results of an elementwise equation, in the dtypes of its outputs."""
    op = equation.op
    if op.rough:
        operands = [RoughElement(x.builder, x.value, x.dtype) if isinstance(x, Element) else x for x in operands]
    value = op.value(NativeMaths, *operands, **equation.attributes)
    results = value if op.outputs > 1 else (value,)
    if not all(isinstance(result, Element) for result in results):
        raise Unsupported(f"{op.name} of Python numbers alone")
    if op.rough:  # the rule of an optimizer: a new value and new state
        results = [results[0], *(state.flushed() for state in results[1:])]
    typed = [NativeMaths.astype(result, symbol.dtype) for result, symbol in zip(results, equation.outputs, strict=True)]
    return [Element(result.builder, result.value, result.dtype) for result in typed]


def _merged(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int, bool]]:
    """Return (size, stride, whether it is the first) of each axis, after merging axes that one stride can step over."""
    merged: list[tuple[int, int]] = []
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if merged and merged[-1][1] == stride * size:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return [(size, stride, i == 0) for i, (size, stride) in enumerate(merged)]


def _and(a: Element, b: Element) -> Element:
    return a.like(a.builder.and_(a.value, b.value))


def _or(a: Element, b: Element) -> Element:
    return a.like(a.builder.or_(a.value, b.value))


def _xor(a: Element, b: Element) -> Element:
    return a.like(a.builder.xor(a.value, b.value))


def _right(a: Element, amount: int) -> Element:
    return a.like(a.builder.lshr(a.value, a.coerce(amount).value))


def _left(a: Element, amount: int) -> Element:
    return a.like(a.builder.shl(a.value, a.coerce(amount).value))


def _philox(counter: Sequence[Element], key: tuple[Element, Element]) -> list[Element]:
    """Return what `nissl.ops.random.philox` does; the upper halves of words are cleared only where they matter."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    low = c0.coerce(0xFFFFFFFF)
    for _ in range(ROUNDS):
        p0, p1 = _and(c0, low) * int(MULTIPLIERS[0]), _and(c2, low) * int(MULTIPLIERS[1])
        c0, c1, c2, c3 = _xor(_xor(_right(p1, 32), c1), k0), p1, _xor(_xor(_right(p0, 32), c3), k1), p0
        k0, k1 = k0 + KEY_STEPS[0], k1 + KEY_STEPS[1]
    return [_and(word, low) for word in (c0, c1, c2, c3)]
