"""Every op and function on its samples: values, shapes, dtypes, gradients; and what differs from op to op."""

import operator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from samples import Sample, all_samples, every_op_with_samples, numbers

import nissl as ns
from nissl.engines.base import current, using
from nissl.errors import DataError, DTypeError, OptionError, ShapeError
from nissl.tensor import OPS, Tensor, apply, wrap


class Watching:
    """The eager engine, with a note of each op, its inputs, attributes and results."""

    def __init__(self):
        self.engine = current.engine
        self.calls = []

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def run(self, op, inputs, attributes):
        result = self.engine.run(op, inputs, attributes)
        self.calls.append((op, inputs, attributes, result if isinstance(result, tuple) else (result,)))
        return result


@contextmanager
def watched():
    engine = Watching()
    with using(engine):
        yield engine.calls


def is_smooth(sample: Sample) -> bool:
    return sample.smooth and len(sample.inputs) > 0


def loss_of(sample, tensors):
    """Reduce the result of a sample to one number by fixed weights, so that no error cancels out."""
    y = sample(*tensors)
    return (y * wrap(numbers(y.shape, 0.5, 1.5, seed=5).astype(y.dtype))).sum()


def float_positions(sample):
    return [i for i, x in enumerate(sample.inputs) if x.dtype.kind == "f"]


def gradients_of(sample, tensors):
    return ns.grad(lambda *x: loss_of(sample, x), float_positions(sample))(*tensors)


def test_every_op_has_a_sample():
    with watched() as calls:
        for sample in all_samples():
            sample(*sample.tensors())
    assert {op.name for op, *_ in calls} == set(OPS)


def test_sample_names_are_unique():
    names = [sample.name for sample in all_samples()]
    assert len(names) == len(set(names))


# float32 carries 24 bits; a few roundings add up in products, sums and in arguments of exp.
TOLERANCE = {"float32": 3e-6, "float64": 1e-14}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sample", every_op_with_samples())
def test_value(sample, dtype):
    expected = np.asarray(sample.result(dtype))
    found = sample(*sample.tensors(dtype))
    assert found.shape == expected.shape
    assert (found.dtype.kind == "f") == (expected.dtype.kind == "f") or not sample.inputs
    scale = max(1.0, float(np.abs(expected.astype(float)).max(initial=0)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=TOLERANCE[dtype] * 10, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("sample", every_op_with_samples())
def test_shape_and_dtype_rules_say_what_comes_out_and_float32_never_becomes_float64(sample):
    tensors = sample.tensors("float32")
    with watched() as calls:
        if is_smooth(sample):
            gradients_of(sample, tensors)
        sample(*tensors)
    for op, inputs, attributes, results in calls:
        dtypes = [x.dtype if isinstance(x, Tensor) else None for x in inputs]
        shapes = [x.shape if isinstance(x, Tensor) else () for x in inputs]
        for result in results:
            assert type(result) is np.ndarray
            assert op.shape(*shapes, **attributes) == result.shape, op
            assert op.dtype(*dtypes, **attributes) == result.dtype, op
            if np.dtype("float32") in dtypes:
                assert result.dtype != np.float64, op
        assert len(results) == op.outputs


@pytest.mark.parametrize("sample", every_op_with_samples(is_smooth))
def test_gradient(sample):
    ns.check_gradients(sample, *sample.arrays())


@pytest.mark.parametrize("sample", every_op_with_samples(is_smooth))
def test_second_derivative(sample):
    fixed = sample.tensors()
    positions = float_positions(sample)

    def slope(*varied):
        tensors = list(fixed)
        for i, x in zip(positions, varied, strict=True):
            tensors[i] = x
        total = ns.tensor(0.0, "float64")
        for g in gradients_of(sample, tensors):
            total = total + (g * wrap(numbers(g.shape, 0.5, 1.5, seed=6))).sum()
        return total

    ns.check_gradients(slope, *(fixed[i] for i in positions))


@pytest.mark.parametrize("sample", every_op_with_samples(is_smooth))
def test_backward_leaves_gradients_of_the_inputs_dtype_and_shape(sample):
    expected = gradients_of(sample, sample.tensors())
    tensors = sample.tensors("float32")
    for i in float_positions(sample):
        tensors[i].requires_grad = True
    loss_of(sample, tensors).backward()
    for i, g in zip(float_positions(sample), expected, strict=True):
        assert tensors[i].grad.dtype == np.float32
        assert tensors[i].grad.shape == tensors[i].shape
        # The float64 gradient is at inputs that differ by a rounding, in slopes that can be steep.
        np.testing.assert_allclose(tensors[i].grad.numpy(), g.numpy(), rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("sample", every_op_with_samples(is_smooth))
def test_an_op_neither_changes_its_inputs_nor_records_without_need(sample):
    tensors = sample.tensors()
    before = [x.numpy().copy() for x in tensors]
    assert not sample(*tensors).requires_grad
    for x, y in zip(tensors, before, strict=True):
        np.testing.assert_array_equal(x.numpy(), y)


# ---- functions, methods, operators ----

METHODS = [
    "abs", "exp", "log", "log1p", "expm1", "sqrt", "square", "sign", "sin", "cos", "tanh", "sigmoid", "erf",
    "relu", "sum", "mean", "max", "min", "prod", "var", "std", "argmax", "argmin", "logsumexp", "softmax",
    "log_softmax", "clip", "logical_not",
]  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_method_equals_function(name):
    x = wrap(numbers((2, 3), 0.1, 2))
    np.testing.assert_array_equal(getattr(x, name)().numpy(), getattr(ns, name)(x).numpy())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("reshape", (3, 2)),
        ("reshape", ((3, -1),)),
        ("permute_dims", (1, 0)),
        ("broadcast_to", (2, 2, 3)),
        ("squeeze", ()),
        ("expand_dims", (1,)),
        ("flip", (0,)),
        ("pad", (1,)),
        ("take", ([0, 1], 0)),
        ("take_along_axis", ([[0], [1]], 1)),
        ("astype", ("float32",)),
        ("matmul", ([1.0, 2.0, 3.0],)),
        ("sum", (0, True)),
        ("mean", (1,)),
        ("var", (1, False, 1)),
        ("clip", (0.5, 1.0)),
        ("softmax", (0,)),
    ],
)
def test_method_with_arguments_equals_function(name, arguments):
    x = wrap(numbers((2, 3), 0.1, 2))
    found, expected = getattr(x, name)(*arguments), getattr(ns, name)(x, *arguments)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul, operator.lt,
             operator.le, operator.gt, operator.ge, operator.eq, operator.ne]  # fmt: skip


@pytest.mark.parametrize("operation", OPERATORS, ids=lambda f: f.__name__)
def test_operators_do_what_they_do_for_arrays(operation):
    a, b = (np.ceil(4 * numbers((2, 2), 0.5, 2, seed=seed)) / 4 for seed in (0, 1))  # exact in float32
    a[0] = b[0]
    expected = operation(a, b)
    for left, right in [(wrap(a), wrap(b)), (wrap(a), b), (a, wrap(b)), (wrap(a), b.tolist())]:
        found = operation(left, right)
        assert isinstance(found, Tensor)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("operation", [o for o in OPERATORS if o is not operator.matmul], ids=lambda f: f.__name__)
@pytest.mark.parametrize("number", [2, 0.5, True, np.float32(2), np.float64(0.5), np.int64(2)], ids=repr)
def test_operators_take_numbers_on_both_sides_and_keep_the_dtype(operation, number):
    a = numbers((2, 2), 0.5, 2).astype(np.float32)
    for found, expected in [(operation(wrap(a), number), operation(a, float(number))),
                            (operation(number, wrap(a)), operation(float(number), a))]:  # fmt: skip
        assert isinstance(found, Tensor)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_unary_operators():
    x = ns.tensor([-1.0, 2.0])
    assert (-x).tolist() == [1, -2]
    assert (+x).tolist() == [-1, 2]
    assert abs(x).tolist() == [1, 2]
    mask = ns.tensor([True, False])
    assert (~mask).tolist() == [False, True]
    assert (mask & [True, True]).tolist() == [True, False]
    assert (mask | np.array([False, False])).tolist() == [True, False]
    assert (np.array([True, True]) & mask).tolist() == [True, False]
    assert (False | mask).tolist() == [True, False]


# ---- dtypes ----

BOOLS, BYTES, INTS, LONGS = (np.array([1, 1, 1], d) for d in ("bool", "uint8", "int32", "int64"))
HALVES, DOUBLES = np.array([0.5, 1, 2], "float32"), np.array([0.5, 1, 2])

PROMOTIONS = [
    # Among arrays, floats win over integers over bools, and the widest wins within a kind.
    (HALVES, HALVES, "float32"),
    (HALVES, DOUBLES, "float64"),
    (HALVES, LONGS, "float32"),
    (DOUBLES, INTS, "float64"),
    (HALVES, BOOLS, "float32"),
    (LONGS, INTS, "int64"),
    (INTS, BYTES, "int32"),
    (INTS, BOOLS, "int32"),
    (BOOLS, BOOLS, "bool"),
    # Python numbers take the dtype of what they meet, unless they are of a higher kind.
    (HALVES, 2.5, "float32"),
    (DOUBLES, 2.5, "float64"),
    (HALVES, 2, "float32"),
    (HALVES, True, "float32"),
    (BYTES, 2, "uint8"),
    (INTS, 2, "int32"),
    (INTS, 2.5, "float32"),
    (LONGS, 2.5, "float32"),
    (BOOLS, 2, "int64"),
    (BOOLS, 2.5, "float32"),
    # So do arrays without axes: a float64 learning rate leaves float32 parameters alone.
    (HALVES, np.array(2.5), "float32"),
    (HALVES, np.float64(2.5), "float32"),
    (HALVES, np.int64(2), "float32"),
    (DOUBLES, np.float32(2.5), "float64"),
    (INTS, np.int64(2), "int32"),
    (INTS, np.array(2.5), "float32"),
    (BYTES, np.array(2, "int64"), "uint8"),
    # Only among themselves do they count.
    (np.array(2.5), np.float32(1), "float64"),
    (np.array(2), np.float32(1), "float32"),
    (np.array(2.5), 3.0, "float64"),
    (np.array([]), np.array(2.5, "float32"), "float64"),
]


@pytest.mark.parametrize(("a", "b", "dtype"), PROMOTIONS, ids=lambda v: v if isinstance(v, str) else repr(v))
def test_promotion(a, b, dtype):
    as_given = lambda v: wrap(np.asarray(v)) if isinstance(v, (np.ndarray, np.generic)) else v  # noqa: E731
    a, b = as_given(a), as_given(b)
    assert ns.maximum(a, b).dtype == dtype
    assert ns.maximum(b, a).dtype == dtype
    assert ns.where([True], a, b).dtype == dtype
    assert (a == b).dtype == bool
    if dtype != "bool":
        assert (a + b).dtype == dtype
        assert (a / b).dtype == (dtype if dtype.startswith("float") else "float32")


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.lowest_kind == "f"])
@pytest.mark.parametrize("x", [BOOLS, BYTES, LONGS], ids=lambda x: x.dtype.name)
def test_integers_become_float32_where_the_result_is_no_integer(name, x):
    arguments = (wrap(x),) * (2 if name == "div" else 1)
    assert apply(OPS[name], *arguments).dtype == np.float32


WITH_INTEGERS = {
    "add": lambda s, x: s.add(x, x) if s is np else x + x,
    "subtract": lambda s, x: x - x[:1],
    "multiply": lambda s, x: x * x,
    "power": lambda s, x: x**2,
    "negative": lambda s, x: -x,
    "abs": lambda s, x: s.abs(x),
    "sign": lambda s, x: s.sign(x),
    "square": lambda s, x: s.square(x),
    "maximum": lambda s, x: s.maximum(x, x[::-1]),
    "where": lambda s, x: s.where(x > 1, x, x[::-1]),
    "clip": lambda s, x: s.clip(x, 1, 2),
    "max": lambda s, x: s.max(x),
    "min": lambda s, x: s.min(x),
    "sum": lambda s, x: s.sum(x),
    "prod": lambda s, x: s.prod(x),
    "argmax": lambda s, x: s.argmax(x),
    "matmul": lambda s, x: x @ x,
    "reshape": lambda s, x: s.reshape(x, (2, 2)),
    "flip": lambda s, x: s.flip(x),
    "pad": lambda s, x: s.pad(x, [(1, 2)]),
    "concat": lambda s, x: s.concat([x, x]),
    "stack": lambda s, x: s.stack([x, x]),
    "index": lambda s, x: x[[0, 0, -1]],
    "take": lambda s, x: s.take(x, [1, 1], axis=0),
    "less": lambda s, x: x < x[::-1],
    "equal": lambda s, x: x == 2,
    "logical_and": lambda s, x: s.logical_and(x, x[::-1]),
    "logical_not": lambda s, x: s.logical_not(x),
}
NOT_OF_BOOLS = {"subtract", "negative", "sign", "power", "square", "clip"}  # NumPy has them not, or promotes


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in WITH_INTEGERS
        for dtype in ("bool", "uint8", "int32", "int64")
        if dtype != "bool" or name not in NOT_OF_BOOLS
    ],
)
def test_integers_and_bools_do_as_in_numpy(name, dtype):
    x = np.array([0, 3, 1, 2], dtype)
    expected = np.asarray(WITH_INTEGERS[name](np, x))
    found = WITH_INTEGERS[name](ns, wrap(x))
    np.testing.assert_array_equal(found.numpy(), expected)
    # Sums and products of integers are int64 for us, whatever their kind.
    assert found.dtype == (np.int64 if name in ("sum", "prod") else expected.dtype)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "uint32", "int64", "float32", "float64"])
def test_elementwise_ops_make_the_dtype_that_their_rules_say(dtype):
    for op in OPS.values():
        rule = getattr(op.value, "__code__", None)
        if op.kind != "elementwise" or rule.co_kwonlyargcount or "dtype" in rule.co_varnames or op.outputs > 1:
            continue
        inputs = [wrap(np.ones(3, dtype))] * (rule.co_argcount - 1)
        try:
            found = op(*inputs)
        except TypeError:  # what NumPy refuses for bools
            assert dtype == "bool", op
            continue
        graph = ns.compile(op, engine="numpy")
        assert graph(*inputs).dtype == found.dtype == graph.graph.outputs[0].dtype, op


def test_mean_and_softmax_of_integers_are_floats():
    assert ns.mean(ns.tensor([1, 2])).item() == 1.5
    assert ns.mean(ns.tensor([True, False])).item() == 0.5
    assert ns.softmax(ns.tensor([0, 0])).tolist() == [0.5, 0.5]


# ---- broadcasting and indexing against NumPy, on shapes that nobody chose ----

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60)


@DERANDOMIZED
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, min_side=0, max_side=3))
def test_broadcasting_and_its_gradient(shapes):
    a, b, c = (numbers(shape, 0.5, 2, seed=i) for i, shape in enumerate(shapes.input_shapes))
    f = lambda a, b, c: ns.where(c > 1, a * b, a / b) + c  # noqa: E731
    found = f(*map(wrap, (a, b, c)))
    assert found.shape == shapes.result_shape
    np.testing.assert_allclose(found.numpy(), np.where(c > 1, a * b, a / b) + c, rtol=1e-15)
    ns.check_gradients(f, a, b, c)


@DERANDOMIZED
@given(st.data())
def test_indexing_and_its_gradient(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    x = np.arange(float(np.prod(shape))).reshape(shape)
    if data.draw(st.booleans()):
        key = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    else:
        key = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)))
    expected = x[key]
    tensor = ns.tensor(x, requires_grad=True)
    found = tensor[key]
    np.testing.assert_array_equal(found.numpy(), expected)
    g = numbers(expected.shape)
    found.backward(g)
    wanted = np.zeros(x.size)
    for place, value in zip(x[key].flat if np.ndim(expected) else [expected], g.flat, strict=True):
        wanted[int(place)] += value  # x holds its own places
    np.testing.assert_allclose(tensor.grad.numpy(), wanted.reshape(shape), atol=1e-14)


@DERANDOMIZED
@given(st.data())
def test_reductions_over_any_axes(data):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=3))
    axes = data.draw(st.one_of(st.none(), hnp.valid_tuple_axes(len(shape))))
    keepdims = data.draw(st.booleans())
    x = numbers(shape, 0.5, 2)
    for ours, numpys in [(ns.sum, np.sum), (ns.max, np.max), (ns.mean, np.mean), (ns.prod, np.prod), (ns.var, np.var)]:
        found = ours(wrap(x), axes, keepdims)
        expected = numpys(x, axis=axes, keepdims=keepdims)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13, atol=1e-14)


def test_repeated_indices_add_up():
    x = ns.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x[[0, 0, 2, 0]].sum().backward()
    assert x.grad.tolist() == [3, 0, 1]


def test_a_mask_picks_and_its_gradient_goes_where_it_picked():
    x = ns.tensor([[1.0, -2.0], [-3.0, 4.0]], requires_grad=True)
    positive = x[x > 0]
    assert positive.tolist() == [1, 4]
    (positive * ns.tensor([10.0, 20.0])).sum().backward()
    assert x.grad.tolist() == [[10, 0], [0, 20]]


# ---- what a formula leaves open ----

TIES = {
    "relu at 0": (lambda x: ns.relu(x), [0.0], [0.0]),
    "abs at 0": (lambda x: ns.abs(x), [0.0], [0.0]),
    "maximum at a tie": (lambda x: ns.maximum(x, 1.0), [1.0], [0.5]),
    "minimum at a tie": (lambda x: ns.minimum(1.0, x), [1.0], [0.5]),
    "max at a tie": (lambda x: ns.max(x), [3.0, 1.0, 3.0], [0.5, 0.0, 0.5]),
    "min at a tie": (lambda x: ns.min(x), [1.0, 1.0, 1.0, 2.0], [1 / 3, 1 / 3, 1 / 3, 0.0]),
    "sign": (lambda x: ns.sign(x) + 0 * x, [0.0, 2.0], [0.0, 0.0]),
    "square at 0": (lambda x: x**2, [0.0], [0.0]),
    "pow 0 at 0": (lambda x: x**0, [0.0], [0.0]),
    "pow 0. at 0": (lambda x: x ** ns.tensor(0.0), [0.0], [0.0]),
    "pow 1 at 0": (lambda x: x ** ns.tensor(1.0), [0.0], [1.0]),
    "pow 1 below 0": (lambda x: x**3, [-2.0], [12.0]),
    "pow in the exponent, base 0": (lambda x: 0.0**x, [2.0], [0.0]),
    "prod with a 0": (lambda x: ns.prod(x), [2.0, 0.0, 3.0], [0.0, 6.0, 0.0]),
    "prod with two 0": (lambda x: ns.prod(x), [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    "softplus at 0": (lambda x: ns.functional.softplus(x), [0.0], [0.5]),
}


@pytest.mark.parametrize("name", TIES)
def test_slope_where_there_are_several(name):
    f, at, slope = TIES[name]
    np.testing.assert_allclose(ns.grad(lambda x: f(x).sum())(ns.tensor(at)).numpy(), slope, rtol=1e-6)


EXTREMES = {
    "sigmoid": (ns.sigmoid, [-1e3, 1e3, -80.0], [0.0, 1.0, 1.8048513878454153e-35]),
    "tanh": (ns.tanh, [-1e3, 1e3], [-1.0, 1.0]),
    "softmax": (ns.softmax, [-1e4, 1e4, 0.0], [0.0, 1.0, 0.0]),
    "log_softmax": (ns.log_softmax, [-1e4, 1e4, 0.0], [-2e4, 0.0, -1e4]),
    "logsumexp": (ns.logsumexp, [1e4, 1e4, -1e4], 1e4 + np.log(2)),
    "logsumexp far below": (ns.logsumexp, [-1e4, -1e4], -1e4 + np.log(2)),
    "logsumexp with -inf": (ns.logsumexp, [0.0, -np.inf], 0.0),
    "logsumexp with inf": (ns.logsumexp, [0.0, np.inf], np.inf),
    "softplus": (ns.functional.softplus, [-1e4, 1e4, 30.0], [0.0, 1e4, 30.0]),
    "elu": (ns.functional.elu, [-1e4, 1e4], [-1.0, 1e4]),
    "silu": (ns.functional.silu, [-1e4, 1e4], [0.0, 1e4]),
    "gelu": (ns.functional.gelu, [-1e4, 1e4], [0.0, 1e4]),
    "erf": (ns.erf, [-1e4, 1e4], [-1.0, 1.0]),
    "log1p small": (ns.log1p, [1e-20], [1e-20]),
    "expm1 small": (ns.expm1, [1e-20], [1e-20]),
    "var of large": (ns.var, [1e6, 1e6 + 1, 1e6 + 2], 2 / 3),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_are_right_with_a_finite_gradient_and_no_warning(name, dtype):
    f, at, expected = EXTREMES[name]
    x = ns.tensor(at, dtype)
    np.testing.assert_allclose(f(x).numpy(), expected, rtol=1e-6)  # float32's own rounding; warnings are errors
    if np.isfinite(at).all():
        assert np.isfinite(ns.grad(lambda x: (f(x) * f(x)).sum())(x).numpy()).all()


@pytest.mark.parametrize(
    "f", [ns.exp, ns.tanh, ns.sigmoid, ns.relu, ns.sum, ns.max, ns.mean, ns.abs, ns.maximum, ns.sign]
)
def test_nan_stays_visible(f):
    x = ns.tensor([1.0, np.nan])
    assert np.isnan(f(x, 0.0) if f is ns.maximum else f(x)).any()


# ---- mistakes ----

X = wrap(np.arange(6.0).reshape(2, 3))

MISTAKES = {
    "add": (lambda: X + ns.ones(4), ShapeError, r"\(2, 3\) and \(4,\) do not broadcast.*sizes 3 and 4"),
    "matmul": (lambda: X @ X, ShapeError, r"matmul got shapes \(2, 3\) and \(2, 3\).*last axis"),
    "matmul vectors": (lambda: ns.ones(2) @ ns.ones(3), ShapeError, "matmul got shapes"),
    "matmul by a number": (lambda: X @ 2.0, ShapeError, r"For a product by a number use \*"),
    "tensordot": (lambda: ns.tensordot(X, X, 1), ShapeError, r"tensordot got shapes .* do not pair up"),
    "sum": (lambda: X.sum(axis=2), ShapeError, "axis 2 is out of range for 2 axes"),
    "sum twice": (lambda: X.sum(axis=(0, -2)), OptionError, "names an axis twice"),
    "sum by name": (lambda: X.sum(axis="rows"), OptionError, "an axis is an integer, got 'rows'"),
    "max of nothing": (lambda: ns.zeros((0, 3)).max(axis=0), ShapeError, r"axis 0 of shape \(0, 3\).*no elements"),
    "argmax of nothing": (lambda: ns.zeros(0).argmax(), ShapeError, "no elements"),
    "argmax over axes": (lambda: ns.zeros((2, 2, 2)).argmax(axis=(0, 1)), OptionError, r"an axis is an integer"),
    "reshape": (lambda: X.reshape(4, 2), ShapeError, r"cannot reshape \(2, 3\), which has 6 elements, to \(4, 2\)"),
    "reshape twice -1": (lambda: X.reshape(-1, -1), ShapeError, "one of them may be -1"),
    "permute": (lambda: X.permute_dims(0, 0), ShapeError, "each of its 2 axes once"),
    "broadcast_to": (lambda: X.broadcast_to(2, 2), ShapeError, r"shape \(2, 3\) does not broadcast to \(2, 2\)"),
    "squeeze": (lambda: X.squeeze(0), ShapeError, "axes of size 1"),
    "concat": (
        lambda: ns.concat([X, ns.ones((2, 2))]),
        ShapeError,
        r"concat along axis 0 got shapes \(2, 3\) and \(2, 2\)",
    ),
    "concat nothing": (lambda: ns.concat([]), OptionError, "at least one"),
    "concat 0-d": (lambda: ns.concat([ns.tensor(1.0), ns.tensor(2.0)]), ShapeError, "use stack"),
    "pad": (lambda: X.pad([(1, 1)]), ShapeError, "a pair .* for each axis"),
    "pad negative": (lambda: X.pad(-1), ShapeError, "≥ 0"),
    "pad numbers": (lambda: X.pad([1, 2]), ShapeError, "a pair .* for each axis"),
    "index": (lambda: X[2], IndexError, "2"),
    "too many indices": (lambda: X[0, 0, 0], ShapeError, "got 3 indices for a Tensor of 2 axes"),
    "two ellipses": (lambda: X[..., ...], OptionError, "one ... only"),
    "index of floats": (lambda: X[[0.5]], DTypeError, "an index is made of integers.*float32"),
    "short mask": (lambda: X[[True]], ShapeError, r"mask of shape \(1,\)"),
    "long mask": (lambda: X[:, [True] * 4], ShapeError, r"mask of shape \(4,\)"),
    "array index": (lambda: X[[0, 5]], IndexError, "5 is out of bounds"),
    "take_along_axis axes": (lambda: X.take_along_axis([0]), ShapeError, "as many axes"),
    "take_along_axis floats": (lambda: X.take_along_axis([[0.0]]), DTypeError, "integers"),
    "one_hot": (lambda: ns.one_hot([0, 3], 3), DataError, "label 3 is outside the classes 0 to 2"),
    "one_hot negative": (lambda: ns.one_hot([-1], 3), DataError, "label -1"),
    "one_hot floats": (lambda: ns.one_hot([0.5], 3), DTypeError, "class numbers"),
    "one_hot classes": (lambda: ns.one_hot([0], -1), OptionError, "classes must be a whole number from 0"),
    "astype": (lambda: X.astype("complex64"), DTypeError, "float32, float64, integers or bools, not complex64"),
    "astype nonsense": (lambda: X.astype("nonsense"), DTypeError, "not a dtype: 'nonsense'"),
    "sizes apart": (lambda: ns.zeros(3, 4), DTypeError, r"not a dtype: 4; .* zeros\(\(3, 4\)\)"),
    "nothing": (lambda: ns.exp(), TypeError, r"exp\(\) needs a Tensor or a number, got no arguments"),
    "text": (lambda: X + "1", DTypeError, "not text"),
    "None": (lambda: X + None, DTypeError, "a Tensor was expected, got None"),
    "gradient of integers": (lambda: ns.tensor([1], requires_grad=True), DTypeError, "got int64; write 1.0"),
    "truth": (lambda: bool(X), ShapeError, r"as with .min\(\) or .max\(\)"),
    "negative size": (lambda: ns.zeros((2, -1)), OptionError, r"sizes of 0 or more, got \(2, -1\)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_explained(name):
    mistake, kind, message = MISTAKES[name]
    with pytest.raises(kind, match=message):
        mistake()
