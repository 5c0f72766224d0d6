"""Test accuracy of what `nissl train` does, over several seeds."""

import json
import statistics
import tempfile
from collections.abc import Iterator

from benchmarks.processes import run

SEEDS = range(5)
TRAIN = "import sys; from nissl.cli import run; sys.exit(run(sys.argv[1:]))"


def accuracies(*arguments: str) -> list[float]:
    """Return the test accuracy of `nissl train *arguments` for each seed, in percent."""
    found = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            out = run(["-c", TRAIN, "train", *arguments, "--seed", str(seed), "--out", f"{folder}/run", "--json"])
        found.append(100 * json.loads(out)["test_accuracy"])
    return found


def row(what: str, found: list[float], bar: float) -> tuple[str, str, str, bool]:
    median = statistics.median(found)
    each = ", ".join(f"{value:.2f}" for value in found)
    return what, f"{median:.2f} % (seeds: {each})", f"≥ {bar} %", median >= bar


def measure_fashion() -> Iterator[tuple[str, str, str, bool]]:
    yield row("Fashion-MNIST, nissl train fashion-mnist", accuracies("fashion-mnist"), 88.0)
    yield row("Fashion-MNIST, --schedule constant", accuracies("fashion-mnist", "--schedule", "constant"), 87.0)


def measure_digits() -> Iterator[tuple[str, str, str, bool]]:
    yield row("digits, nissl train", accuracies("digits"), 97.0)
