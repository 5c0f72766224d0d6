import warnings

from images import load
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

x, labels = load()
model = MLPClassifier((128,), batch_size=32, learning_rate_init=1e-3, alpha=0.0, max_iter=5)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    model.fit(x, labels)
print(model.loss_)
