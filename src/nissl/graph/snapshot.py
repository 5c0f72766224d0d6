"""Snapshots: a check, in a few microseconds, of whether anything that a trace depends on has been replaced since."""

from __future__ import annotations

import math
import types
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from nissl.engines.base import Configured, counts_changes
from nissl.tensor import Tensor

# Limits of the search through the objects that a function or a Module refers to. The attributes of Modules and
# optimizers, and the lists, tuples and dicts in them, are searched completely.
DEPTH, BREADTH = 3, 100
REQUIRES_GRAD = attrgetter("requires_grad")
ENDS = (Tensor, types.FunctionType, types.MethodType, types.ModuleType, type)


def has_settings(thing: Any) -> bool:
    """Whether a thing has a fingerprint of the settings that a trace depends on: a Module or an optimizer."""
    return hasattr(type(thing), "fingerprint")


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
        self.changes = Configured.changes.value
        attributes: list[Any] = []  # of things that count their changes
        others: list[Any] = []
        self.tensors: list[Tensor] = []
        self.configured: list[Configured] = []
        searched: dict[int, float] = {}  # how deep, by the id of a thing
        waiting: list[tuple[Any, float]] = [(thing, DEPTH) for thing in things]
        while waiting:
            thing, depth = waiting.pop()
            container = container_in(thing)
            if has_settings(thing):
                depth = math.inf
            elif container is not thing:  # nothing more to search, or an object, which a Module may have
                depth = 0 if container is None else min(depth, DEPTH)
            if searched.get(id(thing), -1) >= depth:
                continue
            searched[id(thing)] = depth
            if isinstance(thing, Tensor):
                self.tensors.append(thing)
            if isinstance(thing, Configured):
                self.configured.append(thing)
            if container is not None and depth and (len(container) <= BREADTH or depth == math.inf):
                (attributes if counts_changes(type(thing)) else others).append(container)
                waiting.extend((part, depth - 1) for part in list(parts_of(container)))  # as threads may change it
        self.attributes, self.others = Contents(attributes), Contents(others)
        self.required = list(map(REQUIRES_GRAD, self.tensors))
        self.types = list(map(type, self.configured))

    def holds(self) -> bool:
        """Whether nothing has changed since."""
        changes = Configured.changes.value
        if changes != self.changes:
            if not self.attributes.are_as_before() or list(map(type, self.configured)) != self.types:
                return False
            self.changes = changes
        return self.others.are_as_before() and list(map(REQUIRES_GRAD, self.tensors)) == self.required
