"""scikit-learn's own checks of what an estimator must do, all of them, with as many epochs as its own networks have."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from nissl.sklearn import NeuralNetClassifier, NeuralNetRegressor

NONE_FAIL = {}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [NeuralNetClassifier(max_iter=100), NeuralNetRegressor(max_iter=100)],
    expected_failed_checks=lambda estimator: NONE_FAIL,
)
def test_scikit_learn_finds_nothing_amiss(estimator, check):
    check(estimator)
