"""The rows that an estimator trains on: dense arrays, with a weight each where they do not count alike."""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.model_selection import train_test_split

from nissl.tensor import is_masked

Array = npt.NDArray[Any]
Part = tuple[Array, Array, Array | None]  # rows, targets, weights

# The most that a sparse X may take when it is made dense to train on; to predict, it is made dense batch by batch.
BYTES_OF_DENSE_ROWS = 1 << 31


def dense(x: Any) -> Array:
    """Return the rows as a dense array; raise if a sparse x would take too much memory as one."""
    if not sparse.issparse(x):
        return x
    size = x.shape[0] * x.shape[1] * x.dtype.itemsize
    if size > BYTES_OF_DENSE_ROWS:
        raise ValueError(
            f"the sparse X of shape {x.shape} would take {size / 1e9:.1f} GB as dense rows, which training needs; "
            f"the limit is {BYTES_OF_DENSE_ROWS / 1e9:.1f} GB. Train on parts of the rows with partial_fit, or with "
            "fewer features"
        )
    return x.toarray()


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Let errors inside the block, of rows that scikit-learn calls X and y, begin with their name."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def check_not_masked(**given: Any) -> None:
    """Raise if some numbers are masked: scikit-learn takes what stands under the mask as if it were known."""
    for name, values in given.items():
        if is_masked(values):
            raise ValueError(
                f"{name} has masked numbers, which stand for missing ones; fill them in first, or leave those rows out"
            )


def row_weights(weights: Any, rows: int, dtype: npt.DTypeLike) -> Array | None:
    """Return the weights of rows as an array, checked."""
    if weights is None:
        return None
    if isinstance(weights, numbers.Number):
        weights = np.full(rows, weights)
    try:
        array = np.asarray(weights)
        if array.dtype.kind not in "biufO":
            raise TypeError(f"{array.dtype} does not hold real numbers")
        with np.errstate(over="ignore"):  # infinity is reported below
            array = array.astype(dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"sample_weight must be one number, or one for each row: {error}") from None
    if array.ndim != 1:
        raise ValueError("Sample weights must be 1D array or scalar")
    if array.shape != (rows,):
        raise ValueError(f"sample_weight has {len(array)} numbers for {rows} rows; give one for each")
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError("sample_weight holds negative, NaN or infinite numbers; a weight is 0 or more")
    if not array.any():
        raise ValueError("sample_weight is zero for every row: nothing is left to train on")
    return array


def rows_that_count(x: Array, targets: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return the rows whose weight is above 0; raise if there are none."""
    counts = weights > 0
    if not counts.any():
        raise ValueError("no row is left to train on: all have the weight 0, by sample_weight or class_weight")
    return x[counts], targets[counts], weights[counts]


def weighted(weights: Array | None, factors: Array | None, targets: Array) -> Array | None:
    """Return the weights of rows times the factors of their classes."""
    if factors is None:
        return weights
    own = factors[targets]
    return own if weights is None else weights * own


def split(
    x: Array, targets: Array, weights: Array | None, fraction: float, stratifies: bool, random: Any
) -> tuple[Part, Part]:
    """Return the rows to train on, and a fraction of all to validate on, with each class in its proportion if asked."""
    arrays = [x, targets] if weights is None else [x, targets, weights]
    stratify = targets if stratifies and _can_stratify(targets, fraction) else None
    parts = train_test_split(*arrays, random_state=random, test_size=fraction, stratify=stratify)
    trained, held = parts[::2], parts[1::2]
    return (*trained, None)[:3], (*held, None)[:3]


def _can_stratify(targets: Array, fraction: float) -> bool:
    """Whether both parts can have each class in its proportion."""
    if targets.ndim > 1:
        return False
    counts = np.bincount(targets)
    counts = counts[counts > 0]
    held = math.ceil(fraction * len(targets))
    return bool(counts.min() > 1 and len(counts) <= min(held, len(targets) - held))
