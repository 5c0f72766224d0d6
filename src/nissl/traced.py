"""Traced: one trace of a function, made into a program, and whether the trace still holds for a call."""

from __future__ import annotations

import operator
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from nissl.engines.base import Gradient, current, using
from nissl.errors import DataError, GradientError, OptionError
from nissl.graph.graph import Graph, Symbol
from nissl.graph.interpret import interpreter
from nissl.graph.names import Names
from nissl.graph.pytree import Leaf, flatten, objects_in, unflatten
from nissl.graph.snapshot import Snapshot, has_settings, state_in
from nissl.graph.trace import Trace
from nissl.tensor import Op, Tensor, wrap
from nissl.threads import in_forked_child

if TYPE_CHECKING:
    from nissl.compiler import Compiled

Array = npt.NDArray[Any]
Program = Callable[[Sequence[Array]], list[Array]]
Result = TypeVar("Result")
# A Tensor from outside of a trace: state as it is, an argument by its place, since each call brings another.
Outer = Tensor | int

PAYLOAD = operator.attrgetter("payload")


def _native(graph: Graph) -> Program:
    try:
        from nissl.engines.native import program  # here, as LLVM takes a while to load

        return program.Program(graph)
    except Exception as error:
        warnings.warn(
            f"{graph.name} runs on NumPy, since the native engine could not compile it: "
            f"{type(error).__name__}: {str(error)[:300]}",
            stacklevel=2,
        )
        return interpreter(graph)


# From a graph to something that runs it, by the name of the engine.
ENGINES: dict[str, Callable[[Graph], Program]] = {"numpy": interpreter, "native": _native}


def _no_gradient(g: Tensor, y: Tensor, *inputs: Any) -> Tensor:
    raise GradientError(
        "backward() reached the result of a compiled function, which does not remember how it was made. "
        "Call backward() inside the compiled function, or use ns.grad there, or remove ns.compile"
    )


_compiled_result = Op(
    "compiled_result",
    kind="elementwise",
    value=lambda m, x: x,
    shape=lambda shape: shape,
    dtype=lambda dtype: dtype,
    gradients=(_no_gradient,),
    promoted_from=0,
    passes_through=True,
    doc="x, as a compiled function returned it: no gradient flows through it.",
)


# Held by a call that reads state or gradients and writes them back: no update of another thread is lost between.
_writing = threading.RLock()


@in_forked_child
def _make_lock() -> None:
    global _writing
    _writing = threading.RLock()


class Traced:
    """One trace of a function: its graph, the program made of it, and where its inputs and outputs belong."""

    def __init__(self, compiled: Compiled, structure: Any, arguments: Sequence[Tensor]) -> None:
        trace = Trace()
        for position, argument in enumerate(arguments):
            trace.lift(argument, getattr(argument, "path", "") or f"argument {position}")
        self.names = Names(compiled.told_by)
        self.objects = objects_in(structure)
        self.steering = self._steering_now()
        for thing in self.steering:
            if has_settings(thing):
                trace.observe(thing)
        with using(trace):
            positional, keywords = unflatten(structure, arguments)
            returned = compiled.function(*positional, **keywords)
            results: list[Tensor] = []
            self.results_structure = flatten(returned, results)
            for thing in objects_in(self.results_structure):
                raise OptionError(
                    f"{compiled.__name__} returns a {type(thing).__name__}; a compiled function returns Tensors and "
                    "numbers, alone or in tuples, lists and dicts"
                )
            result_symbols = [trace.read(result) for result in results]
            written = [t for t, symbol in trace.values.items() if symbol is not trace.inputs[t]]
            left = _gradients_left(trace, compiled.keep_gradients)
            gradient_symbols = [trace.read(g.value) for _, g in left if g is not None and g.value is not None]
        self.dtypes = [argument.dtype for argument in arguments]
        places = {t: i for i, t in reversed(list(enumerate(arguments)))}
        self.distinct = [i for i, t in enumerate(arguments) if places[t] == i]
        self.state = list(trace.inputs)[len(self.distinct) :]
        self.result_requires_grad = [result.requires_grad for result in results]
        self.written: list[Outer] = [places.get(t, t) for t in written]
        self.gradients_left: list[tuple[Outer, Gradient | None]] = [(places.get(t, t), g) for t, g in left]
        self.gradients_read: list[Outer] = [places.get(t, t) for t in trace.gradient_inputs]
        self.waiting: list[tuple[Outer, bool]] = [(places.get(t, t), before) for t, before in trace.waiting.items()]
        self.trained = [(tensor, tensor.requires_grad) for tensor in self.state]
        self.observed = list(trace.observed.values())
        self.own = frozenset(self.state)
        self.aliases = self._aliases(arguments)
        self.kinds: list[tuple[Any, Any]] | None = None
        slots = {tensor: i for i, tensor in enumerate(trace.inputs)}
        self.graph = Graph(
            name=compiled.__name__,
            inputs=(*trace.inputs.values(), *trace.gradient_inputs.values()),
            constants=trace.constants,
            equations=tuple(trace.equations),
            outputs=(*result_symbols, *(trace.values[t] for t in written), *gradient_symbols),
            output_names=(*[""] * len(results), *(trace.inputs[t].name for t in written)),
            updates={len(results) + i: slots[t] for i, t in enumerate(written)},
        )
        trace.forget()
        self.program = ENGINES[compiled.engine](self.graph)
        # Arrays of the caller's are read where they are, if no result can share memory with them.
        self.borrows = getattr(self.program, "returns_new_arrays", False)

    def _aliases(self, arguments: Sequence[Tensor]) -> list[bool]:
        """Return, for each argument, whether it is also state that the function reads by another name."""
        return [argument in self.own for argument in arguments]

    def fits(self, arguments: Sequence[Tensor]) -> bool:
        """Whether nothing that steered the trace has changed."""
        return (
            self._is_set_as_before()
            and all(tensor.requires_grad == before for tensor, before in self.trained)
            and self._waits_as_before(arguments)
            and self._aliases(arguments) == self.aliases
            and self._is_steered_as_before()
        )

    def _is_set_as_before(self) -> bool:
        """Whether the settings of Modules and optimizers are the same."""
        return all(thing.fingerprint() == before for thing, before in self.observed)

    def _waits_as_before(self, arguments: Sequence[Tensor]) -> bool:
        """Whether gradients wait where they did."""
        return all(
            _is_waiting(outer if isinstance(outer, Tensor) else arguments[outer]) == before
            for outer, before in self.waiting
        )

    def _is_steered_as_before(self) -> bool:
        """Whether the names of the function, and the objects that it was given, hold the same state."""
        found = self._steering_now()
        return len(found) == len(self.steering) and all(map(operator.is_, found, self.steering))

    def _steering_now(self) -> list[Any]:
        return [state for value in (*self.names.values(), *self.objects) for state in state_in(value)]

    def remember(self, structure: Any, arguments: Sequence[Tensor]) -> None:
        """Keep what a call was like, so that the next one like it is recognized at once.

        Nothing is kept if the function itself has changed a setting: the next call will not be like this one.
        """
        leaves = tuple(Leaf(i) for i in range(len(arguments)))
        plain = (
            structure == (tuple, ((tuple, leaves), (dict, ())))
            and len(set(map(id, arguments))) == len(arguments)
            and not any(t.requires_grad or t.weak for t in arguments)
            and not any(self.aliases)
        )
        if plain:
            meant = self.names.values()
            snapshot = Snapshot([*(thing for thing, _ in self.observed), *self.state, *meant, *self.objects])
            if self._is_set_as_before() and self._is_steered_as_before():
                self.mode, self.meant, self.snapshot = (current.recording, current.evaluating), meant, snapshot
                self.kinds = [(t.shape, t.dtype) for t in arguments]  # last, as another thread may call meanwhile
                return
        self.kinds = None

    def recognize(self, positional: Sequence[Any]) -> list[Tensor] | None:
        """Return the arguments as Tensors if this trace surely holds for them; of the other calls, `fits` decides.

        It takes a few microseconds, by comparing what is there with what was there, object by object.
        """
        kinds = self.kinds
        if kinds is None or len(kinds) != len(positional) or (current.recording, current.evaluating) != self.mode:
            return None
        arguments: list[Tensor] = []
        for i, argument in enumerate(positional):
            if type(argument) is np.ndarray and self.borrows:
                argument = wrap(argument)
            elif type(argument) is not Tensor or argument.op is not None or argument.requires_grad or argument.weak:
                return None
            payload = argument.payload
            if (payload.shape, payload.dtype) != kinds[i] or argument in self.own:
                return None
            arguments.append(argument)
        same = (
            self.names.mean(self.meant)
            and self.snapshot.holds()
            and (not self.waiting or self._waits_as_before(arguments))
            and (len(arguments) < 2 or len(set(map(id, positional))) == len(arguments))
        )
        return arguments if same else None

    @property
    def can_scan(self) -> bool:
        """Whether step after step can be run without Python."""
        plain = all(g is None or g.value is None for _, g in self.gradients_left) and not self.gradients_read
        writes_state = all(isinstance(outer, Tensor) for outer in self.written)
        return plain and writes_state and getattr(self.program, "can_scan", False)

    def start(self, stacked: Sequence[Array], steps: int, before: Sequence[Any]) -> Any:
        """Return a scan of the graph, ready to be run; Tensors hold from now on what it changes in place."""
        arrays = [np.ascontiguousarray(array, dtype) for array, dtype in zip(stacked, self.dtypes, strict=True)]
        arrays += [t._array() for t in self.state]
        scan = self.program.start(arrays, steps, range(len(stacked)), before)  # type: ignore[attr-defined]
        for state, slot in zip(self.written, self.graph.updates.values(), strict=True):
            assert isinstance(state, Tensor)  # see `can_scan`
            state.payload = scan.held[slot]
        return scan

    def end(self, scan: Any) -> Any:
        """Return the results of a scan, and leave gradients as its steps do."""
        for outer, gradient in self.gradients_left:
            if isinstance(outer, Tensor):
                outer.waiting_gradient = gradient
        slots = scan.program.results[: len(self.result_requires_grad)]
        return unflatten(self.results_structure, [wrap(scan.held[slot]) for slot in slots])

    def changes(self) -> list[str]:
        """Return what has changed since the trace, in words."""
        changed = [type(thing).__name__ for thing, before in self.observed if thing.fingerprint() != before]
        return [f"the settings of {name}" for name in changed]

    def arrays_for(self, arguments: Sequence[Tensor]) -> list[Array]:
        """Return the arrays that the graph gets as inputs now."""
        distinct = arguments if len(self.distinct) == len(arguments) else [arguments[i] for i in self.distinct]
        arrays = [*map(PAYLOAD, distinct), *map(PAYLOAD, self.state)]
        for outer in self.gradients_read:
            gradient = (outer if isinstance(outer, Tensor) else arguments[outer]).waiting_gradient
            if gradient is not None and gradient.value is not None:
                arrays.append(gradient.value.payload)
        return arrays

    def __call__(self, arguments: Sequence[Tensor]) -> Any:
        """Run the graph: read the state, write it back, return the results."""
        if not self.written and not self.gradients_left:
            return self._run(arguments)
        with _writing:
            return self._run(arguments)

    def _run(self, arguments: Sequence[Tensor]) -> Any:
        arrays = self.program(self.arrays_for(arguments))
        results = [_result(arrays[i], requires_grad) for i, requires_grad in enumerate(self.result_requires_grad)]
        if self.written or self.gradients_left:
            self._write(arguments, iter(arrays[len(results) :]))
        return unflatten(self.results_structure, results)

    def _write(self, arguments: Sequence[Tensor], outputs: Iterator[Array]) -> None:
        """Write back the state, and leave gradients where the function left them."""
        for outer in self.written:
            (outer if isinstance(outer, Tensor) else arguments[outer]).payload = next(outputs)
        for outer, gradient in self.gradients_left:
            if gradient is not None:
                value = None if gradient.value is None else _result(next(outputs), False)
                gradient = Gradient(value, gradient.used)
            (outer if isinstance(outer, Tensor) else arguments[outer]).waiting_gradient = gradient


def scan_in_turn(
    traces: Sequence[Traced], turns: npt.NDArray[np.int64], stacked: Sequence[Array]
) -> tuple[list[Any], list[int]]:
    """Take step after step, the i-th by the graph of traces[turns[i]] on row i of the stacked arrays.

    Return the results of each trace, with an axis of its own steps, and how many of these were taken: not all, if a
    label is out of range. All traces can scan, and write the same state.
    """
    from nissl.engines.native.program import run_in_turn  # here, as LLVM takes a while to load

    def run() -> tuple[list[Any], list[int]]:
        scans: list[Any] = []
        for turn, traced in enumerate(traces):
            chosen = turns == turn
            rows = stacked if chosen.all() else [array[chosen] for array in stacked]
            scans.append(traced.start(rows, int(chosen.sum()), scans))
        run_in_turn(scans, turns)
        results = [traced.end(scan) for traced, scan in zip(traces, scans, strict=True)]
        return results, [scan.taken for scan in scans]

    return _holding([_writing, *(traced.program.lock for traced in traces)], run)  # type: ignore[attr-defined]


def _holding(locks: Sequence[Any], work: Callable[[], Result]) -> Result:
    """Call a function while holding locks. (ExitStack keeps one if a signal handler raises just after acquiring it.)"""
    if not locks:
        return work()
    with locks[0]:
        return _holding(locks[1:], work)


def out_of_range() -> DataError:
    """Return the error for a scan that has ended before its last step."""
    return DataError("a label or a row's number is out of range in one of the steps; those before it were taken")


def _is_waiting(tensor: Tensor) -> bool:
    return tensor.waiting_gradient is not None and not tensor.waiting_gradient.used


def _gradients_left(trace: Trace, keep: bool) -> list[tuple[Tensor, Gradient | None]]:
    """Return the gradients that stay at Tensors from outside; a used one has no value unless it is to be kept."""
    left: list[tuple[Tensor, Gradient | None]] = []
    for tensor, gradient in trace.gradients.items():
        if isinstance(tensor.payload, Symbol):
            continue
        if gradient is not None and gradient.used and not keep:
            gradient = Gradient(None, used=True)
        left.append((tensor, gradient))
    return left


def _result(array: Array, requires_grad: bool) -> Tensor:
    tensor = wrap(array)
    if requires_grad:
        tensor.requires_grad = True
        tensor.op = _compiled_result
        origin = wrap(array)
        origin.requires_grad = True
        tensor.inputs = (origin,)
    return tensor
