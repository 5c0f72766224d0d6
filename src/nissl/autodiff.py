"""Reverse-mode automatic differentiation: from a result back to the inputs it was computed from.

`backward` and `grad` share one iterative traversal of the computational graph that `apply` records in Tensors. For each
result it calls the op's gradient rules, written in Tensors, for the inputs that need a gradient; undoes broadcasting;
and sums the gradients of a Tensor that was used several times. Because the rules go through `apply` themselves, a
gradient can be traced into a graph, and differentiated again.

`numerical_gradient` and `check_gradients` compute the same by finite differences, to check the rules.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.arguments import number
from nissl.engines.base import Gradient, current, recording
from nissl.errors import GradientError, OptionError, ShapeError
from nissl.ops.elementwise import identity
from nissl.ops.source import ones_like, zeros_like
from nissl.shapes import Shape, describe
from nissl.tensor import Tensor, TensorLike, apply, as_array, as_tensor, method


def no_grad() -> AbstractContextManager[None]:
    """Return a context in which results do not record how they were computed, so that no gradient flows through them.

    >>> import nissl as ns
    >>> x = ns.tensor(3.0, requires_grad=True)
    >>> with ns.no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """
    return recording(False)


def sum_to(g: Tensor, shape: Shape) -> Tensor:
    """Sum `g` over the axes along which `shape` was broadcast.

    >>> import nissl as ns
    >>> sum_to(ns.ones((2, 3)), (3,))
    tensor([2., 2., 2.])
    """
    extra = g.ndim - len(shape)
    stretched = tuple(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
    axes = (*range(extra), *stretched)
    if axes:
        g = g.sum(axis=axes, keepdims=bool(stretched))
    return g if g.shape == shape else g.reshape(shape)


def _topological_order(root: Tensor, stop: Iterable[Tensor] = ()) -> tuple[list[Tensor], list[Tensor]]:
    """Return the graph below the root: the results, in the order in which they were computed, and the leaves."""
    results: list[Tensor] = []
    leaves: list[Tensor] = []
    stops = {id(x) for x in stop}
    seen = {id(root)}
    stack = [root]
    while stack:
        tensor = stack.pop()
        if tensor.op is None or id(tensor) in stops:
            leaves.append(tensor)
            continue
        results.append(tensor)
        for x in tensor.inputs:
            if isinstance(x, Tensor) and x.requires_grad and id(x) not in seen:
                seen.add(id(x))
                stack.append(x)
    results.sort(key=operator.attrgetter("number"))
    return results, leaves


def _input_gradient(y: Tensor, position: int, x: Tensor, g: Tensor) -> Tensor | None:
    """Return the part of the gradient of input `x` that comes from `g`, that of `y`; None if the op has no rule."""
    op = y.op
    assert op is not None
    if op.variadic_gradient is not None:
        gx = op.variadic_gradient(position, g, y, *y.inputs, **y.attributes)
    else:
        rule = op.gradients[position]
        if rule is None:
            return None
        gx = rule(g, y, *y.inputs, **y.attributes)
    if gx.shape != x.shape:
        gx = sum_to(gx, x.shape)
    return gx if gx.dtype == x.dtype else gx.astype(x.dtype)


def _propagate(order: Sequence[Tensor], gradients: dict[int, Tensor]) -> Iterator[tuple[Tensor, int, Tensor]]:
    """Propagate gradients back through `order`, adding to `gradients`, which maps id(root) to the root's gradient.

    Yield, for each input of each result: the result, the input's position, and the part of the input's gradient.
    """
    for y in reversed(order):
        g = gradients.pop(id(y), None)
        if g is None:
            continue
        for position, x in enumerate(y.inputs):
            if not isinstance(x, Tensor) or not x.requires_grad:
                continue
            gx = _input_gradient(y, position, x, g)
            if gx is None:
                continue
            before = gradients.get(id(x))
            # A new sum, never an addition in place: the same Tensor may be another input's gradient.
            gradients[id(x)] = gx if before is None else before + gx
            yield y, position, gx


@dataclass(frozen=True, eq=False)
class Edge:
    """An edge of a computational graph: the value `source` is an input of the op that computed `target`.

    `gradient` is what flows back along it, None if nothing does: constants need none. It is the part of the gradient
    with respect to `source` that comes through this use; over all edges that leave `source`, the parts add up.
    """

    source: Tensor
    target: Tensor
    gradient: Tensor | None

    def __repr__(self) -> str:
        assert self.target.op is not None
        back = "" if self.gradient is None else f", gradient {describe(self.gradient)}"
        return f"Edge({describe(self.source)} -> {self.target.op.name} -> {describe(self.target)}{back})"


def gradient_flow(tensor: Tensor) -> list[Edge]:
    """Return the computational graph of a Tensor: every edge, with its value and the gradient that flows back along it.

    Edges come in the order of the computation, those into one result in the order of its inputs. This shows the
    gradients of intermediate values, which `backward` does not keep. It does not change `.grad`.

    >>> import nissl as ns
    >>> w = ns.tensor(3.0, requires_grad=True)
    >>> for edge in ns.gradient_flow(w * w + 1.0):
    ...     print(edge.target.op.name, edge.source.item(), edge.gradient)
    mul 3.0 tensor(3.)
    mul 3.0 tensor(3.)
    add 9.0 tensor(1.)
    add 1.0 None
    >>> edge
    Edge(float32[] -> add -> float32[])
    """
    _check_has_gradient("gradient_flow()", tensor)
    _check_one_element("gradient_flow()", tensor)
    order, _ = _topological_order(tensor)
    with recording(False):
        parts = {(id(y), i): gx for y, i, gx in _propagate(order, {id(tensor): ones_like(tensor)})}
    return [Edge(as_tensor(x), y, parts.get((id(y), i))) for y in order for i, x in enumerate(y.inputs)]


@method
def backward(tensor: Tensor, gradient: TensorLike | None = None) -> None:
    """Add the gradient of `tensor` to `.grad` of every leaf that it was computed from and that requires one.

    A Tensor of one element needs no `gradient`; for others it is the gradient with respect to them, of their shape.
    Gradients accumulate over several calls until an optimizer has used them; then the next call replaces them.

    >>> import nissl as ns
    >>> w = ns.tensor([1.0, 2.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> w.grad
    tensor([2., 4.])
    """
    _check_has_gradient("backward()", tensor)
    if gradient is None:
        _check_one_element("backward()", tensor, ", or pass the gradient with respect to it: backward(gradient)")
        seed = ones_like(tensor)
    else:
        seed = as_tensor(gradient, tensor.dtype)
        if seed.shape != tensor.shape:
            raise ShapeError(f"backward() of a Tensor of shape {tensor.shape} got a gradient of shape {seed.shape}")
    order, leaves = _topological_order(tensor)
    gradients = {id(tensor): seed}
    with recording(False):
        for _ in _propagate(order, gradients):
            pass
        for leaf in leaves:
            g = gradients.get(id(leaf))
            if g is None:
                continue
            if leaf.dtype.kind != "f":
                raise GradientError(
                    f"a Tensor of {leaf.dtype} requires a gradient, which needs floats; use astype first"
                )
            waiting = current.engine.gradient(leaf)
            total = g if waiting is None or waiting.used or waiting.value is None else waiting.value + g
            current.engine.set_gradient(leaf, Gradient(total))


def _check_has_gradient(caller: str, tensor: Tensor) -> None:
    if not tensor.requires_grad:
        raise GradientError(
            f"{caller} was called on a Tensor that does not depend on any Tensor with requires_grad=True "
            "(or was made under no_grad)"
        )


def _check_one_element(caller: str, tensor: Tensor, otherwise: str = "") -> None:
    if tensor.size != 1:
        raise GradientError(
            f"{caller} needs a Tensor of one element, got shape {tensor.shape}; reduce it first, for example with "
            f".sum() or .mean(){otherwise}"
        )


def value_and_grad(f: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> Callable[..., tuple[Tensor, Any]]:
    """Return a function that returns `f`'s value and its gradient with respect to the arguments `argnums`.

    >>> import nissl as ns
    >>> ns.value_and_grad(lambda x: x * x)(3.0)
    (tensor(9.), tensor(6.))
    """
    _check_function("grad", f)
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(f)
    def value_and_gradient(*arguments: Any, **keywords: Any) -> tuple[Tensor, Any]:
        if any(not -len(arguments) <= p < len(arguments) for p in positions):
            raise OptionError(f"grad with respect to argument {argnums} of a call with {len(arguments)} arguments")
        given = list(arguments)
        variables = []
        with recording(True):
            for p in positions:
                origin = as_tensor(given[p])
                if origin.dtype.kind != "f":
                    raise GradientError(f"grad: argument {p} holds {origin.dtype}; a gradient needs floats")
                variable = apply(identity, origin)  # stays connected to `origin`, for gradients of gradients
                variable.requires_grad = True
                given[p] = variable
                variables.append(variable)
            value = f(*given, **keywords)
            gradients, differentiable = _gradients_of(value, variables)
        if not differentiable:
            value = value.detach()
        return value, gradients[0] if isinstance(argnums, int) else tuple(gradients)

    return value_and_gradient


def _check_function(caller: str, f: Any) -> None:
    if not callable(f):
        raise OptionError(
            f"{caller} takes a function first, as in ns.grad(f)(x); got {type(f).__name__}. A Tensor has "
            "loss.backward(), and then x.grad"
        )


def _gradients_of(value: Any, variables: Sequence[Tensor]) -> tuple[list[Tensor], bool]:
    """Return the gradients, and whether they can be differentiated with respect to anything but the variables."""
    if not isinstance(value, Tensor) or value.size != 1:
        got = f"a Tensor of shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
        raise GradientError(f"grad needs a function that returns a Tensor of one element; it returned {got}")
    order, leaves = _topological_order(value, stop=variables)
    gradients: dict[int, Tensor] = {id(value): ones_like(value)}
    others = any(all(leaf is not v for v in variables) for leaf in leaves) or any(v.op is not None for v in variables)
    with recording(others):
        for _ in _propagate(order, gradients):
            pass
    return [gradients.get(id(v), zeros_like(v)) for v in variables], others


def grad(f: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Return a function that returns the gradient of `f`, which must return a Tensor of one element.

    It nests: `ns.grad(ns.grad(f))` is the second derivative.

    >>> import nissl as ns
    >>> ns.grad(ns.grad(lambda x: x**3))(2.0)
    tensor(12.)
    """
    both = value_and_grad(f, argnums)

    @functools.wraps(f)
    def gradient(*arguments: Any, **keywords: Any) -> Any:
        return both(*arguments, **keywords)[1]

    return gradient


def numerical_gradient(
    f: Callable[[Any], Any], x: Tensor | npt.NDArray[Any] | float | Sequence[Any], h: float = 1e-4
) -> npt.NDArray[Any]:
    """Return (f(x + h eᵢ) - f(x - h eᵢ)) / 2h for every element i of `x`, as a float64 array of its shape.

    `f` is called with a Tensor if `x` is one, else with an array. Arrays and Tensors that `f` reads elsewhere, such as
    the weights of a layer, work too if they are passed as `x`: the elements are changed in place one by one, and
    restored before this returns, also if `f` raises. Each difference is divided by the actual step, which in float32
    differs from 2h. Raises OptionError if h is so small beside an element that adding it changes nothing.

    >>> numerical_gradient(lambda x: (x**2).sum(), np.array([3.0, 4.0])).round(6)
    array([6., 8.])
    """
    _check_function("numerical_gradient", f)
    number("the step h of numerical_gradient", h, above=0)
    if isinstance(x, Tensor):
        return _tensor_differences(f, x, h)
    values = x if isinstance(x, np.ndarray) else np.asarray(x, dtype=np.float64)
    if values.dtype.kind != "f":
        raise OptionError(f"numerical_gradient needs floats, to which a small step can be added; got {values.dtype}")
    result = np.zeros(values.shape)
    for place in np.ndindex(values.shape):
        before = values[place]
        above, below = values.dtype.type(before + h), values.dtype.type(before - h)
        if above == below:
            raise OptionError(
                f"numerical_gradient got a step h = {h:g}, which vanishes beside the element {before:g} "
                f"in {values.dtype}; take a larger one, such as 1e-4"
            )
        try:
            values[place] = above
            f_above = _number(f(values))
            values[place] = below
            f_below = _number(f(values))
        finally:
            values[place] = before
        result[place] = (f_above - f_below) / (float(above) - float(below))
    return result


def _tensor_differences(f: Callable[[Tensor], Any], x: Tensor, h: float) -> npt.NDArray[Any]:
    """Return `numerical_gradient` of a Tensor, by replacing its values temporarily."""
    before = x._array()

    def at(values: npt.NDArray[Any]) -> Any:
        x.payload = values.copy()
        return f(x)

    try:
        with recording(False):
            return numerical_gradient(at, before.copy(), h)
    finally:
        x.payload = before


def _number(value: Any) -> float:
    if np.size(value) != 1:
        raise GradientError(f"numerical_gradient needs a function that returns one number, got shape {np.shape(value)}")
    return float(np.asarray(value).reshape(()))


def check_gradients(
    f: Callable[..., Tensor], *inputs: TensorLike, tolerance: float = 1e-6, rng: np.random.Generator | None = None
) -> None:
    """Compare the gradients of `f` by backpropagation with central differences, in float64; raise where they differ.

    A result of several elements is reduced to a sum with fixed random weights, so that no error cancels out. The step
    for an element x is ε^⅓ · max(1, |x|), and the difference may be at most `tolerance · max(1, |either|)`.

    Raises GradientError that names the input, the element and both numbers.

    >>> import nissl as ns
    >>> ns.check_gradients(lambda x, y: x * ns.sin(y), [1.0, 2.0], [0.5, 3.0])
    """
    _check_function("check_gradients", f)
    arrays = [np.array(x.numpy() if isinstance(x, Tensor) else as_array(x)) for x in inputs]
    arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    with recording(False):
        shape = as_tensor(f(*map(Tensor, arrays))).shape
    weights = (rng or np.random.default_rng(0)).uniform(0.5, 1.5, shape)

    def reduced(*values: TensorLike) -> Tensor:
        return (f(*values) * Tensor(weights)).sum()

    tensors = [Tensor(a) for a in arrays]
    found = grad(reduced, floats)(*tensors)
    for i, g in zip(floats, found, strict=True):
        expected = _adaptive_differences(reduced, arrays, i)
        got = g.numpy()
        limit = tolerance * np.maximum(1, np.maximum(np.abs(got), np.abs(expected)))
        wrong = ~(np.abs(got - expected) <= limit)  # also true for NaN
        if wrong.any():
            place = tuple(int(k) for k in np.argwhere(wrong)[0])
            raise GradientError(
                f"input {i}, element {place}: backpropagation gives {got[place]:.10g}, "
                f"central differences give {expected[place]:.10g}; {wrong.sum()} of {wrong.size} elements differ"
            )


def _adaptive_differences(f: Callable[..., Tensor], arrays: list[npt.NDArray[Any]], i: int) -> npt.NDArray[Any]:
    result = np.zeros(arrays[i].shape)
    changed = list(map(Tensor, arrays))
    with recording(False):
        for place in np.ndindex(result.shape):
            h = np.finfo(np.float64).eps ** (1 / 3) * max(1.0, float(abs(arrays[i][place])))

            def at(x: float, place: tuple[int, ...] = place) -> float:
                moved = arrays[i].copy()
                moved[place] = x
                changed[i] = Tensor(moved)
                return f(*changed).item()

            above, below = float(arrays[i][place] + h), float(arrays[i][place] - h)
            result[place] = (at(above) - at(below)) / (above - below)
    return result
