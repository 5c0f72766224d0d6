"""Minibatches, for loops written by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.arguments import whole_number
from nissl.data.dataset import as_dataset
from nissl.habits import explained
from nissl.random import permutation_indices


class batches:  # noqa: N801  (a function to its users)
    """An iterable of minibatches (x, y); each iteration is an epoch, in another order if `shuffle`.

    `data` is a Dataset or a pair of arrays. The same seed gives the same orders. The last short batch is kept unless
    `drop_last`.

    >>> for x, y in batches((np.arange(5.0), np.arange(5)), 2, shuffle=False):
    ...     print(y)
    [0 1]
    [2 3]
    [4]
    """

    @explained
    def __init__(
        self, data: Any, batch_size: int, *, shuffle: bool = True, seed: int = 0, drop_last: bool = False
    ) -> None:
        self.data = as_dataset(data, "data")
        self.batch_size = whole_number("batch_size", batch_size)
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 0

    def __len__(self) -> int:
        count = len(self.data) / self.batch_size
        return math.floor(count) if self.drop_last else math.ceil(count)

    def __iter__(self) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        count = len(self.data)
        order = permutation_indices(self.seed, self.epoch, count) if self.shuffle else np.arange(count)
        self.epoch += 1
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield self.data.x[rows], self.data.y[rows]
