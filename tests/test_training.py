"""fit, evaluate, predict: what is learned, what is told, and what happens when something goes wrong."""

import csv
import gc
import math
import os
import signal
import threading
import weakref

import numpy as np
import pytest

import nissl as ns
from nissl import evaluation, nn, optim
from nissl.data import dataset
from nissl.data.toy import TOYS
from nissl.errors import DataError, DivergenceError, OptionError, ShapeError
from nissl.progress import in_words
from nissl.random import permutation_indices
from nissl.traced import ENGINES

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(50, 4)).astype("float32")
LABELS = (X @ GENERATOR.normal(size=(4, 3))).argmax(axis=1)
TARGETS = X @ np.array([[1.0], [-2.0], [0.5], [3.0]]) + 0.25
TRAIN, TEST = TOYS["blobs"].make()


def classifier(*middle, features=4, classes=3):
    ns.manual_seed(0)
    return nn.Sequential(nn.Linear(features, 8), nn.Tanh(), *middle, nn.Linear(8, classes))


def but(array, place, value):
    """Return a copy of `array` with another value at one place."""
    changed = array.copy()
    changed[place] = value
    return changed


def same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(np.array_equal(one[path], other[path]) for path in one)


def only(kind, do):
    """Return a callback that calls `do` with events of one kind."""
    return lambda event: do(event) if isinstance(event, kind) else None


# What is learned


def test_blobs_are_told_apart():
    model = classifier(features=2)
    ns.fit(model, TRAIN, epochs=10, optimizer=optim.Adam(model.parameters(), lr=0.02), seed=0)
    assert ns.evaluate(model, TEST).accuracy > 0.95


def test_xor_is_learned_with_two_outputs_and_with_one():
    for outputs in (2, 1):
        model = classifier(features=2, classes=outputs)
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        ns.fit(model, TOYS["xor"].make()[0], optimizer=optimizer, epochs=150, seed=0)
        assert ns.evaluate(model, TOYS["xor"].make()[1]).accuracy == 1.0


def test_linear_regression_finds_the_weights():
    ns.manual_seed(0)
    model = nn.Linear(4, 1, dtype="float64")
    history = ns.fit(model, (X, TARGETS), optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=150, seed=0)
    np.testing.assert_allclose(model.weight.numpy().ravel(), [1, -2, 0.5, 3], atol=1e-6)
    np.testing.assert_allclose(model.bias.numpy(), [0.25], atol=1e-6)
    assert history.r2[-1] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("data", "layers", "loss", "kind"),
    [
        ((X, LABELS), [nn.Linear(4, 3)], nn.cross_entropy, "accuracy"),
        ((X, LABELS > 0), [nn.Linear(4, 1)], nn.binary_cross_entropy_with_logits, "accuracy"),
        ((X, LABELS > 0), [nn.Linear(4, 1), nn.Sigmoid()], nn.binary_cross_entropy, "accuracy"),
        ((X, TARGETS), [nn.Linear(4, 1)], nn.mse_loss, "r2"),
        ((X, TARGETS[:, 0]), [nn.Linear(4, 1)], nn.mse_loss, "r2"),
    ],
)
def test_the_loss_follows_from_labels_and_outputs(data, layers, loss, kind):
    model = nn.Sequential(*layers)
    before = model.state_dict()
    history = ns.fit(model, data, epochs=1, batch_size=50, seed=0)
    model.load_state_dict(before)
    targets = np.unique(data[1], return_inverse=True)[1] if data[1].dtype.kind == "U" else data[1]
    targets = targets if loss is nn.cross_entropy else targets.reshape(50, 1).astype("float32")
    assert history.loss[0] == pytest.approx(loss(model(X), targets).item(), rel=1e-5)  # before the only step
    assert kind in history.curves


def test_arrays_lists_tensors_and_datasets_are_the_same_data():
    models = []
    forms = [(X, LABELS), [X.tolist(), LABELS.tolist()], (ns.tensor(X), ns.tensor(LABELS)), ns.Dataset(X, LABELS)]
    for data in forms:
        models.append(classifier())
        ns.fit(models[-1], data, epochs=2, seed=1, validation=data)
    assert all(same_state(models[0], model) for model in models[1:])


@pytest.mark.parametrize("dtype", ["float16", "longdouble", ">f4", ">f8", ">i4"])
def test_rows_of_a_dtype_that_tensors_cannot_have_are_converted(dtype):
    x = np.arange(24).reshape(8, 3)
    losses = []
    for rows, engine in ((x.astype("float32"), "numpy"), (x.astype(dtype), "native")):
        model = nn.Linear(3, 2, weight_init="zeros")
        losses.append(ns.fit(model, (rows, x[:, 0] % 2), epochs=3, engine=engine, shuffle=False).loss)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_bytes_count_as_numbers_from_0_to_1():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 3), np.uint8)
    labels = (pixels[:, 0, 0] > 127).astype(int)
    ends = []
    for x in (pixels, pixels / 255):
        ns.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
        history = ns.fit(model, (x, labels), epochs=3, seed=0, validation=(x, labels))
        ends.append((history.loss, history.validation_loss, ns.predict(model, x)))
    for byte, real in zip(*ends, strict=True):
        np.testing.assert_allclose(byte, real, rtol=1e-5)  # 1/255 is rounded once more


# The loop, from a second side


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_fit_equals_a_loop_by_hand(engine, clip_norm):
    model, by_hand = classifier(nn.Dropout(0.5)), classifier(nn.Dropout(0.5))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    options = {"epochs": 3, "batch_size": 16, "seed": 5, "clip_norm": clip_norm}
    ns.fit(model, (X, LABELS), optimizer=optimizer, engine=engine, **options)
    optimizer = optim.Adam(by_hand.parameters(), lr=0.01)
    ns.manual_seed(5)
    for epoch in range(3):
        order = permutation_indices(5, epoch, 50)
        for start in range(0, 50, 16):  # the last batch has 2 rows
            rows = order[start : start + 16]
            nn.cross_entropy(by_hand(ns.tensor(X[rows])), LABELS[rows]).backward()
            if clip_norm is not None:
                assert optim.clip_grad_norm(by_hand.parameters(), clip_norm).item() > clip_norm
            optimizer.step()
    if engine == "numpy":  # the same operations in the same order
        assert same_state(model, by_hand)
    for found, expected in zip(model.parameters(), by_hand.parameters(), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_training_and_another_seed_another():
    models = [classifier(nn.Dropout(0.3)) for _ in range(3)]
    histories = [ns.fit(m, (X, LABELS), epochs=2, seed=s) for m, s in zip(models, (7, 7, 8), strict=True)]
    assert same_state(models[0], models[1])
    assert np.array_equal(histories[0].loss, histories[1].loss)
    assert not same_state(models[0], models[2])


@pytest.mark.parametrize("batch_size", [10, 50, 64])
def test_many_short_epochs_in_one_slice_are_what_they_are_one_by_one(batch_size):
    models, histories = [classifier(nn.Dropout(0.3)) for _ in range(2)], []
    for model, callbacks in zip(models, ([], [lambda event: None]), strict=True):
        histories.append(
            ns.fit(
                model, (X, LABELS), epochs=300, batch_size=batch_size, seed=3, callbacks=callbacks, schedule="linear"
            )
        )
    assert same_state(*models)
    for name in ("loss", "accuracy"):
        np.testing.assert_array_equal(histories[0].curves[name], histories[1].curves[name])
    assert len(histories[0]) == 300


def test_an_epoch_that_diverges_in_a_slice_of_several_is_named():
    messages, models = [], [ns.nn.Sequential(nn.Linear(4, 3)) for _ in range(2)]
    for model, callbacks in zip(models, ([], [lambda event: None]), strict=True):
        model[0].weight.assign(ns.zeros((4, 3)))
        optimizer = optim.SGD(model.parameters(), lr=10.0, weight_decay=1.0)  # grows by 9 a step
        with pytest.raises(DivergenceError) as caught:
            ns.fit(model, (X, LABELS), epochs=1000, batch_size=50, optimizer=optimizer, callbacks=callbacks, seed=1)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "in epoch 1," not in messages[0]
    assert same_state(*models)


def test_the_last_short_batch_is_kept_unless_dropped():
    for drop_last, sizes in ((False, [20, 40, 50]), (True, [20, 40])):
        seen = []
        ns.fit(classifier(), (X, LABELS), batch_size=20, epochs=1, drop_last=drop_last, callbacks=[seen.append])
        assert [event.examples for event in seen if isinstance(event, ns.StepDone)] == sizes
    with pytest.raises(DataError, match="leaves nothing of 50"):
        ns.fit(classifier(), (X, LABELS), batch_size=51, drop_last=True)


def test_without_shuffle_the_rows_come_in_order():
    seen = []

    def watch(logits, labels):
        seen.extend(labels.tolist())
        return nn.cross_entropy(logits, labels)

    training = ns.training.Training(classifier(), (X, LABELS), loss=watch, shuffle=False, batch_size=16, epochs=1)
    training.step.compiled = Eagerly(training.step.take)  # so that the loss sees numbers
    list(training.run())
    assert seen == LABELS.tolist()


@pytest.mark.parametrize("engine", ["numpy", "native"])
def test_a_loss_may_be_one_number_on_an_axis(engine):
    def with_axis(logits, labels):
        return nn.cross_entropy(logits, labels).reshape(1)

    found = []
    for loss in (nn.cross_entropy, with_axis):
        ns.manual_seed(0)
        found.append(ns.fit(classifier(), (X, LABELS), loss=loss, epochs=2, seed=1, engine=engine).loss)
    np.testing.assert_array_equal(*found)


class Eagerly:
    """Stands where a compiled function stands."""

    def __init__(self, function):
        self.function = function

    def scan(self, stacked):
        results = [self.function(ns.tensor(x)) for x in stacked]
        return tuple(ns.stack(column).detach() for column in zip(*results, strict=True))


@pytest.mark.parametrize(("name", "last"), [("constant", 0.1), ("linear", 0.0), ("cosine", 0.0)])
def test_a_schedule_by_name_spans_the_training(name, last):
    model = classifier()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    rates = [0.1]
    watch = only(ns.StepDone, lambda event: rates.append(optimizer.lr.item()))
    ns.fit(model, (X, LABELS), optimizer=optimizer, schedule=name, epochs=2, batch_size=25, callbacks=[watch])
    halfway = {"constant": 0.1}.get(name, 0.05)
    assert [rates[i] for i in (0, 2, 4)] == pytest.approx([0.1, halfway, last])


# What is told


def test_history_has_the_curves_as_arrays_a_table_and_csv():
    error = lambda outputs, targets: (outputs.argmax(1) != targets).mean()  # noqa: E731
    history = ns.fit(classifier(), (X, LABELS), epochs=3, validation=(X[:20], LABELS[:20]), metrics={"error": error})
    assert list(history.epochs) == [1, 2, 3]
    assert len(history) == 3
    assert not history.interrupted
    np.testing.assert_allclose(history.validation_error, 1 - history.validation_accuracy)
    rows = list(csv.DictReader(history.to_csv().splitlines()))
    assert [float(row["loss"]) for row in rows] == history.loss.tolist()
    assert list(rows[0]) == ["epoch", *history.curves]
    lines = history.table().splitlines()
    assert lines[0].split() == list(rows[0])
    assert lines[3].split()[:2] == ["3", f"{history.loss[2]:.4f}"]
    assert repr(history) == history.table()
    np.testing.assert_array_equal(history["loss"], history.loss)
    for mistake, error in ((lambda: history.lost, AttributeError), (lambda: history["lost"], KeyError)):
        with pytest.raises(error, match="no curve 'lost'; it has loss, accuracy"):
            mistake()


def test_class_numbers_as_floats_are_told_to_be_integers():
    with pytest.raises(ShapeError, match=r"If the targets are class numbers, .* y.astype\('int64'\)"):
        ns.fit(classifier(), (X, LABELS.astype(float)), epochs=1)


def test_the_validation_curve_is_what_evaluate_says_and_does_not_train():
    model, alone = classifier(nn.BatchNorm(8), nn.Dropout(0.5)), classifier(nn.BatchNorm(8), nn.Dropout(0.5))
    history = ns.fit(model, (X, LABELS), epochs=2, seed=0, validation=(X[:20], LABELS[:20]), batch_size=25)
    found = ns.evaluate(model, (X[:20], LABELS[:20]))
    assert (history.validation_loss[-1], history.validation_accuracy[-1]) == (found.loss, found.accuracy)
    ns.fit(alone, (X, LABELS), epochs=2, seed=0, batch_size=25)
    assert same_state(model, alone)


def test_callbacks_hear_of_each_step_and_epoch():
    heard = []
    history = ns.fit(classifier(), (X, LABELS), epochs=2, batch_size=20, callbacks=[heard.append])
    places = [(type(event).__name__, event.epoch, getattr(event, "step", None)) for event in heard]
    assert places == [
        (name, epoch, step)
        for epoch in (1, 2)
        for name, step in [("StepDone", 1), ("StepDone", 2), ("StepDone", 3), ("EpochDone", None)]
    ]
    steps, epochs = heard[2], heard[3]
    assert (steps.steps, steps.epochs, steps.examples) == (3, 2, 50)
    assert steps.values["loss"] == epochs.values["loss"] == history.loss[0]
    assert steps.values["accuracy"] == epochs.values["accuracy"] == history.accuracy[0]


def test_the_accuracy_of_a_step_with_one_hot_targets_is_that_of_the_epoch():
    heard = []
    ns.fit(classifier(), (X, np.eye(3)[LABELS]), loss=nn.cross_entropy, epochs=1, callbacks=[heard.append])
    assert heard[-2].values["accuracy"] == heard[-1].values["accuracy"]


def test_the_accuracy_of_labels_with_two_axes_is_a_fraction():
    x = np.random.default_rng(0).normal(size=(6, 5, 4))
    model = classifier()
    labels = ns.predict(model, x).argmax(-1)
    assert ns.evaluate(model, (x, labels)).accuracy == 1.0


def test_losses_far_from_one_are_shown_with_an_exponent(capfd):
    prices = (1e5 * X[:, :1]).astype("float32")
    history = ns.fit(nn.Linear(X.shape[1], 1), (X, prices), epochs=1, progress="lines")
    shown = f"{history.loss[0]:.3e}"
    assert "e+0" in shown
    assert f"loss {shown}  " in capfd.readouterr().err
    assert shown in str(history)
    assert in_words({"loss": 1.5e-7, "metric": 0.0}) == "loss 1.500e-07  metric 0.0000"


def test_large_numbers_whose_sum_overflows_are_no_infinite_ones():
    x = np.full((60, X.shape[1]), 1e38, "float32")
    dataset.as_dataset((x, np.zeros(60)), "data")
    x[7, 1] = np.inf
    with pytest.raises(DataError, match=r"has 1 NaN or infinite numbers, the first at index \(7, 1\)"):
        dataset.as_dataset((x, np.zeros(60)), "data")


def test_nothing_is_printed_where_there_is_no_terminal(capfd):
    ns.fit(classifier(), (X, LABELS), epochs=2)
    ns.fit(classifier(), (X, LABELS), epochs=2, progress=False)
    assert capfd.readouterr() == ("", "")
    history = ns.fit(classifier(), (X, LABELS), epochs=2, progress="lines")
    printed = capfd.readouterr()
    assert printed.out == ""
    assert [line.split()[:4] for line in printed.err.splitlines()] == [
        ["epoch", f"{i + 1}/2", "loss", f"{history.loss[i]:.4f}"] for i in range(2)
    ]
    with pytest.raises(OptionError, match="progress is True, False, None"):
        ns.fit(classifier(), (X, LABELS), progress="bar")


# Early ends


def test_patience_ends_the_training_and_brings_the_best_weights_back():
    model = classifier()
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    states, heard = [], []

    def watch(event):
        heard.append(event.improved)
        states.append(model.state_dict())
        if event.epoch == 3:
            optimizer.lr = 30.0  # from here on it gets worse

    held = X[:20], LABELS[:20]
    callbacks = [only(ns.EpochDone, watch)]
    history = ns.fit(
        model, (X, LABELS), optimizer=optimizer, epochs=50, validation=held, patience=4, callbacks=callbacks, seed=0
    )
    best = int(history.validation_loss.argmin())
    assert len(history) == best + 1 + 4 < 50
    losses = history.validation_loss.tolist()
    assert heard == [loss < min(losses[:i], default=math.inf) for i, loss in enumerate(losses)]
    assert all(np.array_equal(states[best][path], array) for path, array in model.state_dict().items())
    assert ns.evaluate(model, held).loss == history.validation_loss[best]


def test_an_equal_validation_loss_is_no_improvement():
    model = classifier()
    still = optim.SGD(model.parameters(), lr=0.0)
    assert len(ns.fit(model, (X, LABELS), optimizer=still, epochs=9, validation=(X, LABELS), patience=3)) == 4


def test_a_thread_that_predicts_changes_no_mode_for_another():
    arrived, go_on = threading.Event(), threading.Event()

    class Waiting(nn.Module):
        def forward(self, x):
            if threading.current_thread() is not threading.main_thread():
                arrived.set()
                assert go_on.wait(60)
            return x

    model = nn.Sequential(Waiting(), nn.Dropout(0.5))
    x, found = np.ones((50, 4), "float32"), []
    thread = threading.Thread(target=lambda: found.append(ns.predict(model, x)))
    thread.start()
    assert arrived.wait(60)
    assert model.training
    assert (model(x).numpy() == 0).any()
    assert np.array_equal(ns.predict(model, x), x)
    assert model.training
    go_on.set()
    thread.join()
    assert np.array_equal(found[0], x)


def test_a_compiled_part_of_a_model_sees_that_the_model_predicts():
    dropout = nn.Dropout(0.5)

    class Part(nn.Module):
        def __init__(self):
            self.compute = ns.compile(lambda x: dropout(x))

        def forward(self, x):
            return self.compute(x)

    model, x = Part(), np.ones((50, 4), "float32")
    for _ in range(3):
        with ns.no_grad():
            assert (model(ns.tensor(x)).numpy() == 0).any()
        assert np.array_equal(ns.predict(model, x), x)


def test_a_callback_may_stop_the_training_after_a_step_or_an_epoch():
    def stop_at(*place):
        def callback(event):
            if place == (event.epoch, getattr(event, "step", "end")):
                raise ns.StopTraining

        return callback

    for place, rows, steps in (((2, 1), 1, 4), ((2, "end"), 2, 6)):
        model = classifier()
        optimizer = optim.Adam(model.parameters())
        history = ns.fit(model, (X, LABELS), optimizer=optimizer, epochs=5, batch_size=20, callbacks=[stop_at(*place)])
        assert (len(history), optimizer.steps.item(), history.interrupted) == (rows, steps, False)
        assert model.training


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_another_exception_of_a_callback_comes_through_and_leaves_what_was_learned(error):
    def fail(event):
        raise error("mine")

    model, twin = classifier().eval(), classifier()
    optimizer = optim.Adam(model.parameters())
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(error, match="mine"):
        ns.fit(model, (X, LABELS), optimizer=optimizer, batch_size=20, callbacks=[fail], seed=0)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not model.training
    assert optimizer.steps.item() == 1
    ns.fit(twin, (X, LABELS), batch_size=20, callbacks=[only(ns.StepDone, stop)], seed=0)
    assert same_state(model, twin)


def stop(event):
    raise ns.StopTraining


def test_ctrl_c_ends_after_the_step_and_keeps_what_was_learned():
    def interrupt(event):
        if event.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    model = classifier()
    optimizer = optim.Adam(model.parameters())
    handler = signal.getsignal(signal.SIGINT)
    held = X[:20], LABELS[:20]
    history = ns.fit(
        model, (X, LABELS), optimizer=optimizer, batch_size=20, validation=held, patience=3, callbacks=[interrupt]
    )
    assert history.interrupted
    assert len(history) == 1
    assert optimizer.steps.item() == 4  # the weights are those after the step, not the best
    assert ns.evaluate(model, held).loss != history.validation_loss[0]
    assert signal.getsignal(signal.SIGINT) is handler


# What goes wrong


def test_divergence_says_where_and_leaves_the_weights_from_before():
    model = classifier()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    states = [model.state_dict()]

    def spoil(event):
        if (event.epoch, getattr(event, "step", 0)) == (2, 1):
            model[2].weight.assign(ns.tensor(np.full((8, 3), 1e38, "float32")))
        states.append(model.state_dict())

    expected = r"epoch 2, step 2: the loss is nan; .* from matmul, .* in module 2 \(Linear\(8, 3\)\)\..*learning rate"
    with pytest.raises(DivergenceError, match=expected):
        ns.fit(model, (X * 1e3, LABELS), optimizer=optimizer, batch_size=20, epochs=3, callbacks=[spoil])
    assert all(np.array_equal(states[-1][path], array) for path, array in model.state_dict().items())
    assert optimizer.steps.item() == 4


def test_divergence_by_a_rate_too_high_or_bad_weights_names_the_parameter():
    model = classifier()
    with pytest.raises(DivergenceError, match=r"epoch 1, step 2.*whose result .* has 1 infinite"):
        ns.fit(model, (X, LABELS), optimizer=optim.SGD(model.parameters(), lr=1e38), batch_size=10)
    model = classifier()
    model[2].bias.assign(ns.tensor([0.0, np.nan, np.inf]))
    with pytest.raises(DivergenceError, match=r"parameter 2\.bias, which has 1 NaN and 1 infinite of 3 numbers"):
        ns.fit(model, (X, LABELS))


class Root(nn.Module):
    def forward(self, x):
        return ns.sqrt(x)


def test_divergence_in_a_custom_module_names_it():
    model = nn.Sequential(nn.Linear(4, 3), Root())
    with pytest.raises(DivergenceError, match=r"the first bad value comes from sqrt, .* in module 1 \(Root"):
        ns.fit(model, (X, LABELS))


def test_weights_that_overflow_in_the_last_step_are_not_kept_in_silence():
    model = classifier()
    with pytest.raises(DivergenceError):
        ns.fit(model, (X, LABELS), optimizer=optim.SGD(model.parameters(), lr=1e39), batch_size=50, epochs=1)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (X[:0], LABELS[:0], DataError, "data has no rows"),
        (but(X, (3, 1), np.nan), LABELS, DataError, r"x of data has 1 NaN .* at index \(3, 1\)"),
        (X, but(TARGETS, 5, np.inf), DataError, "y of data has 1 NaN or infinite"),
        (X, but(LABELS, 7, 3), DataError, r"label 3 at row 7 is outside the classes 0 to 2"),
        (X, LABELS - 1, DataError, "label -1 at row"),
        (X, LABELS[:-1], DataError, "50 rows x but 49 targets y"),
        (X.astype(str), LABELS, DataError, "not numbers"),
        (X[:, :3], LABELS, ShapeError, r"Linear\(4, 8\).* got input of shape \(1, 3\); its last axis must be 4"),
        (X, TARGETS, ShapeError, r"outputs of shape \('batch', 3\), the targets have shape \(50, 1\)"),
        (X, np.eye(3, dtype=int)[LABELS], OptionError, "the loss cannot be told .* pass loss=nn.cross_entropy"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_anything_changes(x, y, error, message):
    model = classifier()
    with pytest.raises(error, match=message):
        ns.fit(model, (x, y))
    assert same_state(model, classifier())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, OptionError, "epochs must be a whole number from 1, got 0"),
        ({"epochs": 2.5}, OptionError, r"epochs must be .* got 2\.5"),
        ({"batch_size": 0}, OptionError, "batch_size must be a whole number from 1, got 0"),
        ({"patience": 0, "validation": (X, LABELS)}, OptionError, "patience must be"),
        ({"patience": 3}, OptionError, "pass validation="),
        ({"engine": "numpi"}, OptionError, "unknown engine 'numpi'; did you mean 'numpy'"),
        ({"schedule": "cosin"}, OptionError, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"clip_norm": -1.0}, OptionError, "clip_norm must be at least 0, got -1"),
        ({"seed": -1}, OptionError, "a seed must be a whole number from 0"),
        ({"validation": (X[:, :2], LABELS)}, ShapeError, r"validation rows have shape \(2,\), training rows \(4,\)"),
        ({"validation": (X, LABELS + 1)}, DataError, "label 3 at row"),
        ({"optimizer": optim.Adam(nn.Linear(4, 3).parameters())}, OptionError, "none of this model's parameters"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        ns.fit(classifier(), (X, LABELS), **options)


def test_an_evaluation_at_the_prompt_is_what_print_shows():
    found = ns.evaluate(classifier(), (X, LABELS))
    assert repr(found) == str(found)
    assert repr(found).startswith("loss ")


def test_a_model_that_is_no_module_or_ends_in_softmax_is_refused():
    with pytest.raises(OptionError, match="fit takes a Module first, got function"):
        ns.fit(lambda x: x, (X, LABELS))
    with pytest.raises(OptionError, match="remove the final Softmax"):
        ns.fit(nn.Sequential(classifier(), nn.Softmax()), (X, LABELS))


def test_a_number_too_large_for_float32_is_an_error_of_the_data():
    with pytest.raises((DataError, DivergenceError)):
        ns.fit(classifier(), (but(X.astype("float64"), (3, 1), 1e300), LABELS))


def test_real_numbers_are_no_labels():
    with pytest.raises((DataError, ns.DTypeError)):
        ns.fit(classifier(), (X, LABELS + 0.7), loss=nn.cross_entropy)


def test_a_second_fit_with_the_same_optimizer_and_schedule_learns():
    model = classifier()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    ns.fit(model, (X, LABELS), optimizer=optimizer, schedule="cosine", epochs=2)
    before = model.state_dict()["0.weight"]
    ns.fit(model, (X, LABELS), optimizer=optimizer, schedule="cosine", epochs=2)
    assert not np.array_equal(before, model.state_dict()["0.weight"])


# Using a model


def test_evaluate_counts_as_by_hand():
    model = classifier(nn.Dropout(0.9))
    names = ("a", "b", "c")
    found = ns.evaluate(model, ns.Dataset(X, LABELS, names), batch_size=7, metrics={"rows": lambda y, t: len(y)})
    outputs = model.eval()(X).numpy().astype("float64")
    chosen = outputs.argmax(1)
    pairs = list(zip(LABELS.tolist(), chosen.tolist(), strict=True))
    matrix = [[pairs.count((i, j)) for j in range(3)] for i in range(3)]
    assert found.confusion_matrix.tolist() == matrix
    assert found.accuracy == np.trace(matrix) / 50
    log_sum = np.log(np.exp(outputs).sum(1))
    assert found.loss == pytest.approx((log_sum - outputs[range(50), LABELS]).mean(), rel=1e-5)
    assert found.metrics == {"rows": 50}
    assert str(found).splitlines()[-3].split() == ["a", *map(str, matrix[0])]


def test_labels_between_0_and_1_stand_for_the_nearer_class_in_accuracy_and_confusion_matrix():
    x, labels = np.array([[-1.0], [2.0], [3.0], [4.0]], "float32"), [0.2, 0.8, 0.9, 0.1]
    found = ns.evaluate(nn.Identity(), (x, labels), loss=nn.binary_cross_entropy_with_logits)
    assert found.accuracy == 0.75
    assert found.confusion_matrix.tolist() == [[1, 1], [0, 2]]


def test_long_class_names_are_cut_in_the_confusion_matrix():
    names = tuple(f"{letter}{'y' * 500}" for letter in "abc")
    told = str(ns.evaluate(classifier(), ns.Dataset(X, LABELS, names)))
    assert max(map(len, told.splitlines())) < 110
    assert [line[0] for line in told.splitlines()[-3:]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("model", "y", "names"),
    [
        (classifier, LABELS, ("cat", "dog")),
        (classifier, LABELS, ("ant", "bee", "cat", "dog")),
        (lambda: nn.Linear(4, 1), LABELS > 0, ("ant", "bee", "cat")),
    ],
)
def test_a_wrong_number_of_class_names_is_an_error_and_not_dropped(model, y, names):
    data, told = ns.Dataset(X, y, names), rf"class_names of data are {len(names)} \('\w+', .*a name for each"
    with pytest.raises(DataError, match=told):
        ns.evaluate(model(), data)
    with pytest.raises(DataError, match=told):
        ns.fit(model(), data)
    with pytest.raises(DataError, match="class_names of the validation data are"):
        ns.fit(model(), (X, y), validation=data)


def test_class_names_that_name_no_classes_of_rows_are_left_alone():
    several = (X[:, :3] > 0).astype("int64")
    found = ns.evaluate(classifier(), ns.Dataset(X, several, ("a", "b")), loss=nn.binary_cross_entropy_with_logits)
    assert found.class_names == ()
    assert ns.evaluate(nn.Linear(4, 1), ns.Dataset(X, TARGETS, ("a", "b", "c"))).class_names == ()


def test_a_metric_gets_the_same_from_fit_and_evaluate():
    def error(outputs, targets):
        return np.square(outputs - targets).mean()

    model, y = nn.Sequential(nn.Linear(X.shape[1], 1)), X.sum(axis=1)
    history = ns.fit(model, (X, y), epochs=1, validation=(X, y), metrics={"error": error})
    assert ns.evaluate(model, (X, y), metrics={"error": error}).metrics["error"] == history.validation_error[-1]
    assert history.validation_error[-1] == pytest.approx(history.validation_loss[-1], rel=1e-5)


def test_r2_of_very_many_rows_of_several_targets_is_right():
    y = (1000 + np.random.default_rng(0).normal(size=(300_000, 2))).astype("float32")
    model = nn.Sequential(nn.Linear(1, 2, weight_init="zeros"))
    model[0].bias.assign(y.mean(axis=0, dtype="float64"))
    assert ns.evaluate(model, (np.zeros((len(y), 1), "float32"), y)).r2 == pytest.approx(0, abs=1e-4)


def test_evaluate_gives_r2_of_a_regression():
    ns.manual_seed(1)
    model = nn.Linear(4, 1, dtype="float64")
    found = ns.evaluate(model, (X, TARGETS), batch_size=7)
    errors = ((X @ model.weight.numpy() + model.bias.numpy()) - TARGETS) ** 2
    assert found.loss == pytest.approx(errors.mean())
    assert found.r2 == pytest.approx(1 - errors.sum() / ((TARGETS - TARGETS.mean()) ** 2).sum())
    assert found.accuracy is found.confusion_matrix is None


def test_predict_is_the_model_in_evaluation_mode_whatever_the_batch():
    model = classifier(nn.Dropout(0.9), nn.BatchNorm(8))
    model[2].eval()
    found = ns.predict(model, X, batch_size=7)
    assert [module.training for module in model.named_modules().values()] == [True, True, True, False, True, True]
    np.testing.assert_allclose(found, model.eval()(X).numpy(), rtol=1e-6, atol=1e-6)  # another batch, another order
    assert found.shape == (50, 3)
    with pytest.raises(DataError, match="no rows"):
        ns.predict(model, X[:0])
    with pytest.raises(OptionError, match="batch_size"):
        ns.predict(model, X, batch_size=0)


def test_class_names_are_refused_because_a_part_of_the_data_may_lack_some():
    names = np.array(["ant", "bee", "cat"])[LABELS]
    with pytest.raises(DataError, match=r"y of data holds names; number them once.*numpy.unique"):
        ns.fit(classifier(), (X, names))


def test_all_true_is_class_1():
    model = nn.Linear(4, 1)
    model.bias.assign(ns.tensor([100.0]))
    assert ns.evaluate(model, (X, np.ones(50, bool))).accuracy == 1.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: ns.fit(m, (X, LABELS), optimizer="adam"), OptionError, "an optimizer is made first"),
        (lambda m: ns.fit(m, (X, LABELS), optimizer=optim.Adam), OptionError, "an optimizer is made first"),
        (lambda m: ns.fit(m, (X, LABELS), loss="mse"), OptionError, "a loss is a function"),
        (lambda m: ns.fit(m, (X, LABELS), callbacks=print), OptionError, "callbacks is a list"),
        (lambda m: ns.fit(m, (np.ma.array(X, mask=X > 0), LABELS)), DataError, "masked numbers"),
        (lambda m: ns.evaluate(m, (X, LABELS), loss="mse"), OptionError, "a loss is a function"),
        (lambda m: ns.predict(m, [[1.0], [1.0, 2.0]]), DataError, "x is not an array"),
        (lambda m: ns.predict(m.forward, X), OptionError, "predict takes a Module first"),
        (lambda m: ns.Dataset(X, LABELS)[0], DataError, "taken apart by rows"),
        (
            lambda m: ns.fit(m, (X, LABELS), validation=(X, LABELS), metrics={"loss": lambda outputs, targets: 0}),
            OptionError,
            "cannot be named loss",
        ),
    ],
)
def test_a_likely_mistake_is_explained(call, error, message):
    with pytest.raises(error, match=message):
        call(classifier())


def test_predict_takes_a_dataset_and_evaluate_a_model_that_ends_in_softmax():
    model = classifier()
    np.testing.assert_array_equal(ns.predict(model, ns.Dataset(X, LABELS)), ns.predict(model, X))
    whole = ns.evaluate(nn.Sequential(model, nn.Softmax()), (X, LABELS))
    assert whole.accuracy == ns.evaluate(model, (X, LABELS)).accuracy
    assert whole.loss == pytest.approx(ns.evaluate(model, (X, LABELS)).loss, abs=1e-5)


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="needs signals")
def test_an_interrupt_that_the_program_ignores_does_not_end_the_training():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = ns.fit(classifier(), (X, LABELS), epochs=2, callbacks=[lambda _: signal.raise_signal(signal.SIGINT)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert (len(history), history.interrupted) == (2, False)


def test_a_handler_of_interrupts_that_is_not_of_python_stays(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    history = ns.fit(classifier(), (X, LABELS), epochs=2)
    assert (len(history), history.interrupted) == (2, False)


@pytest.fixture
def small_batches(monkeypatch):
    """Have machine code for evaluations at once, in batches of 5 rows, two at a time."""
    monkeypatch.setattr(evaluation, "COMPILED_BATCH", 5)
    monkeypatch.setattr(evaluation, "BATCHES_OF_A_SCAN", 2)
    monkeypatch.setattr(evaluation, "OPERATIONS_WORTH_COMPILING", 0)


@pytest.mark.parametrize("rows", [1, 4, 5, 6, 10, 13, 20, 33])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8"])
def test_a_forward_pass_by_machine_code_gives_the_outputs_of_each_row(rows, dtype, small_batches):
    model = classifier(nn.BatchNorm(8), nn.Dropout(0.5))
    inputs = evaluation.Inputs((100 * GENERATOR.random((rows, 4))).astype(dtype), np.dtype("float32"))
    forward_pass = evaluation.ForwardPass(model, inputs.dtype)
    for _ in range(2):
        found = forward_pass(inputs)
        assert found.shape == (rows, 3)
        np.testing.assert_allclose(found, evaluation.outputs_of(model, inputs), rtol=1e-4, atol=1e-5)
        assert forward_pass.compiled is not None
        model[0].weight.assign(model[0].weight * -1.0)  # the next pass takes the weights of then


def test_validation_by_machine_code_finds_what_validation_by_numpy_does(small_batches, monkeypatch):
    def learned():
        model = classifier()
        optimizer = optim.SGD(model.parameters(), lr=0.3)
        history = ns.fit(model, (X[:37], LABELS[:37]), optimizer=optimizer, validation=(X[37:], LABELS[37:]), seed=0)
        return history.validation_loss, history.validation_accuracy

    passes = []
    call = evaluation.ForwardPass.__call__
    monkeypatch.setattr(evaluation.ForwardPass, "__call__", lambda self, x: passes.append(self) or call(self, x))
    compiled = learned()
    assert len(passes) == 5
    assert passes[0].compiled.latest.program is not None
    monkeypatch.setattr(evaluation, "OPERATIONS_WORTH_COMPILING", math.inf)
    by_numpy = learned()
    assert len(passes) == 5
    np.testing.assert_allclose(compiled, by_numpy, rtol=1e-5)
    assert len(set(compiled[0])) == 5


def test_a_model_whose_evaluation_asks_for_values_is_validated_by_numpy(small_batches):
    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 1)

        def forward(self, x):
            y = self.linear(x)
            return y if self.training else y * min(1.0, 1 / abs(y).max().item())

    ns.manual_seed(0)
    history = ns.fit(Clipped(), (X, TARGETS), validation=(X, TARGETS), epochs=3, seed=0)
    assert np.isfinite(history.validation_loss).all()


def test_a_watch_sees_the_validation_of_a_compiled_training(small_batches, monkeypatch):
    seen = []
    for worth in (0, math.inf):
        monkeypatch.setattr(evaluation, "OPERATIONS_WORTH_COMPILING", worth)
        model = classifier()
        with ns.inspect.watch(model) as watch:
            ns.fit(model, (X, LABELS), validation=(X, LABELS), epochs=2, seed=0)
        seen.append((watch.count, list(watch.activations), [len(each) for each in watch.activations.values()]))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_rows_are_let_go_when_the_training_is_over(engine):
    x, targets = X.copy(), TARGETS.astype("float32")
    seen = weakref.ref(x), weakref.ref(targets)
    ns.manual_seed(0)
    gc.collect()
    gc.disable()  # what is freed is freed at once
    try:
        ns.fit(nn.Linear(4, 1), (x, targets), validation=(x, targets), engine=engine, epochs=2)
        del x, targets
        assert [each() for each in seen] == [None, None]
    finally:
        gc.enable()
