"""What nissl costs before and besides computing: the time to import it, and memory."""

import json
import statistics
import tempfile
from collections.abc import Iterator

from benchmarks.processes import run

REPETITIONS = 15
TIME_IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
TRAIN = """
import json, resource, sys
from nissl.cli import run
status = run(["train", "fashion-mnist", "--epochs", "2", "--out", sys.argv[1], "--json"])
print(json.dumps({"status": status, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def measure_import() -> Iterator[tuple[str, str, str, bool]]:
    times: dict[str, list[float]] = {"numpy": [], "nissl": []}
    for _ in range(REPETITIONS):
        for module, found in times.items():
            found.append(1000 * float(run(["-c", TIME_IMPORT.format(module)])))
    numpy, nissl = (statistics.median(found) for found in times.values())
    yield "import nissl, beside import numpy", f"{nissl:.0f} ms, {numpy:.0f} ms", "≤ numpy + 60 ms", nissl <= numpy + 60


def measure_memory() -> Iterator[tuple[str, str, str, bool]]:
    with tempfile.TemporaryDirectory() as folder:
        last = json.loads(run(["-c", TRAIN, f"{folder}/run"]).splitlines()[-1])
    assert last["status"] == 0
    peak = last["peak"] * 1024 / 1e6
    yield "peak memory of nissl train fashion-mnist", f"{peak:.0f} MB", "≤ 600 MB", peak <= 600
