"""The gate between ops and engines: which engine is current, and what an engine must be able to do.

Everything above this line (ops, gradients, layers, optimizers) speaks of Tensors; everything below turns "this op, on
these inputs, with these attributes" into a payload: an array now, or a Symbol in a graph. An engine knows nothing of
gradients.

`current` is one of the two pieces of module-level mutable state in nissl (the other is the table of ops). It is local
to a thread, so that one thread can trace while another computes.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nissl.tensor import Op, Tensor


class Engine(Protocol):
    """What an engine answers."""

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
        """Let the targets hold the results of an elementwise op; memory that no one else has may be written to."""

    def gradient(self, tensor: "Tensor") -> "Gradient | None":
        """Return the gradient that waits at a leaf."""

    def set_gradient(self, tensor: "Tensor", gradient: "Gradient | None") -> None:
        """Leave a gradient at a leaf."""

    def require_values(self, question: str) -> None:
        """Return if values can be asked for now, else raise TracingError; `question` is what was asked."""

    def observe(self, configuration: Any) -> None:
        """Note that what happens next depends on `configuration.fingerprint()`."""

    def enter(self, module: Any) -> None:
        """Note that the ops from here on belong to `module`."""

    def leave(self, module: Any) -> None:
        """Note that `module` is done."""


class Gradient:
    """The gradient at a leaf, and whether an optimizer has used it: if so, the next backward replaces it.

    `value` is None if a compiled step used the gradient and did not keep it.
    """

    __slots__ = ("used", "value")

    def __init__(self, value: "Tensor | None", used: bool = False) -> None:
        self.value = value
        self.used = used


class Same:
    """Wraps an object so that it equals itself alone, and stays alive."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __repr__(self) -> str:
        return f"this {type(self.thing).__name__}"


class Watch(Protocol):
    """What is told of the outputs of modules, and takes the calls of compiled functions in hand."""

    def saw(self, module: Any, output: Any) -> None:
        """Look at what a module returned."""

    def stepped(self, gradients: "Mapping[Tensor, Tensor]") -> None:
        """Look at what an optimizer's step has used and left."""

    def call(self, compiled: Any, positional: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Return what a compiled function returns."""

    def scan(self, compiled: Any, arrays: Sequence[Any], steps: int) -> Any:
        """Return what `compiled.scan` returns."""


class Current(threading.local):
    """The engine of this thread, whether ops remember their inputs for a backward walk, and what looks on."""

    engine: Engine  # the reference engine, until another is entered; set where it is defined, in engines/eager.py
    recording: bool = True
    watch: "Watch | None" = None  # what looks on while a model trains


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
    """Switch on or off, inside a `with` block, that ops remember their inputs."""
    before = current.recording
    current.recording = enabled
    try:
        yield
    finally:
        current.recording = before


@contextmanager
def watching(watch: Any) -> Iterator[None]:
    """Let something else look on inside a `with` block, or nothing."""
    before, current.watch = current.watch, watch
    try:
        yield
    finally:
        current.watch = before
