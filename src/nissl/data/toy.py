"""Two-dimensional toys, small enough to see a network bend its decision line."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pair = tuple[npt.NDArray[np.floating], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Toy:
    """A way to make (train, test)."""

    description: str
    class_names: tuple[str, ...]
    make: Callable[[], tuple[Pair, Pair]]


def xor() -> tuple[Pair, Pair]:
    """Return the four points of exclusive or, for training and for test."""
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([0, 1, 1, 0])
    return (x, y), (x.copy(), y.copy())


def spiral(count: int, seed: int, arms: int = 3, noise: float = 0.15) -> Pair:
    """Return `count` points on the arms of a spiral: radius r, angle 4r plus the arm's, plus noise."""
    generator = np.random.default_rng(seed)
    y = np.arange(count) % arms
    radius = np.linspace(0.05, 1, count)
    angle = 4 * radius + y * (2 * np.pi / arms) + generator.normal(0, noise, count)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), y


def _apart(make: Callable[[int, int], Pair], train: int, test: int) -> Callable[[], tuple[Pair, Pair]]:
    """Return a function that draws a training and a test set, each with a seed of its own."""
    return lambda: (make(train, 0), make(test, 1))


def _from_sklearn(name: str, count: int, seed: int, **options: Any) -> Pair:
    from sklearn import datasets

    x, y = getattr(datasets, name)(count, random_state=seed, **options)[:2]
    return x, y.astype(np.int64)


def _sampler(name: str, **options: Any) -> Callable[[int, int], Pair]:
    return functools.partial(_from_sklearn, name, **options)


BLOB_CENTRES = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]])

TOYS = {
    "xor": Toy("exclusive or: 4 points", ("0", "1"), xor),
    "moons": Toy(
        "two half moons: 400 and 200 points", ("upper", "lower"), _apart(_sampler("make_moons", noise=0.15), 400, 200)
    ),
    "circles": Toy(
        "a circle in a circle: 400 and 200 points",
        ("outer", "inner"),
        _apart(_sampler("make_circles", noise=0.08, factor=0.5), 400, 200),
    ),
    "spirals": Toy("three arms of a spiral: 600 and 300 points", ("0", "1", "2"), _apart(spiral, 600, 300)),
    "blobs": Toy(
        "three clouds: 300 and 150 points",
        ("left", "right", "top"),
        _apart(_sampler("make_blobs", centers=BLOB_CENTRES, cluster_std=0.8), 300, 150),
    ),
}
