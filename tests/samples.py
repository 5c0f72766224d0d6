"""Sample calls of every op and every function of the core: one table, for every test that should hold of all of them.

A Sample is a call: a function of Tensors, input arrays, attributes, and what should come out, by a formula that shares
no code with the library: mpmath for one element at a time, or NumPy where NumPy's own function is the definition.
`every_op_with_samples()` gives them to `pytest.mark.parametrize`; an engine is tested by running `sample(*tensors)` on
it and comparing with what is expected, or with another engine.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np
import pytest

import nissl as ns
from nissl import functional, optim
from nissl.shapes import HOLE
from nissl.tensor import OPS, Tensor, apply, apply_all, wrap

Array = np.ndarray[Any, Any]

# Every optimizer, from parameters and a learning rate.
OPTIMIZERS = {
    "SGD": lambda p, lr: optim.SGD(p, lr=lr, weight_decay=0.01),
    "Momentum": lambda p, lr: optim.SGD(p, lr=lr, momentum=0.9),
    "Nesterov": lambda p, lr: optim.SGD(p, lr=lr, momentum=0.9, nesterov=True),
    "AdaGrad": lambda p, lr: optim.AdaGrad(p, lr=lr),
    "RMSProp": lambda p, lr: optim.RMSProp(p, lr=lr, momentum=0.5),
    "Adam": lambda p, lr: optim.Adam(p, lr=lr),
    "AdamW": lambda p, lr: optim.AdamW(p, lr=lr, weight_decay=0.1),
}


@dataclass(frozen=True, eq=False)
class Sample:
    """A call with its expected result. `smooth` says that its gradient at these inputs is that of the formula."""

    name: str
    function: Callable[..., Tensor]
    inputs: tuple[Array, ...]
    expected: Callable[..., Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    smooth: bool = True

    def __call__(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors, **self.attributes)

    def arrays(self, dtype: str = "float64") -> list[Array]:
        """Return the inputs, floats in `dtype`, in memory as irregular as the sample has it."""
        return [in_dtype(x, dtype) if x.dtype.kind == "f" else x for x in self.inputs]

    def tensors(self, dtype: str = "float64") -> list[Tensor]:
        """Return Tensors on exactly these arrays: `ns.tensor` would copy, and tidy the strides away."""
        return [wrap(x) for x in self.arrays(dtype)]

    def result(self, dtype: str = "float64") -> Any:
        """Return what should come out for inputs rounded to `dtype`, computed in float64."""
        widened = [x.astype("float64") if x.dtype.kind == "f" else x for x in self.arrays(dtype)]
        return self.expected(*widened, **self.attributes)


def in_dtype(x: Array, dtype: str) -> Array:
    """Return x in a dtype, contiguous, transposed or strided as x is."""
    if x.flags.c_contiguous or x.flags.f_contiguous:
        return x.astype(dtype, order="K")
    doubled = np.repeat(x, 2, axis=-1).astype(dtype)
    return doubled[..., ::-1][..., ::2] if x.strides[-1] < 0 else doubled[..., ::2]


# ---- inputs ----

Shape = tuple[int, ...]


def numbers(shape: Shape, low: float = -2.0, high: float = 2.0, layout: str = "", seed: int = 0) -> Array:
    """Return floats between low and high, the same each time, laid out in memory as asked."""
    generator = np.random.default_rng([seed, *shape])
    if layout == "transposed":
        return generator.uniform(low, high, shape[::-1]).T
    if layout == "strided":
        return generator.uniform(low, high, (*shape[:-1], 2 * shape[-1]))[..., ::2]
    if layout == "reversed":
        return generator.uniform(low, high, shape)[..., ::-1]
    return generator.uniform(low, high, shape)


ONE_INPUT: dict[str, tuple[Shape, str]] = {
    "0-d": ((), ""),
    "vector": ((5,), ""),
    "3-d": ((2, 1, 3), ""),
    "empty": ((0, 3), ""),
    "transposed": ((2, 3), "transposed"),
    "strided": ((2, 3), "strided"),
    "reversed": ((4,), "reversed"),
}

TWO_INPUTS: dict[str, tuple[Shape, Shape, str]] = {
    "same shape": ((2, 3), (2, 3), ""),
    "0-d both": ((), (), ""),
    "0-d left": ((), (3,), ""),
    "0-d right": ((2, 3), (), ""),
    "row": ((2, 3), (3,), ""),
    "row left": ((3,), (2, 3), ""),
    "column": ((2, 3), (2, 1), ""),
    "outer": ((2, 1), (1, 3), ""),
    "middle": ((2, 1, 2), (3, 1), ""),
    "new front": ((2,), (3, 2, 1), ""),
    "empty": ((0, 3), (3,), ""),
    "empty and one": ((1,), (2, 0), ""),
    "transposed": ((3, 2), (3, 2), "transposed"),
    "strided": ((2, 3), (1, 3), "strided"),
    "reversed": ((3,), (2, 3), "reversed"),
}


# ---- oracles ----


def by_element(formula: Callable[..., Any], kind: type = float) -> Callable[..., Array]:
    """Return a function of arrays from a formula for one element, computed with 50 digits."""

    def one(*values: Any) -> Any:
        with mpmath.workdps(50):
            return kind(formula(*map(mpmath.mpf, map(float, values))))

    return np.vectorize(one, otypes=[kind])


def product(a: Array, b: Array) -> Array:
    """The matrix product as the sum that it is."""
    rows = a if a.ndim > 1 else a[None]
    columns = b if b.ndim > 1 else b[:, None]
    y = (rows[..., :, :, None] * columns[..., None, :, :]).sum(axis=-2)
    if b.ndim == 1:
        y = y[..., 0]
    return y if a.ndim > 1 else (y[0] if b.ndim == 1 else y[..., 0, :])


def added_at(g: Array, shape: Shape, places: Callable[[Array], Array]) -> Array:
    """Zeros of a shape, with the elements of g added one by one where `places` reads them."""
    result = np.zeros(math.prod(shape))
    for place, value in zip(places(np.arange(result.size).reshape(shape)).flat, g.flat, strict=True):
        result[place] += value
    return result.reshape(shape)


def philox_reference(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    """Philox 4×32-10 in plain integers, after Salmon et al. (2011), figure 4 and table 2."""
    c, k, mask = list(counter), list(key), 0xFFFFFFFF
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second >> 32 ^ c[1] ^ k[0], second & mask, first >> 32 ^ c[3] ^ k[1], first & mask]
        k = [k[0] + 0x9E3779B9 & mask, k[1] + 0xBB67AE85 & mask]
    return c


def words(key: Array, draw: Array, shape: Shape, stream: int) -> Array:
    """The four words of each element, on a last axis."""
    counters = [(i, 0, int(draw), stream) for i in range(math.prod(shape))]
    found = [philox_reference(counter, (int(key[0]), int(key[1]))) for counter in counters]
    return np.array(found, np.uint64).reshape(*shape, 4)


# ---- the tables ----

m = mpmath

# name: formula for one element, lowest and highest input
UNARY: dict[str, tuple[Callable[..., Any], float, float]] = {
    "identity": (lambda x: x, -2, 2),
    "copy": (lambda x: x, -2, 2),
    "neg": (lambda x: -x, -2, 2),
    "square": (lambda x: x**2, -2, 2),
    "exp": (m.exp, -3, 3),
    "log": (m.log, 0.2, 4),
    "log1p": (m.log1p, -0.8, 3),
    "expm1": (m.expm1, -2, 2),
    "sqrt": (m.sqrt, 0.2, 4),
    "abs": (abs, -2, 2),
    "sign": (m.sign, -2, 2),
    "sin": (m.sin, -7, 7),
    "cos": (m.cos, -7, 7),
    "tanh": (m.tanh, -3, 3),
    "sigmoid": (lambda x: 1 / (1 + m.exp(-x)), -5, 5),
    "erf": (m.erf, -2.5, 2.5),
    "relu": (lambda x: max(x, 0), -2, 2),
}

BINARY: dict[str, tuple[Callable[..., Any], float, float]] = {
    "add": (lambda a, b: a + b, -2, 2),
    "sub": (lambda a, b: a - b, -2, 2),
    "mul": (lambda a, b: a * b, -2, 2),
    "div": (lambda a, b: a / b, 0.5, 2),
    "pow": (lambda a, b: a**b, 0.5, 2.5),
    "maximum": (max, -2, 2),
    "minimum": (min, -2, 2),
}

PREDICATES: dict[str, Callable[..., Any]] = {
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
    "logical_and": lambda a, b: a != 0 and b != 0,
    "logical_or": lambda a, b: a != 0 or b != 0,
}


def op_called(name: str) -> Callable[..., Tensor]:
    return functools.partial(apply, OPS[name])


def elementwise_samples() -> Iterator[Sample]:
    for name, (formula, low, high) in UNARY.items():
        for case, (shape, layout) in ONE_INPUT.items():
            x = numbers(shape, low, high, layout)
            yield Sample(f"{name} {case}", op_called(name), (x,), by_element(formula), smooth=name != "sign")
    for name, (formula, low, high) in BINARY.items():
        op, expected = OPS[name], by_element(formula)
        for case, (left, right, layout) in TWO_INPUTS.items():
            inputs = numbers(left, low, high, layout), numbers(right, low, high, layout, seed=1)
            yield Sample(f"{name} {case}", op, inputs, expected)
        x = numbers((2, 3), low, high)
        yield Sample(f"{name} number", lambda x, op=op: op(x, 1.5), (x,), lambda x, f=expected: f(x, 1.5))
        yield Sample(f"{name} number left", lambda x, op=op: op(2, x), (x,), lambda x, f=expected: f(2, x))
    for name, formula in PREDICATES.items():
        for case, (left, right, layout) in TWO_INPUTS.items():
            # Rounded, so that some are equal and some are 0.
            inputs = numbers(left, -1, 1, layout).round(), numbers(right, -1, 1, layout, seed=1).round()
            inputs = np.asarray(inputs[0]), np.asarray(inputs[1])
            yield Sample(f"{name} {case}", OPS[name], inputs, by_element(formula, bool), smooth=False)
    for case, (shape, layout) in ONE_INPUT.items():
        x = np.asarray(numbers(shape, -1, 1, layout).round())
        yield Sample(f"logical_not {case}", OPS["logical_not"], (x,), by_element(lambda x: x == 0, bool), smooth=False)
        for dtype in ("float32", "int64", "bool"):
            x = numbers(shape, -3, 3, layout)
            yield Sample(f"astype {dtype} {case}", ns.astype, (x,), np.asarray,
                         {"dtype": dtype}, smooth=False)  # fmt: skip
    for case, (left, right, layout) in TWO_INPUTS.items():
        condition = np.asarray(numbers(right, -1, 1, layout, seed=2) > 0)
        inputs = condition, numbers(left, layout=layout), numbers(right, layout=layout, seed=1)
        yield Sample(f"where {case}", ns.where, inputs, by_element(lambda c, a, b: a if c else b))
    inputs = numbers((3, 1), -1, 1) > 0, numbers((2,))
    yield Sample("where number", lambda c, a: ns.where(c, a, 0.5), inputs, lambda c, a: np.where(c, a, 0.5))
    # What a compiled function returns passes no gradient on: tests/test_compile.py says how it complains.
    yield Sample("compiled_result", OPS["compiled_result"], (numbers((2, 3)),), lambda x: x, smooth=False)


def movement_samples() -> Iterator[Sample]:
    def sample(name: str, function: Any, expected: Any, size: Shape, layout: str = "", **attributes: Any) -> Sample:
        return Sample(name, function, (numbers(size, layout=layout),), expected, attributes)

    def reshape(x: Any, shape: Any) -> Any:
        return x.reshape(shape)

    for old, new in [((6,), (2, 3)), ((2, 3), -1), ((1,), ()), ((), (1, 1)), ((0, 3), (3, 0)), ((0, 2), (-1, 2)),
                     ((2, 0, 3), (-1, 3))]:  # fmt: skip
        yield sample(f"reshape {old} to {new}", reshape, reshape, old, shape=new)
    for layout in ("transposed", "strided", "reversed"):
        yield sample(f"reshape {layout}", reshape, reshape, (4, 3), layout, shape=(2, 6))

    def permute(x: Any, axes: Any) -> Any:
        return x.permute_dims(axes) if isinstance(x, Tensor) else np.transpose(x, axes)

    for shape, axes in [((2, 3), (1, 0)), ((2, 3, 4), (1, 2, 0)), ((2, 3, 1), (-1, 0, 1)), ((), ()), ((0, 2), (1, 0))]:
        yield sample(f"permute_dims {shape} {axes}", permute, permute, shape, axes=axes)
    yield sample("permute_dims strided", permute, permute, (2, 3), "strided", axes=(1, 0))
    yield sample("T", lambda x: x.T, np.transpose, (2, 3, 2))

    def broadcast_to(x: Any, shape: Any) -> Any:
        return ns.broadcast_to(x, shape) if isinstance(x, Tensor) else np.broadcast_to(x, shape)

    for old, new in [((3,), (2, 3)), ((2, 1), (2, 3)), ((1, 3), (2, 3)), ((), (2, 2)), ((1,), (0,)), ((0,), (2, 0)),
                     ((2, 3), (2, 3)), ((2, 1, 3), (4, 2, 2, 3))]:  # fmt: skip
        yield sample(f"broadcast_to {old} to {new}", broadcast_to, broadcast_to, old, shape=new)
    yield sample("broadcast_to transposed", broadcast_to, broadcast_to, (2, 3), "transposed", shape=(2, 2, 3))

    for shape, axis in [((2, 3), None), ((2, 3), 0), ((2, 3), -1), ((2, 3, 2), (0, -1)), ((2,), ()), ((), None),
                        ((0, 2), 1)]:  # fmt: skip
        yield sample(f"flip {shape} {axis}", ns.flip, np.flip, shape, axis=axis)
    yield sample("flip strided", ns.flip, np.flip, (2, 3), "strided", axis=1)

    def np_pad(x: Array, widths: Any, value: float = 0) -> Array:
        return np.pad(x, widths, constant_values=value) if x.ndim else x

    for shape, widths in [((3,), [(1, 2)]), ((2, 3), [(0, 1), (2, 0)]), ((2, 2), 1), ((2,), [(0, 0)]), ((0,), 2),
                          ((), 1)]:  # fmt: skip
        yield sample(f"pad {shape} {widths}", ns.pad, np_pad, shape, widths=widths)
    yield sample("pad value", ns.pad, np_pad, (2, 3), "transposed", widths=1, value=-0.5)

    def concat(*x: Any, axis: int) -> Any:
        return ns.concat(x, axis=axis) if isinstance(x[0], Tensor) else np.concatenate(x, axis)

    def stack(*x: Any, axis: int) -> Any:
        return ns.stack(x, axis=axis) if isinstance(x[0], Tensor) else np.stack(x, axis)

    for shapes, axis in [([(2,), (3,)], 0), ([(2, 1), (2, 3), (2, 2)], 1), ([(2, 3), (1, 3)], -2), ([(2, 2)], 0),
                         ([(0, 2), (1, 2)], 0), ([(0,), (0,)], 0)]:  # fmt: skip
        inputs = tuple(numbers(shape, seed=i) for i, shape in enumerate(shapes))
        yield Sample(f"concat {shapes} {axis}", concat, inputs, concat, {"axis": axis})
    inputs = numbers((2, 3), layout="transposed"), numbers((2, 3), layout="strided", seed=1)
    yield Sample("concat non-contiguous", concat, inputs, concat, {"axis": 1})
    x = numbers((2, 3))
    yield Sample("concat itself", lambda x: ns.concat([x, x]), (x,), lambda x: np.concatenate([x, x]))
    for shape, axis in [((), 0), ((3,), 0), ((3,), -1), ((2, 3), 1)]:
        inputs = numbers(shape), numbers(shape, seed=1)
        yield Sample(f"stack {shape} {axis}", stack, inputs, stack, {"axis": axis})
    for shape, axis in [((1, 3, 1), None), ((1, 3, 1), 0), ((1, 3, 1), (0, -1)), ((2,), None), ((1,), 0)]:
        yield sample(f"squeeze {shape} {axis}", ns.squeeze, np.squeeze, shape, axis=axis)
    for shape, axis in [((), 0), ((2, 3), 0), ((2, 3), 1), ((2, 3), -1)]:
        yield sample(f"expand_dims {shape} {axis}", ns.expand_dims, np.expand_dims, shape, axis=axis)


# name: shape of x, the indexing (the same for Tensors and for NumPy's arrays), index arrays
INDEXING: dict[str, tuple[Any, ...]] = {
    "integer": ((3, 4), lambda x: x[1]),
    "negative integers": ((3, 4), lambda x: x[-1, -4]),
    "slices": ((3, 4), lambda x: x[1:, ::2]),
    "backwards": ((3, 4), lambda x: x[::-1, -2::-2]),
    "too far": ((3,), lambda x: x[1:99]),
    "nothing left": ((3, 2), lambda x: x[3:]),
    "ellipsis": ((2, 3, 2), lambda x: x[..., 1]),
    "ellipsis for nothing": ((2, 3), lambda x: x[1, ..., 2]),
    "new axes": ((2, 3), lambda x: x[None, :, None, 1:2]),
    "0-d": ((), lambda x: x[()]),
    "0-d new axis": ((), lambda x: x[None, ...]),
    "empty": ((0, 3), lambda x: x[:, 1:]),
    "array": ((3, 2), lambda x, i: x[i], [2, 0, 2, 2]),
    "array of negatives": ((3,), lambda x, i: x[i], [-1, 0, -3]),
    "array of axes": ((4,), lambda x, i: x[i], [[0, 1], [3, 3]]),
    "array behind": ((2, 3), lambda x, i: x[:, i], [2, 2, 0]),
    "array in the middle": ((2, 3, 2), lambda x, i: x[..., i, :], [[1], [1]]),
    "0-d array": ((3, 2), lambda x, i: x[i], 1),
    "empty array": ((3, 2), lambda x, i: x[i], np.zeros(0, int)),
    "two arrays": ((3, 4), lambda x, i, j: x[i, j], [0, 2, 0], [1, 3, 1]),
    "two arrays broadcast": ((3, 4), lambda x, i, j: x[i, j], [[0], [2]], [1, 3, 1]),
    "two arrays apart": ((3, 2, 4), lambda x, i, j: x[i, :, j], [0, 2], [1, 1]),
    "array and integer": ((3, 2, 4), lambda x, i: x[:, 1, i], [1, 1]),
    "integer and array apart": ((3, 2, 4), lambda x, i: x[1, :, i], [0, 3, 3]),
    "array, slice, new axis": ((3, 4), lambda x, i: x[None, i, 1:3], [1, 1]),
    "array of uint8": ((3,), lambda x, i: x[i], np.array([2, 1], np.uint8)),
    "mask": ((3, 2), lambda x: x[np.array([True, False, True])]),
    "mask of all": ((2, 2), lambda x: x[np.array([[True, False], [True, True]])]),
    "list": ((3, 2), lambda x: x[[0, 0], 1]),
}


def indexing_samples() -> Iterator[Sample]:
    for name, (shape, read, *arrays) in INDEXING.items():
        indices = tuple(map(np.asarray, arrays))
        for layout in ("", "transposed") if len(shape) > 1 else ("",):
            yield Sample(f"index {name} {layout}", read, (numbers(shape, layout=layout), *indices), read)

    add = OPS["index_add"]
    i, j = np.array([0, 2, 0]), np.array([1, 1, 1])
    for name, shape, key, indices, read in [
        ("slice", (3, 4), (slice(1, None), slice(None, None, 2)), (), lambda x: x[1:, ::2]),
        ("integer", (3, 2), (-1,), (), lambda x: x[-1]),
        ("repeated", (3, 2), (HOLE,), (i,), lambda x: x[i]),
        ("pairs", (3, 4), (HOLE, HOLE), (i, j), lambda x: x[i, j]),
        ("apart", (3, 2, 4), (HOLE, slice(None), HOLE), (i, j), lambda x: x[i, :, j]),
        ("empty", (0, 2), (slice(None), 1), (), lambda x: x[:, 1]),
    ]:
        g = numbers(read(np.zeros(shape)).shape, layout="reversed" if indices else "")
        expected = lambda g, *rest, shape, key, read=read: added_at(g, shape, read)  # noqa: E731
        yield Sample(f"index_add {name}", add, (g, *indices), expected, {"shape": shape, "key": key})

    along = np.take_along_axis
    for shape, picked, axis in [((3, 4), [[0, 3], [1, 1], [2, 0]], 1), ((2, 3), [[1, 0, 1]], 0), ((4,), [3, 3, 0], -1),
                                ((2, 3), [[-1], [0]], 1), ((1, 3), [[0, 2], [2, 2]], -1),
                                ((0, 2), np.zeros((0, 1)), 1)]:  # fmt: skip
        index = np.array(picked, int)
        inputs = numbers(shape), index
        yield Sample(f"take_along_axis {shape} {axis}", ns.take_along_axis, inputs, along, {"axis": axis})
        if shape[0] != 1:
            read = functools.partial(along, indices=index, axis=axis)
            expected = lambda g, _, shape, axis, read=read: added_at(g, shape, read)  # noqa: E731
            yield Sample(f"add_along_axis {shape} {axis}", OPS["add_along_axis"], (numbers(index.shape), index),
                         expected, {"shape": shape, "axis": axis % len(shape)})  # fmt: skip
    inputs = numbers((3, 4), layout="transposed"), np.array([[1, 1], [0, 2], [3, 0]])
    yield Sample("take_along_axis transposed", ns.take_along_axis, inputs, along, {"axis": 1})
    for shape, picked, axis in [((3, 2), [2, 0, 2], 0), ((3, 2), [[1], [0]], -1), ((2, 3), [5, 0], None), ((3,), 1, 0)]:
        inputs = numbers(shape), np.array(picked)
        yield Sample(f"take {shape} {axis}", ns.take, inputs, np.take, {"axis": axis})
    for shape in [(), (3,), (2, 2), (0,)]:
        labels = np.random.default_rng(0).integers(0, 4, shape)
        expected = lambda labels, classes: np.eye(classes)[labels]  # noqa: E731
        yield Sample(f"one_hot {shape}", ns.one_hot, (labels,), expected, {"classes": 4}, smooth=False)


AXES: list[tuple[Shape, Any, bool]] = [
    ((2, 3), None, False),
    ((2, 3), None, True),
    ((2, 3), (), False),
    ((2, 3), 0, False),
    ((2, 3), -1, True),
    ((2, 3, 2), 1, False),
    ((2, 3, 2), (0, 2), False),
    ((2, 3, 2), (-1, 0), True),
    ((2, 3, 2), (0, 1, 2), False),
    ((), None, False),
    ((), (), True),
    ((1,), 0, False),
    ((0, 3), 1, False),
]


def reduction_samples() -> Iterator[Sample]:
    def varied(name: str, function: Any, expected: Any, low: float = -2, high: float = 2, **options: Any) -> Any:
        for shape, axis, keepdims in AXES:
            attributes = {"axis": axis, "keepdims": keepdims, **options}
            yield Sample(f"{name} {shape} {axis} {keepdims}", function, (numbers(shape, low, high),), expected,
                         attributes)  # fmt: skip
        for layout in ("transposed", "strided", "reversed"):
            x = numbers((3, 4), low, high, layout)
            yield Sample(f"{name} {layout}", function, (x,), expected, {"axis": 1, **options})

    def np_logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))

    yield from varied("sum", ns.sum, np.sum)
    yield from varied("max", ns.max, np.max)
    yield from varied("min", ns.min, np.min)
    yield from varied("mean", ns.mean, np.mean)
    yield from varied("prod", ns.prod, np.prod)
    yield from varied("logsumexp", ns.logsumexp, np_logsumexp)
    yield from varied("var", ns.var, np.var)
    for shape, axis in [((0, 3), None), ((0, 3), 0), ((0,), -1), ((2, 0, 3), (1, 2))]:
        for function, expected in [(ns.sum, np.sum), (ns.prod, np.prod)]:
            x = numbers(shape)
            yield Sample(f"{function.__name__} of nothing {shape} {axis}", function, (x,), expected, {"axis": axis})
    for axis, keepdims in [(None, False), (0, False), (-1, True)]:
        for correction in (0, 1):
            attributes = {"axis": axis, "keepdims": keepdims, "correction": correction}
            x = numbers((3, 4))
            yield Sample(f"std {axis} {keepdims} {correction}", ns.std, (x,), np.std, attributes)
            yield Sample(f"var {axis} {keepdims} {correction}", ns.var, (x,), np.var, attributes)
    for shape, axis, keepdims in AXES:
        if axis is None or isinstance(axis, int):
            for function, expected in [(ns.argmax, np.argmax), (ns.argmin, np.argmin)]:
                attributes = {"axis": axis, "keepdims": keepdims}
                yield Sample(f"{function.__name__} {shape} {axis} {keepdims}", function, (numbers(shape),), expected,
                             attributes, smooth=False)  # fmt: skip
    x = np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 0.0]])
    yield Sample("argmax tie", ns.argmax, (x,), np.argmax, {"axis": 1}, smooth=False)
    yield Sample("argmin tie", ns.argmin, (x,), np.argmin, {"axis": 1}, smooth=False)


def product_samples() -> Iterator[Sample]:
    for left, right in [((2, 3), (3, 4)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((1, 1), (1, 1)),
                        ((2, 2, 3), (3, 2)), ((2, 2, 3), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 1)), ((2, 3), (2, 3, 1)),
                        ((2, 2, 3), (3,)), ((3,), (2, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((0,), (0,)),
                        ((0, 2, 3), (3, 1)), ((0, 2, 3), (1, 3, 1))]:  # fmt: skip
        inputs = numbers(left), numbers(right, seed=1)
        yield Sample(f"matmul {left} {right}", ns.matmul, inputs, product)
    for layout in ("transposed", "strided", "reversed"):
        inputs = numbers((2, 3), layout=layout), numbers((3, 2), layout=layout, seed=1)
        yield Sample(f"matmul {layout}", ns.matmul, inputs, product)
    for left, right, axes in [((2, 3), (2, 3), 2), ((2, 3), (3, 2), 1), ((2,), (3,), 0),
                              ((2, 3, 4), (4, 3, 2), ((1, 2), (1, 0))),
                              ((2, 3), (4, 3), ((-1,), (-1,))), ((0, 2), (2, 3), 1), ((2, 0), (0, 3), 1)]:  # fmt: skip
        inputs = numbers(left), numbers(right, seed=1)
        yield Sample(f"tensordot {left} {right} {axes}", ns.tensordot, inputs, np.tensordot, {"axes": axes})


def source_samples() -> Iterator[Sample]:
    for name, function, expected in [
        ("full", lambda: ns.full((2, 3), 2.5), np.full((2, 3), 2.5)),
        ("full integers", lambda: ns.full(3, 7), np.full(3, 7)),
        ("full 0-d", lambda: ns.full((), 1.5, "float64"), np.float64(1.5)),
        ("full empty", lambda: ns.full((0, 2), True), np.full((0, 2), True)),
        ("zeros", lambda: ns.zeros((2, 2)), np.zeros((2, 2))),
        ("ones", lambda: ns.ones(3, "int32"), np.ones(3, "int32")),
        ("ones_like", lambda: ns.ones_like(ns.zeros((1, 2))), np.ones((1, 2))),
        ("zeros_like", lambda: ns.zeros_like(ns.ones((1, 2), "float64")), np.zeros((1, 2))),
        ("arange", lambda: ns.arange(2, 11, 3), np.array([2, 5, 8])),
        ("arange floats", lambda: ns.arange(0.0, 1.0, 0.25), np.array([0, 0.25, 0.5, 0.75])),
        ("arange nothing", lambda: ns.arange(3, 1), np.zeros(0, int)),
        ("linspace", lambda: ns.linspace(-1, 1, 5), np.array([-1, -0.5, 0, 0.5, 1])),
        ("eye", lambda: ns.eye(2, 3), np.array([[1, 0, 0], [0, 1, 0]])),
    ]:
        yield Sample(name, function, (), lambda expected=expected: expected, smooth=False)


def random_samples() -> Iterator[Sample]:
    def bits(key: Array, draw: Array, shape: Shape, stream: int) -> Array:
        found = words(key, draw, shape, stream)
        return found[..., 1] << np.uint64(32) | found[..., 0]

    def uniform(key: Array, draw: Array, shape: Shape, stream: int, dtype: Any, half: int) -> Array:
        low, high = np.moveaxis(words(key, draw, shape, stream), -1, 0)[2 * half : 2 * half + 2]
        if dtype == np.float32:
            return (low >> np.uint64(8)) / 2.0**24
        return ((high << np.uint64(32) | low) >> np.uint64(11)) / 2.0**53

    def permutation(key: Array, draw: Array, size: int, stream: int) -> Array:
        order = bits(key, draw, (size,), stream)
        return np.array(sorted(range(size), key=lambda i: int(order[i])), int)

    key, draw = np.array([123456789, 4294967295], np.uint32), np.array(7, np.uint32)
    for shape in [(), (5,), (2, 3), (0,)]:
        attributes = {"shape": shape, "stream": 2}
        yield Sample(f"random_bits {shape}", OPS["random_bits"], (key, draw), bits, attributes, smooth=False)
        for dtype in ("float32", "float64"):
            more = {**attributes, "dtype": np.dtype(dtype), "half": len(shape) % 2}
            yield Sample(f"random_uniform {shape} {dtype}", OPS["random_uniform"], (key, draw), uniform, more,
                         smooth=False)  # fmt: skip
    for size in (0, 1, 9):
        attributes = {"size": size, "stream": 1}
        yield Sample(f"random_permutation {size}", OPS["random_permutation"], (key, draw), permutation, attributes,
                     smooth=False)  # fmt: skip


# name: function, formula for one element, lowest and highest input, attributes
ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    "step": (functional.step, lambda x: 1 if x > 0 else 0, -2, 2, {}),
    "leaky_relu": (functional.leaky_relu, lambda x, slope: x if x > 0 else slope * x, -2, 2, {"slope": 0.1}),
    "elu": (functional.elu, lambda x, alpha: x if x > 0 else alpha * m.expm1(x), -3, 3, {"alpha": 1.5}),
    "softplus": (functional.softplus, lambda x: m.log1p(m.exp(x)), -4, 4, {}),
    "silu": (functional.silu, lambda x: x / (1 + m.exp(-x)), -4, 4, {}),
    "gelu": (functional.gelu, lambda x: x * m.ncdf(x), -3, 3, {}),
}


def function_samples() -> Iterator[Sample]:
    for name, (function, formula, low, high, attributes) in ACTIVATIONS.items():
        expected = by_element(functools.partial(formula, **attributes))
        for case, (shape, layout) in ONE_INPUT.items():
            x = numbers(shape, low, high, layout)
            yield Sample(f"{name} {case}", functools.partial(function, **attributes), (x,), expected,
                         smooth=name != "step")  # fmt: skip
    for low, high in [(-0.5, 0.75), (None, 0.5), (0.5, None), (None, None)]:
        yield Sample(f"clip {low} {high}", ns.clip, (numbers((2, 3)),), lambda x, min, max: x.clip(min, max),
                     {"min": low, "max": high})  # fmt: skip
    inputs = numbers((2, 3)), numbers((3,), -1, 0), numbers((2, 1), 0.5, 1)
    yield Sample("clip arrays", ns.clip, inputs, np.clip)

    def np_softmax(x: Array, axis: int = -1) -> Array:
        return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)

    for shape, axis, layout in [((4,), -1, ""), ((2, 3), 0, ""), ((2, 3), 1, "transposed"), ((2, 3, 2), -2, ""),
                                ((2, 3), -1, "strided"), ((0, 3), 1, ""), ((2, 0), -1, "")]:  # fmt: skip
        x = numbers(shape, layout=layout)
        case = f"{shape} {axis} {layout}"
        yield Sample(f"softmax {case}", ns.softmax, (x,), np_softmax, {"axis": axis})
        yield Sample(f"log_softmax {case}", ns.log_softmax, (x,), lambda x, axis: np.log(np_softmax(x, axis)),
                     {"axis": axis})  # fmt: skip


# name: number of state arrays, then of factors without axes, attributes, the formula
def update_samples() -> Iterator[Sample]:
    """The rules of the optimizers, which are ops too; their outputs are shown one under the other."""

    def sgd(p: Any, g: Any, rate: Any, weight_decay: float) -> Any:
        return [p - rate * (g + weight_decay * p)]

    def momentum_sgd(p: Any, g: Any, v: Any, rate: Any, momentum: float, nesterov: bool, weight_decay: float) -> Any:
        g = g + weight_decay * p
        v = momentum * v + g
        return [p - rate * (g + momentum * v if nesterov else v), v]

    def adagrad(p: Any, g: Any, h: Any, rate: Any, eps: float, weight_decay: float) -> Any:
        g = g + weight_decay * p
        return [p - rate * g / (np.sqrt(h + g**2) + eps), h + g**2]

    def rmsprop(
        p: Any, g: Any, v: Any, b: Any, rate: Any, alpha: float, eps: float, weight_decay: float, momentum: float
    ) -> Any:
        g = g + weight_decay * p
        v = alpha * v + (1 - alpha) * g**2
        b = momentum * b + g / (np.sqrt(v) + eps)
        return [p - rate * b, v, b]

    def adam(
        p: Any, g: Any, mean: Any, v: Any, rate: Any, eps: Any, beta1: float, beta2: float, weight_decay: float
    ) -> Any:
        g = g + weight_decay * p
        mean, v = beta1 * mean + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        return [p - rate * mean / (np.sqrt(v) + eps), mean, v]

    def adam_factors(rate: Any, t: Any, beta1: float, beta2: float, eps: float) -> Any:
        correction = np.sqrt(1 - beta2**t)
        return [rate * correction / (1 - beta1**t), eps * correction]

    for shape in [(2, 3), (), (0,)]:
        inputs = numbers(shape, 0.1, 1), numbers(shape, 1, 9, seed=1)
        yield Sample(f"adam_factors {shape}", lambda *x, **a: ns.stack(apply_all(OPS["adam_factors"], *x, **a)), inputs,
                     lambda *x, **a: np.stack(adam_factors(*x, **a)), {"beta1": 0.9, "beta2": 0.99, "eps": 1e-3},
                     smooth=False)  # fmt: skip
    heavy = {"momentum": 0.9, "weight_decay": 0.1}
    for rule, factors, attributes in [
        (sgd, 1, {"weight_decay": 0.1}),
        (momentum_sgd, 1, {"nesterov": False, **heavy}),
        (momentum_sgd, 1, {"nesterov": True, **heavy}),
        (adagrad, 1, {"eps": 1e-3, "weight_decay": 0.1}),
        (rmsprop, 1, {"alpha": 0.9, "eps": 1e-3, **heavy}),
        (adam, 2, {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}),
    ]:
        op = OPS[rule.__name__]
        state = len(rule(*[1.0] * (rule.__code__.co_argcount - len(attributes)), **attributes)) - 1

        def function(*inputs: Tensor, op: Any = op, **attributes: Any) -> Tensor:
            if op.outputs == 1:
                return ns.stack([apply(op, *inputs, **attributes)])
            return ns.stack(apply_all(op, *inputs, **attributes))

        for shape in [(2, 3), (), (0,)]:
            arrays = [numbers(shape, 0.1, 2, seed=i) for i in range(2 + state)]
            inputs = (*arrays, *(numbers((), 0.1, 1, seed=9 + i) for i in range(factors)))
            expected = lambda *x, rule=rule, **attributes: np.stack(rule(*x, **attributes))  # noqa: E731
            yield Sample(f"{rule.__name__} {shape} {attributes.get('nesterov', '')}", function, inputs, expected,
                         attributes, smooth=False)  # fmt: skip


@functools.cache
def all_samples() -> tuple[Sample, ...]:
    kinds = (elementwise_samples, movement_samples, indexing_samples, reduction_samples, product_samples,
             source_samples, random_samples, function_samples, update_samples)  # fmt: skip
    return tuple(sample for kind in kinds for sample in kind())


def every_op_with_samples(which: Callable[[Sample], bool] = lambda sample: True) -> list[Any]:
    """Return the samples for which `which` holds, as parameters of a test, with their names as ids."""
    return [pytest.param(sample, id=sample.name.strip().replace(" ", "-")) for sample in all_samples() if which(sample)]
