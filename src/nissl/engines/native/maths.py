"""The maths namespace `m` of the elementwise ops, which emits LLVM IR.

An Element stands for a scalar or a vector while a rule is emitted; operators and functions on it append instructions.
Arithmetic, comparisons and roots are rounded by IEEE 754, as NumPy's are. The transcendental functions of float32 are
our own: reduce the argument to a small interval, evaluate a polynomial there, and scale back. Their coefficients are
minimax fits (see `benchmarks/polynomials.py`); the results are within 2 units in the last place (ulp) of the true value
everywhere. NaN and infinities give the limits. The functions of float64, and pow, sin and cos, call the C library.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from llvmlite import ir

DType = np.dtype[Any]

FLOAT, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
BOOL = np.dtype(np.bool_)
BIT, BYTE = ir.IntType(1), ir.IntType(8)
LANE = ir.IntType(32)  # of the number of a lane
CONSTANTS_KEPT = 1 << 12


class Unsupported(Exception):  # noqa: N818  (an answer: leave this op to NumPy)
    """There is no machine code for what was asked."""


def scalar_type(dtype: DType) -> ir.Type:
    """Return the LLVM type of a scalar in a register; a bool is one bit there."""
    if dtype.kind == "f":
        return ir.FloatType() if dtype == FLOAT else ir.DoubleType()
    return BIT if dtype.kind == "b" else ir.IntType(8 * dtype.itemsize)


def stored_type(dtype: DType) -> ir.Type:
    """Return the LLVM type of a scalar in memory; a bool is one byte there."""
    return BYTE if dtype.kind == "b" else scalar_type(dtype)


@functools.lru_cache(maxsize=CONSTANTS_KEPT)
def widened(kind: ir.Type, lanes: int) -> ir.Type:
    """Return the type of a vector of `lanes` elements, or the scalar type for one."""
    return kind if lanes == 1 else ir.VectorType(kind, lanes)


def splat(builder: ir.IRBuilder, number: ir.Value, lanes: int) -> ir.Value:
    """Broadcast a scalar to all lanes of a vector."""
    if lanes == 1:
        return number
    undefined = ir.Constant(widened(number.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, number, constant(LANE, 0))
    return builder.shuffle_vector(first, undefined, constant(widened(LANE, lanes), 0))


def vector_of(builder: ir.IRBuilder, numbers: Iterable[ir.Value], kind: ir.Type, lanes: int) -> ir.Value:
    """Return a vector of scalars, which are taken from the iterable one by one."""
    vector = ir.Constant(widened(kind, lanes), ir.Undefined)
    for lane, number in enumerate(numbers):
        vector = builder.insert_element(vector, number, constant(LANE, lane))
    return vector


def shuffled(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: Iterable[int]) -> ir.Value:
    """Return a vector of some lanes of two, those of the second counted on from those of the first."""
    mask = [constant(LANE, lane) for lane in lanes]
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(LANE, len(mask)), mask))


def load_apart(builder: ir.IRBuilder, pointer: ir.Value, kind: ir.Type, lanes: int, stride: int, size: int) -> ir.Value:
    """Load a vector whose elements, of `size` bytes each, are `stride` elements apart."""

    def number(lane: int) -> ir.Value:
        place = builder.gep(pointer, [constant(ir.IntType(64), lane * stride)], source_etype=kind)
        return builder.load(place, typ=kind, align=size)

    return vector_of(builder, map(number, range(lanes)), kind, lanes)


def constant(kind: ir.Type, number: float) -> ir.Constant:
    """Return a constant of a scalar type, or of a vector type with the same value in all lanes."""
    return _constant(kind, number, repr(number))


@functools.lru_cache(maxsize=CONSTANTS_KEPT)
def _constant(kind: ir.Type, number: float, text: str) -> ir.Constant:
    """Return the same constant for the same number, as printing one takes long. The text tells -0.0 from 0.0 and 0."""
    return ir.Constant(kind, number)


class Element:
    """A scalar or a vector of one dtype, as a value in LLVM IR."""

    flags: tuple[str, ...] = ()  # fast-math flags of its arithmetic

    def __init__(self, builder: ir.IRBuilder, value: ir.Value, dtype: DType) -> None:
        self.builder = builder
        self.value = value
        self.dtype = dtype

    @property
    def lanes(self) -> int:
        """The number of lanes: 1 for a scalar."""
        return self.value.type.count if isinstance(self.value.type, ir.VectorType) else 1

    @property
    def floating(self) -> bool:
        """Whether the dtype is a float."""
        return self.dtype.kind == "f"

    def like(self, value: ir.Value, dtype: DType | None = None) -> Element:
        """Return an Element of another value, with the same builder and, by default, the same dtype."""
        return type(self)(self.builder, value, dtype or self.dtype)

    def coerce(self, other: Any) -> Element:
        """Return `other`, an Element or a Python number, as an Element of the same type."""
        if isinstance(other, Element):
            return other
        number = float(other) if self.floating else int(other)
        if self.dtype.kind in "iu" and not np.iinfo(self.dtype).min <= number <= np.iinfo(self.dtype).max:
            raise Unsupported(f"{number}, which is out of the range of {self.dtype}")
        return self.like(constant(self.value.type, number))

    def _arithmetic(self, left: Any, right: Any, of_floats: str, of_integers: str, of_bools: str = "") -> Element:
        name = of_floats if self.floating else of_bools if self.dtype == BOOL else of_integers
        if not name:
            raise Unsupported(f"arithmetic on {self.dtype}")
        operands = self.coerce(left).value, self.coerce(right).value
        return self.like(getattr(self.builder, name)(*operands, flags=self.flags if self.floating else ()))

    def __add__(self, other: Any) -> Element:
        return self._arithmetic(self, other, "fadd", "add", "or_")

    def __radd__(self, other: Any) -> Element:
        return self._arithmetic(other, self, "fadd", "add", "or_")

    def __sub__(self, other: Any) -> Element:
        return self._arithmetic(self, other, "fsub", "sub")

    def __rsub__(self, other: Any) -> Element:
        return self._arithmetic(other, self, "fsub", "sub")

    def __mul__(self, other: Any) -> Element:
        return self._arithmetic(self, other, "fmul", "mul", "and_")

    def __rmul__(self, other: Any) -> Element:
        return self._arithmetic(other, self, "fmul", "mul", "and_")

    def __truediv__(self, other: Any) -> Element:
        return self._arithmetic(self, other, "fdiv", "")

    def __rtruediv__(self, other: Any) -> Element:
        return self._arithmetic(other, self, "fdiv", "")

    def __neg__(self) -> Element:
        if self.floating:
            return self.like(self.builder.fneg(self.value))
        return self.coerce(0) - self

    def _compare(self, sign: str, other: Any) -> Element:
        other = self.coerce(other)
        if self.floating:
            compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        elif self.dtype.kind == "i":
            compare = self.builder.icmp_signed
        else:
            compare = self.builder.icmp_unsigned
        return self.like(compare(sign, self.value, other.value), BOOL)

    def __lt__(self, other: Any) -> Element:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Element:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Element:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Element:
        return self._compare(">=", other)

    def __eq__(self, other: Any) -> Element:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: Any) -> Element:  # type: ignore[override]
        return self._compare("!=", other)

    __hash__ = object.__hash__


class RoughElement(Element):
    """An Element whose quotients and sums of products may be off by a few units in the last place.

    Division takes as long as ten multiplications. On CPUs with an instruction that estimates the reciprocal, LLVM
    refines that estimate by a step of Newton's method instead. A finite number divided by +infinity is still 0; for an
    infinite dividend, or a divisor whose reciprocal is infinite, 0 above all, the result may be NaN.

    Where the state of an optimizer would be subnormal, it is 0. CPUs need twice as long for arithmetic with such
    numbers, and the mean of gradients that have become 0, as those of dead units, soon is one and stays one, since
    0.9 · x rounds to x.
    """

    flags = ("contract",)

    def flushed(self) -> Element:
        """Return 0 instead of subnormal numbers."""
        return select(NativeMaths.abs(self) < float(np.finfo(self.dtype).tiny), self.coerce(0), self)

    def __truediv__(self, other: Any) -> Element:
        return self._quotient(self, self.coerce(other))

    def __rtruediv__(self, other: Any) -> Element:
        return self._quotient(self.coerce(other), self)

    def _quotient(self, a: Element, b: Element) -> Element:
        if self.dtype != FLOAT:
            return self.like(self.builder.fdiv(a.value, b.value))
        b = select(b > LARGEST, b.coerce(LARGEST), b)
        return self.like(self.builder.fdiv(a.value, b.value, flags=("arcp", "ninf", "contract")))


LARGEST = float(np.finfo(np.float32).max)


def _call(name: str, *operands: Element) -> Element:
    """Call an LLVM intrinsic."""
    first = operands[0]
    module, kind = first.builder.module, first.value.type
    function = module.declare_intrinsic(
        f"llvm.{name}.{_suffix(kind)}", fnty=ir.FunctionType(kind, [kind] * len(operands))
    )
    return first.like(first.builder.call(function, [x.value for x in operands]))


def _suffix(kind: ir.Type) -> str:
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_suffix(kind.element)}"
    if isinstance(kind, ir.IntType):
        return f"i{kind.width}"
    return "f64" if isinstance(kind, ir.DoubleType) else "f32"


def fma(a: Element, b: Any, c: Any) -> Element:
    """Return a·b + c, rounded once."""
    return _call("fma", a, a.coerce(b), a.coerce(c))


def polynomial(x: Element, *coefficients: float) -> Element:
    """Return c₀ + c₁x + c₂x² + …, by Horner's rule."""
    result = x.coerce(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = fma(result, x, coefficient)
    return result


def select(condition: Element, a: Element, b: Element) -> Element:
    """Return a where the condition holds, else b."""
    return a.like(a.builder.select(condition.value, a.value, b.value))


def _bits(x: Element) -> Element:
    """Return the bits of a float32 as an int32."""
    kind = widened(ir.IntType(32), x.lanes)
    return x.like(x.builder.bitcast(x.value, kind), np.dtype(np.int32))


def _from_bits(x: Element) -> Element:
    kind = widened(ir.FloatType(), x.lanes)
    return x.like(x.builder.bitcast(x.value, kind), FLOAT)


def _shifted(x: Element, amount: int) -> Element:
    return x.like(x.builder.shl(x.value, constant(x.value.type, amount)))


def _power_of_two(n: Element) -> Element:
    """Return 2ⁿ for an int32 n in the range of normal exponents."""
    return _from_bits(_shifted(n + 127, 23))


def _truth(x: Element) -> Element:
    return x if x.dtype == BOOL else x != 0


LN2_HIGH, LN2_LOW = 0.693145751953125, 1.42860682030941723212e-06  # the first has 15 bits, so that n times it is exact


def _reduced(x: Element) -> tuple[Element, Element]:
    """Return n as int32, and r, with x = n·log 2 + r, |r| ≤ ½ log 2."""
    # Adding 1.5·2²³ leaves the nearest integer in the lowest bits.
    magic = 12582912.0
    shifted = fma(x, 1 / math.log(2), magic)
    n = shifted - magic
    whole = _bits(shifted) - _bits(x.coerce(magic))
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    return whole, r


def _clamped(x: Element, low: float, high: float) -> Element:
    """Return x clamped to [low, high]; NaN stays."""
    x = select(x > high, x.coerce(high), x)
    return select(x < low, x.coerce(low), x)


def _exp(x: Element) -> Element:
    whole, r = _reduced(_clamped(x, -104.5, 89.0))
    p = fma(r * r, polynomial(r, 0.5, 0.166665182, 0.041666206, 0.00836888794, 0.00139504857), r) + 1.0
    # 2ⁿ in two factors, since the result may be subnormal or infinite, which 2ⁿ alone is not.
    half = whole.like(whole.builder.ashr(whole.value, constant(whole.value.type, 1)))
    return p * _power_of_two(half) * _power_of_two(whole - half)


def _expm1(x: Element) -> Element:
    whole, r = _reduced(_clamped(x, -30.0, 89.0))
    q = polynomial(r, 0.5, 0.166666657, 0.0416663624, 0.00833338965, 0.00139406254, 0.000198458773)
    p = fma(r * r, q, r)  # eʳ - 1
    # eˣ - 1 = 2ⁿ(eʳ - 1) + (2ⁿ - 1); at n = 128, 2ⁿ would overflow where eˣ need not.
    half = whole.like(whole.builder.ashr(whole.value, constant(whole.value.type, 1)))
    first, second = _power_of_two(half), _power_of_two(whole - half)
    scaled = fma(p, first, first - _inverse_power_of_two(whole - half)) * second
    return select(x == 0, x, scaled)


def _inverse_power_of_two(n: Element) -> Element:
    return _power_of_two(n.coerce(0) - n)


def _split(x: Element) -> tuple[Element, Element]:
    """Return e and m with x = 2ᵉ·m, √½ ≤ m < √2, for a normal x above 0."""
    bits = _bits(x)
    offset = bits - 0x3F3504F3  # the bits of √½
    exponent = offset.like(offset.builder.ashr(offset.value, constant(offset.value.type, 23)))
    return exponent, _from_bits(bits - _shifted(exponent, 23))


def _log_of_fraction(f: Element) -> tuple[Element, Element]:
    """Return log(1 + f) - f as two terms for √½ - 1 ≤ f < √2 - 1: the larger, -½f², and the rest."""
    tail = polynomial(
        f,
        0.333333135,
        -0.250000089,
        0.200021192,
        -0.166679963,
        0.142195508,
        -0.124055915,
        0.118881747,
        -0.116756409,
        0.0674660131,
    )
    square = f * f
    return square * -0.5, square * f * tail


def _log(x: Element) -> Element:
    tiny = x < 2.0**-126
    exponent, mantissa = _split(select(tiny, x * 2.0**23, x))
    e = NativeMaths.astype(exponent, FLOAT) - select(tiny, x.coerce(23.0), x.coerce(0.0))
    f = mantissa - 1.0
    half_square, tail = _log_of_fraction(f)
    y = fma(e, LN2_HIGH, f + (half_square + fma(e, LN2_LOW, tail)))
    return _log_limits(x, y)


def _log_limits(x: Element, y: Element) -> Element:
    """Return y = log x with the special cases put in: x of 0, below 0, infinity and NaN."""
    y = select(x == math.inf, x, y)
    y = select(x == 0, x.coerce(-math.inf), y)
    return select(_is_below_zero_or_nan(x), x.coerce(math.nan), y)


def _is_below_zero_or_nan(x: Element) -> Element:
    return x.like(x.builder.fcmp_unordered("<", x.value, x.coerce(0).value), BOOL)


def _log1p(x: Element) -> Element:
    u = x + 1.0
    exponent, mantissa = _split(u)
    e = NativeMaths.astype(exponent, FLOAT)
    # The rounding error of the sum: u = 1 + x - lost, scaled like the mantissa.
    lost = select(x > 1.0, (u - x) - 1.0, (u - 1.0) - x)
    scale = _power_of_two(exponent.coerce(0) - exponent)
    correction = select(exponent < 126, lost * scale / mantissa, x.coerce(0.0))
    f = mantissa - 1.0
    half_square, tail = _log_of_fraction(f)
    y = fma(e, LN2_HIGH, f + (half_square + (fma(e, LN2_LOW, tail) - correction)))
    y = select(NativeMaths.abs(x) < 2.0**-24, x, y)
    return select(x == 0, x, _log_limits(u, y))


def _sigmoid(x: Element) -> Element:
    # e^-|x| does not overflow, and keeps full relative precision for large negative x, where the result is small.
    small = _exp(-NativeMaths.abs(x))
    positive = x >= 0
    y = select(positive, x.coerce(1.0), small) / (small + 1.0)
    # Correct for the rounding error of the denominator; its reciprocal is y, or 1 - y.
    lost = small - ((small + 1.0) - 1.0)
    return fma(-(y * lost), select(positive, y, 1.0 - y), y)


def _tanh(x: Element) -> Element:
    square, magnitude = x * x, NativeMaths.abs(x)
    tail = polynomial(square, -0.333333284, 0.133331522, -0.0539399423, 0.0216634013, -0.00808562245, 0.0020595775)
    small = fma(magnitude * square, tail, magnitude)
    e = _expm1(_clamped(magnitude, 0.0, 10.0) * 2.0)
    return _call("copysign", select(magnitude < 0.65, small, e / (e + 2.0)), x)


def _erf(x: Element) -> Element:
    magnitude = NativeMaths.abs(x)
    small = fma(
        x,
        polynomial(
            x * x, 0.128379166, -0.376126319, 0.112836875, -0.0268589407, 0.00519990642, -0.000813001185, 8.31677244e-05
        ),
        x,
    )
    t = _clamped(magnitude, 0.9, 4.0)
    # 1 - e^-g(t), g fitted
    g = polynomial(
        t,
        -0.00016920513,
        0.129488409,
        0.633400857,
        0.108220384,
        -0.0250806157,
        0.0041562547,
        -0.000431393564,
        2.08286183e-05,
    )
    large = 1.0 - _exp(-(t + g))
    return select(magnitude < 0.92, small, _call("copysign", large, x))


def _own_or_library(name: str, own: Callable[[Element], Element]) -> Callable[[Element], Element]:
    """Return a function that uses our own code for float32, and the C library for float64."""

    def function(x: Element) -> Element:
        return own(x) if x.dtype == FLOAT else library(name, x)

    return function


def library(name: str, *operands: Element) -> Element:
    """Call a function of the C library for each lane."""
    first = operands[0]
    kind = scalar_type(first.dtype)
    symbol = name if first.dtype == DOUBLE else f"{name}f"
    function = first.builder.module.globals.get(symbol)
    if function is None:
        function = ir.Function(first.builder.module, ir.FunctionType(kind, [kind] * len(operands)), symbol)
    if first.lanes == 1:
        return first.like(first.builder.call(function, [x.value for x in operands]))
    result = ir.Constant(first.value.type, ir.Undefined)
    for lane in range(first.lanes):
        place = ir.Constant(ir.IntType(32), lane)
        numbers = [first.builder.extract_element(x.value, place) for x in operands]
        result = first.builder.insert_element(result, first.builder.call(function, numbers), place)
    return first.like(result)


class NativeMaths:
    """The maths namespace `m`."""

    exp = staticmethod(_own_or_library("exp", _exp))
    log = staticmethod(_own_or_library("log", _log))
    log1p = staticmethod(_own_or_library("log1p", _log1p))
    expm1 = staticmethod(_own_or_library("expm1", _expm1))
    tanh = staticmethod(_own_or_library("tanh", _tanh))
    erf = staticmethod(_own_or_library("erf", _erf))

    @staticmethod
    def sigmoid(x: Element) -> Element:
        """Return 1/(1 + e⁻ˣ)."""
        if x.dtype == FLOAT:
            return _sigmoid(x)
        small = library("exp", -NativeMaths.abs(x))
        return select(x >= 0, x.coerce(1.0), small) / (small + 1.0)

    @staticmethod
    def sin(x: Element) -> Element:
        """Return sin x."""
        return library("sin", x)

    @staticmethod
    def cos(x: Element) -> Element:
        """Return cos x."""
        return library("cos", x)

    @staticmethod
    def sqrt(x: Element) -> Element:
        """Return the square root."""
        return _call("sqrt", x)

    @staticmethod
    def sub(a: Any, b: Any) -> Any:
        """Return a - b."""
        return a - b

    @staticmethod
    def pow(a: Any, b: Any) -> Element:
        """Return aᵇ."""
        if isinstance(a, Element) and not isinstance(b, Element) and a.floating:
            if b == 2:
                return a * a
            if b == 1:
                return a
            if b == 0.5:
                return NativeMaths.sqrt(a)  # pow(-inf, 0.5) would be inf
        a, b = (a, a.coerce(b)) if isinstance(a, Element) else (b.coerce(a), b)
        if not a.floating:
            raise Unsupported("powers of integers")
        return library("pow", a, b)

    @staticmethod
    def abs(x: Element) -> Element:
        """Return |x|."""
        if x.floating:
            return _call("fabs", x)
        return x if x.dtype.kind in "bu" else select(x < 0, -x, x)

    @staticmethod
    def sign(x: Element) -> Element:
        """Return -1, 0 or 1; NaN for NaN."""
        if x.dtype == BOOL:
            raise Unsupported("the sign of a bool")
        below = x if x.dtype.kind == "u" else select(x < 0, x.coerce(-1), x)
        return select(x > 0, x.coerce(1), below)

    @staticmethod
    def maximum(a: Any, b: Any) -> Element:
        """Return the larger; NaN if one is."""
        return _extreme(">", a, b)

    @staticmethod
    def minimum(a: Any, b: Any) -> Element:
        """Return the smaller; NaN if one is."""
        return _extreme("<", a, b)

    @staticmethod
    def where(condition: Element, a: Any, b: Any) -> Element:
        """Return a where the condition holds, else b."""
        if not isinstance(a, Element):
            a = b.coerce(a) if isinstance(b, Element) else _number(condition, a, b)
        return select(_truth(condition), a, a.coerce(b))

    @staticmethod
    def logical_and(a: Element, b: Element) -> Element:
        """Return whether both hold."""
        a, b = _truth(a), _truth(a.coerce(b))
        return a.like(a.builder.and_(a.value, b.value))

    @staticmethod
    def logical_or(a: Element, b: Element) -> Element:
        """Return whether one or both hold."""
        a, b = _truth(a), _truth(a.coerce(b))
        return a.like(a.builder.or_(a.value, b.value))

    @staticmethod
    def logical_not(x: Element) -> Element:
        """Return whether x is 0."""
        x = _truth(x)
        return x.like(x.builder.not_(x.value))

    @staticmethod
    def copy(x: Element) -> Element:
        """Return x."""
        return x

    @staticmethod
    def astype(x: Element, dtype: DType) -> Element:
        """Return x in another dtype."""
        if dtype == x.dtype:
            return x
        if dtype == BOOL:
            return x != 0
        kind, builder = widened(scalar_type(dtype), x.lanes), x.builder
        if x.floating and dtype.kind == "f":
            convert = builder.fptrunc if dtype == FLOAT else builder.fpext
        elif x.floating:
            # NumPy leaves values out of range undefined; without "sat", LLVM may assume that there are none.
            return _converted("fptosi" if dtype.kind == "i" else "fptoui", x, dtype)
        elif dtype.kind == "f":
            convert = builder.sitofp if x.dtype.kind == "i" else builder.uitofp
        elif dtype.itemsize < x.dtype.itemsize:
            convert = builder.trunc
        elif dtype.itemsize == x.dtype.itemsize and x.dtype != BOOL:
            return x.like(x.value, dtype)
        else:
            convert = builder.sext if x.dtype.kind == "i" else builder.zext
        return x.like(convert(x.value, kind), dtype)


def _converted(name: str, x: Element, dtype: DType) -> Element:
    """Convert floats to integers by an LLVM intrinsic."""
    kind, module = widened(scalar_type(dtype), x.lanes), x.builder.module
    full = f"llvm.{name}.sat.{_suffix(kind)}.{_suffix(x.value.type)}"
    function = module.declare_intrinsic(full, fnty=ir.FunctionType(kind, [x.value.type]))
    return x.like(x.builder.call(function, [x.value]), dtype)


def _extreme(sign: str, a: Any, b: Any) -> Element:
    if not isinstance(a, Element):
        a, b = b, a
    if not isinstance(b, Element):  # a Python number: unless it is NaN, one comparison is enough
        number = a.coerce(b)
        return number if b != b else select(number._compare(sign, a), number, a)
    larger = select(a._compare(sign, b), a, b)
    return select(a != a, a, larger) if a.floating else larger


def _number(condition: Element, a: Any, b: Any) -> Element:
    raise Unsupported("a choice between two Python numbers")
