"""The interpreter: runs a Graph equation by equation with the ops' own NumPy rules. It defines what a graph means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.engines.eager import arrays_of, rule
from nissl.graph.graph import Graph, Symbol

Array = npt.NDArray[Any]


def interpret(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """Return the outputs of `graph` for these inputs."""
    return interpreter(graph)(inputs)


def interpreter(graph: Graph) -> Callable[[Sequence[Array]], list[Array]]:
    """Return a function that runs `graph`: the order of arrays in a table is worked out once, here.

    An array that no later equation uses is let go at once, so that memory is what eager execution would take.
    """
    numbers = [x for equation in graph.equations for x in equation.inputs if not isinstance(x, Symbol)]
    made = [symbol for equation in graph.equations for symbol in equation.outputs]
    symbols = [*graph.inputs, *graph.constants, *made]
    slots = {symbol: slot for slot, symbol in enumerate(symbols)}
    number_slots = range(len(symbols), len(symbols) + len(numbers))
    next_number = iter(number_slots)
    filled = [*graph.constants.values(), *[None] * len(made), *numbers]
    steps = []
    for equation in graph.equations:
        operands = [slots[x] if isinstance(x, Symbol) else next(next_number) for x in equation.inputs]
        targets = [slots[symbol] for symbol in equation.outputs]
        finished: list[int] = []
        steps.append((equation.op, rule(equation.op, equation.attributes), operands, targets, finished))
    outputs = [slots[symbol] for symbol in graph.outputs]
    needed = {*outputs, *number_slots}  # numbers take no memory
    for _, _, operands, targets, finished in reversed(steps):
        finished += {*operands, *targets} - needed
        needed.update(operands)

    def run(inputs: Sequence[Array]) -> list[Array]:
        table: list[Any] = [*inputs, *filled]
        for op, compute, operands, targets, finished in steps:
            value = compute(*[table[slot] for slot in operands])
            if type(value) is np.ndarray:
                table[targets[0]] = value
            else:
                value = arrays_of(op, value)
                for target, array in zip(targets, value if op.outputs > 1 else (value,), strict=True):
                    table[target] = array
            for slot in finished:
                table[slot] = None
        return [table[slot] for slot in outputs]

    return run
