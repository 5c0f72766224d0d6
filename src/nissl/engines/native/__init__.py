"""The native engine: LLVM compiles graphs for this CPU, just in time. Nothing outside this folder imports llvmlite."""
