# Two commands for a fresh machine with Python 3.11 or later: `make train` and `make test`.
# Each sets up what it needs in .venv and does nothing twice; `make bench` has an environment of its own.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test bench clean

train: .venv/installed
	$(BIN)/nissl train

test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

bench: .venv-bench/installed
	.venv-bench/bin/python -m benchmarks

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-test: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch .venv/installed $@

# The libraries that nissl is measured beside are large, and stay out of the way of its own.
.venv-bench/installed: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --editable '.[test,bench]'
	touch $@

clean:
	rm -rf .venv .venv-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
