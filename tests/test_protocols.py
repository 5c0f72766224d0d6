"""NumPy's functions on Tensors: they are nissl's, or get values, or say that a gradient would be lost."""

import warnings

import numpy as np
import pytest

import nissl as ns
from nissl.errors import GradientError, OptionError, TracingError

POINTS = np.array([[0.25, 0.5, 0.75], [0.1, 0.6, 0.9]])
OTHER = np.array([[1.5, -2.0, 0.5], [2.0, 3.0, -1.0]])

CALLS = {
    "np.exp": lambda x: np.exp(x),
    "np.log": lambda x: np.log(x),
    "np.sqrt": lambda x: np.sqrt(x),
    "np.tanh": lambda x: np.tanh(x),
    "np.square": lambda x: np.square(x),
    "np.negative": lambda x: np.negative(x),
    "np.positive": lambda x: np.positive(x),
    "np.abs": lambda x: np.abs(x),
    "np.reciprocal": lambda x: np.reciprocal(x),
    "np.power": lambda x: np.power(x, 3),
    "np.add": lambda x: np.add(OTHER, x),
    "np.subtract": lambda x: np.subtract(OTHER, x),
    "np.multiply": lambda x: np.multiply(OTHER, x),
    "np.divide": lambda x: np.divide(OTHER, x),
    "np.maximum": lambda x: np.maximum(x, 0.5),
    "np.minimum": lambda x: np.minimum(0.5, x),
    "array + x": lambda x: OTHER + x,
    "array - x": lambda x: OTHER - x,
    "array * x": lambda x: OTHER * x,
    "array / x": lambda x: OTHER / x,
    "array ** x": lambda x: np.abs(OTHER) ** x,
    "array @ x": lambda x: OTHER.T @ x,
    "number * x": lambda x: np.float64(3.0) * x,
    "np.matmul": lambda x: np.matmul(x, OTHER.T),
    "np.dot": lambda x: np.dot(OTHER.T, x),
    "np.dot, vector": lambda x: np.dot(x, OTHER[0]),
    "np.dot, number": lambda x: np.dot(2.0, x),
    "np.dot, three axes": lambda x: np.dot(x, np.stack([OTHER.T, OTHER.T])),
    "np.tensordot": lambda x: np.tensordot(x, OTHER, axes=((0,), (0,))),
    "np.tensordot, two axes": lambda x: np.tensordot(x, OTHER, axes=(1, 1)),
    "np.sum": lambda x: np.sum(x),
    "np.sum, axis": lambda x: np.sum(x, 0),
    "np.sum, keepdims": lambda x: np.sum(x, axis=1, keepdims=True),
    "np.sum, with defaults": lambda x: np.sum(x, axis=1, dtype=None, out=None),
    "np.mean": lambda x: np.mean(x, axis=1),
    "np.var": lambda x: np.var(x, axis=0),
    "np.std": lambda x: np.std(x),
    "np.prod": lambda x: np.prod(x, axis=1),
    "np.max": lambda x: np.max(x, axis=1),
    "np.amin": lambda x: np.amin(x),
    "np.clip": lambda x: np.clip(x, 0.3, 0.8),
    "np.clip, names": lambda x: np.clip(x, a_min=0.3, a_max=0.8),
    "np.clip, one end": lambda x: np.clip(x, max=0.8),
    "np.where": lambda x: np.where(OTHER > 0, x, OTHER),
    "np.concatenate, flat": lambda x: np.concatenate([x, OTHER], axis=None),
    "np.concatenate": lambda x: np.concatenate([x, OTHER], axis=1),
    "np.stack": lambda x: np.stack((OTHER, x), axis=1),
    "np.reshape": lambda x: np.reshape(x, (3, 2)),
    "np.transpose": lambda x: np.transpose(x),
    "np.transpose, axes": lambda x: np.transpose(x, (1, 0)),
    "np.expand_dims": lambda x: np.expand_dims(x, 1),
    "np.expand_dims, several": lambda x: np.expand_dims(x, (0, -1)),
    "np.squeeze": lambda x: np.squeeze(np.expand_dims(x, 0)),
    "np.flip": lambda x: np.flip(x, axis=1),
    "np.take": lambda x: np.take(x, [2, 0], 1),
    "np.pad": lambda x: np.pad(x, ((1, 0), (2, 1)), constant_values=2.0),
    "np.pad, all alike": lambda x: np.pad(x, (1, 2), mode="constant"),
    "np.broadcast_to": lambda x: np.broadcast_to(x, (4, 2, 3)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_function_of_numpy_is_that_of_nissl(call):
    result = call(ns.tensor(POINTS, requires_grad=True))
    assert isinstance(result, ns.Tensor)
    assert result.requires_grad
    np.testing.assert_allclose(result.numpy(), call(POINTS), rtol=1e-12)
    ns.check_gradients(lambda x: call(x).sum(), ns.tensor(POINTS))


def takes_points(function, count=1):
    """Whether a function of NumPy takes the points, so many times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            function(*[POINTS] * count)
        except Exception:  # each has its own way to say no
            return False
    return True


UFUNCS = {
    name: function
    for name, function in list(vars(np).items())  # which grows as functions are called
    if isinstance(function, np.ufunc) and takes_points(function, function.nin)
}


@pytest.mark.parametrize("name", UFUNCS)
def test_no_elementwise_function_loses_a_gradient_silently(name):
    lost_nothing_or_said_so(name, UFUNCS[name], UFUNCS[name].nin)


# Where they have a slope it is 0.
FLAT = {"sign"}
# They make arrays like another one, or copies of its values.
MAKERS = {"copy", "empty_like", "full_like", "ones_like", "zeros_like", "round", "array", "asarray"}
FUNCTIONS = {
    name: function
    for name, function in list(vars(np).items())  # which grows as functions are called
    if type(function) is type(np.sum) and name not in MAKERS and hasattr(function, "_implementation")
    if takes_points(function)
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_of_arrays_loses_a_gradient_silently(name):
    lost_nothing_or_said_so(name, FUNCTIONS[name])


def lost_nothing_or_said_so(name, function, count=1):
    """A gradient can go through the result, or it holds no floats, or there is an error; values are NumPy's."""
    x = ns.tensor(POINTS, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = function(*[POINTS] * count)
        try:
            result = function(*[x] * count)
        except GradientError:
            return
    for got, wanted in zip(*(r if isinstance(r, tuple | list) else (r,) for r in (result, expected)), strict=True):
        if isinstance(got, ns.Tensor):
            assert got.requires_grad or got.dtype.kind != "f" or name in FLAT
            got = got.numpy()
        else:
            assert np.asarray(got).dtype.kind != "f"
        if np.asarray(wanted).dtype.kind in "biufc":
            np.testing.assert_allclose(got, wanted, rtol=1e-12)
        else:
            assert got == wanted


INTEGERS = np.array([[4, 2, 1], [3, 1, 7]])
CALLS_OF_INTEGERS = {
    "np.bitwise_and": lambda x: np.bitwise_and(x, 6),
    "np.bitwise_or": lambda x: np.bitwise_or(6, x),
    "np.invert": lambda x: np.invert(x),
    "array & x": lambda x: INTEGERS & x,
    "np.reciprocal": lambda x: np.reciprocal(x),
    "np.reshape, order": lambda x: np.reshape(x, (3, 2), "F"),
    "np.broadcast_to, subok": lambda x: np.broadcast_to(x, (2, 2, 3), True),
    "np.pad, two values": lambda x: np.pad(x, 1, constant_values=(1, 2)),
    "np.pad, mode": lambda x: np.pad(x, 1, "wrap"),
    "np.sum, dtype": lambda x: np.sum(x, 0, np.int8),
}


@pytest.mark.parametrize("call", CALLS_OF_INTEGERS.values(), ids=CALLS_OF_INTEGERS)
def test_arguments_that_mean_something_else_to_nissl_get_numpys_values(call):
    result = call(ns.tensor(INTEGERS))
    assert isinstance(result, np.ndarray)
    assert result.dtype == call(INTEGERS).dtype
    np.testing.assert_array_equal(result, call(INTEGERS))


def test_functions_of_bits_are_logic_on_bools():
    mask, other = np.array([True, True, False]), np.array([True, False, False])
    for call in (np.bitwise_and, np.bitwise_or, lambda a, _: np.invert(a)):
        result = call(ns.tensor(mask), other)
        assert isinstance(result, ns.Tensor)
        np.testing.assert_array_equal(result.numpy(), call(mask, other))


def test_padding_with_edges_is_numpys():
    mask = np.array([True, False, True])
    np.testing.assert_array_equal(np.pad(ns.tensor(mask), 1, "edge"), [True, True, False, True, True])
    with pytest.raises(GradientError, match=r"np\.pad\(\)"):
        np.pad(ns.tensor(POINTS, requires_grad=True), 1, "edge")


def test_most_functions_were_tried():
    assert len(UFUNCS) > 80
    assert len(FUNCTIONS) > 100


def test_a_lost_gradient_is_said_with_what_to_do():
    w = ns.tensor([3.0, 4.0], requires_grad=True)
    with pytest.raises(GradientError, match=r"np\.linalg\.norm\(\) .*x\.numpy\(\)"):
        np.linalg.norm(w)
    assert np.linalg.norm(w.numpy()) == 5
    assert np.linalg.norm(w.detach()) == 5
    with ns.no_grad():
        assert np.linalg.norm(w) == 5


def test_arguments_that_only_numpy_knows_are_numpys():
    x = ns.tensor([1.0, 2.0])
    assert np.sum(x, 0, np.float64).dtype == np.float64
    assert np.var(x, ddof=1) == 0.5
    np.testing.assert_array_equal(np.add.accumulate(x), [1, 3])
    with pytest.raises(GradientError):
        np.sum(ns.tensor([1.0, 2.0], requires_grad=True), 0, np.float64)


def test_an_array_takes_values_but_no_gradient():
    array = np.ones(2)
    array += ns.tensor([1.0, 2.0])
    np.testing.assert_array_equal(array, [2, 3])
    with pytest.raises(GradientError):
        array += ns.tensor([1.0, 2.0], requires_grad=True)
    np.testing.assert_array_equal(array, [2, 3])  # nothing was written before the error
    np.sum(ns.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0, out=array)
    np.testing.assert_array_equal(array, [4, 6])
    with pytest.raises(OptionError, match="assign"):
        np.add(array, array, out=ns.tensor([1.0, 2.0]))


def test_values_can_be_looked_at_in_numpys_ways():
    w = ns.nn.Parameter(ns.tensor([1.0, 2.0]))
    assert np.allclose(w, [1, 2])
    assert np.isfinite(w).all()
    assert np.shape(w) == (2,)
    assert np.size(w) == 2
    np.testing.assert_allclose(w, [1, 2])
    copy = np.copy(w)
    copy[0] = 7
    np.testing.assert_array_equal(w.numpy(), [1, 2])
    np.testing.assert_array_equal(np.zeros_like(w), [0, 0])
    assert np.array2string(w) == "[1. 2.]"


def test_numpys_functions_compile():
    def f(x):
        return np.exp(x) * POINTS + np.sum(x, axis=0) / np.shape(x)[0]

    x = ns.tensor(POINTS)
    np.testing.assert_allclose(ns.compile(f)(x).numpy(), f(POINTS), rtol=1e-12)
    with pytest.raises(TracingError, match=r"np\.linalg\.norm"):
        ns.compile(lambda x: np.linalg.norm(x))(x)
