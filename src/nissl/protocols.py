"""NumPy's own functions on Tensors: `np.exp(w)`, `array * w` and `np.sum(w)` are nissl's, so that no gradient is lost.

NumPy asks a Tensor among its arguments, by the methods defined here, what a call means. Where nissl has the function,
with these arguments, it is called and gives a Tensor; all others get the values as arrays, unless that would lose a
gradient without a word.
Sources: NEP 13, NEP 18 (NumPy enhancement proposals).
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from nissl.engines.base import current
from nissl.errors import GradientError, OptionError
from nissl.functional import clip
from nissl.ops.linalg import tensordot
from nissl.ops.movement import concat, pad, stack
from nissl.ops.reduce import max as largest
from nissl.ops.reduce import min as smallest
from nissl.tensor import OPS, Op, Tensor, as_tensor, method


def _dot(a: Any, b: Any) -> Tensor:
    a, b = as_tensor(a), as_tensor(b)
    if not a.ndim or not b.ndim:
        return a * b
    return a @ b if b.ndim <= 2 else tensordot(a, b, (-1, -2))


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    return clip(a, a_min if min is None else min, a_max if max is None else max)


def _concatenate(arrays: Any, axis: int | None = 0) -> Tensor:
    return concat([as_tensor(x).reshape(-1) for x in arrays]) if axis is None else concat(arrays, axis)


def _pad(array: Tensor, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Any:
    widths = np.asarray(pad_width)
    if mode != "constant" or widths.dtype.kind not in "iu" or np.ndim(constant_values):
        return NotImplemented
    return pad(array, np.broadcast_to(widths, (array.ndim, 2)).tolist(), constant_values)


def _of_bools(op: Op) -> Callable[..., Any]:
    """Return what a function of bits means for bools; the bits of integers are left to NumPy."""

    def call(*inputs: Any) -> Any:
        tensors = [as_tensor(x) for x in inputs]
        return op(*tensors) if all(x.dtype == np.bool_ for x in tensors) else NotImplemented

    return call


# NumPy's functions where nissl, or Python, has another name, or takes other arguments. Those that mean something else
# for some arguments answer NotImplemented to these.
_RENAMED: dict[str, Callable[..., Any]] = {
    "absolute": OPS["abs"],
    "add": OPS["add"],
    "amax": largest,
    "amin": smallest,
    "bitwise_and": _of_bools(OPS["logical_and"]),
    "bitwise_or": _of_bools(OPS["logical_or"]),
    "broadcast_to": lambda array, shape: array.broadcast_to(shape),
    "clip": _clip,
    "concatenate": _concatenate,
    "divide": OPS["div"],
    "dot": _dot,
    "expand_dims": lambda a, axis: a.reshape(np.expand_dims(np.broadcast_to(0, a.shape), axis).shape),
    "invert": _of_bools(OPS["logical_not"]),
    "matmul": lambda a, b: as_tensor(a) @ b,
    "multiply": OPS["mul"],
    "ndim": lambda x: x.ndim,
    "negative": OPS["neg"],
    "pad": _pad,
    "positive": operator.pos,
    "power": OPS["pow"],
    "reciprocal": lambda x: 1.0 / x if x.dtype.kind == "f" else NotImplemented,
    "reshape": lambda a, shape: a.reshape(shape),
    "shape": lambda x: x.shape,
    "size": lambda x: x.size,
    "stack": stack,
    "subtract": OPS["sub"],
    "tensordot": tensordot,
    "transpose": lambda x, axes=None: x.T if axes is None else x.permute_dims(axes),
}

# Their results are floats, but nobody takes them for something that a gradient flows through.
_OF_VALUES = frozenset({"copy", "empty_like", "full_like", "ones_like", "zeros_like", "round"})


@method
def __array_ufunc__(self: Tensor, ufunc: np.ufunc, how: str, *inputs: Any, **options: Any) -> Any:  # noqa: N807
    """Answer np.exp(x), array * x, np.add(x, y, out=...) and the other calls of NumPy's elementwise functions."""
    if how == "__call__":
        return _call(ufunc, ufunc.__name__, inputs, options)
    return _call(getattr(ufunc, how), f"{ufunc.__name__}.{how}", inputs, options)


@method
def __array_function__(self: Tensor, function: Callable[..., Any], types: Any, inputs: Any, options: Any) -> Any:  # noqa: N807
    """Answer np.sum(x), np.concatenate([x, y]) and the other calls of NumPy's functions of whole arrays."""
    module = function.__module__.removeprefix("numpy").removeprefix(".")
    return _call(function, f"{module}.{function.__name__}".removeprefix("."), inputs, options)


def _call(function: Callable[..., Any], name: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    options = {key: value for key, value in options.items() if value is not _defaults(function).get(key, _NOTHING)}
    ours = _RENAMED.get(name) or getattr(Tensor, name, None) or OPS.get(name)
    if name not in _OF_VALUES and callable(ours) and _accepts(ours, inputs, options):
        result = ours(*inputs, **options)
        if result is not NotImplemented:
            return result
    current.engine.require_values(f"np.{name}()", "Write it with operations of nissl")
    out = options.get("out")
    if any(isinstance(target, Tensor) for target in (out if isinstance(out, tuple) else (out,))):
        raise OptionError(f"np.{name}() cannot write into a Tensor; give the result to assign()")
    tensors: list[Tensor] = []
    inputs, options = _values(inputs, tensors), _values(options, tensors)
    wanted = current.recording and name not in _OF_VALUES and any(x.requires_grad for x in tensors)
    result = None if wanted and out is not None else function(*inputs, **options)
    if wanted and (out is not None or _has_floats(result)):
        raise GradientError(
            f"np.{name}() of a Tensor that requires a gradient: nissl has no such function with these arguments, "
            "so the gradient would be lost; for the values alone give it x.numpy(), or call it inside ns.no_grad()"
        )
    return result


def _accepts(ours: Callable[..., Any], inputs: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Return whether nissl's function takes these arguments."""
    signature = _signature(ours)
    try:
        signature.bind(*inputs, **options)
    except TypeError:
        return False
    # The third argument of NumPy's reductions is another than of nissl's.
    return len(inputs) < 3 or "keepdims" not in signature.parameters


@functools.cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


_NOTHING = object()


@functools.cache
def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return NumPy's defaults of a function, which say as much as no argument does."""
    try:
        parameters = _signature(function).parameters.values()
    except ValueError:  # for some ufuncs
        return {}
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _values(given: Any, tensors: list[Tensor]) -> Any:
    """Return `given` with arrays in the place of Tensors, in nested containers too; collect these."""
    if isinstance(given, Tensor):
        tensors.append(given)
        return given.numpy()
    if isinstance(given, dict):
        return {key: _values(value, tensors) for key, value in given.items()}
    if type(given) in (list, tuple):
        return type(given)(_values(value, tensors) for value in given)
    return given


def _has_floats(result: Any) -> bool:
    if isinstance(result, tuple | list):
        return any(map(_has_floats, result))
    return isinstance(result, np.ndarray | np.generic) and result.dtype.kind in "fc"
