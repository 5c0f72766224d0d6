"""Gradients: the walk back, what accumulates and what is cut off, derivatives of derivatives, and the checks."""

import gc
import inspect
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nissl as ns
from nissl import nn, optim
from nissl.autodiff import sum_to
from nissl.errors import GradientError, OptionError, ShapeError


def leaf(values, dtype="float64"):
    return ns.tensor(values, dtype, requires_grad=True)


# ---- the walk ----


def test_a_chain_of_100_000_ops_is_built_differentiated_and_freed():
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        x = leaf(1.0)
        y = x
        for _ in range(100_000):
            y = y + 1e-5
        y.backward()
        assert x.grad.item() == 1
        del y
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000  # one byte in fifty: freed as soon as its end was let go, without a collection of garbage


def test_a_value_used_in_many_places_adds_up_all_its_gradients():
    x = leaf([2.0, 3.0])
    a = x * x
    b = a + x
    (a * b + b).sum().backward()  # x⁴ + x³ + x² + x
    np.testing.assert_allclose(x.grad.numpy(), 4 * x.numpy() ** 3 + 3 * x.numpy() ** 2 + 2 * x.numpy() + 1)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("+*-s"), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=25))
def test_random_graphs_have_the_gradients_that_differences_give(program):
    operations = {"+": ns.Tensor.__add__, "-": ns.Tensor.__sub__, "*": ns.Tensor.__mul__, "s": lambda x, y: ns.sin(x)}

    def f(a, b):
        values = [a, b]
        for operation, i, j in program:
            x, y = values[i % len(values)], values[j % len(values)]
            values.append(operations[operation](x, y))
            values[-1] = ns.tanh(values[-1])  # keeps numbers small
        return values[-1]

    ns.check_gradients(f, [0.3, -0.7], [0.5])


def test_the_gradient_of_a_sum_of_an_input_with_itself_does_not_share_memory():
    # Both inputs get the same Tensor g as gradient; adding in place would have doubled it twice.
    x, z = leaf([1.0]), leaf([1.0])
    y = x + x
    ((y + z) + y).sum().backward()
    assert x.grad.tolist() == [4]
    assert z.grad.tolist() == [1]


def test_a_gradient_given_from_outside():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    (x * x).backward([[1.0, 0.0], [0.0, 10.0]])
    assert x.grad.tolist() == [[2, 0], [0, 80]]


def test_broadcasting_is_undone():
    a, b, c = leaf(np.ones((2, 3))), leaf(np.ones(3)), leaf(2.0)
    (a * b * c).sum().backward()
    assert a.grad.tolist() == [[2, 2, 2], [2, 2, 2]]
    assert b.grad.tolist() == [4, 4, 4]
    assert c.grad.item() == 6
    assert sum_to(ns.ones((4, 2, 3)), (2, 1)).tolist() == [[12], [12]]


# ---- what waits, what is cut off ----


def test_gradients_add_up_until_a_step_has_used_them():
    w = leaf([1.0], "float32")
    optimizer = optim.SGD([w], lr=0.5)
    (3 * w).sum().backward()
    (4 * w).sum().backward()
    assert w.grad.tolist() == [7]
    optimizer.step()
    assert w.tolist() == [-2.5]
    assert w.grad.tolist() == [7], "readable after the step"
    (2 * w).sum().backward()
    assert w.grad.tolist() == [2], "and replaced by the next backward"


def test_grad_can_be_set_and_forgotten():
    w = leaf([1.0, 2.0])
    w.grad = [5.0, 6.0]
    (w * 1.0).sum().backward()
    assert w.grad.tolist() == [6, 7]
    w.grad = None
    assert w.grad is None
    with pytest.raises(ShapeError, match=r"\(2,\); got \(3,\)"):
        w.grad = [1.0, 2.0, 3.0]


def test_no_gradient_flows_through_detach_and_no_grad():
    x = leaf([3.0])
    (x * x.detach()).sum().backward()
    assert x.grad.tolist() == [3]
    with ns.no_grad():
        y = x * x
        with pytest.raises(GradientError, match="no_grad"):
            y.sum().backward()
    assert not y.requires_grad
    assert (x * x).requires_grad, "recording is on again after the block"


def test_no_grad_ends_with_an_exception_too():
    with pytest.raises(KeyError), ns.no_grad():
        raise KeyError
    assert (leaf([1.0]) * 2).requires_grad


def test_no_gradient_is_kept_for_results_and_for_what_asks_for_none():
    x, data = leaf([1.0]), ns.tensor([2.0])
    y = x * data
    y.sum().backward()
    assert data.grad is None
    assert y.grad is None
    assert x.grad.requires_grad is False


def test_backward_can_be_called_twice():
    x = leaf([1.0])
    y = (x * x).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [4]


BAD_CALLS = {
    "no leaf": (lambda: ns.tensor([1.0]).sum().backward(), GradientError, "does not depend on any Tensor with req"),
    "no number": (lambda: (leaf([1.0, 2.0]) * 2).backward(), GradientError, r"\(2,\); reduce .*pass the gradient"),
    "gradient's shape": (lambda: (leaf([1.0, 2.0]) * 2).backward([1.0]), ShapeError, r"\(2,\) got .* \(1,\)"),
    "grad of many": (lambda: ns.grad(lambda x: x * 2)([1.0, 2.0]), GradientError, r"one element; .* shape \(2,\)"),
    "grad of no Tensor": (lambda: ns.grad(lambda x: 3.0)(1.0), GradientError, "returned float"),
    "grad of integers": (lambda: ns.grad(lambda x: x)(ns.tensor(3)), GradientError, "holds int64"),
    "argnums": (lambda: ns.grad(lambda x: x, argnums=1)(1.0), OptionError, "argument 1 of a call with 1 argument"),
    "integers": (lambda: ns.tensor([1, 2], requires_grad=True), TypeError, "only Tensors of floats"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_mistake_is_explained(name):
    call, kind, message = BAD_CALLS[name]
    with pytest.raises(kind, match=message):
        call()


# ---- grad ----


def test_grad_nests_to_any_order():
    f = lambda x: x**5  # noqa: E731
    factors = [5, 20, 60, 120, 120, 0]
    for order, factor in enumerate(factors, start=1):
        f = ns.grad(f)
        assert f(ns.tensor(1.5, "float64")).item() == pytest.approx(factor * 1.5 ** max(5 - order, 0), abs=1e-12)


def test_grad_of_several_arguments_and_of_keywords():
    f = lambda a, b, *, scale: (a * b).sum() * scale  # noqa: E731
    value, (ga, gb) = ns.value_and_grad(f, (0, 1))([1.0, 2.0], [3.0, 4.0], scale=10.0)
    assert value.item() == 110
    assert ga.tolist() == [30, 40]
    assert gb.tolist() == [10, 20]
    assert ns.grad(f, -1)([1.0, 2.0], [3.0, 4.0], scale=1.0).tolist() == [1, 2]


def test_grad_leaves_no_trace_on_its_arguments_nor_on_what_the_function_closes_over():
    w = leaf([2.0])
    x = leaf([3.0])
    found = ns.grad(lambda x: (w * x * x).sum())(x)
    assert found.tolist() == [12]
    assert w.grad is None
    assert x.grad is None
    # Still, the gradient can be differentiated for them.
    found.sum().backward()
    assert w.grad.tolist() == [6]
    assert x.grad.tolist() == [4]


def test_grad_of_an_argument_that_plays_no_part_is_zero():
    assert ns.grad(lambda x, y: (y * y).sum())([1.0, 2.0], ns.tensor([3.0])).tolist() == [0, 0]


def test_grad_works_under_no_grad():
    with ns.no_grad():
        assert ns.grad(lambda x: x * x)(3.0).item() == 6


def test_a_hessian_of_a_network_is_that_of_differences():
    ns.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4, dtype="float64"), nn.Tanh(), nn.Linear(4, 1, dtype="float64"))
    slope = ns.grad(lambda x: model(x).sum())
    ns.check_gradients(slope, [[0.1, -0.4, 0.7]])


def test_cross_derivatives_through_backward_are_symmetric():
    f = lambda x, y: ns.sin(x * y) * ns.exp(x)  # noqa: E731
    x, y = ns.tensor(0.7, "float64"), ns.tensor(-0.3, "float64")
    xy = ns.grad(lambda x, y: ns.grad(f, 0)(x, y), 1)(x, y)
    yx = ns.grad(lambda x, y: ns.grad(f, 1)(x, y), 0)(x, y)
    assert xy.item() == pytest.approx(yx.item(), rel=1e-12)


# ---- numerical gradients ----


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 2), (0,), (2, 0)])
def test_a_numerical_gradient_has_the_shape_of_its_input_and_the_slope_of_the_function(shape):
    x = np.random.default_rng(0).normal(size=shape)
    found = ns.numerical_gradient(lambda x: (x**3).sum(), x)
    assert found.shape == shape
    np.testing.assert_allclose(found, 3 * x**2, rtol=1e-6, atol=1e-7)


def test_a_numerical_gradient_is_central():
    # A one-sided difference of |x| at 0 would give 1; of x² at 0 it would give h.
    assert ns.numerical_gradient(lambda x: abs(x).sum(), np.zeros(1)) == 0
    assert ns.numerical_gradient(lambda x: (x**2).sum(), np.zeros(1), h=0.1) == 0


@pytest.mark.parametrize("kind", ["array", "Tensor", "Parameter"])
def test_the_input_is_as_it_was_also_if_the_function_raises(kind):
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    x = {"array": values.copy(), "Tensor": ns.tensor(values), "Parameter": nn.Parameter(values)}[kind]
    calls = []

    def raises_in_the_middle(x):
        calls.append(1)
        if len(calls) == 4:
            raise ZeroDivisionError
        return (x * x).sum()

    with pytest.raises(ZeroDivisionError):
        ns.numerical_gradient(raises_in_the_middle, x)
    np.testing.assert_array_equal(np.asarray(x), values)
    ns.numerical_gradient(lambda x: (x * x).sum(), x)
    np.testing.assert_array_equal(np.asarray(x), values)


def test_the_weights_that_a_model_holds_can_be_the_input():
    model = nn.Linear(2, 1, dtype="float64")
    x, t = ns.tensor([[1.0, 2.0]], "float64"), ns.tensor([[3.0]], "float64")
    loss = nn.mse_loss(model(x), t)
    loss.backward()
    found = ns.numerical_gradient(lambda _: nn.mse_loss(model(x), t), model.weight)
    np.testing.assert_allclose(found, model.weight.grad.numpy(), rtol=1e-7)


def test_a_float32_input_is_changed_by_the_step_that_it_can_take():
    # 1000 ± 1e-4 in float32 is 1000 ± 1.2e-4: dividing by 2h would be wrong by a fifth.
    found = ns.numerical_gradient(lambda x: x.astype("float64").sum(), np.array([1000.0], "float32"), h=1e-4)
    assert found == pytest.approx(1)


def test_a_non_contiguous_input_is_changed_in_place():
    big = np.arange(12.0).reshape(3, 4)
    view = big[:, ::2]
    np.testing.assert_allclose(ns.numerical_gradient(lambda _: (big**2).sum(), view), 2 * view, atol=1e-6)


@pytest.mark.parametrize(
    ("f", "x", "h", "message"),
    [
        (lambda x: x.sum(), np.array([1, 2]), 1e-4, "needs floats.*int64"),
        (lambda x: x, np.array([1.0, 2.0]), 1e-4, r"returns one number, got shape \(2,\)"),
        (lambda x: x.sum(), np.array([1.0]), 0, "step h of numerical_gradient must be above 0, got 0"),
        (lambda x: x.sum(), np.array([1.0]), -1e-4, "step h of numerical_gradient must be above 0"),
    ],
)
def test_a_mistake_with_numerical_gradient_is_explained(f, x, h, message):
    with pytest.raises((OptionError, GradientError), match=message):
        ns.numerical_gradient(f, x, h)


# ---- the check is checked ----

WRONG = {
    "half of it is missing": lambda x: x * x.detach(),
    "a factor of 1.00001": lambda x: 1.00001 * ns.exp(x) - 0.00001 * ns.exp(x).detach(),
    "a sign": lambda x: -ns.sin(x) + 2 * ns.sin(x).detach(),
    "nothing at all": lambda x: x.detach() * 2 + 0 * x,
    "one element only": lambda x: ns.concat([x[:1], x[1:].detach() * x[1:]]),
    "NaN": lambda x: ns.sqrt(x - x) + x,
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_check_gradients_rejects_a_wrong_gradient(name):
    with pytest.raises(GradientError, match=r"input 0, element \(\d,\): backpropagation gives .*differences give"):
        ns.check_gradients(WRONG[name], [0.5, 1.5])


def test_check_gradients_says_which_input_which_element_and_both_numbers():
    message = r"input 1, element \(0, 1\): backpropagation gives 3\.\d*, central differences give 6\.\d*; 1 of 2"
    f = lambda a, b: (a * b * ns.where(ns.tensor([[False, True]]), b.detach(), 1.0)).sum()  # noqa: E731
    with pytest.raises(GradientError, match=message):
        ns.check_gradients(f, [[1.0, 1.0]], [[2.0, 3.0]])


def test_check_gradients_takes_integers_as_they_are():
    ns.check_gradients(lambda x, i: x[i], [1.0, 2.0, 3.0], [2, 2])


# ---- the graph and what flows back along its edges ----


def test_gradient_flow_has_the_gradients_of_intermediate_values():
    x, w = leaf([[1.0, 2.0]]), leaf([[3.0], [4.0]])
    product = x @ w
    shifted = product + 1.0
    edges = ns.gradient_flow((shifted * shifted).sum())
    assert [edge.target.op.name for edge in edges] == ["matmul", "matmul", "add", "add", "mul", "mul", "sum"]
    along = {id(edge.source): edge.gradient for edge in edges if edge.source is not shifted}
    np.testing.assert_array_equal(along[id(product)].numpy(), [[24.0]])
    np.testing.assert_array_equal(along[id(x)].numpy(), [[72.0, 96.0]])
    assert x.grad is None
    assert w.grad is None


def test_the_parts_of_a_gradient_add_up_to_what_backward_leaves():
    x, b = leaf([1.0, 2.0, 3.0]), leaf(0.5)
    y = (x * x.tanh() + b * x - x).sum()
    parts = [edge.gradient for edge in ns.gradient_flow(y) if edge.source is x]
    y.backward()
    assert len(parts) == 4
    np.testing.assert_allclose(np.sum([part.numpy() for part in parts], axis=0), x.grad.numpy(), rtol=1e-15)
    (to_b,) = [edge.gradient for edge in ns.gradient_flow(y) if edge.source is b]
    np.testing.assert_array_equal(to_b.numpy(), b.grad.numpy())  # of the shape of b, though b was broadcast


def test_nothing_flows_to_constants():
    x = leaf(2.0)
    found = {edge.source.item(): edge.gradient for edge in ns.gradient_flow(x * 3.0 + ns.tensor(7.0))}
    assert found[3.0] is None
    assert found[7.0] is None
    assert found[2.0].item() == 3.0


def test_an_op_called_wrongly_says_what_it_takes():
    x = ns.tensor([1.0, 2.0])
    for call, message in {
        lambda: ns.maximum(x): r"maximum\(\): missing a required argument: 'b'",
        lambda: ns.exp(x, x): r"exp\(\): too many positional arguments",
        lambda: x.exp(2): r"exp\(\): too many positional arguments",
    }.items():
        with pytest.raises(TypeError, match=message):
            call()
    assert str(inspect.signature(ns.maximum)) == "(a, b)"
    assert (ns.Tensor.exp.__name__, ns.Tensor.exp.__doc__) == ("exp", ns.exp.__doc__)


def test_gradient_flow_needs_one_number_with_a_history():
    with pytest.raises(GradientError, match=r"gradient_flow\(\) was called on a Tensor that does not depend"):
        ns.gradient_flow(ns.tensor(1.0))
    with pytest.raises(
        GradientError, match=r"gradient_flow\(\) needs a Tensor of one element, got shape \(2,\).*mean\(\)$"
    ):
        ns.gradient_flow(leaf([1.0, 2.0]) * 2)


# ---- memory ----


def test_10_000_eager_steps_leave_nothing_behind():
    ns.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm(3), nn.Dropout(0.1), nn.Linear(3, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, labels = ns.random.normal((2, 2)), ns.tensor([0, 1])

    def steps(n):
        for _ in range(n):
            nn.cross_entropy(model(x), labels).backward()
            optimizer.step()

    steps(100)
    gc.collect()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        steps(10_000)
        garbage = gc.collect()  # empties Python's lists of free objects too, which count as allocated
        grown = sys.getallocatedblocks() - before
    finally:
        gc.enable()
    assert garbage == 0, "what a step makes goes at once, without a collection of garbage"
    assert grown < 100  # one object left behind in each step would be 10,000


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_step_that_vanishes_beside_an_element_is_refused(dtype):
    x = np.array([0.0, 1.0], dtype)
    message = f"step h = 1e-30, which vanishes beside the element 1 in {dtype}; take a larger one"
    with pytest.raises(OptionError, match=message):
        ns.numerical_gradient(lambda x: (x**2).sum(), x, 1e-30)
    np.testing.assert_array_equal(x, [0, 1])
