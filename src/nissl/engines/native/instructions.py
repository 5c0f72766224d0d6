"""What LLVM has no portable instruction for: the hint of a loop that waits, and the mode of a CPU's arithmetic."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator

from llvmlite import ir

X86, ARM = ("x86_64", "amd64"), ("arm64", "aarch64")
WORD = ir.IntType(32)
# The bits of x86's control register by which subnormal operands count as 0, and subnormal results become 0.
SUBNORMALS_ARE_ZERO = 1 << 6 | 1 << 15


def pause(builder: ir.IRBuilder) -> None:
    """Emit the CPU's hint for spin loops."""
    machine = platform.machine().lower()
    if machine in X86:
        _call(builder, "llvm.x86.sse2.pause")
    elif machine in ARM:
        _call(builder, "llvm.aarch64.isb", ir.Constant(WORD, 15))  # `yield` does nothing on most of them


@contextlib.contextmanager
def subnormals_as_zero(builder: ir.IRBuilder) -> Iterator[None]:
    """Have the CPU take subnormal numbers as 0 in the functions that are called inside; only x86 gains by it.

    Not in other code inside: LLVM moves arithmetic as if the mode were always the same.
    """
    if platform.machine().lower() not in X86:
        yield
        return
    usual, changed = builder.alloca(WORD), builder.alloca(WORD)
    _call(builder, "llvm.x86.sse.stmxcsr", usual)
    builder.store(builder.or_(builder.load(usual, typ=WORD), ir.Constant(WORD, SUBNORMALS_ARE_ZERO)), changed)
    _call(builder, "llvm.x86.sse.ldmxcsr", changed)
    yield
    _call(builder, "llvm.x86.sse.ldmxcsr", usual)


def _call(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(builder.module.declare_intrinsic(name, fnty=kind), arguments)
