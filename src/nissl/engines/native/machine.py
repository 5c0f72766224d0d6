"""The machine: what this CPU can do, and how a module of LLVM's language becomes functions in memory."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from llvmlite import binding as llvm
from llvmlite import ir


@functools.cache
def target_machine() -> llvm.TargetMachine:
    """Return LLVM's idea of this CPU."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    features = llvm.get_host_cpu_features().flatten()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3)


@functools.cache
def vector_bytes() -> int:
    """Return the size of this CPU's vector registers."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx") else 16


class Code:
    """A function in machine code; it stays in memory as long as this object."""

    def __init__(self, module: ir.Module, name: str, argument_types: tuple[Any, ...]) -> None:
        machine = target_machine()
        parsed = llvm.parse_assembly(str(module))
        parsed.verify()
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
        passes.getModulePassManager().run(parsed, passes)
        self.engine = llvm.create_mcjit_compiler(parsed, machine)
        self.engine.finalize_object()
        self.call = ctypes.CFUNCTYPE(None, *argument_types)(self.engine.get_function_address(name))
