"""The scikit-learn estimators: the same numbers as scikit-learn's own networks, and what these do not have."""

import copy
import copyreg
import functools
import gc
import inspect
import io
import pickle
import pydoc
import re
import signal
import threading
import warnings
import weakref

import numpy as np
import pytest
import sklearn
from scipy import sparse, special
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris, make_classification, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import nissl as ns
from nissl import evaluation, nn
from nissl.errors import DivergenceError
from nissl.optim.schedules import NAMED
from nissl.sklearn import NeuralNetClassifier, NeuralNetRegressor, base, fitting, parameters
from nissl.sklearn.run import Run
from nissl.sklearn.weights import Weights
from nissl.traced import Traced

pytestmark = [
    pytest.mark.filterwarnings("ignore:Maximum iterations:sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer:sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge:sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:all [0-9]+ rows get the class:sklearn.exceptions.ConvergenceWarning"),
]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(53, 5))
CLASSES = np.array(["maple", "oak", "yew"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)]
PAIR = np.where(X[:, 0] * X[:, 1] > 0, "yes", "no")
LABELS = (X[:, :3] > 0).astype(int)
NUMBER = np.sin(X[:, 0]) + X[:, 1] ** 2
NUMBERS = np.column_stack([NUMBER, X[:, 2] * X[:, 3]])
WEIGHTS = RNG.integers(1, 4, 53).astype(float)
IRIS = load_iris(return_X_y=True)


def same_weights(ours, theirs, atol=1e-9):
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(a, b, atol=atol)


# The same numbers as scikit-learn's networks, from the same random_state without shuffling.

SETTINGS = {
    "the defaults": {},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "sgd without momentum": {"solver": "sgd", "momentum": 0.0},
    "heavy ball": {"solver": "sgd", "nesterovs_momentum": False},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5, "power_t": 0.3},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1, "n_iter_no_change": 1,
                 "tol": 0.05, "max_iter": 40},
    "a strong penalty": {"alpha": 3.0},
    "no penalty": {"alpha": 0.0},
    "adam's numbers": {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3, "learning_rate_init": 0.02},
    "two layers": {"hidden_layer_sizes": (7, 4), "activation": "tanh"},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "logistic": {"activation": "logistic"},
    "identity": {"activation": "identity"},
    "full batches": {"batch_size": 53},
    "lbfgs": {"solver": "lbfgs", "max_iter": 6},
    "early stopping by tol": {"learning_rate_init": 0.1, "n_iter_no_change": 2, "tol": 0.02, "max_iter": 100},
}  # fmt: skip
TARGETS = {"three classes": CLASSES, "two classes": PAIR, "labels": LABELS, "number": NUMBER, "numbers": NUMBERS}


# With several numbers scikit-learn's L-BFGS gets a loss, their mean, that is not the one of its gradient.
CASES = [
    (settings, target) for settings in SETTINGS for target in TARGETS if (settings, target) != ("lbfgs", "numbers")
]


@pytest.mark.parametrize(("settings", "target"), CASES)
def test_a_training_takes_the_path_of_scikit_learn(settings, target):
    options = {"max_iter": 8, "hidden_layer_sizes": 6, "batch_size": 20, "shuffle": False, "random_state": 3}
    options |= SETTINGS[settings]
    if target == "numbers":
        # For several outputs scikit-learn makes the sum of errors smaller, but looks at their mean to stop.
        options |= {"max_iter": 8, "tol": 0.0}
    regresses = target.startswith("number")
    ours = (NeuralNetRegressor if regresses else NeuralNetClassifier)(**options).fit(X, TARGETS[target])
    theirs = (MLPRegressor if regresses else MLPClassifier)(**options).fit(X, TARGETS[target])
    same_weights(ours, theirs)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    if target != "numbers" and ours.solver != "lbfgs":  # there scikit-learn has no curve
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
        assert ours.best_loss_ == pytest.approx(theirs.best_loss_, rel=1e-9)
    if regresses:
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-9)
        return
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
    likely = theirs.predict_proba(X) > 1e-6  # below, 1 - p has lost the digits that their logarithm is taken of
    np.testing.assert_allclose(ours.predict_log_proba(X)[likely], theirs.predict_log_proba(X)[likely], atol=1e-8)


def test_the_same_names_defaults_and_order_as_in_scikit_learn():
    for ours, theirs in ((NeuralNetClassifier, MLPClassifier), (NeuralNetRegressor, MLPRegressor)):
        expected = inspect.signature(theirs).parameters
        own = inspect.signature(ours).parameters
        assert [name for name in own if name in expected] == list(expected)
        for name in expected:
            assert (own[name].default, own[name].kind) == (expected[name].default, expected[name].kind), name
        assert all(own[name].kind is inspect.Parameter.KEYWORD_ONLY for name in own if name not in expected)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("target", ["three classes", "two classes", "labels", "number"])
def test_weights_of_rows_count_as_in_scikit_learn(solver, target):
    options = {"max_iter": 6, "hidden_layer_sizes": 6, "batch_size": 20, "shuffle": False, "random_state": 3,
               "solver": solver, "alpha": 0.3, "learning_rate_init": 0.05}  # fmt: skip
    regresses = target == "number"
    ours = (NeuralNetRegressor if regresses else NeuralNetClassifier)(**options)
    theirs = (MLPRegressor if regresses else MLPClassifier)(**options)
    ours.fit(X, TARGETS[target], sample_weight=WEIGHTS)
    theirs.fit(X, TARGETS[target], sample_weight=WEIGHTS)
    same_weights(ours, theirs)


def test_early_stopping_takes_the_slice_and_the_scores_of_scikit_learn():
    options = {"max_iter": 60, "hidden_layer_sizes": 6, "shuffle": False, "random_state": 3, "early_stopping": True,
               "learning_rate_init": 0.05, "n_iter_no_change": 4, "validation_fraction": 0.3}  # fmt: skip
    cases = (NeuralNetClassifier, MLPClassifier, PAIR), (NeuralNetRegressor, MLPRegressor, NUMBER)
    for one, other, y in cases:
        ours, theirs = one(**options).fit(X, y), other(**options).fit(X, y)
        np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-9)
        assert ours.best_validation_score_ == pytest.approx(theirs.best_validation_score_, rel=1e-9)
        assert ours.best_loss_ is None
        assert ours.n_iter_ == theirs.n_iter_ < 60
        same_weights(ours, theirs)  # those of the best epoch
        assert len(ours.validation_loss_curve_) == len(ours.loss_curve_) == ours.n_iter_


def test_poisson_regression_is_that_of_scikit_learn():
    counts = RNG.poisson(np.exp(0.3 * X[:, 0]))
    options = {"max_iter": 6, "hidden_layer_sizes": 6, "batch_size": 20, "shuffle": False, "random_state": 3}
    ours, theirs = NeuralNetRegressor("poisson", **options), MLPRegressor("poisson", **options)
    same_weights(ours.fit(X, counts), theirs.fit(X, counts))
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
    assert ours.out_activation_ == "exp"
    with pytest.raises(ValueError, match="counts of 0 or more; y contains -1"):
        ours.fit(X, counts - 1)


def test_the_worked_example_of_scikit_learn():
    x = np.array([[0.6, 0.8, 0.7]])
    y = np.array([0])
    mlp = NeuralNetClassifier(
        solver="sgd", learning_rate_init=0.1, alpha=0.1, activation="logistic", random_state=1, max_iter=1,
        hidden_layer_sizes=2, momentum=0,
    )  # fmt: skip
    assert not hasattr(mlp, "coefs_")
    # The same lines as in test_fit of scikit-learn's test_mlp.py.
    mlp.coefs_ = [0] * 2
    mlp.intercepts_ = [0] * 2
    mlp.n_outputs_ = 1
    mlp.coefs_[0] = np.array([[0.1, 0.2], [0.3, 0.1], [0.5, 0]])
    mlp.coefs_[1] = np.array([[0.1], [0.2]])
    mlp.intercepts_[0] = np.array([0.1, 0.1])
    mlp.intercepts_[1] = np.array([1.0])
    mlp.n_features_in_ = 3
    mlp.n_iter_ = 0
    mlp.n_layers_ = 3
    mlp.out_activation_ = "logistic"
    mlp.t_ = 0
    mlp.best_loss_ = np.inf
    mlp.loss_curve_ = []
    mlp._no_improvement_count = 0
    mlp.partial_fit(x, y, classes=[0, 1])

    # The same worked out here: forward, backward, one step against the gradient.
    w1, w2 = np.array([[0.1, 0.2], [0.3, 0.1], [0.5, 0]]), np.array([[0.1], [0.2]])
    h = special.expit(x @ w1 + 0.1)
    delta = special.expit(h @ w2 + 1.0) - 0
    back = delta @ w2.T * h * (1 - h)
    np.testing.assert_allclose(mlp.coefs_[0], w1 - 0.1 * (x.T @ back + 0.1 * w1), atol=1e-6)
    np.testing.assert_allclose(mlp.coefs_[1], w2 - 0.1 * (h.T @ delta + 0.1 * w2), atol=1e-6)
    np.testing.assert_allclose(mlp.intercepts_[0], 0.1 - 0.1 * back[0], atol=1e-6)
    np.testing.assert_allclose(mlp.intercepts_[1], 1.0 - 0.1 * delta[0], atol=1e-6)
    np.testing.assert_allclose(
        mlp.coefs_[0], [[0.098, 0.195756], [0.2956664, 0.096008], [0.4939998, -0.002244]], atol=5e-4
    )
    np.testing.assert_allclose(mlp.predict_proba(x), [[0.261, 0.739]], atol=1e-3)


# Weights in and out.


def test_weights_can_be_read_and_set_one_by_one_and_all_at_once():
    fitted = quick().fit(*IRIS)
    before = fitted.predict_proba(IRIS[0])
    coefs, intercepts = [c.copy() for c in fitted.coefs_], list(fitted.intercepts_)
    fitted.coefs_[0] = np.zeros_like(coefs[0])
    assert not fitted.coefs_[0].any()
    assert not np.allclose(fitted.predict_proba(IRIS[0]), before)
    fitted.coefs_, fitted.intercepts_ = coefs, intercepts
    np.testing.assert_array_equal(fitted.predict_proba(IRIS[0]), before)
    with pytest.raises(ValueError, match="read-only"):
        fitted.coefs_[0][0, 0] = 1.0  # a change that would be lost
    with pytest.raises(ValueError, match=r"shape \(4, 8\), got one of shape \(8, 4\)"):
        fitted.coefs_[0] = coefs[0].T
    with pytest.raises(ValueError, match="has 2 arrays"):
        fitted.coefs_ = coefs[:1]
    with pytest.raises(TypeError, match=r"layer by layer.*got a slice"):
        fitted.coefs_[:] = coefs


def test_a_list_of_weights_keeps_saying_what_the_network_has():
    fitted = quick().fit(*IRIS)
    listed, mine = fitted.coefs_, np.ones((4, 8))
    listed[-2] = mine
    mine[:] = 5.0
    for array in (listed[0], fitted.coefs_[0], fitted.module_.state_dict()["0.weight"]):
        np.testing.assert_array_equal(array, np.ones((4, 8)))
    with pytest.raises(ValueError, match="read-only"):
        listed[0][0, 0] = 5.0


def test_weights_are_set_all_or_none():
    fitted = quick().fit(*IRIS)
    before = copy.deepcopy(fitted.coefs_)
    for refused in (np.zeros((9, 9)), None, "text"):
        with pytest.raises(ValueError, match=r"has shape|could not convert"):
            fitted.coefs_ = [np.ones((4, 8)), refused]
        assert all(map(np.array_equal, fitted.coefs_, before))
    fitted.coefs_ = (2 * array for array in before)
    assert all(map(np.array_equal, fitted.coefs_, (2 * array for array in before)))


def test_a_list_of_weights_takes_no_layer_more_or_less_and_its_copies_are_plain_lists():
    fitted = quick().fit(*IRIS)
    listed, array = fitted.coefs_, np.zeros((3, 3))
    changes = {"append": [array], "extend": [[array]], "insert": [0, array], "pop": [], "remove": [array], "clear": [],
               "reverse": [], "sort": [], "__delitem__": [0], "__iadd__": [[array]], "__imul__": [2]}  # fmt: skip
    for name, arguments in changes.items():
        with pytest.raises(TypeError, match="coefs_ = arrays; a network has as many as"):
            getattr(listed, name)(*arguments)
    assert len(listed) == len(fitted.coefs_) == 2
    for twin in (copy.copy(listed), copy.deepcopy(listed), pickle.loads(pickle.dumps(listed)), listed.copy()):
        assert type(twin) is list
        assert all(map(np.array_equal, twin, listed))
        twin.append(array)


class PicklerOfBefore(pickle.Pickler):
    """Writes a list of weights as any list that has attributes."""

    def reducer_override(self, value):
        if isinstance(value, Weights):
            return copyreg.__newobj__, (Weights,), vars(value), iter(value)
        return NotImplemented


@pytest.mark.parametrize("sizes", [(), (8,)])
@pytest.mark.parametrize("load", [pickle.load, pickle._load])  # joblib's is made from the one written in Python
def test_lists_of_weights_that_were_pickled_with_their_network_are_read(sizes, load):
    fitted, file = quick(hidden_layer_sizes=sizes).fit(*IRIS), io.BytesIO()
    PicklerOfBefore(file).dump(fitted.coefs_)
    file.seek(0)
    found = load(file)
    assert isinstance(found, Weights)
    assert len(found) == len(sizes) + 1
    assert all(map(np.array_equal, found, fitted.coefs_))
    with pytest.raises(TypeError, match="coefs_ = arrays"):
        found.append(found[0])


def quick(**options):
    return NeuralNetClassifier(**{"hidden_layer_sizes": 8, "max_iter": 5, "random_state": 0} | options)


# Labels of all kinds.


@pytest.mark.parametrize(
    "names",
    [
        ["b", "a", "c"],
        [10, -3, 7],
        [2.0, 1.0, 5.0],
        [True, False],
    ],
    ids=str,
)
def test_names_of_classes_of_any_type_come_back(names):
    kind = object if isinstance(names[0], str) else None
    y = np.array(names, kind)[RNG.integers(0, len(names), 53)]
    fitted = quick().fit(X, y)
    assert fitted.predict(X).dtype == fitted.classes_.dtype == y.dtype
    assert set(fitted.predict(X).tolist()) <= set(names)
    assert fitted.classes_.tolist() == sorted(names)
    assert fitted.predict_proba(X).sum(axis=1) == pytest.approx(np.ones(53))


def test_several_labels_a_row_are_learned_each_for_itself():
    x, y = make_multilabel_classification(150, 8, n_classes=4, random_state=0)
    fitted = NeuralNetClassifier(random_state=0, max_iter=120, learning_rate_init=0.01).fit(x, y)
    assert fitted.predict(x).shape == y.shape
    assert fitted.score(x, y) > 0.6  # the share of rows all of whose labels are right
    assert ((fitted.predict_proba(x) > 0.5) == fitted.predict(x)).all()
    np.testing.assert_array_equal(quick().fit(x, sparse.csr_matrix(y)).predict(x), quick().fit(x, y).predict(x))
    with pytest.raises(ValueError, match="class_weight is for y of one class a row"):
        quick(class_weight="balanced").fit(x, y)


def test_several_outputs_are_predicted_at_once():
    fitted = NeuralNetRegressor(random_state=0, max_iter=300, learning_rate_init=0.01).fit(X, NUMBERS)
    assert fitted.predict(X).shape == (53, 2)
    assert fitted.score(X, NUMBERS) > 0.9
    alone = NeuralNetRegressor(random_state=0, max_iter=2)
    with pytest.warns(sklearn.exceptions.DataConversionWarning):
        assert alone.fit(X, NUMBER[:, None]).predict(X).shape == (53,)


# What X may be.


def test_a_table_with_names_of_columns_is_remembered():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcde"))
    fitted = quick().fit(table, pandas.Series(CLASSES, dtype="category"))
    assert fitted.feature_names_in_.tolist() == list("abcde")
    np.testing.assert_array_equal(fitted.predict(table), quick().fit(X, CLASSES).predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(table[list("edcba")])


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.coo_matrix])
def test_sparse_rows_count_as_dense_ones(form, monkeypatch):
    monkeypatch.setattr("nissl.sklearn.base.EVALUATION_BATCH", 10)
    monkeypatch.setattr("nissl.sklearn.base.NUMBERS_AT_ONCE", 10)  # so that several batches are made dense
    thin = X * (X > 0.5)
    whole, fitted = quick().fit(thin, CLASSES), quick().fit(form(thin), CLASSES)
    same_weights(whole, fitted, atol=0)
    np.testing.assert_allclose(fitted.predict_proba(form(thin)), whole.predict_proba(thin), atol=1e-12)
    held = quick(early_stopping=True).fit(form(thin), CLASSES, X_val=form(thin), y_val=CLASSES)
    assert len(held.validation_scores_) == held.n_iter_


def test_sparse_rows_that_memory_could_not_hold_are_refused(monkeypatch):
    monkeypatch.setattr("nissl.sklearn.rows.BYTES_OF_DENSE_ROWS", 1000)
    with pytest.raises(ValueError, match=r"sparse X of shape \(53, 5\).*partial_fit"):
        quick().fit(sparse.csr_matrix(X), CLASSES)


def test_floats_of_four_bytes_stay_and_all_else_becomes_eight():
    for kind in (np.float32, np.float64, np.int16, np.uint8):
        x = np.abs(3 * X).astype(kind)
        expected = np.float32 if kind is np.float32 else np.float64
        fitted = quick().fit(x, CLASSES)
        assert fitted.coefs_[0].dtype == fitted.predict_proba(x).dtype == expected
        assert NeuralNetRegressor(max_iter=2).fit(x, NUMBER).predict(x).dtype == expected
    native = quick(engine="native").fit(X.astype(np.float32), CLASSES)
    assert native.coefs_[0].dtype == np.float32
    assert quick(dtype="float32").fit(X, CLASSES).coefs_[0].dtype == np.float32
    # Bytes are numbers like any other: the scale is the user's, the same in fit and predict.
    as_bytes = np.abs(30 * X).astype(np.uint8)
    fitted = quick().fit(as_bytes, CLASSES)
    same_weights(fitted, quick().fit(as_bytes.astype(float), CLASSES), atol=0)
    np.testing.assert_array_equal(fitted.predict_proba(as_bytes), fitted.predict_proba(as_bytes.astype(float)))


def test_columns_first_in_memory_cost_nothing_and_change_nothing():
    same_weights(quick().fit(np.asfortranarray(X), CLASSES), quick().fit(X, CLASSES), atol=0)


# Reproducibility.


def test_the_same_random_state_gives_the_same_bits_and_no_global_state_moves():
    ns.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    options = {"dropout": 0.3, "batch_norm": True, "early_stopping": True}
    first, second = (quick(**options).fit(*IRIS) for _ in range(2))
    same_weights(first, second, atol=0)
    quick(random_state=None).fit(*IRIS)
    assert np.random.uniform() == np.random.RandomState(7).uniform()  # noqa: NPY002
    left = ns.random.uniform(3).numpy()
    after = [stream.draws.item() for stream in ns.random.streams.values()]
    ns.manual_seed(7)
    np.testing.assert_array_equal(left, ns.random.uniform(3).numpy())
    assert after == [stream.draws.item() for stream in ns.random.streams.values()]


def test_without_a_random_state_each_fit_is_another():
    first, second = (quick(random_state=None).fit(*IRIS) for _ in range(2))
    assert not np.array_equal(first.coefs_[0], second.coefs_[0])


def test_the_number_of_threads_changes_no_bit():
    x, y = make_classification(600, 20, n_informative=10, random_state=0)
    found, before = [], ns.threads.get_num_threads()
    try:
        for threads in (1, 2):
            ns.set_num_threads(threads)
            found.append(quick(engine="native", dropout=0.2, hidden_layer_sizes=64, max_iter=3).fit(x, y))
    finally:
        ns.set_num_threads(before)
    same_weights(*found, atol=0)


def test_where_blas_may_use_one_thread_so_does_machine_code(monkeypatch):
    seen, before = [], ns.threads.get_num_threads()
    run = fitting.PenalizedTraining.run
    monkeypatch.setattr(
        fitting.PenalizedTraining,
        "run",
        lambda *arguments, **options: seen.append(ns.threads.get_num_threads()) or run(*arguments, **options),
    )
    with threadpool_limits(1):
        quick(engine="native").fit(*IRIS)
    quick(engine="native").fit(*IRIS)
    assert seen == [1, before]
    assert ns.threads.get_num_threads() == before


def test_engines_agree():
    native, plain = (
        quick(engine=engine, batch_size=32).fit(*IRIS, sample_weight=None) for engine in ("native", "numpy")
    )
    same_weights(native, plain, atol=1e-9)


# Weights of rows and classes.


def test_weights_are_rows_repeated_and_zero_is_a_row_left_out():
    counts = RNG.integers(0, 4, 53)
    options = {"hidden_layer_sizes": 6, "max_iter": 30, "random_state": 0, "batch_size": 200}
    weighted, repeated = NeuralNetClassifier(**options), NeuralNetClassifier(**options)
    with pytest.warns(UserWarning, match="batch_size=200 is more than the"):
        weighted.fit(X, CLASSES, sample_weight=counts)
    with pytest.warns(UserWarning, match="batch_size=200 is more than the"):
        repeated.fit(np.repeat(X, counts, axis=0), np.repeat(CLASSES, counts))
    same_weights(weighted, repeated)
    left_out = NeuralNetClassifier(hidden_layer_sizes=6, max_iter=9, batch_size=7, random_state=0)
    with_zeros = clone(left_out).fit(X, CLASSES, sample_weight=counts > 1)
    same_weights(with_zeros, left_out.fit(X[counts > 1], CLASSES[counts > 1]), atol=1e-12)


@pytest.mark.parametrize("engine", ["numpy", "native"])
def test_the_weight_of_a_class_is_that_of_its_rows(engine):
    options = {"hidden_layer_sizes": 6, "max_iter": 20, "random_state": 0, "engine": engine}
    by_class = NeuralNetClassifier(class_weight={"yew": 3, "oak": 0.5}, **options).fit(X, CLASSES)
    factors = np.select([CLASSES == "yew", CLASSES == "oak"], [3.0, 0.5], 1.0)
    same_weights(by_class, NeuralNetClassifier(**options).fit(X, CLASSES, sample_weight=factors))
    both = NeuralNetClassifier(class_weight={"yew": 3, "oak": 0.5}, **options).fit(X, CLASSES, sample_weight=WEIGHTS)
    same_weights(both, NeuralNetClassifier(**options).fit(X, CLASSES, sample_weight=factors * WEIGHTS))


def test_balanced_classes_weigh_the_same_together():
    options = {"hidden_layer_sizes": 6, "max_iter": 20, "random_state": 0}
    names, counts = np.unique(CLASSES, return_counts=True)
    factors = {name: 53 / (3 * count) for name, count in zip(names, counts, strict=True)}
    balanced = NeuralNetClassifier(class_weight="balanced", **options).fit(X, CLASSES)
    same_weights(balanced, NeuralNetClassifier(class_weight=factors, **options).fit(X, CLASSES))
    counted = NeuralNetClassifier(class_weight="balanced", **options).fit(X, CLASSES, sample_weight=WEIGHTS)
    rows = [np.repeat(array, WEIGHTS.astype(int), axis=0) for array in (X, CLASSES)]
    same_weights(counted, NeuralNetClassifier(class_weight="balanced", **options).fit(*rows))


# A validation set of the user's own.


def test_early_stopping_goes_by_the_users_own_rows_and_gives_back_the_best_weights():
    x, x_val, y, y_val = train_test_split(*IRIS, test_size=0.3, random_state=0, stratify=IRIS[1])
    options = {"early_stopping": True, "max_iter": 300, "learning_rate_init": 0.3, "n_iter_no_change": 3}
    fitted = quick(**options).fit(x, y, X_val=x_val, y_val=y_val)
    scores = fitted.validation_scores_
    assert len(scores) == len(fitted.validation_loss_curve_) == len(fitted.loss_curve_) == fitted.n_iter_ < 300
    assert fitted.score(x_val, y_val) == fitted.best_validation_score_ == max(scores)
    assert fitted.t_ == len(x) * fitted.n_iter_  # no row of x was held back
    assert fitted.history_.validation_score.tolist() == scores
    again = quick(**options | {"max_iter": 1 + int(np.argmax(scores))}).fit(x, y, X_val=x_val, y_val=y_val)
    same_weights(fitted, again, atol=0)


def test_rows_to_validate_on_are_only_looked_at_without_early_stopping():
    looked = quick().fit(*IRIS, X_val=IRIS[0][::3], y_val=IRIS[1][::3])
    same_weights(looked, quick().fit(*IRIS), atol=0)
    assert len(looked.validation_loss_curve_) == 5
    assert looked.validation_loss_curve_[-1] == pytest.approx(
        nn.cross_entropy(looked.module_(IRIS[0][::3]), IRIS[1][::3]).item(), rel=1e-9
    )
    regressor = NeuralNetRegressor(max_iter=3, random_state=0).fit(X, NUMBERS, X_val=X[:9], y_val=NUMBERS[:9])
    assert regressor.validation_scores_[-1] == pytest.approx(regressor.score(X[:9], NUMBERS[:9]))


def test_validation_rows_that_cannot_be_used_are_refused_by_their_name():
    with pytest.raises(ValueError, match="must be given together"):
        quick().fit(*IRIS, X_val=IRIS[0])
    cases = {
        r"^y_val: .*classes not in": (IRIS[0], IRIS[1] + 1),
        r"^y_val: .* contains NaN": (IRIS[0], np.where(IRIS[1] == 1, np.nan, IRIS[1])),
        r"^X_val: .*expecting 4 features": (IRIS[0][:, :2], IRIS[1]),
        r"^X_val: .* contains NaN": (IRIS[0] * np.nan, IRIS[1]),
        r"^X_val and y_val: .*\[150, 149\]": (IRIS[0], IRIS[1][1:]),
    }
    for message, (x, y) in cases.items():
        with pytest.raises(ValueError, match=message):
            quick().fit(*IRIS, X_val=x, y_val=y)
    with pytest.raises(TypeError, match=r"^X_val: "):
        quick().fit(*IRIS, X_val={"a": 1}, y_val=IRIS[1])
    with pytest.raises(ValueError, match="validation set is too small"):
        quick(early_stopping=True, validation_fraction=0.001).fit(*IRIS)


# Going on.


def test_parts_of_the_data_one_after_the_other_are_one_epoch():
    options = {"hidden_layer_sizes": 6, "random_state": 0, "shuffle": False, "batch_size": 10}
    parts = NeuralNetClassifier(**options)
    theirs = MLPClassifier(**options)
    for start in range(0, 53, 20):
        rows = slice(start, start + 20)
        parts.partial_fit(X[rows], CLASSES[rows], classes=["oak", "maple", "yew"] if start == 0 else None)
        theirs.partial_fit(X[rows], CLASSES[rows], classes=["oak", "maple", "yew"] if start == 0 else None)
    same_weights(parts, theirs)
    whole = NeuralNetClassifier(max_iter=1, **options).fit(X, CLASSES)
    same_weights(parts, whole)  # the optimizer goes on where it was
    assert parts.t_ == 53
    assert len(parts.loss_curve_) == len(parts.history_) == 3


def test_each_part_is_shuffled_anew_and_still_the_same_way_each_time():
    def run():
        fitted = NeuralNetRegressor(random_state=0, batch_size=10, dropout=0.2)
        return [fitted.partial_fit(X, NUMBER).coefs_[0] for _ in range(3)]

    assert all(map(np.array_equal, run(), run()))


def parts_of_fit(estimator, targets, *, anew, change=()):
    """Give four parts of the data, of two sizes; before the third, parameters may change."""
    for i, rows in enumerate((slice(0, 20), slice(20, 40), slice(10, 30), slice(0, 13))):
        if i == 2:
            estimator.set_params(**dict(change))
        if anew:
            vars(estimator).pop("_step_of_parts", None)
        estimator.partial_fit(X[rows], targets[rows])
    return estimator


@pytest.mark.parametrize("engine", ["numpy", "native"])
@pytest.mark.parametrize(
    "change",
    [{}, {"alpha": 0.5}, {"alpha": 0.0}, {"clip_norm": 1e-3}, {"loss": "huber"}, {"engine": "numpy"}],
    ids=lambda change: next(iter(change), "nothing"),
)
def test_partial_fit_goes_on_with_its_step_as_if_it_were_made_anew(engine, change):
    kept, anew = (
        parts_of_fit(NeuralNetRegressor(random_state=0, dropout=0.2, engine=engine), NUMBER, anew=anew, change=change)
        for anew in (False, True)
    )
    same_weights(kept, anew, atol=0)
    assert kept.loss_curve_ == anew.loss_curve_


def test_partial_fit_traces_again_only_for_rows_of_another_shape(monkeypatch):
    traced = []
    trace = Traced.__init__
    monkeypatch.setattr(Traced, "__init__", lambda *given: (traced.append(given), trace(*given))[1])
    fitted = NeuralNetRegressor(random_state=0)
    for rows in (20, 20, 20, 13, 13):
        fitted.partial_fit(X[:rows], NUMBER[:rows])
    assert len(traced) == 2


@pytest.mark.parametrize("of_what", [float, ns.nn.Buffer], ids=["number", "tensor"])
@pytest.mark.parametrize("where", ["loss", "layers", "schedule"])
def test_partial_fit_sees_that_a_function_of_the_users_reads_another_number(where, of_what):
    factor = [of_what(1.0)]

    class Scaled(nn.Linear):
        def forward(self, x):
            return super().forward(x) * factor[0]

    function = {
        "loss": lambda y, t: nn.mse_loss(y, t) * factor[0],
        "layers": Scaled,
        "schedule": lambda step: 1e-3 * factor[0],
    }[where]
    fitted = [NeuralNetRegressor(random_state=0, **{where: function}) for _ in range(2)]
    for value in (1.0, 3.0):
        factor[0] = of_what(value)
        fitted[0].partial_fit(X, NUMBER)
        vars(fitted[1]).pop("_step_of_parts", None)
        fitted[1].partial_fit(X, NUMBER)
    same_weights(*fitted, atol=0)


def test_a_failed_partial_fit_and_a_fit_leave_no_step_behind():
    fitted = NeuralNetRegressor(random_state=0).partial_fit(X, NUMBER)
    far = np.full_like(X, 1e200)
    held = weakref.ref(far)
    with np.errstate(all="ignore"), pytest.raises(ns.DivergenceError):
        fitted.partial_fit(far, NUMBER)
    del far
    gc.collect()
    assert held() is None
    network = weakref.ref(fitted.partial_fit(X, NUMBER).module_)
    fitted.fit(X, NUMBER)
    gc.collect()
    assert network() is None


def test_partial_fit_holds_no_data_and_is_pickled_without_its_step():
    rows = X.copy()
    still_there = weakref.ref(rows)
    fitted = quick().partial_fit(rows, CLASSES, classes=["maple", "oak", "yew"])
    del rows
    assert still_there() is None
    twins = pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)
    for twin in twins:
        assert "_step_of_parts" not in vars(twin)
        twin.partial_fit(X, CLASSES)
    same_weights(*twins, atol=0)
    same_weights(twins[0], fitted.partial_fit(X, CLASSES), atol=0)


def test_weights_that_do_not_fit_are_refused_each_time_and_leave_no_network():
    given = NeuralNetRegressor(hidden_layer_sizes=5, random_state=0)
    given.coefs_ = [np.ones((4, 5)), np.ones((5, 1))]
    for _ in range(2):
        with pytest.raises(ValueError, match=r"this layer's array has shape \(5, 5\), got one of shape \(4, 5\)"):
            given.partial_fit(X, NUMBER)
        with pytest.raises(NotFittedError):
            given.predict(X)
    given.coefs_ = [np.ones((5, 5)), np.ones((5, 1))]
    np.testing.assert_allclose(given.partial_fit(X, NUMBER).coefs_[0], 1, atol=0.01)


def test_partial_fit_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        quick().partial_fit(*IRIS)
    fitted = quick().partial_fit(*IRIS, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="not what it was in the first call"):
        fitted.partial_fit(*IRIS, classes=[0, 1])
    with pytest.raises(ValueError, match="classes not in"):
        fitted.partial_fit(IRIS[0], IRIS[1] + 5)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
        quick(early_stopping=True).partial_fit(*IRIS, classes=[0, 1, 2])


def test_a_warm_start_goes_on_with_labels_of_several_columns():
    options = {"hidden_layer_sizes": 6, "random_state": 0, "shuffle": False, "max_iter": 3, "warm_start": True}
    ours, theirs = (kind(**options).fit(X, LABELS).fit(X, LABELS) for kind in (NeuralNetClassifier, MLPClassifier))
    same_weights(ours, theirs)


@pytest.mark.parametrize(
    ("fitted", "y", "y_val", "message"),
    [
        (NeuralNetClassifier, LABELS, LABELS[:9] / 2, "neither 0 nor 1"),
        (NeuralNetClassifier, LABELS, LABELS[:9] + 256, "neither 0 nor 1"),
        (NeuralNetClassifier, LABELS, CLASSES[:9], "does not have the 3 columns"),
        (NeuralNetRegressor, NUMBER, NUMBERS[:9], "y has 2 outputs, the network was made for 1"),
        (NeuralNetRegressor, NUMBERS, NUMBER[:9], "y has 1 outputs, the network was made for 2"),
    ],
)
def test_targets_to_validate_on_must_be_like_those_to_train_on(fitted, y, y_val, message):
    with pytest.raises(ValueError, match=message):
        fitted(max_iter=1).fit(X, y, X_val=X[:9], y_val=y_val)


def test_a_warm_start_goes_on_from_the_weights_of_before():
    options = {"hidden_layer_sizes": 6, "random_state": 0, "shuffle": False, "max_iter": 3, "warm_start": True}
    ours, theirs = NeuralNetClassifier(**options), MLPClassifier(**options)
    for _ in range(2):
        same_weights(ours.fit(X, CLASSES), theirs.fit(X, CLASSES))
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_) == (3, 6 * 53)
    with pytest.raises(ValueError, match="same classes as in the previous call"):
        ours.fit(X, np.where(CLASSES == "yew", "oak", CLASSES))
    with pytest.raises(ValueError, match="the network was made for other parameters"):
        ours.set_params(hidden_layer_sizes=7).fit(X, CLASSES)


# Beyond scikit-learn's networks.


def test_each_hidden_layer_may_have_an_activation_and_a_dropout_of_its_own():
    fitted = quick(hidden_layer_sizes=(9, 8, 7), activation=["relu", "gelu", "tanh"], dropout=[0.0, 0.5, 0.1])
    kinds = [type(layer).__name__ for layer in fitted.fit(*IRIS).module_]
    assert kinds == ["Linear", "ReLU", "Linear", "GELU", "Dropout", "Linear", "Tanh", "Dropout", "Linear"]
    with pytest.raises(ValueError, match="activation has 2 values for 3 hidden layers"):
        fitted.set_params(activation=["relu", "gelu"]).fit(*IRIS)


def test_batch_norm_stands_before_the_activation_and_no_batch_is_left_with_one_row():
    fitted = quick(batch_norm=True, batch_size=10).fit(X[:51], CLASSES[:51])
    kinds = [type(layer).__name__ for layer in fitted.module_]
    assert kinds == ["Linear", "BatchNorm", "ReLU", "Linear"]
    assert fitted.module_[1].running_mean.numpy().any()
    np.testing.assert_array_equal(fitted.predict(X[:1]), fitted.predict(X)[:1])  # in evaluation mode


def test_a_network_of_ones_own_is_copied_and_trained():
    own = nn.Sequential(nn.Linear(4, 16, dtype="float64"), nn.LayerNorm(16, dtype="float64"), nn.GELU(),
                        nn.Linear(16, 3, dtype="float64"))  # fmt: skip
    before = own.state_dict()
    fitted = NeuralNetClassifier(layers=own, max_iter=60, learning_rate_init=0.02, random_state=0).fit(*IRIS)
    assert fitted.score(*IRIS) > 0.9
    assert all(np.array_equal(before[name], array) for name, array in own.state_dict().items())
    assert [c.shape for c in fitted.coefs_] == [(4, 16), (16, 3)]
    assert fitted.n_layers_ == 3
    assert clone(fitted).layers is not own
    assert cross_val_score(clone(fitted), *IRIS, cv=2).mean() > 0.8


class Unusual(nn.Module):
    def __init__(self):
        self.unused = nn.Parameter(np.ones(3))
        self.net = nn.Linear(4, 1, weight_init="zeros", dtype="float64")
        self.scale = nn.Parameter(np.array(1.0))

    def forward(self, x):
        return self.net(x) * self.scale


@pytest.mark.parametrize("engine", ["numpy", "native"])
def test_a_network_of_ones_own_may_have_parameters_of_one_number_and_such_as_it_does_not_use(engine):
    x = np.random.default_rng(0).normal(size=(60, 4))
    y = x @ [1.0, 2.0, 3.0, 4.0]
    fitted = NeuralNetRegressor(layers=Unusual(), solver="lbfgs", engine=engine).fit(x, y)
    np.testing.assert_allclose(fitted.predict(x), y, atol=0.01)
    assert fitted.module_.unused.numpy().tolist() == [1, 1, 1]


def test_a_function_may_make_the_network():
    def make(features, outputs):
        return nn.Sequential(nn.Linear(features, 5), nn.SiLU(), nn.Linear(5, outputs))

    options = {"max_iter": 3, "random_state": 0}
    first, second = (NeuralNetClassifier(layers=make, **options).fit(*IRIS) for _ in range(2))
    same_weights(first, second, atol=0)
    assert first.coefs_[0].dtype == np.float32  # as it was made
    with pytest.raises(ValueError, match="must return 3"):
        NeuralNetClassifier(layers=lambda features, outputs: nn.Linear(features, 1)).fit(*IRIS)
    with pytest.raises(TypeError, match=r"must return an nn\.Module, got int"):
        NeuralNetClassifier(layers=lambda features, outputs: 3).fit(*IRIS)
    with pytest.raises(ValueError, match="dropout would have no effect"):
        NeuralNetClassifier(layers=make, dropout=0.5).fit(*IRIS)


def ending_in(last):
    return lambda features, outputs: nn.Sequential(nn.Linear(features, outputs), nn.Sequential(nn.Tanh(), last))


@pytest.mark.parametrize(
    ("last", "y"), [(nn.Softmax(), CLASSES), (nn.Sigmoid(), PAIR), (nn.Sigmoid(), LABELS), (nn.Softmax(), PAIR)]
)
def test_a_network_that_ends_in_probabilities_is_refused_as_the_loss_takes_logits(last, y):
    estimator = NeuralNetClassifier(layers=ending_in(last))
    with pytest.raises(ValueError, match=f"leave out the final {type(last).__name__}"):
        estimator.fit(X, y)
    with pytest.raises(NotFittedError):
        estimator.predict(X)
    with pytest.raises(ValueError, match="leave out the final"):
        estimator.partial_fit(X, y, classes=range(3) if y is LABELS else np.unique(y))


class Hidden(nn.Module):
    def __init__(self, features, outputs):
        self.net = nn.Sequential(nn.Linear(features, outputs), nn.Softmax(), nn.Dropout(0.1))

    def forward(self, x):
        return self.net(x)


def test_a_softmax_inside_a_module_of_ones_own_shows_in_its_outputs():
    with pytest.raises(ValueError, match="sum to 1 in each row, but loss and predict_proba take logits"):
        NeuralNetClassifier(layers=Hidden).fit(X, CLASSES)
    assert NeuralNetRegressor(layers=Hidden, max_iter=1).fit(X, NUMBERS).n_iter_ == 1


def test_a_softmax_of_one_number_is_refused_but_shares_of_a_whole_can_be_learned():
    with pytest.raises(ValueError, match="turns any one number into 1"):
        NeuralNetRegressor(layers=ending_in(nn.Softmax())).fit(X, NUMBER)
    fitted = NeuralNetRegressor(layers=ending_in(nn.Softmax()), max_iter=2).fit(X, special.softmax(NUMBERS, axis=1))
    np.testing.assert_allclose(fitted.predict(X).sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("loss", ["absolute_error", "huber", nn.mse_loss])
def test_other_losses_of_numbers(loss):
    fitted = NeuralNetRegressor(loss, random_state=0, max_iter=400, learning_rate_init=0.01, tol=0.0).fit(X, NUMBER)
    assert fitted.score(X, NUMBER) > 0.9


def test_other_losses_of_classes():
    def with_smoothing(logits, labels, sample_weight=None):
        return nn.cross_entropy(logits, ns.one_hot(labels, 3, "float64") * 0.9 + 0.1 / 3, sample_weight)

    assert (
        quick(loss=with_smoothing, max_iter=150, learning_rate_init=0.02)
        .fit(*IRIS, sample_weight=np.ones(150))
        .score(*IRIS)
        > 0.9
    )
    two = quick(loss=nn.cross_entropy).fit(X, PAIR)
    assert (two.n_outputs_, two.out_activation_) == (2, "softmax")
    same_weights(quick(loss=nn.binary_cross_entropy_with_logits).fit(X, PAIR), quick().fit(X, PAIR))
    with pytest.raises(ValueError, match="for two classes or multi-label y"):
        quick(loss=nn.binary_cross_entropy_with_logits).fit(*IRIS)
    with pytest.raises(ns.OptionError, match="takes no weights"):
        quick(loss=lambda logits, labels: nn.cross_entropy(logits, labels)).fit(*IRIS, sample_weight=np.ones(150))


@pytest.mark.parametrize("solver", [solver for solver in fitting.SOLVERS if solver != "lbfgs"])
def test_every_solver_learns_and_follows_a_schedule(solver):
    rate = 0.1 if solver in ("sgd", "adagrad") else 0.01
    to_the_end = {"max_iter": 80, "tol": 0, "n_iter_no_change": 80}
    fitted = NeuralNetClassifier(
        solver=solver, learning_rate_init=rate, schedule="cosine", random_state=0, **to_the_end
    )
    x = StandardScaler().fit_transform(IRIS[0])
    assert fitted.fit(x, IRIS[1]).score(x, IRIS[1]) > 0.95
    assert fitted.optimizer_.lr.item() < 1e-3 * rate + 1e-9


def test_a_schedule_starts_at_the_learning_rate_and_may_be_a_function():
    halves = quick(schedule=lambda step: 0.01 * 0.5**step, max_iter=3, batch_size=50).fit(*IRIS)
    assert halves.optimizer_.lr.item() == pytest.approx(0.01 * 0.5**9)
    straight = quick(schedule="linear", learning_rate_init=0.02, max_iter=4, batch_size=150).fit(*IRIS)
    straight.optimizer_.steps.assign(ns.tensor(np.array(1.0)))
    assert straight.optimizer_.lr.item() == pytest.approx(0.02 * 0.75)
    with pytest.raises(ValueError, match="both set the learning rate"):
        quick(schedule="linear", learning_rate="adaptive").fit(*IRIS)


def test_lbfgs_takes_all_rows_at_once_and_tells_each_iteration():
    fitted = quick(solver="lbfgs", max_iter=100, alpha=0.01, verbose=True).fit(*IRIS, X_val=IRIS[0], y_val=IRIS[1])
    assert fitted.score(*IRIS) > 0.97
    assert len(fitted.loss_curve_) == len(fitted.validation_scores_) == fitted.n_iter_
    assert fitted.loss_ == fitted.loss_curve_[-1] == min(fitted.loss_curve_)
    native = quick(solver="lbfgs", max_iter=5, engine="native").fit(*IRIS)
    same_weights(native, quick(solver="lbfgs", max_iter=5).fit(*IRIS), atol=1e-6)
    assert not hasattr(fitted, "partial_fit")
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge after 2 iterations"):
        quick(solver="lbfgs", max_iter=2).fit(*IRIS)


def test_a_clipped_gradient_moves_the_weights_no_further():
    options = {"solver": "sgd", "learning_rate_init": 1.0, "momentum": 0.0, "max_iter": 1, "alpha": 0.0}
    fitted = quick(clip_norm=0.01, **options).fit(*IRIS)
    start = fitting.network([4, 8, 3], ["relu"], [0.0], False, "float64", np.random.RandomState(0))
    moved = [fitted.module_.state_dict()[name] - array for name, array in start.state_dict().items()]
    assert np.sqrt(sum((m**2).sum() for m in moved)) == pytest.approx(0.01, rel=1e-3)


def test_what_the_hidden_layers_put_out_can_be_seen():
    fitted = quick(hidden_layer_sizes=(8, 6), dropout=0.5).fit(*IRIS)
    first, second = fitted.hidden_activations(IRIS[0])
    np.testing.assert_allclose(first, np.maximum(IRIS[0] @ fitted.coefs_[0] + fitted.intercepts_[0], 0), atol=1e-12)
    np.testing.assert_allclose(second, np.maximum(first @ fitted.coefs_[1] + fitted.intercepts_[1], 0), atol=1e-12)
    logits = second @ fitted.coefs_[2] + fitted.intercepts_[2]
    np.testing.assert_allclose(special.softmax(logits, axis=1), fitted.predict_proba(IRIS[0]), atol=1e-12)


def test_hidden_layers_are_those_from_the_first_linear_one_on_however_nested():
    def relu_of(x, layer):
        return np.maximum(x @ fitted.coefs_[layer] + fitted.intercepts_[layer], 0)

    def fit(*layers):
        return NeuralNetClassifier(layers=nn.Sequential(*layers), max_iter=1).fit(*IRIS)

    fitted = fit(nn.BatchNorm(4), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    prepared = ns.predict(fitted.module_[0], IRIS[0])
    (found,) = fitted.hidden_activations(IRIS[0])
    np.testing.assert_allclose(found, relu_of(prepared, 0), atol=1e-5)
    fitted.module_.train()  # which neither counts nor changes
    np.testing.assert_array_equal(fitted.hidden_activations(IRIS[0])[0], found)
    assert fitted.module_[0].training

    nested = nn.Sequential(nn.Linear(8, 6), nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(6, 3))))
    fitted = fit(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5)), nested)
    first, second = fitted.hidden_activations(IRIS[0])
    np.testing.assert_allclose(first, relu_of(IRIS[0], 0), atol=1e-5)
    np.testing.assert_allclose(second, relu_of(first, 1), atol=1e-5)
    assert fit(nn.Linear(4, 3)).hidden_activations(IRIS[0]) == []


def test_only_a_sequence_of_layers_says_which_are_hidden():
    fitted = NeuralNetClassifier(layers=nn.Linear(4, 3), max_iter=1).fit(*IRIS)
    with pytest.raises(ValueError, match=r"needs an nn\.Sequential: a Linear does not say"):
        fitted.hidden_activations(IRIS[0])


def test_the_network_is_a_nissl_model_that_can_be_saved(tmp_path):
    fitted = quick().fit(*IRIS)
    with pytest.raises(ns.OptionError, match=r"takes a Module first, got .*; its network is its module_$"):
        ns.save(fitted, tmp_path / "model")
    ns.save(fitted.module_, tmp_path / "model")
    logits = ns.predict(ns.load(tmp_path / "model"), IRIS[0])
    np.testing.assert_allclose(special.softmax(logits, axis=1), fitted.predict_proba(IRIS[0]), atol=1e-12)


# Warnings.


def test_a_network_that_gives_every_row_the_same_class_says_so():
    lost = NeuralNetClassifier(activation="logistic", solver="sgd", learning_rate_init=1e-6, max_iter=1, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"all 53 rows get the class '\w+'.*StandardScaler"):
        lost.fit(X, PAIR)


def test_rows_of_one_class_at_the_places_of_the_first_look_say_nothing():
    rows = np.arange(300)
    y = np.where(rows % 3 == 0, "seen first", "others")  # of 300 rows, every third is looked at first
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="all 300 rows get the class")
        fitted = quick(max_iter=60, learning_rate_init=0.05).fit(np.eye(3)[rows % 3], y)
    assert len(np.unique(fitted.predict(np.eye(3)))) == 2


def test_a_fit_that_was_still_getting_better_says_so():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        quick(max_iter=2).fit(*IRIS)


@pytest.mark.parametrize(
    "options",
    [{"max_iter": 1}, {"max_iter": 1, "solver": "lbfgs"}, {"batch_size": 200, "max_iter": 1}],
    ids=str,
)
@pytest.mark.parametrize("kind", [NeuralNetClassifier, NeuralNetRegressor])
def test_a_warning_is_at_the_line_that_called_fit_whatever_frames_are_between(kind, options):
    estimator = kind(random_state=0, **options)
    ways = [estimator.fit, make_pipeline(estimator).fit]
    if hasattr(kind.fit, "__wrapped__"):  # before scikit-learn 1.9 nothing is wrapped around it
        ways.append(functools.partial(kind.fit.__wrapped__, estimator))
    for fit in ways:
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            fit(*IRIS)
        assert given
        assert {warning.filename for warning in given} == {__file__}


# Mistakes.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"solver": "lbfgs", "early_stopping": True}, ValueError, "it takes all rows at once"),
        ({"solver": "lbfgs", "dropout": 0.5}, ValueError, "no dropout, no batch_norm"),
        ({"max_fun": 0}, ValueError, "max_fun == 0"),
        ({"solver": "adamw"}, ValueError, "'adamw' is not supported"),
        ({"solver": "adm"}, ValueError, "unknown solver 'adm'; did you mean 'adam'"),
        ({"activation": "rellu"}, ValueError, "unknown activation 'rellu'; did you mean 'relu'"),
        ({"activation": ["relu", "tanh"]}, ValueError, "activation has 2 values for 1 hidden layer;"),
        ({"hidden_layer_sizes": (5, 0)}, ValueError, "hidden_layer_sizes == 0"),
        ({"hidden_layer_sizes": 2.5}, TypeError, "hidden_layer_sizes must be an instance of int"),
        ({"alpha": -1.0}, ValueError, "alpha == -1.0"),
        ({"alpha": float("nan")}, ValueError, "alpha"),
        ({"learning_rate_init": 0.0}, ValueError, "learning_rate_init == 0"),
        ({"learning_rate": "cosine"}, ValueError, "unknown learning_rate 'cosine'"),
        ({"learning_rate": 0.01}, ValueError, "for the rate itself write learning_rate_init=0.01$"),
        ({"max_iter": 0}, ValueError, "max_iter == 0"),
        ({"momentum": 1.0}, ValueError, "momentum == 1"),
        ({"beta_2": 1.0}, ValueError, "beta_2 == 1"),
        ({"batch_size": 0}, ValueError, "batch_size == 0"),
        ({"batch_size": "all"}, ValueError, "unknown batch_size 'all'"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change == 0"),
        ({"shuffle": "yes"}, TypeError, "shuffle must be True or False"),
        ({"validation_fraction": 0.0, "early_stopping": True}, ValueError, "validation_fraction == 0"),
        ({"dropout": 1.0}, ValueError, "dropout == 1"),
        ({"engine": "gpu"}, ValueError, "unknown engine 'gpu'"),
        ({"dtype": "float16"}, ValueError, "unknown dtype 'float16'.* Known: None, float32, float64$"),
        ({"loss": "hinge"}, ValueError, "unknown loss 'hinge'"),
        ({"schedule": "cosin"}, ValueError, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"class_weight": "equal"}, ValueError, "class_weight must be a dict"),
        ({"class_weight": {"pine": 2}}, ValueError, r"pine.*not classes of y: \['"),
        ({"clip_norm": 0}, ValueError, "clip_norm == 0"),
        ({"layers": "deep"}, TypeError, "layers= must be an nn.Module"),
    ],
)  # fmt: skip
def test_mistakes_are_named(options, error, message):
    with pytest.raises(error, match=message):
        NeuralNetClassifier(**options).fit(X, CLASSES)


ROWS = {"X": X, "y": CLASSES}
REFUSED = {
    "one class": ROWS | {"y": np.full(53, "yew")},
    "NaN": ROWS | {"X": np.full((53, 5), np.nan)},
    "other columns, weights of other rows": {"X": X[:, :2], "y": PAIR, "sample_weight": np.ones(9)},
    "validation rows with other columns": {"X": X[:, :2], "y": PAIR, "X_val": X[:9], "y_val": PAIR[:9]},
    "unknown classes to validate on": {"X": X, "y": PAIR, "X_val": X[:9], "y_val": CLASSES[:9]},
}
REFUSED_OPTIONS = {
    "an activation": {"activation": "rellu"},
    "a loss": {"loss": "hinge"},
    "a loss without weights": {"loss": lambda logits, labels: nn.cross_entropy(logits, labels), "class_weight": {2: 3}},
    "weights of classes": {"class_weight": {"pine": 2}},
    "too few rows to validate on": {"early_stopping": True, "validation_fraction": 0.001},
    "dropout in lbfgs": {"solver": "lbfgs", "dropout": 0.5},
}


def identities(estimator):
    return {name: id(value) for name, value in vars(estimator).items()}


@pytest.mark.parametrize(
    ("data", "options"),
    [*((data, {}) for data in REFUSED.values()), *((ROWS, options) for options in REFUSED_OPTIONS.values())],
    ids=[*REFUSED, *REFUSED_OPTIONS],
)
@pytest.mark.parametrize("warm_start", [False, True])
def test_a_refused_fit_leaves_the_fitted_estimator_as_it_was(data, options, warm_start):
    fitted = quick(warm_start=warm_start).fit(*IRIS)
    before, weights, answers = identities(fitted), fitted.coefs_, fitted.predict_proba(IRIS[0])
    curve, given = list(fitted.loss_curve_), fitted.get_params()
    with pytest.raises((ValueError, TypeError)):
        fitted.set_params(**options).fit(**data)
    fitted.set_params(**given)
    assert identities(fitted) == before
    np.testing.assert_array_equal(fitted.predict_proba(IRIS[0]), answers)
    assert all(map(np.array_equal, fitted.coefs_, weights))
    assert fitted.loss_curve_ == curve
    assert fitted.predict(IRIS[0]).dtype == IRIS[1].dtype


def test_a_first_fit_that_is_refused_leaves_an_estimator_that_is_not_fitted():
    for data, options in ((REFUSED["unknown classes to validate on"], {}), (ROWS, {"class_weight": {"pine": 2}})):
        fitted = quick(**options)
        with pytest.raises(ValueError, match="classes"):
            fitted.fit(**data)
        assert fitted.get_params().keys() == vars(fitted).keys()
        with pytest.raises(NotFittedError):
            fitted.predict(X)


def test_a_loss_of_the_users_that_fails_in_the_first_step_leaves_an_estimator_that_is_not_fitted():
    def fails(y, t):
        raise ZeroDivisionError

    estimator = NeuralNetRegressor(loss=fails)
    with pytest.raises(ZeroDivisionError):
        estimator.fit(X, NUMBER)
    with pytest.raises(NotFittedError):
        estimator.predict(X)


@pytest.mark.parametrize("engine", ["numpy", "native"])
@pytest.mark.parametrize(("method", "solver"), [("fit", "adam"), ("fit", "lbfgs"), ("partial_fit", "adam")])
def test_an_error_in_the_first_epoch_leaves_what_earlier_calls_learned(method, solver, engine):
    options = {"solver": solver, "warm_start": True, "max_iter": 3, "batch_size": 10, "engine": engine}
    fitted = NeuralNetRegressor(hidden_layer_sizes=(4,), random_state=0, **options)
    fit = getattr(fitted, method)
    fit(X, NUMBER)
    before = copy.deepcopy(fitted)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        fit(np.where(np.arange(len(X))[:, None] == 45, 1e200, X), NUMBER)  # in the last steps of an epoch
    for path, weights in before.module_.state_dict().items():
        np.testing.assert_array_equal(fitted.module_.state_dict()[path], weights, err_msg=path)
    assert fitted.n_iter_ == before.n_iter_
    assert fitted.optimizer_.steps.item() == before.optimizer_.steps.item()
    np.testing.assert_array_equal(fit(X, NUMBER).predict(X), getattr(before, method)(X, NUMBER).predict(X))


def test_what_was_learned_before_an_error_in_a_later_epoch_is_kept(monkeypatch):
    noted = Run._note

    def note(run, values):
        if run.estimator.n_iter_ == 2:
            raise ZeroDivisionError
        noted(run, values)

    monkeypatch.setattr(Run, "_note", note)
    estimator = NeuralNetRegressor()
    with pytest.raises(ZeroDivisionError):
        estimator.fit(X, NUMBER)
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 2
    assert estimator.predict(X).shape == (53,)


def test_weights_are_real_numbers():
    fitted = quick().fit(*IRIS)
    with pytest.raises(TypeError, match="real numbers, got complex"):
        fitted.coefs_[0] = fitted.coefs_[0] + 1j
    with pytest.raises(TypeError, match="real numbers, got complex"):
        fitted.coefs_ = [weights + 1j for weights in fitted.coefs_]


def test_labels_to_validate_on_that_are_missing_are_refused_in_words():
    with pytest.raises(ValueError, match="y_val: `y` has labels of different types or None"):
        quick().fit(*IRIS, X_val=IRIS[0][:5], y_val=[None] * 5)


def test_a_refused_partial_fit_changes_nothing():
    fitted = NeuralNetRegressor(random_state=0).partial_fit(X, NUMBER)
    before = identities(fitted)
    for rows, y in ((X[:, :2], NUMBER), (X, NUMBERS), (X, np.full(53, np.nan))):
        with pytest.raises(ValueError, match=r"features|outputs|NaN"):
            fitted.partial_fit(rows, y)
        assert identities(fitted) == before
    twin = NeuralNetRegressor(random_state=0).partial_fit(X, NUMBER)
    same_weights(fitted.partial_fit(X, NUMBER), twin.partial_fit(X, NUMBER), atol=0)


@pytest.mark.parametrize("sizes", [(8,), [8, 4], 8])
def test_sizes_of_layers_in_the_place_of_the_loss_are_told_their_name(sizes):
    with pytest.raises(ValueError, match=f"write hidden_layer_sizes={re.escape(repr(sizes))}"):
        NeuralNetRegressor(sizes).fit(X, NUMBER)


def test_rows_that_scikit_learn_was_told_not_to_search_for_nan_end_the_training_at_their_first_step():
    x = np.where(np.arange(5) == 3, np.nan, X)
    with sklearn.config_context(assume_finite=True), pytest.raises(DivergenceError, match="a Tensor, which has 53 NaN"):
        NeuralNetClassifier().fit(x, CLASSES)


def test_data_that_cannot_be_learned_are_refused():
    with pytest.raises(ValueError, match="one class only, 'oak'"):
        quick().fit(X, np.full(53, "oak"))
    with pytest.raises(ValueError, match="Unknown label type"):
        quick().fit(X, NUMBER)
    with pytest.raises(ValueError, match="several columns of classes"):
        quick().fit(X, np.column_stack([CLASSES, CLASSES]))
    with pytest.raises(ValueError, match="zero for every row"):
        quick().fit(X, CLASSES, sample_weight=np.zeros(53))
    with pytest.raises(ValueError, match="a weight is 0 or more"):
        quick().fit(X, CLASSES, sample_weight=-np.ones(53))
    for wrong in (["much"] * 53, np.full(53, 1j), 1j, [[1], *[1, 2] * 26], {"oak": 2}):
        with pytest.raises(ValueError, match="sample_weight must be one number, or one for each row"):
            quick().fit(X, CLASSES, sample_weight=wrong)
    with pytest.raises(NotFittedError):
        quick().predict(X)
    with pytest.raises(ns.DivergenceError, match="training diverged"):
        NeuralNetRegressor(solver="sgd", learning_rate_init=1e6, random_state=0).fit(1e3 * X, NUMBER)


@pytest.mark.parametrize("name", ["X", "y", "sample_weight", "X_val", "y_val"])
def test_masked_numbers_are_refused_not_read_from_under_the_mask(name):
    given = {"X": X, "y": NUMBER > 0, "sample_weight": np.ones(53), "X_val": X, "y_val": NUMBER > 0}
    fitted = quick().fit(**{column: np.ma.masked_array(values, mask=False) for column, values in given.items()})
    masked = np.ma.masked_array(given[name])
    masked[7] = np.ma.masked
    with pytest.raises(ValueError, match=f"^{name} has masked numbers, which stand for missing ones"):
        quick().fit(**given | {name: masked})
    with pytest.raises(ValueError, match=r"^X has masked numbers"):
        fitted.predict(np.ma.masked_greater(X, 1))


def test_a_column_may_be_named_mask():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["_mask", *"bcde"])
    np.testing.assert_array_equal(quick().fit(frame, CLASSES).predict(frame), quick().fit(X, CLASSES).predict(X))


# Which engine.


def test_the_engine_is_chosen_by_the_size_of_the_work_alone():
    small = fitting.network([4, 100, 3], ["relu"], [0.0], False, "float64", np.random.RandomState(0))
    large = fitting.network([784, 100, 10], ["relu"], [0.0], False, "float32", np.random.RandomState(0))
    assert fitting.choose_engine("auto", small, 150, 1, 200) == "numpy"
    assert fitting.choose_engine("auto", large, 60_000, 300, 5) == "native"
    assert fitting.choose_engine("native", small, 150, 1, 200) == "native"


def test_a_new_learning_rate_or_penalty_is_nothing_new_to_compile(monkeypatch):
    programs = []
    original = ns.traced.ENGINES["native"]
    monkeypatch.setitem(ns.traced.ENGINES, "native", lambda graph: programs.append(str(graph)) or original(graph))
    for options in ({}, {"alpha": 0.5}, {"learning_rate_init": 0.01}):
        quick(engine="native", max_iter=2, **options).fit(*IRIS)
    assert len(programs) == 3
    assert len(set(programs)) == 1
    for rate in (0.1, 0.2):
        quick(engine="native", max_iter=2, schedule="cosine", learning_rate_init=rate).fit(*IRIS)
    assert len(set(programs)) == 2


# What is documented.


def documented(estimator, section):
    """Return name and type of each entry in a section of the docstring, in their order."""
    text = inspect.getdoc(estimator).split(f"\n\n{section}\n{'-' * len(section)}\n")[1].split("\n\n")[0]
    return dict(re.findall(r"^(\w+) : (.+)$", text, re.MULTILINE))


@pytest.mark.parametrize("kind", [NeuralNetClassifier, NeuralNetRegressor])
def test_every_parameter_is_documented_with_its_default(kind):
    found = documented(kind, "Parameters")
    signature = inspect.signature(kind).parameters
    assert list(found) == list(signature)
    assert set(found) == set(kind().get_params())
    for name, described in found.items():
        assert described.endswith(f", default={signature[name].default!r}"), name
    assert not re.search(r"\{[a-z ]+\}", kind.__doc__)  # no place of a shared part is left
    assert all(name in pydoc.plain(pydoc.render_doc(kind)) for name in found)  # which is what help() shows


def test_every_choice_of_a_parameter_is_documented():
    found, text = documented(NeuralNetClassifier, "Parameters"), inspect.getdoc(NeuralNetClassifier)
    found["loss"] = documented(NeuralNetRegressor, "Parameters")["loss"]
    choices = {**parameters.CHOICES, "schedule": NAMED, "loss": fitting.REGRESSION_LOSSES}
    for name, known in choices.items():
        listed = re.findall(r"'(\w+)'", re.match(r"\{(.+?)\}", found[name])[1])
        assert set(listed) == {choice for choice in known if isinstance(choice, str)}, name
    activations = text.split("\nactivation : ")[1].split("\nsolver : ")[0]
    assert set(re.findall(r'"(\w+)"', activations)) == set(fitting.ACTIVATIONS)


@pytest.mark.parametrize("kind", [NeuralNetClassifier, NeuralNetRegressor])
@pytest.mark.parametrize("options", [{"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_every_fitted_attribute_is_documented(kind, options):
    pandas = pytest.importorskip("pandas")
    fitted = kind(max_iter=3, **options).fit(pandas.DataFrame(IRIS[0], columns=list("abcd")), IRIS[1])
    names = {name for name in dir(fitted) if name.endswith("_") and not name.startswith("_")}
    assert set(documented(kind, "Attributes")) == names


# What scikit-learn does with estimators.


@pytest.mark.parametrize("fitted", [quick(dropout=0.2, early_stopping=True), NeuralNetRegressor(max_iter=3)], ids=str)
def test_an_estimator_can_be_pickled_and_copied(fitted):
    fitted.fit(*IRIS)
    text = pickle.dumps(fitted)
    for twin in (pickle.loads(text), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(twin.predict(IRIS[0]), fitted.predict(IRIS[0]))
        twin.set_params(early_stopping=False).partial_fit(*IRIS)  # the optimizer trains the twin's own network
        assert not np.array_equal(twin.coefs_[0], fitted.coefs_[0])
    assert len(text) < 40_000  # weights, moments and curves; neither data nor machine code


def test_a_search_over_a_pipeline_in_two_processes():
    pipeline = make_pipeline(StandardScaler(), quick(max_iter=60, learning_rate_init=0.05))
    search = GridSearchCV(pipeline, {"neuralnetclassifier__alpha": [1e-4, 20.0]}, n_jobs=2, cv=3)
    search.fit(*IRIS)
    assert search.best_params_ == {"neuralnetclassifier__alpha": 1e-4}
    assert search.best_score_ > 0.9


def test_probabilities_can_be_calibrated():
    calibrated = CalibratedClassifierCV(quick(max_iter=30, learning_rate_init=0.02), cv=3).fit(*IRIS)
    assert accuracy_score(IRIS[1], calibrated.predict(IRIS[0])) > 0.9


def test_a_clone_has_the_parameters_and_nothing_else():
    fitted = quick(activation=["tanh"], class_weight={0: 2}).fit(*IRIS)
    twin = clone(fitted)
    assert twin.get_params() == fitted.get_params()
    assert not hasattr(twin, "module_")


def test_ctrl_c_ends_a_fit_that_then_can_be_used():
    fitted = NeuralNetClassifier(random_state=0, max_iter=100_000, n_iter_no_change=np.inf, engine="numpy")
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt, match="what was learned is kept"):
        fitted.fit(*IRIS)
    assert 0 < fitted.n_iter_ < 100_000
    assert fitted.predict(IRIS[0]).shape == (150,)


def test_verbose_tells_each_epoch_on_standard_error(capsys):
    quick(verbose=True).fit(*IRIS)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("epoch") == 5
    assert "loss" in told.err


callbacks = pytest.importorskip("sklearn.callback") if sklearn.__version__ >= "1.9" else None
with_callbacks = pytest.mark.skipif(callbacks is None, reason="scikit-learn has callbacks from 1.9 on")


@with_callbacks
def test_a_scoring_monitor_hears_of_every_epoch():
    monitor = callbacks.ScoringMonitor(scoring="accuracy")
    fitted = quick().set_callbacks(monitor).fit(*IRIS)
    rows = monitor.get_logs().data
    scores = [row["accuracy"] for row in rows if row["task_name"] == "epoch"]
    assert len(scores) == fitted.n_iter_ == 5
    assert scores == pytest.approx(fitted.history_.accuracy, abs=0.2)  # those of the history are of before each step
    assert scores[-1] == fitted.score(*IRIS)


@with_callbacks
@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: make_pipeline(StandardScaler(), e)], ids=["alone", "pipeline"])
def test_a_progress_bar_goes_to_its_end(wrap, capsys):
    wrap(quick()).set_callbacks(callbacks.ProgressBar()).fit(*IRIS)
    assert "NeuralNetClassifier" in capsys.readouterr().out


@with_callbacks
def test_a_callback_can_end_the_fit_and_sees_a_fitted_estimator():
    class EndAtTheThird:
        def __init__(self):
            self.seen = []

        def setup(self, estimator, context):
            self.seen.append("setup")

        def teardown(self, estimator, context):
            self.seen.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):  # noqa: N803
            if context.task_name == "epoch":
                self.seen.append(fitted_estimator.predict(X).shape)
                return len(self.seen) == 4
            return False

    callback = EndAtTheThird()
    fitted = quick().set_callbacks(callback).fit(*IRIS)
    assert fitted.n_iter_ == 3
    assert callback.seen == ["setup", (150,), (150,), (150,), "teardown"]
    same_weights(fitted, quick(max_iter=3).fit(*IRIS), atol=0)


@pytest.mark.parametrize("options", [{"batch_size": 2}, {"batch_size": 30, "shuffle": False}])
def test_classes_without_weight_are_left_out(options):
    x, y = np.random.default_rng(0).standard_normal((120, 3)), np.sort(np.arange(120) % 3)
    fitted = NeuralNetClassifier((8,), max_iter=3, random_state=0, class_weight={0: 0}, **options)
    with pytest.warns(ConvergenceWarning):
        fitted.fit(x, y)
    weights = (y != 0).astype(float)
    other = NeuralNetClassifier((8,), max_iter=3, random_state=0, **options)
    with pytest.warns(ConvergenceWarning):
        other.fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(fitted.predict_proba(x), other.predict_proba(x), rtol=1e-12)


def test_one_row_is_no_validation_set():
    x = np.random.default_rng(0).standard_normal((60, 3))
    regressor = NeuralNetRegressor(hidden_layer_sizes=(4,), early_stopping=True, max_iter=5)
    with pytest.raises(ValueError, match="validation set is too small"):
        regressor.fit(x, x[:, 0], X_val=x[:1], y_val=x[:1, 0])


@pytest.mark.parametrize("kind", [NeuralNetClassifier, NeuralNetRegressor])
def test_many_rows_are_predicted_by_the_engine_of_the_training(kind, monkeypatch):
    passes = []
    call = evaluation.ForwardPass.__call__
    monkeypatch.setattr(evaluation.ForwardPass, "__call__", lambda self, x: passes.append(self) or call(self, x))
    monkeypatch.setattr(evaluation, "OPERATIONS_WORTH_COMPILING", 1e6)
    many = np.tile(X, (20, 1))
    y = PAIR if kind is NeuralNetClassifier else NUMBER
    native, by_numpy = (kind(engine=engine, random_state=0, max_iter=3).fit(X, y) for engine in ("native", "numpy"))
    assert (native.engine_, by_numpy.engine_) == ("native", "numpy")
    method = "predict_proba" if kind is NeuralNetClassifier else "predict"
    assert not passes
    before = getattr(native, method)(many)
    assert len(passes) == 1
    np.testing.assert_allclose(before, getattr(by_numpy, method)(many), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(getattr(native, method)(sparse.csr_matrix(many)), before, rtol=1e-12)
    getattr(native, method)(X)
    assert len(passes) == 2

    copied = pickle.loads(pickle.dumps(native))
    assert "_forward" not in vars(copied)
    np.testing.assert_array_equal(getattr(copied, method)(many), before)
    assert len({*passes}) == 2

    native.fit(X, y[::-1])
    assert not np.allclose(getattr(native, method)(many), before)
    ready = kind(engine="native", max_iter=1).fit(many, np.tile(y, 20))
    assert ready._forward.compiled.latest is not None
    own = kind(engine="native", max_iter=3, layers=lambda features, outputs: OwnLayer(features, outputs)).fit(X, y)
    count = len(passes)
    own.predict(many)
    assert len(passes) == count


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_rows_that_fit_has_copied_are_let_go_when_it_is_over(engine, monkeypatch):
    seen = []

    def told(*arguments):
        parts = split(*arguments)
        seen.extend(weakref.ref(array) for part in parts for array in part if array is not None)
        return parts

    split = base.split
    monkeypatch.setattr(base, "split", told)
    gc.collect()
    gc.disable()  # what is freed is freed at once
    try:
        NeuralNetClassifier(engine=engine, early_stopping=True, max_iter=2, random_state=0).fit(X, CLASSES)
        assert seen
        assert {each() is None for each in seen} == {True}
    finally:
        gc.enable()


class OwnLayer(nn.Module):
    def __init__(self, features, outputs):
        super().__init__()
        self.linear = nn.Linear(features, outputs, dtype="float64")

    def forward(self, x):
        return self.linear(x)
