"""Matrix products: a tile of the result stays in registers during the loop over the inner axis, k.

For each k, a few vectors of a row of B are loaded; each of a few elements of a column of A is multiplied with them and
added to the tile. Every element of the result is one sum over k, in order, or a few that are added, if the last columns
are folded (folding.py). The equations of the Group are the epilogue: they are applied to each finished tile, before it
leaves the registers.

How large the tiles and what is packed is chosen in tiling.py. If the inner axis is split (K blocking), a buffer,
PartialSums, holds what is added up so far.

Rows of A that are taken by index are anywhere in memory: while a tile is computed, those of the next are prefetched.
And before a tile, what its epilogue reads: of a parameter and its moments, so many rows that the CPU follows none.

Subnormal numbers count as 0 (`takes_subnormals_as_zero`). A network that is sure of its answers has probabilities, and
with them gradients, that are subnormal, and CPUs need longer for such numbers: a training step took a fifth longer.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import numpy as np
from llvmlite import ir

from nissl.engines.native.emitter import INDEX, INT64, POINTER, Emitter, Memory, Place, Share, index
from nissl.engines.native.folding import Fold
from nissl.engines.native.kernels import Group, Kernel
from nissl.engines.native.layout import Layout, contiguous
from nissl.engines.native.machine import second_level_cache_bytes
from nissl.engines.native.maths import Element, constant, fma, load_apart, scalar_type, splat, vector_of, widened
from nissl.engines.native.memory import ALIGNMENT
from nissl.engines.native.rules import is_costly, tally
from nissl.engines.native.tiling import STACK_BYTES, tiling
from nissl.graph.graph import Symbol

CACHE_LINE = 64  # bytes
# The operands of the epilogue are prefetched if they are larger than the L2 cache by this factor.
FAR = 1.25
# An epilogue of at least so many operations takes long to compile: at the edges of a result, it is a loop over the rows
# of a tile. (Everywhere it would be, a training step took 5 % longer.)
LONG_EPILOGUE = 8


def takes_subnormals_as_zero(kernel: Kernel) -> bool:
    """Whether a kernel is a product in whose arithmetic subnormal numbers count as 0.

    Not if its epilogue has exponentials or the like, which are exact for such numbers too. And not in float64, where a
    probability is subnormal only 708 below the largest logit.
    """
    if not isinstance(kernel, Group) or kernel.leader is None or kernel.leader.outputs[0].dtype != np.float32:
        return False
    return not any(map(is_costly, kernel.equations))


Sums = list[list[ir.Value]]  # the vectors of each row of a tile


@dataclass(eq=False)
class Left:
    """Some rows of A."""

    addresses: Callable[[ir.Value], list[ir.Value]]  # of their elements at a k
    # Emits prefetches of what the next rows need: in the loop of a tile, at a k, by its number among those of its rows.
    prefetch: Callable[[ir.Value, ir.Value], None] | None = None


@dataclass(eq=False)
class Right:
    """Some columns of B."""

    memory: Memory
    folded: ir.Value | None = None  # the address of the last of them, if they are folded; then not in `memory`


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
        transposed = self.a.layout.strides[-1] != 1
        # A fused gather takes rows of A, or where A is transposed, its columns: then the indices are along the inner
        # axis, and are kept for all tiles.
        gathers_columns = transposed and self.group.gather is not None
        self.tiling = chosen = tiling(
            self.rows,
            self.inner,
            self.columns,
            lanes,
            b.dtype.itemsize,
            transposed=transposed,
            scattered=self.b.layout.strides[-1] != 1 and self.columns > 1,
            contiguous=1 in self.a.layout.strides[-2:],
        )
        rest = self.columns % lanes
        self.fold = Fold(rest, chosen.fold, lanes, not transposed) if chosen.fold > 1 else None
        self.on_stack = 0  # bytes
        self.packed_b = self.stack_buffer(chosen.k_block * chosen.columns_at_once, b.dtype) if chosen.packs_b else None
        self.packed_a = self.stack_buffer(chosen.k_block * chosen.height, b.dtype) if chosen.packs_a else None
        self.row_indices = self.stack_buffer(self.inner, INT64) if gathers_columns else None
        # The tiles of some rows that are computed one after the other by the same thread.
        self.tiles_beside = chosen.column_blocks if chosen.rows_first and chosen.shared_by_rows else 1
        self.partial_sums = PartialSums(self) if chosen.k_block < self.inner else None
        # A single column is contiguous: the epilogue takes the rows of a tile as lanes.
        self.is_column = self.columns == 1 and self.group.gather is None and emitter.is_flat()
        if self.is_column:
            emitter.flatten()
        self.far_operands = self.operands_far_away()
        operations = sum(tally(e).operations for e in self.group.equations if e.op.kind == "elementwise")
        self.has_long_epilogue = operations >= LONG_EPILOGUE

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
        return self.tiling.row_blocks if self.tiling.shared_by_rows else self.tiling.column_blocks

    def emit(self, share: Share) -> None:
        """Emit the pass, or a share of its units."""
        if math.prod(self.batch) > 1:
            self.emitter.loop(share.begin, share.end, 1, lambda batch: self.emit_matrix(batch, None))
        else:
            self.emit_matrix(index(0), share if self.units > 1 else None)

    def emit_matrix(self, batch: ir.Value, share: Share | None) -> None:
        """Emit one product of two matrices, or a share of its blocks of rows or columns."""
        a, b = (self.in_batch(operand, batch) for operand in (self.a, self.b))
        chosen = self.tiling
        rows, columns = Share(index(0), index(chosen.row_blocks)), Share(index(0), index(chosen.column_blocks))
        if share is not None:
            rows, columns = (share, columns) if chosen.shared_by_rows else (rows, share)
        if self.row_indices is not None:
            self.emitter.loop(index(0), index(self.inner), 1, self.store_row_index)
        compute = self.row_major if chosen.rows_first else self.column_major

        def panel(first: ir.Value) -> None:
            end = self.emitter.least(self.builder.add(first, index(chosen.panel)), rows.end)
            compute(a, b, batch, Share(first, end), columns)

        if chosen.panel < chosen.row_blocks:
            self.emitter.loop(rows.begin, rows.end, chosen.panel, panel)
        else:
            compute(a, b, batch, rows, columns)

    def row_major(self, a: Memory, b: Memory, batch: ir.Value, rows: Share, columns: Share) -> None:
        """Emit a product with its tiles in row-major order."""

        def compute(k: ir.Value, steps: ir.Value) -> None:
            def piece_of(column: ir.Value, count: int) -> Right:
                if self.packed_b is None:
                    return Right(self.part_of(b, k, column))
                offset = self.builder.mul(column, index(self.tiling.k_block))
                return self.packed(self.builder.gep(self.packed_b, [offset], source_etype=self.kind), count)

            def pack(column: ir.Value, count: int) -> None:
                self.pack(self.part_of(b, k, column), piece_of(column, count), steps, count)

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

    def column_major(self, a: Memory, b: Memory, batch: ir.Value, rows: Share, columns: Share) -> None:
        """Emit a product with its tiles in column-major order."""

        def column_block(column: ir.Value, count: int) -> None:
            def compute(k: ir.Value, steps: ir.Value) -> None:
                part = self.part_of(b, k, column)
                piece = Right(part)
                if self.packed_b is not None:
                    piece = self.packed(self.packed_b, count)
                    self.pack(part, piece, steps, count)

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
        self.emitter.chunks(self.rows, self.tiling.height, body, share)

    def column_by_column(self, share: Share, body: Callable[[ir.Value, int], None]) -> None:
        """Emit a loop over the columns of a share of blocks, one tile width at a time."""
        self.emitter.chunks(self.columns, self.tiling.width, body, share, self.tiling.last_width if self.fold else None)

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

    def left(self, a: Memory, row: ir.Value, first_k: ir.Value, height: int) -> Left:
        """Return some rows of A, with k counted from a first one."""
        if self.group.gather is None:
            part = self.part_of(a, row, first_k)
            return Left(lambda k: self.apart(self.part_of(part, index(0), k).pointer, a.layout.strides[0], height))
        return (self.gathered_rows if self.row_indices is None else self.gathered_columns)(a, row, first_k, height)

    def gathered_rows(self, a: Memory, row: ir.Value, first_k: ir.Value, height: int) -> Left:
        """Return some rows of A that are gathered from anywhere, which only a prefetch can bring near in time."""
        builder, gather = self.builder, self.group.gather
        assert gather is not None

        def start(row: ir.Value) -> Memory:
            return self.part_of(a, self.emitter.row_index(gather, row).value, first_k)

        starts = [start(builder.add(row, index(i))) for i in range(height)]
        rows_each = -(-height // self.tiles_beside)  # of the next, that each of the tiles of these rows prefetches

        def prefetch(k: ir.Value, tile: ir.Value) -> None:
            first_row = builder.add(row, index(height))
            if self.tiles_beside > 1:
                first_row = builder.add(first_row, builder.mul(tile, index(rows_each)))
            with self.if_multiple(k, CACHE_LINE // self.b.dtype.itemsize):
                for i in range(rows_each):
                    ahead = self.emitter.least(builder.add(first_row, index(i)), index(self.rows - 1))
                    self.emitter.prefetch(self.part_of(start(ahead), index(0), k).pointer)

        return Left(lambda k: [self.part_of(memory, index(0), k).pointer for memory in starts], prefetch)

    def gathered_columns(self, a: Memory, row: ir.Value, first_k: ir.Value, height: int) -> Left:
        """Return some rows of a transposed A whose columns are gathered."""
        builder = self.builder

        def address(row: ir.Value, k: ir.Value) -> ir.Value:
            row_index = builder.load(self.row_index_address(builder.add(first_k, k)), typ=INDEX)
            return self.part_of(a, row, row_index).pointer

        def prefetch(k: ir.Value, tile: ir.Value) -> None:
            # The last of the next rows, as the first may be in the same cache line as these.
            ahead = self.emitter.least(builder.add(row, index(2 * height - 1)), index(self.rows - 1))
            with self.if_multiple(builder.add(k, tile), self.tiles_beside):
                self.emitter.prefetch(address(ahead, k))

        return Left(lambda k: self.apart(address(row, k), 1, height), prefetch)

    def if_multiple(self, number: ir.Value, of: int) -> contextlib.AbstractContextManager[ir.Block]:
        """Emit a block that runs only for multiples of a number."""
        rest = self.builder.urem(number, index(of))
        return self.builder.if_then(self.builder.icmp_signed("==", rest, index(0)))

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
            vector = self.load(left.addresses(k)[0], height, self.a.layout.strides[-2])
            builder.store(vector, place(k)[0], align=self.b.dtype.itemsize)

        self.emitter.loop(index(0), steps, 1, pack)
        return Left(place, left.prefetch)

    def stack_buffer(self, size: int, dtype: np.dtype[Any]) -> ir.Value:
        """Return a buffer on the stack, so that each thread has its own."""
        builder = self.builder
        self.on_stack += size * dtype.itemsize
        assert self.on_stack <= STACK_BYTES
        builder.function.attributes.add("noinline")  # so that buffers of several products are not on the stack at once
        with builder.goto_entry_block():
            buffer = builder.alloca(ir.ArrayType(scalar_type(dtype), size))
        buffer.align = ALIGNMENT
        buffer.type = POINTER  # llvmlite types it as a pointer to the whole array
        return buffer

    def packed(self, place: ir.Value, count: int) -> Right:
        """Return what some columns of B are once they are packed at an address."""
        length = self.tiling.k_block
        fold = self.fold if count % self.lanes else None
        if fold is None:
            return Right(Memory(place, contiguous((length, count)), self.b.dtype))
        others = count - fold.columns
        folded = self.builder.gep(place, [index(length * others)], source_etype=self.kind)
        return Right(Memory(place, contiguous((length, others)), self.b.dtype), folded)

    def pack(self, source: Memory, target: Right, rows: ir.Value, count: int) -> None:
        """Pack some rows of some columns of B."""
        builder, (_, width) = self.builder, target.memory.layout.shape

        def load(k: ir.Value, column: ir.Value, lanes: int) -> ir.Value:
            return self.load(self.part_of(source, k, column).pointer, lanes, source.layout.strides[1])

        def copy_row(k: ir.Value) -> None:
            def chunk(column: ir.Value, lanes: int) -> None:
                place = self.part_of(target.memory, k, column).pointer
                builder.store(load(k, column, lanes), place, align=source.dtype.itemsize)

            self.emitter.chunks(width, min(self.lanes, width), chunk)

        self.emitter.loop(index(0), rows, 1, copy_row)
        if (fold := self.fold) is None or target.folded is None:
            return

        def copy_folded(k: ir.Value) -> None:
            last = builder.sub(rows, index(1))  # which is read again where there are no more
            places = [self.emitter.least(builder.add(k, index(i)), last) for i in range(fold.k_step)]
            found = [load(place, index(width), fold.columns) for place in places]
            vector = fold.pack(builder, found * (fold.times // fold.k_step))
            builder.store(vector, self.folded_at(target, k)[0], align=source.dtype.itemsize)

        self.emitter.loop(index(0), rows, fold.k_step, copy_folded)

    def folded_at(self, right: Right, k: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return where the vector of the folded columns at a k is, and in it, the element of the first column."""
        assert self.fold is not None
        first = self.builder.urem(k, index(self.fold.k_step))
        number = self.builder.udiv(k, index(self.fold.k_step))
        vector = self.builder.gep(right.folded, [self.builder.mul(number, index(self.lanes))], source_etype=self.kind)
        return vector, self.builder.gep(vector, [first], source_etype=self.kind)

    def load(self, pointer: ir.Value, lanes: int, stride: int = 1) -> ir.Value:
        """Load a vector whose elements are `stride` elements apart."""
        builder, size = self.builder, self.b.dtype.itemsize
        if stride == 1 or lanes == 1:
            return builder.load(pointer, typ=widened(self.kind, lanes), align=size)
        return load_apart(builder, pointer, self.kind, lanes, stride, size)

    def tile(
        self,
        left: Left,
        right: Right,
        steps: ir.Value,
        batch: ir.Value,
        row: ir.Value,
        height: int,
        column: ir.Value,
        count: int,
    ) -> None:
        """Emit a tile of the result, or its partial sums; `left` are its rows of A, `right` its columns of B."""
        widths = self.widths(count)

        def prefetch(k: ir.Value) -> None:
            if left.prefetch is not None:
                left.prefetch(k, self.builder.udiv(column, index(self.tiling.width)))

        if self.partial_sums is None:
            self.prefetch_operands(batch, row, height, column, count)
            self.finish(self.sums(left, right, steps, self.zeros(height, widths), prefetch), batch, row, column)
        else:
            place = self.partial_sums.place(row, column)
            before = self.partial_sums.load_tile(place, height, widths)
            self.partial_sums.store_tile(place, self.sums(left, right, steps, before, prefetch))

    def operands_far_away(self) -> list[Memory]:
        """Return what the epilogue reads for each element of the result, unless the L2 cache may hold it all."""
        used = dict.fromkeys(x for e in self.group.equations for x in e.inputs if isinstance(x, Symbol))
        found = [self.emitter.memory(symbol) for symbol in used if symbol not in self.group.levels]
        found = [memory for memory in found if memory.layout.unbroken and memory.layout.shape == self.group.shape]
        size = sum(math.prod(memory.layout.shape) * memory.dtype.itemsize for memory in found)
        return found if size > FAR * second_level_cache_bytes() else []

    def prefetch_operands(self, batch: ir.Value, row: ir.Value, height: int, column: ir.Value, count: int) -> None:
        """Ask for what the epilogue of a tile reads from far away."""
        builder = self.builder
        first_row = builder.add(builder.mul(batch, index(self.rows)), row)
        for memory in self.far_operands:
            for i in range(height):
                for start in range(0, count, CACHE_LINE // memory.dtype.itemsize):
                    place = Place(builder.add(first_row, index(i)), builder.add(column, index(start)), 1)
                    self.emitter.prefetch(self.emitter.address(memory, place)[0])

    def zeros(self, height: int, widths: list[int]) -> Sums:
        """Return the initial sums of a tile."""
        return [[constant(widened(self.kind, width), 0.0) for width in widths] for _ in range(height)]

    def sums(self, left: Left, right: Right, steps: ir.Value, sums: Sums, prefetch: Callable[[ir.Value], None]) -> Sums:
        """Emit the inner loops: add the products of some columns of A and rows of B to the sums of a tile."""
        fold, begin = self.fold, index(0)
        if fold is not None and right.folded is not None and (fold.along_k or len(sums) % fold.times == 0):
            begin = self.builder.sub(steps, self.builder.urem(steps, index(fold.k_step)))
            sums = self.folded_sums(fold, left, right, begin, sums, prefetch)
            if self.inner % fold.k_step == 0 and self.tiling.k_block % fold.k_step == 0:
                return sums

        def add(k: ir.Value, sums: Sums) -> Sums:
            prefetch(k)  # first, as it branches: what is loaded before would not stay in registers
            return self.add_products(left.addresses(k), self.vectors(right, k, list(map(_lanes, sums[0]))), sums)

        return self.accumulate(begin, steps, 1, sums, add)

    def folded_sums(
        self, fold: Fold, left: Left, right: Right, steps: ir.Value, sums: Sums, prefetch: Callable[[ir.Value], None]
    ) -> Sums:
        """Emit the inner loop of a tile whose last columns are folded, over a multiple of the k that a vector holds."""
        builder, dtype, height = self.builder, self.b.dtype, len(sums)
        others = [row[:-1] for row in sums]
        widths = list(map(_lanes, others[0]))
        rows_each = 1 if fold.along_k else fold.times
        folded = self.zeros(height // rows_each, [self.lanes])

        def add(k: ir.Value, sums: Sums) -> Sums:
            prefetch(k)
            others, folded = sums[:height], sums[height:]
            addresses = left.addresses(k)
            b = Element(builder, self.load(self.folded_at(right, k)[0], self.lanes), dtype)
            for i, (address, (total,)) in enumerate(zip(addresses[::rows_each], folded, strict=True)):
                a = Element(builder, fold.spread(builder, self.load(address, fold.times)), dtype)
                folded[i] = [fma(a, b, Element(builder, total, dtype)).value]
            for i in range(fold.k_step):
                each = builder.add(k, index(i))
                vectors = self.vectors(Right(right.memory), each, widths)
                others = self.add_products(left.addresses(each) if i else addresses, vectors, others)
            return [*others, *folded]

        results = self.accumulate(index(0), steps, fold.k_step, [*others, *folded], add)
        rows = chain.from_iterable(fold.rows(builder, vector) for (vector,) in results[height:])
        return [
            [*row, builder.fadd(before[-1], last)]
            for row, before, last in zip(results[:height], sums, rows, strict=True)
        ]

    def vectors(self, right: Right, k: ir.Value, widths: Sequence[int]) -> list[ir.Value]:
        """Load the row of some columns of B at a k."""
        first = self.part_of(right.memory, k, index(0)).pointer
        plain = widths if right.folded is None else widths[:-1]
        places = [self.builder.gep(first, [index(start)], source_etype=self.kind) for start in starts_of(plain)]
        vectors = [self.load(place, width) for place, width in zip(places, plain, strict=True)]
        if right.folded is not None:
            assert self.fold is not None
            vectors.append(self.load(self.folded_at(right, k)[1], widths[-1], self.fold.times))
        return vectors

    def add_products(self, addresses: Sequence[ir.Value], vectors: Sequence[ir.Value], sums: Sums) -> Sums:
        """Add the product of a column of A, at some addresses, and a row of B to the sums of a tile."""
        builder, dtype = self.builder, self.b.dtype
        results: Sums = []
        for address, row in zip(addresses, sums, strict=True):
            number = self.load(address, 1)
            results.append([])
            for total, vector in zip(row, vectors, strict=True):
                factor = Element(builder, splat(builder, number, _lanes(vector)), dtype)
                results[-1].append(fma(factor, Element(builder, vector, dtype), Element(builder, total, dtype)).value)
        return results

    def accumulate(
        self, begin: ir.Value, end: ir.Value, step: int, sums: Sums, add: Callable[[ir.Value, Sums], Sums]
    ) -> Sums:
        """Emit a loop over k that replaces sums by what `add(k, sums)` returns."""
        builder = self.builder
        entry = builder.block
        body, after = builder.function.append_basic_block(), builder.function.append_basic_block()
        builder.cbranch(builder.icmp_signed("<", begin, end), body, after)
        builder.position_at_end(body)
        k = builder.phi(INDEX)
        k.add_incoming(begin, entry)
        totals = [[builder.phi(vector.type) for vector in row] for row in sums]
        results = add(k, totals)
        following = builder.add(k, index(step))
        k.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, end), body, after)
        last = builder.block
        builder.position_at_end(after)
        found = [[builder.phi(vector.type) for vector in row] for row in sums]
        for total, start, result, final in zip(*map(chain.from_iterable, (totals, sums, results, found)), strict=True):
            total.add_incoming(start, entry)
            total.add_incoming(result, last)
            final.add_incoming(start, entry)
            final.add_incoming(result, last)
        return found

    def finish(self, sums: Sums, batch: ir.Value, row: ir.Value, column: ir.Value) -> None:
        """Apply the equations of the Group to a tile, and store what is needed."""
        builder = self.builder
        first_row = builder.add(builder.mul(batch, index(self.rows)), row)
        widths = {self.tiling.width, self.tiling.last_width if self.fold else self.tiling.width}
        is_edge = len(sums) < self.tiling.height or sum(map(_lanes, sums[0])) not in widths
        if self.is_column:
            numbers = [number for (number,) in sums]
            vector = vector_of(builder, numbers, self.kind, len(sums)) if len(sums) > 1 else numbers[0]
            self.finish_vector(vector, index(0), first_row)
        elif self.has_long_epilogue and len(sums) > 1 and is_edge:
            self.finish_in_loop(sums, first_row, column)
        else:
            for i, vectors in enumerate(sums):
                self.finish_row(vectors, builder.add(first_row, index(i)), column)

    def finish_in_loop(self, sums: Sums, first_row: ir.Value, column: ir.Value) -> None:
        """Apply the equations of the Group to a tile in memory, row by row."""
        size = self.b.dtype.itemsize
        widths = list(map(_lanes, sums[0]))
        tile = self.stack_buffer(len(sums) * sum(widths), self.b.dtype)

        def places(row: ir.Value) -> list[ir.Value]:
            starts = [self.builder.add(self.builder.mul(row, index(sum(widths))), index(s)) for s in starts_of(widths)]
            return [self.builder.gep(tile, [start], source_etype=self.kind) for start in starts]

        for i, vectors in enumerate(sums):
            for place, vector in zip(places(index(i)), vectors, strict=True):
                self.builder.store(vector, place, align=size)

        def finish_row(i: ir.Value) -> None:
            vectors = [self.load(place, width) for place, width in zip(places(i), widths, strict=True)]
            self.finish_row(vectors, self.builder.add(first_row, i), column)

        self.emitter.loop(index(0), index(len(sums)), 1, finish_row)

    def finish_row(self, vectors: Sequence[ir.Value], row: ir.Value, column: ir.Value) -> None:
        """Apply the equations of the Group to a row of a tile."""
        for start, vector in zip(starts_of(map(_lanes, vectors)), vectors, strict=True):
            self.finish_vector(vector, row, self.builder.add(column, index(start)))

    def finish_vector(self, vector: ir.Value, row: ir.Value, column: ir.Value) -> None:
        """Apply the equations of the Group to some elements of a row."""
        place = Place(row, column, _lanes(vector))
        place.values[self.result] = Element(self.builder, vector, self.b.dtype)
        # All are computed before the first store, which may overwrite an operand of another.
        results = [(s, self.emitter.value(s, place)) for s in self.group.levels if s in self.stored]
        for symbol, element in results:
            self.emitter.store(symbol, element, place)


class PartialSums:
    """A buffer for the partial sums of tiles, used when the inner axis is split."""

    def __init__(self, product: Product) -> None:
        self.product = product
        chosen = product.tiling
        shape = (chosen.panel * chosen.height, chosen.columns_at_once)
        self.memory = Memory(
            product.stack_buffer(math.prod(shape), product.b.dtype), contiguous(shape), product.b.dtype
        )
        self.origin: tuple[ir.Value, ir.Value] = index(0), index(0)  # the row and column of its first element now

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
        self.origin = builder.mul(rows.begin, index(p.tiling.height)), first_column

        def everywhere(body: Callable[[ir.Value, int, ir.Value, int], None]) -> None:
            p.row_by_row(rows, lambda row, height: over_columns(lambda column, count: body(row, height, column, count)))

        def begin(row: ir.Value, height: int, column: ir.Value, count: int) -> None:
            self.store_tile(self.place(row, column), p.zeros(height, p.widths(count)))

        def block(k: ir.Value) -> None:
            compute(k, p.emitter.least(builder.sub(index(p.inner), k), index(p.tiling.k_block)))

        def finish(row: ir.Value, height: int, column: ir.Value, count: int) -> None:
            p.finish(self.load_tile(self.place(row, column), height, p.widths(count)), batch, row, column)

        everywhere(begin)
        p.emitter.loop(index(0), index(p.inner), p.tiling.k_block, block)
        everywhere(finish)

    def place(self, row: ir.Value, column: ir.Value) -> ir.Value:
        """Return the address of the sums of a tile."""
        first_row, first_column = self.origin
        builder = self.product.builder
        return self.product.part_of(self.memory, builder.sub(row, first_row), builder.sub(column, first_column)).pointer

    def load_tile(self, place: ir.Value, height: int, widths: list[int]) -> Sums:
        """Load the sums of a tile."""
        return [
            [
                self.product.load(self.at(place, i, start), width)
                for start, width in zip(starts_of(widths), widths, strict=True)
            ]
            for i in range(height)
        ]

    def store_tile(self, place: ir.Value, sums: Sums) -> None:
        """Store the sums of a tile."""
        for i, vectors in enumerate(sums):
            for start, vector in zip(starts_of(map(_lanes, vectors)), vectors, strict=True):
                self.product.builder.store(vector, self.at(place, i, start), align=self.memory.dtype.itemsize)

    def at(self, place: ir.Value, row: int, column: int) -> ir.Value:
        """Return the address of an element of a tile."""
        offset = index(row * self.memory.layout.strides[0] + column)
        return self.product.builder.gep(place, [offset], source_etype=self.product.kind)


def starts_of(widths: Iterable[int]) -> list[int]:
    """Return where each of some vectors beside each other starts."""
    return list(accumulate(widths, initial=0))[:-1]


def _lanes(vector: ir.Value) -> int:
    return vector.type.count if isinstance(vector.type, ir.VectorType) else 1
