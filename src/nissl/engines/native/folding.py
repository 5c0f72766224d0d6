"""Folding: the last columns of a matrix product, too few for a vector, fill one together with their neighbours.

100 columns are six vectors of 16 and a quarter of one, which alone would take as long as a whole one. So each of those
four columns is in four lanes, for as many elements of A that are beside each other in memory: they belong to four rows
of the result if A is transposed, else to four k, whose sums are added in the end:

    lane           0       1       2       3       4       5     …
    A            aᵢ,ₖ   aᵢ,ₖ₊₁  aᵢ,ₖ₊₂  aᵢ,ₖ₊₃   aᵢ,ₖ   aᵢ,ₖ₊₁  …
    B            bₖ,₀   bₖ₊₁,₀  bₖ₊₂,₀  bₖ₊₃,₀   bₖ,₁   bₖ₊₁,₁  …
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from nissl.engines.native.maths import constant, shuffled


@dataclass(frozen=True)
class Fold:
    """How some columns are folded into one vector."""

    columns: int
    times: int  # the lanes of each column, a power of two
    lanes: int
    along_k: bool  # whether the lanes of a column are for several k, not for several rows of the result

    @property
    def k_step(self) -> int:
        """The number of k that a vector is for."""
        return self.times if self.along_k else 1

    def pack(self, builder: ir.IRBuilder, rows: Sequence[ir.Value]) -> ir.Value:
        """Return the columns of `times` rows of B in one vector, with zeros for those that are missing to fill it."""
        zeros = constant(rows[0].type, 0.0)
        lanes = [min(column, self.columns) for column in range(self.lanes // self.times)]
        return _interleaved(builder, [shuffled(builder, row, zeros, lanes) for row in rows])

    def spread(self, builder: ir.IRBuilder, numbers: ir.Value) -> ir.Value:
        """Return `times` elements of A, again and again."""
        return shuffled(builder, numbers, numbers, [lane % self.times for lane in range(self.lanes)])

    def rows(self, builder: ir.IRBuilder, sums: ir.Value) -> list[ir.Value]:
        """Return the rows of the result that sums stand for."""
        ends = range(0, self.columns * self.times, self.times)
        parts = [shuffled(builder, sums, sums, [i + end for end in ends]) for i in range(self.times)]
        return [functools.reduce(builder.fadd, parts)] if self.along_k else parts


def _interleaved(builder: ir.IRBuilder, vectors: Sequence[ir.Value]) -> ir.Value:
    """Return the first elements of some vectors, then their second elements, and so on."""
    if len(vectors) == 1:
        return vectors[0]
    even, odd = _interleaved(builder, vectors[::2]), _interleaved(builder, vectors[1::2])
    count = even.type.count
    return shuffled(builder, even, odd, [i // 2 + i % 2 * count for i in range(2 * count)])
