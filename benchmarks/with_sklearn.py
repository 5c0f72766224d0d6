"""scikit-learn: `MLPClassifier` and `MLPRegressor`, which shuffle, gather and step in NumPy."""

from collections.abc import Callable

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from benchmarks.programs import Array, Program, data, initial

Run = Callable[[int], Array]


def network(program: Program) -> MLPClassifier | MLPRegressor:
    kind = MLPRegressor if program.loss == "mse" else MLPClassifier
    return kind(
        hidden_layer_sizes=program.sizes[1:-1],
        alpha=0.0,
        batch_size=program.batch,
        learning_rate_init=program.rate,
        max_iter=1,
        random_state=0,
    )


def learn(model: MLPClassifier | MLPRegressor, program: Program, x: Array, t: Array) -> None:
    """Take one step for each minibatch of the rows."""
    classes = {} if program.loss == "mse" else {"classes": range(program.sizes[-1])}
    model.partial_fit(x, t, **classes)


def started(program: Program, x: Array, t: Array) -> MLPClassifier | MLPRegressor:
    """Return the network with the first weights; it makes its own when it first learns, from one minibatch here."""
    model = network(program)
    learn(model, program, x[: program.batch], t[: program.batch])
    for weight, bias, (first_weight, first_bias) in zip(model.coefs_, model.intercepts_, initial(program), strict=True):
        weight[:], bias[:] = first_weight, first_bias
    return model


def fit(program: Program) -> Run:
    x, t = data(program)
    t = t.ravel()
    model = started(program, x, t)
    scale = 2 if program.loss == "mse" else 1  # its squared error is halved

    def run(steps: int) -> Array:
        rows = steps * program.batch
        learn(model, program, x[:rows], t[:rows])
        return np.array([model.loss_ * scale])

    return run


def predict(program: Program) -> Run:
    x, t = data(program)
    model = started(program, x, t)
    x = x[: program.batch]

    def run(steps: int) -> Array:
        for _ in range(steps):
            outputs = model.predict_proba(x)
        return outputs

    return run
