"""What nissl promises in numbers, measured: `make bench`, or `python -m benchmarks [NAME ...]`."""
