"""Matrix products: a tile of the result stays in registers during the loop over the inner axis, k.

For each k, a few vectors of a row of B are loaded; each of a few elements of a column of A is multiplied with them and
added to the tile. Every element of the result is one sum over k, in order, so it does not depend on the tiling. The
equations of the Group are the epilogue: they are applied to each finished tile, before it leaves the registers.

Cache blocking: a piece of B, packed where that pays, stays in the L2 cache, a panel of A in L3 (Goto and van de Geijn,
"Anatomy of high-performance matrix multiplication", 2008). If B is narrow, all its columns stay there, and tiles are
computed in row-major order, with the rows of a transposed A packed where that pays. If the inner axis is too long for
either, it is split (K blocking), and a buffer, PartialSums, holds what is added up so far.

Rows of A that are taken by index are anywhere in memory: while a tile is computed, those of the next are prefetched.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from llvmlite import ir

from nissl.engines.native.emitter import INDEX, POINTER, Emitter, Memory, Place, Share, index
from nissl.engines.native.layout import Layout, contiguous
from nissl.engines.native.machine import second_level_cache_bytes, vector_registers
from nissl.engines.native.maths import Element, fma, scalar_type, splat, widened
from nissl.engines.native.memory import ALIGNMENT
from nissl.graph.graph import Symbol

# The most vectors in a tile: more would only make the code longer.
LARGEST_TILE = 16
# Bytes of a panel of A, of the buffer of partial sums, and at most of a piece of B, which takes a quarter of the L2
# cache. The latter two are on the stack.
A_PANEL_BYTES, PARTIAL_SUMS_BYTES, B_PIECE_BYTES = 1 << 22, 1 << 18, 1 << 18
# Whole rows of B are used if B_ROWS_BYTES hold all of them, or at least SMALLEST_K_BLOCK, as a block of K; the latter
# pays for loading and storing partial sums from MANY_ROWS rows of tiles on.
B_ROWS_BYTES, SMALLEST_K_BLOCK, MANY_ROWS = 1 << 18, 192, 16
# In sums of fewer terms, sequential access to memory matters more than reuse: tiles are one row high.
FEW_TERMS = 4
# With at most FEW_ROWS of A, a large B is read once: ROWS_IN_ORDER whole rows at a time, as they lie in memory, which
# the prefetcher follows. Large is more than B_ROWS_BYTES for one row of A, else twice that.
FEW_ROWS, ROWS_IN_ORDER = 4, 8
CACHE_LINE = 64  # bytes
# A piece of B is packed if it is used at least so often; rows of a transposed A are if a block of K is also longer than
# was measured to pay with this number of vector registers.
USES_OF_PACKED_B, USES_OF_PACKED_A, LENGTH_OF_PACKED_A = 5, 4, {16: 64, 32: 384}


@dataclass(eq=False)
class Left:
    """Some rows of A."""

    column: Callable[[ir.Value], list[ir.Value]]  # returns the addresses of their elements at a k
    # Emits, in the loop over k of the tile that begins at a column, prefetches of what the next rows need.
    prefetch: Callable[[ir.Value, ir.Value], None] | None = None


class Product:
    """Emits the pass of a Group led by a matrix product."""

    def __init__(self, emitter: Emitter, stored: Sequence[Symbol], lanes: int) -> None:
        self.emitter = emitter
        self.builder = emitter.builder
        self.group = emitter.group
        self.stored = stored
        self.lanes = lanes
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
        self.kind = scalar_type(b.dtype)
        size, scattered = b.dtype.itemsize, self.b.layout.strides[-1] != 1 and self.columns > 1
        self.height, self.width, self.rows_first, self.k_block = blocking(
            self.rows, self.inner, self.columns, lanes, size, scattered
        )
        self.row_blocks = -(-self.rows // self.height)
        self.column_blocks = -(-self.columns // self.width)
        self.by_rows = is_shared_by_rows(self.rows, self.columns, self.height, self.width)
        columns = self.column_blocks * self.width if self.rows_first else self.width
        packs_b = scattered or (self.row_blocks >= USES_OF_PACKED_B and self.column_blocks > 1)
        self.packed_b = self.stack_buffer(self.k_block * columns) if packs_b else None
        transposed = self.a.layout.strides[-1] != 1
        reused = self.rows_first and self.column_blocks >= USES_OF_PACKED_A
        packs_a = transposed and reused and self.k_block > LENGTH_OF_PACKED_A[vector_registers()]
        self.packed_a = self.stack_buffer(self.k_block * self.height) if packs_a else None
        # A fused gather takes rows of A, or where A is transposed, its columns: then the indices are along the inner
        # axis, and are kept for all tiles.
        gathers_columns = transposed and self.group.gather is not None
        self.row_indices = self.stack_buffer(self.inner, INDEX) if gathers_columns else None
        # The tiles of some rows that are computed one after the other by the same thread.
        self.tiles_beside = self.column_blocks if self.rows_first and self.by_rows else 1
        divided = self.k_block < self.inner
        self.partial_sums = PartialSums(self, PARTIAL_SUMS_BYTES // (columns * size), columns) if divided else None

    def operand(self, symbol: Symbol, matrix: tuple[int, int]) -> Memory:
        """Return the Memory of an operand, broadcast over the batch."""
        memory = self.emitter.memory(symbol)
        shape = (*self.batch, *matrix)
        *repeated, _, _ = memory.layout.broadcast(shape).strides
        # A single row keeps its stride, which a fused gather needs to reach other rows.
        layout = Layout(shape, (*repeated, *memory.layout.strides[-2:]), memory.layout.offset)
        return Memory(memory.pointer, layout, memory.dtype)

    @property
    def units(self) -> int:
        """The number of parts that threads can share: matrices, or blocks of rows or columns."""
        batches = math.prod(self.batch)
        if batches > 1:
            return batches
        return self.row_blocks if self.by_rows else self.column_blocks

    def emit(self, share: Share) -> None:
        """Emit the pass, or a share of its units."""
        if math.prod(self.batch) > 1:
            self.emitter.loop(share.begin, share.end, 1, lambda batch: self.emit_matrix(batch, None))
        else:
            self.emit_matrix(index(0), share if self.units > 1 else None)

    def emit_matrix(self, batch: ir.Value, share: Share | None) -> None:
        """Emit one product of two matrices, or a share of its blocks of rows or columns."""
        a, b = (self.in_batch(operand, batch) for operand in (self.a, self.b))
        rows, columns = Share(index(0), index(self.row_blocks)), Share(index(0), index(self.column_blocks))
        if share is not None:
            rows, columns = (share, columns) if self.by_rows else (rows, share)
        if self.row_indices is not None:
            self.emitter.loop(index(0), index(self.inner), 1, self.store_row_index)
        if self.rows_first:
            panel, compute = self.row_blocks, self.by_rows_of_tiles
        else:
            panel = max(A_PANEL_BYTES // (self.inner * self.b.dtype.itemsize * self.height), USES_OF_PACKED_B)
            compute = self.by_columns_of_tiles
        if self.partial_sums is not None:
            panel = min(panel, self.partial_sums.tiles)
        if panel < self.row_blocks and (self.column_blocks > 1 or self.partial_sums is not None):
            self.parts(rows, panel, lambda rows: compute(a, b, batch, rows, columns))
        else:
            compute(a, b, batch, rows, columns)

    def parts(self, share: Share, size: int, body: Callable[[Share], None]) -> None:
        """Emit a loop over a share, `size` units at a time."""

        def part(first: ir.Value) -> None:
            body(Share(first, self.least(self.builder.add(first, index(size)), share.end)))

        self.emitter.loop(share.begin, share.end, size, part)

    def by_rows_of_tiles(self, a: Memory, b: Memory, batch: ir.Value, rows: Share, columns: Share) -> None:
        """Emit a product with its tiles in row-major order."""

        def compute(k: ir.Value, steps: ir.Value) -> None:
            def piece_of(column: ir.Value, count: int) -> Memory:
                if self.packed_b is None:
                    return self.part_of(b, k, column)
                offset = self.builder.mul(column, index(self.k_block))
                first = self.builder.gep(self.packed_b, [offset], source_etype=self.kind)
                return Memory(first, contiguous((self.k_block, count)), b.dtype)

            def pack(column: ir.Value, count: int) -> None:
                self.pack(self.part_of(b, k, column), piece_of(column, count).pointer, steps, count)

            def row_block(row: ir.Value, height: int) -> None:
                left = self.left(a, row, k, height)
                if self.packed_a is not None:
                    left = self.pack_rows(left, steps, height)
                self.column_by_column(
                    columns,
                    lambda column, count: self.tile(
                        left, piece_of(column, count), steps, batch, row, height, column, count
                    ),
                )

            if self.packed_b is not None:
                self.column_by_column(columns, pack)
            self.row_by_row(rows, row_block)

        if self.partial_sums is None:
            compute(index(0), index(self.inner))
        else:
            self.partial_sums.over_k_blocks(
                rows, functools.partial(self.column_by_column, columns), index(0), batch, compute
            )

    def by_columns_of_tiles(self, a: Memory, b: Memory, batch: ir.Value, rows: Share, columns: Share) -> None:
        """Emit a product with its tiles in column-major order."""

        def column_block(column: ir.Value, count: int) -> None:
            def compute(k: ir.Value, steps: ir.Value) -> None:
                piece = self.part_of(b, k, column)
                if self.packed_b is not None:
                    piece = self.pack(piece, self.packed_b, steps, count)

                def row_block(row: ir.Value, height: int) -> None:
                    self.tile(self.left(a, row, k, height), piece, steps, batch, row, height, column, count)

                self.row_by_row(rows, row_block)

            if self.partial_sums is None:
                compute(index(0), index(self.inner))
            else:
                self.partial_sums.over_k_blocks(rows, lambda body: body(column, count), column, batch, compute)

        self.column_by_column(columns, column_block)

    def row_by_row(self, share: Share, body: Callable[[ir.Value, int], None]) -> None:
        """Emit a loop over the rows of a share of blocks, one tile height at a time."""
        self.emitter.chunks(self.rows, self.height, body, share)

    def column_by_column(self, share: Share, body: Callable[[ir.Value, int], None]) -> None:
        """Emit a loop over the columns of a share of blocks, one tile width at a time."""
        self.emitter.chunks(self.columns, self.width, body, share)

    def widths(self, columns: int) -> list[int]:
        """Return the lengths of the vectors that some columns are divided into."""
        rest = columns % self.lanes
        return [self.lanes] * (columns // self.lanes) + ([rest] if rest else [])

    def in_batch(self, operand: Memory, batch: ir.Value) -> Memory:
        """Return the Memory of one matrix of an operand."""
        offset: ir.Value = index(operand.layout.offset)
        rest = batch
        for size, stride in reversed(list(zip(self.batch, operand.layout.strides, strict=False))):
            part = self.builder.urem(rest, index(size))
            rest = self.builder.udiv(rest, index(size))
            if stride:
                offset = self.builder.add(offset, self.builder.mul(part, index(stride)))
        pointer = self.builder.gep(operand.pointer, [offset], source_etype=self.kind)
        return Memory(pointer, Layout(operand.layout.shape[-2:], operand.layout.strides[-2:]), operand.dtype)

    def part_of(self, matrix: Memory, row: ir.Value, column: ir.Value) -> Memory:
        """Return the part of a matrix that begins at a row and a column."""
        builder = self.builder
        along_rows, along_columns = (
            builder.mul(place, index(stride))
            for place, stride in zip((row, column), matrix.layout.strides, strict=True)
        )
        pointer = builder.gep(matrix.pointer, [builder.add(along_rows, along_columns)], source_etype=self.kind)
        return Memory(pointer, matrix.layout, matrix.dtype)

    def left(self, a: Memory, row: ir.Value, first: ir.Value, height: int) -> Left:
        """Return some rows of A, with k counted from the column `first`."""
        if self.group.gather is None:
            part = self.part_of(a, row, first)
            return Left(lambda k: self.apart(self.part_of(part, index(0), k).pointer, a.layout.strides[0], height))
        return (self.gathered_rows if self.row_indices is None else self.gathered_columns)(a, row, first, height)

    def gathered_rows(self, a: Memory, row: ir.Value, first: ir.Value, height: int) -> Left:
        """Return some rows of A that are gathered from anywhere, which only a prefetch can bring near in time."""
        builder, gather = self.builder, self.group.gather
        assert gather is not None

        def start(row: ir.Value) -> Memory:
            return self.part_of(a, self.emitter.row_index(gather, row).value, first)

        starts = [start(builder.add(row, index(i))) for i in range(height)]
        share = -(-height // self.tiles_beside)  # of the next rows, for each of the tiles of these

        def prefetch(k: ir.Value, column: ir.Value) -> None:
            first_row = builder.add(row, index(height))
            if self.tiles_beside > 1:
                tile = builder.udiv(column, index(self.width))
                first_row = builder.add(first_row, builder.mul(tile, index(share)))
            with self.if_multiple(k, CACHE_LINE // self.b.dtype.itemsize):
                for i in range(share):
                    ahead = self.least(builder.add(first_row, index(i)), index(self.rows - 1))
                    self.emitter.prefetch(self.part_of(start(ahead), index(0), k).pointer)

        return Left(lambda k: [self.part_of(memory, index(0), k).pointer for memory in starts], prefetch)

    def gathered_columns(self, a: Memory, row: ir.Value, first: ir.Value, height: int) -> Left:
        """Return some rows of a transposed A whose columns are gathered."""
        builder = self.builder

        def address(row: ir.Value, k: ir.Value) -> ir.Value:
            row_index = builder.load(self.row_index_address(builder.add(first, k)), typ=INDEX)
            return self.part_of(a, row, row_index).pointer

        def prefetch(k: ir.Value, column: ir.Value) -> None:
            # The last of the next rows, as the first may be in the same cache line as these.
            ahead = self.least(builder.add(row, index(2 * height - 1)), index(self.rows - 1))
            tile = builder.udiv(column, index(self.width))
            with self.if_multiple(builder.add(k, tile), self.tiles_beside):
                self.emitter.prefetch(address(ahead, k))

        return Left(lambda k: self.apart(address(row, k), 1, height), prefetch)

    def if_multiple(self, number: ir.Value, of: int) -> contextlib.AbstractContextManager[ir.Block]:
        """Emit a block that runs only for multiples of a number."""
        rest = self.builder.urem(number, index(of))
        return self.builder.if_then(self.builder.icmp_signed("==", rest, index(0)))

    def least(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the lesser of two indices."""
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def store_row_index(self, k: ir.Value) -> None:
        """Store the row index at k, as a nonnegative number, on the stack."""
        assert self.group.gather is not None
        self.builder.store(self.emitter.row_index(self.group.gather, k).value, self.row_index_address(k))

    def row_index_address(self, k: ir.Value) -> ir.Value:
        """Return the address of the row index at k."""
        return self.builder.gep(self.row_indices, [k], source_etype=INDEX)

    def apart(self, pointer: ir.Value, stride: int, count: int) -> list[ir.Value]:
        """Return the addresses of elements that are `stride` elements apart."""
        return [self.builder.gep(pointer, [index(i * stride)], source_etype=self.kind) for i in range(count)]

    def pack_rows(self, left: Left, steps: ir.Value, height: int) -> Left:
        """Pack the rows of A for a tile, so that the elements of one k are contiguous."""
        builder = self.builder

        def place(k: ir.Value) -> list[ir.Value]:
            start = builder.gep(self.packed_a, [builder.mul(k, index(height))], source_etype=self.kind)
            return self.apart(start, 1, height)

        def pack(k: ir.Value) -> None:
            vector = self.load(left.column(k)[0], height, self.a.layout.strides[-2])
            builder.store(vector, place(k)[0], align=self.b.dtype.itemsize)

        self.emitter.loop(index(0), steps, 1, pack)
        return Left(place, left.prefetch)

    def stack_buffer(self, size: int, kind: ir.Type | None = None) -> ir.Value:
        """Return a buffer on the stack, so that each thread has its own."""
        builder = self.builder
        builder.function.attributes.add("noinline")  # so that buffers of several products are not on the stack at once
        with builder.goto_entry_block():
            buffer = builder.alloca(ir.ArrayType(kind or self.kind, size))
        buffer.align = ALIGNMENT
        buffer.type = POINTER  # llvmlite types it as a pointer to the whole array
        return buffer

    def pack(self, source: Memory, place: ir.Value, rows: ir.Value, width: int) -> Memory:
        """Pack some rows, contiguously, at an address; return their Memory."""
        builder = self.builder
        target = Memory(place, contiguous((self.k_block, width)), source.dtype)

        def copy_row(k: ir.Value) -> None:
            def chunk(column: ir.Value, lanes: int) -> None:
                vector = self.load(self.part_of(source, k, column).pointer, lanes, source.layout.strides[1])
                builder.store(vector, self.part_of(target, k, column).pointer, align=source.dtype.itemsize)

            self.emitter.chunks(width, min(self.lanes, width), chunk)

        self.emitter.loop(index(0), rows, 1, copy_row)
        return target

    def load(self, pointer: ir.Value, lanes: int, stride: int = 1) -> ir.Value:
        """Load a vector whose elements are `stride` elements apart."""
        builder, size = self.builder, self.b.dtype.itemsize
        if stride == 1 or lanes == 1:
            return builder.load(pointer, typ=widened(self.kind, lanes), align=size)
        vector = ir.Constant(widened(self.kind, lanes), ir.Undefined)
        for lane in range(lanes):
            number = builder.load(builder.gep(pointer, [index(lane * stride)], source_etype=self.kind), typ=self.kind)
            vector = builder.insert_element(vector, number, ir.Constant(ir.IntType(32), lane))
        return vector

    def tile(
        self,
        left: Left,
        b: Memory,
        steps: ir.Value,
        batch: ir.Value,
        row: ir.Value,
        height: int,
        column: ir.Value,
        count: int,
    ) -> None:
        """Emit a tile of the result, or its partial sums; `left` are its rows of A, `b` begins at its columns."""
        widths = self.widths(count)
        if self.partial_sums is None:
            self.finish(self.sums(left, b, steps, self.zeros(height, widths), column), batch, row, column)
        else:
            place = self.partial_sums.place(row, column)
            before = self.partial_sums.load_tile(place, height, widths)
            self.partial_sums.store_tile(place, self.sums(left, b, steps, before, column))

    def zeros(self, height: int, widths: list[int]) -> list[list[ir.Value]]:
        """Return the initial sums of a tile."""
        return [[_zero(widened(self.kind, width)) for width in widths] for _ in range(height)]

    def sums(
        self, left: Left, b: Memory, steps: ir.Value, before: list[list[ir.Value]], column: ir.Value
    ) -> list[list[ir.Value]]:
        """Emit the inner loop: add the products of some columns of A and rows of B to the sums of a tile."""
        builder, dtype, size = self.builder, self.b.dtype, self.b.dtype.itemsize
        widths = [_lanes(vector) for vector in before[0]]
        starts = [sum(widths[:i]) for i in range(len(widths))]
        entry = builder.block
        body, after = builder.function.append_basic_block(), builder.function.append_basic_block()
        builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(index(0).type)
        k.add_incoming(index(0), entry)
        sums = [[builder.phi(vector.type) for vector in row] for row in before]
        if left.prefetch is not None:
            left.prefetch(k, column)  # first, as it branches: what is loaded before would not stay in registers
        b_row = self.part_of(b, k, index(0)).pointer
        vectors = [
            Element(builder, self.load(builder.gep(b_row, [index(start)], source_etype=self.kind), width), dtype)
            for start, width in zip(starts, widths, strict=True)
        ]
        addresses = left.column(k)
        following = builder.add(k, index(1))
        results: list[list[ir.Value]] = []
        for address, row in zip(addresses, sums, strict=True):
            number = builder.load(address, typ=self.kind, align=size)
            results.append([])
            for total, vector, width in zip(row, vectors, widths, strict=True):
                factor = Element(builder, splat(builder, number, width), dtype)
                results[-1].append(fma(factor, vector, Element(builder, total, dtype)).value)
        for total, start, result in zip(*map(chain.from_iterable, (sums, before, results)), strict=True):
            total.add_incoming(start, entry)
            total.add_incoming(result, builder.block)
        k.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, steps), body, after)
        builder.position_at_end(after)
        return results

    def finish(self, sums: list[list[ir.Value]], batch: ir.Value, row: ir.Value, column: ir.Value) -> None:
        """Apply the equations of the Group to a tile, and store what is needed."""
        builder = self.builder
        first_row = builder.add(builder.mul(batch, index(self.rows)), row)
        for i, vectors in enumerate(sums):
            start = 0
            for vector in vectors:
                lanes = _lanes(vector)
                place = Place(builder.add(first_row, index(i)), builder.add(column, index(start)), lanes)
                place.values[self.result] = Element(builder, vector, self.b.dtype)
                # All are computed before the first store, which may overwrite an operand of another.
                results = [(s, self.emitter.value(s, place)) for s in self.group.levels if s in self.stored]
                for symbol, element in results:
                    self.emitter.store(symbol, element, place)
                start += lanes


class PartialSums:
    """A buffer for the partial sums of tiles, used when the inner axis is split."""

    def __init__(self, product: Product, rows: int, columns: int) -> None:
        self.product = product
        self.tiles = max(min(rows // product.height, product.row_blocks), 1)  # rows of tiles that fit
        shape = (self.tiles * product.height, columns)
        self.memory = Memory(product.stack_buffer(math.prod(shape)), contiguous(shape), product.b.dtype)

    def over_k_blocks(
        self,
        rows: Share,
        over_columns: Callable[[Callable[[ir.Value, int], None]], None],
        first_column: ir.Value,
        batch: ir.Value,
        compute: Callable[[ir.Value, ir.Value], None],
    ) -> None:
        """Emit some rows and columns of tiles: clear them, `compute(k, steps)` for each block of K, finish them."""
        p, builder = self.product, self.product.builder
        self.first = builder.mul(rows.begin, index(p.height)), first_column

        def everywhere(body: Callable[[ir.Value, int, ir.Value, int], None]) -> None:
            p.row_by_row(rows, lambda row, height: over_columns(lambda column, count: body(row, height, column, count)))

        def begin(row: ir.Value, height: int, column: ir.Value, count: int) -> None:
            self.store_tile(self.place(row, column), p.zeros(height, p.widths(count)))

        def block(k: ir.Value) -> None:
            compute(k, p.least(builder.sub(index(p.inner), k), index(p.k_block)))

        def finish(row: ir.Value, height: int, column: ir.Value, count: int) -> None:
            p.finish(self.load_tile(self.place(row, column), height, p.widths(count)), batch, row, column)

        everywhere(begin)
        p.emitter.loop(index(0), index(p.inner), p.k_block, block)
        everywhere(finish)

    def place(self, row: ir.Value, column: ir.Value) -> ir.Value:
        """Return the address of the sums of a tile."""
        first_row, first_column = self.first
        builder = self.product.builder
        return self.product.part_of(self.memory, builder.sub(row, first_row), builder.sub(column, first_column)).pointer

    def load_tile(self, place: ir.Value, height: int, widths: list[int]) -> list[list[ir.Value]]:
        """Load the sums of a tile."""
        return [
            [self.product.load(self.at(place, i, sum(widths[:j])), width) for j, width in enumerate(widths)]
            for i in range(height)
        ]

    def store_tile(self, place: ir.Value, sums: list[list[ir.Value]]) -> None:
        """Store the sums of a tile."""
        for i, vectors in enumerate(sums):
            start = 0
            for vector in vectors:
                self.product.builder.store(vector, self.at(place, i, start), align=self.memory.dtype.itemsize)
                start += _lanes(vector)

    def at(self, place: ir.Value, row: int, column: int) -> ir.Value:
        """Return the address of an element of a tile."""
        offset = index(row * self.memory.layout.strides[0] + column)
        return self.product.builder.gep(place, [offset], source_etype=self.product.kind)


def _lanes(vector: ir.Value) -> int:
    return vector.type.count if isinstance(vector.type, ir.VectorType) else 1


def _zero(kind: ir.Type) -> ir.Constant:
    return ir.Constant(kind, [0.0] * kind.count if isinstance(kind, ir.VectorType) else 0.0)


def blocking(
    rows: int, inner: int, columns: int, lanes: int, itemsize: int, scattered: bool
) -> tuple[int, int, bool, int]:
    """Return the height and width of tiles, whether they come in row-major order, and the length of a block of K.

    `scattered` says that the rows of B are not contiguous. If whole rows of B stay in the cache, tiles are computed in
    row-major order, so that arrays in the order of the result are accessed sequentially: above all, the parameters and
    moments that an optimizer updates.
    """
    height, vectors = tile_shape(1 if inner < FEW_TERMS else rows, -(-columns // lanes), vector_registers())
    width = vectors * lanes
    whole = -(-columns // width) * width  # the columns of all tiles
    near, piece = B_ROWS_BYTES // itemsize, min(second_level_cache_bytes() // 4, B_PIECE_BYTES) // itemsize
    large = inner >= FEW_TERMS and inner * whole > near * (1 if rows == 1 else 2)
    fits = height * whole * itemsize <= PARTIAL_SUMS_BYTES  # on the stack
    in_order = rows <= FEW_ROWS and large and fits and not scattered
    many_rows = -(-rows // height) >= MANY_ROWS
    rows_first = in_order or inner * whole <= near or (SMALLEST_K_BLOCK * whole <= near and many_rows)
    longest = max(ROWS_IN_ORDER if in_order else near // whole if rows_first else piece // width, 1)
    blocks = -(-inner // longest)
    return height, width, rows_first, -(-inner // blocks)


def is_shared_by_rows(rows: int, columns: int, height: int, width: int) -> bool:
    """Whether threads share the blocks of rows of a result, not those of columns.

    Each thread reads all of B if they share rows, all of A if they share columns. All should read the smaller one, as
    long as the shares are equal enough.
    """

    def largest_share(size: int, block: int) -> float:
        blocks = -(-size // block)
        return sum(min(-(-blocks // threads) * block, size) for threads in (2, 4)) / size

    return rows > columns or largest_share(rows, height) < largest_share(columns, width)


@functools.cache
def tile_shape(rows: int, vectors: int, registers: int) -> tuple[int, int]:
    """Return the height, and the width in vectors, of the tiles of a result that take the least estimated time.

    A tile needs registers for its sums, for its part of a row of B, and for an element of A. Among equals, the highest
    reads the least of B.
    """
    best, least = (1, 1), (math.inf, 0)
    for height in range(1, min(rows, LARGEST_TILE) + 1):
        for width in range(1, min(vectors, LARGEST_TILE // height) + 1):
            if height * width + (width if height > 1 else 1) + 1 > registers:
                continue
            cycles = sum(
                many * times * tile_cycles(h, w)
                for h, many in ((height, rows // height), (rows % height, 1))
                for w, times in ((width, vectors // width), (vectors % width, 1))
            )
            if (cycles, -height) < least:
                best, least = (height, width), (cycles, -height)
    return best


def tile_cycles(height: int, width: int) -> float:
    """Return the estimated cycles of a tile for each k.

    Two fused multiply-adds start per cycle, with a latency of 4 cycles. Measured: an element of A costs half a cycle to
    load, a vector of B, which comes from the L2 cache, one and a half.
    """
    return max(height * width / 2, 4, height / 2 + 1.5 * width) if height and width else 0
