"""The eager engine: NumPy computes each op at once. It is the reference that other engines are measured against."""

import functools
import inspect
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.engines.base import Current, Gradient
from nissl.tensor import Op, Tensor

Array = npt.NDArray[Any]


def sigmoid(x: Array) -> Array:
    """Return 1/(1 + e⁻ˣ) without overflow, right to the last digits for large negative x too."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


@functools.cache
def _erf() -> Callable[[Array], Array]:
    from scipy.special import erf

    return erf


class NumpyMaths:
    """The maths namespace `m` of the elementwise ops, for arrays."""

    sub = staticmethod(operator.sub)
    pow = staticmethod(operator.pow)
    exp = np.exp
    log = np.log
    log1p = np.log1p
    expm1 = np.expm1
    sqrt = np.sqrt
    abs = np.abs
    sign = np.sign
    sin = np.sin
    cos = np.cos
    tanh = np.tanh
    sigmoid = staticmethod(sigmoid)
    maximum = np.maximum
    minimum = np.minimum
    where = staticmethod(np.where)
    logical_and = np.logical_and
    logical_or = np.logical_or
    logical_not = np.logical_not

    @staticmethod
    def erf(x: Array) -> Array:
        """Return the error function."""
        return _erf()(x)

    @staticmethod
    def copy(x: Array) -> Array:
        """Return x in memory of its own."""
        return np.array(x)

    @staticmethod
    def astype(x: Array, dtype: np.dtype[Any]) -> Array:
        """Return x in another dtype."""
        return x.astype(dtype)


def evaluate(op: Op, payloads: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Return the value of `op` on arrays and Python numbers, by its defining rule, or the tuple of its values."""
    if op.kind == "elementwise":
        value = op.value(NumpyMaths, *payloads, **attributes)
    else:
        value = op.value(*payloads, **attributes)
    if type(value) is np.ndarray:
        return value
    # NumPy makes scalars out of results without axes.
    return tuple(map(np.asarray, value)) if op.outputs > 1 else np.asarray(value)


def keep_freed_memory() -> None:
    """Let the C library keep what arrays free, instead of handing it back to the system and asking again.

    glibc does so for blocks up to the largest one, of at most 32 MiB, that was ever freed: so one is freed, untouched.
    Measured on a 784-128-10 step: 180 page faults without it, none with it, and a quarter less time.
    """
    np.empty(31 << 20, np.uint8)


# From this size on, an update in one pass is worth the tenth of a second that LLVM takes to load. Measured on 784×128
# parameters and Adam: 12 NumPy calls take 115 µs, one pass over memory 25 µs.
ONE_PASS_SIZE = 1 << 14


def _unshared_count() -> int:
    tensor = Tensor.__new__(Tensor)
    tensor.payload = np.empty(1)
    return sys.getrefcount(tensor.payload)


# How many references an array has, as this Python counts them, that a Tensor holds and nothing else.
UNSHARED = _unshared_count()


class EagerEngine:
    """Computes each op at once, with NumPy."""

    def run(self, op: Op, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        """Return the array that `op` makes of `inputs`, or the tuple of them."""
        payloads = [x.payload if isinstance(x, Tensor) else x for x in inputs]
        try:
            return evaluate(op, payloads, attributes)
        except Exception:
            explain_failure(op, payloads, attributes)
            raise

    def read(self, tensor: Tensor) -> Any:
        """Return the array of the Tensor."""
        return tensor.payload

    def constant(self, array: Array) -> Array:
        """Return the array itself."""
        return array

    def write(self, tensor: Tensor, new: Tensor) -> None:
        """Let `tensor` hold the array of `new`. Arrays never change in place, so the two may share it."""
        tensor.payload = new._array()

    def update(self, op: Op, targets: Sequence[Tensor], inputs: Sequence[Any], attributes: Mapping[str, Any]) -> None:
        """Let the targets hold the results of `op`: large ones in one pass over memory, with the bits of NumPy's."""
        results = None
        if targets[0].size >= ONE_PASS_SIZE:
            from nissl.engines.native.elementwise import one_pass

            spare = [t.payload if sys.getrefcount(t.payload) <= UNSHARED else None for t in targets]
            results = one_pass(op, [x.payload if isinstance(x, Tensor) else x for x in inputs], attributes, spare)
        for target, result in zip(targets, results or self.run(op, inputs, attributes), strict=True):
            target.payload = result

    def gradient(self, tensor: Tensor) -> Gradient | None:
        """Return the gradient kept at the Tensor."""
        return tensor.waiting_gradient

    def set_gradient(self, tensor: Tensor, gradient: Gradient | None) -> None:
        """Keep a gradient at the Tensor."""
        tensor.waiting_gradient = gradient

    def require_values(self, question: str) -> None:
        """Return: values are there at any time."""

    def observe(self, configuration: Any) -> None:
        """Return: nothing is remembered from one op to the next."""

    def enter(self, module: Any) -> None:
        """Return: it does not matter whose op it is."""

    def leave(self, module: Any) -> None:
        """Return: it does not matter whose op it is."""


def explain_failure(op: Op, payloads: Sequence[Any], attributes: Mapping[str, Any]) -> None:
    """Raise the clear error for what NumPy refused, if the op's shape rule or a leaked Tensor is the reason.

    Asked only after a failure, so that what works pays nothing for the check.
    """
    for payload in payloads:
        if hasattr(payload, "fail"):
            payload.fail("the values")
    if op.kind == "elementwise":
        try:
            inspect.signature(op).bind(*payloads, **attributes)
        except TypeError as error:
            raise TypeError(f"{op.name}(): {error}") from None
    op.shape(*(np.shape(payload) for payload in payloads), **attributes)


keep_freed_memory()
Current.engine = EagerEngine()
