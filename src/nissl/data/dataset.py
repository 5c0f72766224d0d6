"""Dataset: rows x with their targets y, checked where they come in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.arguments import number
from nissl.errors import DataError
from nissl.habits import explained
from nissl.tensor import Tensor, is_masked, why_no_array


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows `x` of shape (examples, ...) with targets `y` of shape (examples, ...).

    For classification `y` holds the numbers of the classes, whose names are `class_names`.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    class_names: tuple[str, ...] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Take class names as they come, such as from `np.unique`."""
        if self.class_names is not None:
            object.__setattr__(self, "class_names", _as_class_names(self.class_names))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> Dataset:
        if isinstance(rows, int | np.integer):
            raise DataError(
                "a Dataset is taken apart by rows, as in data[:10]; its arrays are .x and .y, "
                f"one example is .x[{rows}], and ns.batches(data, 32) gives minibatches"
            )
        return Dataset(self.x[rows], self.y[rows], self.class_names, self.name)

    @explained
    def split(self, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Return two parts, drawn at random: what remains, and `fraction` of the rows, both in their order here.

        Raises OptionError if the fraction is not between 0 and 1, DataError if nothing would remain.

        >>> train, validation = Dataset(np.eye(10), np.arange(10)).split(0.2)
        >>> len(train), len(validation)
        (8, 2)
        """
        fraction = number("fraction", fraction, above=0, below=1)
        order = np.random.default_rng(seed).permutation(len(self))
        count = max(1, round(fraction * len(self)))
        if count >= len(self):
            raise DataError(f"a fraction of {fraction} of {len(self)} rows leaves nothing to train on")
        return self[np.sort(order[count:])], self[np.sort(order[:count])]

    def __repr__(self) -> str:
        classes = f", {len(self.class_names)} classes" if self.class_names else ""
        return f"Dataset({self.name or 'unnamed'}: {len(self)} rows of shape {self.x.shape[1:]}{classes})"


def _as_class_names(names: Any) -> tuple[str, ...]:
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise DataError(f"class_names holds a name for each class, as in ('cat', 'dog'); got {names!r}")
    return tuple(map(str, names))


def as_dataset(data: Any, name: str) -> Dataset:
    """Return `data`, a Dataset or a pair (x, y) of array-likes, as a checked Dataset.

    Labels that are bools become class numbers. Raises DataError if there are no rows, if x and y have different numbers
    of rows, if y holds names, or if a number is NaN or infinite; `name` says in messages which data it is.
    """
    if isinstance(data, Dataset):
        x, y, class_names, title = data.x, data.y, data.class_names, data.name
    elif isinstance(data, tuple | list) and len(data) == 2:
        x, y, class_names, title = data[0], data[1], None, ""
    else:
        hint = "; write train, validation = ns.Dataset(x, y).split(0.2)" if isinstance(data, float) else ""
        if hasattr(data, "batch_size"):  # ns.batches, a DataLoader
            hint = "; give the data themselves, and batch_size=, as batches are made of them here"
        if hasattr(data, "frame"):
            hint = "; write tables.Preprocessor.fit(table).dataset(table)"
        raise DataError(f"{name} is a Dataset or a pair (x, y) of arrays, got {type(data).__name__}{hint}")
    x, y = as_array_of_rows(x, f"x of {name}"), as_array_of_rows(y, f"y of {name}")
    if x.ndim == 0 or y.ndim == 0 or len(x) == 0:
        raise DataError(f"{name} has no rows: x has shape {x.shape}, y has shape {y.shape}")
    if len(x) != len(y):
        raise DataError(f"{name} has {len(x)} rows x but {len(y)} targets y; there must be one for each row")
    if x.dtype.kind not in "biuf":
        raise DataError(f"x of {name} holds {x.dtype}, not numbers")
    if y.dtype.kind == "b":
        y = y.astype(np.int64)
    elif y.dtype.kind in "US":
        # Numbered here, the same name could get one number in training and another in a test set that lacks a class.
        raise DataError(
            f"y of {name} holds names; number them once, for all parts of the data together: "
            "names, y = numpy.unique(y, return_inverse=True), and pass nissl.Dataset(x, y, tuple(names))"
        )
    elif y.dtype.kind not in "iuf":
        raise DataError(f"y of {name} holds {y.dtype}; targets are class numbers or real numbers")
    _check_finite(x, f"x of {name}")
    _check_finite(y, f"y of {name}")
    return Dataset(x, y, class_names, title)


def as_array_of_rows(values: Any, name: str) -> npt.NDArray[Any]:
    """Return what a user gives as data as an array, or raise DataError."""
    if is_masked(values):
        raise DataError(
            f"{name} has masked numbers, which stand for missing ones; fill them in or leave those rows out"
        )
    try:
        array = values.numpy() if isinstance(values, Tensor) else np.asarray(values)
    except ValueError as error:
        raise DataError(f"{name} is not an array: {why_no_array(error)}") from None
    if array.dtype == object:
        if array.size and all(isinstance(value, str) for value in array.flat):
            return array.astype(str)
        if all(isinstance(value, Real | np.bool_) for value in array.flat):  # as from a frame with bools and floats
            raise DataError(f"{name} holds numbers, but as Python objects; convert it, as in x.astype('float32')")
        raise DataError(f"{name} holds Python objects of mixed kinds, not numbers")
    return array


def _check_finite(array: npt.NDArray[Any], name: str) -> None:
    # If the sum is finite, all are, and it costs no memory; one that is not may have overflowed.
    if array.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):
            return
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise DataError(
            f"{name} has {len(bad)} NaN or infinite numbers, the first at index {place}; "
            "fill them in or leave those rows out"
        )


def to_dtype(array: npt.NDArray[Any], dtype: np.dtype[Any], name: str) -> npt.NDArray[Any]:
    """Return numbers in the dtype that a model computes in, or raise DataError if one is too large for it."""
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype, copy=False)
    except FloatingPointError:
        largest = np.abs(array).max()
        raise DataError(f"{name} holds {largest:g}, which {dtype} cannot hold; scale it, or use float64") from None
