"""Run the benchmarks named on the command line, or all, and print a table."""

import platform
import sys

from benchmarks import accuracy, epochs, footprint, gradients, steps

BENCHMARKS = {
    "gradients": gradients.measure,
    "import": footprint.measure_import,
    "memory": footprint.measure_memory,
    "step": steps.measure,
    "epochs": epochs.measure,
    "digits": accuracy.measure_digits,
    "fashion": accuracy.measure_fashion,
}


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"unknown benchmark {unknown[0]}; known: {', '.join(BENCHMARKS)}")
    print(f"{platform.machine()}, Python {platform.python_version()}\n")
    print("| what | measured | bar | met |\n| --- | --- | --- | --- |")
    for name in names or BENCHMARKS:
        for what, measured, bar, met in BENCHMARKS[name]():
            print(f"| {what} | {measured} | {bar} | {'yes' if met else 'NO'} |", flush=True)


main(sys.argv[1:])
