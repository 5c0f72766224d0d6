"""Matrix products: a tile of the result stays in registers while the inner axis is walked.

For each k, a few vectors of a row of B are loaded, and each of a few numbers of a column of A is multiplied with them
and added to the tile. Every element of the result is one sum over k, in order, so it does not depend on tiles. When a
tile is finished, the equations of the Group that the product leads are applied to it, before it leaves the registers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llvmlite import ir

from nissl.engines.native.emitter import Emitter, Memory, Place, Share, index
from nissl.engines.native.layout import Layout, contiguous
from nissl.engines.native.maths import Element, fma, scalar_type, splat, widened
from nissl.graph.graph import Symbol

# How many vectors of the result are in registers at once. Measured on AVX-512, which has 32 registers: 8 rows of 2.
TILE = 16
WIDEST = 2
# Measured: 1024³ takes 13 ms with the rows of B where they are, and 8 ms with 32 columns copied at a time.
FAR_APART = 1 << 19
ROWS_WORTH_A_COPY = 64


class Product:
    """Writes down the pass of a Group that a product leads."""

    def __init__(self, emitter: Emitter, stored: Sequence[Symbol], lanes: int, packed: ir.Value | None) -> None:
        self.emitter = emitter
        self.builder = emitter.builder
        self.group = emitter.group
        self.stored = stored
        self.lanes = lanes
        self.packed = packed
        leader = self.group.leader
        assert leader is not None
        a, b = leader.inputs
        assert isinstance(a, Symbol)
        assert isinstance(b, Symbol)
        self.result = leader.outputs[0]
        self.inner = a.shape[-1]
        *self.batch, self.rows, self.columns = self.group.shape
        self.a = self.operand(a, (self.rows, self.inner))
        self.b = self.operand(b, (self.inner, self.columns))
        vectors = -(-self.columns // lanes)
        self.width = min(vectors, WIDEST if self.rows >= TILE // WIDEST else max(TILE // self.rows, 1))
        self.height = min(self.rows, TILE // self.width)
        self.row_blocks = -(-self.rows // self.height)
        self.column_blocks = -(-self.columns // (self.width * lanes))

    def operand(self, symbol: Symbol, matrix: tuple[int, int]) -> Memory:
        """Return where an operand lies, repeated over the batch."""
        memory = self.emitter.memory(symbol)
        return Memory(memory.pointer, memory.layout.broadcast((*self.batch, *matrix)), memory.dtype)

    @property
    def units(self) -> int:
        """Into how many parts the pass can be divided: matrices, or blocks of rows or columns."""
        batches = math.prod(self.batch)
        return batches if batches > 1 else max(self.row_blocks, self.column_blocks)

    @property
    def by_rows(self) -> bool:
        """Whether one matrix is divided into blocks of rows, not of columns."""
        return self.row_blocks >= self.column_blocks

    def emit(self, share: Share) -> None:
        """Write down the pass, or a share of its units."""
        if math.prod(self.batch) > 1:
            self.emitter.loop(share.begin, share.end, 1, lambda batch: self.emit_matrix(batch, None))
        else:
            self.emit_matrix(index(0), share if self.units > 1 else None)

    def emit_matrix(self, batch: ir.Value, share: Share | None) -> None:
        """Write down one product of two matrices, or a share of its blocks."""
        a, b = (self.in_batch(operand, batch) for operand in (self.a, self.b))
        rows_share, columns_share = (share, None) if self.by_rows else (None, share)

        def column_block(column: ir.Value, columns: int) -> None:
            rest = columns % self.lanes
            widths = [self.lanes] * (columns // self.lanes) + ([rest] if rest else [])
            if self.packed is None:
                start = self.builder.mul(column, index(b.layout.strides[1]))
                first = self.builder.gep(b.pointer, [start], source_etype=scalar_type(b.dtype))
                block = Memory(first, b.layout, b.dtype)
            else:
                block = self.pack(b, column, columns)

            def row_block(row: ir.Value, count: int) -> None:
                self.tile(a, block, batch, row, count, column, widths)

            self.emitter.chunks(self.rows, self.height, row_block, rows_share)

        self.emitter.chunks(self.columns, self.width * self.lanes, column_block, columns_share)

    def in_batch(self, operand: Memory, batch: ir.Value) -> Memory:
        """Return where one matrix of an operand lies."""
        offset: ir.Value = index(operand.layout.offset)
        rest = batch
        for size, stride in reversed(list(zip(self.batch, operand.layout.strides, strict=False))):
            part = self.builder.urem(rest, index(size))
            rest = self.builder.udiv(rest, index(size))
            if stride:
                offset = self.builder.add(offset, self.builder.mul(part, index(stride)))
        pointer = self.builder.gep(operand.pointer, [offset], source_etype=scalar_type(operand.dtype))
        return Memory(pointer, Layout(operand.layout.shape[-2:], operand.layout.strides[-2:]), operand.dtype)

    def pack(self, b: Memory, column: ir.Value, width: int) -> Memory:
        """Copy some columns of B, so that they lie in one piece, row by row; return where they lie."""
        assert self.packed is not None
        builder, kind, size = self.builder, scalar_type(b.dtype), b.dtype.itemsize
        along_inner, along_columns = b.layout.strides

        def row(k: ir.Value) -> None:
            def chunk(place: ir.Value, lanes: int) -> None:
                columns = builder.mul(builder.add(column, place), index(along_columns))
                first = builder.gep(
                    b.pointer, [builder.add(builder.mul(k, index(along_inner)), columns)], source_etype=kind
                )
                if along_columns == 1:
                    vector = builder.load(first, typ=widened(kind, lanes), align=size)
                else:
                    vector = ir.Constant(widened(kind, lanes), ir.Undefined)
                    for lane in range(lanes):
                        source = builder.gep(first, [index(lane * along_columns)], source_etype=kind)
                        number = builder.load(source, typ=kind, align=size)
                        one = lanes == 1
                        vector = (
                            number if one else builder.insert_element(vector, number, ir.Constant(ir.IntType(32), lane))
                        )
                target = builder.add(builder.mul(k, index(width)), place)
                builder.store(vector, builder.gep(self.packed, [target], source_etype=kind), align=size)

            self.emitter.chunks(width, self.lanes, chunk)

        self.emitter.loop(index(0), index(self.inner), 1, row)
        return Memory(self.packed, contiguous((self.inner, width)), b.dtype)

    def tile(
        self,
        a: Memory,
        b: Memory,
        batch: ir.Value,
        row: ir.Value,
        height: int,
        column: ir.Value,
        widths: Sequence[int],
    ) -> None:
        """Write down one tile of the result: `height` rows, and vectors of these widths; `b` begins at its columns."""
        builder, dtype = self.builder, a.dtype
        kind, size = scalar_type(dtype), dtype.itemsize
        a_row, a_inner = a.layout.strides
        starts = [sum(widths[:i]) for i in range(len(widths))]
        a_first = builder.gep(a.pointer, [builder.mul(row, index(a_row))], source_etype=kind)

        before = builder.block
        body, after = builder.function.append_basic_block(), builder.function.append_basic_block()
        builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(index(0).type)
        k.add_incoming(index(0), before)
        sums = [[builder.phi(widened(kind, width)) for width in widths] for _ in range(height)]
        b_row = builder.gep(b.pointer, [builder.mul(k, index(b.layout.strides[0]))], source_etype=kind)
        vectors = []
        for start, width in zip(starts, widths, strict=True):
            pointer = builder.gep(b_row, [index(start)], source_etype=kind)
            vectors.append(Element(builder, builder.load(pointer, typ=widened(kind, width), align=size), dtype))
        a_column = builder.gep(a_first, [builder.mul(k, index(a_inner))], source_etype=kind)
        following = builder.add(k, index(1))
        for i, row_of_sums in enumerate(sums):
            pointer = builder.gep(a_column, [index(i * a_row)], source_etype=kind)
            number = builder.load(pointer, typ=kind, align=size)
            for total, vector, width in zip(row_of_sums, vectors, widths, strict=True):
                factor = Element(builder, splat(builder, number, width), dtype)
                new = fma(factor, vector, Element(builder, total, dtype))
                zero = ir.Constant(kind, 0.0) if width == 1 else ir.Constant(widened(kind, width), [0.0] * width)
                total.add_incoming(zero, before)
                total.add_incoming(new.value, builder.block)
                total.finished = new
        k.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, index(self.inner)), body, after)
        builder.position_at_end(after)

        first_row = builder.add(builder.mul(batch, index(self.rows)), row)
        for i, row_of_sums in enumerate(sums):
            for total, start, width in zip(row_of_sums, starts, widths, strict=True):
                place = Place(builder.add(first_row, index(i)), builder.add(column, index(start)), width)
                place.values[self.result] = total.finished
                self.finish(place)

    def finish(self, place: Place) -> None:
        """Apply the equations of the Group to a piece of the result, and store what is needed."""
        for symbol in self.group.levels:
            if symbol in self.stored:
                self.emitter.store(symbol, self.emitter.value(symbol, place), place)


def needs_packing(b: Symbol, layout: Layout, rows: int) -> bool:
    """Whether some columns of B are copied before they are used.

    They are if vectors of a row do not lie in one piece; and if B is large and its rows far apart, so that they fall
    into few places of the cache, unless there are too few rows of A to make up for the copy.
    """
    inner_stride, column_stride = layout.strides[-2:]
    scattered = b.shape[-2] * inner_stride * b.dtype.itemsize > FAR_APART and rows >= ROWS_WORTH_A_COPY
    return b.shape[-1] > 1 and (column_stride != 1 or scattered)


def packing_size(b: Symbol, lanes: int) -> int:
    """Return the bytes that packed columns take."""
    return b.shape[-2] * min(b.shape[-1], TILE * lanes) * b.dtype.itemsize
