"""Reports on a program: its kernels, and their times compared with the limits of this machine."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nissl.engines.native.assembly import emit_kernels
from nissl.engines.native.cost import flops, traffic
from nissl.engines.native.kernels import Call, Copies, Group, Kernel, Straight, equations_of, lanes_of
from nissl.engines.native.limits import measured_limits
from nissl.engines.native.machine import Code, machine_code, vector_bytes
from nissl.graph.graph import Graph, Symbol, describe_call, label_symbols
from nissl.shapes import describe
from nissl.text import counted, percent

if TYPE_CHECKING:
    from nissl.engines.native.program import Program

REPETITIONS = 30


def title(kernel: Kernel) -> str:
    """Return a short description of a kernel."""
    if isinstance(kernel, Call):
        return f"NumPy: {kernel.equation.op.name}"
    if isinstance(kernel, Copies):
        return f"{'×'.join(map(str, kernel.equation.outputs[0].shape))}: {kernel.equation.op.name}"
    if isinstance(kernel, Straight):
        return f"{counted(len(kernel.equations), 'equation')} in registers"
    names = [kernel.leader.op.name] if kernel.leader else []
    names += [equation.op.name for equation in kernel.equations]
    shape = "×".join(map(str, kernel.shape)) or "1"
    if kernel.leader:
        a = kernel.leader.inputs[0]
        assert isinstance(a, Symbol)
        shape += f" over {a.shape[-1]}"
    return f"{shape}: {' '.join(names)}"


def explain(program: Program) -> str:
    """Return the kernels in order: shapes, operations, bytes, and the equations of each with their lines of source."""
    graph: Graph = program.graph
    labels = label_symbols(graph)
    lines = [f"{graph.name} on the native engine: {counted(len(program.plan.kernels), 'kernel')}"]
    for i, kernel in enumerate(program.plan.kernels):
        size = traffic(kernel, program.plan)
        lines.append(f"{i:3} {title(kernel)}  ({flops(kernel):,} operations, {size:,} bytes)")
        for e in equations_of(kernel):
            source = e.source.rpartition("/")[2]
            lines.append(f"      {describe_call(e, labels)}: {describe(e.outputs[0])}  {source}".rstrip())
    return "\n".join(lines)


def profile(program: Program, arrays: Sequence[Any]) -> str:
    """Return the kernels with their times on copies of the inputs, compared with the limits of one core.

    The limit of a kernel is the time of its operations at their peak rate, or of its bytes at the bandwidth of the
    cache level that holds them, whichever is longer (the roofline model).
    """
    copies = [np.array(array, order="C") for array in arrays]
    program(copies)  # raises if a label is out of range, which the kernels alone do not check
    module, units = emit_kernels(program.plan, program.memory)
    arguments = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    code = Code(machine_code(module), dict.fromkeys([*units, "nothing"], arguments))
    times: dict[int, list[float]] = {i: [] for i in range(len(program.plan.kernels))}
    overhead: list[float] = []
    with program.lock:
        held = program.take(copies)
        for _ in range(REPETITIONS):
            for slot in program.memory.written:  # else row indices that are state could go out of range
                np.copyto(held[slot], copies[slot])
            for i, kernel in enumerate(program.plan.kernels):
                start = time.perf_counter()
                if isinstance(kernel, Call):
                    program.call(kernel.equation, held)
                else:
                    code.functions[f"kernel_{i}"](program.table, 0, units[f"kernel_{i}"])
                times[i].append(time.perf_counter() - start)
            start = time.perf_counter()
            code.functions["nothing"](program.table, 0, 0)
            overhead.append(time.perf_counter() - start)
        program.forget()
    idle = statistics.median(overhead)
    limits = measured_limits()
    rows = [("", "kernel", "µs", "GFLOP/s", "GB/s", "of the limit")]
    total = least = 0.0
    for i, kernel in enumerate(program.plan.kernels):
        seconds = max(statistics.median(times[i]) - idle, 1e-9)
        total += seconds
        work, size = flops(kernel), traffic(kernel, program.plan)
        itemsize = vector_bytes() // lanes_of(kernel) if isinstance(kernel, Group) else 4
        possible = limits.seconds(work, max(itemsize, 4), size)
        least += possible
        rows.append(
            (
                str(i),
                title(kernel),
                f"{seconds * 1e6:.1f}",
                f"{work / seconds / 1e9:.1f}",
                f"{size / seconds / 1e9:.1f}",
                percent(possible / seconds, 0),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{'<' if k == 1 else '>'}{w}}" for k, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    caches = ", ".join(f"{rate / 1e9:.0f} in {size >> 10:,} KiB" for size, rate in limits.bandwidth.items())
    summary = (
        f"{total * 1e6:.1f} µs in all, of which the limits of one core take {least * 1e6:.1f}: "
        f"{limits.flops[4] / 1e9:.0f} GFLOP/s in float32; GB/s: {caches}"
    )
    return "\n".join([*(line.rstrip() for line in lines), summary])
