"""Training on the native engine: hundreds of steps beside the reference, any number of threads, Ctrl-C.

tests/test_threads.py has forks, the team of threads, and that nobody is busy afterwards.
"""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from samples import OPTIMIZERS, numbers

import nissl as ns
from nissl import nn, optim
from nissl.engines.native.kernels import Group, Straight, equations_of


def trained(engine, make_optimizer, lr, dtype):
    """Return what is there after 1 step and after 500 of a net with tanh: losses, weights and the optimizer's state."""
    ns.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16, dtype=dtype), nn.Tanh(), nn.Linear(16, 3, dtype=dtype))
    optimizer = make_optimizer(model.parameters(), lr)

    @ns.compile(engine=engine)
    def step(x, labels):
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    x, labels = numbers((20, 8, 6)).astype(dtype), np.arange(160).reshape(20, 8) % 3
    for steps in (np.arange(1), np.arange(1, 500) % 20):
        losses = step.scan(x[steps], labels[steps]).numpy()
        yield {"losses": losses, **model.state_dict(), **optimizer.state_dict()}


def assert_near(found, expected, tolerance):
    """Compare each array, relative to the largest number in it."""
    assert list(found) == list(expected)
    for name, wanted in expected.items():
        distance = np.abs(found[name] - wanted).max(initial=0)
        assert distance <= tolerance * max(1, np.abs(wanted).max(initial=0)), f"{name} is off by {distance}"


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("dtype", "lr", "tolerances"), [("float64", 1e-2, (1e-12, 1e-9)), ("float32", 1e-3, (2e-6, 1e-4))]
)
def test_the_first_step_and_500_are_those_of_the_reference(name, dtype, lr, tolerances):
    found, expected = (list(trained(engine, OPTIMIZERS[name], lr, dtype)) for engine in ("native", "numpy"))
    for each, wanted, tolerance in zip(found, expected, tolerances, strict=True):
        assert_near(each, wanted, tolerance)
    assert expected[1]["losses"][-20:].mean() < expected[1]["losses"][:20].mean()


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "SGD"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", [Straight, Group, "product"])
def test_state_that_would_be_subnormal_is_zero(name, dtype, kernel):
    smallest = np.finfo(dtype).tiny
    shape = {Straight: (7, 1), Group: (100, 1), "product": (20, 30)}[kernel]

    def state_after_a_step(engine):
        p = nn.Parameter(np.ones(shape, dtype))
        optimizer = OPTIMIZERS[name]([p], 1e-3)

        @ns.compile(engine=engine)
        def step(x, y):
            p.grad = x.T @ y if kernel == "product" else (x[:1].T + y[:1]) * 0.0
            optimizer.step()

        x, y = (ns.tensor(np.zeros((3, size), dtype)) for size in shape)
        step(x, y)
        (state,) = optimizer.state.values()
        for slot in state.values():
            slot.assign(np.resize(np.array([smallest / 8, 8 * smallest, 0, 1, np.nan], dtype), shape))
        step(x, y)
        if engine == "native":
            kernels = [k for k in step.latest.program.plan.kernels if any(e.op.rough for e in equations_of(k))]
            assert [type(k) for k in kernels] == [Straight if kernel is Straight else Group]
            assert kernel is Straight or (kernels[0].leader is not None) == (kernel == "product")
        return np.array([slot.numpy() for slot in state.values()])

    expected = state_after_a_step("numpy")
    subnormal = (expected != 0) & (abs(expected) < smallest)
    assert subnormal.any()
    np.testing.assert_allclose(state_after_a_step("native"), np.where(subnormal, 0, expected), rtol=1e-5)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_a_tiny_eps_still_keeps_from_dividing_by_zero(name):
    p = nn.Parameter(np.ones(100))
    optimizer = getattr(optim, name)([p], 1e-3, eps=1e-307)

    @ns.compile
    def step():
        p.grad = ns.tensor(np.zeros(100))
        optimizer.step()

    step()
    np.testing.assert_allclose(p.numpy(), 1, rtol=1e-4)


def test_near_can_tell():
    assert_near({"a": np.array([1e3, 0.0])}, {"a": np.array([1e3, 1e-4])}, 1e-6)
    with pytest.raises(AssertionError, match="a is off by"):
        assert_near({"a": np.array([1.0, 0.0])}, {"a": np.array([1.0, 1e-4])}, 1e-6)


# ---- threads ----


@pytest.fixture(autouse=True)
def _threads_are_woken(monkeypatch):
    """Let scans be shared however short they are."""
    monkeypatch.setattr("nissl.engines.native.program.SECONDS_WORTH_THREADS", 0.0)


def classifier(*hidden):
    """Return a net for pictures of 784 numbers, and its compiled step."""
    ns.manual_seed(1)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), *hidden, nn.Linear(128, 10))
    optimizer = optim.Adam(model.parameters())

    @ns.compile
    def step(x, labels):
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return model, step


PICTURES, DIGITS = numbers((6, 64, 784)).astype("float32"), np.arange(6 * 64).reshape(6, 64) % 10


def test_the_bits_do_not_depend_on_the_number_of_threads():
    results = []
    for count in (1, 2, 3, 4):
        ns.set_num_threads(count)
        model, step = classifier(nn.Dropout(0.3))
        results.append({"losses": step.scan(PICTURES, DIGITS).numpy(), **model.state_dict()})
        assert "shared_scan" in step.latest.program.code.functions, "it is too small to be shared"
    for found in results[1:]:
        for name, expected in results[0].items():
            np.testing.assert_array_equal(found[name], expected, err_msg=name)


def in_two_threads(work):
    """Call work(0) and work(1) at the same time; raise what one raises."""
    raised = []
    start = threading.Barrier(2)

    def run(i):
        start.wait()
        try:
            work(i)
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_two_threads_that_call_one_step_take_every_step(monkeypatch):
    """The same batch at each step: whoever takes it, the weights are those of as many steps one by one."""
    results = []
    for run in (in_two_threads, lambda work: (work(0), work(1))):
        model, step = classifier()
        step(PICTURES[0], DIGITS[0])
        program = step.latest.program

        def slowly(arrays, program=program):
            found = program(arrays)
            time.sleep(0.003)  # so that the other thread comes now, before the state is written back
            return found

        def work(_, step=step):
            for _ in range(5):
                step(PICTURES[0], DIGITS[0])

        monkeypatch.setattr(step.latest, "program", slowly)
        run(work)
        results.append(model.state_dict())
    for name, expected in results[1].items():
        np.testing.assert_array_equal(results[0][name], expected, err_msg=name)


def test_two_threads_that_call_one_function_get_their_own_results():
    weights = ns.tensor(numbers((784, 50)), "float32")
    f = ns.compile(lambda x: (ns.tanh(x @ weights), (x * x).sum()))
    expected = [[y.numpy() for y in f(x)] for x in PICTURES]

    def work(i):
        for _ in range(10):
            for x, wanted in zip(PICTURES[i::2], expected[i::2], strict=True):
                for found, y in zip(f(x), wanted, strict=True):
                    np.testing.assert_array_equal(found.numpy(), y)

    in_two_threads(work)


# ---- Ctrl-C ----

LEARNING = """
import numpy as np
import nissl as ns
from nissl import nn

x = np.random.default_rng(0).normal(size=(2000, 20)).astype("float32")
labels = (x[:, 0] > 0).astype(int)
model = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 2))
history = ns.fit(model, (x, labels), epochs=1_000_000, seed=0, progress="lines")
print(history.interrupted, len(history) >= 3, ns.evaluate(model, (x, labels)).accuracy > 0.9)
"""


def test_ctrl_c_from_outside_ends_fit_and_the_program_goes_on():
    command = [sys.executable, "-c", LEARNING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        lines = [program.stderr.readline() for _ in range(3)]  # one for each epoch, so it is in the middle of training
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate(timeout=30)
    assert all("epoch" in line for line in lines), lines
    assert (output, program.returncode) == ("True True True\n", 0)
    assert "Traceback" not in errors
