"""`ns.compile`: trace a function once for each signature, then run its graph on an engine.

What a signature is: the shapes and dtypes of the arguments, which of them are the same Tensor, the values of arguments
that are no numbers, and everything that steered the trace from outside: the settings of modules and optimizers that it
met, and which objects the function's names stand for. If any of these has changed, the function is traced again.

What is frozen: Python numbers and arrays that the function closes over. Pass them as arguments, or put them into
Tensors that the function reads.
"""

from __future__ import annotations

import dis
import functools
import operator
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from nissl.engines.base import Gradient, current, using
from nissl.errors import DataError, GradientError, OptionError, TracingError, unknown_name
from nissl.graph.graph import Graph, Symbol, describe_call, label_symbols
from nissl.graph.interpret import interpreter
from nissl.graph.pytree import Leaf, flatten, joined, objects_in, unflatten
from nissl.graph.snapshot import Snapshot, has_settings, state_in
from nissl.graph.trace import Trace
from nissl.habits import explained
from nissl.shapes import describe
from nissl.tensor import Op, Tensor, as_tensor, wrap
from nissl.text import counted
from nissl.threads import in_forked_child

Array = npt.NDArray[Any]

PAYLOAD = operator.attrgetter("payload")
Program = Callable[[Sequence[Array]], list[Array]]
Result = TypeVar("Result")


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

RETRACES_BEFORE_WARNING = 8
# How many signatures, and traces of each, are kept; beyond that, the oldest are let go.
SIGNATURES_KEPT, TRACES_KEPT = 64, 16


def choose_engine(name: str) -> str:
    """Return the name of an engine, or raise OptionError if there is none of that name."""
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    return name


@overload
def compile(
    f: None = None, *, engine: str = ..., keep_gradients: bool = ...
) -> Callable[[Callable[..., Any]], Compiled]: ...
@overload
def compile(f: Callable[..., Any], *, engine: str = ..., keep_gradients: bool = ...) -> Compiled: ...
@explained
def compile(f: Callable[..., Any] | None = None, *, engine: str = "native", keep_gradients: bool = False) -> Any:
    """Return `f` as a compiled function: the same results, from a graph that is traced once for each signature.

    `f` takes and returns Tensors, arrays and Python numbers, alone or in tuples, lists and dicts. Numbers become
    inputs; bools, strings and None are part of the signature. State (parameters, optimizer moments, random streams) is
    read anew on each call and written back.

    `engine` is "native", machine code for this CPU, or "numpy", the graph equation by equation with the bits of eager
    execution. `keep_gradients` keeps `.grad` readable after a step used it in the same function.

    Threads may call compiled functions at once, and no update is lost; but a thread that reads a Parameter while
    another's step changes it in place may see a part of both.

    >>> import nissl as ns
    >>> square = ns.compile(lambda x: x * x)
    >>> square(ns.tensor([1.0, 3.0]))
    tensor([1., 9.])
    """
    if f is None:
        return functools.partial(compile, engine=engine, keep_gradients=keep_gradients)
    return Compiled(f, choose_engine(engine), keep_gradients)


class Names:
    """The names in a function that come from outside of it, and in the functions beside it that it calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.cells: list[types.CellType] = []
        self.globals: list[tuple[dict[str, Any], str]] = []
        waiting: list[Any] = [function]
        seen: list[types.FunctionType] = []
        while waiting:
            f = _plain(waiting.pop())
            if f is None or f in seen:
                continue
            seen.append(f)
            self.cells.extend(f.__closure__ or ())
            self.globals.extend((f.__globals__, name) for name in sorted(_global_names(f.__code__)))
            beside = [value for value in self.values() if getattr(_plain(value), "__globals__", None) is f.__globals__]
            waiting.extend(beside)

    def values(self) -> list[Any]:
        """Return all that the names stand for now."""
        found = [cell.cell_contents for cell in self.cells if cell != _EMPTY]
        return found + [namespace[name] for namespace, name in self.globals if name in namespace]

    def mean(self, before: Sequence[Any]) -> bool:
        """Whether the names stand for the same things as before."""
        if not self.cells and not self.globals:
            return True
        values = self.values()
        return len(values) == len(before) and all(map(operator.is_, values, before))


_EMPTY = types.CellType()


def _plain(f: Any) -> types.FunctionType | None:
    """Return the function that is called in the end, if it is written in Python: a Module tells of itself."""
    while isinstance(f, functools.partial | Compiled):
        f = f.function if isinstance(f, Compiled) else f.func
    f = getattr(f, "__func__", f)
    return f if isinstance(f, types.FunctionType) else None


def _global_names(code: types.CodeType) -> set[str]:
    """Return the global names that a piece of code reads, which are not all of its `co_names`: attributes are, too."""
    inner = [_global_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    read = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return read.union(*inner)


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


# Held by a call that reads state and writes it back, so that no update of another thread is lost between.
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
        self.distinct = [i for i, t in enumerate(arguments) if self._place(arguments, t) == i]
        self.state = list(trace.inputs)[len(self.distinct) :]
        self.result_requires_grad = [result.requires_grad for result in results]
        self.written = [(self._place(arguments, t), t) for t in written]
        self.gradients_left = [(self._place(arguments, t), t, gradient) for t, gradient in left]
        self.gradients_read = [(self._place(arguments, t), t) for t in trace.gradient_inputs]
        self.waiting = [(self._place(arguments, t), t, before) for t, before in trace.waiting.items()]
        self.trained = [(tensor, tensor.requires_grad) for tensor in self.state]
        self.observed = list(trace.observed.values())
        self.aliases = self._aliases(arguments)
        self.own = frozenset(self.state)
        self.kinds: list[tuple[Any, Any]] | None = None
        places = {tensor: i for i, tensor in enumerate(trace.inputs)}
        self.graph = Graph(
            name=compiled.__name__,
            inputs=(*trace.inputs.values(), *trace.gradient_inputs.values()),
            constants=trace.constants,
            equations=tuple(trace.equations),
            outputs=(*result_symbols, *(trace.values[t] for t in written), *gradient_symbols),
            output_names=(*[""] * len(results), *(trace.inputs[t].name for t in written)),
            updates={len(results) + i: places[t] for i, t in enumerate(written)},
        )
        trace.forget()
        self.program = ENGINES[compiled.engine](self.graph)
        # Arrays of the caller's are read where they are, if no result can share memory with them.
        self.borrows = getattr(self.program, "returns_new_arrays", False)

    @staticmethod
    def _place(arguments: Sequence[Tensor], tensor: Tensor) -> int | None:
        return next((i for i, argument in enumerate(arguments) if argument is tensor), None)

    def _aliases(self, arguments: Sequence[Tensor]) -> list[bool]:
        """Return, for each argument, whether it is also state that the function reads by another name."""
        places = {id(t) for t in self.state}
        return [id(argument) in places for argument in arguments]

    def fits(self, arguments: Sequence[Tensor]) -> bool:
        """Whether nothing that steered the trace has changed."""
        return (
            all(thing.fingerprint() == before for thing, before in self.observed)
            and all(tensor.requires_grad == before for tensor, before in self.trained)
            and self._waits_as_before(arguments)
            and self._aliases(arguments) == self.aliases
            and self._is_steered_as_before()
        )

    def _waits_as_before(self, arguments: Sequence[Tensor]) -> bool:
        """Whether gradients wait where they did."""
        return all(
            _is_waiting(tensor if place is None else arguments[place]) == before
            for place, tensor, before in self.waiting
        )

    def _is_steered_as_before(self) -> bool:
        """Whether the names of the function, and the objects that it was given, hold the same state."""
        found = self._steering_now()
        return len(found) == len(self.steering) and all(map(operator.is_, found, self.steering))

    def _steering_now(self) -> list[Any]:
        return [state for value in (*self.names.values(), *self.objects) for state in state_in(value)]

    def remember(self, structure: Any, arguments: Sequence[Tensor]) -> None:
        """Keep what a call was like, so that the next one like it is recognized at once."""
        leaves = tuple(Leaf(i) for i in range(len(arguments)))
        plain = (
            structure == (tuple, ((tuple, leaves), (dict, ())))
            and len(set(map(id, arguments))) == len(arguments)
            and not any(t.requires_grad for t in arguments)
            and not any(self.aliases)
        )
        self.kinds = [(t.shape, t.dtype) for t in arguments] if plain else None
        self.recording = current.recording
        self.meant = self.names.values()
        self.snapshot = Snapshot([*(thing for thing, _ in self.observed), *self.state, *self.meant, *self.objects])

    def recognize(self, positional: Sequence[Any]) -> list[Tensor] | None:
        """Return the arguments as Tensors if this trace surely holds for them; of the other calls, `fits` decides.

        It takes a few microseconds, by comparing what is there with what was there, object by object.
        """
        kinds = self.kinds
        if kinds is None or len(kinds) != len(positional) or current.recording is not self.recording:
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
        plain = all(g is None or g.value is None for _, _, g in self.gradients_left) and not self.gradients_read
        return plain and all(place is None for place, _ in self.written) and getattr(self.program, "can_scan", False)

    def start(self, stacked: Sequence[Array], steps: int, before: Sequence[Any]) -> Any:
        """Return a scan of the graph, ready to be run; Tensors hold from now on what it changes in place."""
        arrays = [np.ascontiguousarray(array, dtype) for array, dtype in zip(stacked, self.dtypes, strict=True)]
        arrays += [t._array() for t in self.state]
        scan = self.program.start(arrays, steps, range(len(stacked)), before)  # type: ignore[attr-defined]
        for (_, tensor), place in zip(self.written, self.graph.updates.values(), strict=True):
            tensor.payload = scan.held[place]
        return scan

    def end(self, scan: Any) -> Any:
        """Return the results of a scan, and leave gradients as its steps do."""
        for place, tensor, gradient in self.gradients_left:
            if place is None:
                tensor.waiting_gradient = gradient
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
        for place, tensor in self.gradients_read:
            gradient = (tensor if place is None else arguments[place]).waiting_gradient
            if gradient is not None and gradient.value is not None:
                arrays.append(gradient.value.payload)
        return arrays

    def __call__(self, arguments: Sequence[Tensor]) -> Any:
        """Run the graph: read the state, write it back, return the results."""
        if not self.written:
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
        for place, tensor in self.written:
            (tensor if place is None else arguments[place]).payload = next(outputs)
        for place, tensor, gradient in self.gradients_left:
            if gradient is not None:
                value = None if gradient.value is None else _result(next(outputs), False)
                gradient = Gradient(value, gradient.used)
            (tensor if place is None else arguments[place]).waiting_gradient = gradient


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


class Compiled:
    """A function that is traced once for each signature; made by `ns.compile`."""

    def __init__(self, function: Callable[..., Any], engine: str, keep_gradients: bool) -> None:
        if not callable(function):
            raise OptionError(f"ns.compile needs a function, got {type(function).__name__}")
        functools.update_wrapper(self, function, updated=())
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.function = self.told_by = function  # whose names decide whether a trace still holds
        self.engine = engine
        self.keep_gradients = keep_gradients
        self.traces: dict[Any, list[Traced]] = {}
        self.latest: Traced | None = None
        self.observers: weakref.WeakKeyDictionary[Any, Compiled] = weakref.WeakKeyDictionary()  # by who looks on

    def __repr__(self) -> str:
        traces = sum(map(len, self.traces.values()))
        return f"<compiled {self.__name__} on the {self.engine} engine, traced {counted(traces, 'time')}>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Work as a method too: `self` becomes the first argument."""
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *positional: Any, **keywords: Any) -> Any:
        """Run the graph for these arguments, traced now if it is not there."""
        if isinstance(current.engine, Trace):
            return self.function(*positional, **keywords)  # one graph holds both
        if current.watch is not None:
            return current.watch.call(self, positional, keywords)
        latest = self.latest  # which another thread may replace meanwhile
        if latest is not None and not keywords:
            recognized = latest.recognize(positional)
            if recognized is not None:
                return latest(recognized)
        structure, arguments = _flat(positional, keywords)
        self.latest = traced = self._find(structure, arguments)
        result = traced(arguments)
        traced.remember(structure, arguments)
        return result

    def scan(self, *stacked: Any, steps: int | None = None) -> Any:
        """Call the function once for each step, and return its results, stacked along a new first axis.

        Step i gets `x[i]` for each argument x, a Tensor or array whose first axis has the steps; without arguments,
        `steps` says how often. On the native engine the steps run without Python between them, as long as the function
        changes its state in place and has machine code throughout; else, and on other engines, one by one.

        >>> import nissl as ns
        >>> total = ns.nn.Buffer([0.0])
        >>> @ns.compile
        ... def add(x):
        ...     total.assign(total + x)
        ...     return total.sum()
        >>> add.scan(ns.tensor([1.0, 2.0, 3.0]))
        tensor([1., 3., 6.])
        """
        if isinstance(current.engine, Trace):
            raise TracingError(
                f"{self.__name__}.scan was called inside a compiled function, whose trace would hold one scan of many "
                "steps; call the function itself in a loop there, or scan the outer function"
            )
        arrays = [x._array() if isinstance(x, Tensor) else np.asarray(x) for x in stacked]
        lengths = {len(array) if array.ndim else -1 for array in arrays} | ({steps} if steps is not None else set())
        if len(lengths) != 1 or min(lengths) < 1:
            raise OptionError(
                f"scan needs arguments with a first axis of steps, all of one length of 1 or more, or steps=; got "
                f"shapes {[array.shape for array in arrays]} and steps={steps}"
            )
        (count,) = lengths
        if current.watch is not None:
            return current.watch.scan(self, arrays, count)
        traced = self.trace_to_scan(arrays)
        if traced is not None:
            (result,), (taken,) = scan_in_turn([traced], np.zeros(count, np.int64), arrays)
            if taken < count:
                raise out_of_range()
            return result
        return joined([self(*(Tensor(array[i]) for array in arrays)) for i in range(count)])

    def trace_to_scan(self, arrays: Sequence[Array]) -> Traced | None:
        """Return the trace by which steps on the rows of arrays run without Python between them, if they can."""
        latest, first = self.latest, [Tensor(array[0]) for array in arrays]
        if latest is None or latest.recognize(first) is None:
            structure, arguments = _flat(first, {})
            self.latest = latest = self._find(structure, arguments)
            latest.remember(structure, arguments)
        return latest if latest.can_scan else None

    def trace_for(self, positional: Sequence[Any], keywords: Mapping[str, Any]) -> Traced | None:
        """Return the trace that holds for these arguments, or None if there is none yet."""
        structure, arguments = _flat(positional, keywords)
        candidates = self.traces.get(_signature(structure, arguments), [])
        return next((candidate for candidate in candidates if candidate.fits(arguments)), None)

    def _find(self, structure: Any, arguments: list[Tensor]) -> Traced:
        signature = _signature(structure, arguments)
        candidates = self.traces.setdefault(signature, [])
        if len(self.traces) > SIGNATURES_KEPT:
            self.traces.pop(next(iter(self.traces)))
        for candidate in candidates:
            if candidate.fits(arguments):
                return candidate
        changes = candidates[-1].changes() if candidates else ["shapes, dtypes or values of arguments"]
        candidates.append(Traced(self, structure, arguments))
        del candidates[:-TRACES_KEPT]
        traced = sum(map(len, self.traces.values()))
        if traced == RETRACES_BEFORE_WARNING + 1:
            warnings.warn(
                f"{self.__name__} was traced {traced} times, each of which takes time; what changed last: "
                f"{', '.join(changes) or 'which gradients wait'}",
                stacklevel=3,
            )
        return candidates[-1]

    @property
    def graph(self) -> Graph:
        """The graph of the latest call."""
        if self.latest is None:
            raise OptionError(f"{self.__name__} has no graph yet: it is traced when it is first called")
        return self.latest.graph

    def explain(self) -> str:
        """Return what the latest call ran, in order.

        On the native engine these are kernels, with their equations, shapes, operations and bytes; on the numpy engine,
        each equation is one NumPy call.
        """
        graph = self.graph
        assert self.latest is not None
        if hasattr(self.latest.program, "explain"):
            return str(self.latest.program.explain())
        labels = label_symbols(graph)
        rows = [
            (describe_call(e, labels), describe(e.outputs[0]), e.source.rpartition("/")[2]) for e in graph.equations
        ]
        width = max((len(call) for call, _, _ in rows), default=0)
        lines = [f"{i:4} {call:{width}}  {kind:24} {source}" for i, (call, kind, source) in enumerate(rows)]
        return "\n".join([f"{self.__name__} on the {self.engine} engine: {len(rows)} equations", *lines])

    def profile(self, *positional: Any, **keywords: Any) -> str:
        """Return how long each kernel takes for these arguments, with its rates and its share of this machine's peak.

        The kernels run several times, on copies: no state changes. Only the native engine has kernels to time.
        """
        structure, arguments = _flat(positional, keywords)
        self.latest = traced = self._find(structure, arguments)
        if not hasattr(traced.program, "profile"):
            raise OptionError(
                f"{self.__name__} runs on NumPy, which has no kernels to profile; compile with engine='native'"
            )
        return str(traced.program.profile(traced.arrays_for(arguments)))


def _flat(positional: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[Any, list[Tensor]]:
    """Return how the arguments of a call are built, and the Tensors and numbers in them."""
    arguments: list[Tensor] = []
    structure = flatten((tuple(positional), dict(keywords)), arguments)
    return structure, [_without_history(argument) for argument in arguments]


def _signature(structure: Any, arguments: Sequence[Tensor]) -> Any:
    """Return what a trace is made for: how the arguments are built, their kinds, and which are the same."""
    order = {id(argument): i for i, argument in reversed(list(enumerate(arguments)))}
    kinds = tuple((t.shape, t.dtype, t.requires_grad, t.weak, order[id(t)]) for t in arguments)
    return structure, kinds, current.recording


def _without_history(argument: Tensor) -> Tensor:
    """Return an argument as a leaf: no gradient flows out of a compiled function."""
    if argument.op is None:
        return as_tensor(argument)
    return wrap(argument.payload)


__all__ = ["Compiled", "compile"]
