"""The thread pool of compiled programs.

Each worker (a Member of the Team) waits for a lock of its own, and runs the same machine code when it is released;
ctypes releases the GIL meanwhile. There is one pool per process, created on first use, and again in a child process,
which inherits no threads. A caller does not wait for a busy pool: it runs alone.

Workers meet at barriers in their machine code, so either all of them enter it or none. Signal handlers, such as that of
Ctrl-C, run between two bytecode instructions; therefore one call of a function written in C releases the workers and
runs the caller's own part.
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


def in_forked_child(make_locks: Work) -> Work:
    """Have a function called in every forked child, to replace locks whose holders do not exist there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=make_locks)
    return make_locks


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _allotted()))


def _allotted() -> int:
    """Return the CPU quota of this process's control group (cgroup v2), in cores."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return 1 << 30 if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return 1 << 30


class Member:
    """A worker: a thread that runs the work it is given."""

    def __init__(self) -> None:
        self.work: Work = _nothing
        self.called = threading.Lock()
        self.called.acquire()
        self.done = True
        self.finished = threading.Lock()  # let go when the work is done, to wake who waits for it
        self.finished.acquire()
        threading.Thread(target=self._wait, daemon=True, name="nissl").start()

    def _wait(self) -> None:
        while True:
            self.called.acquire()
            try:
                self.work()
            finally:
                self.done = True
                if self.finished.locked():
                    self.finished.release()


class Team:
    """A thread pool."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.busy = threading.Lock()
        self.members: list[Member] = []
        self.in_step = True  # whether all members are idle

    def grow(self, members: int) -> None:
        """Start members until there are at least `members`. Raises RuntimeError if no thread can be started."""
        while len(self.members) < members:
            self.members.append(Member())

    def run(self, parts: Sequence[Work]) -> None:
        """Run the first part on this thread and the others on members, at the same time."""
        members = self.members[: len(parts) - 1]
        for member, part in zip(members, parts[1:], strict=True):
            member.work, member.done = part, False
        calls = map(operator.call, [*(member.called.release for member in members), parts[0]])
        # From here to the end of `deque`, Python runs no signal handler: all members are called, or none.
        self.in_step = False
        try:
            deque(calls, maxlen=0)
        finally:
            self.wait(members)

    def wait(self, members: Sequence[Member]) -> None:
        """Wait until all have finished, even if a signal handler raises meanwhile."""
        signal: BaseException | None = None
        for member in members:
            while not member.done:  # a handler may raise when the lock has just been acquired, so that it does not tell
                try:
                    member.finished.acquire()
                except BaseException as error:
                    signal = error
            member.work = _nothing
        self.in_step = True
        if signal is not None:
            raise signal


def _nothing() -> None:
    """Do nothing."""


class _Threads:
    """The chosen number of threads, and the pool."""

    chosen: int | None = None
    team: Team | None = None


_state = _Threads()
_here = threading.local()  # the limit of this Python thread
_making = threading.Lock()


@in_forked_child
def _make_lock() -> None:
    global _making
    _making = threading.Lock()


def get_num_threads() -> int:
    """Return the number of threads of compiled code: what was set, or NISSL_NUM_THREADS, or the number of cores."""
    if _state.chosen is None:
        text = os.environ.get("NISSL_NUM_THREADS", "")
        given = int(text) if text.isdecimal() else text
        _state.chosen = whole_number("NISSL_NUM_THREADS", given) if text else available_cores()
    return min(_state.chosen, getattr(_here, "most", _state.chosen))


def set_num_threads(threads: int) -> None:
    """Set the number of threads of compiled code and of NumPy's matrix products.

    Results of compiled code do not depend on it. Processes that run in parallel should have one thread each: where
    threads of several processes wait at barriers on the same cores, they take many times as long.

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
    """Limit the threads of large programs that this Python thread runs in a block; NumPy keeps its own number."""
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
    """Run all parts at the same time, the first on this thread; return False if not enough threads are free for that.

    Parts that wait for each other must be functions written in C, or `functools.partial` of them.
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
