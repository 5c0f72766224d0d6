"""Assembly: the functions of a program, from its kernels to the loop over steps.

A kernel is a function of the table of addresses. A segment calls the kernels between two of NumPy's equations; a
program without such equations has one segment, and a function that runs it step after step.
"""

from __future__ import annotations

from llvmlite import ir

from nissl.engines.native.emitter import INDEX, POINTER, Emitter, Memory, emit_loop, index
from nissl.engines.native.loops import Loops
from nissl.engines.native.machine import vector_bytes
from nissl.engines.native.memory import MemoryPlan
from nissl.engines.native.plan import Call, Group, Plan, is_gather
from nissl.engines.native.products import Product
from nissl.graph.graph import Graph, Symbol

Segment = str | Call


def lanes_of(group: Group) -> int:
    """Return how many elements a vector holds: as many as registers have room for of the floats that there are."""
    symbols = [*group.levels, *group.inputs]
    sizes = [s.dtype.itemsize for s in symbols if s.dtype.kind == "f"] or [8]
    return max(vector_bytes() // min(sizes), 1)


def emit(graph: Graph, plan: Plan, memory: MemoryPlan) -> tuple[ir.Module, list[Segment]]:
    """Return the module, and what is run in order: the names of functions in it, and NumPy's equations."""
    module = ir.Module("program")
    segments: list[Segment] = []
    waiting: list[ir.Function] = []

    def finish() -> None:
        if not waiting:
            return
        name = f"segment_{len(segments)}"
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), name)
        builder = ir.IRBuilder(function.append_basic_block())
        if not segments:
            check_labels(builder, graph, plan, memory)
        for part in waiting:
            builder.call(part, function.args)
        builder.ret_void()
        segments.append(name)
        waiting.clear()

    for number, kernel in enumerate(plan.kernels):
        if isinstance(kernel, Group):
            waiting.append(emit_group(module, f"kernel_{number}", kernel, plan, memory))
        else:
            finish()
            segments.append(kernel)
    finish()
    if len(segments) == 1 and isinstance(segments[0], str):
        emit_scan(module, segments[0], memory)
    return module, segments


def emit_kernels(plan: Plan, memory: MemoryPlan) -> tuple[ir.Module, dict[str, Group]]:
    """Return a module whose kernels are called one by one, to be timed, and `nothing`, which does nothing."""
    module = ir.Module("kernels")
    groups = {f"kernel_{i}": kernel for i, kernel in enumerate(plan.kernels) if isinstance(kernel, Group)}
    for name, group in groups.items():
        emit_group(module, name, group, plan, memory).linkage = "external"
    nothing = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), "nothing")
    ir.IRBuilder(nothing.append_basic_block()).ret_void()
    return module, groups


def emit_scan(module: ir.Module, step: str, memory: MemoryPlan) -> None:
    """Write down `scan(table, steps, slots, strides, count)`: step after step, and some addresses move on after each.

    It ends early when a step finds a label out of range.
    """
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INDEX, POINTER, POINTER, INDEX]), "scan")
    table, steps, slots, strides, count = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    status = builder.load(builder.gep(table, [index(memory.status_slot)], source_etype=POINTER), typ=POINTER)

    def entry(pointer: ir.Value, place: ir.Value) -> ir.Value:
        return builder.load(builder.gep(pointer, [place], source_etype=INDEX), typ=INDEX)

    def once(_: ir.Value) -> None:
        builder.call(module.globals[step], [table])
        with builder.if_then(builder.icmp_signed("!=", builder.load(status, typ=INDEX), index(0)), likely=False):
            builder.ret_void()

        def move(i: ir.Value) -> None:
            address = builder.gep(table, [entry(slots, i)], source_etype=INDEX)
            builder.store(builder.add(builder.load(address, typ=INDEX), entry(strides, i)), address)

        emit_loop(builder, index(0), count, 1, move)

    emit_loop(builder, index(0), steps, 1, once)
    builder.ret_void()


def check_labels(builder: ir.IRBuilder, graph: Graph, plan: Plan, memory: MemoryPlan) -> None:
    """Look at the labels among the inputs, and return from the function if one is out of range: nothing has changed."""
    (table,) = builder.function.args

    def pointer(slot: int) -> ir.Value:
        return builder.load(builder.gep(table, [index(slot)], source_etype=POINTER), typ=POINTER)

    for equation in graph.equations:
        if equation.op.name == "one_hot":
            labels, low, high = equation.inputs[0], 0, equation.attributes["classes"]
        elif is_gather(equation):
            source, labels = equation.inputs
            high = source.shape[0]  # type: ignore[union-attr]
            low = -high
        else:
            continue
        assert isinstance(labels, Symbol)
        if plan.places[labels][0] not in graph.inputs or not labels.size:
            continue
        base, layout = plan.places[labels]
        found = Memory(pointer(memory.slots[base]), layout, labels.dtype)
        status = pointer(memory.status_slot)
        emitter = Emitter(builder, Group(labels.shape), {labels: found}.__getitem__, status)
        emitter.check_range(labels, low, high)
        with builder.if_then(builder.icmp_signed("!=", builder.load(status, typ=INDEX), index(0)), likely=False):
            builder.ret_void()


def emit_group(module: ir.Module, name: str, group: Group, plan: Plan, memory: MemoryPlan) -> ir.Function:
    """Write down the pass of a Group as a function of the table of addresses."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), name)
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    (table,) = function.args

    def pointer(slot: int) -> ir.Value:
        with builder.goto_entry_block():
            return builder.load(builder.gep(table, [index(slot)], source_etype=POINTER), typ=POINTER)

    pointers: dict[Symbol, ir.Value] = {}

    def memory_of(symbol: Symbol) -> Memory:
        base, layout = plan.places[symbol]
        if base not in pointers:
            pointers[base] = pointer(memory.slots[base])
        return Memory(pointers[base], layout, symbol.dtype)

    emitter = Emitter(builder, group, memory_of, pointer(memory.status_slot))
    stored = [s for s in plan.stored if s in group.levels]
    if group.leader is None:
        Loops(emitter, stored, lanes_of(group)).emit()
    else:
        slot = memory.packed_slot(group)
        Product(emitter, stored, lanes_of(group), None if slot is None else pointer(slot)).emit()
    builder.ret_void()
    return function
