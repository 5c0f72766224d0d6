"""Names: what the names in a function stand for, which a trace of the function depends on."""

from __future__ import annotations

import dis
import functools
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any


class Wrapping:
    """What calls a function: the names of `told_by` are the ones that count."""

    told_by: Callable[..., Any]


class Names:
    """The names in a function that come from outside of it, and in the functions beside it that it calls.

    What methods and partials are bound to counts as named, too.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.bound: list[Any] = []
        self.cells: list[types.CellType] = []
        self.globals: list[tuple[dict[str, Any], str]] = []
        waiting: list[Any] = [function]
        seen: list[types.FunctionType] = []
        while waiting:
            given = waiting.pop()
            f = _plain(given)
            if f is not None:
                self.bound += [thing for thing in _bound_to(given) if not any(thing is other for other in self.bound)]
            if f is None or f in seen:
                continue
            seen.append(f)
            self.cells.extend(f.__closure__ or ())
            self.globals.extend((f.__globals__, name) for name in sorted(_global_names(f.__code__)))
            beside = [value for value in self.values() if getattr(_plain(value), "__globals__", None) is f.__globals__]
            waiting.extend(beside)

    def values(self) -> list[Any]:
        """Return all that the names stand for now."""
        found = self.bound + [cell.cell_contents for cell in self.cells if cell != _EMPTY]
        return found + [namespace[name] for namespace, name in self.globals if name in namespace]

    def mean(self, before: Sequence[Any]) -> bool:
        """Whether the names stand for the same things as before; what is bound always does."""
        if not self.cells and not self.globals:
            return True
        values = self.values()
        return len(values) == len(before) and all(map(operator.is_, values, before))


_EMPTY = types.CellType()


def _plain(f: Any) -> types.FunctionType | None:
    """Return the function that is called in the end, if it is written in Python: a Module tells of itself."""
    while isinstance(f, functools.partial | Wrapping):
        f = f.told_by if isinstance(f, Wrapping) else f.func
    f = getattr(f, "__func__", f)
    return f if isinstance(f, types.FunctionType) else None


def _bound_to(f: Any) -> list[Any]:
    """Return the object of a method, and the arguments that partials hold."""
    if isinstance(f, Wrapping):
        return _bound_to(f.told_by)
    if isinstance(f, functools.partial):
        return [*f.args, *f.keywords.values(), *_bound_to(f.func)]
    return [f.__self__] if isinstance(f, types.MethodType) else []


@functools.lru_cache(maxsize=1 << 10)  # it takes as long as tracing a layer
def _global_names(code: types.CodeType) -> frozenset[str]:
    """Return the global names that a piece of code reads, which are not all of its `co_names`: attributes are, too."""
    inner = [_global_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    read = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return frozenset(read.union(*inner))
