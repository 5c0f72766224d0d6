"""Elementwise operations.

Each row says what one element of the result is (`value`, in terms of a maths namespace `m`) and how a gradient flows
back to each input (`gradients`, in terms of Tensors). Shapes broadcast; the backward walk undoes that. Compositions
such as gelu live in `nissl.functional`: they need no gradient rule.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nissl.shapes import broadcast
from nissl.tensor import DTypeLike, Op, Tensor, apply, check_dtype, method

BOOL = np.dtype(np.bool_)


def elementwise(
    name: str,
    value: Callable[..., Any],
    *gradients: Callable[..., Any] | None,
    doc: str,
    lowest_kind: str = "b",
    predicate: bool = False,
    promoted_from: int = 0,
    outputs: int = 1,
    rough: bool = False,
    passes_through: bool = False,
) -> Op:
    """Make an elementwise op; its name becomes a method of Tensor too if it has one input."""

    def dtype(*dtypes: np.dtype[Any] | None, **attributes: Any) -> np.dtype[Any]:
        return BOOL if predicate else next(d for d in dtypes[promoted_from:] if d is not None)

    op = Op(
        name,
        kind="elementwise",
        value=value,
        shape=lambda *shapes, **attributes: broadcast(*shapes),
        dtype=dtype,
        gradients=gradients,
        outputs=outputs,
        promoted_from=promoted_from,
        lowest_kind=lowest_kind,
        rough=rough,
        passes_through=passes_through,
        doc=doc,
    )
    rule = inspect.signature(value)
    object.__setattr__(op, "__signature__", rule.replace(parameters=list(rule.parameters.values())[1:]))  # without m
    if value.__code__.co_argcount == 2:

        def unary(x: Tensor) -> Tensor:
            return apply(op, x)

        unary.__name__, unary.__qualname__, unary.__doc__ = name, f"Tensor.{name}", doc
        method(unary)
    return op


identity = elementwise("identity", lambda m, x: x, lambda g, y, x: g, passes_through=True, doc="x itself.")
copy = elementwise(
    "copy", lambda m, x: m.copy(x), lambda g, y, x: g, passes_through=True, doc="x in memory of its own."
)

neg = elementwise("neg", lambda m, x: -x, lambda g, y, x: -g, doc="-x.")
add = elementwise("add", lambda m, a, b: a + b, lambda g, y, a, b: g, lambda g, y, a, b: g, doc="a + b.")
sub = elementwise("sub", lambda m, a, b: m.sub(a, b), lambda g, y, a, b: g, lambda g, y, a, b: -g, doc="a - b.")
mul = elementwise("mul", lambda m, a, b: a * b, lambda g, y, a, b: g * b, lambda g, y, a, b: g * a, doc="a * b.")
div = elementwise(
    "div",
    lambda m, a, b: a / b,
    lambda g, y, a, b: g / b,
    lambda g, y, a, b: -(g * y) / b,
    lowest_kind="f",
    doc="a / b; integers become floats.",
)
square = elementwise("square", lambda m, x: x * x, lambda g, y, x: g * (2 * x), doc="x².")
pow = elementwise(
    "pow",
    lambda m, a, b: m.pow(a, b),
    # Where the exponent is 0 the slope is 0 for every base, also for 0, where 0 * 0**(-1) would be NaN.
    lambda g, y, a, b: g * (b * a ** where(b == 0, 1, b - 1)) if isinstance(b, Tensor) else _power_slope(g, a, b),
    # The slope in b is 0 at base 0, where y * log(a) would be 0 * -inf.
    lambda g, y, a, b: g * y * log(where(a == 0, 1, a) if isinstance(a, Tensor) else Tensor(a or 1.0, y.dtype)),
    lowest_kind="i",
    doc="aᵇ.",
)


def _power_slope(g: Tensor, a: Tensor, b: float) -> Tensor:
    if b == 0:
        return g * 0.0
    return g * (b * a ** (b - 1))


exp = elementwise("exp", lambda m, x: m.exp(x), lambda g, y, x: g * y, lowest_kind="f", doc="eˣ.")
log: Op = elementwise(
    "log", lambda m, x: m.log(x), lambda g, y, x: g / x, lowest_kind="f", doc="The natural logarithm of x."
)
log1p = elementwise(
    "log1p", lambda m, x: m.log1p(x), lambda g, y, x: g / (1 + x), lowest_kind="f", doc="log(1 + x), exact for small x."
)
expm1 = elementwise(
    "expm1", lambda m, x: m.expm1(x), lambda g, y, x: g * (y + 1), lowest_kind="f", doc="eˣ - 1, exact for small x."
)
sqrt = elementwise("sqrt", lambda m, x: m.sqrt(x), lambda g, y, x: g * 0.5 / y, lowest_kind="f", doc="The square root.")
abs = elementwise("abs", lambda m, x: m.abs(x), lambda g, y, x: g * sign(x), doc="|x|; the slope at 0 is 0.")
sign: Op = elementwise("sign", lambda m, x: m.sign(x), doc="-1, 0 or 1, as x is below, at or above 0.")
sin = elementwise("sin", lambda m, x: m.sin(x), lambda g, y, x: g * cos(x), lowest_kind="f", doc="sin x, x in radians.")
cos: Op = elementwise(
    "cos", lambda m, x: m.cos(x), lambda g, y, x: -g * sin(x), lowest_kind="f", doc="cos x, x in radians."
)
tanh = elementwise(
    "tanh", lambda m, x: m.tanh(x), lambda g, y, x: g * (1 - y * y), lowest_kind="f", doc="(eˣ - e⁻ˣ)/(eˣ + e⁻ˣ)."
)
sigmoid = elementwise(
    "sigmoid", lambda m, x: m.sigmoid(x), lambda g, y, x: g * (y * (1 - y)), lowest_kind="f", doc="1/(1 + e⁻ˣ)."
)
erf = elementwise(
    "erf",
    lambda m, x: m.erf(x),
    lambda g, y, x: g * (2 / math.sqrt(math.pi) * exp(-x * x)),
    lowest_kind="f",
    doc="The error function: 2/√π times the integral of e^(-t²) from 0 to x.",
)
relu = elementwise(
    "relu",
    lambda m, x: m.maximum(x, 0),
    lambda g, y, x: where(x > 0, g, 0),
    lowest_kind="i",
    doc="max(0, x); the slope at 0 is 0.",
)

# At a tie each side gets half, so the rule is symmetric. relu is its own row: its slope at 0 is 0.
maximum = elementwise(
    "maximum",
    lambda m, a, b: m.maximum(a, b),
    lambda g, y, a, b: g * where(a == b, 0.5, (a > b).astype(g.dtype)),
    lambda g, y, a, b: g * where(a == b, 0.5, (b > a).astype(g.dtype)),
    doc="The larger of a and b.",
)
minimum = elementwise(
    "minimum",
    lambda m, a, b: m.minimum(a, b),
    lambda g, y, a, b: g * where(a == b, 0.5, (a < b).astype(g.dtype)),
    lambda g, y, a, b: g * where(a == b, 0.5, (b < a).astype(g.dtype)),
    doc="The smaller of a and b.",
)
where: Op = elementwise(
    "where",
    lambda m, condition, a, b: m.where(condition, a, b),
    None,
    lambda g, y, condition, a, b: where(condition, g, 0),
    lambda g, y, condition, a, b: where(condition, 0, g),
    promoted_from=1,
    doc="a where the condition holds, b elsewhere.",
)

equal = elementwise("equal", lambda m, a, b: a == b, predicate=True, doc="Whether a = b.")
not_equal = elementwise("not_equal", lambda m, a, b: a != b, predicate=True, doc="Whether a ≠ b.")
less = elementwise("less", lambda m, a, b: a < b, predicate=True, doc="Whether a < b.")
less_equal = elementwise("less_equal", lambda m, a, b: a <= b, predicate=True, doc="Whether a ≤ b.")
greater = elementwise("greater", lambda m, a, b: a > b, predicate=True, doc="Whether a > b.")
greater_equal = elementwise("greater_equal", lambda m, a, b: a >= b, predicate=True, doc="Whether a ≥ b.")
logical_and = elementwise(
    "logical_and", lambda m, a, b: m.logical_and(a, b), predicate=True, doc="Whether both hold (are not 0)."
)
logical_or = elementwise(
    "logical_or", lambda m, a, b: m.logical_or(a, b), predicate=True, doc="Whether one or both hold (are not 0)."
)
logical_not = elementwise("logical_not", lambda m, x: m.logical_not(x), predicate=True, doc="Whether x is 0.")

_astype = Op(
    "astype",
    kind="elementwise",
    value=lambda m, x, dtype: m.astype(x, dtype),
    shape=lambda shape, dtype: shape,
    dtype=lambda _, dtype: dtype,
    gradients=(lambda g, y, x, dtype: g,),
    doc="x in another dtype.",
)


@method
def astype(x: Tensor, dtype: DTypeLike) -> Tensor:
    """Return `x` in another dtype.

    >>> import nissl as ns
    >>> ns.astype(ns.tensor([1.7, -1.7]), "int64")
    tensor([ 1, -1])
    """
    dtype = check_dtype(dtype)
    return x if x.dtype == dtype else apply(_astype, x, dtype=dtype)
