"""Machine code for this CPU, made by LLVM as it is needed. Nothing outside of this folder imports llvmlite."""
