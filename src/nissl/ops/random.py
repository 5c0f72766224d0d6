"""Random ops: counter-based, so that an element depends only on the key, the stream, the draw number and its index.

Philox 4×32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011) scrambles a counter.
Element i of draw n of a stream uses the counter (i low, i high, n, stream), so neither the number of threads nor the
way work is split can change it. The state that advances is in `nissl.random`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.shapes import Shape
from nissl.tensor import DEFAULT_INTEGER, Op

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
# Elements that are computed at once, so that they and all intermediate values fit into a core's cache.
CHUNK = 1 << 14
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)

Words = list[Any]  # of uint64, as arrays or scalars


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Return four words of 32 random bits, each in a uint64, for a counter of four words and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ np.uint64(k0), p1 & LOW, (p0 >> HALF) ^ c3 ^ np.uint64(k1), p0 & LOW
        k0, k1 = (k0 + KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + KEY_STEPS[1]) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def _draw(
    key: npt.NDArray[Any], draw: npt.NDArray[Any], shape: Shape, stream: int, dtype: Any, half: int = 0
) -> npt.NDArray[Any]:
    """Return random bits as uint64, or numbers from [0, 1), from one half of each element's 128 bits.

    For a column of draws, the result has a leading axis of draws.
    """
    size, draws, words = math.prod(shape), np.asarray(draw, np.uint64), (int(key[0]), int(key[1]))
    drawn = np.empty((*draws.shape[:-1], size), dtype)
    for first in range(0, size, CHUNK):
        places = np.arange(first, min(first + CHUNK, size), dtype=np.uint64)
        scrambled = philox([places & LOW, places >> HALF, draws, np.uint64(stream)], words)
        low, high = scrambled[2 * half : 2 * half + 2]
        drawn[..., first : first + CHUNK] = FROM_WORDS[drawn.dtype](low, high)
    return drawn.reshape((*draws.shape[:-1], *shape))


# Floats get as many random bits as their significand has, so that each is exact and 1 is never reached.
FROM_WORDS: dict[np.dtype[Any], Callable[[Any, Any], Any]] = {
    np.dtype(np.uint64): lambda low, high: high << HALF | low,
    np.dtype(np.float32): lambda low, high: (low >> np.uint64(8)) * 2.0**-24,
    np.dtype(np.float64): lambda low, high: ((high << HALF | low) >> np.uint64(11)) * 2.0**-53,
}


def _bits(key: npt.NDArray[Any], draw: npt.NDArray[Any], shape: Shape, stream: int) -> npt.NDArray[Any]:
    return _draw(key, draw, shape, stream, np.uint64)


def permutation(key: npt.NDArray[Any], draw: npt.NDArray[Any], size: int, stream: int) -> npt.NDArray[Any]:
    """Return 0 to size - 1, sorted by random bits of which the lowest are the integers themselves."""
    low = np.uint64((1 << size.bit_length()) - 1)
    bits = _bits(key, draw, (size,), stream)
    return (np.sort(bits & ~low | np.arange(size, dtype=np.uint64)) & low).astype(DEFAULT_INTEGER)


random_bits = Op(
    "random_bits",
    kind="random",
    value=_bits,
    shape=lambda key, draw, shape, stream: shape,
    dtype=lambda key, draw, shape, stream: np.dtype(np.uint64),
    doc="64 random bits for each element.",
)
random_uniform = Op(
    "random_uniform",
    kind="random",
    value=_draw,
    shape=lambda key, draw, shape, stream, dtype, half: shape,
    dtype=lambda key, draw, shape, stream, dtype, half: dtype,
    doc="Numbers from [0, 1), from the first or second half of an element's 128 random bits.",
)
random_permutation = Op(
    "random_permutation",
    kind="random",
    value=permutation,
    shape=lambda key, draw, size, stream: (size,),
    dtype=lambda key, draw, size, stream: DEFAULT_INTEGER,
    doc="The integers from 0 to size - 1 in random order.",
)
