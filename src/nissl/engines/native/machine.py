"""The machine: this CPU's features, and the compilation of LLVM IR to functions in memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite
from llvmlite import binding as llvm

from nissl.engines.native import cache

if TYPE_CHECKING:
    from llvmlite import ir


@functools.cache
def _initialized() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


if hasattr(os, "register_at_fork"):
    # A child inherits LLVM as it is, but not the thread that is at work in it, so forking waits until none is.
    _llvm = getattr(llvm.ffi.lib, "_lock", contextlib.nullcontext())  # llvmlite has no public name for it
    os.register_at_fork(before=_llvm.__enter__, after_in_parent=_llvm.__exit__, after_in_child=_llvm.__exit__)

# Where Linux tells the caches of a core, one in a folder. Virtual machines have told sizes of 0, or that of all cores;
# the sizes of blocks in products, which follow from it, must not do so out of all bounds.
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
USUAL_L2, L2_BELIEVED = 1 << 19, (1 << 16, 1 << 26)  # bytes


def target_machine() -> llvm.TargetMachine:
    """Return LLVM's target machine for this CPU: a new one, because an execution engine takes ownership of it."""
    _initialized()
    target = llvm.Target.from_default_triple()
    features = llvm.get_host_cpu_features().flatten()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3)


@functools.cache
def vector_bytes() -> int:
    """Return the size of this CPU's vector registers in bytes."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx") else 16


@functools.cache
def vector_registers() -> int:
    """Return the number of vector registers."""
    return 32 if vector_bytes() == 64 or platform.machine().lower() in ("arm64", "aarch64") else 16


@functools.cache
def second_level_cache_bytes() -> int:
    """Return the size of a core's L2 cache: as Linux tells it, or a usual one."""
    for folder in CACHES.glob("index*"):
        try:
            level, size = ((folder / name).read_text().strip() for name in ("level", "size"))
            found = 1024 * int(size.removesuffix("K"))
        except (OSError, ValueError):
            continue
        if level == "2" and L2_BELIEVED[0] <= found <= L2_BELIEVED[1]:
            return found
    return USUAL_L2


def machine_code(module: ir.Module) -> bytes:
    """Return the object code of a module, optimized for this CPU: from the cache, or compiled now."""
    text = str(module)
    return cache.kept(f"{describe_machine()}\n{text}", lambda: object_code(text))


@functools.cache
def describe_machine() -> str:
    """Return all that machine code depends on: the CPU and the compiler."""
    features = llvm.get_host_cpu_features().flatten()
    compiler = f"LLVM {llvm.llvm_version_info} llvmlite {llvmlite.__version__}"
    return f"{llvm.get_host_cpu_name()} {features} L2 {second_level_cache_bytes()} {compiler}"


def object_code(text: str) -> bytes:
    """Return the object code of a module in LLVM IR, optimized for this CPU."""
    machine = target_machine()
    parsed = llvm.parse_assembly(text)
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    # The IR is vectorized and unrolled where that pays; more of it takes longer to compile, and is no faster.
    options.loop_vectorization = options.loop_unrolling = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_object(parsed)


class Code:
    """Functions loaded from object code; they stay loaded as long as this object lives.

    `functions` has the argument types of each, by name; those that the code lacks are left out.
    """

    def __init__(self, object_code: bytes, functions: Mapping[str, tuple[Any, ...]]) -> None:
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
        self.engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(object_code))
        self.engine.finalize_object()
        self.functions = {
            name: ctypes.CFUNCTYPE(None, *arguments)(address)
            for name, arguments in functions.items()
            if (address := self.engine.get_function_address(name))
        }
