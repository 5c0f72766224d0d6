"""Random numbers with Tensors as state, so that compiled dropout draws new masks and a resumed run continues exactly.

A Generator is a key, made from the seed, and a counter of draws; what is drawn is a pure function of both (see
`ops/random.py`). Initialization, shuffling, dropout and the user's own draws have a stream each, so that adding a
dropout layer does not change the initial weights. `ns.manual_seed` seeds all streams again.

>>> import nissl as ns
>>> ns.manual_seed(1)
>>> first = ns.random.uniform(2)
>>> ns.manual_seed(1)
>>> bool((ns.random.uniform(2) == first).min())
True
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl import habits
from nissl.arguments import number, whole_number
from nissl.errors import DTypeError, OptionError
from nissl.habits import explained
from nissl.ops import random as ops
from nissl.ops.elementwise import cos, log, sqrt
from nissl.ops.source import _shape
from nissl.tensor import DTypeLike, Tensor, TensorLike, apply, check_dtype
from nissl.threads import in_forked_child

STREAMS = ("user", "init", "shuffle", "dropout")


class Generator:
    """A stream of random numbers: `key` (2 words, from the seed) and `draws`, the number of draws so far."""

    def __init__(self, seed: int = 0, stream: str = "user") -> None:
        self.stream = STREAMS.index(stream)
        self.key = Tensor(_key(seed))
        self.draws = Tensor(np.zeros((), np.uint32))

    def seed(self, seed: int) -> None:
        """Start again from `seed`."""
        self.key.assign(Tensor(_key(seed)))
        self.draws.assign(Tensor(np.zeros((), np.uint32)))

    def _next_draw(self) -> Tensor:
        draw = self.draws + 0  # its value now: the Tensor itself is assigned to below
        self.draws.assign(draw + 1)
        return draw

    @explained
    def uniform(
        self, shape: int | Sequence[int] = (), low: float = 0.0, high: float = 1.0, dtype: DTypeLike = "float32"
    ) -> Tensor:
        """Return numbers from the uniform distribution on [low, high)."""
        u = self._unit(self._next_draw(), shape, dtype, half=0)
        return u if (low, high) == (0.0, 1.0) else u * (high - low) + low

    @explained
    def normal(
        self, shape: int | Sequence[int] = (), mean: float = 0.0, std: float = 1.0, dtype: DTypeLike = "float32"
    ) -> Tensor:
        """Return numbers from the normal distribution, √(-2 log u) cos(2πv) for uniform u, v (Box and Muller, 1958)."""
        draw = self._next_draw()
        u = 1.0 - self._unit(draw, shape, dtype, half=0)  # in (0, 1], where the logarithm is finite
        v = self._unit(draw, shape, dtype, half=1)
        return sqrt(-2.0 * log(u)) * cos((2 * math.pi) * v) * std + mean

    @explained
    def bernoulli(
        self, shape: int | Sequence[int] = (), probability: TensorLike = 0.5, dtype: DTypeLike = "float32"
    ) -> Tensor:
        """Return 1 with the given probability, else 0."""
        if isinstance(probability, int | float):
            number("a probability", probability, least=0, most=1)
        return (self._unit(self._next_draw(), shape, "float32", half=0) < probability).astype(dtype)

    @explained
    def permutation(self, size: int) -> Tensor:
        """Return 0 to size - 1 in random order."""
        shape = _shape(size)
        if len(shape) != 1:
            raise OptionError(f"permutation() takes one size, as in x[ns.random.permutation(len(x))]; got {shape}")
        return apply(ops.random_permutation, self.key, self._next_draw(), size=shape[0], stream=self.stream)

    def bits(self, shape: int | Sequence[int] = ()) -> Tensor:
        """Return 64 random bits for each element, as uint64."""
        return apply(ops.random_bits, self.key, self._next_draw(), shape=_shape(shape), stream=self.stream)

    def _unit(self, draw: Tensor, shape: int | Sequence[int], dtype: DTypeLike, half: int) -> Tensor:
        dtype = check_dtype(dtype)
        if dtype.kind != "f":
            raise DTypeError(f"random numbers from an interval or a normal distribution are floats, not {dtype}")
        return apply(
            ops.random_uniform, self.key, draw, shape=_shape(shape), stream=self.stream, dtype=dtype, half=half
        )


def _key(seed: int) -> npt.NDArray[np.uint32]:
    seed = whole_number("a seed", seed, least=0, most=2**64 - 1)
    return np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)


# The streams that layers, initializers and training draw from.
streams = {name: Generator(0, name) for name in STREAMS}

uniform = streams["user"].uniform
normal = streams["user"].normal
bernoulli = streams["user"].bernoulli
permutation = streams["user"].permutation


def manual_seed(seed: int) -> None:
    """Seed all streams of random numbers with `seed`, an integer from 0 to 2⁶⁴ - 1."""
    for generator in streams.values():
        generator.seed(seed)


_seeding = threading.RLock()


@in_forked_child
def _make_lock() -> None:
    global _seeding
    _seeding = threading.RLock()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all streams with `seed` inside a block, and restore their state after it.

    The streams belong to the whole process, so threads enter such blocks one at a time.
    """
    tensors = [tensor for generator in streams.values() for tensor in (generator.key, generator.draws)]
    with _seeding:
        before = [Tensor(np.array(tensor.numpy())) for tensor in tensors]
        manual_seed(seed)
        try:
            yield
        finally:
            for tensor, value in zip(tensors, before, strict=True):
                tensor.assign(value)


def permutation_indices(seed: int, draw: npt.ArrayLike, size: int) -> npt.NDArray[np.int64]:
    """Return draw number `draw` of the shuffle stream of `seed`: a permutation of 0 to size - 1, as an array.

    For an array of draw numbers, return one row for each.
    """
    return ops.permutation(_key(seed), np.asarray(draw, np.uint32)[..., None], size, STREAMS.index("shuffle"))


if not TYPE_CHECKING:  # a type checker knows which names there are

    def __getattr__(name: str) -> Any:
        habits.missing(f"module {__name__!r}", name, habits.RANDOM, ("uniform", "normal", "bernoulli", "permutation"))
