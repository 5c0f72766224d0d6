"""The thread pool of compiled programs.

Each worker (a Member of the Team) waits for a lock of its own, and runs the same machine code when it is released;
ctypes releases the GIL meanwhile. There is one pool per process, created on first use, and again in a child process,
which inherits no threads. A caller does not wait for a busy pool: it runs alone.

Workers meet at barriers in their machine code, so either all of them enter it or none. Signal handlers, such as that of
Ctrl-C, run between two bytecode instructions; therefore one call of a function written in C releases the workers and
runs the caller's own part.

A worker whose core runs another program holds up all others at the next barrier. So the pool looks how much time on a
core its threads get, and uses fewer of them while they get too little.

Linux in a virtual machine may take a core that has been idle for a while for one that is not to be had, and then lets
a worker wake on the core of its caller: work of 5 ms took 10, on one core. So workers that have slept are kept off that
core until they run.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import operator
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from nissl.arguments import whole_number

Work = Callable[[], object]

# The pool is judged after so many seconds of work, by how much of one core its threads lack together. What one thread
# takes on a free core, two take if they lack 0.5: one of them waits for the other half of the time. The clock of a
# thread's time on a core goes in steps of 16 ms on Windows.
SECONDS_OF_A_LOOK, LACK_TOLERATED = 0.5 if sys.platform == "win32" else 0.05, 0.4
# Who has slept for so many seconds is kept off the core of the caller; the other core is still awake before.
SECONDS_OF_A_NAP = 1e-3
# Seconds until all threads are tried again: more each time that this was in vain.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


def in_forked_child(make_locks: Work) -> Work:
    """Have a function called in every forked child, to replace locks whose holders do not exist there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=make_locks)
    return make_locks


def reachable_cores() -> int:
    """Return the number of cores that threads of this process may run on.

    With a quota, they still run on all of these at the same time, until all stop.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allotted_cores() -> int:
    """Return the number of cores whose time this process may use: its quota, or all that it reaches."""
    return max(1, min(reachable_cores(), _quota()))


def _quota() -> int:
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
        self.lacked = 0.0  # seconds without a core in the latest work
        self.called = threading.Lock()
        self.called.acquire()
        self.done = True
        self.finished = threading.Lock()  # let go when the work is done, to wake who waits for it
        self.finished.acquire()
        self.cores: set[int] = set()  # where it may run again once it has woken
        self.thread = threading.Thread(target=self._wait, daemon=True, name="nissl")
        self.thread.start()

    def wake_elsewhere(self) -> None:
        """Keep the worker off the core of this thread until it is called."""
        cores = os.sched_getaffinity(0)
        others = cores - {_this_core()}
        if others:
            assert self.thread.native_id is not None  # as it has been started
            self.cores = cores  # first, so that it will be free again whatever happens between
            _bind(self.thread.native_id, others)

    def _wait(self) -> None:
        while True:
            self.called.acquire()
            if self.cores:
                _bind(0, self.cores)
                self.cores = set()
            before = _without_core()
            try:
                self.work()
            finally:
                self.lacked = _without_core() - before
                self.done = True
                if self.finished.locked():
                    self.finished.release()


class Team:
    """A thread pool."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.serves: object = None  # the call of `run_together` that it works for
        self.members: list[Member] = []
        self.in_step = True  # whether all members are idle
        self.ended = 0.0  # when the latest run was over

    @property
    def is_usable(self) -> bool:
        """Whether its threads exist in this process, and all are idle or at work for a call."""
        return self.process == os.getpid() and (self.in_step or self.serves is not None)

    def grow(self, members: int) -> bool:
        """Start members until there are at least `members`; return False if the system starts no more threads."""
        try:
            while len(self.members) < members:
                self.members.append(Member())
        except RuntimeError:
            return False
        return True

    def run(self, parts: Sequence[Work]) -> None:
        """Run the first part on this thread and the others on members, at the same time; return when all are done.

        That holds even if a signal handler raises meanwhile.
        """
        members = self.members[: len(parts) - 1]
        for member, part in zip(members, parts[1:], strict=True):
            member.work, member.done = part, False
        if HAS_AFFINITY and time.perf_counter() - self.ended > SECONDS_OF_A_NAP:
            for member in members:
                member.wake_elsewhere()
        calls = map(operator.call, [*(member.called.release for member in members), parts[0]])
        raised: BaseException | None = None
        self.in_step = False
        started, before = time.perf_counter(), _without_core()
        while not self.in_step:
            try:
                deque(calls, maxlen=0)  # Python runs no signal handler in it: all members are called, or none
                lacked = _without_core() - before
                for member in members:
                    while not member.done:  # the lock does not tell: it may have been acquired when a handler raised
                        member.finished.acquire()
                self.in_step = True
            except BaseException as error:
                raised = error
        if raised is None:
            lacked += sum(member.lacked for member in members)
            _state.crowds[len(parts)].look(time.perf_counter() - started, lacked)
        for member in members:
            member.work = _nothing
        self.ended = time.perf_counter()
        if raised is not None:
            raise raised


def _nothing() -> None:
    """Do nothing."""


HAS_AFFINITY = hasattr(os, "sched_setaffinity")  # on Linux


@functools.cache
def _library_of_c() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _this_core() -> int:
    """Return the number of the core that this thread runs on."""
    return int(_library_of_c().sched_getcpu())


def _bind(thread: int, cores: set[int]) -> None:
    """Let a thread, by its number in the system, or this one, 0, run on these cores only."""
    with contextlib.suppress(OSError):  # if the system has taken these cores from the process meanwhile
        os.sched_setaffinity(thread, cores)


class Crowd:
    """What other programs leave of the cores to a pool of so many threads."""

    def __init__(self, threads: int) -> None:
        self.threads = self.most = threads  # of which so many are to be used
        self.pause, self.again = FIRST_PAUSE, 0.0  # until all are tried again, and when that is
        self.seconds, self.lacked = 0.0, 0.0  # since the latest judgement

    def limit(self) -> int:
        """Return how many threads to use now."""
        if self.most < self.threads and time.perf_counter() > self.again:
            self.most = self.threads
        return self.most

    def look(self, seconds: float, lacked: float) -> None:
        """Take note of work on all threads, and of the seconds for which they had no core, added up."""
        self.seconds += seconds
        self.lacked += lacked
        if self.seconds < SECONDS_OF_A_LOOK:
            return
        fewer = math.ceil(self.lacked / self.seconds - LACK_TOLERATED)
        self.seconds = self.lacked = 0.0
        if fewer > 0:
            self.most, self.again = max(self.threads - fewer, 1), time.perf_counter() + self.pause
            self.pause = min(2 * self.pause, LONGEST_PAUSE)
        else:
            self.pause = FIRST_PAUSE


class _Crowds(dict[int, Crowd]):
    """A Crowd for each number of threads that was used."""

    def __missing__(self, threads: int) -> Crowd:
        return self.setdefault(threads, Crowd(threads))


def _without_core() -> float:
    """Return the time of a clock that goes on only while this thread has no core; it stands still if there is none."""
    try:
        return time.perf_counter() - time.thread_time()
    except (AttributeError, OSError):
        return 0.0


class _Threads:
    """The chosen number of threads, the pool, and what other programs leave to it."""

    chosen: int | None = None
    team: Team | None = None
    crowds = _Crowds()


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
        _state.chosen = whole_number("NISSL_NUM_THREADS", given) if text else allotted_cores()
    return min(_state.chosen, getattr(_here, "most", _state.chosen))


def threads_to_use() -> int:
    """Return how many threads shall run a large program now: fewer than chosen if other programs take their cores."""
    threads = get_num_threads()
    while (fewer := _state.crowds[threads].limit()) < threads:
        threads = fewer
    return threads


def set_num_threads(threads: int) -> None:
    """Set the number of threads of compiled code and of NumPy's matrix products.

    Results of compiled code do not depend on it. It uses fewer threads while other programs take the cores of some.
    Processes that run in parallel should have one thread each all the same, as trying more takes time now and then.

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
    call = object()
    team: Team | None = None
    try:  # no lock is held during the run: it would stay locked if a signal handler raised just after it was acquired
        with _making:
            team = _state.team
            if team is None or not team.is_usable:
                team = _state.team = Team()
            if team.serves is not None:
                return False
            team.serves = call
        if not team.grow(len(parts) - 1):
            return False
        team.run(parts)
    finally:
        if team is not None and team.serves is call:
            team.serves = None
    return True
