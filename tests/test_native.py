"""The native engine beside the interpreter: every op on its samples, random programs, state that changes in place."""

import contextlib
import threading
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import every_op_with_samples, numbers

import nissl as ns
from nissl import nn, optim
from nissl.engines.native import plan, program
from nissl.engines.native.kernels import Call, Group, Straight
from nissl.engines.native.program import Program
from nissl.errors import DataError, TracingError
from nissl.graph.interpret import interpret
from nissl.random import streams

# float32 rounds once less where a product and a sum are fused, and other functions have other last digits.
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


def close(found, expected, dtype="float32", factor=1.0):
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    tolerance = TOLERANCE[dtype] * factor
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0))) if expected.dtype.kind == "f" else 1
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


def graph_of(f, *inputs):
    compiled = ns.compile(f, engine="numpy")
    compiled(*inputs)
    return compiled.graph


def in_registers(allowed):
    """Let tiny programs be one kernel that stays in registers, or have them take the way of large ones."""
    return mock.patch.object(plan, "TINY_VALUE", plan.TINY_VALUE if allowed else 0)


@pytest.mark.parametrize("tiny", [True, False], ids=["in registers", "in loops"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sample", every_op_with_samples(lambda sample: "mask" not in sample.name))
def test_every_op_does_on_its_samples_what_the_interpreter_does(sample, dtype, tiny):
    tensors = sample.tensors(dtype)
    graph = graph_of(lambda *x: sample(*x), *tensors)
    arrays = [np.array(x.numpy()) for x in tensors]
    expected = interpret(graph, arrays)
    with in_registers(tiny):
        program = Program(graph)
    for _ in range(2):  # what a call leaves in memory must not reach the next
        for found, wanted in zip(program(arrays), expected, strict=True):
            close(found, wanted, dtype)


def ops_left_to_numpy(graph):
    with in_registers(False):
        return {kernel.equation.op.name for kernel in Program(graph).plan.kernels if isinstance(kernel, Call)}


WITH_MACHINE_CODE = {
    "activations": lambda x: nn.GELU()(nn.ELU()(nn.SiLU()(ns.tanh(x)))) + ns.sigmoid(x) * nn.Softplus()(x),
    "row reductions": lambda x: x.max(axis=1) + x.min(axis=1, keepdims=True)[:, 0] + x.argmax(axis=1) + x.mean(1),
    "column reductions": lambda x: x.sum(axis=0) + x.max(axis=0) * x.var(axis=0),
    "everything": lambda x: x.sum() + x.max() + x.mean(),
    "products": lambda x: (x @ x.T) @ x + x.T.reshape(4, 3).T,
    "softmax": lambda x: x.softmax() * x.log_softmax(1),
    "joined": lambda x: ns.concat([x, x * 2.0], axis=1).pad(1) + ns.stack([x, x], axis=2).sum(),
    "slices": lambda x: ns.grad(lambda x: (x[1:, ::2] * x[:2, 1::2]).sum() + x[0, 3] + x[:, -1].sum())(x),
    "labels": lambda x: nn.cross_entropy(x, x.argmax(axis=1)),
    "random numbers": lambda x: x * ns.random.uniform((3, 4)) + ns.random.normal((3, 4)),
}


@pytest.mark.parametrize("name", WITH_MACHINE_CODE)
def test_what_a_network_needs_has_machine_code(name):
    assert ops_left_to_numpy(graph_of(WITH_MACHINE_CODE[name], ns.tensor(numbers((3, 4)), "float32"))) == set()


# ---- random programs ----

SHAPES = [(), (1,), (3,), (17,), (2, 3), (3, 1), (2, 17), (5, 16), (1, 33), (2, 3, 4), (0, 3), (7, 1, 2), (1009,)]

UNARY = {
    "exp": lambda x: ns.exp(-ns.abs(x)),
    "tanh": ns.tanh,
    "sigmoid": ns.sigmoid,
    "square": lambda x: ns.tanh(ns.square(x)),
    "relu": ns.relu,
    "sqrt": lambda x: ns.sqrt(ns.abs(x) + 0.5),
    "log": lambda x: ns.log(ns.abs(x) + 0.5),
    "neg": lambda x: -x,
    "compare": lambda x: (x > 0.25).astype(x.dtype),
    "integers": lambda x: ns.clip(x * 7, -50.0, 50.0).astype("int32").astype(x.dtype) / 7,
    "double": lambda x: ns.tanh(x.astype("float64")).astype(x.dtype),
    "sum": lambda x: ns.tanh(x.sum(axis=-1, keepdims=True)) if x.ndim else x,
    "column": lambda x: ns.tanh(x.sum(axis=0)) if x.ndim else x,
    "all": lambda x: ns.tanh(x.sum()),
    "max": lambda x: x.max(axis=-1) if x.ndim and x.shape[-1] else x,
    "softmax": lambda x: x.softmax(-1) if x.ndim else x,
    "log_softmax": lambda x: ns.tanh(x.log_softmax(0)) if x.ndim else x,
    "transposed": lambda x: x.T,
    "flipped": lambda x: x.flip(),
    "sliced": lambda x: x[..., ::2] if x.ndim else x,
    "row": lambda x: x[-1] if x.ndim and x.shape[0] else x,
    "flat": lambda x: x.reshape(-1),
    "wider": lambda x: x.expand_dims(-1),
    "normalized": lambda x: (
        (x - x.mean(-1, keepdims=True)) / ns.sqrt(x.var(-1, keepdims=True) + 0.1) if x.ndim and x.shape[-1] else x
    ),
}

BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: ns.tanh(a * b),
    "div": lambda a, b: a / (ns.abs(b) + 0.5),
    "maximum": ns.maximum,
    "where": lambda a, b: ns.where(a < b, a, b * 0.5),
    "matmul": lambda a, b: ns.tanh(a @ b),
    "product": lambda a, b: ns.tanh(a.T @ b),
}


def run_program(program, values):
    """Apply instructions to a growing list of values; what does not fit in shape is left out."""
    values = list(values)
    for name, i, j in program:
        a, b = values[i % len(values)], values[j % len(values)]
        try:
            result = UNARY[name](a) if name in UNARY else BINARY[name](a, b)
        except ValueError:
            continue
        if result.size <= 20_000:
            values.append(result)
    return values[-3:]


INSTRUCTIONS = st.tuples(st.sampled_from([*UNARY, *BINARY]), st.integers(0, 20), st.integers(0, 20))


@settings(derandomize=True, deadline=None, max_examples=120)
@given(
    st.lists(INSTRUCTIONS, min_size=3, max_size=25),
    st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3),
    st.sampled_from(["float32", "float64"]),
)
def test_random_programs_give_what_the_interpreter_gives(program, shapes, dtype):
    assert_as_interpreted(program, shapes, dtype)


def assert_as_interpreted(program, shapes, dtype):
    inputs = [ns.tensor(numbers(shape, seed=i), dtype) for i, shape in enumerate(shapes)]
    graph = graph_of(lambda *x: tuple(run_program(program, x)), *inputs)
    arrays = [np.array(x.numpy()) for x in inputs]
    expected = interpret(graph, arrays)
    native = Program(graph)
    for _ in range(2):
        for found, wanted in zip(native(arrays), expected, strict=True):
            # A chain of 25 functions may multiply a rounding; a comparison may fall on the other side.
            close(found, wanted, dtype, factor=20)


TINY_SHAPES = [(), (1,), (3,), (2, 3), (3, 1), (3, 2), (2, 3, 4), (4, 1, 2)]


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    st.lists(INSTRUCTIONS, min_size=2, max_size=8),
    st.lists(st.sampled_from(TINY_SHAPES), min_size=1, max_size=3),
    st.sampled_from(["float32", "float64"]),
)
def test_tiny_random_programs_give_what_the_interpreter_gives(program, shapes, dtype):
    assert_as_interpreted(program, shapes, dtype)


def test_a_tiny_training_step_is_one_kernel_that_updates_in_place():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    optimizer = optim.Adam(model.parameters())
    x, t = ns.tensor(numbers((4, 2)), "float32"), ns.tensor(numbers((4, 1), seed=1), "float32")

    def step():
        loss = nn.mse_loss(model(x), t)
        loss.backward()
        optimizer.step()
        return loss

    program = Program(graph_of(step))
    (kernel,) = program.plan.kernels
    assert isinstance(kernel, Straight)
    assert len(program.plan.in_place) == len(program.graph.updates)
    assert program.can_scan


@pytest.mark.parametrize("inner", [1, 2, 15, 16, 17, 100])
@pytest.mark.parametrize("columns", [1, 2, 15, 16, 17, 31, 33, 70])
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 33])
def test_products_of_every_size_around_the_tile(rows, columns, inner):
    a, b = numbers((rows, inner)).astype("float32"), numbers((inner, columns), seed=1).astype("float32")
    for f, x, y in [(lambda a, b: a @ b, a, b), (lambda a, b: a.T @ b.T + 1.0, a.T.copy(), b.T.copy())]:
        graph = graph_of(f, ns.tensor(x), ns.tensor(y))
        close(Program(graph)([x, y])[0], interpret(graph, [x, y])[0], factor=5)


@pytest.mark.parametrize(
    ("rows", "inner", "columns"),
    [(1500, 1100, 20), (13, 2100, 70), (1100, 2500, 3), (1000, 900, 130), (300, 1500, 700)],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_large_products_are_taken_in_panels_and_steps(rows, inner, columns, transposed):
    a, b = numbers((rows, inner)).astype("float32"), numbers((inner, columns), seed=1).astype("float32")
    if transposed:
        a, b = a.T.copy(), b.T.copy()
        graph = graph_of(lambda a, b: ns.relu(a.T @ b.T + 1.0), ns.tensor(a), ns.tensor(b))
    else:
        graph = graph_of(lambda a, b: ns.relu(a @ b + 1.0), ns.tensor(a), ns.tensor(b))
    close(Program(graph)([a, b])[0], interpret(graph, [a, b])[0], factor=10)


# ---- state ----

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adagrad": lambda p: optim.AdaGrad(p, lr=0.1),
    "rmsprop": lambda p: optim.RMSProp(p, lr=0.01, momentum=0.5),
    "adam": lambda p: optim.Adam(p, lr=optim.schedules.cosine(0.01, 400)),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def trained(engine, make_optimizer, steps, dtype, *, clip=False):
    ns.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 20, dtype=dtype), nn.LayerNorm(20, dtype=dtype), nn.Tanh(),
                          nn.Dropout(0.2), nn.Linear(20, 3, dtype=dtype))  # fmt: skip
    optimizer = make_optimizer(model.parameters())

    @ns.compile(engine=engine)
    def step(x, labels):
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()
        if clip:
            optim.clip_grad_norm(model.parameters(), 0.5)
        optimizer.step()
        return loss

    x, labels = ns.tensor(numbers((10, 6)), dtype), ns.tensor(np.arange(10) % 3)
    losses = [step(x, labels).item() for _ in range(steps)]
    return losses, model.state_dict(), optimizer.state_dict(), step


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_that_of_the_reference(name, dtype):
    for steps, tolerance in ((1, 2e-6), (200, 1e-4)) if dtype == "float32" else ((1, 1e-12), (200, 1e-9)):
        expected = trained("numpy", OPTIMIZERS[name], steps, dtype, clip=name == "sgd")
        found = trained("native", OPTIMIZERS[name], steps, dtype, clip=name == "sgd")
        np.testing.assert_allclose(found[0], expected[0], rtol=tolerance, atol=tolerance)
        for state, wanted in zip(found[1:3], expected[1:3], strict=True):
            for path, values in wanted.items():
                np.testing.assert_allclose(state[path], values, rtol=tolerance, atol=tolerance * 10, err_msg=path)


def test_a_training_step_leaves_nothing_to_numpy():
    step = trained("native", OPTIMIZERS["adam"], 1, "float32", clip=True)[3]
    assert ops_left_to_numpy(step.graph) == set()


def test_the_weights_keep_their_memory_and_nobody_elses_changes():
    w, other = nn.Parameter(np.ones(40, "float32")), nn.Parameter(np.zeros(40, "float32"))

    @ns.compile(engine="native")
    def step(x):
        w.assign(w + x)
        return w.sum()

    def address():
        return w.payload.__array_interface__["data"][0]

    step(2.0)
    before = address()
    assert step(2.0).item() == 200
    assert address() == before, "written in place"
    view = w.reshape(2, 20)  # holds the memory
    other.assign(w)  # and so does this
    assert step(2.0).item() == 280
    assert view.numpy().max() == 5
    assert other.numpy().max() == 5
    assert w.numpy().min() == 7


def test_two_tensors_may_exchange_their_values():
    a, b = nn.Parameter([1.0, 2.0]), nn.Parameter([3.0, 4.0])

    @ns.compile(engine="native")
    def swap():
        old = a + 0.0
        a.assign(b)
        b.assign(old)

    for _ in range(3):
        swap()
    assert (a.tolist(), b.tolist()) == ([3, 4], [1, 2])


def test_the_old_value_may_be_read_after_the_new_one_is_made():
    w = nn.Parameter(np.arange(20.0, dtype="float32"))

    @ns.compile(engine="native")
    def step():
        old = w.flip()
        w.assign(w * 2.0)
        return old, w.detach(), old + w

    for power in range(3):
        old, new, total = step()
        expected = np.arange(20.0) * 2**power
        np.testing.assert_array_equal(old.numpy(), expected[::-1])
        np.testing.assert_array_equal(new.numpy(), expected * 2)
        np.testing.assert_array_equal(total.numpy(), expected[::-1] + expected * 2)


def test_results_of_one_call_are_left_alone_by_the_next():
    double = ns.compile(lambda x: (x * 2.0, x.reshape(2, 3).T, x), engine="native")
    first = double(ns.tensor(np.arange(6.0)))
    kept = [np.array(x.numpy()) for x in first]
    double(ns.tensor(np.arange(6.0) + 100))
    for x, before in zip(first, kept, strict=True):
        np.testing.assert_array_equal(x.numpy(), before)


def test_the_same_tensor_twice_and_a_parameter_as_an_argument():
    w = nn.Parameter([1.0, 2.0])
    f = ns.compile(lambda a, b: (a * b + w).sum(), engine="native")
    assert f(w, w).item() == 8
    x = ns.tensor([3.0, 4.0])
    assert f(x, x).item() == 28


def test_a_label_out_of_range_is_an_error_and_changes_nothing():
    model = nn.Linear(2, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @ns.compile(engine="native")
    def step(x, labels):
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    x = ns.ones((4, 2))
    step(x, ns.tensor([0, 1, 2, 0]))
    before = model.state_dict()
    for bad in ([0, 1, 3, 0], [0, -1, 1, 2]):
        with pytest.raises(DataError, match=r"label (3|-1) is outside the classes 0 to 2"):
            step(x, ns.tensor(bad))
    for path, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[path])
    step(x, ns.tensor([0, 1, 2, 0]))


def test_a_label_out_of_range_changes_nothing_though_numpy_comes_first():
    count, w = nn.Buffer(np.zeros(2)), nn.Parameter(np.ones((3, 4)))

    @ns.compile(engine="native")
    def step(x, whole, labels):
        count.assign(count + 1.0)
        return nn.cross_entropy((x + (whole.T @ whole).sum()) @ w, labels)

    x, whole = np.ones((5, 3)), np.ones((100, 3), int)
    step(x, whole, np.array([0, 1, 2, 3, 0]))
    assert "NumPy: matmul" in step.explain()
    with pytest.raises(DataError, match="label 7"):
        step(x, whole, np.array([0, 1, 2, 3, 7]))
    assert count.tolist() == [1, 1]


def test_dropout_draws_the_masks_of_the_reference():
    layer = nn.Dropout(0.5)
    for engine in ("numpy", "native"):
        ns.manual_seed(3)
        f = ns.compile(layer, engine=engine)
        masks = [f(ns.ones((50, 7))).numpy() for _ in range(3)]
        if engine == "numpy":
            expected = masks
    for found, wanted in zip(masks, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert streams["dropout"].draws.item() == 3


def test_non_contiguous_and_foreign_arrays_are_taken():
    f = ns.compile(lambda x: x * 2.0, engine="native")
    big = np.arange(24.0, dtype="float32").reshape(4, 6)
    for x in (big.T, big[:, ::2], big[::-1], np.broadcast_to(big[0], (4, 6))):
        np.testing.assert_array_equal(f(x).numpy(), x * 2)


def test_two_threads_may_call_one_function_at_once():
    f = ns.compile(lambda x: (ns.exp(x) * x).sum() + x.max(), engine="native")
    inputs = [ns.tensor(numbers((300, 20), seed=i)) for i in range(4)]
    expected = [f(x).item() for x in inputs]
    wrong = []

    def call(i):
        for _ in range(200):
            if f(inputs[i]).item() != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_asking_for_a_value_fails_as_on_every_engine():
    with pytest.raises(TracingError):
        ns.compile(lambda x: float(x.sum()), engine="native")(ns.ones(3))


def test_what_surrounds_a_product_is_computed_with_it():
    step = trained("native", OPTIMIZERS["adam"], 1, "float32")[3]
    groups = [kernel for kernel in Program(step.graph).plan.kernels if isinstance(kernel, Group)]
    led = [[e.op.name for e in group.equations] for group in groups if group.leader is not None]
    assert ["adam"] in led, "the update is made where the gradient of the weights is"
    assert ["add"] in led, "the bias is added where the product is"


def test_what_cannot_be_compiled_runs_on_numpy_with_one_warning(monkeypatch, tmp_path):
    def fail(*arguments):
        raise RuntimeError("LLVM has no registers left")

    monkeypatch.setattr("nissl.engines.native.program.object_code", fail)
    monkeypatch.setenv("NISSL_CACHE_HOME", str(tmp_path))
    f = ns.compile(lambda x: (x * 2.0).sum())
    with pytest.warns(UserWarning, match="runs on NumPy, since .* RuntimeError: LLVM has no registers left"):
        assert f(ns.ones(3)).item() == 6
    assert f(ns.ones(3)).item() == 6


# ---- scan ----


def counting(engine):
    total, weight = nn.Buffer([0.0]), nn.Parameter(np.ones((3, 2), "float32"))
    optimizer = optim.SGD([weight], lr=0.1)

    @ns.compile(engine=engine)
    def step(x, labels):
        loss = nn.cross_entropy(x @ weight, labels)
        loss.backward()
        optimizer.step()
        total.assign(total + 1.0)
        return loss, {"total": total.sum(), "logits": x @ weight}

    return step, weight, total


def test_a_scan_is_call_after_call():
    x, labels = numbers((7, 4, 3)).astype("float32"), np.arange(28).reshape(7, 4) % 2
    step, weight, total = counting("native")
    loss, rest = step.scan(ns.tensor(x), labels)
    other, other_weight, _ = counting("native")
    for i in range(7):
        expected, expected_rest = other(x[i], labels[i])
        assert loss[i].item() == expected.item()
        np.testing.assert_array_equal(rest["logits"][i].numpy(), expected_rest["logits"].numpy())
    np.testing.assert_array_equal(weight.numpy(), other_weight.numpy())
    assert rest["total"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert total.item() == 7
    assert step.latest.can_scan
    by_numpy, numpy_weight, _ = counting("numpy")
    np.testing.assert_allclose(by_numpy.scan(x, labels)[0].numpy(), loss.numpy(), rtol=1e-5)
    np.testing.assert_allclose(weight.numpy(), numpy_weight.numpy(), rtol=1e-5)


def test_a_scan_without_arguments_and_one_that_numpy_takes_part_in():
    count = nn.Buffer([0.0, 0.0])

    @ns.compile
    def tick():
        count.assign(count + 1.0)
        return count.take_along_axis(ns.tensor([1, 0, 1]))

    assert tick.scan(steps=3).tolist() == [[1] * 3, [2] * 3, [3] * 3]
    assert not tick.latest.can_scan
    assert count.tolist() == [3, 3]


def test_a_scan_leaves_the_arrays_of_others_alone():
    w = nn.Parameter(np.zeros(20, "float32"))

    @ns.compile
    def step():
        w.assign(w + 1.0)
        return w.sum()

    before = w.reshape(4, 5)
    assert step.scan(steps=10).tolist() == [20.0 * i for i in range(1, 11)]
    assert before.numpy().max() == 0
    assert w.numpy().min() == 10


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [((np.ones((3, 2)), np.ones((4, 2))), None), ((), None), ((np.ones((3, 2)),), 2), ((), 0), ((1.0,), None)],
)
def test_a_scan_needs_a_number_of_steps(arguments, steps):
    with pytest.raises(ns.OptionError, match="scan needs arguments with a first axis of steps"):
        ns.compile(lambda *x: x[0] if x else None).scan(*arguments, steps=steps)


def test_a_label_out_of_range_in_a_scan_is_an_error():
    step, _, total = counting("native")
    with pytest.raises(DataError, match="out of range in one of the steps"):
        step.scan(np.ones((3, 4, 3), "float32"), np.array([[0, 1, 0, 1], [0, 2, 0, 1], [0, 1, 0, 1]]))
    assert total.item() == 1, "it ended before the step with the wrong label"


def test_rows_are_taken_by_their_numbers():
    data = ns.tensor(np.arange(60, dtype="uint8").reshape(5, 3, 4))
    take = ns.compile(lambda rows: data[rows].astype("float32") * 0.5)
    for rows in ([0, 4, 4, -1], [2]):
        np.testing.assert_array_equal(take(ns.tensor(rows)).numpy(), data.numpy()[rows] * np.float32(0.5))
    for bad in ([5], [0, -6]):
        with pytest.raises(IndexError):
            take(ns.tensor(bad))


# ---- seeing inside ----

EXPLAINED = """\
f on the native engine: 2 kernels
  0 30×4 over 2: matmul add relu  (720 operations, 768 bytes)
      matmul a b: float32[30, 4]
      add d c: float32[30, 4]
      relu e: float32[30, 4]
  1 30×4: max sub exp sum div  (600 operations, 960 bytes)
      max f axes=(1,) keepdims=True: float32[30, 1]
      sub f g: float32[30, 4]
      exp h: float32[30, 4]
      sum i axes=(1,) keepdims=True: float32[30, 1]
      div i j: float32[30, 4]"""


def small_program():
    w, b = nn.Parameter(numbers((2, 4)), "float32"), nn.Parameter(np.zeros(4), "float32")

    def f(x):
        return ns.relu(x @ w + b).softmax()

    return ns.compile(f)


def test_explain_shows_what_is_computed_together():
    f = small_program()
    f(ns.ones((30, 2)))
    lines = [line.split("  test_native.py")[0] for line in f.explain().splitlines()]
    assert "\n".join(lines) == EXPLAINED
    assert "test_native.py:" in f.explain()


def test_profile_times_every_kernel_and_changes_nothing():
    step = trained("native", OPTIMIZERS["adam"], 1, "float32")[3]
    x, labels = ns.tensor(numbers((10, 6)), "float32"), ns.tensor(np.arange(10) % 3)
    before = [t.numpy() for t in step.latest.state]
    report = step.profile(x, labels)
    for t, values in zip(step.latest.state, before, strict=True):
        np.testing.assert_array_equal(t.numpy(), values)
    kernels = Program(step.graph).plan.kernels
    assert len(report.splitlines()) == len(kernels) + 2
    assert "GFLOP/s" in report
    assert "of which the limits of one core take" in report
    step(x, labels)  # the addresses of the copies are not used again
    with pytest.raises(ns.OptionError, match="no kernels to profile"):
        trained("numpy", OPTIMIZERS["sgd"], 1, "float32")[3].profile(x, labels)


def test_a_value_that_is_a_view_of_anothers_memory_is_not_written_to():
    other = ns.tensor(np.zeros((5, 8), "float32"))
    w = nn.Parameter(np.zeros(40, "float32"))
    w.assign(other.reshape(40))

    @ns.compile
    def step():
        w.assign(w + 1.0)

    for expected in (1, 2, 3):
        step()
        assert w.numpy().min() == expected
        kept = w.reshape(8, 5)
    step.scan(steps=4)
    assert other.numpy().max() == 0
    assert kept.numpy().max() == 3
    assert w.numpy().min() == 7


# ---- what a review found: each was wrong once ----


def _full(value, shape=(20, 30)):
    return ns.tensor(np.full(shape, value, "float32"))


def _random(*shape, seed=0):
    return ns.tensor(numbers(shape, seed=seed), "float32")


ROWS = ns.tensor(np.random.default_rng(1).permutation(200))


def later_stage_reads_again():
    w = _random(4, 300)

    def f():
        new = w + 1
        result = w * new.max(axis=-1, keepdims=True)
        w.assign(new)
        return result

    return [w], f


def updates_made_of_each_other(shape):
    a, b, other = _full(1, shape), _full(2, shape), _random(30, 30)

    def f():
        new_a, new_b = b * 1.5, a + b * 1.5
        a.assign(new_a)
        b.assign(new_b)
        return other.sum()

    return [a, b], f


def rows_permuted(shape):
    w = ns.tensor(np.arange(np.prod(shape), dtype="float32").reshape(shape))

    def f():
        w.assign(w[ROWS] + 1)
        return (w * 2).sum()

    return [w], f


def rows_read_beside_an_update():
    w = _random(200, 3)

    def f():
        twice = w * 2
        result = twice + w[ROWS]
        w.assign(twice)
        return result

    return [w], f


def updates_led_by_a_product():
    k, a, b = _random(40, 40), _full(1, (40, 40)), _full(2, (40, 40))

    def f():
        m = k @ k
        new_a, new_b = m + b, m + a
        a.assign(new_a)
        b.assign(new_b)
        return m.sum()

    return [a, b], f


def column_sums_of_a_later_stage():
    w = _random(40, 100)

    def f():
        new = w * 2
        result = (w - new.sum(axis=-1, keepdims=True)).sum(axis=0)
        w.assign(new)
        return result

    return [w], f


HAZARDS = {
    "a later stage reads again": later_stage_reads_again,
    "updates made of each other": lambda: updates_made_of_each_other((20, 30)),
    "numbers made of each other": lambda: updates_made_of_each_other(()),
    "rows permuted": lambda: rows_permuted((200, 3)),
    "elements permuted": lambda: rows_permuted((200,)),
    "rows read beside an update": rows_read_beside_an_update,
    "updates led by a product": updates_led_by_a_product,
    "column sums of a later stage": column_sums_of_a_later_stage,
}


@pytest.mark.parametrize("name", HAZARDS)
def test_an_update_in_place_overwrites_nothing_that_is_needed(name):
    found = {}
    for engine in ("numpy", "native"):
        state, f = HAZARDS[name]()
        compiled = ns.compile(f, engine=engine)
        found[engine] = [np.array(x.numpy()) for _ in range(3) for x in (compiled(), *state)]
    for a, b in zip(found["native"], found["numpy"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [3, 300])
def test_a_wrong_label_found_on_the_way_changes_no_state(size):
    count = ns.tensor(np.zeros(size, "float32"))

    @ns.compile
    def f(labels):
        count.assign(count + 1)
        return ns.one_hot(labels - 1, 4).sum()

    good, bad = np.ones(size, int), np.zeros(size, int)
    f(good)
    f(good)
    for call in (lambda: f(bad), lambda: f.scan(np.stack([bad, good])), lambda: f.profile(bad)):
        with contextlib.suppress(DataError):
            call()
    assert count.numpy().tolist() == [2.0] * size
    assert f(good).item() == size


LOOK_UPS = {
    "random numbers one by one": lambda x: (x * 2, ns.random.uniform(()), ns.random.uniform(())),
    "a random column": lambda x: (ns.random.uniform((32, 1)) < 0.5, x),
    "one_hot of where the largest is": lambda x: (ns.one_hot(ns.argmax(x * 2), 100) * x, x.tanh()),
}


@pytest.mark.parametrize("name", LOOK_UPS)
def test_what_is_computed_from_a_label_or_a_draw_reads_it_from_memory(name):
    found = {}
    for engine in ("numpy", "native"):
        ns.manual_seed(3)
        found[engine] = ns.compile(LOOK_UPS[name], engine=engine)(_random(100))
    for a, b in zip(found["native"], found["numpy"], strict=True):
        close(a.numpy(), b.numpy())


def test_a_scan_after_one_that_was_interrupted_reads_its_own_arrays(monkeypatch):
    f = ns.compile(lambda x: x.sum(axis=1))
    big, small = np.ones((50, 40, 40), "float32"), np.full((2, 40, 40), 2, "float32")
    f.scan(big)
    run = program.run_in_turn

    def interrupted(*arguments):
        run(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "run_in_turn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        f.scan(big)
    monkeypatch.undo()
    assert f.scan(small).numpy().tolist() == [[80.0] * 40] * 2
    assert f(big[0]).numpy().tolist() == [40.0] * 40


def test_numbers_of_rows_that_the_step_changes_are_looked_at_before():
    ns.set_num_threads(2)
    rows, data = ns.tensor(np.arange(100)), _random(100, 20)
    weights = _random(20, 2000, seed=1)

    @ns.compile
    def step():
        x = data[rows]
        rows.assign(rows + 100)
        return ns.tanh(ns.tanh(x @ weights) @ weights.T).sum()

    for _ in range(20):
        rows.assign(ns.tensor(np.arange(100)))
        step.scan(steps=1)
    with pytest.raises(DataError):
        step.scan(steps=2)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: x < 300, np.array([200, 3], "uint8")),
        (lambda x: x == 200, np.array([-56, 3], "int8")),
        (lambda x: x > -1, np.array([200, 3], "uint16")),
        (lambda x: x**0.5, np.array([-np.inf, 4], "float32")),
        (lambda x: ns.maximum(x, np.nan), np.array([-1, 4], "float32")),
        (lambda x: ns.minimum(np.nan, x), np.array([-1, 4], "float64")),
        (lambda x: ns.one_hot(x, 1), np.array([0])),
    ],
)
def test_the_edges_of_numbers_are_as_on_the_reference(f, x):
    with np.errstate(invalid="ignore"):
        found, expected = (ns.compile(f, engine=engine)(x).numpy() for engine in ("native", "numpy"))
    np.testing.assert_array_equal(found, expected)
