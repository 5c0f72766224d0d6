"""The operations: one record an op, in a file for each kind."""

from nissl.ops import elementwise, indexing, linalg, movement, random, reduce, source

__all__ = ["elementwise", "indexing", "linalg", "movement", "random", "reduce", "source"]
