"""From ops to ONNX nodes: the list of nodes that grows, and a table that says each op in ONNX's operators.

A row of `BUILDERS` is called with the Nodes, a Value for each input and the op's attributes; it adds nodes and returns
the name of the result. Sizes and numbers that depend on the size of the batch are `Varying` there: they are worked out
by nodes, when the model runs. Where ONNX lacks an op, or onnxruntime lacks it for float64, the op is spelled out in
those that are there, in a form that keeps its digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from nissl.errors import OptionError
from nissl.shapes import HOLE

Array = npt.NDArray[Any]

BATCH = "batch"  # the name of the free axis
LAST, FIRST = np.iinfo(np.int64).max, np.iinfo(np.int64).min  # ends of a slice that lie beyond any axis


@dataclass(frozen=True)
class Varying:
    """A number that depends on the size of the batch: what it is for each of the sizes that were traced."""

    numbers: tuple[float, ...]


Size = int | Varying


@dataclass(frozen=True)
class Value:
    """A value in the ONNX graph."""

    name: str
    shape: tuple[Size, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


class Inexpressible(Exception):  # noqa: N818  (an answer: the caller knows where the op stands)
    """There is no ONNX node for what was asked."""


class Nodes:
    """The nodes, constants and inputs of an ONNX graph that is being written; `batches` are the sizes traced."""

    def __init__(self, batches: Sequence[int] = (), taken: Iterable[str] = ()) -> None:
        self.batches = tuple(batches)
        self.rows = ""  # the value whose first axis is the batch
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.domains = {""}  # of operators: those of ONNX itself; others are kept beside them
        self.scope = ""
        self.taken = set(taken)
        self.known: dict[Any, str] = {}  # what was made already, to be used again

    def take(self, name: str) -> None:
        """Keep a name of the user's for an input or output."""
        if not isinstance(name, str):
            raise OptionError(f"an input or output of the ONNX model is named by text, got {name!r}")
        if not name or name in self.taken:
            raise OptionError(
                f"an input or output of the ONNX model cannot be named {name!r}: this is "
                f"{'the name of a parameter or of another' if name else 'empty'}; choose another name"
            )
        self.taken.add(name)

    def input(self, name: str, dtype: Any, shape: Sequence[int | str], doc: str = "") -> str:
        """Declare an input of the model; a text in its shape names a free axis."""
        self.take(name)
        self.inputs.append(helper.make_tensor_value_info(name, element_type(dtype), shape, doc))
        return name

    def add(self, kind: str, *inputs: str | Value, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        name = self._new_name(kind.lower())
        operands = [x.name if isinstance(x, Value) else x for x in inputs]
        number = name.rpartition("_")[2]
        path = f"{self.scope}/{kind}_{number}".removeprefix("/")
        self.domains.add(attributes.get("domain", ""))
        self.nodes.append(helper.make_node(kind, operands, [name], name=path, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = None, name: str = "") -> str:
        """Return the name of a constant; equal ones without a name of their own are kept once."""
        array = np.asarray(value, dtype)
        key = None if name else (array.dtype, array.shape, array.tobytes())
        if key in self.known:
            return self.known[key]
        name = name or self._new_name("constant")
        self.taken.add(name)
        # ONNX files are little-endian and in C order, whatever the array is.
        self.initializers[name] = numpy_helper.from_array(np.array(array, order="C"), name)
        if key is not None:
            self.known[key] = name
        return name

    def output(self, value: Value, name: str) -> None:
        """Make a value an output of the model, under a name that was taken for it."""
        sizes = [n if isinstance(n, int) else BATCH if n.numbers == self.batches else None for n in value.shape]
        self.outputs.append(helper.make_tensor_value_info(name, element_type(value.dtype), sizes))
        if not any(value.name in node.output for node in self.nodes):  # an input or a constant, which has its name
            self.nodes.append(helper.make_node("Identity", [value.name], [name], name=f"Identity_{name}"))
            return
        for node in self.nodes:
            for names in (node.input, node.output):
                for place, old in enumerate(names):
                    if old == value.name:
                        names[place] = name

    def graph(self, name: str) -> onnx.GraphProto:
        """Return all of it as a graph."""
        return helper.make_graph(self.nodes, name, self.inputs, self.outputs, list(self.initializers.values()))

    def sizes(self, sizes: Sequence[Size]) -> str:
        """Return a vector of sizes, those that vary with the batch worked out by nodes."""
        if not any(isinstance(size, Varying) for size in sizes):
            return self.constant(sizes, np.int64)
        parts = [self._varying(n) if isinstance(n, Varying) else self.constant([n], np.int64) for n in sizes]
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)

    def size(self, size: Size) -> str:
        """Return a size as a number without axes."""
        if isinstance(size, int):
            return self.constant(size, np.int64)
        return self.add("Reshape", self._varying(size), self.constant([], np.int64))

    def number(self, number: float | Varying, dtype: np.dtype[Any]) -> str:
        """Return a number without axes."""
        if isinstance(number, Varying):
            return self.add("Cast", self.size(number), to=element_type(dtype))
        return self.constant(number, dtype)

    def _varying(self, size: Varying) -> str:
        """Return a·batch + c as a vector of one element."""
        if size in self.known:
            return self.known[size]
        a, c = _line_through(self.batches, size.numbers)
        if "batch" not in self.known:
            self.known["batch"] = self.add("Shape", self.rows, start=0, end=1)
        found = self.known["batch"]
        if a != 1:
            found = self.add("Mul", found, self.constant([a], np.int64))
        if c != 0:
            found = self.add("Add", found, self.constant([c], np.int64))
        self.known[size] = found
        return found

    def _new_name(self, stem: str) -> str:
        number = len(self.taken)
        while f"{stem}_{number}" in self.taken:
            number += 1
        name = f"{stem}_{number}"
        self.taken.add(name)
        return name


def _line_through(batches: Sequence[int], numbers: Sequence[float]) -> tuple[int, int]:
    """Return integers a and c with number = a·batch + c for all of them."""
    a = (numbers[1] - numbers[0]) / (batches[1] - batches[0])
    c = numbers[0] - a * batches[0]
    if a != int(a) or any(number != a * batch + c for batch, number in zip(batches, numbers, strict=True)):
        examples = ", ".join(f"{n:g} for {batch}" for batch, n in zip(batches, numbers, strict=True))
        raise Inexpressible(f"a number that is not a·batch + c for some a and c ({examples})")
    return int(a), int(c)


def element_type(dtype: Any) -> int:
    """Return ONNX's number for a dtype."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


# ---- elementwise ----


def node(kind: str) -> Callable[..., str]:
    """Return a builder for an op that is one node of ONNX."""
    return lambda nodes, *inputs: nodes.add(kind, *inputs)


def of_bools(kind: str) -> Callable[..., str]:
    """Return a builder for a node that takes bools: whether numbers are not 0."""
    return lambda nodes, *inputs: nodes.add(kind, *(cast(nodes, x, np.bool_) for x in inputs))


def node_or_of_bools(kind: str, kind_of_bools: str) -> Callable[..., str]:
    """Return a builder for a node that ONNX has for numbers, and under another name for bools."""
    return lambda nodes, a, b: nodes.add(kind_of_bools if a.dtype == b.dtype == np.bool_ else kind, a, b)


def of_numbers(kind: str) -> Callable[..., str]:
    """Return a builder for a node that ONNX has for numbers only: bools are 0 and 1 there."""
    return lambda nodes, *inputs: nodes.add(kind, *(as_number(nodes, x) for x in inputs))


def as_number(nodes: Nodes, x: Value) -> str:
    """Return bools as 0 and 1, numbers as they are."""
    return cast(nodes, x, np.int32) if x.dtype == np.bool_ else x.name


def cast(nodes: Nodes, x: Value, dtype: Any) -> str:
    """Return x in another dtype."""
    return x.name if x.dtype == np.dtype(dtype) else nodes.add("Cast", x, to=element_type(dtype))


def relu(nodes: Nodes, x: Value) -> str:
    """Return max(0, x)."""
    return nodes.add("Relu", x) if x.dtype.kind == "f" else nodes.add("Max", x, nodes.number(0, x.dtype))


def expm1(nodes: Nodes, x: Value) -> str:
    """Return eˣ - 1 as tanh(x/2)·(eˣ + 1), which keeps its digits for small x."""
    half = nodes.add("Mul", x, nodes.number(0.5, x.dtype))
    more = nodes.add("Add", nodes.add("Exp", x), nodes.number(1, x.dtype))
    return nodes.add("Mul", nodes.add("Tanh", half), more)


def log1p(nodes: Nodes, x: Value) -> str:
    """Return log u, u = 1 + x, less ((u - 1) - x)/u near 0: what was lost when u was rounded."""
    one = nodes.number(1, x.dtype)
    u = nodes.add("Add", x, one)
    rounded = nodes.add("Log", u)
    lost = nodes.add("Div", nodes.add("Sub", nodes.add("Sub", u, one), x), u)
    near = nodes.add("Less", nodes.add("Abs", x), nodes.number(0.5, x.dtype))
    return nodes.add("Where", near, nodes.add("Sub", rounded, lost), rounded)


def erf(nodes: Nodes, x: Value) -> str:
    """Return the error function.

    onnxruntime has it for float32 only. For float64 it is tanh(πx/h) - 2hx/π·exp(-x²)·Σₖ exp(-tₖ²)/(x² + tₖ²) with
    tₖ = (k + ½)h, the midpoint rule and its correction (Matta and Reichel, 1971): right to the last digits for h = ½.
    """
    if x.dtype != np.float64:
        return nodes.add("Erf", x)
    h = 0.5
    t = (np.arange(13) + 0.5) * h
    # Beyond 6.5 the result is ±1 in float64, and at infinity the second term would be ∞·0.
    x_name = nodes.add("Max", nodes.add("Min", x, nodes.constant(6.5)), nodes.constant(-6.5))
    squared = nodes.add("Mul", x_name, x_name)
    last = nodes.constant([x.ndim], np.int64)  # not -1: onnxruntime 1.31 then gets sums of no elements wrong
    terms = nodes.add("Add", nodes.add("Unsqueeze", squared, last), nodes.constant(t**2))
    total = nodes.add("ReduceSum", nodes.add("Div", nodes.constant(np.exp(-(t**2))), terms), last, keepdims=0)
    factor = nodes.add("Mul", nodes.add("Exp", nodes.add("Neg", squared)), nodes.add("Mul", x_name, total))
    first = nodes.add("Tanh", nodes.add("Mul", x_name, nodes.constant(math.pi / h)))
    return nodes.add("Sub", first, nodes.add("Mul", factor, nodes.constant(2 * h / math.pi)))


def not_equal(nodes: Nodes, a: Value, b: Value) -> str:
    """Return whether a ≠ b."""
    return nodes.add("Not", nodes.add("Equal", a, b))


def where(nodes: Nodes, condition: Value, a: Value, b: Value) -> str:
    """Return a where the condition holds, b elsewhere."""
    chosen = cast(nodes, condition, np.bool_)
    if a.dtype != np.bool_:
        return nodes.add("Where", chosen, a, b)
    # onnxruntime has no Where of bools.
    found = nodes.add("Where", chosen, as_number(nodes, a), as_number(nodes, b))
    return nodes.add("Cast", found, to=element_type(np.bool_))


# ---- movement ----


def reshape(nodes: Nodes, x: Value, shape: Sequence[Size]) -> str:
    """Return the same elements under another shape; the one size that varies, if so, is what is left: -1."""
    varying = [i for i, size in enumerate(shape) if isinstance(size, Varying)]
    if len(varying) == 1 and 0 not in shape:
        shape = [-1 if i in varying else size for i, size in enumerate(shape)]
    return nodes.add("Reshape", x, nodes.sizes(shape), allowzero=int(0 in shape))


def permute_dims(nodes: Nodes, x: Value, axes: Sequence[int]) -> str:
    """Return x with its axes in another order."""
    return nodes.add("Transpose", x, perm=axes) if axes else x.name


def broadcast_to(nodes: Nodes, x: Value, shape: Sequence[Size]) -> str:
    """Return x repeated to a shape."""
    return nodes.add("Expand", x, nodes.sizes(shape))


def flip(nodes: Nodes, x: Value, axes: Sequence[int]) -> str:
    """Return x in reverse order along some axes."""
    return _sliced(nodes, x.name, {axis: slice(None, None, -1) for axis in axes})


def pad(nodes: Nodes, x: Value, widths: Sequence[tuple[Size, Size]], value: float) -> str:
    """Return x with a border of one value."""
    if not widths:
        return x.name
    border = nodes.sizes([*(before for before, _ in widths), *(after for _, after in widths)])
    return nodes.add("Pad", x, border, nodes.number(value, x.dtype))


def concat(nodes: Nodes, *tensors: Value, axis: int) -> str:
    """Return the tensors joined along an axis."""
    return nodes.add("Concat", *tensors, axis=axis)


# ---- reductions and products ----


def extreme(kind: str) -> Callable[..., str]:
    """Return a builder for the largest or smallest element over some axes."""

    def build(nodes: Nodes, x: Value, axes: Sequence[int], keepdims: bool) -> str:
        if not axes:  # ONNX would reduce over all of them
            return x.name
        found = nodes.add(kind, as_number(nodes, x), nodes.constant(axes, np.int64), keepdims=int(keepdims))
        return nodes.add("Cast", found, to=element_type(np.bool_)) if x.dtype == np.bool_ else found

    return build


def total(nodes: Nodes, x: Value, axes: Sequence[int], keepdims: bool) -> str:
    """Return the sum over some axes; bools and integers add up to int64."""
    name = x.name if x.dtype.kind == "f" else cast(nodes, x, np.int64)
    return nodes.add("ReduceSum", name, nodes.constant(axes, np.int64), keepdims=int(keepdims)) if axes else name


def position(kind: str) -> Callable[..., str]:
    """Return a builder for the place of the largest or smallest element along an axis, or among all."""

    def build(nodes: Nodes, x: Value, axes: Sequence[int], keepdims: bool) -> str:
        number = as_number(nodes, x)
        if len(axes) == 1:
            return nodes.add(kind, number, axis=axes[0], keepdims=int(keepdims))
        flat = nodes.add("Reshape", number, nodes.constant([-1], np.int64))
        shape = [1] * x.ndim if keepdims else []
        return nodes.add("Reshape", nodes.add(kind, flat, axis=0), nodes.constant(shape, np.int64))

    return build


def log_softmax(nodes: Nodes, x: Value, axis: int) -> str:
    """Return x - log Σ eˣ along an axis."""
    return nodes.add("LogSoftmax", x, axis=axis)


# ---- indexing and sources ----


def index(nodes: Nodes, x: Value, *arrays: Value, key: Sequence[Any]) -> str:
    """Return x[key], by one array at most, and then without integers beside it."""
    integers = [part for part in key if isinstance(part, int | Varying)]
    if len(arrays) > 1 or (arrays and integers):
        raise Inexpressible("indexing by several arrays at once")
    used = sum(part is not None and part is not Ellipsis for part in key)
    rest = [slice(None)] * (x.ndim - used)
    place = key.index(Ellipsis) if Ellipsis in key else len(key)
    parts = [*key[:place], *rest, *key[place + 1 :]]

    per_axis = [part for part in parts if part is not None]
    name = _sliced(nodes, x.name, {axis: part for axis, part in enumerate(per_axis) if isinstance(part, slice)})
    for axis, chosen in reversed(list(enumerate(per_axis))):  # from behind: an integer takes its axis away
        if chosen is HOLE:
            name = nodes.add("Gather", name, cast(nodes, arrays[0], np.int64), axis=axis)
        elif isinstance(chosen, int | Varying):
            name = nodes.add("Gather", name, nodes.size(chosen), axis=axis)
    new, axis = [], 0
    for part in parts:
        if part is None:
            new.append(axis)
        axis += arrays[0].ndim if part is HOLE else 1 if part is None or isinstance(part, slice) else 0
    return nodes.add("Unsqueeze", name, nodes.constant(new, np.int64)) if new else name


def _sliced(nodes: Nodes, x: str, parts: Mapping[int, slice]) -> str:
    """Return x with some of its axes sliced, as in NumPy."""
    cut = {axis: part for axis, part in parts.items() if part != slice(None)}
    if not cut:
        return x
    steps = [1 if part.step is None else part.step for part in cut.values()]
    ends = [(0, LAST) if step > 0 else (LAST, FIRST) for step in steps]
    starts = [end[0] if part.start is None else part.start for part, end in zip(cut.values(), ends, strict=True)]
    stops = [end[1] if part.stop is None else part.stop for part, end in zip(cut.values(), ends, strict=True)]
    return nodes.add("Slice", x, *map(nodes.sizes, (starts, stops, list(cut), steps)))


def take_along_axis(nodes: Nodes, x: Value, indices: Value, axis: int) -> str:
    """Return the elements of x at the indices along an axis."""
    return nodes.add("GatherElements", x, cast(nodes, indices, np.int64), axis=axis)


def one_hot(nodes: Nodes, labels: Value, classes: int, dtype: np.dtype[Any]) -> str:
    """Return a row for each label; all 0 for one outside of the classes."""
    column = nodes.add("Unsqueeze", cast(nodes, labels, np.int64), nodes.constant([-1], np.int64))
    found = nodes.add("Equal", column, nodes.constant(np.arange(classes)))
    return nodes.add("Cast", found, to=element_type(dtype))


def full(nodes: Nodes, shape: Sequence[Size], value: float | Varying, dtype: np.dtype[Any]) -> str:
    """Return a tensor of one value throughout."""
    number = nodes.number(value, dtype)
    return nodes.add("Expand", number, nodes.sizes(shape)) if shape else number


BUILDERS: dict[str, Callable[..., str]] = {
    "identity": lambda nodes, x: x.name,
    "copy": lambda nodes, x: x.name,
    "compiled_result": lambda nodes, x: x.name,
    "neg": node("Neg"),
    "add": node_or_of_bools("Add", "Or"),
    "sub": node("Sub"),
    "mul": node_or_of_bools("Mul", "And"),
    "div": node("Div"),
    "square": lambda nodes, x: nodes.add("And" if x.dtype == np.bool_ else "Mul", x, x),
    "pow": node("Pow"),
    "exp": node("Exp"),
    "log": node("Log"),
    "log1p": log1p,
    "expm1": expm1,
    "sqrt": node("Sqrt"),
    "abs": lambda nodes, x: x.name if x.dtype == np.bool_ else nodes.add("Abs", x),
    "sign": node("Sign"),
    "sin": node("Sin"),
    "cos": node("Cos"),
    "tanh": node("Tanh"),
    "sigmoid": node("Sigmoid"),
    "erf": erf,
    "relu": relu,
    "maximum": node_or_of_bools("Max", "Or"),
    "minimum": node_or_of_bools("Min", "And"),
    "where": where,
    "equal": node("Equal"),
    "not_equal": not_equal,
    "less": of_numbers("Less"),
    "less_equal": of_numbers("LessOrEqual"),
    "greater": of_numbers("Greater"),
    "greater_equal": of_numbers("GreaterOrEqual"),
    "logical_and": of_bools("And"),
    "logical_or": of_bools("Or"),
    "logical_not": of_bools("Not"),
    "astype": cast,
    "reshape": reshape,
    "permute_dims": permute_dims,
    "broadcast_to": broadcast_to,
    "flip": flip,
    "pad": pad,
    "concat": concat,
    "sum": total,
    "max": extreme("ReduceMax"),
    "min": extreme("ReduceMin"),
    "argmax": position("ArgMax"),
    "argmin": position("ArgMin"),
    "log_softmax": log_softmax,
    "matmul": node("MatMul"),
    "index": index,
    "take_along_axis": take_along_axis,
    "one_hot": one_hot,
    "full": full,
}
