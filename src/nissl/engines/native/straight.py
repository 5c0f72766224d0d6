"""Tiny programs: a graph whose values all fit into registers becomes straight-line vector code.

Each value is one vector of all its elements. Movements, broadcasts and the operands of a product are shuffles of such
vectors. NumPy computes their masks: a movement applied to the indices 0, 1, 2, ... gives the source of each element.
All inputs are loaded before anything is stored, so every update can be in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from nissl.engines.native.emitter import INDEX, INT64, Memory, UnsupportedEquation, apply_rule, index
from nissl.engines.native.kernels import Straight, is_gather
from nissl.engines.native.loops import COMBINE
from nissl.engines.native.maths import (
    BOOL,
    BYTE,
    Element,
    NativeMaths,
    Unsupported,
    constant,
    fma,
    scalar_type,
    select,
    stored_type,
    widened,
)
from nissl.graph.graph import Equation, Symbol

INT32 = ir.IntType(32)
Pattern = npt.NDArray[np.int64]


class StraightLine:
    """Emits all equations of a tiny program."""

    def __init__(
        self, builder: ir.IRBuilder, kernel: Straight, memory: Callable[[Symbol], Memory], status: ir.Value
    ) -> None:
        self.builder = builder
        self.kernel = kernel
        self.memory = memory
        self.status = status
        self.values: dict[Symbol, Element] = {}

    def emit(self, stored: Sequence[Symbol]) -> None:
        """Emit the loads, the equations, and the stores, which run only if no label was out of range."""
        gathered = {e.inputs[0] for e in self.kernel.equations if is_gather(e)}
        for symbol in self.kernel.inputs:
            if symbol not in gathered:
                self.values[symbol] = self.load(symbol)
        for equation in self.kernel.equations:
            try:
                self.values.update(zip(equation.outputs, self.evaluate(equation), strict=True))
            except Unsupported as reason:
                raise UnsupportedEquation(equation) from reason
        status = self.builder.load(self.status, typ=INDEX)
        with self.builder.if_then(self.builder.icmp_signed("==", status, index(0)), likely=True):
            for symbol in stored:
                self.store(symbol)

    def load(self, symbol: Symbol) -> Element:
        """Load an input."""
        memory = self.memory(symbol)
        return self.load_from(memory.pointer, symbol.size, symbol.dtype)

    def load_from(self, pointer: ir.Value, lanes: int, dtype: np.dtype[Any]) -> Element:
        """Load contiguous elements."""
        kind = stored_type(dtype)
        value = self.builder.load(pointer, typ=widened(kind, lanes), align=dtype.itemsize)
        if dtype == BOOL:
            value = self.builder.trunc(value, widened(ir.IntType(1), lanes))
        return Element(self.builder, value, dtype)

    def store(self, symbol: Symbol) -> None:
        """Store a result."""
        value = self.values[symbol].value
        if symbol.dtype == BOOL:
            value = self.builder.zext(value, widened(BYTE, symbol.size))
        self.builder.store(value, self.memory(symbol).pointer, align=symbol.dtype.itemsize)

    def evaluate(self, equation: Equation) -> Sequence[Element]:
        """Return the results of an equation."""
        op, result = equation.op, equation.outputs[0]
        if op.kind == "elementwise":
            spread = [self.spread(x, result.shape) if isinstance(x, Symbol) else x for x in equation.inputs]
            return apply_rule(equation, spread)
        if is_gather(equation):
            return [self.gather(equation)]
        rule = getattr(self, op.kind if op.kind in ("movement", "reduce") else op.name)
        return [rule(equation, *(self.values[x] for x in equation.inputs if isinstance(x, Symbol)))]

    # Shuffles

    def chosen(self, element: Element, pattern: Pattern, fill: float = 0) -> Element:
        """Shuffle: return the elements at the indices in a pattern, with `fill` where the index is negative."""
        pattern = pattern.reshape(-1)
        if pattern.size == element.lanes and (pattern == np.arange(pattern.size)).all():
            return element
        if pattern.size == 1 and element.lanes == 1:
            return element
        value = element.value
        if element.lanes == 1:
            kind = ir.VectorType(value.type, 1)
            value = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT32, 0))
        if pattern.size == 1:
            return element.like(self.builder.extract_element(value, ir.Constant(INT32, int(pattern[0]))))
        number = np.asarray(fill).astype(element.dtype)
        filling = constant(value.type, float(number) if element.floating else int(number))
        places = [int(place) if place >= 0 else element.lanes for place in pattern]
        mask = ir.Constant(ir.VectorType(INT32, len(places)), places)
        return element.like(self.builder.shuffle_vector(value, filling, mask))

    def spread(self, symbol: Symbol, shape: Sequence[int]) -> Element:
        """Return the elements of a Symbol broadcast to a shape."""
        return self.chosen(self.values[symbol], np.broadcast_to(_numbers(symbol.shape), shape))

    def joined(self, parts: Sequence[Element]) -> Element:
        """Return the concatenated elements of several values."""
        total = sum(part.lanes for part in parts)
        whole, filled = self.chosen(parts[0], _padded(parts[0].lanes, 0, total)), parts[0].lanes
        for part in parts[1:]:
            places = np.arange(total)
            beyond = places + total - filled  # in the mask, the part's elements follow all `total` of the whole
            mask = np.where((places >= filled) & (places < filled + part.lanes), beyond, places)
            other = self.chosen(part, _padded(part.lanes, 0, total))
            shuffle = ir.Constant(ir.VectorType(INT32, total), mask.tolist())
            whole = whole.like(self.builder.shuffle_vector(whole.value, other.value, shuffle))
            filled += part.lanes
        return whole

    # Ops that are not elementwise

    def movement(self, equation: Equation, *operands: Element) -> Element:
        """Shuffle the elements as the movement shuffles their indices."""
        if equation.op.name == "concat":
            joined, sizes = self.joined(operands), [x.lanes for x in operands]
            starts = np.cumsum([0, *sizes[:-1]])
            numbers = [
                _numbers(x.shape) + start
                for x, start in zip(equation.inputs, starts, strict=True)
                if isinstance(x, Symbol)
            ]
            return self.chosen(joined, equation.op.value(*numbers, **equation.attributes))
        (symbol,) = equation.inputs
        assert isinstance(symbol, Symbol)
        attributes, fill = dict(equation.attributes), 0.0
        if equation.op.name == "pad":
            fill, attributes["value"] = attributes["value"], -1
        return self.chosen(operands[0], equation.op.value(_numbers(symbol.shape), **attributes), fill)

    def index(self, equation: Equation, x: Element) -> Element:
        """Take a slice."""
        return self.movement(equation, x)

    def index_add(self, equation: Equation, x: Element) -> Element:
        """Put the input into a slice of zeros."""
        (symbol,) = equation.inputs
        assert isinstance(symbol, Symbol)
        return self.chosen(x, equation.op.value(_numbers(symbol.shape) + 1, **equation.attributes) - 1)

    def full(self, equation: Equation) -> Element:
        """Return a constant in all lanes."""
        (result,) = equation.outputs
        number = np.asarray(equation.attributes["value"]).astype(result.dtype).item()
        kind = widened(scalar_type(result.dtype), result.size)
        return Element(self.builder, constant(kind, number), result.dtype)

    def reduce(self, equation: Equation, x: Element) -> Element:
        """Reduce the elements over some axes by combining halves."""
        (symbol,), (result,) = equation.inputs, equation.outputs
        assert isinstance(symbol, Symbol)
        axes = equation.attributes["axes"]
        places = np.moveaxis(_numbers(symbol.shape), axes, range(-len(axes), 0)).reshape(result.size, -1)
        combine, count = COMBINE[equation.op.name], places.shape[1]
        value = self.chosen(NativeMaths.astype(x, result.dtype), places.T)
        while count > 1:
            half, rest = count // 2, count % 2
            numbers = np.arange(count * result.size).reshape(count, result.size)
            halves = [self.chosen(value, numbers[start : start + half]) for start in (0, half)]
            last = self.chosen(value, numbers[2 * half :]) if rest else None
            value = combine(*halves)
            if last is not None:
                value = self.joined([value, last]) if half > 1 else combine(value, last)
            count = half + (rest if half > 1 else 0)
        return value

    def matmul(self, equation: Equation, a: Element, b: Element) -> Element:
        """Return the sum over k of column k of A times row k of B."""
        x, y = equation.inputs
        assert isinstance(x, Symbol)
        assert isinstance(y, Symbol)
        shape = equation.outputs[0].shape
        left, right = _numbers(x.shape), _numbers(y.shape)
        total: Element | None = None
        for k in range(x.shape[-1]):
            factors = (
                self.chosen(a, np.broadcast_to(left[..., :, k, None], shape)),
                self.chosen(b, np.broadcast_to(right[..., None, k, :], shape)),
            )
            if total is None:
                total = factors[0] * factors[1]
            else:
                total = fma(*factors, total) if total.floating else total + factors[0] * factors[1]
        assert total is not None
        return total

    def one_hot(self, equation: Equation, labels: Element) -> Element:
        """Return rows with 1 at the row's label, else 0; set the status flag if a label is out of range."""
        (symbol,), classes = equation.inputs, equation.attributes["classes"]
        assert isinstance(symbol, Symbol)
        labels = NativeMaths.astype(labels, INT64)
        self.check(labels, 0, classes)
        rows = self.chosen(labels, np.repeat(_numbers(symbol.shape).reshape(-1), classes))
        columns = rows.like(_constants(rows.value.type, np.tile(np.arange(classes), symbol.size)))
        return NativeMaths.astype(rows == columns, np.dtype(equation.attributes["dtype"]))

    def gather(self, equation: Equation) -> Element:
        """Load the rows with the given indices from memory; set the status flag if an index is out of range."""
        source, numbers = equation.inputs
        assert isinstance(source, Symbol)
        assert isinstance(numbers, Symbol)
        rows, width = source.shape[0], math.prod(source.shape[1:])
        found = NativeMaths.astype(self.values[numbers], INT64)
        wrong = self.check(found, -rows, rows)
        found = select(found < 0, found + rows, found)
        found = select(wrong, found.coerce(0), found)
        pointer, parts = self.memory(source).pointer, []
        kind = stored_type(source.dtype)
        for i in range(numbers.size):
            place = self.builder.mul(self.chosen(found, np.array([i])).value, index(width))
            first = self.builder.gep(pointer, [place], source_etype=kind)
            parts.append(self.load_from(first, width, source.dtype))
        return self.joined(parts)

    def check(self, numbers: Element, low: int, high: int) -> Element:
        """Set the status flag if a number is not in [low, high); return which are not."""
        wrong = NativeMaths.logical_or(numbers < low, numbers >= high)
        bits = self.builder.bitcast(wrong.value, ir.IntType(wrong.lanes))
        before = self.builder.load(self.status, typ=INDEX)
        some = self.builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))
        self.builder.store(self.builder.or_(before, self.builder.zext(some, INDEX)), self.status)
        return wrong


def _constants(kind: ir.Type, numbers: Pattern) -> ir.Constant:
    return ir.Constant(kind, numbers.tolist() if isinstance(kind, ir.VectorType) else int(numbers[0]))


def _numbers(shape: Sequence[int]) -> Pattern:
    """Return the flat index of each element of a shape, as an array of that shape."""
    return np.arange(math.prod(shape)).reshape(shape)


def _padded(lanes: int, start: int, total: int) -> Pattern:
    """Return the pattern that places `lanes` elements from `start` on, with zeros elsewhere."""
    places = np.arange(total) - start
    return np.where((places >= 0) & (places < lanes), places, -1)
