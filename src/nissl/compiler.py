"""`ns.compile`: trace a function once for each signature, then run its graph on an engine.

What a signature is: the shapes and dtypes of the arguments, which of them are the same Tensor, the values of arguments
that are no numbers, and everything that steered the trace from outside: the settings of modules and optimizers that it
met, and which objects the function's names stand for. If any of these has changed, the function is traced again.

What is frozen: Python numbers and arrays that the function closes over, and all in objects of your own that a Module
has. Pass them as arguments, put them into Tensors that the function reads, or make them attributes of a Module.
"""

from __future__ import annotations

import functools
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from nissl.engines.base import current
from nissl.errors import OptionError, TracingError, unknown_name
from nissl.graph.graph import Graph, describe_call, label_symbols
from nissl.graph.names import Wrapping
from nissl.graph.pytree import flatten, joined
from nissl.graph.trace import Trace
from nissl.habits import explained
from nissl.shapes import describe
from nissl.tensor import Tensor, as_tensor, wrap
from nissl.text import counted
from nissl.traced import ENGINES, Traced, out_of_range, scan_in_turn

Array = npt.NDArray[Any]

RETRACES_BEFORE_WARNING = 8
# How many signatures, and traces of each, are kept; beyond that, the oldest are let go.
SIGNATURES_KEPT, TRACES_KEPT = 64, 16
# How many of those used last are recognized without looking for them: a whole and a short batch, in training or not.
RECENT = 4


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


class Compiled(Wrapping):
    """A function that is traced once for each signature; made by `ns.compile`."""

    def __init__(self, function: Callable[..., Any], engine: str, keep_gradients: bool) -> None:
        if not callable(function):
            raise OptionError(f"ns.compile needs a function, got {type(function).__name__}")
        functools.update_wrapper(self, function, updated=())
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.function = self.told_by = function
        self.engine = engine
        self.keep_gradients = keep_gradients
        self.traces: dict[Any, list[Traced]] = {}
        self.recent: tuple[Traced, ...] = ()  # the latest first; threads replace it
        self.observers: weakref.WeakKeyDictionary[Any, Compiled] = weakref.WeakKeyDictionary()  # by who looks on

    def __repr__(self) -> str:
        traces = sum(map(len, self.traces.values()))
        return f"<compiled {self.__name__} on the {self.engine} engine, traced {counted(traces, 'time')}>"

    @property
    def latest(self) -> Traced | None:
        """The trace used last."""
        return next(iter(self.recent), None)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Work as a method too: `self` becomes the first argument."""
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *positional: Any, **keywords: Any) -> Any:
        """Run the graph for these arguments, traced now if it is not there."""
        if isinstance(current.engine, Trace):
            return self.function(*positional, **keywords)  # one graph holds both
        if current.watch is not None:
            return current.watch.call(self, positional, keywords)
        if not keywords:
            recent = self.recent
            for traced in recent:
                recognized = traced.recognize(positional)
                if recognized is not None:
                    if traced is not recent[0]:
                        self._use(traced)
                    return traced(recognized)
        structure, arguments = _flat(positional, keywords)
        traced = self._find(structure, arguments)
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
        first = [Tensor(array[0]) for array in arrays]
        traced = self._recognizing(first)
        if traced is None:
            structure, arguments = _flat(first, {})
            traced = self._find(structure, arguments)
            traced.remember(structure, arguments)
        else:
            self._use(traced)
        return traced if traced.can_scan else None

    def trace_for(self, positional: Sequence[Any], keywords: Mapping[str, Any]) -> Traced | None:
        """Return the trace that holds for these arguments, or None if there is none yet."""
        traced = None if keywords else self._recognizing(positional)
        if traced is not None:
            return traced
        structure, arguments = _flat(positional, keywords)
        candidates = self.traces.get(_signature(structure, arguments), [])
        return next((candidate for candidate in candidates if candidate.fits(arguments)), None)

    def _recognizing(self, positional: Sequence[Any]) -> Traced | None:
        """Return one of the recent traces that surely holds for these arguments, if there is one."""
        return next((traced for traced in self.recent if traced.recognize(positional) is not None), None)

    def _use(self, traced: Traced) -> None:
        """Make a trace the latest."""
        self.recent = (traced, *(other for other in self.recent if other is not traced))[:RECENT]

    def _find(self, structure: Any, arguments: list[Tensor]) -> Traced:
        """Return the trace that holds for these arguments, made now if there is none, as the latest."""
        candidates = self.traces.setdefault(_signature(structure, arguments), [])
        if len(self.traces) > SIGNATURES_KEPT:
            oldest, *_ = self.traces  # at once, as another thread may add one, or let go of this one too
            self.traces.pop(oldest, None)
        traced = next((candidate for candidate in candidates if candidate.fits(arguments)), None)
        if traced is None:
            changes = candidates[-1].changes() if candidates else ["shapes, dtypes or values of arguments"]
            traced = Traced(self, structure, arguments)
            candidates.append(traced)
            del candidates[:-TRACES_KEPT]
            self._warn_of_many(changes)
        self._use(traced)
        return traced

    def _warn_of_many(self, changes: Sequence[str]) -> None:
        """Warn if this trace is one too many; these settings have changed since the one before."""
        traces = sum(map(len, self.traces.values()))
        if traces == RETRACES_BEFORE_WARNING + 1:
            warnings.warn(
                f"{self.__name__} was traced {traces} times, each of which takes time; what changed last: "
                f"{', '.join(changes) or 'which gradients wait'}",
                stacklevel=4,
            )

    @property
    def graph(self) -> Graph:
        """The graph of the latest call."""
        latest = self.latest
        if latest is None:
            raise OptionError(
                f"{self.__name__} has no graph yet: it is traced when it is first called; a call that "
                "ns.inspect.watch records has a graph of its own"
            )
        return latest.graph

    def explain(self) -> str:
        """Return what the latest call ran, in order.

        On the native engine these are kernels, with their equations, shapes, operations and bytes; on the numpy engine,
        each equation is one NumPy call.
        """
        graph, latest = self.graph, self.latest
        assert latest is not None
        if hasattr(latest.program, "explain"):
            return str(latest.program.explain())
        labels = label_symbols(graph)
        rows = [
            (describe_call(e, labels), describe(e.outputs[0]), e.source.rpartition("/")[2]) for e in graph.equations
        ]
        width = max((len(call) for call, _, _ in rows), default=0)
        lines = [f"{i:4} {call:{width}}  {kind:24} {source}" for i, (call, kind, source) in enumerate(rows)]
        return "\n".join([f"{self.__name__} on the {self.engine} engine: {counted(len(rows), 'equation')}", *lines])

    def profile(self, *positional: Any, **keywords: Any) -> str:
        """Return how long each kernel takes for these arguments, with its rates and its share of this machine's peak.

        The kernels run several times, on copies: no state changes. Only the native engine has kernels to time.
        """
        structure, arguments = _flat(positional, keywords)
        traced = self._find(structure, arguments)
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
    return structure, kinds, current.recording, current.evaluating


def _without_history(argument: Tensor) -> Tensor:
    """Return an argument as a leaf: no gradient flows out of a compiled function."""
    if argument.op is None:
        return as_tensor(argument)
    return wrap(argument.payload)


__all__ = ["Compiled", "compile"]
