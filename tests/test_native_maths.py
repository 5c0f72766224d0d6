"""Elementwise rules in machine code: accuracy over the whole range of float32, and the same numbers at every width."""

import ctypes

import numpy as np
import pytest
from llvmlite import ir
from samples import BINARY, PREDICATES, UNARY, numbers
from scipy import special

from nissl.engines.eager import evaluate
from nissl.engines.native.elementwise import emit
from nissl.engines.native.machine import Code, machine_code, vector_bytes
from nissl.engines.native.maths import constant, widened
from nissl.tensor import OPS

FLOAT = np.dtype(np.float32)
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754944e-38, -1.1754942e-38, 3.4028235e38, -3.4028235e38,
     1.0, -1.0, 88.72284, 88.7229, -87.33655, -103.97, -104.0, 9.01, -9.01, 0.65, 0.92, 4.0, 16777216.0, 5e-8],
    np.float32,
)  # fmt: skip


def kernel(name, dtype=FLOAT, lanes=None, scalars=(False,), **attributes):
    """Return a function of arrays that applies an op by machine code."""
    op = OPS[name]
    module = emit(op.value, attributes, dtype, scalars, 1, lanes or vector_bytes() // dtype.itemsize)
    code = Code(machine_code(module), {"kernel": (*[ctypes.c_void_p] * (len(scalars) + 1), ctypes.c_int64)})

    def call(*arrays):
        result = np.empty_like(arrays[0])
        code.functions["kernel"](*(x.ctypes.data for x in (*arrays, result)), result.size)
        return result

    return call


def sigmoid(x):
    return special.expit(x)


EXACT = {
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "erf": special.erf,
    "sqrt": np.sqrt,
}


def distance(found, exact):
    """Return by how many units in the last place of float32 numbers differ, at most; NaN must meet NaN."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        assert np.array_equal(np.isnan(found), np.isnan(exact))
        finite = np.isfinite(rounded) & np.isfinite(found)
        assert np.array_equal(found[~finite], rounded[~finite], equal_nan=True)
        assert np.array_equal(np.signbit(found[finite]), np.signbit(rounded[finite]))
        return float((np.abs(found[finite] - exact[finite]) / np.spacing(np.abs(rounded[finite]))).max())


@pytest.mark.parametrize("name", EXACT)
def test_functions_are_within_two_units_in_the_last_place_over_the_whole_range(name):
    function = kernel(name)
    bits = np.arange(0, 2**32, 419, dtype=np.uint64).astype(np.uint32)  # 10⁷ floats, of every exponent
    for x in (bits.view(np.float32), SPECIAL):
        with np.errstate(all="ignore"):
            exact = EXACT[name](x.astype(np.float64))
        assert distance(function(x), exact) <= 2


def test_the_distance_can_tell():
    x = np.array([1.0, 2.0], np.float32)
    assert distance(x, x.astype("float64")) == 0
    assert distance(x, x.astype("float64") * (1 + 2.0**-22)) == pytest.approx(2)
    with pytest.raises(AssertionError):
        distance(np.array([np.nan], "float32"), np.array([1.0]))
    with pytest.raises(AssertionError):
        distance(np.array([np.inf], "float32"), np.array([1.0]))
    with pytest.raises(AssertionError):
        distance(np.array([-0.0], "float32"), np.array([0.0]))


@pytest.mark.parametrize("name", [*EXACT, "relu", "abs", "sign", "square"])
def test_every_width_gives_the_same_bits(name):
    x = np.concatenate([numbers((1003,), 0.1, 5).astype(np.float32), SPECIAL])
    found = {lanes: kernel(name, lanes=lanes)(x).view(np.uint32) for lanes in (1, 4, 8, 16)}
    for lanes in (4, 8, 16):
        np.testing.assert_array_equal(found[lanes], found[1])


# Where the rule is arithmetic, the bits are NumPy's.
SAME_BITS = ["identity", "copy", "neg", "square", "sqrt", "abs", "sign", "relu", "add", "sub", "mul", "div", "maximum",
             "minimum"]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_each_op_is_numpys(name, dtype):
    _, low, high = (UNARY | BINARY)[name]
    count = 2 if name in BINARY else 1
    arrays = [numbers((77,), low, high, seed=i).astype(dtype) for i in range(count)]
    found = kernel(name, np.dtype(dtype), scalars=(False,) * count)(*arrays)
    expected = evaluate(OPS[name], arrays, {})
    if name in SAME_BITS:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=5e-7 if dtype == "float32" else 1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SAME_BITS)
def test_special_numbers_are_numpys(name, dtype):
    a, b = (x.reshape(-1).astype(dtype) for x in np.meshgrid(SPECIAL, SPECIAL))
    arrays = [a, b] if name in BINARY else [a]
    with np.errstate(all="ignore"):
        expected = evaluate(OPS[name], arrays, {})
    np.testing.assert_array_equal(kernel(name, np.dtype(dtype), scalars=(False,) * len(arrays))(*arrays), expected)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int16"])
@pytest.mark.parametrize("name", ["neg", "abs", "sign", "add", "sub", "mul", "maximum", "minimum", "square", "relu"])
def test_integers_wrap_as_numpys_do(name, dtype):
    limits = np.iinfo(dtype)
    values = np.array([0, 1, 2, 3, 100, limits.max, limits.min, limits.max - 1], dtype)
    a, b = (x.reshape(-1) for x in np.meshgrid(values, values))
    arrays = [a, b] if name in BINARY else [a]
    found = kernel(name, np.dtype(dtype), scalars=(False,) * len(arrays))(*arrays)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found, evaluate(OPS[name], arrays, {}))


def test_every_elementwise_op_of_the_tables_is_an_op():
    assert {*UNARY, *BINARY, *PREDICATES} <= set(OPS)


def test_a_constant_is_kept_apart_from_those_of_other_types_and_signs():
    kinds = [widened(kind, lanes) for kind in (ir.FloatType(), ir.DoubleType()) for lanes in (1, 4)]
    for kind in [*kinds, *kinds]:
        for number in (0.0, -0.0, 1.0, 1.5):
            each = [number] * kind.count if isinstance(kind, ir.VectorType) else number
            assert str(constant(kind, number)) == str(ir.Constant(kind, each))
    assert str(constant(ir.IntType(64), 1)) == "i64 1"
    assert constant(kinds[0], 1.5) is constant(kinds[0], 1.5)
