"""Threads that run one program together.

The members of a team wait, each for its own lock, and enter the same machine code when they are called; ctypes lets go
of Python's lock meanwhile. There is one team for the process, made when it is first needed, and made anew in a child
process, which inherits no threads. A team that is busy is not waited for: the caller works alone.

Members meet in their machine code, so either all of them enter it or none. Signals, such as Ctrl-C, run Python code
between two instructions of Python; therefore the members are called, and the caller's own part is done, by one call of
a function that is written in C.
"""

from __future__ import annotations

import contextlib
import operator
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from nissl.arguments import whole_number

Work = Callable[[], object]


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


class Member:
    """A thread that does what it is given."""

    def __init__(self) -> None:
        self.work: Work = _nothing
        self.called = threading.Lock()
        self.called.acquire()
        self.finished = threading.Lock()
        self.finished.acquire()
        threading.Thread(target=self._wait, daemon=True, name="nissl").start()

    def _wait(self) -> None:
        while True:
            self.called.acquire()
            try:
                self.work()
            finally:
                self.finished.release()


class Team:
    """The threads of a process that run programs together."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.busy = threading.Lock()
        self.members: list[Member] = []
        self.in_step = True  # whether all members wait to be called

    def grow(self, members: int) -> None:
        """Have so many members at least. Raises RuntimeError if the system gives no more threads."""
        while len(self.members) < members:
            self.members.append(Member())

    def run(self, parts: Sequence[Work]) -> None:
        """Do the first part here and the others on other threads, at the same time."""
        members = self.members[: len(parts) - 1]
        for member, part in zip(members, parts[1:], strict=True):
            member.work = part
        begin = [member.called.release for member in members]
        self.in_step = False
        try:
            deque(map(operator.call, [*begin, parts[0]]), maxlen=0)
        finally:
            self.wait(members)

    def wait(self, members: Sequence[Member]) -> None:
        """Return when all have finished, even if a signal comes meanwhile."""
        signal: BaseException | None = None
        for member in members:
            while True:
                try:
                    member.finished.acquire()
                    break
                except BaseException as error:
                    signal = error
            member.work = _nothing
        self.in_step = True
        if signal is not None:
            raise signal


def _nothing() -> None:
    """Do nothing."""


class _Threads:
    """How many threads there are to be, and the team."""

    chosen: int | None = None
    team: Team | None = None


_state = _Threads()
_here = threading.local()  # the limit of this Python thread
_making = threading.Lock()


def get_num_threads() -> int:
    """Return how many threads compiled code uses: what was set, or NISSL_NUM_THREADS, or the number of cores."""
    if _state.chosen is None:
        text = os.environ.get("NISSL_NUM_THREADS", "")
        given = int(text) if text.isdecimal() else text
        _state.chosen = whole_number("NISSL_NUM_THREADS", given) if text else available_cores()
    return min(_state.chosen, getattr(_here, "most", _state.chosen))


def set_num_threads(threads: int) -> None:
    """Set how many threads compiled code and NumPy's matrix products use.

    Results of compiled code do not depend on it. Processes that work side by side should have one thread each: threads
    of several that wait for each other on the same cores take many times as long.

    >>> import nissl as ns
    >>> ns.set_num_threads(1)
    >>> ns.get_num_threads()
    1
    """
    threads = whole_number("the number of threads", threads)
    import threadpoolctl

    _state.chosen = threads
    threadpoolctl.threadpool_limits(threads, user_api="blas")


@contextlib.contextmanager
def at_most(threads: int) -> Iterator[None]:
    """Let large programs of this Python thread use no more than so many threads in a block; NumPy keeps its own."""
    before = getattr(_here, "most", None)
    _here.most = max(1, threads if before is None else min(threads, before))
    try:
        yield
    finally:
        if before is None:
            del _here.most
        else:
            _here.most = before


def run_together(parts: Sequence[Work]) -> bool:
    """Do all parts at the same time, the first on this thread; or return False if there are no threads free for that.

    Parts that meet each other must be functions written in C, or `functools.partial` of them.
    """
    with _making:
        if _state.team is None or _state.team.process != os.getpid() or not _state.team.in_step:
            _state.team = Team()
        team = _state.team
    if not team.busy.acquire(blocking=False):
        return False
    try:
        team.grow(len(parts) - 1)
    except RuntimeError:
        team.busy.release()
        return False
    try:
        team.run(parts)
    finally:
        team.busy.release()
    return True
