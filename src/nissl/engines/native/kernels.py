"""Kernels: the parts of a program, as data; the plan makes them, the assembly emits them.

A Group is a fusion group, one pass over the elements of a shape: elementwise equations, whose results stay in
registers; reductions of them over the last axis, whose results (one for each row) later equations of the same pass may
use; and reductions over rows or everything, whose results are ready when the pass is over. A Group may be led by a
matrix product: then its equations are the product's epilogue, applied to each finished tile, and a gather of rows or
columns of the left operand may be fused into it. What has no machine code is a Call, to the op's own NumPy rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from nissl.engines.native.layout import Layout, contiguous
from nissl.engines.native.machine import vector_bytes
from nissl.engines.native.rules import is_costly
from nissl.graph.graph import Equation, Graph, Symbol
from nissl.shapes import HOLE, Shape
from nissl.tensor import OPS


class Level(Enum):
    """What a result of a Group has one value for: each element or row; or each column or all, once the pass is over."""

    ELEMENT = "element"
    ROW = "row"
    COLUMN = "column"
    TOTAL = "total"


@dataclass(eq=False)
class Group:
    """Equations that are computed in one pass over the elements of `shape`."""

    shape: Shape
    leader: Equation | None = None  # the matrix product whose result is the first element-level value
    gather: Equation | None = None  # fused: takes rows, or columns, of the product's left operand by index
    equations: list[Equation] = field(default_factory=list)
    levels: dict[Symbol, Level] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Symbol]:
        """What is read from memory."""
        used = dict.fromkeys(x for e in equations_of(self) for x in e.inputs if isinstance(x, Symbol))
        return [x for x in used if x not in self.levels]

    @property
    def rows(self) -> Shape:
        """The shape without its last axis."""
        return self.shape[:-1]


class Stages:
    """The stage of a row in which each result of a Group is ready."""

    def __init__(self, group: Group) -> None:
        self.of: dict[Symbol, int] = {}
        self.reductions: dict[Equation, int] = {}  # the stage that accumulates each
        for equation in group.equations:
            stage = max((self.of.get(x, 0) for x in equation.inputs if isinstance(x, Symbol)), default=0)
            if equation.op.kind == "reduce":
                self.reductions[equation] = stage
                stage += 1
            self.of.update(dict.fromkeys(equation.outputs, stage))
        self.count = 1 + max([*self.of.values(), *self.reductions.values()], default=0)


@dataclass(eq=False)
class Call:
    """An equation that NumPy computes."""

    equation: Equation

    @property
    def inputs(self) -> list[Symbol]:
        """What is read from memory."""
        return [x for x in self.equation.inputs if isinstance(x, Symbol)]


@dataclass(eq=False)
class Copies:
    """An equation that copies pieces into a larger result: concat, pad, and the gradient of a slice."""

    equation: Equation

    @property
    def inputs(self) -> list[Symbol]:
        """What is read from memory."""
        return [x for x in self.equation.inputs if isinstance(x, Symbol)]

    def pieces(self) -> list[tuple[Symbol, Layout]]:
        """Return what is copied, and its Layout in the memory of the result."""
        whole, attributes = contiguous(self.equation.outputs[0].shape), self.equation.attributes
        if self.equation.op.name == "pad":
            return [(self.inputs[0], whole.part(self.inputs[0].shape, [before for before, _ in attributes["widths"]]))]
        if self.equation.op.name == "index_add":
            layout = whole.moved(OPS["index"], {"key": attributes["key"]})
            assert layout is not None
            return [(self.inputs[0], layout)]
        found, start = [], [0] * len(whole.shape)
        for symbol in self.inputs:
            found.append((symbol, whole.part(symbol.shape, start)))
            start[attributes["axis"]] += symbol.shape[attributes["axis"]]
        return found


@dataclass(eq=False)
class Straight:
    """All equations of a graph whose values fit into registers."""

    equations: list[Equation]

    @property
    def inputs(self) -> list[Symbol]:
        """What is read from memory."""
        made = {symbol for e in self.equations for symbol in e.outputs}
        used = dict.fromkeys(x for e in self.equations for x in e.inputs if isinstance(x, Symbol))
        return [x for x in used if x not in made]


CompiledKernel = Group | Copies | Straight  # the kernels with machine code
Kernel = CompiledKernel | Call


def equations_of(kernel: Kernel) -> list[Equation]:
    """Return the equations that a kernel computes."""
    if isinstance(kernel, Call | Copies):
        return [kernel.equation]
    before = (kernel.gather, kernel.leader) if isinstance(kernel, Group) else ()
    return [*(equation for equation in before if equation is not None), *kernel.equations]


def is_gather(equation: Equation) -> bool:
    """Whether an equation takes rows by index, x[indices]."""
    if equation.op.name != "index" or len(equation.inputs) != 2:
        return False
    source, indices = equation.inputs
    assert isinstance(source, Symbol)
    assert isinstance(indices, Symbol)
    first, *rest = equation.attributes["key"]
    return first is HOLE and all(part == slice(None) for part in rest) and len(indices.shape) == 1


def indices_of(equation: Equation) -> Symbol | None:
    """Return the labels or row indices of an equation that looks something up by them, else None."""
    if equation.op.name != "one_hot" and not is_gather(equation):
        return None
    indices = equation.inputs[-1]
    assert isinstance(indices, Symbol)
    return indices


def checked_first(graph: Graph, places: Mapping[Symbol, tuple[Symbol, Layout]]) -> list[tuple[Equation, Symbol]]:
    """Return the labels and row indices, with their equations, whose range is checked before a step: the inputs."""
    found = [(equation, indices_of(equation)) for equation in graph.equations]
    return [(e, x) for e, x in found if x is not None and x.size and places[x][0] in graph.inputs]


def computes_labels(kernel: Kernel, places: Mapping[Symbol, tuple[Symbol, Layout]], graph: Graph) -> bool:
    """Whether a kernel uses labels or row indices that are no inputs, so that only the kernel can check their range."""
    indices = [indices_of(equation) for equation in equations_of(kernel)]
    return any(x is not None and places[x][0] not in graph.inputs for x in indices)


def lanes_of(group: Group) -> int:
    """Return the vector width in elements: as many as a register holds of the Group's smallest float type."""
    symbols = [*group.levels, *group.inputs]
    sizes = [s.dtype.itemsize for s in symbols if s.dtype.kind == "f"] or [8]
    return max(vector_bytes() // min(sizes), 1)


# Rows of up to this many vectors stay in registers between stages.
SHORT_ROW = 4


def spilled(group: Group) -> list[Symbol]:
    """Return the results that a later stage of a long row needs again and that are too expensive to recompute."""
    if not group.shape or group.shape[-1] <= SHORT_ROW * lanes_of(group):
        return []
    stages = Stages(group)
    costly: set[Symbol] = set()
    found: dict[Symbol, None] = {}
    for equation in group.equations:
        inputs = [x for x in equation.inputs if isinstance(x, Symbol)]
        reader = stages.reductions.get(equation, stages.of[equation.outputs[0]])
        again = [x for x in inputs if x in costly and stages.of[x] < reader]
        found.update(dict.fromkeys(again))
        if is_costly(equation) or any(x in costly and x not in found for x in inputs):
            costly.update(s for s in equation.outputs if group.levels[s] is Level.ELEMENT)
    return list(found)
