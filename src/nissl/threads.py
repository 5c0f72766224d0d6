"""Threads that run one program together.

The members of a team wait, each for its own semaphore, and enter the same machine code when they are called; ctypes
lets go of Python's lock meanwhile. There is one team for the process, made when it is first needed, and made anew in a
child process, which inherits no threads. A team that is busy is not waited for: the caller works alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from nissl.errors import OptionError

Work = Callable[[int], None]


def available_cores() -> int:
    """Return how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _allotted()))


def _allotted() -> int:
    """Return how many cores' worth of time the control group of this process has."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return 1 << 30 if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return 1 << 30


class Team:
    """The threads of a process that run programs together."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.busy = threading.Lock()
        self.starts: list[threading.Semaphore] = []
        self.done = threading.Semaphore(0)
        self.work: Work = _idle

    def run(self, work: Work, threads: int) -> None:
        """Call `work(0)` here and `work(1)`, ... on other threads, at the same time."""
        while len(self.starts) < threads - 1:
            self.starts.append(threading.Semaphore(0))
            number = len(self.starts)
            threading.Thread(target=self._wait, args=(number, self.starts[-1]), daemon=True, name="nissl").start()
        self.work = work
        for start in self.starts[: threads - 1]:
            start.release()
        try:
            work(0)
        finally:
            for _ in range(threads - 1):
                self.done.acquire()
            self.work = _idle

    def _wait(self, number: int, start: threading.Semaphore) -> None:
        while True:
            start.acquire()
            try:
                self.work(number)
            finally:
                self.done.release()


def _idle(number: int) -> None:
    """Do nothing."""


class _Threads:
    """How many threads there are to be, and the team."""

    chosen: int | None = None
    team: Team | None = None


_state = _Threads()
_making = threading.Lock()


def number_of_threads() -> int:
    """Return how many threads large programs use: what was set, or NISSL_NUM_THREADS, or the number of cores."""
    if _state.chosen is None:
        text = os.environ.get("NISSL_NUM_THREADS", "")
        if text and not (text.isdecimal() and int(text) > 0):
            raise OptionError(f"NISSL_NUM_THREADS must be a whole number from 1, got {text!r}")
        _state.chosen = int(text) if text else available_cores()
    return _state.chosen


def set_num_threads(threads: int) -> None:
    """Let large programs use so many threads. Results do not depend on it.

    >>> import nissl as ns
    >>> ns.set_num_threads(1)
    """
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise OptionError(f"the number of threads is a whole number from 1, got {threads!r}")
    _state.chosen = threads


def run_together(work: Work, threads: int) -> bool:
    """Call `work(0)`, `work(1)`, ... at the same time, or return False if the team is busy."""
    with _making:
        if _state.team is None or _state.team.process != os.getpid():
            _state.team = Team()
        team = _state.team
    if not team.busy.acquire(blocking=False):
        return False
    try:
        team.run(work, threads)
    finally:
        team.busy.release()
    return True
