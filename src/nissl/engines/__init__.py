"""The engines: base (what an engine is), eager (NumPy, the reference)."""
