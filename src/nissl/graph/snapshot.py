"""Snapshots: a check, in a few microseconds, of whether anything that a trace depends on has been replaced since."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from nissl.engines.base import Configured
from nissl.tensor import Tensor

# Limits of the search through the objects that a function refers to. Modules and optimizers are searched completely.
DEPTH, BREADTH = 3, 100
REQUIRES_GRAD = attrgetter("requires_grad")
ENDS = (Tensor, types.FunctionType, types.MethodType, types.ModuleType, type)


def has_settings(thing: Any) -> bool:
    """Whether a thing has a fingerprint of the settings that a trace depends on: a Module or an optimizer."""
    return hasattr(thing, "fingerprint") and not isinstance(thing, type)


def container_in(thing: Any) -> Any:
    """Return the list, tuple or dict that holds the parts of a thing, or None if it has no parts."""
    if isinstance(thing, list | tuple | dict):
        return thing
    return None if isinstance(thing, ENDS) else getattr(thing, "__dict__", None)


def parts_of(container: Any) -> Iterable[Any]:
    """Return the parts that a container holds."""
    return container.values() if isinstance(container, dict) else container


def state_in(thing: Any, depth: int = DEPTH) -> Iterator[Any]:
    """Yield the Tensors, the things with settings and the functions in a thing: what a trace may depend on."""
    if isinstance(thing, Tensor | types.FunctionType | types.MethodType) or has_settings(thing):
        yield thing
        return
    container = container_in(thing)
    if depth and container is not None and len(container) <= BREADTH:
        for part in list(parts_of(container)):
            yield from state_in(part, depth - 1)


class Contents:
    """What some containers hold, to be compared by identity with what they hold later."""

    def __init__(self, containers: Iterable[Any]) -> None:
        self.held: list[Collection[Any]] = []  # containers, and live views of the values of dicts
        for container in containers:
            self.held += [container, container.values()] if isinstance(container, dict) else [container]
        self.sizes = list(map(len, self.held))
        self.parts = list(chain.from_iterable(self.held))

    def are_as_before(self) -> bool:
        """Whether all is still the same."""
        return list(map(len, self.held)) == self.sizes and all(map(is_, chain.from_iterable(self.held), self.parts))


class Snapshot:
    """The contents of things, down to Tensors and plain values.

    They are compared by identity, so that one replaced by an equal one counts as changed. A Tensor's values are not
    part of it; whether it requires a gradient is.
    """

    def __init__(self, things: Iterable[Any]) -> None:
        self.changes = Configured.changes
        attributes: list[Any] = []  # of Configured things
        others: list[Any] = []
        self.tensors: list[Tensor] = []
        seen: set[int] = set()
        waiting = [(thing, DEPTH) for thing in things]
        while waiting:
            thing, depth = waiting.pop()
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            if isinstance(thing, Tensor):
                self.tensors.append(thing)
            container = container_in(thing)
            depth = len(seen) + DEPTH if has_settings(thing) else depth
            if container is not None and depth and (len(container) <= BREADTH or depth > DEPTH):
                (attributes if isinstance(thing, Configured) else others).append(container)
                waiting.extend((part, depth - 1) for part in parts_of(container))
        self.attributes, self.others = Contents(attributes), Contents(others)
        self.required = list(map(REQUIRES_GRAD, self.tensors))

    def holds(self) -> bool:
        """Whether nothing has changed since."""
        changes = Configured.changes
        if changes != self.changes:
            if not self.attributes.are_as_before():
                return False
            self.changes = changes
        return self.others.are_as_before() and list(map(REQUIRES_GRAD, self.tensors)) == self.required
