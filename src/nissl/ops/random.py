"""Random ops: numbers that depend on nothing but a key, a stream, the number of the draw and the place of the element.

Philox 4×32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011) scrambles a counter.
Element i of draw n of a stream uses the counter (i low, i high, n, stream), so neither the number of threads nor the
way work is split can change it. The state that advances is in `nissl.random`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.shapes import Shape
from nissl.tensor import DEFAULT_INTEGER, Op

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
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


def _words(key: npt.NDArray[Any], draw: npt.NDArray[Any], shape: Shape, stream: int) -> Words:
    places = np.arange(np.prod(shape, dtype=np.int64), dtype=np.uint64).reshape(shape)
    words = philox([places & LOW, places >> HALF, np.uint64(draw), np.uint64(stream)], (int(key[0]), int(key[1])))
    return [np.asarray(word) for word in words]


def _bits(key: npt.NDArray[Any], draw: npt.NDArray[Any], shape: Shape, stream: int) -> npt.NDArray[Any]:
    low, high, _, _ = _words(key, draw, shape, stream)
    return high << HALF | low


def _uniform(
    key: npt.NDArray[Any], draw: npt.NDArray[Any], shape: Shape, stream: int, dtype: np.dtype[Any], half: int
) -> npt.NDArray[Any]:
    low, high = _words(key, draw, shape, stream)[2 * half : 2 * half + 2]
    # As many bits as the fraction holds, so that every value is exact and 1 is never reached.
    if dtype == np.float32:
        return (low >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)
    return ((high << HALF | low) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(key: npt.NDArray[Any], draw: npt.NDArray[Any], size: int, stream: int) -> npt.NDArray[Any]:
    """Return 0 to size - 1 in the order of their random bits."""
    return np.argsort(_bits(key, draw, (size,), stream), kind="stable")


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
    value=_uniform,
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
