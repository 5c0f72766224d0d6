"""Weights of examples: in the losses, in `ns.fit`, in `ns.evaluate`."""

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nissl as ns
from nissl import nn, optim
from nissl.training import Training

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.uniform(0.05, 0.95, (6, 3))
MEAN_LOSSES = {
    nn.mse_loss: (RNG.normal(size=(6, 3)), RNG.normal(size=(6, 3))),
    nn.l1_loss: (RNG.normal(size=6), RNG.normal(size=6)),
    nn.huber_loss: (RNG.normal(size=(6, 2, 2)), RNG.normal(size=(6, 2, 2))),
    nn.poisson_loss: (RNG.normal(size=(6, 2)), RNG.integers(0, 4, (6, 2)).astype(float)),
    nn.cross_entropy: (RNG.normal(size=(6, 3)), RNG.integers(0, 3, 6)),
    nn.cross_entropy_error: (PROBABILITIES, RNG.integers(0, 3, 6)),
    nn.binary_cross_entropy: (PROBABILITIES, RNG.integers(0, 2, (6, 3))),
    nn.binary_cross_entropy_with_logits: (RNG.normal(size=(6, 1)), RNG.integers(0, 2, (6, 1))),
}


def one_by_one(loss, y, t):
    return np.array([loss(y[i : i + 1], t[i : i + 1]).item() for i in range(len(y))])


@pytest.mark.parametrize("loss", MEAN_LOSSES, ids=lambda loss: loss.__name__)
@given(weights=npst.arrays(np.float64, 6, elements=st.floats(0.0, 1e3)))
@settings(max_examples=25, deadline=None)
def test_a_weighted_loss_is_the_weighted_mean_of_the_losses_of_the_examples(loss, weights):
    y, t = MEAN_LOSSES[loss]
    expected = (weights * one_by_one(loss, y, t)).sum() / weights.sum() if weights.any() else 0.0
    assert loss(y, t, sample_weight=weights).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("loss", MEAN_LOSSES, ids=lambda loss: loss.__name__)
def test_equal_weights_change_nothing_and_no_weight_is_no_gradient(loss):
    y, t = MEAN_LOSSES[loss]
    assert loss(y, t, sample_weight=np.full(6, 0.3)).item() == pytest.approx(loss(y, t).item(), rel=1e-12)
    tensor = ns.tensor(y, requires_grad=True)
    loss(tensor, t, sample_weight=[0, 0, 0, 0, 0, 1]).backward()
    assert not tensor.grad.numpy()[:5].any()
    assert tensor.grad.numpy()[5].any()


@pytest.mark.parametrize("loss", MEAN_LOSSES, ids=lambda loss: loss.__name__)
def test_weights_of_another_shape_are_refused(loss):
    y, t = MEAN_LOSSES[loss]
    for weights in (np.ones(5), np.ones((6, 1)), 1.0):
        with pytest.raises(ns.ShapeError, match=f"{loss.__name__} got sample_weight of shape"):
            loss(y, t, sample_weight=weights)


def test_the_poisson_loss_is_half_the_deviance():
    y, t = np.array([0.5, 2.0, 3.0]), np.array([0.0, 1.0, 5.0])
    deviance = 2 * (np.array([0.0, np.log(1 / 2), 5 * np.log(5 / 3)]) - t + y)
    assert nn.poisson_loss(np.log(y), t).item() == pytest.approx(deviance.mean() / 2, rel=1e-12)
    ns.check_gradients(lambda x: nn.poisson_loss(x, t), ns.tensor(np.log(y)))


def classifier():
    ns.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8, dtype="float64"), nn.Tanh(), nn.Linear(8, 3, dtype="float64"))


X, Y = RNG.normal(size=(40, 4)), RNG.integers(0, 3, 40)
COUNTS = RNG.integers(0, 4, 40)


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_a_weight_of_two_is_an_example_given_twice(engine):
    models = classifier(), classifier()
    weighted = ns.fit(models[0], (X, Y), sample_weight=COUNTS, batch_size=1000, epochs=5, engine=engine, seed=0)
    repeated = (np.repeat(X, COUNTS, axis=0), np.repeat(Y, COUNTS))
    expected = ns.fit(models[1], repeated, batch_size=1000, epochs=5, engine=engine, seed=0)
    assert weighted.loss == pytest.approx(expected.loss, rel=1e-9)
    for name, array in models[0].state_dict().items():
        np.testing.assert_allclose(array, models[1].state_dict()[name], atol=1e-9)


def test_the_history_has_the_weighted_mean_over_all_batches():
    model = classifier()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    history = ns.fit(model, (X, Y), sample_weight=COUNTS, batch_size=7, epochs=2, optimizer=optimizer, engine="numpy")
    expected = nn.cross_entropy(model(X), Y, sample_weight=COUNTS).item()
    assert history.loss == pytest.approx([expected, expected], rel=1e-9)
    assert ns.evaluate(model, (X, Y), sample_weight=COUNTS).loss == pytest.approx(expected, rel=1e-9)
    assert ns.evaluate(model, (X, Y), sample_weight=COUNTS).accuracy == ns.evaluate(model, (X, Y)).accuracy


def test_batches_without_weight_move_nothing_and_count_nothing():
    weights = np.zeros(40)
    weights[:5] = 1.0
    model = classifier()
    history = ns.fit(model, (X, Y), sample_weight=weights, batch_size=5, epochs=1, shuffle=False, engine="numpy")
    alone = classifier()
    expected = ns.fit(alone, (X[:5], Y[:5]), batch_size=5, epochs=1, shuffle=False, engine="numpy")
    assert history.loss == pytest.approx(expected.loss, rel=1e-12)


def test_a_loss_of_ones_own_is_not_asked_about_a_batch_without_weight():
    def loss(outputs, targets, sample_weight):
        return ns.sum((outputs - targets) ** 2 * sample_weight.reshape(-1, 1)) / ns.sum(sample_weight)

    x, weights = np.ones((4, 1), "float32"), [1, 1, 0, 0]
    assert ns.evaluate(nn.Identity(), (x, x + 2), loss=loss, sample_weight=weights, batch_size=2).loss == 4


def test_validation_data_may_have_weights_of_their_own():
    model = classifier()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    history = ns.fit(model, (X, Y), validation=(X, Y, COUNTS), epochs=1, optimizer=optimizer, engine="numpy")
    expected = nn.cross_entropy(model(X), Y, sample_weight=COUNTS).item()
    assert history.validation_loss[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones(39), ns.ShapeError, r"sample_weight has shape \(39,\).*shape \(40,\)"),
        (-np.ones(40), ns.DataError, "0 or more"),
        (np.zeros(40), ns.DataError, "not all of them 0"),
        (np.full(40, np.nan), ns.DataError, "finite"),
        (["much"] * 40, ns.DataError, "real number for each example, got <U4"),
        (["1"] * 40, ns.DataError, "real number"),
        (np.full(40, 1j), ns.DataError, "real number for each example, got complex128"),
        (np.ones(40, "datetime64[D]"), ns.DataError, "real number"),
        ([1.0, None] * 20, ns.DataError, "Python objects of mixed kinds"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights, error, message):
    with pytest.raises(error, match=message):
        ns.fit(classifier(), (X, Y), sample_weight=weights)
    with pytest.raises(error, match=message):
        ns.evaluate(classifier(), (X, Y), sample_weight=weights)
    with pytest.raises(error, match=message.replace("sample_weight", "the weights of the validation data")):
        ns.fit(classifier(), (X, Y), validation=(X, Y, weights))


def test_a_loss_that_knows_of_no_weights_is_refused():
    def plain(outputs, targets):
        return nn.cross_entropy(outputs, targets)

    with pytest.raises(ns.OptionError, match="the loss plain takes no weights"):
        ns.fit(classifier(), (X, Y), loss=plain, sample_weight=COUNTS)


def test_a_loss_that_would_ignore_weights_among_its_options_is_refused():
    def with_options(outputs, targets, **options):
        return nn.cross_entropy(outputs, targets)

    with pytest.raises(ns.OptionError, match="the loss with_options takes no weights"):
        ns.fit(classifier(), (X, Y), loss=with_options, sample_weight=COUNTS)


class Scaled(nn.Module):
    def __init__(self, factor):
        self.factor = factor

    def forward(self, outputs, targets, factor=1.0, sample_weight=None):
        return nn.cross_entropy(outputs, targets, sample_weight) * (self.factor * factor)


class Unweighted(nn.Module):
    def forward(self, outputs, targets):
        return nn.cross_entropy(outputs, targets)


@pytest.mark.parametrize("engine", ["numpy", "native"])
def test_a_module_as_loss_takes_weights_if_its_forward_does(engine):
    options = {"epochs": 2, "seed": 0, "engine": engine}
    one, other = classifier(), classifier()
    histories = [
        ns.fit(model, (X, Y), loss=loss, sample_weight=COUNTS, **options)
        for model, loss in ((one, Scaled(1.0)), (other, nn.cross_entropy))
    ]
    assert [row["loss"] for row in histories[0].rows] == pytest.approx([row["loss"] for row in histories[1].rows])
    for name, array in one.state_dict().items():
        np.testing.assert_allclose(array, other.state_dict()[name], rtol=1e-5, atol=1e-7)
    ns.fit(classifier(), (X, Y), loss=Scaled(2.0), **options)
    with pytest.raises(ns.OptionError, match="the loss Unweighted takes no weights"):
        ns.fit(classifier(), (X, Y), loss=Unweighted(), sample_weight=COUNTS, **options)


def test_weights_are_part_of_what_a_checkpoint_belongs_to(tmp_path):
    options = {"epochs": 1, "engine": "numpy", "seed": 0, "checkpoint": tmp_path}
    ns.fit(classifier(), (X, Y), sample_weight=COUNTS, **options)
    with pytest.raises(ns.OptionError, match="its sample_weight is"):
        ns.fit(classifier(), (X, Y), **options)


def test_a_resumed_weighted_training_ends_with_the_same_bits(tmp_path):
    def run(stop, checkpoint):
        model = classifier()
        found = ns.fit(
            model, (X, Y), sample_weight=COUNTS, epochs=3, batch_size=16, seed=0, engine="numpy",
            checkpoint=checkpoint, callbacks=[stop] if stop else [],
        )  # fmt: skip
        return model.state_dict(), found

    def stop_in_the_second_epoch(event):
        if (event.epoch, getattr(event, "step", 0)) == (2, 2):
            raise ns.StopTraining

    run(stop_in_the_second_epoch, tmp_path)
    state, history = run(None, tmp_path)
    expected_state, expected = run(None, None)
    np.testing.assert_array_equal(history.loss, expected.loss)
    assert all(np.array_equal(state[name], expected_state[name]) for name in state)


def test_without_weights_the_step_is_what_it_was():
    trainings = [
        Training(classifier(), (X, Y), engine="numpy", batch_size=40, epochs=1, sample_weight=weights, seed=0)
        for weights in (None, np.ones(40))
    ]
    for training in trainings:
        list(training.run(stepwise=False))
    plain, weighted = (len(training.step.compiled.graph.equations) for training in trainings)
    assert plain < weighted
    assert "where" not in str(trainings[0].step.compiled.graph)
