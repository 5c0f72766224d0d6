"""The interface between ops and engines: the Engine protocol, and which engine is current.

Everything above this line (ops, gradients, layers, optimizers) works with Tensors; everything below turns "this op, on
these inputs, with these attributes" into a payload: an array now, or a Symbol in a graph. An engine knows nothing of
differentiation.

`current` is thread-local, so that one thread can trace while another computes.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nissl.tensor import Op, Tensor


class Engine(Protocol):
    """The protocol of an engine."""

    def run(self, op: "Op", inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        """Return the payload of `op` applied to `inputs`: Tensors, and Python numbers that take the others' dtype.

        For an op with several outputs, return a tuple of payloads.
        """

    def read(self, tensor: "Tensor") -> Any:
        """Return the payload that `tensor` holds now."""

    def constant(self, array: Any) -> Any:
        """Return the payload of a Tensor made from a NumPy array."""

    def write(self, tensor: "Tensor", new: "Tensor") -> None:
        """Let `tensor` hold the value of `new` from now on."""

    def update(
        self, op: "Op", targets: "Sequence[Tensor]", inputs: Sequence[Any], attributes: Mapping[str, Any]
    ) -> None:
        """Let the targets hold the results of an elementwise op; memory that nothing else refers to may be reused."""

    def gradient(self, tensor: "Tensor") -> "Gradient | None":
        """Return the gradient stored at a leaf."""

    def set_gradient(self, tensor: "Tensor", gradient: "Gradient | None") -> None:
        """Store a gradient at a leaf."""

    def require_values(self, what: str, instead: str = "") -> None:
        """Return if values are available now, else raise TracingError: `what` needs them, `instead` is what to do."""

    def observe(self, configuration: Any) -> None:
        """Record that what follows depends on `configuration.fingerprint()`."""

    def enter(self, module: Any) -> None:
        """Record that the following ops belong to `module`."""

    def leave(self, module: Any) -> None:
        """Record the end of `module`'s ops."""


class Gradient:
    """The gradient at a leaf, and whether an optimizer has used it: if so, the next backward replaces it.

    `value` is None if a compiled step used the gradient and did not keep it.
    """

    __slots__ = ("used", "value")

    def __init__(self, value: "Tensor | None", used: bool = False) -> None:
        self.value = value
        self.used = used


class Same:
    """Wraps an object to compare it by identity and keep it alive."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __repr__(self) -> str:
        return f"this {type(self.thing).__name__}"


class Count:
    """How often something has happened."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Configured:
    """A Module or an optimizer, on whose attributes it depends which ops run.

    It counts the changes of attributes of all such things, so that as long as there are none, nobody has to look. What
    is written past `__setattr__`, as by `vars(module)[name] = value`, is seen when the next change is counted.
    """

    changes = Count()  # an object of its own, since a class that changes loses what Python has cached of it

    if not TYPE_CHECKING:  # a type checker knows which attributes there are

        def __setattr__(self, name: str, value: Any) -> None:
            try:
                super().__setattr__(name, value)
            finally:  # a setter of the user's, or a signal handler, may raise after the change
                Configured.changes.value += 1

        def __delattr__(self, name: str) -> None:
            try:
                super().__delattr__(name)
            finally:
                Configured.changes.value += 1


def counts_changes(kind: type) -> bool:
    """Whether all changes of attributes of a type's objects are counted.

    They are if it is Configured and no class outside nissl says how attributes are set, as a frozen dataclass does.
    """
    setters = [cls for cls in kind.__mro__ if not {"__setattr__", "__delattr__"}.isdisjoint(vars(cls))]
    return Configured in setters and all(cls is object or cls.__module__.startswith("nissl.") for cls in setters)


class Watch(Protocol):
    """An observer of modules' outputs and optimizers' steps, which also handles the calls of compiled functions."""

    def saw(self, module: Any, output: Any) -> None:
        """Observe what a module returned."""

    def stepped(self, gradients: "Mapping[Tensor, Tensor]") -> None:
        """Observe the gradients that an optimizer's step has used, and the parameters after it."""

    def call(self, compiled: Any, positional: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Return what a compiled function returns."""

    def scan(self, compiled: Any, arrays: Sequence[Any], steps: int) -> Any:
        """Return what `compiled.scan` returns."""


class Current(threading.local):
    """What holds for one thread: its engine, whether ops record their inputs for backpropagation, and so on."""

    engine: Engine  # the eager engine, which engines/eager.py sets, unless another is entered
    recording: bool = True
    evaluating: bool = False  # whether all Modules compute as in evaluation mode, whatever their own mode is
    watch: "Watch | None" = None  # observes a model while it trains


current = Current()


@contextmanager
def using(engine: Engine) -> Iterator[None]:
    """Make `engine` the current one of this thread inside a `with` block."""
    before = current.engine
    current.engine = engine
    try:
        yield
    finally:
        current.engine = before


@contextmanager
def recording(enabled: bool) -> Iterator[None]:
    """Switch recording of ops' inputs on or off inside a `with` block."""
    before = current.recording
    current.recording = enabled
    try:
        yield
    finally:
        current.recording = before


@contextmanager
def evaluation_mode() -> Iterator[None]:
    """Let all Modules compute as in evaluation mode inside a `with` block; other threads see nothing of it."""
    before = current.evaluating
    current.evaluating = True
    try:
        yield
    finally:
        current.evaluating = before


@contextmanager
def watching(watch: Any) -> Iterator[None]:
    """Set the observer inside a `with` block; None means no observer."""
    before, current.watch = current.watch, watch
    try:
        yield
    finally:
        current.watch = before
