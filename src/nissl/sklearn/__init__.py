"""Neural networks as scikit-learn estimators: `NeuralNetClassifier` and `NeuralNetRegressor`.

They take the parameters of `MLPClassifier` and `MLPRegressor`, with the same meaning and defaults, and more beside
them. Everything of scikit-learn that takes an estimator takes these. `import nissl` does not load them.

>>> from nissl.sklearn import NeuralNetClassifier
>>> classifier = NeuralNetClassifier(hidden_layer_sizes=4, learning_rate_init=0.1, random_state=0)
>>> classifier.fit([[0.0], [1.0]] * 20, ["no", "yes"] * 20).predict([[0.0], [1.0]]).tolist()
['no', 'yes']
"""

from nissl.sklearn.estimators import NeuralNetClassifier, NeuralNetRegressor

__all__ = ["NeuralNetClassifier", "NeuralNetRegressor"]
