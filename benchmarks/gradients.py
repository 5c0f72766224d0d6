"""The gradient of every op, in float64, against central differences: the same table and the same bar as the tests."""

from collections.abc import Iterator

from benchmarks.processes import run


def measure() -> Iterator[tuple[str, str, str, bool]]:
    out = run(["-m", "pytest", "-q", "-n", "0", "tests/test_ops.py", "-k", "gradient"])
    last = out.splitlines()[-1].strip("= ")
    yield "gradients of every op against differences, in the tests", last, "≤ 1e-6 · max(1, both)", "failed" not in last
