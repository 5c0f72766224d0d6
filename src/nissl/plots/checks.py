"""What pictures are given, checked at the door.

Each function here returns an argument as the kind of thing that it has to be, or raises an error that says which
function got what as which argument, and what it expected. `where` names the function, `what` the argument.
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.errors import DataError, OptionError, ShapeError

Array = npt.NDArray[Any]
Range = tuple[float, float]

LARGEST = 1e300  # matplotlib adds margins to the range of what it draws, which must stay a number
NARROWEST = 1e-12  # width of a range beside its ends: of a narrower one the grid points would be equal


def real_numbers(where: str, what: str, given: object) -> Array:
    """Return what is like an array, a Tensor too, as an array of real numbers; None within it is NaN.

    >>> real_numbers("lines", "x", [1, None])
    array([ 1., nan])
    """
    try:
        array = np.asarray(given)
        if array.dtype.kind == "O" and given is not None and not any(isinstance(part, str) for part in array.flat):
            array = array.astype(np.float64)
    except ValueError:
        raise ShapeError(f"{where} got {what} = {said(given)}, whose parts differ in shape") from None
    except (TypeError, OverflowError):
        raise DataError(f"{where} got {what} = {said(given)}; expected real numbers") from None
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} got {what} = {said(given)}; expected real numbers")
    return array


def numbers(
    where: str,
    what: str,
    given: object,
    axes: tuple[str | int, ...] | None,
    *,
    finite: bool = False,
    empty: bool = False,
    largest: float = LARGEST,
    hint: str = "",
) -> Array:
    """Return what is like an array as one of float64, with these `axes`: names, or sizes where those are given.

    With `axes` None it may have any shape. Raises ShapeError for another shape and, unless it may be `empty`, for no
    numbers at all; DataError for numbers beyond `largest` and, if they have to be `finite`, for NaN and infinity.

    >>> numbers("contour_paths", "a path", [[1, 2, 3]], ("steps", 2))
    Traceback (most recent call last):
    nissl.errors.ShapeError: contour_paths got a path of shape (1, 3); expected (steps, 2)
    """
    array = real_numbers(where, what, given)
    check_shape(where, what, array, axes, empty=empty, hint=hint)
    array = array.astype(np.float64)
    there = np.isfinite(array)
    if finite and not there.all():
        raise DataError(f"{where} got {what} with NaN or infinity in it{hint}")
    if (np.abs(array, where=there, out=np.zeros(array.shape)) > largest).any():
        raise DataError(f"{where} got {what} with numbers beyond ±{largest:g}, which are too large to draw")
    return array


def check_shape(
    where: str, what: str, array: Array, axes: tuple[str | int, ...] | None, *, empty: bool = False, hint: str = ""
) -> None:
    """Raise ShapeError unless an array has these axes; see `numbers`."""
    fits = axes is None or (
        array.ndim == len(axes)
        and all(axis == size for axis, size in zip(axes, array.shape, strict=True) if isinstance(axis, int))
    )
    if not fits or (array.size == 0 and not empty):
        expected = "one number or more" if axes is None else f"({', '.join(map(str, axes))}{',' * (len(axes) == 1)})"
        more = ", with at least one number" if fits and axes is not None else ""
        raise ShapeError(f"{where} got {what} of shape {array.shape}; expected {expected}{more}{hint}")


def number(where: str, what: str, given: object) -> float:
    """Return one number, which may come as an array of one element."""
    array = real_numbers(where, what, given)
    if array.size != 1:
        raise ShapeError(f"{where} got {what} of shape {array.shape}; expected one number")
    return float(array.reshape(()))


def span(where: str, what: str, given: object) -> Range:
    """Return a range, (low, high)."""
    array = real_numbers(where, what, given)
    if array.shape != (2,):
        raise ShapeError(f"{where} got {what} = {said(given)}; expected a range, two numbers (low, high)")
    low, high = map(float, array)
    # NaN and infinity fail this too.
    if not (max(abs(low), abs(high)) <= LARGEST and high - low > NARROWEST * max(abs(low), abs(high), 1 / LARGEST)):
        raise OptionError(f"{where} got {what} = ({low:g}, {high:g}); expected a range (low, high) with low < high")
    return low, high


def count(where: str, what: str, given: Any, least: int = 1, most: int | None = None) -> int:
    """Return a whole number from `least` to `most`."""
    try:
        whole = operator.index(given)
    except TypeError:
        whole = least - 1
    if whole < least or (most is not None and whole > most):
        to = "" if most is None else f" to {most}"
        raise OptionError(f"{where} got {what} = {said(given)}; expected a whole number from {least}{to}")
    return whole


def mapping(where: str, what: str, given: object, expected: str) -> Mapping[Any, Any]:
    """Return a mapping that is not empty."""
    if not isinstance(given, Mapping):
        raise DataError(f"{where} got {what} = {said(given)}; expected {expected}")
    if not given:
        raise DataError(f"{where} got no {what}, so there is nothing to draw; expected {expected}")
    return given


def names(where: str, what: str, given: object) -> list[Any]:
    """Return names, which may be numbers too, as a list.

    >>> names("mistakes", "true_names", np.array([3, 7]))
    [3, 7]
    """
    listed = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(listed, str | bytes | Mapping) or not isinstance(listed, Iterable):
        raise DataError(f"{where} got {what} = {said(given)}; expected a list of names")
    return list(listed)


def checked_function(where: str, what: str, given: object) -> Callable[..., Any]:
    """Return what can be called."""
    if not callable(given):
        raise OptionError(f"{where} got {what} = {said(given)}; expected a function")
    return given


def log_axes(where: str, given: object) -> str:
    """Return which axes are logarithmic: "", "x", "y" or "xy"."""
    if not isinstance(given, str) or given not in ("", "x", "y", "xy"):
        raise OptionError(f'{where} got log = {said(given)}; expected "x", "y", "xy" or "" for none')
    return given


def check_above_zero(where: str, what: str, array: Array) -> None:
    """Raise DataError if a number has no place on a logarithmic axis."""
    if (array <= 0).any():
        raise DataError(
            f"{where} got {what} with numbers of 0 or below, for which a logarithmic axis has no place; "
            "leave them out, as NaN, or choose another `log`"
        )


def said(given: object) -> str:
    """Return what was given in a few words of one line.

    >>> said("abc"), said(None), said(range(3))
    ("'abc'", 'None', 'range(0, 3)')
    """
    return " ".join(reprlib.repr(given).split())
