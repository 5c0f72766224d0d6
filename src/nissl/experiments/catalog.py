"""The catalog: which experiments there are, in their order, and how one is run.

An experiment is found by its file; nothing else has to know of it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import pkgutil
import signal
import threading
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from nissl import experiments, random
from nissl.errors import OptionError, unknown_name
from nissl.experiments.report import Option, Report


@dataclass(frozen=True)
class Argument:
    """An option of an experiment, as its `run` declares it."""

    name: str
    kind: type  # int or float
    default: Any
    option: Option


@dataclass(frozen=True)
class Experiment:
    """A module of the curriculum."""

    name: str
    module: types.ModuleType

    @property
    def text(self) -> str:
        """The docstring: title, idea, what to see, what to try."""
        return inspect.getdoc(self.module) or ""

    @property
    def title(self) -> str:
        """The first line."""
        return self.text.partition("\n")[0].rstrip(".")

    @property
    def idea(self) -> str:
        """What lies between the title and what to see."""
        return self.text.partition("\n")[2].partition("\nSee: ")[0].strip()

    @property
    def see(self) -> str:
        """What to see in the picture."""
        return self.text.partition("\nSee: ")[2].partition("\nTry: ")[0].strip()

    @property
    def suggestion(self) -> str:
        """What to try."""
        return self.text.partition("\nTry: ")[2].strip()

    @property
    def source(self) -> str:
        """The code below the docstring."""
        return inspect.getsource(self.module).split('"""', 2)[2].strip() + "\n"

    @property
    def arguments(self) -> dict[str, Argument]:
        """The options, by name."""
        hints = typing.get_type_hints(self.module.run, include_extras=True)
        found = {}
        for name, parameter in list(inspect.signature(self.module.run).parameters.items())[1:]:
            kind, option = typing.get_args(hints[name])
            found[name] = Argument(name, kind, parameter.default, option)
        return found

    def run(self, options: Mapping[str, float] | None = None) -> Report:
        """Run the experiment and return what came out: for the same options the same, but for times.

        For that, nissl's random numbers begin anew.
        """
        options = options or {}
        for name, value in options.items():
            if name not in self.arguments:
                raise OptionError(f"{self.name}: {unknown_name('option', name, self.arguments)}")
            argument = self.arguments[name]
            if argument.kind is int and value % 1 != 0:
                raise OptionError(f"{name} must be a whole number, got {value}")
            argument.option.check(name, value)
        report = Report()
        random.manual_seed(0)
        with _ended_by_interrupts():
            self.module.run(report, **options)
        return report


@contextlib.contextmanager
def _ended_by_interrupts() -> Iterator[None]:
    """Let Ctrl-C end what runs inside, of which `ns.fit` would take it to end one training only."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@functools.cache
def catalog() -> dict[str, Experiment]:
    """Return all experiments by name, in the order of their chapters."""
    names = [f"{experiments.__name__}.{module.name}" for module in pkgutil.iter_modules(experiments.__path__)]
    modules = [importlib.import_module(name) for name in names]
    lessons = sorted((module for module in modules if hasattr(module, "CHAPTER")), key=lambda module: module.CHAPTER)
    found = [Experiment(module.__name__.rpartition(".")[2], module) for module in lessons]
    return {experiment.name: experiment for experiment in found}


def find(name: str) -> Experiment:
    """Return an experiment; raise OptionError with the nearest name if there is none of that name."""
    if name not in catalog():
        raise unknown_name("experiment", name, catalog())
    return catalog()[name]
