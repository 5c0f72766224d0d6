"""Tracing: run a function once on Symbols, and record what it does as a Graph.

The trace is an engine: ops call it as they call NumPy, and it appends an equation instead of computing. Tensors that
the function reads but did not create (parameters, moments, a learning rate) become inputs; what it assigns to them, and
the gradients that it stores at them, become outputs. The Tensors themselves do not change: during tracing, only the
trace knows what they hold, so that an exception in the middle leaves nothing behind.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from nissl.engines.base import Gradient
from nissl.errors import TracingError
from nissl.graph.graph import Equation, Operand, Symbol, result_type
from nissl.tensor import Op, Tensor, wrap

PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def user_line() -> str:
    """Return file and line of the innermost frame outside nissl, or "" if there is none."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE_FOLDER):
        frame = frame.f_back  # type: ignore[assignment]
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Trace:
    """The engine that records equations."""

    def __init__(self) -> None:
        self.equations: list[Equation] = []
        self.constants: dict[Symbol, npt.NDArray[Any]] = {}
        self.inputs: dict[Tensor, Symbol] = {}  # what each Tensor from outside held at the start
        self.values: dict[Tensor, Symbol] = {}  # and what it holds now
        self.gradient_inputs: dict[Tensor, Symbol] = {}
        self.waiting: dict[Tensor, bool] = {}  # whether each had an unused gradient at the start
        self.gradients: dict[Tensor, Gradient | None] = {}
        self.observed: dict[int, tuple[Any, Any]] = {}
        self.modules: list[Any] = []

    def forget(self) -> None:
        """Drop the Symbols' references to this trace, and so to its Tensors, now that it is over."""
        for symbol in {*self.values.values(), *self.inputs.values()}:
            symbol.trace = None
        for equation in self.equations:
            for symbol in equation.outputs:
                symbol.trace = None

    def symbol(self, shape: tuple[int, ...], dtype: Any, name: str = "") -> Symbol:
        """Return a new Symbol of this trace."""
        return Symbol(shape, dtype, self, name)

    def read(self, tensor: Tensor) -> Symbol:
        """Return what `tensor` holds now; one from outside becomes an input."""
        held = self.values.get(tensor)
        if held is not None:
            return held
        payload = tensor.payload
        if isinstance(payload, Symbol):
            if payload.trace is not self:
                payload.fail("the values")
            return payload
        if tensor.op is not None:
            raise TracingError(
                f"a compiled function uses a Tensor of shape {tensor.shape} that was computed outside of it and "
                f"through which gradients flow; pass it as an argument or use its .detach() ({user_line()})"
            )
        return self.lift(tensor, getattr(tensor, "path", ""))

    def lift(self, tensor: Tensor, name: str) -> Symbol:
        """Make a Tensor from outside an input."""
        if tensor not in self.inputs:
            self.inputs[tensor] = self.values[tensor] = self.symbol(tensor.shape, tensor.dtype, name)
        return self.values[tensor]

    def run(self, op: Op, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        """Append an equation and return the Symbol that it defines, or a tuple of them."""
        operands: tuple[Operand, ...] = tuple(self.read(x) if isinstance(x, Tensor) else x for x in inputs)
        kind = result_type(op, operands, attributes)
        outputs = tuple(self.symbol(*kind) for _ in range(op.outputs))
        self.equations.append(Equation(op, operands, attributes, outputs, self.scope(), user_line()))
        return outputs if op.outputs > 1 else outputs[0]

    def constant(self, array: npt.NDArray[Any]) -> Symbol:
        """Keep the array in the graph as it is now."""
        symbol = self.symbol(array.shape, array.dtype)
        self.constants[symbol] = array
        return symbol

    def write(self, tensor: Tensor, new: Tensor) -> None:
        """Let `tensor` hold `new` from here on; a Tensor from outside gets it at the end of each call."""
        value = self.read(new)
        if isinstance(tensor.payload, Symbol):
            self.read(tensor)  # fails for a Tensor of another trace
            tensor.payload = value
        else:
            self.read(tensor)
            self.values[tensor] = value

    def update(self, op: Op, targets: Sequence[Tensor], inputs: Sequence[Any], attributes: Mapping[str, Any]) -> None:
        """Append an equation, and let the targets hold what it defines."""
        for target, result in zip(targets, self.run(op, inputs, attributes), strict=True):
            self.write(target, wrap(result))

    def gradient(self, tensor: Tensor) -> Gradient | None:
        """Return the gradient stored at `tensor`; an unused one from outside becomes an input."""
        if tensor in self.gradients or isinstance(tensor.payload, Symbol):
            return self.gradients.get(tensor)
        before = tensor.waiting_gradient
        self.waiting[tensor] = before is not None and not before.used
        if before is not None and not before.used:
            symbol = self.symbol(tensor.shape, tensor.dtype, f"{getattr(tensor, 'path', '')}.grad")
            self.gradient_inputs[tensor] = symbol
            before = Gradient(wrap(symbol))
        elif before is not None:
            before = Gradient(None, used=True)
        self.gradients[tensor] = before
        return before

    def set_gradient(self, tensor: Tensor, gradient: Gradient | None) -> None:
        """Store a gradient at `tensor`."""
        self.gradient(tensor)
        self.gradients[tensor] = gradient

    def require_values(self, what: str, instead: str = "") -> None:
        """Raise TracingError: a trace has no values."""
        raise TracingError(
            f"{what} needs the numbers of a Tensor; while a compiled function is traced there are none yet, at "
            f"{user_line()}. {f'{instead}, return' if instead else 'Return'} the Tensor and do this outside, "
            "or run it eagerly: remove ns.compile, or write the loop of ns.fit yourself"
        )

    def observe(self, configuration: Any) -> None:
        """Record the fingerprint of `configuration`; a change of it will trigger a new trace."""
        if id(configuration) not in self.observed:
            self.observed[id(configuration)] = (configuration, configuration.fingerprint())

    def enter(self, module: Any) -> None:
        """Record that the following equations belong to `module` and depend on its settings."""
        if not self.modules:
            self.observe(module)  # the settings of the modules inside are part of its own
        self.modules.append(module)

    def leave(self, module: Any) -> None:
        """Record the end of `module`'s equations."""
        self.modules.pop()

    def scope(self) -> str:
        """Return the current path in the tree of modules, as class names."""
        return "/".join(type(module).__name__ for module in self.modules)
