"""Passes over the elements of a shape: row by row, and each row in stages.

A stage is a loop over the columns of a row. It ends where the result of a reduction over the row is needed: the softmax
of a row takes three, for the maximum, the sum and the division. What a later stage needs again stays in registers if
the row is short; in a long row it is reloaded if it is stored, else recomputed.

Each stage waits for the one before, and in a short row each takes longer to finish than to begin. So the stages of
some short rows alternate: while one row waits, the CPU works on the others.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llvmlite import ir

from nissl.engines.native.emitter import INT64, Emitter, Place, Share, index
from nissl.engines.native.kernels import SHORT_ROW, Level, Stages
from nissl.engines.native.maths import BOOL, Element, NativeMaths, constant, scalar_type, select, stored_type, widened
from nissl.engines.native.rules import is_costly
from nissl.graph.graph import Equation, Symbol

# Short rows take turns, as many as have this many vectors together. Measured on a Zen 5: softmaxes of 200 rows of 10
# classes take 7.4 µs one by one, 5.3 by fours, and 4.7 by sixes or eights, whose code is longer.
VECTORS_IN_TURN = 4
# A long row is added up in so many parts, side by side.
PARTS_OF_A_SUM = 4


@dataclass(eq=False)
class Row:
    """A row of a pass: what is known of it while its stages are emitted."""

    number: ir.Value
    accumulators: dict[Equation, Accumulator]
    values: dict[Symbol, Element] = field(default_factory=dict)  # row-level
    places: dict[tuple[int, int], Place] = field(default_factory=dict)  # if it is short, by column and lanes


class Loops:
    """Emits the pass of a Group without a matrix product."""

    def __init__(self, emitter: Emitter, stored: Sequence[Symbol], lanes: int) -> None:
        self.emitter = emitter
        self.builder = emitter.builder
        self.group = emitter.group
        self.stored = stored
        self.lanes = lanes
        self.stages = Stages(self.group)
        self.totals: dict[Equation, Accumulator] = {}
        if emitter.is_flat():
            emitter.flatten()
        self.columns = emitter.shape[-1] if emitter.shape else 1
        self.short = self.columns <= SHORT_ROW * lanes
        self.parts = 1 if self.short or any(map(is_costly, self.group.equations)) else PARTS_OF_A_SUM
        self.rows = math.prod(emitter.shape[:-1])
        # A single row, and reductions over rows, are divided among threads by columns.
        self.by_columns = self.rows == 1 or Level.COLUMN in self.group.levels.values()
        self.share: Share | None = None

    @property
    def units(self) -> int:
        """The number of parts that threads can share: rows, or chunks of columns; 1 if a reduction would be split."""
        levels = self.group.levels.values()
        if Level.TOTAL in levels or (self.by_columns and (self.short or Level.ROW in levels)):
            return 1
        return -(-self.columns // self.lanes) if self.by_columns else self.rows

    def emit(self, share: Share) -> None:
        """Emit the pass, or a share of its units."""
        self.share = share if self.units > 1 else None
        for equation in self.reductions(Level.COLUMN):
            self.clear(equation)
        self.totals = self.accumulators(Level.TOTAL)
        for total in self.totals.values():
            total.begin()
        if self.rows == 1:
            self.emit_rows(index(0), 1)
        elif self.share is None or self.by_columns:
            self.over_rows(index(0), index(self.rows))
        else:
            self.over_rows(self.share.begin, self.share.end)
        for equation, total in self.totals.items():
            self.emitter.store_row(equation.outputs[0], total.finish(), index(0))

    def reductions(self, level: Level) -> list[Equation]:
        """Return the reductions whose results are of a level."""
        return [equation for equation in self.stages.reductions if self.group.levels[equation.outputs[0]] is level]

    def accumulators(self, level: Level) -> dict[Equation, Accumulator]:
        """Return new accumulators for the reductions whose results are of a level."""
        return {e: accumulator(e, self.builder, self.lanes, self.parts) for e in self.reductions(level)}

    def over_rows(self, begin: ir.Value, end: ir.Value) -> None:
        """Emit a loop over rows, some at once."""
        at_once = max(VECTORS_IN_TURN // -(-self.columns // self.lanes), 1) if self.stages.count > 1 else 1
        if at_once > 1:
            builder = self.builder
            whole = builder.mul(builder.sdiv(builder.sub(end, begin), index(at_once)), index(at_once))
            middle = builder.add(begin, whole)
            self.emitter.loop(begin, middle, at_once, lambda first: self.emit_rows(first, at_once))
            begin = middle
        self.emitter.loop(begin, end, 1, lambda row: self.emit_rows(row, 1))

    def emit_rows(self, first: ir.Value, count: int) -> None:
        """Emit all stages of some rows, in turn."""
        numbers = [self.builder.add(first, index(i)) if i else first for i in range(count)]
        rows = [Row(number, {**self.totals, **self.accumulators(Level.ROW)}) for number in numbers]
        self.emitter.reloaded = set()
        for stage in range(self.stages.count):
            for row in rows:
                self.emit_stage(stage, row)

    def emit_stage(self, stage: int, row: Row) -> None:
        """Emit a stage of a row."""
        emitter = self.emitter
        emitter.current_row, emitter.rows = row.number, row.values
        for equation in self.group.equations:
            self.finish_for_row(equation, stage, row)
        work = self.work(stage, row)
        if not work:
            return

        def chunk(column: ir.Value, lanes: int) -> None:
            place = Place(row.number, column, lanes)
            if self.short:
                place = row.places.setdefault((column.constant, lanes), place)
            for each in work:
                each(place)

        if self.short:
            for start in range(0, self.columns, self.lanes):
                chunk(index(start), min(self.lanes, self.columns - start))
        else:
            adds = any(e in row.accumulators and when == stage for e, when in self.stages.reductions.items())
            self.over_columns(chunk, self.parts if adds else 1)
            emitter.reloaded |= {s for s in self.stored if self.stages.of.get(s, -1) == stage and self.is_element(s)}

    def over_columns(self, chunk: Callable[[ir.Value, int], None], at_once: int) -> None:
        """Emit a loop over the columns of a long row, or of a thread's share of it, some vectors at once."""
        lanes = self.lanes

        def chunks(column: ir.Value, count: int) -> None:
            for start in range(0, count, lanes):
                chunk(self.builder.add(column, index(start)) if start else column, min(lanes, count - start))

        if self.by_columns and self.share is not None:
            self.emitter.chunks(self.columns, lanes, chunk, self.share)
        else:
            self.emitter.chunks(self.columns, lanes * at_once, chunks)

    def is_element(self, symbol: Symbol) -> bool:
        """Whether a result is at element level."""
        return self.group.levels[symbol] is Level.ELEMENT

    def finish_for_row(self, equation: Equation, stage: int, row: Row) -> None:
        """Compute a row-level result if it is ready when a stage begins; initialize a reduction of that stage."""
        result = equation.outputs[0]
        if self.group.levels[result] is not Level.ROW:
            return
        if self.stages.reductions.get(equation) == stage:
            row.accumulators[equation].begin()
        if self.stages.of[result] != stage:
            return
        if equation in self.stages.reductions:
            row.values[result] = row.accumulators[equation].finish()
        else:
            self.emitter.evaluate_row(equation)
        for symbol in equation.outputs:
            if symbol in self.stored:
                self.emitter.store_row(symbol, row.values[symbol], row.number)

    def work(self, stage: int, row: Row) -> list[Callable[[Place], None]]:
        """Return the actions at each Place of a stage: compute, store, accumulate."""
        stored = [s for s in self.stored if self.stages.of.get(s) == stage and self.is_element(s)]
        added = [equation for equation, when in self.stages.reductions.items() if when == stage]

        def compute(place: Place) -> None:
            # Before any store, which may overwrite an operand of another value.
            for symbol in (*stored, *(equation.inputs[0] for equation in added)):
                self.emitter.value(symbol, place)  # type: ignore[arg-type]

        work: list[Callable[[Place], None]] = [compute] if stored or added else []
        work.extend(functools.partial(self.store, symbol) for symbol in stored)
        work.extend(functools.partial(self.accumulate, equation, row) for equation in added)
        return work

    def store(self, symbol: Symbol, place: Place) -> None:
        """Compute and store a result."""
        self.emitter.store(symbol, self.emitter.value(symbol, place), place)

    def accumulate(self, equation: Equation, row: Row, place: Place) -> None:
        """Accumulate the elements at a Place into a reduction."""
        source, result = equation.inputs[0], equation.outputs[0]
        assert isinstance(source, Symbol)
        element = self.emitter.value(source, place)
        if self.group.levels[result] is not Level.COLUMN:
            row.accumulators[equation].add(element, self.emitter.columns(place))
            return
        memory = self.emitter.memory(result)
        pointer = self.builder.gep(memory.pointer, [place.column], source_etype=stored_type(memory.dtype))
        before = self.builder.load(
            pointer, typ=widened(stored_type(memory.dtype), place.lanes), align=memory.dtype.itemsize
        )
        if memory.dtype == BOOL:
            before = self.builder.trunc(before, widened(ir.IntType(1), place.lanes))
        element = NativeMaths.astype(element, result.dtype)
        combined = COMBINE[equation.op.name](element.like(before), element).value
        if memory.dtype == BOOL:
            combined = self.builder.zext(combined, widened(ir.IntType(8), place.lanes))
        self.builder.store(combined, pointer, align=memory.dtype.itemsize)

    def clear(self, equation: Equation) -> None:
        """Initialize the results of a reduction over rows."""
        (result,) = equation.outputs
        memory = self.emitter.memory(result)
        start = _start(equation.op.name, result.dtype)
        kind = stored_type(memory.dtype)

        def body(column: ir.Value, lanes: int) -> None:
            pointer = self.builder.gep(memory.pointer, [column], source_etype=kind)
            self.builder.store(constant(widened(kind, lanes), start), pointer, align=memory.dtype.itemsize)

        self.emitter.chunks(self.columns, self.lanes, body, self.share)


COMBINE: dict[str, Callable[[Element, Element], Element]] = {
    "sum": lambda a, b: a + b,
    "max": NativeMaths.maximum,
    "min": NativeMaths.minimum,
}


def _start(name: str, dtype: np.dtype[Any]) -> float:
    """Return the initial value of a reduction."""
    if name == "sum":
        return 0
    lowest = name in ("max", "argmax")
    if dtype.kind == "f":
        return -math.inf if lowest else math.inf
    if dtype.kind == "b":
        return int(not lowest)
    limits = np.iinfo(dtype)
    return int(limits.min if lowest else limits.max)


class Accumulator:
    """Reduces elements, a vector at a time, in an order that depends only on their number.

    What it knows of the elements so far is its state: one Element, or several, of which the last is the result. Vectors
    are added to several parts in turn, each with a state of its own, as each addition waits for the one before.
    """

    def __init__(self, equation: Equation, builder: ir.IRBuilder, lanes: int, parts: int) -> None:
        self.name = equation.op.name
        self.source = equation.inputs[0].dtype  # type: ignore[union-attr]
        self.result = equation.outputs[0].dtype
        self.builder = builder
        self.lanes = lanes
        self.starts = self.initial()
        self.parts = [self.variables(lanes) for _ in range(parts)]
        self.turns = itertools.cycle(self.parts)
        self.rest = self.variables(1)

    def initial(self) -> list[tuple[np.dtype[Any], float]]:
        """Return the dtypes of the state, and its numbers before any element."""
        return [(self.result, _start(self.name, self.result))]

    def state(self, element: Element, columns: Element) -> list[Element]:
        """Return the state of elements, each alone."""
        return [NativeMaths.astype(element, self.result)]

    def combine(self, before: Sequence[Element], new: Sequence[Element]) -> list[Element]:
        """Return the state of two parts."""
        return [COMBINE[self.name](before[0], new[0])]

    def variables(self, lanes: int) -> list[ir.Value]:
        """Return stack slots for a state, which LLVM promotes to registers."""
        with self.builder.goto_entry_block():
            return [self.builder.alloca(widened(scalar_type(dtype), lanes)) for dtype, _ in self.starts]

    def begin(self) -> None:
        """Initialize the accumulator."""
        for variables, lanes in (*((part, self.lanes) for part in self.parts), (self.rest, 1)):
            for variable, (dtype, start) in zip(variables, self.starts, strict=True):
                self.builder.store(constant(widened(scalar_type(dtype), lanes), start), variable)

    def load(self, variables: Sequence[ir.Value], lanes: int) -> list[Element]:
        """Load a state."""
        kinds = [(dtype, widened(scalar_type(dtype), lanes)) for dtype, _ in self.starts]
        return [
            Element(self.builder, self.builder.load(variable, typ=kind), dtype)
            for variable, (dtype, kind) in zip(variables, kinds, strict=True)
        ]

    def add(self, element: Element, columns: Element) -> None:
        """Accumulate some elements."""
        new = self.state(element, columns)
        if element.lanes == self.lanes:
            variables = next(self.turns)
        else:
            new, variables = self.reduce_lanes(new), self.rest
        before = self.load(variables, new[0].lanes)
        for variable, number in zip(variables, self.combine(before, new), strict=True):
            self.builder.store(number.value, variable)

    def finish(self) -> Element:
        """Return the result."""
        vectors = functools.reduce(self.combine, (self.load(part, self.lanes) for part in self.parts))
        return self.combine(self.reduce_lanes(vectors), self.load(self.rest, 1))[-1]

    def reduce_lanes(self, state: Sequence[Element]) -> list[Element]:
        """Reduce the lanes of vectors by combining halves."""
        state = list(state)
        while (lanes := state[0].lanes) > 1:
            half = lanes // 2
            low = [_lanes(element, list(range(half))) for element in state]
            high = [_lanes(element, list(range(half, 2 * half))) for element in state]
            combined = self.combine(low, high)
            if lanes % 2:
                last = [_lanes(element, [lanes - 1]) for element in state]
                first = self.combine([_lanes(element, [0]) for element in combined], last)
                combined = first if half == 1 else list(map(_with_first, combined, first))
            state = combined
        return state


def _lanes(element: Element, chosen: list[int]) -> Element:
    builder = element.builder
    if len(chosen) == 1:
        if element.lanes == 1:
            return element
        return element.like(builder.extract_element(element.value, ir.Constant(ir.IntType(32), chosen[0])))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(chosen)), chosen)
    return element.like(builder.shuffle_vector(element.value, element.value, mask))


def _with_first(element: Element, first: Element) -> Element:
    return element.like(element.builder.insert_element(element.value, first.value, ir.Constant(ir.IntType(32), 0)))


class ArgReduction(Accumulator):
    """Finds the index of the first largest or smallest element; a NaN counts as both, as in NumPy."""

    def initial(self) -> list[tuple[np.dtype[Any], float]]:
        """Return the dtypes of the best element so far and of its index, and an index after all others."""
        return [(self.source, _start(self.name, self.source)), (INT64, np.iinfo(INT64).max)]

    def state(self, element: Element, columns: Element) -> list[Element]:
        """Return elements with their indices."""
        return [element, columns]

    def combine(self, before: Sequence[Element], new: Sequence[Element]) -> list[Element]:
        """Return the better element of two, and its index: the lesser one of equals."""
        (best, where), (number, column) = before, new
        better, worse = (number > best, number < best) if self.name == "argmax" else (number < best, number > best)
        if number.floating:
            is_nan, was_nan = number != number, best != best
            better = NativeMaths.logical_or(better, NativeMaths.logical_and(is_nan, best == best))
            worse = NativeMaths.logical_or(worse, NativeMaths.logical_and(was_nan, number == number))
        sooner = NativeMaths.logical_and(column < where, NativeMaths.logical_not(worse))
        better = NativeMaths.logical_or(better, sooner)
        return [select(better, number, best), select(better, column, where)]


def accumulator(equation: Equation, builder: ir.IRBuilder, lanes: int, parts: int) -> Accumulator:
    """Return the accumulator of a reduction."""
    kind = ArgReduction if equation.op.name.startswith("arg") else Accumulator
    return kind(equation, builder, lanes, parts)
