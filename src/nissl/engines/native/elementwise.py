"""Elementwise rules as machine code: one pass over memory, whatever the number of operations in the rule.

The rule is emitted twice: for vectors of this CPU's width, and for scalars, which handle the remainder. The operations
and their order are those of the rule, each rounded by IEEE 754 and none contracted, so the results equal NumPy's bit
for bit.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from nissl.engines.native.machine import Code, machine_code, vector_bytes
from nissl.engines.native.maths import Element, NativeMaths, scalar_type, splat, widened
from nissl.tensor import OPS, Op

Array = npt.NDArray[Any]

INDEX = ir.IntType(64)
POINTER = ir.PointerType()


def emit(
    value: Callable[..., Any],
    attributes: Mapping[str, Any],
    dtype: np.dtype[Any],
    scalars: Sequence[bool],
    outputs: int,
    lanes: int,
) -> ir.Module:
    """Return a module whose function `kernel(inputs..., outputs..., n)` applies a rule to n elements.

    Inputs and outputs are pointers; `scalars` says which inputs are scalars, used for all elements. An output may alias
    an input.
    """
    module = ir.Module("elementwise")
    module.triple = ""
    count = len(scalars) + outputs
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER] * count + [INDEX]), "kernel")
    inputs, targets, n = function.args[: len(scalars)], function.args[len(scalars) : -1], function.args[-1]
    element = scalar_type(dtype)
    builder = ir.IRBuilder(function.append_basic_block("start"))
    numbers = {i: builder.load(inputs[i], typ=element) for i, is_scalar in enumerate(scalars) if is_scalar}

    def loop(start: ir.Value, stop: ir.Value, step: int) -> None:
        """Emit a loop that applies the rule from `start` to `stop`, `step` elements at a time."""
        kind = widened(element, step)
        spread = {i: splat(builder, number, step) for i, number in numbers.items()}
        before = builder.block
        body, after = function.append_basic_block(), function.append_basic_block()
        builder.cbranch(builder.icmp_unsigned("<", start, stop), body, after)
        builder.position_at_end(body)
        place = builder.phi(INDEX)
        place.add_incoming(start, before)

        def at(pointer: ir.Value) -> ir.Value:
            return builder.gep(pointer, [place], source_etype=element)

        operands = [
            spread[i] if i in spread else builder.load(at(pointer), typ=kind, align=dtype.itemsize)
            for i, pointer in enumerate(inputs)
        ]
        results = value(NativeMaths, *(Element(builder, operand, dtype) for operand in operands), **attributes)
        for target, result in zip(targets, results if outputs > 1 else (results,), strict=True):
            builder.store(result.value, at(target), align=dtype.itemsize)
        following = builder.add(place, ir.Constant(INDEX, step))
        place.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_unsigned("<", following, stop), body, after)
        builder.position_at_end(after)

    whole = builder.and_(n, ir.Constant(INDEX, -lanes))
    loop(ir.Constant(INDEX, 0), whole, lanes)
    loop(whole, n, 1)
    builder.ret_void()
    return module


def one_pass(
    op: Op, payloads: Sequence[Any], attributes: Mapping[str, Any], spare: Sequence[Array | None] = ()
) -> tuple[Array, ...] | None:
    """Return the results of an elementwise op with several outputs, or None if an input does not qualify.

    Inputs must be C-contiguous arrays of one shape and dtype, or 0-d arrays of that dtype. The results are written to
    the arrays in `spare`, which may be inputs; a new array is allocated for None, a view or a read-only array.
    """
    first = payloads[0]
    addresses = []
    scalars = []
    for x in payloads:
        if type(x) is not np.ndarray or x.dtype != first.dtype or not x.flags.c_contiguous:
            return None
        if x.shape != first.shape and x.ndim > 0:
            return None
        scalars.append(x.ndim == 0)
        addresses.append(x.__array_interface__["data"][0])
    results = tuple(
        np.empty_like(first) if array is None or not array.flags.owndata or not array.flags.writeable else array
        for array in spare or [None] * op.outputs
    )
    addresses.extend(x.__array_interface__["data"][0] for x in results)
    code = kernel(op.name, tuple(attributes.items()), first.dtype, tuple(scalars))
    code.functions["kernel"](*addresses, first.size)
    return results


@functools.cache
def kernel(name: str, attributes: tuple[tuple[str, Any], ...], dtype: np.dtype[Any], scalars: tuple[bool, ...]) -> Code:
    """Return the compiled code of an op for these attributes and inputs."""
    op = OPS[name]
    lanes = vector_bytes() // dtype.itemsize
    module = emit(op.value, dict(attributes), dtype, scalars, op.outputs, lanes)
    return Code(machine_code(module), {"kernel": (*[ctypes.c_void_p] * (len(scalars) + op.outputs), ctypes.c_int64)})
