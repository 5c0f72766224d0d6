"""The eager engine: NumPy computes each op at once. It is the reference that other engines are tested against."""

import functools
import inspect
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.engines.base import Current, Gradient
from nissl.errors import CallError
from nissl.tensor import Op, Tensor

Array = npt.NDArray[Any]


def sigmoid(x: Array) -> Array:
    """Return 1/(1 + e⁻ˣ) without overflow, and with full relative precision for large negative x."""
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
        """Return a copy of x."""
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
    return value if type(value) is np.ndarray else arrays_of(op, value)


def rule(op: Op, attributes: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the function of payloads by which `evaluate` computes, before `arrays_of`."""
    maths = (NumpyMaths,) if op.kind == "elementwise" else ()
    return functools.partial(op.value, *maths, **attributes) if maths or attributes else op.value


def arrays_of(op: Op, value: Any) -> Any:
    """Return the value, or values, of an op as arrays: NumPy returns scalars, not 0-d arrays."""
    return tuple(map(np.asarray, value)) if op.outputs > 1 else np.asarray(value)


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for new arrays, instead of returning it to the system.

    glibc raises its threshold for mmap to the size of the largest block that was freed, up to 32 MiB: so one is
    allocated and freed, without touching its pages. Measured on a 784-128-10 step: 180 page faults without it, none
    with it, and a quarter less time.
    """
    np.empty(31 << 20, np.uint8)


# From this size on, a fused update is worth the tenth of a second that LLVM takes to load. Measured on 784×128
# parameters and Adam: 12 NumPy calls take 115 µs, one pass over memory 25 µs.
ONE_PASS_SIZE = 1 << 14


def _unshared_count() -> int:
    tensor = Tensor.__new__(Tensor)
    tensor.payload = np.empty(1)
    return sys.getrefcount(tensor.payload)


# The reference count, on this Python, of an array that only a Tensor holds.
UNSHARED = _unshared_count()


class EagerEngine:
    """Computes each op at once, with NumPy."""

    def run(self, op: Op, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        """Return the array that `op` computes from `inputs`, or a tuple of them."""
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
        """Let `tensor` hold the array of `new`; the two may share it, as a shared array is never changed in place."""
        tensor.payload = new._array()

    def update(self, op: Op, targets: Sequence[Tensor], inputs: Sequence[Any], attributes: Mapping[str, Any]) -> None:
        """Let the targets hold the results of `op`: large ones in one pass over memory, bitwise equal to NumPy's."""
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

    def require_values(self, what: str, instead: str = "") -> None:
        """Do nothing: values are always available."""

    def observe(self, configuration: Any) -> None:
        """Do nothing: there is no trace that could depend on it."""

    def enter(self, module: Any) -> None:
        """Do nothing: modules do not matter here."""

    def leave(self, module: Any) -> None:
        """Do nothing: modules do not matter here."""


def explain_failure(op: Op, payloads: Sequence[Any], attributes: Mapping[str, Any]) -> None:
    """Raise a clear error for what NumPy refused, if the op's shape rule or a leaked Tensor is the reason.

    Called only after a failure, so that calls that succeed pay nothing for the check.
    """
    for payload in payloads:
        if hasattr(payload, "fail"):
            payload.fail("the values")
    if op.kind == "elementwise":
        try:
            inspect.signature(op).bind(*payloads, **attributes)
        except TypeError as error:
            raise CallError(f"{op.name}(): {error}") from None
    op.shape(*(np.shape(payload) for payload in payloads), **attributes)


keep_freed_memory()
Current.engine = EagerEngine()
