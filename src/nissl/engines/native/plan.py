"""The plan: which equations of a graph are fused, in which order kernels run, and where results are stored.

Movements cost nothing: their results are views, described by Layouts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nissl.engines.native.kernels import (
    Call,
    CompiledKernel,
    Copies,
    Group,
    Kernel,
    Level,
    Stages,
    Straight,
    computes_labels,
    equations_of,
    is_gather,
    spilled,
)
from nissl.engines.native.layout import Layout, contiguous
from nissl.engines.native.rules import is_costly
from nissl.graph.graph import Equation, Graph, Symbol

REDUCTIONS = ("sum", "max", "min", "argmax", "argmin")
# When to fuse a gather into a product. Rows of at least LONG_ROW bytes are read as fast in place as by a copy made
# before. But a copy is faster with more than FEW_COLUMNS columns of the result for each gathered row, and with more
# than MANY_COLUMNS, which read the rows again and again, unless all rows (NEAR_ROWS bytes) stay in the cache. If the
# product sums over the gathered rows, it keeps their indices on the stack, at most MOST_INDICES.
LONG_ROW, FEW_COLUMNS, MANY_COLUMNS, NEAR_ROWS, MOST_INDICES = 1024, 8, 256, 1 << 19, 1 << 12
# Expensive rows, such as those of a softmax, are worth sharing among threads from this many elements in all.
MANY_ELEMENTS = 1 << 10
# Ops that, like the elementwise ones, compute each element on its own: from its index.
GENERATORS = ("one_hot", "random_uniform", "full")


@dataclass(eq=False)
class Plan:
    """Kernels in an order in which they can run, and for each Symbol the one whose memory it is in, and its Layout."""

    kernels: list[Kernel]
    places: dict[Symbol, tuple[Symbol, Layout]]
    stored: list[Symbol]  # results that need memory, in the order in which they are computed
    homes: dict[Symbol, Kernel]
    in_place: dict[Symbol, Symbol]  # results that overwrite an input
    left_to_numpy: Sequence[Equation]  # equations that were found to have no machine code

    @property
    def segments(self) -> list[list[CompiledKernel] | Call]:
        """What runs, in order: lists of kernels with machine code, and the equations that NumPy computes between."""
        found: list[list[CompiledKernel] | Call] = []
        for kernel in self.kernels:
            if isinstance(kernel, Call):
                found.append(kernel)
            elif found and isinstance(found[-1], list):
                found[-1].append(kernel)
            else:
                found.append([kernel])
        return found


def segment_name(number: int) -> str:
    """Return the name of the compiled function of one of a plan's segments."""
    return f"segment_{number}"


def make_plan(graph: Graph, left_to_numpy: Sequence[Equation] = ()) -> Plan:
    """Return the plan of a graph, with the equations in `left_to_numpy` as Calls."""
    if not left_to_numpy and is_tiny(graph):
        return _straight_plan(graph)
    return _Planner(graph, left_to_numpy).plan()


# The most elements of a value, and the most operations, of a tiny program; both bound the length of its code.
TINY_VALUE = 64
TINY_WORK = 10_000


def is_tiny(graph: Graph) -> bool:
    """Whether all values of a graph fit into registers, and all its equations can be computed there."""
    gathers = [e for e in graph.equations if is_gather(e)]
    large = {e.inputs[0] for e in gathers}  # their rows are read in place
    symbols = {x for e in graph.equations for x in (*e.inputs, *e.outputs) if isinstance(x, Symbol)}
    made = {s for e in graph.equations for s in e.outputs}
    if not graph.equations or any(s.size == 0 or (s.size > TINY_VALUE and s not in large) for s in symbols):
        return False
    if large & made or any(x in large for e in graph.equations for x in e.inputs if not is_gather(e)):
        return False
    work = 0
    for equation in graph.equations:
        if not _is_straight(equation):
            return False
        size = equation.outputs[0].size
        work += size * equation.inputs[0].shape[-1] if equation.op.name == "matmul" else size  # type: ignore[union-attr]
    return work <= TINY_WORK


def _is_straight(equation: Equation) -> bool:
    name, kind = equation.op.name, equation.op.kind
    if kind == "reduce":
        return name in ("sum", "max", "min") and len(equation.attributes["axes"]) > 0
    if kind == "index":
        return (
            name == "one_hot" or is_gather(equation) or (name in ("index", "index_add") and len(equation.inputs) == 1)
        )
    return kind in ("elementwise", "movement") or name in ("matmul", "full")


def _straight_plan(graph: Graph) -> Plan:
    kernel = Straight(list(graph.equations))
    made = [symbol for e in graph.equations for symbol in e.outputs]
    in_place: dict[Symbol, Symbol] = {}
    for output, place in graph.updates.items():
        new, old = graph.outputs[output], graph.inputs[place]
        if new in made and new not in in_place and old not in graph.outputs and old not in in_place.values():
            in_place[new] = old
    places = {symbol: (symbol, contiguous(symbol.shape)) for symbol in (*graph.inputs, *graph.constants, *made)}
    stored = [symbol for symbol in made if symbol in graph.outputs]
    return Plan([kernel], places, stored, dict.fromkeys(made, kernel), in_place, [])


class _Planner:
    """Decides which equations share a kernel.

    Equation after equation gets a place: a movement becomes a view, an elementwise equation joins the pass that
    computes one of its inputs, a reduction the pass over its input, and a product starts a pass (`place`). Then comes
    what depends on who reads a result: products gather rows that only they read (`fuse_gathers`), and an elementwise
    kernel with one reader becomes part of it (`fuse_into_readers`).

    Three rules hold throughout: no kernel depends on itself (`needs`), what is read from memory is stored (`forced`),
    and nothing is overwritten before all its readers, and all checks of labels, are done (`can_be_in_place`).
    """

    def __init__(self, graph: Graph, left_to_numpy: Sequence[Equation]) -> None:
        self.graph = graph
        self.left_to_numpy = left_to_numpy
        self.kernels: list[Kernel] = []
        self.homes: dict[Symbol, Kernel] = {}
        self.places = {symbol: (symbol, contiguous(symbol.shape)) for symbol in (*graph.inputs, *graph.constants)}
        self.forced: set[Symbol] = set()  # must be stored, as something reads them from memory
        self.needs: dict[Kernel, set[Kernel]] = {}

    def plan(self) -> Plan:
        for equation in self.graph.equations:
            self.place(equation)
        self.fuse_gathers()
        self.fuse_into_readers()
        readers = self.readers()
        stored = self.find_stored(readers)
        checking = [k for k in self.kernels if computes_labels(k, self.places, self.graph)]
        in_place: dict[Symbol, Symbol] = {}
        for output, place in self.graph.updates.items():
            new, old = self.graph.outputs[output], self.graph.inputs[place]
            if new not in in_place and self.can_be_in_place(new, old, readers.get(old, []), checking):
                in_place[new] = old
        kernels = self.topological_order()
        for kernel in kernels:
            if isinstance(kernel, Group) and kernel.leader is None:
                stored.extend(s for s in spilled(kernel) if s not in stored)
        return Plan(kernels, self.places, stored, self.homes, in_place, self.left_to_numpy)

    def place(self, equation: Equation) -> None:
        """Assign an equation to a kernel."""
        name, kind = equation.op.name, equation.op.kind
        if equation in self.left_to_numpy or any(
            0 in s.shape for s in (*equation.outputs, *(x for x in equation.inputs if isinstance(x, Symbol)))
        ):
            self.call(equation)
        elif name in ("concat", "pad") or (name == "index_add" and len(equation.inputs) == 1):
            self.force(equation.inputs)
            self.add(Copies(equation), equation)
        elif looks_up(equation):
            self.force(equation.inputs)
            self.join(equation)
        elif kind == "movement" or name == "index":
            self.move(equation)
        elif kind == "elementwise":
            self.join(equation)
        elif name in REDUCTIONS:
            self.reduce(equation)
        elif name == "matmul" and equation.outputs[0].dtype.kind == "f":
            self.multiply(equation)
        else:
            self.call(equation)

    def call(self, equation: Equation) -> None:
        """Leave an equation to NumPy."""
        self.force(equation.inputs)
        self.add(Call(equation), equation)

    def add(self, kernel: Kernel, equation: Equation) -> None:
        """Record that an equation is computed by a kernel, which may be new, and what that kernel depends on."""
        if kernel not in self.needs:
            self.kernels.append(kernel)
            self.needs[kernel] = set()
        self.needs[kernel] |= self.makers_of(equation.inputs) - {kernel}
        for symbol in equation.outputs:
            self.homes[symbol] = kernel
            self.places[symbol] = (symbol, contiguous(symbol.shape))

    def bases(self, operands: Iterable[object]) -> set[Symbol]:
        """Return the Symbols in whose memory operands are."""
        return {self.places[x][0] for x in operands if isinstance(x, Symbol)}

    def makers_of(self, operands: Iterable[object]) -> set[Kernel]:
        """Return the kernels that compute operands, or what these are views of."""
        return {self.homes[base] for base in self.bases(operands) if base in self.homes}

    def readers(self) -> dict[Symbol, list[Kernel]]:
        """Return, for each Symbol that is read from memory, the kernels that read it or views of it."""
        found: dict[Symbol, list[Kernel]] = {}
        for kernel in self.kernels:
            for base in self.bases(kernel.inputs):
                found.setdefault(base, []).append(kernel)
        return found

    def force(self, operands: Iterable[object]) -> None:
        """Require that operands, or what they are views of, are stored in memory."""
        self.forced |= self.bases(operands)

    def depends(self, kernel: Kernel, on: Kernel) -> bool:
        """Whether a kernel depends on another, directly or not."""
        stack, seen = [kernel], set()
        while stack:
            current = stack.pop()
            if current is on:
                return True
            if current not in seen:
                seen.add(current)
                stack.extend(self.needs[current])
        return False

    def move(self, equation: Equation) -> None:
        """Make the result of a movement a view of its input, or leave it to NumPy if elements have to be copied."""
        (symbol, *rest), result = equation.inputs, equation.outputs[0]
        assert isinstance(symbol, Symbol)
        group = self.homes.get(symbol)
        if isinstance(group, Group) and self.is_alias(equation, group):
            self.add(group, equation)
            group.equations.append(equation)
            group.levels[result] = Level.ELEMENT if result.shape == group.shape else Level.ROW
            return
        base, layout = self.places[symbol]
        moved = None if rest else layout.moved(equation.op, equation.attributes)
        if moved is None:
            self.call(equation)
        else:
            self.forced.add(base)
            self.places[result] = base, moved

    @staticmethod
    def is_alias(equation: Equation, group: Group) -> bool:
        """Whether a movement only reshapes a row-level value, or broadcasts it over the row."""
        symbol, result = equation.inputs[0], equation.outputs[0]
        if group.levels.get(symbol) is not Level.ROW:  # type: ignore[arg-type]
            return False
        as_rows = (group.rows, (*group.rows, 1))
        if equation.op.name == "reshape":
            return result.shape in as_rows
        return equation.op.name == "broadcast_to" and result.shape == group.shape and symbol.shape == as_rows[1]  # type: ignore[union-attr]

    def join(self, equation: Equation) -> None:
        """Fuse an elementwise equation into a pass that computes one of its inputs, or else start a new one."""
        shape = equation.outputs[0].shape
        for group in self.candidates(equation):
            level = self.level_in(group, equation)
            if level is not None:
                self.add(group, equation)
                group.equations.append(equation)
                group.levels.update(dict.fromkeys(equation.outputs, level))
                return
        group = Group(shape)
        self.add(group, equation)
        group.equations.append(equation)
        group.levels.update(dict.fromkeys(equation.outputs, Level.ELEMENT))

    def candidates(self, equation: Equation) -> list[Group]:
        """Return the groups that compute inputs of an equation and could take it without a dependency cycle.

        Groups with a matrix product come first, then the latest.
        """
        makers = self.makers_of(equation.inputs)
        groups = [k for k in reversed(self.kernels) if isinstance(k, Group) and (k in makers or k.shape == ())]
        groups.sort(key=lambda group: group.leader is None)
        return [g for g in groups if not any(m is not g and self.depends(m, g) for m in makers)]

    def level_in(self, group: Group, equation: Equation) -> Level | None:
        """Return the level that an elementwise equation would have in a group, or None if it cannot join it."""
        shape = equation.outputs[0].shape
        own = [x for x in equation.inputs if isinstance(x, Symbol) and x in group.levels]
        if own and looks_up(equation):
            return None
        # A view of a result of the group cannot be read before the group is done.
        others = [x for x in equation.inputs if isinstance(x, Symbol) and x not in group.levels]
        if any(self.homes.get(self.places[x][0]) is group for x in others):
            return None
        if shape == group.shape:
            fits = all(
                group.levels[x] is Level.ELEMENT
                or (group.levels[x] is Level.ROW and x.shape in ((*group.rows, 1), ()) and len(x.shape) <= len(shape))
                for x in own
            )
            return Level.ELEMENT if fits else None
        if group.leader is not None or not own:
            return None
        if shape in (group.rows, (*group.rows, 1)) and all(
            group.levels[x] is Level.ROW and x.shape == shape for x in own
        ):
            return Level.ROW
        return None

    def reduce(self, equation: Equation) -> None:
        """Fuse a reduction into the pass that computes its input, if possible; leave unsupported axes to NumPy."""
        symbol = equation.inputs[0]
        assert isinstance(symbol, Symbol)
        level = _reduction_level(equation.op.name, equation.attributes["axes"], len(symbol.shape))
        if level is None:
            self.call(equation)
            return
        group = self.homes.get(symbol)
        inside = (
            isinstance(group, Group)
            and group.leader is None
            and group.shape == symbol.shape
            and group.levels.get(symbol) is Level.ELEMENT
            and not (level in (Level.COLUMN, Level.TOTAL) and is_worth_sharing(group))
        )
        if not inside:
            group = Group(symbol.shape)
        assert isinstance(group, Group)
        self.add(group, equation)
        group.equations.append(equation)
        group.levels[equation.outputs[0]] = level

    def multiply(self, equation: Equation) -> None:
        """Start a pass led by a matrix product, into which later equations may be fused."""
        group = Group(equation.outputs[0].shape, leader=equation)
        self.force(equation.inputs)
        self.add(group, equation)
        group.levels[equation.outputs[0]] = Level.ELEMENT

    def fuse_gathers(self) -> None:
        """Fuse gathers of long rows that only products use into these, which then read the rows in place."""
        for kernel in list(self.kernels):
            if not isinstance(kernel, Group) or kernel.leader or not all(map(is_gather, kernel.equations)):
                continue
            (gather,) = kernel.equations
            (rows,) = gather.outputs
            readers = self.readers().get(rows, [])
            views = [self.gathered_in_product(k, gather) for k in readers if isinstance(k, Group)]
            if rows in self.bases(self.graph.outputs) or not views or None in views or len(views) < len(readers):
                continue
            for reader, view in zip(readers, views, strict=True):
                assert isinstance(reader, Group)
                assert view is not None
                reader.gather = gather
                self.places.update(view)
                self.needs[reader] = (self.needs[reader] | self.needs[kernel]) - {kernel}
            self.kernels.remove(kernel)
            self.forced.discard(rows)
            del self.homes[rows], self.needs[kernel]

    def gathered_in_product(self, reader: Group, gather: Equation) -> dict[Symbol, tuple[Symbol, Layout]] | None:
        """Return the Layout of a product's left operand in the source of a gather, or None if they cannot be fused.

        It is the Layout for row indices 0, 1, 2, ...; the product replaces these by those of the gather.
        """
        (source, indices), (rows,) = gather.inputs, gather.outputs
        assert isinstance(source, Symbol)
        assert isinstance(indices, Symbol)
        base, layout = self.places[source]
        width = math.prod(rows.shape[1:])
        read = [x for x in reader.inputs if self.places[x][0] is rows]
        if reader.leader is None or read != [reader.leader.inputs[0]]:
            return None
        beside = (reader.leader.inputs[1], *(x for equation in reader.equations for x in equation.inputs))
        if read[0] in beside:  # which would not go through the indices
            return None
        _, view = self.places[read[0]]
        seen_before = self.places[indices][0] in self.graph.inputs  # so that their range is checked before
        long = width > 1 and width * rows.dtype.itemsize >= LONG_ROW
        unbroken = layout.strides[1:] == contiguous(rows.shape).strides[1:]
        apart = layout.strides[0] != 1  # else the product could not tell rows from columns by their stride
        columns = reader.shape[-1]
        near = columns <= MANY_COLUMNS or rows.size * rows.dtype.itemsize <= NEAR_ROWS
        fits = FEW_COLUMNS * rows.shape[0] >= columns if view.strides[1] == 1 else rows.shape[0] <= MOST_INDICES
        whole = view.offset == 0 and sorted(view.strides) == [1, width] and math.prod(view.shape) == rows.size
        if not (seen_before and near and fits and long and unbroken and apart and whole):
            return None
        strides = tuple(layout.strides[0] if stride == width else 1 for stride in view.strides)
        return {read[0]: (base, Layout(view.shape, strides, layout.offset))}

    def fuse_into_readers(self) -> None:
        """Fuse elementwise kernels into the later pass over the same shape that is the only user of their results."""
        for kernel in reversed(list(self.kernels)):
            reader = self.only_reader(kernel)
            if reader is None:
                continue
            assert isinstance(kernel, Group)
            reader.equations[:0] = kernel.equations
            reader.levels.update(kernel.levels)
            self.homes.update(dict.fromkeys(kernel.levels, reader))
            self.needs[reader] = (self.needs[reader] | self.needs[kernel]) - {kernel}
            self.kernels.remove(kernel)
            del self.needs[kernel]

    def only_reader(self, kernel: Kernel) -> Group | None:
        """Return the pass that a kernel can be fused into because nothing else needs its results, or None."""
        if not isinstance(kernel, Group) or any(e.op.kind != "elementwise" for e in equations_of(kernel)):
            return None
        readers = [k for k in self.kernels if self.bases(k.inputs) & kernel.levels.keys()]
        if len(readers) != 1 or not isinstance(readers[0], Group) or readers[0].shape != kernel.shape:
            return None
        in_memory = self.bases(self.graph.outputs) | self.forced
        return None if in_memory & kernel.levels.keys() else readers[0]

    def find_stored(self, readers: Mapping[Symbol, list[Kernel]]) -> list[Symbol]:
        """Return the results that need memory: read by another kernel or the caller, or reduced over rows."""
        levels = [item for kernel in self.kernels if isinstance(kernel, Group) for item in kernel.levels.items()]
        reduced = {symbol for symbol, level in levels if level in (Level.COLUMN, Level.TOTAL)}
        wanted = self.forced | self.bases(self.graph.outputs) | readers.keys() | reduced
        return [symbol for symbol in self.homes if symbol in wanted]

    def can_be_in_place(self, new: Symbol, old: Symbol, readers: list[Kernel], checking: list[Kernel]) -> bool:
        """Whether a new value may overwrite the old one; if so, order all readers and checks before."""
        home = self.homes.get(new)
        if not isinstance(home, Group) or home.levels[new] is not Level.ELEMENT:
            return False
        views = [self.places[x] for x in home.inputs if self.places[x][0] is old]
        elsewhere = [e for e in (home.leader, *home.equations) if e is not None and (e is home.leader or is_gather(e))]
        if old in self.bases(x for e in elsewhere for x in e.inputs):
            return False
        if any(not layout.contiguous or layout.shape != new.shape for _, layout in views):
            return False
        if old in self.bases(self.graph.outputs):
            return False
        stages = Stages(home)
        if views and stages.of.get(new, 0) < stages.count - 1:  # a later stage may read the old value again
            return False
        # Nothing may be overwritten before every check that can fail has passed.
        if any(isinstance(k, Call) and k.equation.op.kind == "index" for k in self.kernels):
            return False
        before = [*(k for k in readers if k is not home), *checking]
        if home in checking or any(self.depends(k, home) for k in before):
            return False
        self.needs[home].update(before)
        return True

    def topological_order(self) -> list[Kernel]:
        """Return the kernels in topological order, otherwise in the order of the equations."""
        done: dict[Kernel, None] = {}
        for kernel in self.kernels:
            stack = [kernel]
            while stack:
                current = stack[-1]
                waiting = [k for k in self.kernels if k in self.needs[current] and k not in done]
                if current in done or not waiting:
                    done[stack.pop()] = None
                else:
                    stack.append(waiting[0])
        return list(done)


def looks_up(equation: Equation) -> bool:
    """Whether an equation reads its inputs from memory: labels, row indices, or the key and draw of random numbers."""
    return is_gather(equation) or equation.op.name in GENERATORS


def is_worth_sharing(group: Group) -> bool:
    """Whether a pass has rows expensive enough to share among threads, which a reduction over rows would prevent."""
    costly = any(map(is_costly, group.equations))
    return costly and Level.ROW in group.levels.values() and math.prod(group.shape) >= MANY_ELEMENTS


def _reduction_level(name: str, axes: Sequence[int], ndim: int) -> Level | None:
    if ndim == 0:
        return None
    if tuple(axes) == (ndim - 1,):
        return Level.ROW
    if name.startswith("arg"):
        return None
    if len(axes) == ndim:
        return Level.TOTAL
    return Level.COLUMN if tuple(axes) == tuple(range(ndim - 1)) else None
