"""Initial weights: each function returns numbers for a Parameter of a given shape.

`fan_in` and `fan_out` are the numbers of inputs and outputs of a unit: the sizes of the two axes of a weight of shape
(in_features, out_features). Random ones draw from the stream "init", which `ns.manual_seed` starts again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nissl import habits
from nissl.errors import OptionError, ShapeError, unknown_name
from nissl.ops.source import full
from nissl.random import streams
from nissl.shapes import Shape
from nissl.tensor import DTypeLike, Tensor

Initializer = Callable[..., Tensor]


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight of shape (in_features, out_features).

    >>> fans((784, 128))
    (784, 128)
    """
    if len(shape) < 2:
        raise ShapeError(f"an initializer that counts inputs and outputs needs a shape of two axes, got {tuple(shape)}")
    receptive = math.prod(shape[:-2])
    return shape[-2] * receptive, shape[-1] * receptive


def zeros(shape: Shape, dtype: DTypeLike = "float32") -> Tensor:
    """Return zeros: right for biases; weights that start equal stay equal, so that the units never differ."""
    return constant(shape, 0.0, dtype)


def constant(shape: Shape, value: float = 0.0, dtype: DTypeLike = "float32") -> Tensor:
    """Return `value` everywhere."""
    return full(shape, value, dtype)


def normal(shape: Shape, mean: float = 0.0, std: float = 0.01, dtype: DTypeLike = "float32") -> Tensor:
    """Return normally distributed numbers."""
    return streams["init"].normal(shape, mean, std, dtype)


def uniform(shape: Shape, low: float = -0.05, high: float = 0.05, dtype: DTypeLike = "float32") -> Tensor:
    """Return uniformly distributed numbers from [low, high)."""
    return streams["init"].uniform(shape, low, high, dtype)


def _spread_uniform(shape: Shape, std: float, dtype: DTypeLike) -> Tensor:
    bound = math.sqrt(3) * std  # a uniform distribution over ±√3·std has the standard deviation std
    return uniform(shape, -bound, bound, dtype)


def xavier_normal(shape: Shape, gain: float = 1.0, dtype: DTypeLike = "float32") -> Tensor:
    """Return normal numbers of std gain·√(2/(fan_in + fan_out)), for tanh and sigmoid (Glorot and Bengio, 2010)."""
    return normal(shape, 0.0, gain * math.sqrt(2 / _positive(sum(fans(shape)))), dtype)


def xavier_uniform(shape: Shape, gain: float = 1.0, dtype: DTypeLike = "float32") -> Tensor:
    """Return uniform numbers of std gain·√(2/(fan_in + fan_out)), for tanh and sigmoid (Glorot and Bengio, 2010)."""
    return _spread_uniform(shape, gain * math.sqrt(2 / _positive(sum(fans(shape)))), dtype)


def he_normal(shape: Shape, dtype: DTypeLike = "float32") -> Tensor:
    """Return normal numbers of std √(2/fan_in), for relu (He et al., 2015)."""
    return normal(shape, 0.0, math.sqrt(2 / _positive(fans(shape)[0])), dtype)


def he_uniform(shape: Shape, dtype: DTypeLike = "float32") -> Tensor:
    """Return uniform numbers of std √(2/fan_in), for relu (He et al., 2015)."""
    return _spread_uniform(shape, math.sqrt(2 / _positive(fans(shape)[0])), dtype)


def lecun_normal(shape: Shape, dtype: DTypeLike = "float32") -> Tensor:
    """Return normal numbers of std √(1/fan_in) (LeCun et al., 1998)."""
    return normal(shape, 0.0, math.sqrt(1 / _positive(fans(shape)[0])), dtype)


def _positive(fan: int) -> int:
    return max(fan, 1)  # a weight without elements needs no spread


INITIALIZERS: dict[str, Initializer] = {
    f.__name__: f
    for f in (
        zeros,
        constant,
        normal,
        uniform,
        xavier_normal,
        xavier_uniform,
        he_normal,
        he_uniform,
        lecun_normal,
    )
}


def named(name: str) -> Initializer:
    """Return the initializer of that name; "he", "xavier" and "lecun" mean the normal ones.

    >>> named("he").__name__
    'he_normal'
    """
    if not isinstance(name, str):
        raise OptionError(f"an initializer is given by its name, got {name!r}")
    for candidate in (name, f"{name}_normal"):
        if candidate in INITIALIZERS:
            return INITIALIZERS[candidate]
    raise unknown_name("initializer", name, INITIALIZERS)


if not TYPE_CHECKING:  # a type checker knows which names there are

    def __getattr__(name: str) -> Any:
        habits.missing(f"module {__name__!r}", name, habits.INIT, INITIALIZERS)
