"""The graph: what a traced function is, as data.

A Graph is a typed list of equations over Symbols, with inputs, constants and outputs. It has no effects: state that a
function reads is among the inputs, state that it writes is among the outputs. Passes map Graph to Graph, engines turn a
Graph into something that runs, and `print(graph)` is short and stable enough to read and to test against.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from nissl.errors import TracingError
from nissl.shapes import Shape, describe
from nissl.tensor import Op


@dataclass(eq=False)
class Symbol:
    """A value in a graph: it has a shape and a dtype, but no numbers.

    It stands where an array stands in a Tensor while a function is traced. `name` says what it is for a reader (an
    argument, the path of a parameter); it means nothing to an engine.
    """

    shape: Shape
    dtype: np.dtype[Any]
    trace: object = None
    name: str = ""

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def fail(self, question: str) -> NoReturn:
        """Raise the error for a Tensor that was asked for numbers it does not have."""
        raise TracingError(
            f"{question} of a Tensor {describe(self)} that was made while a compiled function was traced: it has no "
            "numbers outside of that function. Return it from the function to get its value"
        )

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        self.fail("the values")


Operand = Symbol | bool | int | float


@dataclass(frozen=True, eq=False)
class Equation:
    """outputs = op(inputs, attributes). Inputs are Symbols, or Python numbers that take the dtype of the others."""

    op: Op
    inputs: tuple[Operand, ...]
    attributes: Mapping[str, Any]
    outputs: tuple[Symbol, ...]
    scope: str = ""  # the path of the module that it belongs to
    source: str = ""  # the line of the user's program that it comes from


@dataclass(frozen=True, eq=False)
class Graph:
    """A function of arrays: inputs, constants, equations in an order that can be run, outputs."""

    name: str
    inputs: tuple[Symbol, ...]
    constants: Mapping[Symbol, npt.NDArray[Any]]
    equations: tuple[Equation, ...]
    outputs: tuple[Symbol, ...]
    output_names: tuple[str, ...] = field(default=())
    updates: Mapping[int, int] = field(default_factory=dict)  # outputs that are the new values of inputs, by position

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _letters() -> Iterator[str]:
    """Yield a, b, ..., z, aa, ab, ..."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))


def label_symbols(graph: Graph) -> dict[Symbol, str]:
    """Return a short name for each Symbol, in the order in which they appear."""
    made = [symbol for equation in graph.equations for symbol in equation.outputs]
    return dict(zip([*graph.inputs, *graph.constants, *made], _letters(), strict=False))


def _lines(graph: Graph) -> Iterator[str]:
    labels = label_symbols(graph)
    yield f"graph {graph.name}:"
    for symbol in graph.inputs:
        yield f"  {labels[symbol]}: {describe(symbol)} = input{f' {symbol.name}' if symbol.name else ''}"
    for symbol in graph.constants:
        yield f"  {labels[symbol]}: {describe(symbol)} = constant"
    for equation in graph.equations:
        made = ", ".join(f"{labels[symbol]}: {describe(symbol)}" for symbol in equation.outputs)
        yield f"  {made} = {describe_call(equation, labels)}"
    names = itertools.chain(graph.output_names, itertools.repeat(""))
    results = [f"{name}={labels[s]}" if name else labels[s] for s, name in zip(graph.outputs, names, strict=False)]
    yield f"  return {', '.join(results)}"


def describe_call(equation: Equation, labels: Mapping[Symbol, str]) -> str:
    """Return the right side of an equation as text."""
    inputs = [labels[x] if isinstance(x, Symbol) else repr(x) for x in equation.inputs]
    attributes = [f"{key}={_short(value)}" for key, value in equation.attributes.items()]
    return " ".join([equation.op.name, *inputs, *attributes])


def _short(value: Any) -> str:
    if isinstance(value, slice):
        return ":".join("" if bound is None else str(bound) for bound in (value.start, value.stop, value.step))
    if isinstance(value, tuple):
        return f"({', '.join(map(_short, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, np.generic):
        return repr(value)  # with its dtype: 0.1 is another number in float32
    return "..." if value is Ellipsis else str(value)


def verify(graph: Graph) -> None:
    """Raise AssertionError unless each Symbol is defined once, before its use, with the type that its op gives it."""
    defined: set[Symbol] = set()

    def define(symbols: Sequence[Symbol]) -> None:
        for symbol in symbols:
            assert symbol not in defined, f"{symbol} is defined twice"
            defined.add(symbol)

    define(graph.inputs)
    define(list(graph.constants))
    for symbol, array in graph.constants.items():
        assert (symbol.shape, symbol.dtype) == (array.shape, array.dtype), f"{symbol} is not of its constant's type"
    for equation in graph.equations:
        used = [x for x in equation.inputs if isinstance(x, Symbol)]
        assert all(x in defined for x in used), f"{equation.op} uses a Symbol before it is defined"
        assert len(equation.outputs) == equation.op.outputs, f"{equation.op} has {len(equation.outputs)} outputs"
        kind = result_type(equation.op, equation.inputs, equation.attributes)
        for output in equation.outputs:
            assert (output.shape, output.dtype) == kind, f"{equation.op}: {output} should be {kind}"
        define(equation.outputs)
    assert all(symbol in defined for symbol in graph.outputs), "an output is never defined"


def result_type(op: Op, inputs: Sequence[Operand], attributes: Mapping[str, Any]) -> tuple[Shape, np.dtype[Any]]:
    """Return the shape and dtype that all outputs of `op` have on these inputs."""
    shapes = [x.shape if isinstance(x, Symbol) else () for x in inputs]
    dtypes = [x.dtype if isinstance(x, Symbol) else None for x in inputs]
    return op.shape(*shapes, **attributes), op.dtype(*dtypes, **attributes)
