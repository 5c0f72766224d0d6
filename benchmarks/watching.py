"""What it costs to look inside a network while it trains."""

import statistics
import time
from collections.abc import Iterator

import numpy as np

import nissl as ns
from benchmarks.programs import PROGRAMS, orders
from benchmarks.results import Row, duration
from benchmarks.with_nissl import training
from nissl.nn import Module

REPETITIONS, STEPS, EVERY, MOST = 9, 400, 50, 1.1


def measure() -> Iterator[Row]:
    for name in ("fashion-32", "fashion-128", "fashion-1024"):
        program = PROGRAMS[name]
        step, x, t = training(program)
        model = next(cell.cell_contents for cell in step.__closure__ if isinstance(cell.cell_contents, Module))
        compiled = ns.compile(lambda rows, step=step, x=x, t=t: step(x[rows], t[rows]))
        rows = np.resize(orders(program, STEPS, len(x)), (STEPS, program.batch))
        plain, watched = [], []
        seen = ns.inspect.watch(model, every=EVERY)
        for _ in range(REPETITIONS + 1):  # the first is slow, as all is compiled in it
            start = time.perf_counter()
            compiled.scan(rows)
            plain.append((time.perf_counter() - start) / STEPS)
            with seen:
                start = time.perf_counter()
                compiled.scan(rows)
                watched.append((time.perf_counter() - start) / STEPS)
        ratio = statistics.median(b / a for a, b in zip(plain[1:], watched[1:], strict=True))
        text = f"{duration(statistics.median(plain[1:]))}, watched {duration(statistics.median(watched[1:]))}"
        yield Row(
            f"784-128-10, batch {program.batch}, every={EVERY}", f"{text}: {ratio:.2f} ×", f"≤ {MOST} ×", ratio <= MOST
        )
