"""Limits of one core of this machine, measured once and cached: peak operations, and bandwidth of each cache level."""

from __future__ import annotations

import ctypes
import functools
import json
import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from nissl.engines.native import cache
from nissl.engines.native.emitter import INDEX, POINTER, emit_loop, index
from nissl.engines.native.machine import Code, describe_machine, machine_code, vector_bytes
from nissl.engines.native.maths import constant

# Bytes that fit into the usual levels of cache, smallest first, and more than all of them hold.
WORKING_SETS = (1 << 14, 1 << 18, 1 << 22, 1 << 27)
SECONDS_OF_A_TRIAL = 0.002
TRIALS = 15


@dataclass(frozen=True)
class Limits:
    """Operations per second by the size of a float, and bytes per second by the size of the working set."""

    flops: dict[int, float]
    bandwidth: dict[int, float]

    def seconds(self, work: int, itemsize: int, moved: int) -> float:
        """Return the least time of `work` operations that move `moved` bytes: the longer of both at their limit."""
        level = next((size for size in self.bandwidth if moved <= size), max(self.bandwidth))
        return max(work / self.flops[itemsize], moved / self.bandwidth[level])


@functools.cache
def measured_limits() -> Limits:
    """Return the limits of one core, cached from an earlier run or measured now."""

    def measure() -> bytes:
        found = Limits({size: peak_flops(size) for size in (4, 8)}, {size: bandwidth(size) for size in WORKING_SETS})
        return json.dumps(asdict(found)).encode()

    found = json.loads(cache.kept(f"limits 1 of {describe_machine()}", measure))
    return Limits(*({int(size): rate for size, rate in found[name].items()} for name in ("flops", "bandwidth")))


def peak_flops(itemsize: int) -> float:
    """Measure a core's peak of operations per second: fused multiply-adds, in registers only."""
    chains = 12
    kind = _vector(itemsize)
    module, builder, rounds = _function()
    fma = ir.Function(module, ir.FunctionType(kind, [kind] * 3), f"llvm.fma.v{kind.count}f{8 * itemsize}")
    memory = builder.function.args[0]
    cells = [builder.alloca(kind) for _ in range(chains)]
    start = builder.load(memory, typ=kind, align=itemsize)
    for cell in cells:
        builder.store(start, cell)

    def body(_: ir.Value) -> None:
        for cell in cells:
            value = builder.load(cell, typ=kind)
            builder.store(builder.call(fma, [value, start, value]), cell)

    emit_loop(builder, index(0), rounds, 1, body)
    total = builder.load(cells[0], typ=kind)
    for cell in cells[1:]:
        total = builder.fadd(total, builder.load(cell, typ=kind))
    builder.store(total, memory, align=itemsize)
    builder.ret_void()
    return 2 * chains * kind.count * _rounds_a_second(module, np.zeros(64, np.uint8), 10_000)


def bandwidth(size: int) -> float:
    """Measure a core's peak of bytes read and written per second in a working set, by doubling it in place."""
    kind = _vector(4)
    module, builder, rounds = _function()
    memory = builder.function.args[0]

    def once(_: ir.Value) -> None:
        def double(place: ir.Value) -> None:
            pointer = builder.gep(memory, [place], source_etype=kind)
            numbers = builder.load(pointer, typ=kind, align=4)
            builder.store(builder.fmul(numbers, constant(kind, 2.0)), pointer, align=4)

        emit_loop(builder, index(0), index(size // vector_bytes()), 1, double)

    emit_loop(builder, index(0), rounds, 1, once)
    builder.ret_void()
    return 2 * size * _rounds_a_second(module, np.zeros(size + 64, np.uint8), 1)


def _vector(itemsize: int) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if itemsize == 4 else ir.DoubleType(), vector_bytes() // itemsize)


def _function() -> tuple[ir.Module, ir.IRBuilder, ir.Value]:
    """Return a new module, the builder of its function of memory and a number of rounds, and that number."""
    module = ir.Module("limits")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INDEX]), "work")
    return module, ir.IRBuilder(function.append_basic_block()), function.args[1]


def _rounds_a_second(module: ir.Module, memory: np.ndarray[Any, Any], rounds: int) -> float:
    """Return the rounds per second of the fastest trial, as others use the machine too."""
    code = Code(machine_code(module), {"work": (ctypes.c_void_p, ctypes.c_int64)})
    best, trials = math.inf, 0
    while trials < TRIALS:
        begun = time.perf_counter()
        code.functions["work"](memory.ctypes.data, rounds)
        seconds = time.perf_counter() - begun
        if seconds < SECONDS_OF_A_TRIAL:
            rounds *= 2
            continue
        best, trials = min(best, seconds / rounds), trials + 1
    return 1 / best
