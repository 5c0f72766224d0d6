"""The cost of a kernel: operations, bytes, and an estimate of its time from both."""

from __future__ import annotations

from nissl.engines.native.kernels import Group, Kernel, equations_of, is_gather
from nissl.engines.native.plan import Plan
from nissl.engines.native.rules import tally
from nissl.graph.graph import Symbol


def flops(kernel: Kernel) -> int:
    """Return the number of arithmetic operations of a kernel: a multiply-add counts as two, a function as one."""
    count = 0
    for equation in equations_of(kernel):
        size, first = equation.outputs[0].size, equation.inputs[:1]
        if equation.op.name == "matmul":
            count += 2 * size * first[0].shape[-1]  # type: ignore[union-attr]
        elif equation.op.kind == "elementwise":
            count += size * tally(equation).operations
        elif equation.op.kind == "reduce":
            count += first[0].size  # type: ignore[union-attr]
    return count


def traffic(kernel: Kernel, plan: Plan) -> int:
    """Return the number of bytes that a kernel reads and writes, counting each element once."""
    read = {plan.places[x][0]: x for x in kernel.inputs}
    for equation in filter(is_gather, equations_of(kernel)):
        source = equation.inputs[0]
        assert isinstance(source, Symbol)
        read[plan.places[source][0]] = equation.outputs[0]  # only the rows that are taken
    size = sum(min(x.size, base.size) * x.dtype.itemsize for base, x in read.items())
    made = kernel.levels if isinstance(kernel, Group) else [s for e in equations_of(kernel) for s in e.outputs]
    return size + sum(s.size * s.dtype.itemsize for s in made if s in plan.stored)


def seconds(kernel: Kernel, plan: Plan) -> float:
    """Return the estimated time of a kernel on one core; good enough to decide what is worth sharing."""
    return flops(kernel) / 100e9 + traffic(kernel, plan) / 40e9
