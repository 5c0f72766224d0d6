"""A watch on a training: it sees what happened, and changes nothing."""

import gc
import weakref

import numpy as np
import pytest
from samples import numbers

import nissl as ns
from nissl import nn, optim
from nissl.errors import OptionError
from nissl.inspect import UNSATURATED, statistics, watch

X, LABELS = numbers((40, 5)).astype("float32"), np.arange(40) % 3


def network(dropout=0.0):
    ns.manual_seed(1)
    return nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm(8), nn.Sigmoid(), nn.Dropout(dropout), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)
    )


def stepper(model, way):
    """Return a function that takes a step on rows with some numbers, eager or compiled, and returns the loss."""
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    x, labels = ns.tensor(X), ns.tensor(LABELS)

    def step(rows):
        loss = nn.cross_entropy(model(x[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        return loss

    return step if way == "eager" else ns.compile(step, engine=way)


ROWS = np.arange(40 * 11).reshape(11, 40) % 40


@pytest.mark.parametrize("way", ["eager", "numpy", "native"])
def test_a_watch_changes_nothing(way):
    found = []
    for watched in (False, True):
        model = network(dropout=0.3)
        step = stepper(model, way)
        if watched:
            with watch(model, every=3) as seen:
                losses = [step(rows).item() for rows in ROWS]
        else:
            losses = [step(rows).item() for rows in ROWS]
        found.append((losses, model.state_dict()))
    assert seen.steps == [0, 3, 6, 9]
    (losses, state), (seen_losses, seen_state) = found
    np.testing.assert_allclose(losses, seen_losses, rtol=1e-6)
    for path, values in state.items():
        np.testing.assert_allclose(values, seen_state[path], rtol=2e-5, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("every", [1, 2, 4, 100])
def test_a_scan_goes_from_one_step_to_look_at_to_the_next(every):
    plain, watched = network(), network()
    expected = stepper(plain, "native").scan(ROWS)
    step = stepper(watched, "native")
    with watch(watched, every=every) as seen:
        found = [step.scan(ROWS[:5]), step.scan(ROWS[5:])]
    np.testing.assert_allclose(np.concatenate([f.numpy() for f in found]), expected.numpy(), rtol=1e-6)
    assert seen.steps == list(range(0, len(ROWS), every))


@pytest.mark.parametrize("way", ["eager", "numpy", "native"])
def test_what_is_recorded_is_what_happened(way):
    model, twin = network(), network()
    step = stepper(model, way)
    outputs = {path: module for path, module in twin.named_modules().items() if path}
    with watch(model, every=1, bins=7) as seen:
        step(ROWS[0])
    value = ns.tensor(X)
    for path, module in outputs.items():
        value = module(value)
        expected = statistics(value.numpy(), 7, UNSATURATED.get(type(module)))
        same(seen.activations[path][0], expected)
    nn.cross_entropy(value, ns.tensor(LABELS)).backward()
    for path, parameter in twin.named_parameters().items():
        same(seen.gradients[path][0], statistics(parameter.grad.numpy(), 7))
    for path, parameter in model.named_parameters().items():
        same(seen.weights[path][0], statistics(parameter.numpy(), 7))


def same(found, expected):
    for what in ("mean", "std", "norm", "zeros", "saturated"):
        assert getattr(found, what) == pytest.approx(getattr(expected, what), rel=1e-4, abs=1e-6), what
    np.testing.assert_allclose(found.edges, expected.edges, rtol=1e-4, atol=1e-6)


def test_fit_is_seen_step_by_step_and_learns_the_same():
    states = []
    for watched in (False, True):
        model = network(dropout=0.2)
        if watched:
            with watch(model, every=5) as seen:
                ns.fit(model, (X, LABELS), validation=(X, LABELS), epochs=4, batch_size=8, seed=0, progress=False)
        else:
            ns.fit(model, (X, LABELS), validation=(X, LABELS), epochs=4, batch_size=8, seed=0, progress=False)
        states.append(model.state_dict())
    assert seen.steps == [0, 5, 10, 15]
    for path, values in states[0].items():
        np.testing.assert_allclose(values, states[1][path], rtol=2e-5, atol=1e-6, err_msg=path)
    assert [len(found) for found in seen.curves("gradients", "norm").values()] == [4] * len(model.named_parameters())
    assert "activations  2" in str(seen)
    assert "step 15" in str(seen)


def test_calls_that_train_nothing_are_no_steps():
    model = network()
    forward = ns.compile(lambda x: model(x))
    step = stepper(model, "native")
    with watch(model, every=2) as seen:
        model.eval()
        with ns.no_grad():
            model(ns.tensor(X))
        forward(ns.tensor(X))
        model.train()
        ns.compile(lambda x: x * 2)(ns.tensor(X))
        for rows in ROWS[:4]:
            step(rows)
    assert seen.steps == [0, 2]


def test_statistics_are_those_of_numpy():
    values = numbers((50, 30))
    values[::5] = 0
    found = statistics(values, bins=9, unsaturated=(-1.0, 1.0))
    assert found.mean == pytest.approx(values.mean())
    assert found.std == pytest.approx(values.std())
    assert found.norm == pytest.approx(np.linalg.norm(values))
    assert found.zeros == pytest.approx(0.2)
    assert found.saturated == pytest.approx((np.abs(values) > 1).mean())
    np.testing.assert_array_equal(found.counts, np.histogram(values, 9)[0])
    assert statistics(np.arange(100_000.0)).counts.sum() <= 4096
    assert statistics([np.nan, np.inf, 1.0]).counts.sum() == 1
    assert statistics([np.nan]).counts.sum() == 0


def test_a_step_that_was_only_called_under_a_watch_says_why_it_has_no_graph():
    model = network()
    call = ns.compile(lambda x: model(x).sum())
    with watch(model, every=1):
        call(np.ones((3, 5), "float32"))
    with pytest.raises(OptionError, match=r"no graph yet: .* a call that ns\.inspect\.watch records has a graph of"):
        _ = call.graph


def test_mistakes_are_told():
    model = network()
    with pytest.raises(OptionError, match="watch takes a Module first, got str"):
        watch("model")
    with pytest.raises(OptionError, match="every must be a whole number from 1, got 0"):
        watch(model, every=0)
    for wrong in ({"every": "a"}, {"every": 2.5}, {"every": float("nan")}, {"bins": 2.5}, {"bins": None}):
        with pytest.raises(OptionError, match="must be a whole number from 1, got"):
            watch(model, **wrong)
    with pytest.raises(OptionError, match="bins must be a whole number from 1, got 0"):
        statistics([1.0], bins=0)
    for what in (["a"], None, [[1.0], [1.0, 2.0]], [1j]):
        with pytest.raises((ns.ShapeError, ns.DTypeError)):
            statistics(what)
    with pytest.raises(OptionError, match="at least one number"):
        statistics([])
    with watch(model) as seen, pytest.raises(OptionError, match="a watch is on already"), watch(model):
        pass
    assert "nothing was recorded" in str(seen)
    with pytest.raises(OptionError, match="the kinds are activations, gradients, weights"):
        seen.curves("gradient", "norm")


def test_a_watch_is_off_after_an_error():
    model = network()
    with pytest.raises(ZeroDivisionError), watch(model):
        raise ZeroDivisionError
    with watch(model):
        pass


def test_a_watched_step_is_traced_again_when_a_name_means_something_else():
    model, held = network(), {"scale": ns.tensor(1.0)}
    optimizer = optim.SGD(model.parameters(), lr=0.0)

    @ns.compile
    def step():
        model(ns.tensor(X)).sum().backward()
        optimizer.step()
        return held["scale"] * 1.0

    with watch(model, every=1) as seen:
        assert step().item() == 1
        held["scale"] = ns.tensor(5.0)
        assert step().item() == 5
    assert seen.steps == [0, 1]


def test_gradients_are_seen_before_they_are_forgotten():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with watch(model, every=2) as seen:
        for _ in range(4):
            optimizer.zero_grad()
            nn.cross_entropy(model(ns.tensor(X)), ns.tensor(LABELS)).backward()
            optimizer.step()
    assert seen.steps == [0, 2]
    assert np.isfinite(seen.curves("gradients", "norm")["0.weight"]).all()


def test_what_was_not_there_in_a_step_is_nan():
    model = network()
    with watch(model, every=1) as seen:
        model(ns.tensor(X))
        model(ns.tensor(X)).sum().backward()
        model(ns.tensor(X))
    norms = seen.curves("gradients", "norm")["0.weight"]
    assert list(np.isfinite(norms)) == [False, True, True]  # the gradient of the second is there in the third, too
    assert len(seen.curves("activations", "mean")["0"]) == 3


def test_a_compiled_step_that_kept_no_gradient_is_followed_by_an_eager_one():
    model = network()
    stepper(model, "native")(ROWS[0])
    with watch(model, every=1) as seen:
        model(ns.tensor(X))
    assert seen.steps == [0]
    with pytest.raises(ZeroDivisionError), watch(model, every=1):
        fail_after(model)


def fail_after(model):
    model(ns.tensor(X))
    raise ZeroDivisionError


def test_a_training_that_diverges_is_told_once():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=1e30)
    with watch(model, every=1) as seen, pytest.raises(ns.DivergenceError):
        ns.fit(model, (X, LABELS), optimizer=optimizer, epochs=3, batch_size=8, seed=0, progress=False)
    assert seen.steps == sorted(set(seen.steps))


@pytest.mark.parametrize(
    "values",
    [
        np.full(3, 3e7, "f"),
        np.full(5, 1e17),
        np.full(2, -1e300),
        np.array([1e308, 1.79e308]),
        np.array([3e38, -3e38, 0], "f"),
        np.array([1.7e308, -1.7e308, 0]),
        np.array([1e-39, 2e-39], "f"),
        np.array([0, 1e-320]),
        np.arange(50.0),
        np.array([True, False]),
        np.array([7]),
    ],
)
def test_every_finite_number_falls_into_a_bin_between_its_edges(values):
    found = statistics(values, bins=10)
    assert found.counts.sum() == values.size
    assert found.edges[0] <= values.min()
    assert found.edges[-1] >= values.max()
    assert (np.diff(found.edges) >= 0).all()
    for i in np.flatnonzero(found.counts):  # those in a bin are where it is, but for rounding
        room = 1e-9 * (found.edges[-1] / 10 - found.edges[0] / 10)
        inside = (values >= found.edges[i] - room) & (values <= found.edges[i + 1] + room)
        assert inside.sum() >= found.counts[i]


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1.0, 1e20, 1e30])
def test_small_and_large_numbers_of_float32_have_a_norm(scale):
    values = np.array([1.0, -2.0, 4.0, 0.5]) * scale
    found = statistics(values.astype("f"))
    assert found.norm == pytest.approx(np.linalg.norm(values), rel=1e-6)
    assert found.std == pytest.approx(np.std(values), rel=1e-6)


def test_zeros_stand_in_the_bin_that_begins_with_zero():
    found = statistics([-13.0, 0, 0, 0, 13.0])
    np.testing.assert_array_equal(found.counts, np.histogram([-13.0, 0, 0, 0, 13.0], 30)[0])


def test_a_step_is_seen_whatever_the_function_did_in_its_last_call():
    model = nn.Sequential(nn.Linear(5, 3), nn.Tanh())
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @ns.compile(engine="numpy")
    def call(train):
        loss = nn.cross_entropy(model(ns.tensor(X)), ns.tensor(LABELS))
        if train:
            loss.backward()
            optimizer.step()
        return loss

    call(False)
    with watch(model, every=1) as seen:
        for train in (True, False, True, True):
            call(train)
    assert seen.steps == [0, 1, 2]


def test_objects_with_a_compiled_method_are_told_apart():
    class Trainer:
        def __init__(self):
            self.model = network()
            self.optimizer = optim.SGD(self.model.parameters(), lr=0.1)

        @ns.compile(engine="numpy")
        def step(self):
            nn.cross_entropy(self.model(ns.tensor(X)), ns.tensor(LABELS)).backward()
            self.optimizer.step()

    one, other = Trainer(), Trainer()
    with watch(one.model, every=2) as seen:
        for _ in range(4):
            other.step()
            one.step()
    assert seen.steps == [0, 2]


@pytest.mark.parametrize("way", ["eager", "native"])
def test_a_model_of_one_layer_is_seen(way):
    ns.manual_seed(0)
    model = nn.Linear(5, 3)
    with watch(model, every=1) as seen:
        stepper(model, way)(ROWS[0])
    assert (seen.steps, list(seen.activations), list(seen.weights)) == ([0], [""], ["weight", "bias"])
    assert "activations  Linear" in str(seen)


@pytest.mark.parametrize("way", ["eager", "numpy", "native"])
def test_two_optimizers_of_one_model_make_one_step(way):
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    optimizers = [optim.SGD(part.parameters(), lr=0.5) for part in (model[0], model[2])]

    def step(x):
        nn.cross_entropy(model(x), ns.tensor(LABELS)).backward()
        for optimizer in optimizers:
            optimizer.step()

    run = step if way == "eager" else ns.compile(step, engine=way)
    with watch(model, every=1) as seen:
        run(ns.tensor(X))
    assert set(seen.gradients) == set(model.named_parameters())
    for path, parameter in model.named_parameters().items():
        assert seen.weights[path][0].norm == pytest.approx(np.linalg.norm(parameter.numpy()), rel=1e-6)


@pytest.mark.parametrize("way", ["eager", "numpy"])
def test_another_models_step_in_between_changes_nothing(way):
    model, rival = network(), network()
    optimizer, rivals = (optim.SGD(m.parameters(), lr=0.1) for m in (model, rival))

    def step(x):
        loss = nn.cross_entropy(model(x), ns.tensor(LABELS))
        nn.cross_entropy(rival(x), ns.tensor(LABELS)).backward()
        rivals.step()
        loss.backward()
        optimizer.step()

    run = step if way == "eager" else ns.compile(step, engine=way)
    with watch(model, every=1) as seen:
        for _ in range(2):
            run(ns.tensor(X))
    assert np.isfinite(seen.curves("gradients", "norm")["0.weight"]).all()


def test_a_gradient_that_an_earlier_step_used_is_not_of_this_one():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with watch(model, every=1) as seen:
        nn.cross_entropy(model(ns.tensor(X)), ns.tensor(LABELS)).backward()
        optimizer.step()
        model(ns.tensor(X))
        model(ns.tensor(X))
    assert list(np.isfinite(seen.curves("gradients", "norm")["0.weight"])) == [True, False, False]


def test_messages_name_the_function_that_was_written():
    model = network()

    @ns.compile
    def my_step():
        model(ns.tensor(X))
        return object()

    with watch(model), pytest.raises(OptionError, match="my_step returns a object"):
        my_step()


@pytest.mark.filterwarnings("error")
def test_measuring_what_diverges_warns_of_nothing():
    model = network()
    model[0].bias.assign(ns.tensor(np.full(8, 1e38, "f")))
    with watch(model, every=1) as seen:
        stepper(model, "numpy")(ROWS[0])
    assert seen.steps == [0]


def test_a_watch_that_is_kept_keeps_nothing_of_the_training():
    model = network()
    with watch(model, every=1) as seen:
        step = stepper(model, "numpy")
        step(ROWS[0])
        kept = weakref.ref(step)
        del step
    gc.collect()
    assert kept() is None
    assert seen.steps == [0]


def test_the_norm_of_infinity_is_infinite():
    assert statistics([np.inf, 1.0]).norm == np.inf
    assert statistics(np.array([3e200, 4e200])).norm == pytest.approx(5e200)


def test_an_eager_step_is_over_when_a_scan_begins():
    model = nn.Sequential(nn.Linear(5, 3), nn.Tanh())
    eager, scanned = stepper(model, "eager"), stepper(model, "numpy")
    with watch(model, every=100) as seen:
        eager(ROWS[0])
        left = np.linalg.norm(model[0].weight.numpy())
        scanned.scan(ROWS[:5])
    assert seen.weights["0.weight"][0].norm == pytest.approx(left, rel=1e-6)


def test_numbers_at_the_end_of_float64_do_not_stop_a_training():
    assert statistics(np.full(2, np.finfo(np.float64).max)).counts.sum() == 2
    assert statistics(np.array([0.0, 5e-324])).counts.sum() == 2


@pytest.mark.parametrize("tiny", [5e-324, 1e-300])
@pytest.mark.parametrize("large", [1.0, 1e200])
def test_numbers_outside_of_the_sample_count(tiny, large):
    values = np.full(8192, large)
    values[::2] = tiny
    found = statistics(values)
    np.testing.assert_allclose([found.mean, found.std, found.norm], [large / 2, large / 2, large * 64], rtol=1e-12)
