"""Reports on a program: what its kernels are, and how long they take beside what this machine can do."""

from __future__ import annotations

import ctypes
import functools
import math
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir

from nissl.engines.native.assembly import emit_kernels, lanes_of
from nissl.engines.native.cost import flops, traffic
from nissl.engines.native.emitter import INDEX, POINTER, emit_loop, index
from nissl.engines.native.machine import Code, machine_code, vector_bytes
from nissl.engines.native.plan import Call, Copies, Group, Kernel, Straight, equations_of
from nissl.graph.graph import Graph, Symbol, describe_call, label_symbols
from nissl.shapes import describe

if TYPE_CHECKING:
    from nissl.engines.native.program import Program

REPETITIONS = 30


def title(kernel: Kernel) -> str:
    """Return what a kernel is in short."""
    if isinstance(kernel, Call):
        return f"NumPy: {kernel.equation.op.name}"
    if isinstance(kernel, Copies):
        return f"{'×'.join(map(str, kernel.equation.outputs[0].shape))}: {kernel.equation.op.name}"
    if isinstance(kernel, Straight):
        return f"{len(kernel.equations)} equations in registers"
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
    lines = [f"{graph.name} on the native engine: {len(program.plan.kernels)} kernels"]
    for i, kernel in enumerate(program.plan.kernels):
        size = traffic(kernel, program.plan)
        lines.append(f"{i:3} {title(kernel)}  ({flops(kernel):,} operations, {size:,} bytes)")
        for e in equations_of(kernel):
            source = e.source.rpartition("/")[2]
            lines.append(f"      {describe_call(e, labels)}: {describe(e.outputs[0])}  {source}".rstrip())
    return "\n".join(lines)


def profile(program: Program, arrays: Sequence[Any]) -> str:
    """Return the kernels with their times, on copies of the inputs, beside what one core of this machine can do."""
    copies = [np.array(array, order="C") for array in arrays]
    module, units = emit_kernels(program.plan, program.memory)
    arguments = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    code = Code(machine_code(module), dict.fromkeys([*units, "nothing"], arguments))
    times: dict[int, list[float]] = {i: [] for i in range(len(program.plan.kernels))}
    overhead: list[float] = []
    with program.lock:
        held = program.take(copies)
        for _ in range(REPETITIONS):
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
        program.status[0] = 0
    idle = statistics.median(overhead)
    rows = [("", "kernel", "µs", "GFLOP/s", "GB/s", "of the peak")]
    total = 0.0
    for i, kernel in enumerate(program.plan.kernels):
        seconds = max(statistics.median(times[i]) - idle, 1e-9)
        total += seconds
        work, size = flops(kernel), traffic(kernel, program.plan)
        bits = 8 * vector_bytes() // lanes_of(kernel) if isinstance(kernel, Group) else 32
        share = work / seconds / peak_flops(bits // 8)
        rows.append(
            (
                str(i),
                title(kernel),
                f"{seconds * 1e6:.1f}",
                f"{work / seconds / 1e9:.1f}",
                f"{size / seconds / 1e9:.1f}",
                f"{share:.0%}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{'<' if k == 1 else '>'}{w}}" for k, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    summary = f"{total * 1e6:.1f} µs in all; one core's measured peak is {peak_flops(4) / 1e9:.0f} GFLOP/s in float32"
    return "\n".join([*(line.rstrip() for line in lines), summary])


@functools.cache
def peak_flops(itemsize: int) -> float:
    """Return how many operations a second one core does at most: multiplications with additions, in registers alone."""
    chains, rounds = 12, 200_000
    kind = ir.VectorType(ir.FloatType() if itemsize == 4 else ir.DoubleType(), vector_bytes() // itemsize)
    module = ir.Module("peak")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), "peak")
    suffix = f"v{kind.count}f{8 * itemsize}"
    fma = ir.Function(module, ir.FunctionType(kind, [kind] * 3), f"llvm.fma.{suffix}")
    builder = ir.IRBuilder(function.append_basic_block())
    cells = [builder.alloca(kind) for _ in range(chains)]
    start = builder.load(function.args[0], typ=kind, align=itemsize)
    for cell in cells:
        builder.store(start, cell)

    def body(_: ir.Value) -> None:
        for cell in cells:
            value = builder.load(cell, typ=kind)
            builder.store(builder.call(fma, [value, start, value]), cell)

    emit_loop(builder, index(0), ir.Constant(INDEX, rounds), 1, body)
    total = builder.load(cells[0], typ=kind)
    for cell in cells[1:]:
        total = builder.fadd(total, builder.load(cell, typ=kind))
    builder.store(total, function.args[0], align=itemsize)
    builder.ret_void()
    code = Code(machine_code(module), {"peak": (ctypes.c_void_p,)})
    numbers = np.zeros(vector_bytes(), np.uint8)
    best = math.inf
    for _ in range(7):
        begun = time.perf_counter()
        code.functions["peak"](numbers.ctypes.data)
        best = min(best, time.perf_counter() - begun)
    return 2 * chains * rounds * kind.count / best
