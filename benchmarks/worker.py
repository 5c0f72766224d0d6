"""A process for each library that is compared: it prepares a program once, then runs a repetition whenever asked.

So repetitions of all libraries alternate, while imports and compilation are paid once. Two thread pools in one process
disturb each other, and so do idle pools that spin: a process whose turn it is not is stopped by the system.
All get the same two cores.
"""

import importlib
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.results import duration

THREADS = 2
REPETITIONS = 5
PATIENCE = 300.0  # seconds; so long may a library compile
BUDGET = 0.5  # about the seconds of a repetition
AGREEMENT = 0.1

Run = Callable[[int], Any]


class Failed(Exception):  # noqa: N818  (what became of a library, not an error of ours)
    """A library is not there or could not do it."""


def environment(threads: int) -> dict[str, str]:
    """Return the variables by which the libraries choose their number of threads."""
    names = ("OMP", "MKL", "OPENBLAS", "NISSL", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")
    counts = {f"{name}_THREADS" if "TF" in name else f"{name}_NUM_THREADS": str(threads) for name in names}
    return counts | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}


def two_cores() -> None:
    """Keep this process and its children on two cores, as not every library can be told its number of threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])


class Worker:
    """The other end: one process, in which `setup`, a path such as `with_jax.scan`, makes programs that run."""

    def __init__(self, setup: str, threads: int = THREADS) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", setup],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | environment(threads),
        )

    def ask(self, *request: Any) -> Any:
        """Return the answer to a request, or raise Failed."""
        self.process.send_signal(signal.SIGCONT)
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise Failed("the process ended") from None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else None
        self.process.send_signal(signal.SIGSTOP)
        if not line:
            raise Failed("the process ended" if ready else f"no answer in {PATIENCE:.0f} s")
        answer = json.loads(line)
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer["answer"]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass
class Result:
    """What a library did: seconds a step, one for each repetition, or why there are none."""

    times: list[float] = field(default_factory=list)
    check: float = 0.0  # what all libraries must agree on
    failed: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def __str__(self) -> str:
        return f"failed: {self.failed}" if self.failed else duration(self.median)

    def disagreement(self, ours: "Result") -> str:
        """Return what to say if this computed something else than we did."""
        if self.failed or ours.failed or agrees(self.check, ours.check):
            return ""
        return f"; computes something else: {self.check:.4g} instead of {ours.check:.4g}"

    def ratio(self, other: "Result") -> float:
        """Return the time of this over that of the other, repetition by repetition."""
        return statistics.median(a / b for a, b in zip(self.times, other.times, strict=True))


def interleave(
    workers: dict[str, Worker], program: str, budget: float = BUDGET, checked: int = 100
) -> dict[str, Result]:
    """Return what each worker measured: all prepare the program, then run it in turn."""
    results = {name: Result() for name in workers}

    def ask_all(request: list[Any], take: Callable[[Result, float], None]) -> None:
        for name, worker in workers.items():
            if not results[name].failed:
                try:
                    take(results[name], worker.ask(*request))
                except Failed as reason:
                    results[name].failed = str(reason)

    ask_all(["prepare", program, budget, checked], lambda result, check: setattr(result, "check", check))
    for _ in range(REPETITIONS):
        ask_all(["run"], lambda result, seconds: result.times.append(seconds))
    return results


def measured(setups: dict[str, str], program: str, threads: int = THREADS, checked: int = 100) -> dict[str, Result]:
    """Return what each setup, by its name, measured for a program, in workers of its own."""
    workers = {name: Worker(setup, threads) for name, setup in setups.items()}
    try:
        return interleave(workers, program, checked=checked)
    finally:
        close(workers.values())


def close(workers: Iterable[Worker]) -> None:
    for worker in workers:
        worker.close()


def agrees(check: float, expected: float) -> bool:
    return abs(check - expected) <= AGREEMENT * abs(expected)


class Prepared:
    """A program in this process, and how many of its steps make a repetition."""

    def __init__(self, run: Run, most: int, budget: float, checked: int) -> None:
        self.run = run
        self.steps = min(checked, most)
        self.check = summary(run(self.steps))
        for _ in range(2):  # a few steps alone say too much about the time of each
            enough = min(most, max(3, int(budget / self.seconds())))
            if enough != self.steps:
                self.steps = enough
                run(enough)  # XLA compiles for this number of steps

    def seconds(self) -> float:
        """Return the time of a step: of one run, or of several in 0.1 s."""
        taken, elapsed, start = 0, 0.0, time.perf_counter()
        while elapsed < 0.1:
            self.run(self.steps)
            taken += self.steps
            elapsed = time.perf_counter() - start
        return elapsed / taken


def summary(result: Any) -> float:
    """Return the mean loss of some steps; of outputs (rows, classes), the mean of the classes found."""
    import numpy as np

    values = np.asarray(result)
    return float(np.mean(values if values.ndim < 2 else values.argmax(axis=-1)))


def serve(setup: str) -> None:
    """Answer the requests on standard input; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, name = setup.rpartition(".")
    prepared: Prepared | None = None
    for line in sys.stdin:
        try:
            match json.loads(line):
                case ["prepare", program, budget, checked]:
                    from benchmarks.programs import PROGRAMS, steps_an_epoch

                    prepared = None  # lets go of the memory of the one before
                    make = getattr(importlib.import_module(f"benchmarks.{module}"), name)
                    run = make(PROGRAMS[program])
                    prepared = Prepared(run, steps_an_epoch(PROGRAMS[program]), budget, checked)
                    answer = prepared.check
                case ["run"]:
                    answer = prepared.seconds()
            reply = {"answer": answer}
        except Exception as error:
            reply = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
