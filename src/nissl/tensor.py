"""Tensor, Op and apply: the three that need each other.

A Tensor is a handle on a payload, which is a NumPy array, or a Symbol while a function is traced. An Op is an immutable
record of what an operation means. `apply(op, *inputs)` is the one gate through which every operation goes: it asks the
current engine for the payload and, if a gradient may be wanted, remembers in the new Tensor the op and inputs that made
it. The backward walk over that memory is in `autodiff.py`; the ops are in `ops/`.

Payloads are never changed in place here: `assign` gives the handle another payload.
"""

from __future__ import annotations

import functools
import itertools
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from nissl import habits, notebook
from nissl.engines.base import Gradient, current, recording
from nissl.errors import CallError, DTypeError, GradientError, NisslError, OptionError, ShapeError, TracingError
from nissl.shapes import Shape, describe

DEFAULT_FLOAT = np.dtype(np.float32)
DEFAULT_INTEGER = np.dtype(np.int64)

DTypeLike = npt.DTypeLike | None
TensorLike = Any  # a Tensor, an array, a nested list, or a number


class Tensor:
    """A multi-dimensional array that can remember how it was made.

    Made by `ns.tensor(data)`, which copies. Python floats become float32; NumPy arrays keep their dtype.

    >>> import nissl as ns
    >>> x = ns.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    # What most Tensors have in common stands on the class, so that making one stays cheap.
    payload: Any
    requires_grad: bool = False
    op: Op | None = None
    inputs: tuple[Any, ...] = ()
    attributes: dict[str, Any] = {}  # noqa: RUF012  (never changed)
    number: int = 0  # results that remember their inputs are numbered in the order in which they are made
    waiting_gradient: Gradient | None = None
    weak: bool = False  # a Python number given to a compiled function: it takes the dtype of what it meets
    owns_payload: bool = False  # Parameters and Buffers: an engine may write into the payload, so readers get copies

    def __init__(self, data: TensorLike, dtype: DTypeLike = None, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            converted = data if dtype is None else data.astype(dtype)
            self.payload = converted.payload
        else:
            self.payload = current.engine.constant(as_array(data, dtype))
        if requires_grad and self.payload.dtype.kind != "f":
            raise DTypeError(
                f"only Tensors of floats can require a gradient, got {self.payload.dtype}; "
                "write 1.0 in place of 1, or say dtype='float32'"
            )
        self.requires_grad = requires_grad

    @property
    def shape(self) -> Shape:
        """The sizes of the axes."""
        return self.payload.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.payload.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.payload.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self.payload.dtype

    @property
    def T(self) -> Tensor:  # noqa: N802  (NumPy's name)
        """The Tensor with its axes in reverse order."""
        return apply(OPS["permute_dims"], self, axes=tuple(range(self.ndim))[::-1])

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` left here; it adds up until an optimizer has used it."""
        gradient = current.engine.gradient(self)
        if gradient is None:
            return None
        if gradient.value is None:
            raise TracingError(
                "this gradient was used by an optimizer inside a compiled function and not kept; "
                "to read it afterwards, compile with ns.compile(f, keep_gradients=True)"
            )
        return gradient.value

    @grad.setter
    def grad(self, value: TensorLike | None) -> None:
        if value is not None:
            value = as_tensor(value)
            if value.shape != self.shape:
                raise ShapeError(f"a gradient has the shape of its Tensor, {self.shape}; got {value.shape}")
            value = Gradient(value.detach())
        current.engine.set_gradient(self, value)

    def numpy(self) -> npt.NDArray[Any]:
        """Return the values: a copy for a Parameter or Buffer, else a view that cannot be written to."""
        current.engine.require_values("numpy()")
        if self.owns_payload:
            return np.array(self._array())
        view = self._array().view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """Return the one element as a Python number."""
        current.engine.require_values("item()")
        if self.size != 1:
            raise ShapeError(f"item() needs a Tensor of one element, this one has shape {self.shape}")
        return self._array().item()

    def tolist(self) -> Any:
        """Return the values as nested lists of Python numbers."""
        current.engine.require_values("tolist()")
        return self._array().tolist()

    def detach(self) -> Tensor:
        """Return a Tensor of the same values through which no gradient flows; a copy for a Parameter or Buffer."""
        if self.owns_payload:
            with recording(False):
                return apply(OPS["copy"], self)
        return wrap(current.engine.read(self))

    def assign(self, new: TensorLike) -> None:
        """Let this Tensor hold the values of `new`, of the same shape and dtype; inside a compiled step too."""
        new = as_tensor(new, self.dtype) if not isinstance(new, Tensor) else new
        if new.shape != self.shape:
            raise ShapeError(f"assign: a Tensor of shape {self.shape} cannot take values of shape {new.shape}")
        if new.dtype != self.dtype:
            raise DTypeError(f"assign: a Tensor of {self.dtype} cannot take values of {new.dtype}; use astype first")
        if self.op is not None:
            raise OptionError("assign: this Tensor is the result of an operation; only Tensors made by hand can change")
        current.engine.write(self, new)

    def _array(self) -> npt.NDArray[Any]:
        if not isinstance(self.payload, np.ndarray):
            self.payload.fail("the values")
        return self.payload

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return np.array(self.numpy()).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return np.empty(0).__dlpack_device__()

    def __float__(self) -> float:
        current.engine.require_values("float()")
        return float(self.item())

    def __int__(self) -> int:
        current.engine.require_values("int()")
        return int(self.item())

    def __index__(self) -> int:
        current.engine.require_values("use as an integer")
        return operator.index(self._array())

    def __bool__(self) -> bool:
        current.engine.require_values("a truth value (if, while, and, or, not)", "Use ns.where instead of if")
        if self.size != 1:
            raise ShapeError(
                f"the truth value of a Tensor of shape {self.shape} is unclear; "
                "reduce it to one element, as with .min() or .max()"
            )
        return bool(self.item())

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a Tensor without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec else str(self), spec)

    def __repr__(self) -> str:
        if not isinstance(self.payload, np.ndarray):
            return f"tensor(traced {describe(self.payload)})"
        values = np.array2string(self.payload, separator=", ", prefix="tensor(")
        notes = "" if self.dtype in (DEFAULT_FLOAT, DEFAULT_INTEGER, np.bool_) else f", dtype={self.dtype}"
        return f"tensor({values}{notes}{', requires_grad=True' if self.requires_grad else ''})"

    def _repr_html_(self) -> str:
        """Return the numbers as a table for a notebook, or as text if a table cannot hold them."""
        if not isinstance(self.payload, np.ndarray) or self.ndim not in (1, 2) or not self.size:
            return notebook.text(repr(self))
        shape = "×".join(map(str, self.shape))
        return notebook.array_table(
            self.payload, f"tensor {shape} {self.dtype}{', requires_grad=True' if self.requires_grad else ''}"
        )

    def __neg__(self) -> Tensor:
        return apply(OPS["neg"], self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return apply(OPS["abs"], self)

    def __invert__(self) -> Tensor:
        return apply(OPS["logical_not"], _of_bools("~", self))

    # `w -= lr * w.grad`: on what lives on, it changes the values, as elsewhere; a result gets the name `w` anew.

    def __iadd__(self, other: TensorLike) -> Tensor:
        return self._become("+=", self + other)

    def __isub__(self, other: TensorLike) -> Tensor:
        return self._become("-=", self - other)

    def __imul__(self, other: TensorLike) -> Tensor:
        return self._become("*=", self * other)

    def __itruediv__(self, other: TensorLike) -> Tensor:
        return self._become("/=", self / other)

    def __ipow__(self, other: TensorLike) -> Tensor:
        return self._become("**=", self**other)

    def _become(self, operator: str, new: Tensor) -> Tensor:
        """Return the result of an operator such as `-=`: itself, changed, for Parameters, Buffers and other leaves."""
        if self.op is not None or not (self.requires_grad or self.owns_payload):
            return new
        if new.requires_grad:
            raise GradientError(
                f"{operator} changes a {type(self).__name__} itself, and would lose the gradient of the result; "
                "to change its values write w.assign(w - lr * w.grad), or do it inside with ns.no_grad()"
            )
        self.assign(new)
        return self

    def __add__(self, other: TensorLike) -> Tensor:
        return apply(OPS["add"], self, other)

    def __radd__(self, other: TensorLike) -> Tensor:
        return apply(OPS["add"], other, self)

    def __sub__(self, other: TensorLike) -> Tensor:
        return apply(OPS["sub"], self, other)

    def __rsub__(self, other: TensorLike) -> Tensor:
        return apply(OPS["sub"], other, self)

    def __mul__(self, other: TensorLike) -> Tensor:
        return apply(OPS["mul"], self, other)

    def __rmul__(self, other: TensorLike) -> Tensor:
        return apply(OPS["mul"], other, self)

    def __truediv__(self, other: TensorLike) -> Tensor:
        return apply(OPS["div"], self, other)

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return apply(OPS["div"], other, self)

    def __pow__(self, other: TensorLike) -> Tensor:
        return apply(OPS["pow"], self, other)

    def __rpow__(self, other: TensorLike) -> Tensor:
        return apply(OPS["pow"], other, self)

    def __matmul__(self, other: TensorLike) -> Tensor:
        return self.matmul(other)

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return as_tensor(other).matmul(self)

    def __lt__(self, other: TensorLike) -> Tensor:
        return apply(OPS["less"], self, other)

    def __le__(self, other: TensorLike) -> Tensor:
        return apply(OPS["less_equal"], self, other)

    def __gt__(self, other: TensorLike) -> Tensor:
        return apply(OPS["greater"], self, other)

    def __ge__(self, other: TensorLike) -> Tensor:
        return apply(OPS["greater_equal"], self, other)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        if other is None:
            return NotImplemented
        return apply(OPS["equal"], self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        if other is None:
            return NotImplemented
        return apply(OPS["not_equal"], self, other)

    def __and__(self, other: TensorLike) -> Tensor:
        return apply(OPS["logical_and"], _of_bools("&", self), _of_bools("&", other))

    def __rand__(self, other: TensorLike) -> Tensor:
        return apply(OPS["logical_and"], _of_bools("&", other), _of_bools("&", self))

    def __or__(self, other: TensorLike) -> Tensor:
        return apply(OPS["logical_or"], _of_bools("|", self), _of_bools("|", other))

    def __ror__(self, other: TensorLike) -> Tensor:
        return apply(OPS["logical_or"], _of_bools("|", other), _of_bools("|", self))

    # Elementwise == does not give an equivalence, so a Tensor is a key by its identity.
    __hash__ = object.__hash__

    def __getitem__(self, key: Any) -> Tensor:
        return self.getitem(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("a Tensor does not change element by element; use ns.where, or assign() a whole new value")

    if TYPE_CHECKING:
        # The functions that the ops add as methods with `@method`: x.sum(axis=0), x.exp(), x.reshape(...), ...
        def __getattr__(self, name: str) -> Any: ...
    else:
        __getattr__ = habits.attributes(habits.TENSOR)


def _of_bools(operator: str, x: TensorLike) -> Tensor:
    x = as_tensor(x)
    if x.dtype != np.bool_:
        raise DTypeError(
            f"{operator} is for Tensors of bools, got {x.dtype}; for others there is ns.logical_and and so on"
        )
    return x


def wrap(payload: Any) -> Tensor:
    """Return a Tensor that holds `payload`, without a copy: for arrays that nobody else writes to, and Symbols."""
    tensor = Tensor.__new__(Tensor)
    tensor.payload = payload
    return tensor


@dataclass(frozen=True, eq=False)
class Op:
    """An operation: what it computes, what comes out, and how a gradient flows back.

    `value` computes it. For an elementwise op, `value(m, *elements)` says it in terms of a maths namespace `m` that
    every engine provides; for other kinds, `value(*arrays, **attributes)` in NumPy is the meaning, which other engines
    match.

    `gradients` holds a rule for each input: `rule(g, y, *inputs, **attributes)` gives the gradient with respect to that
    input, from the gradient `g` with respect to the result `y`, in Tensors, so that it can be traced and differentiated
    again. A rule may ignore broadcasting: the backward walk undoes it. None marks an input without a gradient; a
    single rule in `variadic_gradient`, given the position too, serves ops with any number of inputs.
    """

    name: str
    kind: str  # elementwise, reduce, matmul, movement, index, source or random
    value: Callable[..., Any]
    shape: Callable[..., Shape]
    dtype: Callable[..., np.dtype[Any]]
    gradients: tuple[Callable[..., Tensor] | None, ...] = ()
    variadic_gradient: Callable[..., Tensor] | None = None
    outputs: int = 1  # elementwise ops may have several, of one shape and dtype; no gradient flows through those
    promoted_from: int | None = None  # inputs from this one on are brought to a common dtype
    lowest_kind: str = "b"  # inputs of a kind before it in _KINDS are brought to it first: bools "b", integers, floats
    # An engine may round by a few units in the last place otherwise than the formula says, give NaN for x/0, and let
    # results after the first be 0 where they are subnormal.
    rough: bool = False
    # Where the result has the shape and dtype of the first input, it is that input: nothing is computed or moved.
    passes_through: bool = False
    doc: str = ""

    def __post_init__(self) -> None:
        if self.name in OPS:
            raise AssertionError(f"there are two ops named {self.name}")
        OPS[self.name] = self
        object.__setattr__(self, "__doc__", self.doc)

    @functools.cached_property
    def differentiable(self) -> bool:
        """Whether a gradient flows through the op."""
        return bool(self.gradients or self.variadic_gradient)

    def __call__(self, *inputs: TensorLike, **attributes: Any) -> Tensor:
        """Return the result of the op on these inputs."""
        return apply(self, *inputs, **attributes)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


# Every op by its name. Filled as the modules of nissl.ops are imported, never changed later.
OPS: dict[str, Op] = {}

Function = TypeVar("Function", bound=Callable[..., Any])


def method(function: Function) -> Function:
    """Make a function whose first argument is a Tensor a method of Tensor too, and let it explain wrong arguments."""
    function = habits.explained(function)
    setattr(Tensor, function.__name__, function)
    return function


_numbers = itertools.count()


def apply(op: Op, *inputs: TensorLike, **attributes: Any) -> Tensor:
    """Return the result of `op`: the gate through which every operation goes."""
    if op.promoted_from is None:
        inputs = tuple(x if isinstance(x, Tensor) else Tensor(x) for x in inputs)
    else:
        inputs = promote(op, inputs)
    result = wrap(current.engine.run(op, inputs, attributes))
    if op.differentiable and current.recording:
        for x in inputs:
            if isinstance(x, Tensor) and x.requires_grad:
                result.requires_grad = True
                result.op = op
                result.inputs = inputs
                result.attributes = attributes
                result.number = next(_numbers)
                break
    return result


def apply_all(op: Op, *inputs: TensorLike, **attributes: Any) -> tuple[Tensor, ...]:
    """Return the results of an elementwise op that has several outputs."""
    return tuple(map(wrap, current.engine.run(op, promote(op, inputs), attributes)))


def assign_results(op: Op, targets: Sequence[Tensor], *inputs: TensorLike, **attributes: Any) -> None:
    """Let the targets hold the results of an elementwise op with several outputs, one each."""
    current.engine.update(op, targets, promote(op, inputs), attributes)


def promote(op: Op, inputs: tuple[TensorLike, ...]) -> tuple[TensorLike, ...]:
    """Bring the inputs of an elementwise op to one dtype, by explicit `astype` ops.

    Python numbers stay as they are and take the dtype of the Tensors. Among Tensors floats win over integers, integers
    over bools; within a kind the widest wins, where a Tensor without axes counts only if nothing else has that kind.
    So a 0-d float64 learning rate never turns float32 parameters into float64, and neither does an int64 label.
    """
    common = None
    for x in inputs[op.promoted_from :] if op.promoted_from else inputs:
        if isinstance(x, Tensor):
            dtype = x.payload.dtype
            if common is None:
                common = dtype
            elif dtype is not common and dtype != common:
                break
        elif x.__class__ is not float and x.__class__ is not int:
            break
    else:
        # The case that matters for speed: floats of one dtype, and Python numbers.
        if common is not None and common.kind == "f" and (not op.promoted_from or isinstance(inputs[0], Tensor)):
            return inputs
    return _promote_mixed(op, inputs)


def _promote_mixed(op: Op, inputs: Sequence[TensorLike]) -> tuple[TensorLike, ...]:
    numbers = (bool, int, float)
    converted = [x if type(x) in numbers else as_tensor(x) for x in inputs]
    start = op.promoted_from or 0
    if len(converted) <= start:
        raise CallError(f"{op.name}() needs a Tensor or a number, got {len(converted) or 'no'} arguments")
    if not any(isinstance(x, Tensor) for x in converted[start:]):
        converted[start] = as_tensor(converted[start])
    dtype = common_dtype(converted[start:], op.lowest_kind)
    for i, x in enumerate(converted):
        if i < start:
            converted[i] = as_tensor(x)
        elif isinstance(x, Tensor) and x.dtype != dtype:
            converted[i] = x.astype(dtype)
    return tuple(converted)


_KINDS = "bif"  # in rising order: bool, integer, float
_FLOAT = _KINDS.index("f")


def common_dtype(operands: Sequence[TensorLike], lowest_kind: str = "b") -> np.dtype[Any]:
    """Return the dtype in which an elementwise op on these operands works; see `promote`."""

    def rank(dtype: np.dtype[Any]) -> int:
        return _KINDS.index("i" if dtype.kind == "u" else dtype.kind)

    tensors = [x for x in operands if isinstance(x, Tensor)]
    strong = [x for x in tensors if not x.weak]
    numbers = [_rank_of_number(x) for x in operands if not isinstance(x, Tensor)]
    if strong:
        numbers += [rank(x.dtype) for x in tensors if x.weak]
        tensors = strong
    top = max(rank(x.dtype) for x in tensors)
    wanted = max([*numbers, _KINDS.index(lowest_kind)])
    if wanted > top:
        return DEFAULT_FLOAT if wanted == _FLOAT else DEFAULT_INTEGER
    candidates = [x for x in tensors if rank(x.dtype) == top]
    with_axes = [x.dtype for x in candidates if x.ndim]
    if not with_axes and top == _FLOAT and any(x.ndim for x in tensors):
        return DEFAULT_FLOAT
    return np.result_type(*(with_axes or [x.dtype for x in candidates]))


def _rank_of_number(number: bool | int | float) -> int:
    """Return the place of a Python number's type in `_KINDS`."""
    return (bool, int, float).index(type(number))


def as_tensor(value: TensorLike, dtype: DTypeLike = None) -> Tensor:
    """Return `value` itself if it is a Tensor, else a new one of its values."""
    if isinstance(value, Tensor):
        return value if dtype is None else value.astype(dtype)
    return Tensor(value, dtype)


def check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return `dtype` as NumPy's object if Tensors can have it: float32, float64, integers or bool."""
    if isinstance(dtype, int):
        raise DTypeError(f"not a dtype: {dtype!r}; the sizes of a shape go together, as in zeros((3, 4))")
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise DTypeError(f"not a dtype: {dtype!r} ({error})") from None
    if found.kind not in "biuf" or found.itemsize > 8 or (found.kind == "f" and found.itemsize < 4):
        kinds = {"U": "text", "S": "bytes", "O": "objects such as None or integers beyond 64 bits"}
        raise DTypeError(f"Tensors hold float32, float64, integers or bools, not {kinds.get(found.kind, found)}")
    return found if found.isnative else found.newbyteorder("=")


def is_masked(data: Any) -> bool:
    """Whether some numbers of an array are masked, which needs numpy.ma: a module that takes a while to load."""
    return "numpy.ma" in sys.modules and isinstance(data, np.ma.MaskedArray) and bool(np.ma.is_masked(data))


def why_no_array(error: Exception) -> str:
    """Return why NumPy made no array of something, in fewer words if lists are of unequal lengths."""
    return "its parts have different lengths" if "inhomogeneous" in str(error) else str(error)


def as_array(data: Any, dtype: DTypeLike = None) -> npt.NDArray[Any]:
    """Return a new array of `data`, with nissl's dtypes for Python numbers and a clear error for what is no number."""
    if isinstance(data, (list, tuple)) and any(isinstance(part, Tensor) for part in data):
        if current.recording and any(isinstance(part, Tensor) and part.requires_grad for part in data):
            raise GradientError(
                "tensor() takes the values of what is in a list, so that the gradients of its Tensors would be lost; "
                "write ns.stack([a, b]), or do it inside with ns.no_grad()"
            )
        data = [part.numpy() if isinstance(part, Tensor) else part for part in data]
    if data is None:
        raise DTypeError("a Tensor was expected, got None; does a function lack its return?")
    if is_masked(data):
        raise OptionError("tensor() got an array with masked numbers, which stand for missing ones; fill them in first")
    try:
        array = np.array(data, dtype=None if dtype is None else check_dtype(dtype))
    except NisslError:
        raise
    except OverflowError as error:
        raise OptionError(f"tensor(): {error}") from None
    except (ValueError, TypeError) as error:
        raise ShapeError(f"tensor() could not read this as an array of numbers: {why_no_array(error)}") from None
    if array.dtype == object and callable(data):
        raise DTypeError(f"a Tensor was expected, got {type(data).__name__}, which is to be called first: f(x)")
    if dtype is None and not isinstance(data, (np.ndarray, np.generic)) and not hasattr(data, "__array__"):
        if array.dtype == np.float64:
            array = array.astype(DEFAULT_FLOAT)
        elif array.dtype.kind == "i":
            array = array.astype(DEFAULT_INTEGER)
    return array.astype(check_dtype(array.dtype), copy=False)
