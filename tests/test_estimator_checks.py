"""scikit-learn's own checks of what an estimator must do, all of them, with the default parameters."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from nissl.sklearn import NeuralNetClassifier, NeuralNetRegressor

NONE_FAIL = {}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [NeuralNetClassifier(), NeuralNetRegressor()], expected_failed_checks=lambda estimator: NONE_FAIL
)
def test_scikit_learn_finds_nothing_amiss(estimator, check):
    check(estimator)
