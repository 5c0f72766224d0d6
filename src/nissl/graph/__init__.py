"""Graphs of traced functions: the data (graph), making them (trace), running them plainly (interpret)."""
