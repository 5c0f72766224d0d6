"""Tables of what was measured, on the terminal and in RESULTS.md with the machine, the versions and the date."""

import datetime
import os
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from llvmlite.binding import get_host_cpu_name

RESULTS = Path(__file__).with_name("RESULTS.md")
LIBRARIES = (
    *("nissl", "numpy", "llvmlite", "torch", "jax", "jaxlib", "optax", "keras", "tensorflow"),
    *("onnx", "onnxruntime", "scikit-learn"),
)
HEAD = "| what | measured | nissl takes | bar | met |\n| --- | --- | --- | --- | --- |"


class Row(NamedTuple):
    """One figure. `ratio` is nissl's time over this one, `met` whether the bar is kept; neither if there is no bar."""

    what: str
    measured: str
    bar: str = ""
    met: bool | None = None
    ratio: str = ""

    def __str__(self) -> str:
        met = {None: "", True: "yes", False: "NO"}[self.met if self.bar not in ("", "-") else None]
        return f"| {self.what} | {self.measured} | {self.ratio} | {self.bar} | {met} |"


def duration(seconds: float) -> str:
    """Return a time with three digits.

    >>> duration(0.00012345)
    '123 µs'
    """
    scale, unit = next(
        ((scale, unit) for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if seconds >= scale), (1e-9, "ns")
    )
    number = seconds / scale
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} {unit}"


def processor() -> str:
    """Return the name of the CPU, and its kind as LLVM calls it, since in the cloud the name may say little."""
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({get_host_cpu_name()})"


def version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def describe_machine() -> str:
    """Return the machine and all versions, as lines of Markdown."""
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    load = f"load {os.getloadavg()[0]:.1f}"  # beside other programs, threads that spin take many times as long
    system = f"{processor()}, {os.cpu_count()} cores of which two are used, {platform.system()}, {load} at the start"
    return f"- {system}\n- Python {platform.python_version()}, {versions}"


def section(title: str, rows: Iterable[Row], command: str, note: str = "") -> str:
    now = datetime.datetime.now(datetime.UTC)
    parts = [f"## {title}", f"{now:%Y-%m-%d %H:%M} UTC, `{command}`", note, "\n".join([HEAD, *map(str, rows)])]
    return "\n\n".join(filter(None, parts))


def write(machine: str, sections: dict[str, str], titles: Iterable[str], path: Path = RESULTS) -> None:
    """Write sections, by their titles, into the file, in the order of `titles`; others of these stay as they are."""
    before = path.read_text() if path.exists() else ""
    kept = {text.partition("\n")[0]: f"## {text.strip()}" for text in before.split("\n## ")[1:]}
    texts = kept | sections
    head = (
        "# Measured\n\nWritten by `make bench`. Times are medians of repetitions that alternate between the libraries, "
        "with two threads each, in float32; `nissl takes` is the median of nissl's time over the time beside it."
    )
    path.write_text("\n\n".join([head, machine, *(texts[title] for title in titles if title in texts)]) + "\n")
