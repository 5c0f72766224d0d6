"""Tiling: how a matrix product is divided into tiles, blocks and shares. Here are the choices, in products.py the code.

Cache blocking: a piece of B, packed where that pays, stays in the L2 cache, a panel of A in L3 (Goto and van de Geijn,
"Anatomy of high-performance matrix multiplication", 2008). If B is narrow, all its columns stay there, and tiles are
computed in row-major order, with the rows of a transposed A packed where that pays. If the inner axis is too long for
either, it is split (K blocking), and a buffer holds what is added up so far.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from nissl.engines.native.machine import second_level_cache_bytes, vector_registers

# The most vectors in a tile: more would only make the code longer.
LARGEST_TILE = 16
# Bytes of a panel of A; it also has at least so many rows of tiles, as a piece of B is brought near for each panel.
A_PANEL_BYTES, LEAST_PANEL = 1 << 22, 5
# Bytes of a piece of B: a quarter of the L2 cache, but at most so many.
B_PIECE_BYTES = 1 << 18
# Whole rows of B are used if so many bytes hold all of them,
B_ROWS_BYTES = 1 << 18
# or at least so many as a block of K, if the rows of tiles are so many that it pays to load and store partial sums.
SMALLEST_K_BLOCK, MANY_ROWS = 192, 16
# Bytes of the buffer of partial sums.
PARTIAL_SUMS_BYTES = 1 << 18
# The buffers of a product are on the stack, all of them in so many bytes. The stack of a thread that Python starts has
# 1 MiB on Windows, more on Linux and macOS.
STACK_BYTES = 640 << 10
# Columns are shared where the largest share is at most so many times that of shares of rows.
UNEQUAL = 1.1
# In sums of fewer terms, sequential access to memory matters more than reuse: tiles are one row high.
FEW_TERMS = 4
# With at most FEW_ROWS of A, a large B is read once: ROWS_IN_ORDER whole rows at a time, as they lie in memory, which
# the prefetcher follows. Large is more than B_ROWS_BYTES for one row of A, else twice that.
FEW_ROWS, ROWS_IN_ORDER = 4, 8
# A piece of B is packed if it is used by at least so many rows of tiles.
USES_OF_PACKED_B = 5
# The last columns are folded in sums of at least so many terms.
LEAST_FOLDED_TERMS = 32
# Rows of a transposed A are packed if they are used by at least so many columns of tiles,
USES_OF_PACKED_A = 3
# and if a block of K is longer than this, by the number of vector registers: each k is in a page of its own, which
# needs an entry of the TLB. Measured on two CPUs, a Zen 3 with AVX2 and a Zen 5 with AVX-512; the uses on the latter.
LENGTH_OF_PACKED_A = {16: 64, 32: 100}


@dataclass(frozen=True)
class Tiling:
    """How a product of two matrices is computed."""

    height: int  # of a tile, in rows
    width: int  # of a tile, in columns
    last_width: int  # of the last of the tiles beside each other
    fold: int  # how many lanes each of the last columns has: 1 if they are not folded
    row_blocks: int  # tiles above each other
    column_blocks: int  # tiles beside each other
    columns_at_once: int  # of the piece of B that is used at a time, in whole vectors
    rows_first: bool  # whether tiles come in row-major order
    k_block: int  # the length of a block of K
    panel: int  # the rows of tiles that are computed before others are begun
    shared_by_rows: bool  # whether threads share the blocks of rows, not those of columns
    packs_a: bool
    packs_b: bool


def tiling(
    rows: int,
    inner: int,
    columns: int,
    lanes: int,
    itemsize: int,
    *,
    transposed: bool,
    scattered: bool,
    contiguous: bool = True,
) -> Tiling:
    """Return the tiling of a product.

    `transposed` says that columns of A are contiguous, not rows, or with `contiguous=False`, that neither are;
    `scattered` that rows of B are not. If whole rows of B stay in the cache, tiles are computed in row-major order, so
    that arrays in the order of the result are accessed sequentially: above all, the parameters and moments that an
    optimizer updates.
    """
    registers = vector_registers()
    folds = contiguous and inner >= LEAST_FOLDED_TERMS
    height, vectors, fold = tile_shape(
        1 if inner < FEW_TERMS else rows, columns, lanes, registers, folds=folds, transposed=transposed
    )
    width = vectors * lanes
    spare = lanes if fold > 1 else 0  # for the vector of the folded columns
    side_by_side = columns - columns % lanes if fold > 1 else columns
    row_blocks, column_blocks = -(-rows // height), -(-side_by_side // width)
    whole = column_blocks * width + spare  # the columns of all tiles
    near, piece = B_ROWS_BYTES // itemsize, min(second_level_cache_bytes() // 4, B_PIECE_BYTES) // itemsize
    large = inner >= FEW_TERMS and inner * whole > near * (1 if rows == 1 else 2)
    fits = height * whole * itemsize <= PARTIAL_SUMS_BYTES
    in_order = rows <= FEW_ROWS and large and fits and not scattered
    in_blocks = SMALLEST_K_BLOCK * whole <= near and row_blocks >= MANY_ROWS
    rows_first = in_order or inner * whole <= near or in_blocks
    longest = max(ROWS_IN_ORDER if in_order else near // whole if rows_first else piece // (width + spare), 1)
    k_block = -(-inner // -(-inner // longest))

    packs_b = fold > 1 or scattered or (row_blocks >= USES_OF_PACKED_B and column_blocks > 1)
    reused = rows_first and column_blocks >= USES_OF_PACKED_A
    packs_a = transposed and reused and k_block > LENGTH_OF_PACKED_A[registers]

    panel = row_blocks
    columns_at_once = whole if rows_first else width + spare
    if not rows_first and (column_blocks > 1 or k_block < inner):
        panel = min(panel, max(A_PANEL_BYTES // (inner * itemsize * height), LEAST_PANEL))
    if k_block < inner:
        panel = max(min(panel, PARTIAL_SUMS_BYTES // (columns_at_once * itemsize) // height), 1)
    return Tiling(
        height=height,
        width=width,
        last_width=columns - (column_blocks - 1) * width,
        fold=fold,
        row_blocks=row_blocks,
        column_blocks=column_blocks,
        columns_at_once=columns_at_once,
        rows_first=rows_first,
        k_block=k_block,
        panel=panel,
        shared_by_rows=is_shared_by_rows(rows, side_by_side, height, width),
        packs_a=packs_a,
        packs_b=packs_b,
    )


def is_shared_by_rows(rows: int, columns: int, height: int, width: int) -> bool:
    """Whether threads share the blocks of rows of a result, not those of columns.

    Each thread reads all of B if they share rows, all of A if they share columns. All should read the smaller one, as
    long as the shares are about equal.
    """

    def largest_share(size: int, block: int) -> float:
        blocks = -(-size // block)
        return sum(min(-(-blocks // threads) * block, size) for threads in (2, 4)) / size

    return rows > columns or UNEQUAL * largest_share(rows, height) < largest_share(columns, width)


@functools.cache
def tile_shape(
    rows: int, columns: int, lanes: int, registers: int, *, folds: bool = False, transposed: bool = False
) -> tuple[int, int, int]:
    """Return the height, the width in vectors, and the fold of the tiles that take the least estimated time.

    A tile needs registers for its sums, for its part of a row of B, of which a single row uses each vector at once, and
    for an element of A. Among equals, the highest reads the least of B.

    If it `folds`, the last columns may be folded into one vector, which belongs to the last of the tiles beside each
    other. B is packed then; and if A is transposed, the rows of a tile are a multiple of the fold.
    """
    rest = columns % lanes
    most = lanes // (1 << (rest - 1).bit_length()) if folds and rest > 1 and columns > lanes else 1

    def tiles_beside(width: int, fold: int) -> list[tuple[float, int]]:
        """Return the widths of tiles in vectors, and how many tiles have them."""
        vectors = -(-columns // lanes) if fold == 1 else columns // lanes
        beside = -(-vectors // width) - 1
        return [(width, beside), (vectors - beside * width + (1 / fold if fold > 1 else 0), 1)]

    def cycles(height: int, width: int, fold: int) -> float:
        return sum(
            many * times * tile_cycles(h, w)
            for h, many in ((height, rows // height), (rows % height, 1))
            for w, times in tiles_beside(width, fold)
        )

    def fits(height: int, width: int, fold: int) -> bool:
        widest = math.ceil(max(w for w, _ in tiles_beside(width, fold)))
        in_registers = height * widest + (widest if height > 1 else 1) + 1 <= registers
        can_fold = rows >= USES_OF_PACKED_B * height and height % (fold if transposed else 1) == 0
        return in_registers and (fold == 1 or can_fold)

    candidates = [
        (height, width, 1 << exponent)
        for exponent in range(most.bit_length())
        for height in range(1, min(rows, LARGEST_TILE) + 1)
        for width in range(1, min(-(-columns // lanes), LARGEST_TILE // height) + 1)
        if fits(height, width, 1 << exponent)
    ]
    return min(candidates, key=lambda tile: (cycles(*tile), -tile[0]))


def tile_cycles(height: int, width: float) -> float:
    """Return the estimated cycles of a tile for each k.

    Two fused multiply-adds start per cycle, with a latency of 4 cycles. Measured: an element of A costs half a cycle to
    load, a vector of B, which comes from the L2 cache, one and a half.
    """
    return max(height * width / 2, 4, height / 2 + 1.5 * width) if height and width else 0
