"""Passes: functions from a Graph to a Graph that means the same and is easier to run.

Each does one thing, so that each can be tested alone: interpret the graph before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from nissl.engines.eager import evaluate
from nissl.graph.graph import Equation, Graph, Operand, Symbol, result_type
from nissl.tensor import OPS

# The largest result that is worked out ahead; a larger one would cost memory that the op itself does not.
LARGEST_FOLDED = 4096


def without_dead_code(graph: Graph) -> Graph:
    """Dead-code elimination: leave out what no output depends on."""
    needed = set(graph.outputs)
    kept = []
    for equation in reversed(graph.equations):
        if not needed.isdisjoint(equation.outputs):
            kept.append(equation)
            needed.update(x for x in equation.inputs if isinstance(x, Symbol))
    constants = {symbol: array for symbol, array in graph.constants.items() if symbol in needed}
    return replace(graph, constants=constants, equations=tuple(reversed(kept)))


def with_common_results_shared(graph: Graph) -> Graph:
    """Common-subexpression elimination: compute once what several equations say alike."""
    same: dict[Symbol, Symbol] = {}
    found: dict[Any, tuple[Symbol, ...]] = {}
    kept = []
    for equation in graph.equations:
        inputs = _substituted(equation.inputs, same)
        operands = tuple(x if isinstance(x, Symbol) else (type(x), repr(x)) for x in inputs)
        key = (equation.op.name, operands, repr(sorted(equation.attributes.items(), key=lambda item: item[0])))
        if key in found:
            same.update(zip(equation.outputs, found[key], strict=True))
        else:
            found[key] = equation.outputs
            kept.append(replace(equation, inputs=inputs))
    return replace(graph, equations=tuple(kept), outputs=_substituted(graph.outputs, same))


def with_constants_folded(graph: Graph) -> Graph:
    """Constant folding: work out ahead what depends on nothing but constants, as far as it is small."""
    constants = dict(graph.constants)
    kept = []
    for equation in graph.equations:
        symbols = [x for x in equation.inputs if isinstance(x, Symbol)]
        size = sum(symbol.size for symbol in equation.outputs)
        if equation.op.kind == "random" or size > LARGEST_FOLDED or not all(x in constants for x in symbols):
            kept.append(equation)
            continue
        payloads = [constants[x] if isinstance(x, Symbol) else x for x in equation.inputs]
        with np.errstate(all="ignore"):
            value = evaluate(equation.op, payloads, equation.attributes)
        constants.update(zip(equation.outputs, value if equation.op.outputs > 1 else (value,), strict=True))
    return replace(graph, constants=constants, equations=tuple(kept))


def without_idle_equations(graph: Graph) -> Graph:
    """Identity elimination: leave out what only hands its input on, also movements that move nothing."""
    same: dict[Symbol, Symbol] = {}
    kept = []
    for equation in graph.equations:
        inputs = _substituted(equation.inputs, same)
        if _is_idle(equation, inputs):
            same[equation.outputs[0]] = inputs[0]
        else:
            kept.append(replace(equation, inputs=inputs))
    return replace(graph, equations=tuple(kept), outputs=_substituted(graph.outputs, same))


def _is_idle(equation: Equation, inputs: tuple[Operand, ...]) -> bool:
    if not equation.op.passes_through or not isinstance(inputs[0], Symbol):
        return False
    return inputs[0].shape == equation.outputs[0].shape and inputs[0].dtype == equation.outputs[0].dtype


def with_fills_as_broadcasts(graph: Graph) -> Graph:
    """Say a Tensor of one value as one number that is repeated, which takes no memory."""
    kept: list[Equation] = []
    for equation in graph.equations:
        (result,) = equation.outputs[:1]
        if equation.op.name == "full" and result.shape:
            number = Symbol((), result.dtype)
            kept.append(replace(equation, attributes={**equation.attributes, "shape": ()}, outputs=(number,)))
            kept.append(replace(equation, op=OPS["broadcast_to"], inputs=(number,), attributes={"shape": result.shape}))
        else:
            kept.append(equation)
    return replace(graph, equations=tuple(kept))


def with_softmax_spelled_out(graph: Graph) -> Graph:
    """Decomposition: write log_softmax as the ops that it consists of, which can be fused with what is around them."""
    kept: list[Equation] = []
    for equation in graph.equations:
        if equation.op.name == "log_softmax" and equation.outputs[0].size:
            _spell_log_softmax(equation, kept)
        else:
            kept.append(equation)
    return replace(graph, equations=tuple(kept))


def _spell_log_softmax(equation: Equation, kept: list[Equation]) -> None:
    def add(name: str, *inputs: Operand, result: Symbol | None = None, **attributes: Any) -> Symbol:
        op = OPS[name]
        result = result or Symbol(*result_type(op, inputs, attributes))
        kept.append(Equation(op, inputs, attributes, (result,), equation.scope, equation.source))
        return result

    (x,) = equation.inputs
    over: dict[str, Any] = {"axes": (equation.attributes["axis"],), "keepdims": True}
    shifted = add("sub", x, add("max", x, **over))
    total = add("sum", add("exp", shifted), **over)
    add("sub", shifted, add("log", total), result=equation.outputs[0])


def _substituted(operands: Iterable[Any], same: dict[Symbol, Symbol]) -> tuple[Any, ...]:
    return tuple(same.get(x, x) if isinstance(x, Symbol) else x for x in operands)


PASSES: tuple[Callable[[Graph], Graph], ...] = (
    with_fills_as_broadcasts,
    without_idle_equations,
    with_constants_folded,
    with_common_results_shared,
    with_softmax_spelled_out,
    with_common_results_shared,
    without_dead_code,
)


def simplified(graph: Graph) -> Graph:
    """Return the graph after all passes."""
    for each in PASSES:
        graph = each(graph)
    return graph
