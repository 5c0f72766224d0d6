"""The interpreter: runs a Graph equation by equation with the ops' own NumPy rules. It defines what a graph means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt

from nissl.engines.eager import evaluate
from nissl.graph.graph import Graph, Symbol

Array = npt.NDArray[Any]


def interpret(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """Return the outputs of `graph` for these inputs."""
    return interpreter(graph)(inputs)


def interpreter(graph: Graph) -> Callable[[Sequence[Array]], list[Array]]:
    """Return a function that runs `graph`: the order of arrays in a table is worked out once, here.

    An array that no later equation uses is let go at once, so that memory is what eager execution would take.
    """
    symbols = [*graph.inputs, *graph.constants, *(s for equation in graph.equations for s in equation.outputs)]
    slots = {symbol: slot for slot, symbol in enumerate(symbols)}
    constants = list(graph.constants.values())
    last_use = {
        slots[x]: i for i, e in enumerate(graph.equations) for x in (*e.inputs, *e.outputs) if isinstance(x, Symbol)
    }
    kept = {slots[symbol] for symbol in graph.outputs}
    steps = []
    for i, equation in enumerate(graph.equations):
        operands = [(slots[x], None) if isinstance(x, Symbol) else (-1, x) for x in equation.inputs]
        finished = [slot for slot, last in last_use.items() if last == i and slot not in kept]
        targets = [slots[symbol] for symbol in equation.outputs]
        steps.append((equation.op, operands, equation.attributes, targets, finished))
    outputs = [slots[symbol] for symbol in graph.outputs]
    size = len(symbols)

    def run(inputs: Sequence[Array]) -> list[Array]:
        table: list[Any] = [*inputs, *constants]
        table.extend([None] * (size - len(table)))
        for op, operands, attributes, targets, finished in steps:
            payloads = [table[slot] if slot >= 0 else number for slot, number in operands]
            value = evaluate(op, payloads, attributes)
            for target, array in zip(targets, value if op.outputs > 1 else (value,), strict=True):
                table[target] = array
            for slot in finished:
                table[slot] = None
        return [table[slot] for slot in outputs]

    return run
