"""What the rule of an elementwise op does for one element: how many operations it takes, and which functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nissl.graph.graph import Equation

# Functions of the maths namespace that take many instructions.
COSTLY = {"exp", "log", "log1p", "expm1", "tanh", "sigmoid", "erf", "pow", "sin", "cos"}


class Tally:
    """A maths namespace in which every function is one operation, and nothing is computed."""

    def __init__(self) -> None:
        self.operations = 0
        self.functions: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., Operand]:
        self.functions.add(name)
        return lambda *operands: Operand(self)


class Operand:
    """Stands for any element, and counts the operations on it as they give new ones."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        tally.operations += 1

    def operator(self, *others: Any) -> Operand:
        """Return the result of an operator."""
        return Operand(self.tally)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = operator
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = operator  # type: ignore[assignment]
    __hash__ = object.__hash__


def tally(equation: Equation) -> Tally:
    """Return what the rule of an elementwise equation does."""
    found = Tally()
    operands = [Operand(found) for _ in equation.inputs]
    found.operations = 0
    equation.op.value(found, *operands, **equation.attributes)
    return found


def is_costly(equation: Equation) -> bool:
    """Whether an element is too expensive to be computed twice."""
    if equation.op.kind == "elementwise":
        return not COSTLY.isdisjoint(tally(equation).functions)
    return equation.op.name == "random_uniform"
