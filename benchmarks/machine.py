"""The training step beside what the machine can do: its measured arithmetic, and its cache's measured bandwidth."""

import json
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.processes import run
from benchmarks.programs import PROGRAMS, Program
from benchmarks.results import Row, duration
from benchmarks.worker import THREADS, environment, measured

BAR = 2.0
COPIES = 500


def flops(program: Program) -> int:
    """Return the operations of a step: products forward, for weights and for hidden layers' gradients, and Adam."""
    first, *_ = program.shapes()
    weights = sum(inputs * outputs for inputs, outputs in program.shapes())
    return 2 * program.batch * (3 * weights - first[0] * first[1]) + 12 * program.parameters()


def activations(program: Program) -> int:
    return program.batch * sum(program.sizes)


def working_set(program: Program) -> int:
    """Return the bytes of parameters, both moments and activations."""
    return 4 * (3 * program.parameters() + activations(program))


def traffic(program: Program) -> int:
    """Return the bytes that must move: weights read, then read and written with both moments; activations made,
    read by the next layer and by the gradient, and their gradients read."""
    return 4 * (7 * program.parameters() + 4 * activations(program))


def together(work: Callable[[], object]) -> float:
    """Return the seconds until all threads have done the work."""
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def bandwidth(size: int) -> float:
    """Return the bytes a second of c = a + b over arrays of `size` bytes in all, a share for each thread."""
    count = size // THREADS // 3 // 4

    def add() -> None:
        a, b, c = np.ones((3, count), np.float32)
        for _ in range(COPIES):
            np.add(a, b, out=c)

    return max(THREADS * COPIES * 12 * count / together(add) for _ in range(7))


def report() -> dict[str, float]:
    from nissl.engines.native.limits import peak_flops

    return {"peak": peak_flops(4), "bandwidth": bandwidth(working_set(PROGRAMS["fashion-32"]))}


def measure_report() -> dict[str, float]:
    return json.loads(run(["-m", "benchmarks.machine"], **environment(THREADS)))


def measure() -> Iterator[Row]:
    program = PROGRAMS["fashion-32"]
    before = measure_report()
    result = measured({"nissl": "with_nissl.scan"}, "fashion-32")["nissl"]
    found = {name: max(value, measure_report()[name]) for name, value in before.items()}
    arithmetic = flops(program) / (THREADS * found["peak"])
    moving = traffic(program) / found["bandwidth"]
    yield Row(
        f"{flops(program):,} operations, {THREADS} cores of {found['peak'] / 1e9:.0f} GFLOP/s each",
        duration(arithmetic),
    )
    yield Row(
        f"{traffic(program):,} bytes, {found['bandwidth'] / 1e9:.0f} GB/s at {working_set(program) / 1e6:.1f} MB",
        duration(moving),
    )
    if result.failed:
        yield Row("nissl", str(result), f"≤ {BAR:g} × the sum", False)
        return
    step = result.median
    share = step / (arithmetic + moving)
    yield Row("nissl, a step", duration(step), f"≤ {BAR:g} × the sum", share <= BAR, f"{share:.2f} × the sum")


if __name__ == "__main__":
    print(json.dumps(report()))
