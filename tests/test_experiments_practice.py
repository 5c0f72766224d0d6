"""The experiments of practice: overfitting, batch normalization, Fashion-MNIST, the search for hyperparameters.

Each is run once and has to show what it claims; and each is broken at its key line, so that a claim no longer holds.
"""

import functools
import os
from pathlib import Path

import numpy as np
import pytest

import nissl as ns
from nissl import datasets, nn, optim
from nissl.experiments import batchnorm, catalog, fashion, hyperparameters, overfitting

HOME = os.environ.get("NISSL_DATA_HOME", "")
needs_images = pytest.mark.skipif(
    not HOME or not all((Path(HOME) / name).is_dir() for name in ("mnist", "fashion-mnist")),
    reason="the real images are not here; set NISSL_DATA_HOME to a folder that has them",
)


@pytest.fixture(scope="module", autouse=True)
def load_each_data_set_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", functools.cache(datasets.load))
        yield


@functools.cache
def result(name):
    return catalog.find(name).run()


def found(name):
    return {row.what: row.found for row in result(name).rows}


def broken(report):
    """Return what no longer holds."""
    return [row.what for row in report.rows if row.holds is False]


def some_data(rows):
    generator = np.random.default_rng(0)
    return ns.Dataset(generator.uniform(size=(rows, 28, 28)).astype(np.float32), generator.integers(0, 10, rows))


@needs_images
@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("overfitting", [""]),
        ("batchnorm", [""]),
        ("fashion", ["", "curves", "weights", "mistakes"]),
        ("hyperparameters", ["", "trials"]),
    ],
)
def test_all_that_is_claimed_comes_out(name, pictures):
    report = result(name)
    assert sum(row.holds is not None for row in report.rows) >= 2
    assert not broken(report)
    assert list(report.pictures) == pictures


@needs_images
def test_three_hundred_images_are_learned_by_heart():
    rows = found("overfitting")
    assert rows["no remedy: training accuracy"] == 1
    assert rows["no remedy: gap to the test"] > 0.2
    training, test = rows["five units a layer: training, test"]
    assert abs(training - test) < 0.1


@needs_images
def test_a_test_on_the_training_images_would_show_no_overfitting(monkeypatch):
    train, _ = datasets.load("mnist")
    monkeypatch.setattr(overfitting.datasets, "load", lambda name: (train, train[:300]))
    report = catalog.find("overfitting").run({"epochs": 10})
    assert "no remedy: gap to the test" in broken(report)


@needs_images
def test_without_its_dropout_that_network_learns_by_heart_like_the_first(monkeypatch):
    network = overfitting.network
    monkeypatch.setattr(overfitting, "network", lambda units, dropout: network(units))
    report = catalog.find("overfitting").run({"epochs": 20})
    assert "dropout 0.2: gap" in broken(report)


@needs_images
def test_without_batch_norm_the_initial_scale_decides(monkeypatch):
    network = batchnorm.network
    monkeypatch.setattr(batchnorm, "network", lambda scale, normalized: network(scale, False))
    monkeypatch.setattr(batchnorm, "SCALES", np.array([0.1, 0.001]))
    assert broken(catalog.find("batchnorm").run({"epochs": 10})) == ["with batch norm, the worst accuracy"]


def test_batch_norm_cancels_a_factor_on_the_weights():
    x = np.random.default_rng(0).uniform(size=(50, 28, 28)).astype(np.float32)
    outputs = []
    for scale in (1.0, 0.1):
        ns.manual_seed(0)
        model = batchnorm.network(scale, normalized=True)
        model[-1].weight.assign(ns.ones(model[-1].weight.shape))
        outputs.append(model(x).numpy())
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-2)


def test_a_training_that_diverges_leaves_a_gap_in_its_curve():
    ns.manual_seed(0)
    curve = batchnorm.learn(batchnorm.network(1.0, normalized=False), some_data(200), lr=10.0, epochs=3)
    assert np.isnan(curve[-1])


@needs_images
def test_fashion_mnist_is_learned_to_87_percent():
    accuracies = [row.found for row in result("fashion").rows][:2]
    assert accuracies[0] >= 0.870
    assert 0.86 < accuracies[1][0] <= accuracies[0] <= accuracies[1][1] < 0.90


@needs_images
def test_fashion_mnist_is_not_learned_in_time_by_plain_gradient_descent(monkeypatch):
    monkeypatch.setattr(fashion.optim, "Adam", optim.SGD)
    report = catalog.find("fashion").run({"seeds": 1, "epochs": 2})
    assert "test accuracy, median of 1" in broken(report)


def test_the_weights_of_a_unit_are_the_image_that_it_likes_best():
    model = fashion.network(5)
    images = fashion.first_weights(model)
    assert images.shape == (5, 28, 28)
    responses = model[1](images.reshape(5, 784)).numpy()
    np.testing.assert_array_equal(responses.argmax(axis=0), np.arange(5))


@needs_images
def test_learning_rates_drawn_evenly_on_a_linear_scale_never_meet_the_small_ones(monkeypatch):
    def draw(trials, seed):
        rates = np.random.default_rng(seed).uniform(0, 0.5, trials)
        return [hyperparameters.Trial(rate, 1e-4) for rate in rates.tolist()]

    monkeypatch.setattr(hyperparameters, "draw", draw)
    report = catalog.find("hyperparameters").run({"trials": 9})
    assert "of the median trial" in broken(report)
    assert "the best 9: powers of ten of weight decay" in broken(report)


def test_points_are_spread_over_all_powers_of_ten():
    trials = hyperparameters.draw(1000, seed=1)
    assert hyperparameters.spread([trial.lr for trial in trials]) == pytest.approx(6, abs=0.1)
    assert hyperparameters.spread([trial.decay for trial in trials]) == pytest.approx(7, abs=0.1)
    assert np.median([trial.lr for trial in trials]) == pytest.approx(1e-3, rel=0.5)
    assert trials == hyperparameters.draw(1000, seed=1)
    assert trials != hyperparameters.draw(1000, seed=2)


def test_the_curves_do_not_depend_on_the_number_of_workers():
    trials = [*hyperparameters.draw(2, seed=0), hyperparameters.Trial(1e6, 1.0)]
    one, two = (hyperparameters.search(some_data(500), 3, trials, workers) for workers in (1, 2))
    assert one.shape == (3, 2, 3)
    np.testing.assert_array_equal(one, two)
    assert not one[2].any()  # this one diverges


def test_weight_decay_is_part_of_the_loss():
    few = some_data(500)
    mild, strong = (hyperparameters.attempt(few, 10, hyperparameters.Trial(0.1, decay)) for decay in (0.0, 3.0))
    assert mild[0, -1] > strong[0, -1]


def test_precision_and_recall_by_class():
    matrix = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    scores = ns.Evaluation(0.5, 0.7, matrix).by_class
    assert [(score.name, score.examples) for score in scores] == [("0", 4), ("1", 6), ("2", 0)]
    np.testing.assert_allclose([score.precision for score in scores], [3 / 5, 4 / 5, np.nan])
    np.testing.assert_allclose([score.recall for score in scores], [3 / 4, 4 / 6, np.nan])
    assert ns.Evaluation(0.5, r2=0.9).by_class == ()


def test_the_number_of_threads_holds_for_matrix_products_too():
    import threadpoolctl

    ns.set_num_threads(1)
    threads = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    assert set(threads) <= {1}
    assert nn.Linear(3, 2)(ns.ones((4, 3))).shape == (4, 2)
