"""Several threads run one program: the same bits whatever their number, nobody left spinning, no way to get stuck."""

import contextlib
import ctypes
import functools
import linecache
import math
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from samples import numbers

import nissl as ns
from nissl import nn, optim
from nissl import threads as team
from nissl.engines.native import cache, program
from nissl.engines.native.emitter import index
from nissl.engines.native.meeting import LOOKS
from nissl.engines.native.program import SECONDS_WORTH_THREADS, Scan
from nissl.engines.native.shares import Shares
from nissl.errors import DataError, OptionError


@pytest.fixture(autouse=True)
def _threads_are_woken(monkeypatch):
    """Let scans be shared however short they are, and by as many threads as a test asks for."""
    monkeypatch.setattr("nissl.engines.native.program.SECONDS_WORTH_THREADS", 0.0)
    monkeypatch.setattr("nissl.threads.SECONDS_OF_A_LOOK", math.inf)


def training(seed=0):
    """Return a compiled step on rows of data that is large enough to be shared, and the model."""
    ns.manual_seed(seed)
    data, labels = ns.tensor(numbers((400, 20, 15)), "float32"), ns.tensor(np.arange(400) % 7)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(300, 130), nn.BatchNorm(130), nn.ReLU(), nn.Dropout(0.2), nn.Linear(130, 90),
        nn.LayerNorm(90), nn.Tanh(), nn.Linear(90, 7),
    )  # fmt: skip
    optimizer = optim.Adam(model.parameters())

    @ns.compile
    def step(rows):
        loss = nn.cross_entropy(model(data[rows]), labels[rows])
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step, model


ORDER = np.stack([np.random.default_rng(i).permutation(400)[:50] for i in range(12)])


def trained(count, seed=0):
    ns.set_num_threads(count)
    step, model = training(seed)
    losses = step.scan(ORDER).numpy()
    assert step.latest.can_scan
    assert "shared_scan" in step.latest.program.code.functions
    return losses, model.state_dict()


def assert_equal(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    for path, values in expected[1].items():
        np.testing.assert_array_equal(found[1][path], values, err_msg=path)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_any_number_of_threads_gives_the_same_bits(count):
    assert_equal(trained(count), trained(1))


@pytest.mark.skipif(not team.HAS_AFFINITY or team.reachable_cores() < 2, reason="there is one core to run on")
def test_a_worker_that_slept_wakes_on_another_core_than_its_caller_and_then_may_go_anywhere(monkeypatch):
    pool, anywhere = team.Team(), os.sched_getaffinity(0)
    pool.grow(1)
    (member,) = pool.members
    member.wake_elsewhere()
    elsewhere = os.sched_getaffinity(member.thread.native_id)
    assert elsewhere < anywhere
    assert len(elsewhere) == len(anywhere) - 1
    found = []
    pool.run([int, lambda: found.append((team._this_core(), os.sched_getaffinity(0)))])
    assert found[0][0] in elsewhere
    assert found[0][1] == anywhere
    woken = []
    monkeypatch.setattr(team.Member, "wake_elsewhere", lambda member: woken.append(member))
    for nap in (math.inf, 0.0):
        assert woken == []
        monkeypatch.setattr(team, "SECONDS_OF_A_NAP", nap)
        pool.run([int, int])
    assert woken == [member]


def test_a_scan_is_what_calls_one_by_one_are():
    losses, state = trained(2)
    step, model = training()
    assert [step(rows).item() for rows in ORDER] == losses.tolist()
    assert_equal((losses, model.state_dict()), (losses, state))


@pytest.mark.parametrize("shape", [(1, 300, 1), (3, 1, 500), (200, 7, 130), (9, 600, 33), (64, 1100, 257)])
def test_products_are_shared_by_rows_or_columns(shape):
    rows, inner, columns = shape
    a, b = numbers((4, rows, inner)).astype("float32"), ns.tensor(numbers((inner, columns), seed=1), "float32")
    results = []
    for count in (1, 2, 3):
        ns.set_num_threads(count)
        results.append(ns.compile(lambda a: (ns.tanh(a @ b), (a @ b).sum(axis=0), b.T @ a.T)).scan(a))
    for found in results[1:]:
        for x, expected in zip(found, results[0], strict=True):
            np.testing.assert_array_equal(x.numpy(), expected.numpy())


def test_two_scans_at_once_are_both_right():
    ns.set_num_threads(2)
    weights = ns.tensor(numbers((300, 200)), "float32")
    inputs = [numbers((30, 100, 300), seed=i).astype("float32") for i in range(2)]
    functions = [ns.compile(lambda x: ns.tanh(x @ weights).sum(axis=0)) for _ in inputs]
    expected = [f.scan(x).numpy() for f, x in zip(functions, inputs, strict=True)]
    found = {}

    def run(i):
        found[i] = [functions[i].scan(inputs[i]).numpy() for _ in range(10)]

    workers = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    for i in range(2):
        for result in found[i]:
            np.testing.assert_array_equal(result, expected[i])


def test_a_team_that_is_busy_leaves_the_work_to_one_thread():
    expected = trained(1)
    ns.set_num_threads(2)
    nothing = [lambda: None] * 2
    assert team.run_together(nothing)
    team._state.team.serves = "another call"
    assert not team.run_together(nothing)
    assert_equal(trained(2), expected)
    team._state.team.serves = None
    assert team.run_together(nothing)


@pytest.mark.parametrize(
    ("threads", "lacked", "left"),
    [(2, 0.0, 2), (2, 0.3, 2), (2, 0.5, 1), (2, 1.0, 1), (4, 0.2, 4), (4, 1.0, 3), (4, 4.0, 1), (16, 1.0, 15)],
)
def test_threads_that_lack_cores_are_not_used(threads, lacked, left, monkeypatch):
    monkeypatch.setattr(team, "SECONDS_OF_A_LOOK", 1.0)
    crowd = team.Crowd(threads)
    for _ in range(4):
        assert crowd.limit() == threads
        crowd.look(0.26, 0.26 * lacked)
    assert crowd.limit() == left


def test_all_threads_are_tried_again_ever_less_often_while_that_is_in_vain(monkeypatch):
    now = 0.0
    monkeypatch.setattr(team.time, "perf_counter", lambda: now)
    monkeypatch.setattr(team, "SECONDS_OF_A_LOOK", 1.0)
    crowd = team.Crowd(2)
    pauses = []
    for lacked in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0):
        assert crowd.limit() == 2
        crowd.look(1.0, lacked)
        before = now
        while crowd.limit() < 2:
            now += 0.01
        pauses.append(now - before)
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 0.0, 0.05], abs=0.02)


def test_fewer_threads_are_judged_by_themselves(monkeypatch):
    monkeypatch.setattr(team, "SECONDS_OF_A_LOOK", 1.0)
    monkeypatch.setattr(team._state, "crowds", team._Crowds())
    ns.set_num_threads(8)
    team._state.crowds[8].look(1.0, 2.0)
    assert team.threads_to_use() == 6
    team._state.crowds[6].look(1.0, 1.0)
    assert team.threads_to_use() == 5
    ns.set_num_threads(4)
    assert team.threads_to_use() == 4


def test_more_threads_than_cores_are_noticed(monkeypatch):
    monkeypatch.setattr(team, "SECONDS_OF_A_LOOK", 0.05)
    monkeypatch.setattr(team._state, "crowds", team._Crowds())
    threads = 2 * team.reachable_cores()
    expected = trained(1)
    end = time.monotonic() + 60
    while team.threads_to_use() == ns.get_num_threads() and time.monotonic() < end:
        assert_equal(trained(threads), expected)
    assert 1 <= team.threads_to_use() < threads


def no_clock():
    raise OSError("clock_gettime failed")


@pytest.mark.parametrize("clock", [None, no_clock], ids=["missing", "broken"])
def test_without_a_clock_for_threads_all_are_used(clock, monkeypatch):
    expected = trained(1)
    monkeypatch.setattr(team, "SECONDS_OF_A_LOOK", 0.0)
    monkeypatch.setattr(team._state, "crowds", team._Crowds())
    if clock is None:
        monkeypatch.delattr(time, "thread_time")
    else:
        monkeypatch.setattr(time, "thread_time", clock)
    assert_equal(trained(3), expected)
    assert team.threads_to_use() == 3


SHARES = [
    [0.0, 1.0, 1.0, 1.0, 1.0],
    [0.0, 0.0, 0.0, 0.0, 1.0],
    [0.0, 0.0, 0.5, 1.0, 1.0],
    [0.0, 0.25, 0.5, 0.75, 1.0],
    [0.0, 0.01, 0.98, 0.99, 1.0],
]


@pytest.mark.parametrize("bounds", SHARES, ids=str)
@pytest.mark.parametrize("sizes", [(13, 30), (37, 37), (18, 9), (130, 67)], ids=str)
def test_shares_without_a_unit_change_nothing(sizes, bounds, monkeypatch):
    """A weight that is updated in place, in the product of its gradient, shows what is done twice."""
    rows, columns = sizes
    x = numbers((20, 200, rows)).astype("float32")

    def trained_on(threads):
        ns.set_num_threads(threads)
        monkeypatch.setattr(program, "_bounds", {threads: bounds[: threads + 1]})
        weight = nn.Parameter(numbers((rows, columns), seed=1), "float32")
        optimizer = optim.SGD([weight], lr=0.1)

        @ns.compile
        def step(x):
            loss = ns.tanh(x @ weight).mean()
            loss.backward()
            optimizer.step()
            return loss

        return step.scan(x).numpy(), {"weight": weight.numpy()}

    monkeypatch.setattr("nissl.engines.native.assembly.SECONDS_WORTH_SHARING", 0.0)
    monkeypatch.setattr(cache, "kept", lambda description, make: make())
    assert_equal(trained_on(4), trained_on(1))


def test_a_thread_without_a_unit_gets_some_again(monkeypatch):
    monkeypatch.setattr(program, "_bounds", {2: [0.0, 1.0, 1.0]})
    ns.set_num_threads(2)
    a = ns.tensor(numbers((2000, 64)), "float32")
    compiled = ns.compile(lambda x: (x @ a).sum())
    compiled.scan(np.ones((400, 16, 2000), "float32"))  # of which there are two units
    assert program._bounds[2][1] < 0.75


def test_slower_threads_get_less_of_each_kernel(monkeypatch):
    expected = trained(1)
    read = Shares.clock

    def fast_for_the_second(shares):
        times = shares.builder.select(shares.builder.icmp_signed("==", shares.thread, index(1)), index(9), index(1))
        return shares.builder.mul(read(shares), times)

    monkeypatch.setattr(Shares, "clock", fast_for_the_second)
    monkeypatch.setattr(cache, "kept", lambda description, make: make())
    for count in (2, 3):
        monkeypatch.setattr(program, "_bounds", {})
        assert_equal(trained(count), expected)
        bounds = program._bounds[count]
        assert bounds == sorted(bounds)
        assert bounds[0] == 0.0
        assert bounds[2] - bounds[1] < 0.7 / count


def test_without_a_clock_shares_are_equal(monkeypatch):
    expected = trained(1)
    monkeypatch.setattr("nissl.engines.native.shares.CLOCKED", ())
    monkeypatch.setattr(cache, "kept", lambda description, make: make())
    monkeypatch.setattr(program, "_bounds", {})
    for _ in range(3):
        assert_equal(trained(2), expected)
    assert program._bounds[2][1] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("threads", "cores", "patient"), [(2, 2, True), (2, 1, False), (3, 2, False), (3, 8, True)])
def test_threads_without_a_core_of_their_own_give_way_at_once(threads, cores, patient, monkeypatch):
    looks = []

    def see(parts):
        for part in parts:
            looks.append(ctypes.cast(part.args[-1], ctypes.POINTER(ctypes.c_int64))[LOOKS])
        return team.run_together(parts)

    expected = trained(1)
    monkeypatch.setattr(program, "run_together", see)
    monkeypatch.setattr(program, "reachable_cores", lambda: cores)
    assert_equal(trained(threads), expected)
    assert set(looks) == {program.PATIENCE if patient else 0}
    assert 100 <= program.PATIENCE <= 10_000, "20 µs, not nothing, and not a turn of another process"


def test_a_scan_in_slices_is_the_same_scan(monkeypatch):
    expected = trained(2)
    used = []
    monkeypatch.setattr(
        "nissl.engines.native.program.threads_to_use", lambda: used.append(len(used) % 3 + 1) or used[-1]
    )
    monkeypatch.setattr("nissl.engines.native.program.SECONDS_OF_A_SLICE", 1e-9)
    assert_equal(trained(2), expected)
    assert used == [1, 2, 3] * (len(ORDER) // 3)


def test_a_wrong_label_in_a_shared_scan_ends_all_threads():
    ns.set_num_threads(2)
    w = nn.Parameter(numbers((300, 130)), "float32")
    optimizer = optim.SGD([w], lr=0.1)

    @ns.compile
    def step(x, labels):
        loss = nn.cross_entropy(x @ w, labels)
        loss.backward()
        optimizer.step()
        return loss

    x, labels = np.ones((5, 40, 300), "float32"), np.zeros((5, 40), int)
    step.scan(x, labels)
    labels[3, 7] = 130
    with pytest.raises(DataError, match="out of range in one of the steps"):
        step.scan(x, labels)
    labels[3, 7] = 0
    assert np.isfinite(step.scan(x, labels).numpy()).all()


def watched_step(model):
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @ns.compile
    def step(x, labels):
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("scanned", [True, False])
def test_labels_that_another_thread_changes_meanwhile_are_those_that_were_checked(threads, scanned, monkeypatch):
    """Else one thread could find a label out of range, and the other wait for it for ever."""
    ns.set_num_threads(threads)
    data, rows = ns.tensor(numbers((300, 300)), "float32"), np.arange(5 * 40).reshape(5, 40)
    argument = rows if scanned else ns.tensor(rows[0])
    memory = rows if scanned else argument._array()
    results = []
    for changed in (False, True):
        ns.manual_seed(0)
        model = nn.Linear(300, 200)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        @ns.compile
        def step(rows, model=model, optimizer=optimizer):
            loss = nn.cross_entropy(model(data[rows]), rows)
            loss.backward()
            optimizer.step()
            return loss

        if scanned:
            step.trace_to_scan([rows])
        call = Scan.call

        def change_all(self, *rest):
            memory[...] = 10**9
            return call(self, *rest)  # noqa: B023

        if changed:
            monkeypatch.setattr(Scan, "call", change_all)
        losses = step.scan(argument) if scanned else step(argument)
        assert step.latest.program.uses_threads
        results.append([losses.numpy(), model.weight.numpy().copy()])
    assert memory.max() == 10**9
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_steps_that_are_looked_at_take_their_turn_on_all_threads():
    x, labels = numbers((30, 40, 300)).astype("float32"), np.arange(30 * 40).reshape(30, 40) % 130
    found = []
    for threads in (1, 2, 3):
        ns.set_num_threads(threads)
        ns.manual_seed(0)
        model = nn.Sequential(nn.Linear(300, 130))
        step = watched_step(model)
        with ns.inspect.watch(model, every=7) as seen:
            losses = step.scan(x, labels).numpy()
        assert "shared_scan" in step.latest.program.code.functions, "it is too small to be shared"
        assert seen.steps == [0, 7, 14, 21, 28]
        found.append([losses, model[0].weight.numpy(), seen.curves("gradients", "norm")["0.weight"]])
    for results in found[1:]:
        for result, expected in zip(results, found[0], strict=True):
            np.testing.assert_array_equal(result, expected)
    ns.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 130))
    np.testing.assert_allclose(found[0][0], watched_step(model).scan(x, labels).numpy(), rtol=1e-5)
    np.testing.assert_allclose(found[0][1], model[0].weight.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("wrong", [3, 7])
def test_a_wrong_label_ends_the_steps_between_those_that_are_looked_at_too(threads, wrong):
    ns.set_num_threads(threads)
    x, labels = numbers((20, 40, 300)).astype("float32"), np.zeros((20, 40), int)
    labels[wrong, 7] = 130
    weights = []
    for steps in (20, wrong):
        ns.manual_seed(0)
        model = nn.Sequential(nn.Linear(300, 130))
        step = watched_step(model)
        with ns.inspect.watch(model, every=7) as seen:
            if steps == 20:
                with pytest.raises(DataError, match="out of range in one of the steps"):
                    step.scan(x, labels)
            else:
                step.scan(x[:wrong], labels[:wrong])
        assert seen.steps == list(range(0, wrong, 7)), "what was seen before is kept"
        assert seen.count == wrong
        assert len(seen.weights["0.weight"]) == len(seen.steps)
        weights.append(model[0].weight.numpy())
    np.testing.assert_array_equal(*weights)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_wrong_label_in_one_large_call_is_an_error(threads):
    ns.set_num_threads(threads)
    model = nn.Linear(300, 130)
    step = watched_step(model)
    x, labels = numbers((4000, 300)).astype("float32"), np.zeros(4000, int)
    step(x, labels)
    assert step.latest.program.seconds > SECONDS_WORTH_THREADS
    before = model.weight.numpy().copy()
    labels[77] = 500
    with pytest.raises(DataError, match="label 500"):
        step(x, labels)
    np.testing.assert_array_equal(model.weight.numpy(), before)


FINDING_TOGETHER = """
import numpy as np
import nissl as ns
ns.set_num_threads(2)
w = ns.tensor(np.ones((300, 200), "float32"))
x, labels = np.ones((6, 1000, 300), "float32"), np.zeros((6, 5), int)
functions = [
    lambda x, labels: (x @ w).sum() + ns.one_hot(labels * 2, 7).sum(),
    lambda x, labels: ns.one_hot(labels * 2, 7).sum() + ns.one_hot(labels * 3, 8).sum() + (x @ w).sum(),
    lambda x, labels: ns.one_hot(labels * 2, 9).sum() + ns.one_hot(labels * 3, 8).sum() + (x @ w).sum(),
]
for f in map(ns.compile, functions):
    assert np.isfinite(f.scan(x, labels).numpy()).all()
    assert "shared_scan" in f.latest.program.code.functions
    for wrong in [0, 3, 5] * 20:
        bad = labels.copy()
        bad[wrong, 2] = 4
        try:
            f.scan(x, bad)
        except ns.DataError:
            continue
        raise AssertionError("nobody has told of the label")
print("done")
"""


def test_threads_agree_on_a_label_that_one_of_them_found():
    done = subprocess.run([sys.executable, "-c", FINDING_TOGETHER], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_nobody_is_busy_when_a_scan_is_over():
    trained(2)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


FORKING = """
import os, sys
sys.path.insert(0, {tests!r})
import test_threads
expected = test_threads.trained(2)
child = os.fork()
if child == 0:
    test_threads.assert_equal(test_threads.trained(2), expected)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
test_threads.assert_equal(test_threads.trained(2), expected)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_makes_a_team_of_its_own():
    program = FORKING.format(tests=os.path.dirname(__file__))
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout == "7\n"


FORKING_BESIDE_A_STEP = """
import os, sys, threading
sys.path.insert(0, {tests!r})
import numpy as np
import test_threads
from nissl import random, threads, traced
step, model = test_threads.training(0)
expected = step(test_threads.ORDER[0]).item()
# What another thread may hold at any time: while it updates state, in a program, in a block with a seed, in the pool.
held = [traced._writing, step.latest.program.lock, random._seeding, threads._making]
holding, done = threading.Event(), threading.Event()
def hold():
    for lock in held:
        lock.acquire()
    holding.set()
    done.wait()
threading.Thread(target=hold, daemon=True).start()
holding.wait()
child = os.fork()
if child == 0:
    with random.seeded(1):
        loss = step.scan(test_threads.ORDER[1:]).numpy()[-1]
    os._exit(7 if loss < expected else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_is_forked_while_another_thread_takes_a_step_can_train():
    program = FORKING_BESIDE_A_STEP.format(tests=os.path.dirname(__file__))
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout == "7\n"


FORKING_BESIDE_A_COMPILATION = """
import os, threading
import nissl as ns
def compile_and_run(size):
    return ns.compile(lambda x: (x * x).sum())(ns.ones(size)).item()
compile_and_run(1)
stop = threading.Event()
def compile_on():
    size = 100
    while not stop.is_set():
        compile_and_run(size := size + 1)
thread = threading.Thread(target=compile_on)
thread.start()
codes = []
for i in range(20):
    child = os.fork()
    if child == 0:
        os._exit(int(compile_and_run(20 + i)))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
thread.join()
print(codes == [20 + i for i in range(20)])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_is_forked_while_another_thread_compiles_can_compile(tmp_path):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING_BESIDE_A_COMPILATION]
    environment = os.environ | {"NISSL_CACHE_HOME": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_the_number_of_threads_is_taken_from_the_environment():
    command = [sys.executable, "-c", "from nissl import threads; print(threads.get_num_threads())"]
    for text, expected in (("3", "3\n"), ("", f"{team.allotted_cores()}\n")):
        environment = os.environ | {"NISSL_NUM_THREADS": text}
        assert subprocess.run(command, capture_output=True, text=True, env=environment).stdout == expected
    for text, said in (("0", "0"), ("-1", "'-1'"), ("many", "'many'"), ("1.5", "'1.5'")):
        result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NISSL_NUM_THREADS": text})
        assert f"NISSL_NUM_THREADS must be a whole number from 1, got {said}" in result.stderr


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_a_number_of_threads_that_is_none_is_refused(count):
    with pytest.raises(OptionError, match="a whole number from 1"):
        ns.set_num_threads(count)


def test_an_exception_in_the_first_thread_leaves_the_team_usable():
    def fail():
        raise ZeroDivisionError

    seen = []
    parts = [functools.partial(seen.append, i) for i in range(3)]
    with pytest.raises(ZeroDivisionError):
        team.run_together([fail, *parts[1:]])
    assert sorted(seen) == [1, 2]
    assert team.run_together(parts)
    assert sorted(seen) == [0, 1, 1, 2, 2]


def test_without_threads_the_work_is_done_by_the_caller(monkeypatch):
    expected = trained(1)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(team._state, "team", None)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert_equal(trained(2), expected)
    monkeypatch.undo()
    assert_equal(trained(2), expected)


class Interrupting:
    """A lock whose acquisition is followed by the exception of a signal handler, a few times."""

    def __init__(self, lock, times):
        self.lock, self.times = lock, times
        self.release, self.locked = lock.release, lock.locked

    def acquire(self):
        self.lock.acquire()
        if self.times:
            self.times -= 1
            raise KeyboardInterrupt


@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_just_after_a_member_has_finished_is_no_reason_to_wait_for_it_again(times):
    crew = team.Team()
    crew.grow(1)
    crew.members[0].finished = Interrupting(crew.members[0].finished, times)
    ran, interrupted = [], []

    def run_several():
        for i in range(6):
            try:
                crew.run([functools.partial(ran.append, i), functools.partial(ran.append, -i)])
            except KeyboardInterrupt:
                interrupted.append(i)

    caller = threading.Thread(target=run_several, daemon=True)
    caller.start()
    caller.join(20)
    assert not caller.is_alive()
    assert len(interrupted) >= 1
    assert sorted(ran) == sorted([*range(6), *(-i for i in range(6))])


def test_signals_do_not_throw_a_team_out_of_step():
    ns.set_num_threads(2)
    big = ns.tensor(numbers((300, 300)), "float32")
    f = ns.compile(lambda x: ns.tanh(x @ big) @ big)
    x = numbers((300, 300), seed=1).astype("float32")
    expected = f(x).numpy()
    armed, interrupted = [], 0

    def interrupt(number, frame):
        if armed:
            armed.clear()  # else the next would come while this one is looked at
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.0031)
    try:
        end = time.monotonic() + 120
        while interrupted < 10 and time.monotonic() < end:
            try:
                armed.append(True)
                found = f(x).numpy()
                armed.clear()
                np.testing.assert_array_equal(found, expected)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 10
    np.testing.assert_array_equal(f(x).numpy(), expected)


class InterruptedAt:
    """A trace function that raises KeyboardInterrupt at one of the lines of nissl, as the handler of Ctrl-C may."""

    # Where a `with` ends, and in the `finally` of run_together: no handler runs, as no function has been called.
    ENDS = ("with ", "if team is not None and team.serves", "team.serves = None")

    def __init__(self, line):
        self.line = line

    def __call__(self, frame, event, argument):
        if event == "call":
            return self if frame.f_code.co_filename.startswith((PACKAGE, contextlib.__file__)) else None
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not text.lstrip().startswith(self.ENDS):
            self.line -= 1
            if self.line == 0:
                raise KeyboardInterrupt
        return self


PACKAGE = os.path.dirname(ns.__file__)


@pytest.mark.parametrize("scan", [True, False])
def test_after_a_signal_at_any_line_nothing_is_locked_and_the_right_arrays_are_read(scan):
    ns.set_num_threads(2)
    f = ns.compile(lambda x: ns.tanh(x @ x.T).sum(axis=0))
    here, other = (ns.tensor(numbers((40, 50), seed=i), "float32") for i in range(2))
    stacked = np.stack([other.numpy()] * 2)
    expected, expected_of_scan = f(here).numpy(), f.scan(stacked).numpy()
    line, interrupted = 0, True
    while interrupted:
        line += 1
        assert f(here).numpy().tobytes() == expected.tobytes()
        before = sys.gettrace()
        sys.settrace(InterruptedAt(line))
        try:
            f.scan(stacked) if scan else f(other)
            interrupted = False
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        assert not f.latest.program.lock.locked()
        assert not team._making.locked()
        assert team.run_together([lambda: None] * 2), "busy"
        assert f(here).numpy().tobytes() == expected.tobytes()
    assert line > 50
    np.testing.assert_array_equal(f.scan(stacked), expected_of_scan)


def test_calls_at_once_start_no_more_threads():
    ns.set_num_threads(2)
    functions = [ns.compile(lambda x, axis=axis: ns.tanh(x @ x.T).sum(axis=axis)) for axis in (0, 1)]
    x = ns.tensor(numbers((200, 100)), "float32")
    expected = [f(x).numpy() for f in functions]

    def work(i):
        for _ in range(100):
            np.testing.assert_array_equal(functions[i](x), expected[i])

    before = threading.active_count()
    callers = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert threading.active_count() <= before + 1  # the pool's, if it was not there


def test_a_limit_of_one_python_thread_is_no_limit_of_another():
    import threading

    from nissl.threads import at_most, get_num_threads

    before, inside, outside = get_num_threads(), threading.Event(), threading.Event()

    def limited():
        with at_most(1):
            inside.set()
            outside.wait(10)

    thread = threading.Thread(target=limited)
    thread.start()
    inside.wait(10)
    with at_most(before + 5):
        assert get_num_threads() == before
        outside.set()
        thread.join()
    assert get_num_threads() == before
