"""Assembly: the functions of a program, from its kernels to the loop over steps.

A kernel is a function of the table of addresses. A segment calls the kernels between two equations that NumPy computes;
a program without such equations has one segment, and a function that runs it for several steps.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from nissl.engines.native import cost
from nissl.engines.native.emitter import INDEX, POINTER, Emitter, Memory, Share, emit_loop, index
from nissl.engines.native.instructions import pause, subnormals_as_zero
from nissl.engines.native.kernels import (
    Call,
    CompiledKernel,
    Copies,
    Group,
    Kernel,
    Straight,
    checked_first,
    computes_labels,
    equations_of,
    lanes_of,
)
from nissl.engines.native.loops import Loops
from nissl.engines.native.maths import Element, scalar_type
from nissl.engines.native.meeting import ARRIVED, LOOKS, MEETINGS
from nissl.engines.native.memory import MemoryPlan
from nissl.engines.native.plan import Plan, segment_name
from nissl.engines.native.products import Product, takes_subnormals_as_zero
from nissl.engines.native.shares import Shares
from nissl.engines.native.straight import StraightLine
from nissl.graph.graph import Graph, Symbol, describe_call
from nissl.shapes import describe


def emit(graph: Graph, plan: Plan, memory: MemoryPlan) -> ir.Module:
    """Return the LLVM module of a graph; raise UnsupportedEquation for an equation that NumPy has to compute."""
    module = ir.Module("program")
    kernels = Kernels(module, plan, memory)
    functions: dict[CompiledKernel, ir.Function] = {}
    units: dict[CompiledKernel, int] = {}
    labels_are_checked = False
    for number, segment in enumerate(plan.segments):
        if isinstance(segment, Call):
            continue
        for kernel in segment:
            functions[kernel], units[kernel] = kernels.emit(f"kernel_{len(functions)}", kernel)
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), segment_name(number))
        builder = ir.IRBuilder(function.append_basic_block())
        if not labels_are_checked:
            check_labels(builder, graph, plan, memory)
            labels_are_checked = True
        for kernel in segment:
            builder.call(functions[kernel], [*function.args, index(0), index(units[kernel])])
            if computes_labels(kernel, plan.places, graph):
                return_if(builder, is_wrong(builder, memory))
        builder.ret_void()
    if len(plan.segments) == 1 and functions:
        emit_scan(module, "scan", [], lambda builder: return_if(builder, is_wrong(builder, memory)), emit_one(memory))
        if any(is_shared(kernel, units[kernel], plan) for kernel in functions):
            emit_shared_scan(module, graph, plan, memory, functions, units)
    return module


def emit_kernels(plan: Plan, memory: MemoryPlan) -> tuple[ir.Module, dict[str, int]]:
    """Return a module for timing, with every kernel callable on its own, and the number of units of each by name.

    Its function `nothing` does nothing, which measures the overhead of a call.
    """
    module = ir.Module("kernels")
    kernels = Kernels(module, plan, memory)
    units = {}
    for i, kernel in enumerate(plan.kernels):
        if not isinstance(kernel, Call):
            function, units[f"kernel_{i}"] = kernels.emit(f"kernel_{i}", kernel)
            function.linkage = "external"
    nothing = ir.Function(module, KERNEL, "nothing")
    ir.IRBuilder(nothing.append_basic_block()).ret_void()
    return module, units


SCAN = [POINTER, INDEX, POINTER, POINTER, INDEX]  # table, steps, slots, strides, count


def emit_one(memory: MemoryPlan) -> Callable[..., ir.Value]:
    """Return a function that emits a single-threaded step and returns whether it found a label out of range."""

    def step(builder: ir.IRBuilder, table: ir.Value, state: None) -> ir.Value:
        builder.call(builder.module.globals[segment_name(0)], [table])
        return is_wrong(builder, memory)

    return step


def emit_scan(
    module: ir.Module,
    name: str,
    more: list[ir.Type],
    begin: Callable[[ir.IRBuilder], Any],
    step: Callable[..., ir.Value],
) -> None:
    """Emit `scan(table, steps, slots, strides, count, ...)`: a loop over steps that advances some addresses after each.

    `begin` emits an early return for when an earlier scan found a label out of range. `step`, which also gets what
    `begin` returned, emits a step and returns whether the step found one, which ends the scan.
    """
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*SCAN, *more]), name)
    table, steps, slots, strides, count, *_ = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    state = begin(builder)

    def entry(pointer: ir.Value, place: ir.Value) -> ir.Value:
        return builder.load(builder.gep(pointer, [place], source_etype=INDEX), typ=INDEX)

    def once(_: ir.Value) -> None:
        return_if(builder, step(builder, table, state))

        def move(i: ir.Value) -> None:
            address = builder.gep(table, [entry(slots, i)], source_etype=INDEX)
            builder.store(builder.add(builder.load(address, typ=INDEX), entry(strides, i)), address)

        emit_loop(builder, index(0), count, 1, move)

    emit_loop(builder, index(0), steps, 1, once)
    builder.ret_void()


# A kernel whose estimated time on one core (an underestimate) exceeds this many seconds is shared among the threads: a
# barrier takes about as long.
SECONDS_WORTH_SHARING = 3e-7
LEAST_SECONDS = 2e-7  # that a small kernel takes


def is_shared(kernel: Kernel, units: int, plan: Plan) -> bool:
    """Whether a kernel is divided among the threads."""
    return units > 1 and cost.seconds(kernel, plan) >= SECONDS_WORTH_SHARING


def emit_shared_scan(
    module: ir.Module,
    graph: Graph,
    plan: Plan,
    memory: MemoryPlan,
    functions: Mapping[CompiledKernel, ir.Function],
    units: Mapping[CompiledKernel, int],
) -> None:
    """Emit `shared_scan(..., thread, threads, meeting)`, which all threads run at the same time.

    Each has a table of its own. Large kernels are shared, small ones run on one of two threads, with a barrier before a
    kernel that touches memory that another thread may be using. How a kernel is shared changes no result: each element
    is computed by one thread.
    """
    barrier = emit_barrier(module)

    def begin(builder: ir.IRBuilder) -> Shares:
        *_, thread, threads, meeting = builder.function.args
        wrong = is_wrong(builder, memory)
        builder.call(barrier, [meeting, threads])  # no thread may set the flag again before all have read it
        return_if(builder, wrong)
        return Shares(builder, thread, threads, meeting)

    def step(builder: ir.IRBuilder, table: ir.Value, shares: Shares) -> ir.Value:
        alone: dict[int, list[CompiledKernel]] = {0: [], 1: []}  # kernels that the first and the second thread run next
        seconds = dict.fromkeys(alone, 0.0)  # estimated, that each has run alone since the last barrier
        # The kernels since then, and which thread runs each: None if all do.
        since: list[tuple[CompiledKernel, int | None]] = []

        def run_alone() -> None:
            for who, kernels in alone.items():
                if kernels:
                    with builder.if_then(builder.icmp_signed("==", shares.thread, index(who))):
                        for kernel in kernels:
                            builder.call(functions[kernel], [table, index(0), index(units[kernel])])
                    kernels.clear()

        def wait() -> None:
            run_alone()
            builder.call(barrier, [shares.memory, shares.threads])
            since.clear()
            seconds.update(dict.fromkeys(alone, 0.0))

        def return_if_wrong() -> None:
            wait()
            wrong = is_wrong(builder, memory)
            wait()  # no thread may set the flag again before all have read it
            return_if(builder, wrong)

        checked = check_labels(builder, graph, plan, memory)  # by each thread, which saves a barrier
        if not checked.isdisjoint(plan.in_place.values()):
            wait()  # this step updates them in place, but not before all threads have checked them
        for kernel, function in functions.items():
            shared = is_shared(kernel, units[kernel], plan)
            in_the_way = {who for other, who in since if memory.collide(other, kernel)}
            if in_the_way and (shared or None in in_the_way or len(in_the_way) > 1):
                wait()
                in_the_way = set()
            if shared:
                run_alone()
                shares.run(function, table, units[kernel], cost.seconds(kernel, plan))
                since.append((kernel, None))
            else:
                who = in_the_way.pop() if in_the_way else min(alone, key=seconds.__getitem__)
                assert who is not None
                alone[who].append(kernel)
                seconds[who] += LEAST_SECONDS + cost.seconds(kernel, plan)
                since.append((kernel, who))
            if computes_labels(kernel, plan.places, graph):
                return_if_wrong()
        shares.publish()
        wait()
        shares.adjust()
        return ir.Constant(ir.IntType(1), 0)

    emit_scan(module, "shared_scan", [INDEX, INDEX, POINTER], begin, step)


def emit_relay() -> ir.Module:
    """Return a module with `relay(legs, count, thread, threads, meeting)`, which calls several shared scans in turn.

    A leg is the address of a shared scan and its first five arguments; the other three are common to all.
    """
    module = ir.Module("relay")
    common = [INDEX, INDEX, POINTER]
    scan = ir.FunctionType(ir.VoidType(), [*[INDEX] * len(SCAN), *common])
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INDEX, *common]), "relay")
    legs, count, *rest = function.args
    builder = ir.IRBuilder(function.append_basic_block())

    def run(leg: ir.Value) -> None:
        first = builder.mul(leg, index(1 + len(SCAN)))
        places = [builder.gep(legs, [builder.add(first, index(i))], source_etype=INDEX) for i in range(1 + len(SCAN))]
        address, *arguments = (builder.load(place, typ=INDEX) for place in places)
        builder.call(builder.inttoptr(address, scan.as_pointer()), [*arguments, *rest])

    emit_loop(builder, index(0), count, 1, run)
    builder.ret_void()
    return module


def emit_barrier(module: ir.Module) -> ir.Function:
    """Emit `barrier(memory, threads)`, which returns when all threads have called it."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INDEX]), "barrier")
    function.linkage = "internal"
    function.attributes.add("noinline")
    memory, threads = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    arrived, meetings, looks = (
        builder.gep(memory, [index(place)], source_etype=INDEX) for place in (ARRIVED, MEETINGS, LOOKS)
    )
    patience = builder.load(looks, typ=INDEX)
    before = builder.load_atomic(meetings, "acquire", 8, typ=INDEX)
    here = builder.add(builder.atomic_rmw("add", arrived, index(1), "acq_rel"), index(1))
    with builder.if_then(builder.icmp_signed("==", here, threads)):
        # Exchanges, because llvmlite has no atomic store through an opaque pointer.
        builder.atomic_rmw("xchg", arrived, index(0), "acq_rel")
        builder.atomic_rmw("xchg", meetings, builder.add(before, index(1)), "acq_rel")
        builder.ret_void()
    waiting, yielding, again, done = (function.append_basic_block() for _ in range(4))
    start = builder.block
    builder.branch(waiting)
    builder.position_at_end(waiting)
    spins = builder.phi(INDEX)
    spins.add_incoming(index(0), start)
    now = builder.load_atomic(meetings, "acquire", 8, typ=INDEX)
    pause(builder)
    builder.cbranch(builder.icmp_signed("!=", now, before), done, again)
    builder.position_at_end(again)
    more = builder.add(spins, index(1))
    spins.add_incoming(more, again)
    builder.cbranch(builder.icmp_signed("<", more, patience), waiting, yielding)
    builder.position_at_end(yielding)
    if hasattr(os, "sched_yield"):
        give_way = ir.Function(module, ir.FunctionType(ir.IntType(32), []), "sched_yield")
        builder.call(give_way, [])
    spins.add_incoming(more, yielding)
    builder.branch(waiting)
    builder.position_at_end(done)
    builder.ret_void()
    return function


def is_wrong(builder: ir.IRBuilder, memory: MemoryPlan) -> ir.Value:
    """Return whether the status flag is set: a label was out of range."""
    status = builder.load(slot_of(builder, builder.function.args[0], memory.status_slot), typ=INDEX)
    return builder.icmp_signed("!=", status, index(0))


def return_if(builder: ir.IRBuilder, condition: ir.Value) -> None:
    """Emit a return from the function if a condition holds."""
    with builder.if_then(condition, likely=False):
        builder.ret_void()


def check_labels(builder: ir.IRBuilder, graph: Graph, plan: Plan, memory: MemoryPlan) -> set[Symbol]:
    """Emit a check of the labels and row indices among the inputs, and return the inputs that it checks.

    If one is out of range, the function sets the status flag and returns, before anything has changed.
    """
    table = builder.function.args[0]
    found: list[tuple[Symbol, int, int]] = []
    for equation, numbers in checked_first(graph, plan.places):
        if equation.op.name == "one_hot":
            found.append((numbers, 0, equation.attributes["classes"]))
        else:
            rows = equation.inputs[0].shape[0]  # type: ignore[union-attr]
            found.append((numbers, -rows, rows))
    if not found:
        return set()
    with builder.goto_entry_block():
        flag = builder.alloca(INDEX)
    builder.store(index(0), flag)
    for numbers, low, high in found:
        base, layout = plan.places[numbers]
        lies = Memory(slot_of(builder, table, memory.slots[base]), layout, numbers.dtype)
        Emitter(builder, Group(numbers.shape), {numbers: lies}.__getitem__, flag).check_range(numbers, low, high)
    wrong = builder.load(flag, typ=INDEX)
    with builder.if_then(builder.icmp_signed("!=", wrong, index(0)), likely=False):
        builder.store(wrong, slot_of(builder, table, memory.status_slot))
        builder.ret_void()
    return {plan.places[numbers][0] for numbers, _, _ in found}


def slot_of(builder: ir.IRBuilder, table: ir.Value, slot: int) -> ir.Value:
    """Return the address in a slot of the table."""
    return builder.load(builder.gep(table, [index(slot)], source_etype=POINTER), typ=POINTER)


KERNEL = ir.FunctionType(ir.VoidType(), [POINTER, INDEX, INDEX])  # table, begin, end


@dataclass
class KernelCode:
    """The code of a kernel: a function of a table of its own, and the numbers of the arrays in that table."""

    function: ir.Function
    arrays: list[int]
    units: int


class Kernels:
    """Emits kernels as functions of the table of addresses and a range of units.

    Layers of equal size give kernels that differ only in the arrays they work on. Those share their code, which has a
    table of its own, filled from the program's before each call.
    """

    def __init__(self, module: ir.Module, plan: Plan, memory: MemoryPlan) -> None:
        self.module, self.plan, self.memory = module, plan, memory
        self.codes: dict[Hashable, KernelCode] = {}  # by the keys of kernels

    def emit(self, name: str, kernel: CompiledKernel) -> tuple[ir.Function, int]:
        """Emit a kernel; return its function and its number of units."""
        key, arrays = self.key(kernel)
        if key not in self.codes:
            self.codes[key] = self.code(f"{name}_code", kernel, arrays)
        code = self.codes[key]
        bases = list(arrays)
        slots = [self.memory.status_slot, *(self.memory.slots[bases[number]] for number in code.arrays)]
        function = ir.Function(self.module, KERNEL, name)
        function.linkage = "internal"
        builder = ir.IRBuilder(function.append_basic_block())
        table, begin, end = function.args
        own = builder.alloca(POINTER, len(slots))
        for i, slot in enumerate(slots):
            builder.store(slot_of(builder, table, slot), builder.gep(own, [index(i)], source_etype=POINTER))
        with subnormals_as_zero(builder) if takes_subnormals_as_zero(kernel) else contextlib.nullcontext():
            builder.call(code.function, [own, begin, end])
        builder.ret_void()
        return function, code.units

    def key(self, kernel: CompiledKernel) -> tuple[Hashable, dict[Symbol, int]]:
        """Return the key of a kernel, which is all that its code depends on, and the numbers of its arrays."""
        equations = equations_of(kernel)
        symbols = dict.fromkeys(x for e in equations for x in (*e.inputs, *e.outputs) if isinstance(x, Symbol))
        labels = {symbol: f"%{i}" for i, symbol in enumerate(symbols)}  # no number prints like this
        arrays: dict[Symbol, int] = {}
        kinds: list[Hashable] = []
        for symbol in symbols:
            level = kernel.levels.get(symbol) if isinstance(kernel, Group) else None
            place: Hashable = None
            if symbol in self.plan.places:
                base, layout = self.plan.places[symbol]
                place = arrays.setdefault(base, len(arrays)), layout
            kinds.append((describe(symbol), level, symbol in self.plan.stored, place))
        calls = [(id(e.op), describe_call(e, labels), *(labels[symbol] for symbol in e.outputs)) for e in equations]
        shape = (kernel.shape, kernel.leader is None) if isinstance(kernel, Group) else None
        return (type(kernel), shape, tuple(calls), tuple(kinds)), arrays

    def code(self, name: str, kernel: CompiledKernel, arrays: Mapping[Symbol, int]) -> KernelCode:
        """Emit the code of a kernel."""
        function = ir.Function(self.module, KERNEL, name)
        function.linkage = "internal"
        builder = ir.IRBuilder(function.append_basic_block())
        table, begin, end = function.args
        pointers: dict[int, ir.Value] = {}  # by number of the array

        def memory_of(symbol: Symbol) -> Memory:
            base, layout = self.plan.places[symbol]
            number = arrays[base]
            if number not in pointers:
                with builder.goto_entry_block():
                    pointers[number] = slot_of(builder, table, 1 + len(pointers))
            return Memory(pointers[number], layout, symbol.dtype)

        status = slot_of(builder, table, 0)
        units = 1
        if isinstance(kernel, Straight):
            StraightLine(builder, kernel, memory_of, status).emit(self.plan.stored)
        else:
            # Both a segment and the shared scan call it; inlined into each, it would take twice as long to compile.
            function.attributes.add("noinline")
            if isinstance(kernel, Copies):
                emit_copies(builder, kernel, memory_of, status)
            else:
                emitter = Emitter(builder, kernel, memory_of, status)
                stored = [s for s in self.plan.stored if s in kernel.levels]
                write = Loops if kernel.leader is None else Product
                work: Loops | Product = write(emitter, stored, lanes_of(kernel))
                work.emit(Share(begin, end))
                units = work.units
        builder.ret_void()
        return KernelCode(function, list(pointers), units)


def emit_copies(builder: ir.IRBuilder, kernel: Copies, memory_of: Callable[[Symbol], Memory], status: ir.Value) -> None:
    """Emit the copies of the pieces into the result."""
    (result,) = kernel.equation.outputs
    target = memory_of(result)
    if kernel.equation.op.name != "concat":
        number = kernel.equation.attributes.get("value", 0)
        fill = ir.Constant(scalar_type(result.dtype), np.asarray(number).astype(result.dtype).item())
        whole = Element(builder, fill, result.dtype)
        emitter = Emitter(builder, Group((result.size,)), memory_of, status)
        emitter.loop(index(0), index(result.size), 1, lambda place: emitter.store_row(result, whole, place))
    for symbol, layout in kernel.pieces():
        emitter = Emitter(builder, Group(symbol.shape), memory_of, status)
        emitter.copy(memory_of(symbol), Memory(target.pointer, layout, result.dtype))
