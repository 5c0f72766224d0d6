"""The parts of the documentation that classifier and regressor share: parameters and fitted attributes of both."""

from __future__ import annotations

import inspect
from typing import TypeVar

Class = TypeVar("Class", bound=type)

# Each part stands in a docstring as its name in braces, on a line of its own.
PARTS = {
    "network and training": """
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Number of units in each hidden layer; `()` for none.
    activation : str or sequence of str, default='relu'
        Activation after each hidden layer, one for all or one per layer: "identity", "logistic", "relu", "leaky_relu",
        "elu", "gelu", "silu", "softplus", "sigmoid" (the same as "logistic") or "tanh".
    solver : {'sgd', 'adam', 'rmsprop', 'adagrad', 'lbfgs'}, default='adam'
        Optimizer. "lbfgs" takes all rows at once, in SciPy's L-BFGS-B; the others take batches.
    alpha : float, default=0.0001
        Strength of the L2 penalty ½ α Σ W² / Σ sample weights of the batch, which is added to the loss; intercepts
        are not penalized.
    batch_size : int or 'auto', default='auto'
        Rows per batch; "auto" is min(200, rows). Not used by "lbfgs".
    learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
        How the learning rate changes from epoch to epoch. "invscaling": learning_rate_init / (`t_` + 1)^power_t.
        "adaptive": divided by 5 instead of stopping (see `n_iter_no_change`), until it is 1e-6 or less. Not used by
        "lbfgs".
    learning_rate_init : float, default=0.001
        Learning rate of the first step. Not used by "lbfgs".
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Maximum number of epochs, or of iterations with "lbfgs".
    shuffle : bool, default=True
        Whether each epoch takes the rows in a new order. Not used by "lbfgs".
    random_state : int, RandomState instance or None, default=None
        Source of the first weights, the order of the rows, dropout, and the validation rows of `early_stopping`. An int
        gives the same result in each fit; None draws anew. No global random state is read or changed.
    tol : float, default=0.0001
        Smallest improvement of the loss, or of the validation score with `early_stopping`, that counts as one. With
        "lbfgs", training ends when no component of the projected gradient is larger.
    verbose : bool, default=False
        Whether to print progress to standard error.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the previous fit, with a new optimizer.
    momentum : float, default=0.9
        Momentum of "sgd", in [0, 1).
    nesterovs_momentum : bool, default=True
        Whether the momentum of "sgd" is Nesterov's.
    early_stopping : bool, default=False
        Whether the score on validation rows, not the loss, decides when to stop; the weights of the best epoch are
        restored. Not available with "lbfgs".
    validation_fraction : float, default=0.1
        Share of the rows that `early_stopping` sets aside for validation, in (0, 1); not used where `fit` gets `X_val`
        and `y_val`.
    beta_1 : float, default=0.9
        Decay rate of the mean gradient in "adam", in [0, 1).
    beta_2 : float, default=0.999
        Decay rate of the mean squared gradient in "adam" and "rmsprop", in [0, 1).
    epsilon : float, default=1e-08
        Small number that "adam", "rmsprop" and "adagrad" add to the divisor.
    n_iter_no_change : int or np.inf, default=10
        Training stops after more than this many epochs in a row without an improvement by `tol`. Not used by "lbfgs".
    max_fun : int, default=15000
        Maximum number of times that "lbfgs" evaluates the loss.
    dropout : float or sequence of float, default=0.0
        Share of the units dropped after each hidden layer, in [0, 1): one for all or one per layer.
    batch_norm : bool, default=False
        Whether each hidden layer is batch-normalized before its activation.
""",
    "schedule": """
    schedule : {'constant', 'cosine', 'linear'}, callable or None, default=None
        Learning rate of each step: a curve from `learning_rate_init` on over `max_iter` epochs, or a function that
        takes the number of steps so far, a Tensor, and returns the learning rate. Needs `learning_rate="constant"`; not
        available with "lbfgs".
""",
    "computing": """
    clip_norm : float or None, default=None
        Gradients are scaled down where their norm, over all weights together, is larger than this. Not available with
        "lbfgs".
    engine : {'auto', 'native', 'numpy'}, default='auto'
        What computes the training, and the predictions for many rows: "native" (compiled machine code), "numpy", or
        "auto": "native" where NumPy is estimated to take half a second or more for the size of the network and data
        and `max_iter`.
    dtype : {'float32', 'float64'} or None, default=None
        Type to compute in; None: float32 for X of float32, else float64. A network given as `layers` keeps its own.
""",
    "attributes": """
    n_outputs_ : int
        Number of outputs of the network.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of X; only set where all of them are strings.
    n_layers_ : int
        Number of layers, counting the inputs: that of the Linear layers plus 1.
    coefs_ : list of ndarray of shape (inputs, outputs)
        Weights of each Linear layer, read-only; `coefs_[i] = array` sets those of a layer.
    intercepts_ : list of ndarray of shape (outputs,)
        Intercepts of each Linear layer that has them, read-only; `intercepts_[i] = array` sets those of a layer.
    loss_ : float
        Loss of the last epoch, including the penalty.
    best_loss_ : float or None
        Smallest loss of an epoch, or with "lbfgs" the last; None with `early_stopping`.
    loss_curve_ : list of float, of shape (epochs,)
        Loss of each epoch, including the penalty; `warm_start` and `partial_fit` extend it.
    validation_scores_ : list of float, of shape (epochs,), or None
        Score on the validation rows after each epoch; None without validation rows.
    validation_loss_curve_ : list of float, of shape (epochs,), or None
        Loss on the validation rows after each epoch, without the penalty; None without validation rows.
    best_validation_score_ : float or None
        Largest of `validation_scores_`; None without validation rows.
    n_iter_ : int
        Number of epochs, or of iterations with "lbfgs", of the last call to `fit` or `partial_fit`.
    t_ : int
        Number of rows that training has taken, over all epochs; 0 with "lbfgs".
    engine_ : {'native', 'numpy'}
        The engine that training took; with "native", it also predicts many rows.
    module_ : nissl.nn.Module
        The network, which returns outputs before `out_activation_`; `nissl.save` writes it to a file.
    optimizer_ : nissl.optim.Optimizer
        The optimizer, with its state.
    history_ : nissl.evaluation.History
        Curves of loss and metrics: the epochs of the last `fit` and of each `partial_fit` since.
""",
}


def documented(estimator: Class) -> Class:
    """Put the shared parts into the docstring of a class."""
    text = inspect.getdoc(estimator) or ""  # without the indentation, which Python 3.13 removes itself
    for name, part in PARTS.items():
        text = text.replace(f"{{{name}}}", inspect.cleandoc(part))
    estimator.__doc__ = text
    return estimator


__all__ = ["documented"]
