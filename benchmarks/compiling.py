"""The first call of the compiled training step, and the step with more threads than cores."""

import statistics
import tempfile
from collections.abc import Iterator

from benchmarks.processes import run
from benchmarks.results import Row, duration
from benchmarks.worker import REPETITIONS, Worker, close, interleave

FIRST_CALL = """
import time
import nissl as ns
from benchmarks.programs import PROGRAMS
from benchmarks.with_nissl import training
step, x, t = training(PROGRAMS["fashion-32"])
step, x, t = ns.compile(step), x[:32], t[:32]
start = time.perf_counter()
step(x, t)
print(time.perf_counter() - start)
"""
MOST_COLD, MOST_WARM = 1.5, 0.1
MANY_THREADS, MOST_SLOWDOWN = 4, 3.0


def measure_first_call() -> Iterator[Row]:
    cold, warm = [], []
    for _ in range(REPETITIONS):
        with tempfile.TemporaryDirectory() as folder:
            for times in (cold, warm):
                times.append(float(run(["-c", FIRST_CALL], NISSL_CACHE_HOME=folder)))
    for what, times, most in (("cold", cold, MOST_COLD), ("with the code in the cache", warm, MOST_WARM)):
        seconds = statistics.median(times)
        yield Row(f"first call of the step, {what}", duration(seconds), f"≤ {duration(most)}", seconds <= most)


def measure_threads() -> Iterator[Row]:
    workers = {f"{n} threads" if n > 1 else "1 thread": Worker("with_nissl.scan", n) for n in (1, 2, MANY_THREADS)}
    try:
        results = interleave(workers, "fashion-32")
    finally:
        close(workers.values())
    one, *_, many = results.values()
    for what, result in results.items():
        bar = f"≤ {MOST_SLOWDOWN:g} × one thread" if result is many else ""
        if result.failed or one.failed:
            yield Row(what, f"failed: {result.failed or one.failed}", bar, False)
            continue
        slowdown = result.ratio(one)
        text = f"{result}: {slowdown:.2f} × one thread"
        yield Row(what, text, bar, slowdown <= MOST_SLOWDOWN)
