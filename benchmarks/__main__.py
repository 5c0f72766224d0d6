"""Run the benchmarks named on the command line and print tables; with all of them, or with --write, save them too."""

import argparse
import sys
from collections.abc import Callable, Iterable
from functools import partial

from benchmarks import (
    accuracy,
    compiling,
    contests,
    estimators,
    footprint,
    gradients,
    growth,
    machine,
    process,
    products,
    steps,
    watching,
)
from benchmarks.results import HEAD, RESULTS, Row, describe_machine, section, write
from benchmarks.worker import two_cores

BENCHMARKS: dict[str, tuple[str, Callable[[], Iterable[tuple]]]] = {
    "gradients": ("Gradients", gradients.measure),
    "import": ("Import", footprint.measure_import),
    "memory": ("Memory", footprint.measure_memory),
    "step": ("The eager training step", steps.measure),
    **{name: (contests.title(name), partial(contests.measure, name)) for name in contests.CONTESTS},
    "machine": ("784-128-10, Adam, batch 32: beside what the machine can do", machine.measure),
    "products": ("Matrix products", products.measure),
    "compile": ("Compilation", compiling.measure_first_call),
    "threads": ("More threads than cores", compiling.measure_threads),
    "watch": ("A training that is watched", watching.measure),
    "process": ("Five epochs of Fashion-MNIST, the whole process", process.measure),
    "estimators": ("The estimator beside scikit-learn's", estimators.measure),
    "growth": ("784-W-10 as width and batch grow", growth.measure),
    "digits": ("Accuracy on the digits", accuracy.measure_digits),
    "fashion": ("Accuracy on Fashion-MNIST", accuracy.measure_fashion),
}
PICTURES = {"growth": (growth.draw, growth.NOTE)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--write", action="store_true", help=f"replace what was measured in {RESULTS.name}")
    options = parser.parse_args()
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"unknown benchmark {name}; known: {', '.join(BENCHMARKS)}")
    two_cores()
    described = describe_machine()
    print(f"{described}\n")
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    sections = {}
    for name in options.names or BENCHMARKS:
        title, measure = BENCHMARKS[name]
        print(f"## {title}\n\n{HEAD}")
        rows = []
        try:
            for row in measure():
                rows.append(Row(*row))
                print(rows[-1], flush=True)
        except Exception as error:  # one benchmark that breaks must not cost the others
            rows.append(Row(name, f"failed: {type(error).__name__}: {str(error)[:200]}", "to run", False))
            print(rows[-1], flush=True)
        print()
        if options.write or not options.names:
            draw, note = PICTURES.get(name, (None, ""))
            if draw:
                draw(rows)
            sections[title] = section(title, rows, command, note)
            write(described, sections, [title for title, _ in BENCHMARKS.values()])


main()
