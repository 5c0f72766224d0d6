"""A program: the machine code of a graph, with the memory it works in.

Inputs that the graph updates are updated in place, unless someone else holds a reference to their array. Results are
new arrays on each call; intermediate values are in the arena, one block of memory that is planned once.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import nissl
from nissl.engines.eager import evaluate
from nissl.engines.native import cache, cost
from nissl.engines.native.kernels import Call, equations_of
from nissl.engines.native.layout import Layout
from nissl.engines.native.machine import Code, describe_machine, object_code, vector_bytes, vector_registers
from nissl.engines.native.meeting import bounds_in, equal_bounds, meeting_place
from nissl.engines.native.memory import ALIGNMENT, MemoryPlan, address, aligned
from nissl.engines.native.plan import Plan, make_plan, segment_name
from nissl.graph.graph import Equation, Graph, Symbol, label_symbols
from nissl.graph.interpret import interpret
from nissl.graph.passes import simplified
from nissl.tensor import wrap
from nissl.threads import in_forked_child, reachable_cores, run_together, threads_to_use

Array = npt.NDArray[Any]

# The argument types of compiled functions.
STEP = (ctypes.c_void_p,)
SCAN = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
SHARED_SCAN = (*SCAN, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
RELAY = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)

# A compiled function, and its arguments.
MachineCall = tuple[Any, tuple[Any, ...]]

# Work whose estimated time on one core exceeds this many seconds runs on several threads; waking them takes 0.1 ms or
# more.
SECONDS_WORTH_THREADS = 5e-4
# The steps of a scan run in slices of this estimated time on one core, with Python between them.
SECONDS_OF_A_SLICE = 0.05
# How often a thread that waits for others looks, in about 20 µs, before it gives way to the rest of the system.
PATIENCE = 1000


# Loaded code is kept for programs to come: those of a cross-validation are the same, and loading takes milliseconds.
CODES_KEPT = 16
# The prefix of a cached answer that is, instead of machine code, the index of an equation that has none.
UNSUPPORTED = b"unsupported equation "


def compiled(graph: Graph) -> tuple[Plan, MemoryPlan, bytes]:
    """Return the plan of a graph, its memory, and its machine code: from the cache, or compiled now.

    The cache key is made from the graph and the plan, so that no LLVM IR has to be emitted for the look-up.
    """
    left_to_numpy: list[Equation] = []
    while True:
        plan = make_plan(graph, left_to_numpy)
        memory = MemoryPlan(graph, plan)
        make = functools.partial(_made, graph, plan, memory)
        answer = cache.kept(_description(graph, plan, memory), make) if _is_told_by_names(graph) else make()
        if not answer.startswith(UNSUPPORTED):
            return plan, memory, answer
        left_to_numpy.append(graph.equations[int(answer.removeprefix(UNSUPPORTED))])


@functools.lru_cache(maxsize=CODES_KEPT)
def loaded(code: bytes, segments: tuple[str, ...]) -> Code:
    """Return the functions of a program; all that they change is in the table that they are given."""
    return Code(code, {**dict.fromkeys(segments, STEP), "scan": SCAN, "shared_scan": SHARED_SCAN})


def _made(graph: Graph, plan: Plan, memory: MemoryPlan) -> bytes:
    """Return machine code, or which equation has none."""
    from nissl.engines.native import assembly, emitter  # here, as they are large and most runs find code in the cache

    try:
        return object_code(str(assembly.emit(graph, plan, memory)))
    except emitter.UnsupportedEquation as found:
        return UNSUPPORTED + str(graph.equations.index(found.equation)).encode()


def _is_told_by_names(graph: Graph) -> bool:
    """Whether op names identify what is computed: not with a user's own elementwise op, whose rule can change."""
    rules = [equation.op.value for equation in graph.equations if equation.op.kind == "elementwise"]
    return all(rule.__module__.startswith(f"{nissl.__name__}.") for rule in rules)


def _description(graph: Graph, plan: Plan, memory: MemoryPlan) -> str:
    """Return the cache key: all that machine code depends on."""
    numbers = {equation: i for i, equation in enumerate(graph.equations)}
    labels = label_symbols(graph)
    kernels = [(type(kernel).__name__, *(numbers[e] for e in equations_of(kernel))) for kernel in plan.kernels]
    parts = (
        f"{describe_machine()} {vector_bytes()} {vector_registers()}",
        f"nissl {nissl.__version__} {_sources()}",
        str(kernels),
        f"{memory.status_slot} {[(labels[symbol], slot) for symbol, slot in memory.slots.items()]}",
        f"{[labels[symbol] for symbol in plan.stored]} {[(labels[a], labels[b]) for a, b in plan.in_place.items()]}",
        f"{sorted(graph.updates.items())} {graph}",
    )
    return "\n".join(parts)


@functools.cache
def _sources() -> str:
    """Return names, sizes and times of nissl's source files, so that a change of them invalidates the cache."""
    files = [(path.name, path.stat()) for path in sorted(Path(nissl.__file__).parent.rglob("*.py"))]
    return " ".join(f"{name} {found.st_size} {found.st_mtime_ns}" for name, found in files)


_programs: weakref.WeakSet[Program] = weakref.WeakSet()


@in_forked_child
def _make_locks() -> None:
    for program in _programs:
        program.lock = threading.Lock()


class Program:
    """A compiled graph: called with arrays for its inputs, it returns arrays for its outputs."""

    returns_new_arrays = True  # except for state that is updated in place

    def __init__(self, graph: Graph) -> None:
        self.original = graph
        self.graph = simplified(graph)
        self.plan, self.memory, code = compiled(self.graph)
        names = [segment_name(i) for i, segment in enumerate(self.plan.segments) if not isinstance(segment, Call)]
        self.code = loaded(code, tuple(names))
        # What runs, in order: compiled functions, and the equations that NumPy computes between.
        self.segments = [
            segment.equation if isinstance(segment, Call) else self.code.functions[segment_name(i)]
            for i, segment in enumerate(self.plan.segments)
        ]
        self.arena = np.zeros(self.memory.size + ALIGNMENT, np.uint8)
        self.table = self.memory.new_table(self.arena)
        self.table_address = ctypes.addressof(self.table)
        self.status = ctypes.c_int64.from_address(self.table[self.memory.status_slot])
        self.seconds = sum(cost.seconds(kernel, self.plan) for kernel in self.plan.kernels)  # on one core, at least
        self.results = [self.memory.result(symbol) for symbol in self.graph.outputs]
        state = all(self.results[output] == place for output, place in self.graph.updates.items())
        # Whether several steps can run without Python: all state is updated in place, and NumPy computes nothing.
        self.can_scan = state and None not in self.results and "scan" in self.code.functions
        self.uses_threads = self.can_scan and self.seconds > SECONDS_WORTH_THREADS
        # The one function that does all, if nothing has to be done but to call it.
        self.whole: Any = self.segments[0] if self.can_scan and not self.uses_threads else None
        # The slots of new arrays for results, with their shapes and dtypes.
        first = len(graph.inputs) + len(self.memory.constants)
        self.fresh = [(first + i, symbol.shape, symbol.dtype) for i, symbol in enumerate(self.memory.fresh)]
        # The inputs whose addresses are in the table already, so that each array is examined only once.
        self.known: list[Callable[[], Array | None]] = [_nothing] * len(graph.inputs)
        # For labels and row indices: their own array could be changed by another Python thread after they are checked.
        self.copies = {i: np.empty(graph.inputs[i].shape, graph.inputs[i].dtype) for i in self.memory.checked}
        self.lock = threading.Lock()
        _programs.add(self)

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """Run the graph."""
        with self.lock:
            held = self.take(arrays)
            if self.whole is not None:
                self.whole(self.table_address)
            else:
                self.run(held)
            if self.status.value:
                # This raises the error that names the label.
                interpret(self.original, [self.copies.get(i, array) for i, array in enumerate(arrays)])
                raise AssertionError("a label was out of range, but not on the reference engine")
            return [
                np.array(self.array_of(self.graph.outputs[i], held)) if slot is None else held[slot]
                for i, slot in enumerate(self.results)
            ]

    def start(self, arrays: Sequence[Array], steps: int, stacked: Sequence[int], before: Sequence[Scan] = ()) -> Scan:
        """Return a Scan of `steps` steps, ready to run: inputs at the positions `stacked` and results have a step axis.

        It shares the state that it updates with the scans started `before`, which will be run in turn with it.
        """
        results = [slot for i, slot in enumerate(self.results) if slot is not None and i not in self.graph.updates]
        shared = [array for scan in before for array in scan.held]
        held = self.take(arrays, steps, results, shared)
        return Scan(self, held, steps, [*stacked, *results])

    def explain(self) -> str:
        """Return a description of the kernels, in order."""
        from nissl.engines.native import report  # here, as it also loads the modules that emit code

        return report.explain(self)

    def profile(self, arrays: Sequence[Array]) -> str:
        """Return the times of the kernels, measured on copies of the arrays."""
        from nissl.engines.native import report

        return report.profile(self, arrays)

    def forget(self) -> None:
        """Forget the addresses of all inputs, so that the next call reads them again."""
        self.known = [_nothing] * len(self.known)

    def take(
        self, arrays: Sequence[Array], steps: int = 0, results: Iterable[int] = (), shared: Sequence[Array] = ()
    ) -> list[Array]:
        """Fill the table with the addresses of inputs and of new arrays for results; return the array of each slot.

        The arrays of slots in `results` get a step axis; arrays in `shared` are updated in place without a copy.
        """
        self.status.value = 0
        held = list(arrays)
        for i in self.memory.written:
            # HELD counts the references of the Tensor, the caller's list, the one here and getrefcount itself.
            in_use = sys.getrefcount(held[i]) > HELD or not is_private(held[i])
            if in_use and not any(held[i] is array for array in shared):
                held[i] = private_copy(held[i], i)
        for i, copy in self.copies.items():
            if steps:
                held[i] = held[i].copy()
            else:
                np.copyto(copy, held[i])
                held[i] = copy
        for i, known in enumerate(self.known):
            if known() is not held[i]:
                if not _is_plain(held[i]):
                    held[i] = np.array(held[i], order="C")
                self.known[i] = _nothing  # if a signal handler raises before the next two lines are done
                self.table[i] = address(held[i])
                self.known[i] = weakref.ref(held[i])
        held += self.memory.constants
        for slot, shape, dtype in self.fresh:
            array = np.empty((steps, *shape) if slot in results else shape, dtype)
            if array.size:  # by the faster of two ways: `address` works for empty and read-only arrays, too
                self.table[slot] = ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
            held.append(array)
        return held

    def run(self, held: Sequence[Array]) -> None:
        """Run all segments, and the equations that NumPy computes between them."""
        if self.uses_threads:
            self.status.value = not run_in_turn([Scan(self, held, 1, ())], np.zeros(1, int))
            return
        for segment in self.segments:
            if isinstance(segment, Equation):
                self.call(segment, held)
                continue
            segment(self.table_address)
            if self.status.value:
                return

    def call(self, equation: Equation, arrays: Sequence[Array]) -> None:
        """Compute an equation with NumPy."""
        payloads = [self.array_of(x, arrays) if isinstance(x, Symbol) else x for x in equation.inputs]
        with np.errstate(all="ignore"):
            value = evaluate(equation.op, payloads, equation.attributes)
        for symbol, result in zip(equation.outputs, value if equation.op.outputs > 1 else (value,), strict=True):
            if symbol in self.memory.slots:
                self.array_of(symbol, arrays)[...] = result

    def array_of(self, symbol: Symbol, arrays: Sequence[Array]) -> Array:
        """Return the memory of a Symbol as an array."""
        base, layout = self.plan.places[symbol]
        slot = self.memory.slots[base]
        held = arrays[slot] if slot < len(arrays) else self.memory.in_arena(base, self.arena)
        return _strided(held, layout, symbol.dtype)


class Scan:
    """Several steps of a program, ready to run; the addresses of arrays with a step axis advance after each."""

    def __init__(self, program: Program, held: Sequence[Array], steps: int, moving: Sequence[int]) -> None:
        self.program = program
        self.held = list(held)  # the array of each slot
        self.taken = steps
        self.slots = (ctypes.c_int64 * len(moving))(*moving)
        self.strides = (ctypes.c_int64 * len(moving))(*(held[slot].nbytes // steps for slot in moving))

    def call(self, name: str, table: ctypes.Array[ctypes.c_uint64], steps: int) -> MachineCall:
        """Return the call of a function that runs some of the steps."""
        return self.program.code.functions[name], (table, steps, self.slots, self.strides, len(self.slots))

    def new_table(self, status: int) -> ctypes.Array[ctypes.c_uint64]:
        """Return a table of addresses for one thread, with the status flag at an address."""
        table = type(self.program.table).from_buffer_copy(self.program.table)
        table[self.program.memory.status_slot] = status
        return table

    def see_how_far(self, table: ctypes.Array[ctypes.c_uint64]) -> None:
        """Set `taken` to the number of steps that ran, as the advanced addresses in a table show."""
        moving = [(slot, stride) for slot, stride in zip(self.slots, self.strides, strict=True) if stride]
        self.taken = next(((table[slot] - self.program.table[slot]) // stride for slot, stride in moving), 0)


def run_in_turn(scans: Sequence[Scan], turns: npt.NDArray[np.int64]) -> bool:
    """Run steps, the i-th by scans[turns[i]], with Python only between slices; on several threads if large enough.

    Return whether all steps ran: it stops before the first with a label out of range, and sets `taken` of each scan.
    """
    status = (ctypes.c_int64 * 1)()
    can_share = all("shared_scan" in scan.program.code.functions for scan in scans)
    tables = [scan.new_table(ctypes.addressof(status)) for scan in scans]
    for legs, seconds in slices(scans, turns):
        threads = threads_to_use() if can_share and seconds > SECONDS_WORTH_THREADS else 1
        if threads == 1 or not run_shared(scans, legs, tables, threads):
            for turn, steps in legs:
                function, arguments = scans[turn].call("scan", tables[turn], steps)
                function(*arguments)
        if status[0]:
            for scan, table in zip(scans, tables, strict=True):
                scan.see_how_far(table)
            return False
    return True


# Some consecutive steps of one scan: which scan, and how many steps.
Leg = tuple[int, int]


def slices(scans: Sequence[Scan], turns: npt.NDArray[np.int64]) -> Iterator[tuple[list[Leg], float]]:
    """Yield slices of the steps that `run_in_turn` takes: their legs and their estimated time on one core."""
    ends = [*(np.flatnonzero(np.diff(turns)) + 1).tolist(), len(turns)]
    legs: list[Leg] = []
    seconds = 0.0
    for first, end in itertools.pairwise([0, *ends]):
        turn = int(turns[first])
        each = scans[turn].program.seconds
        while first < end:
            steps = min(end - first, 1 + int((SECONDS_OF_A_SLICE - seconds) / each))
            legs.append((turn, steps))
            first, seconds = first + steps, seconds + steps * each
            if seconds > SECONDS_OF_A_SLICE:
                yield legs, seconds
                legs, seconds = [], 0.0
    if legs:
        yield legs, seconds


def run_shared(
    scans: Sequence[Scan], legs: Sequence[Leg], tables: Sequence[ctypes.Array[ctypes.c_uint64]], threads: int
) -> bool:
    """Run legs on several threads, the first on these tables; return False if the threads are not free."""
    # Who waits for a thread without a core gives it its own at once.
    patience = PATIENCE if threads <= reachable_cores() else 0
    meeting = meeting_place(patience, _bounds.get(threads) or equal_bounds(threads))
    copies = [[type(table).from_buffer_copy(table) for table in tables] for _ in range(1, threads)]
    parts = []
    for thread, own in enumerate([tables, *copies]):
        function, arguments = joined([scans[turn].call("shared_scan", own[turn], steps) for turn, steps in legs])
        parts.append(functools.partial(function, *arguments, thread, threads, meeting))
    done = run_together(parts)
    if done:
        _bounds[threads] = bounds_in(meeting)
    return done


_bounds: dict[int, list[float]] = {}  # of the threads' shares, as the latest run left them, by the number of threads


def joined(calls: Sequence[MachineCall]) -> MachineCall:
    """Return one call that makes several calls of shared scans, whose arguments must outlive it."""
    if len(calls) == 1:
        return calls[0]
    legs = (ctypes.c_int64 * (6 * len(calls)))()
    for i, (function, arguments) in enumerate(calls):
        words = [x if isinstance(x, int) else ctypes.addressof(x) for x in arguments]
        legs[6 * i : 6 * i + 6] = [ctypes.cast(function, ctypes.c_void_p).value or 0, *words]
    return relay().functions["relay"], (legs, len(calls))


@functools.cache
def relay() -> Code:
    """Return the code of the function that calls several shared scans in turn."""

    def make() -> bytes:
        from nissl.engines.native import assembly

        return object_code(str(assembly.emit_relay()))

    code = cache.kept(f"relay {describe_machine()} nissl {nissl.__version__} {_sources()}", make)
    return Code(code, {"relay": RELAY})


def _nothing() -> None:
    """Stand in for a weak reference to an array that is gone."""


def _is_plain(array: Array) -> bool:
    return array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative


def _strided(array: Array, layout: Layout, dtype: np.dtype[Any]) -> Array:
    """Return a view of an array's memory with a Layout."""
    size = dtype.itemsize
    if 0 in layout.shape:
        return np.empty(layout.shape, dtype)
    strides = [stride * size for stride in layout.strides]
    return np.lib.stride_tricks.as_strided(array.reshape(-1)[layout.offset :], layout.shape, strides)


def _calibrated() -> int:
    """Return the reference count of an array that only a Tensor and the lists of a call hold, on this Python."""

    def look(arrays: Sequence[Array]) -> int:
        given = list(arrays)
        return sys.getrefcount(given[0])

    tensors = [wrap(np.empty(1))]
    return look([tensor._array() for tensor in tensors])


HELD = _calibrated()
STAGGER = 11 * ALIGNMENT
PAGE = 4096


def private_copy(array: Array, number: int) -> Array:
    """Return a copy that is aligned to a cache line, so that no vector straddles two.

    Copies of different numbers start at different offsets in a page, against 4K aliasing: a core takes a load to depend
    on an earlier store if the lower 12 bits of their addresses agree.
    """
    memory = np.empty(array.nbytes + PAGE + ALIGNMENT, np.uint8)
    start = aligned(memory) - address(memory) + number * STAGGER % PAGE
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def is_private(array: Array) -> bool:
    """Whether an array was made by `private_copy` and no other view of its memory exists."""
    memory = array.base
    return type(memory) is np.ndarray and memory.dtype == np.uint8 and sys.getrefcount(memory) <= HELD_BY_COPY


def _held_by_copy() -> int:
    copy = private_copy(np.empty(1), 0)
    memory = copy.base
    return sys.getrefcount(memory)


# The reference count of the memory of a private copy, as `is_private` reads it.
HELD_BY_COPY = _held_by_copy()
