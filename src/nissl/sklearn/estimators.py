"""The estimators, `NeuralNetClassifier` and `NeuralNetRegressor`: what becomes of y, and what outputs mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from nissl import nn
from nissl.errors import OptionError, unknown_name
from nissl.habits import explained
from nissl.nn.module import Module
from nissl.optim.optimizer import Schedule
from nissl.sklearn import fitting
from nissl.sklearn.base import NeuralNetwork, takes_parts
from nissl.sklearn.documentation import documented
from nissl.sklearn.run import warn

Array = npt.NDArray[Any]

FIRST_LOOK = 100  # rows; more are predicted only if these all get the same class


@documented
class NeuralNetClassifier(ClassifierMixin, NeuralNetwork):  # type: ignore[misc]
    """A neural network for classification, with the parameters of scikit-learn's `MLPClassifier` and more.

    The loss is the log loss plus the penalty of `alpha`, averaged over each batch. Outputs are a softmax, or logistic
    for two classes and for multi-label y, a matrix of zeros and ones. Numbers are taken as they are: scale the columns
    of X, and divide the bytes of pictures by 255. `fit` warns where it predicts the same class for every row.

    With the same `random_state` the first weights, and the validation rows of two classes, are those of
    `MLPClassifier`. The same fit gives the same bits, whatever the number of threads.

    Parameters
    ----------
    {network and training}
    layers : nissl.nn.Module, callable or None, default=None
        The whole network, in place of `hidden_layer_sizes`, `activation`, `dropout` and `batch_norm`: a Module, which
        `fit` copies, or a function that takes the numbers of features and outputs and returns one. It must return
        logits: no final Softmax or Sigmoid.
    loss : 'log_loss' or callable, default='log_loss'
        Loss of a batch: a function takes (logits, targets, sample_weight=None), such as `nissl.nn.cross_entropy`.
    {schedule}
    class_weight : dict from class to weight, 'balanced' or None, default=None
        Weight of the rows of each class, 1 where a dict has none; "balanced" gives each class the same weight in all.
    {computing}

    Attributes
    ----------
    classes_ : ndarray of shape (classes,)
        The classes, sorted; the numbers of the columns for multi-label y.
    out_activation_ : str
        What makes probabilities of the outputs: "softmax" or "logistic".
    {attributes}

    See Also
    --------
    NeuralNetRegressor : The same for numbers.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from nissl.sklearn import NeuralNetClassifier
    >>> x, y = load_iris(return_X_y=True)
    >>> classifier = NeuralNetClassifier((16,), learning_rate_init=0.02, max_iter=1000, random_state=0).fit(x, y)
    >>> classifier.predict(x[[0, 50, 100]]), classifier.predict_proba(x).shape
    (array([0, 1, 2]), (150, 3))
    """

    classes_: Array

    @explained
    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        batch_norm: bool = False,
        layers: Module | Callable[[int, int], Module] | None = None,
        loss: str | Callable[..., Any] = "log_loss",
        schedule: str | Schedule | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        clip_norm: float | None = None,
        engine: str = "auto",
        dtype: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.layers = layers
        self.loss = loss
        self.schedule = schedule
        self.class_weight = class_weight
        self.clip_norm = clip_norm
        self.engine = engine
        self.dtype = dtype

    @available_if(takes_parts)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:  # noqa: N803
        """Train for one epoch on these rows; the first call needs `classes`, all that may come."""
        return self._partial_fit(X, y, sample_weight, classes)

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the probability of each class, (rows, classes), in the order of `classes_`."""
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax":
            return special.softmax(outputs, axis=1)
        if self._is_multilabel:
            return special.expit(outputs)
        return np.hstack([special.expit(-outputs), special.expit(outputs)])

    def predict_log_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the logarithms of the probabilities, finite where these round to 0."""
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax":
            return special.log_softmax(outputs, axis=1)
        if self._is_multilabel:
            return special.log_expit(outputs)
        return np.hstack([special.log_expit(-outputs), special.log_expit(outputs)])

    @property
    def _is_multilabel(self) -> bool:
        return self._label_kind == "multilabel-indicator"

    def _check_last(self, layer: Module, outputs: Array) -> None:
        if isinstance(layer, nn.Softmax | nn.Sigmoid):
            name = type(layer).__name__
            raise ValueError(
                f"the network given as layers= ends in {name}, but loss and predict_proba take logits, which come "
                f"before it: leave out the final {name}"
            )
        if outputs.shape[1] > 1 and (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, rtol=0, atol=1e-5):
            raise ValueError(
                "the network given as layers= returns numbers that sum to 1 in each row, but loss and predict_proba "
                "take logits: leave out the final softmax"
            )

    @property
    def _stratifies(self) -> bool:  # type: ignore[override]
        return not self._is_multilabel

    def _encode(self, y: Any, fresh: bool, classes: Any, incremental: bool) -> Array:
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind == "multiclass-multioutput":
            raise ValueError("y has several columns of classes; only columns of 0 and 1 (multi-label) can be learned")
        known = hasattr(self, "classes_") and not fresh
        if incremental and not known and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if known and classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes={classes!r} is not what it was in the first call: {self.classes_!r}")
        if not known:
            self._label_kind = kind
            if self._is_multilabel:
                self.classes_ = np.arange(y.shape[1])
            else:
                self.classes_ = np.unique(y if classes is None else classes)
            if len(self.classes_) < 2 and not self._is_multilabel:
                raise ValueError(f"y has one class only, '{self.classes_[0]}': there is nothing to tell apart")
            self._choose_outputs()
        elif (
            self.warm_start
            and not (incremental or self._is_multilabel)
            and len(np.setdiff1d(self.classes_, np.unique(y)))
        ):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {np.unique(y)}"
            )
        return self._encode_more(y)

    def _look_back(self, x: Array, targets: Array) -> None:
        if self._is_multilabel or (targets == targets[0]).all():
            return
        predicted = self._numbers(self._outputs_of(x[:: math.ceil(len(x) / FIRST_LOOK)]))
        if len(np.unique(predicted)) == 1:
            predicted = self._numbers(self._outputs_of(x))
        if len(np.unique(predicted)) == 1:
            warn(
                f"all {len(x)} rows get the class '{self.classes_[predicted[0]]}', so nothing was learned that tells "
                "classes apart. Have the columns of X similar scales, as by StandardScaler? If so, try more epochs, "
                'another learning_rate_init or activation, or class_weight="balanced" where one class is rare',
                ConvergenceWarning,
            )

    def _choose_outputs(self) -> None:
        """Decide how many outputs there are, and their activation."""
        yes_or_no = self.loss == "log_loss" or self.loss is nn.binary_cross_entropy_with_logits
        if self._is_multilabel:
            self.n_outputs_, self.out_activation_ = len(self.classes_), "logistic"
        elif len(self.classes_) == 2 and yes_or_no:
            self.n_outputs_, self.out_activation_ = 1, "logistic"
        elif self.loss is nn.binary_cross_entropy_with_logits:
            raise ValueError(
                f"this loss is for two classes or multi-label y; for {len(self.classes_)} classes leave out loss="
            )
        else:
            self.n_outputs_, self.out_activation_ = len(self.classes_), "softmax"

    def _encode_more(self, y: Any) -> Array:
        if self._is_multilabel:
            if y.ndim != 2 or y.shape[1] != len(self.classes_):
                raise ValueError(f"y of shape {y.shape} does not have the {len(self.classes_)} columns of labels")
            if not np.isin(y, (0, 1)).all():
                raise ValueError("y has labels that are neither 0 nor 1, though the network was made for these two")
            return np.asarray(y, np.int8)
        if y.ndim != 1:
            raise ValueError(f"y of shape {y.shape} is not one column of classes")
        try:
            unknown = np.setdiff1d(y, self.classes_)
        except TypeError:
            raise ValueError(f"`y` has labels of different types or None; the classes are {self.classes_}") from None
        if len(unknown):
            raise ValueError(f"`y` has classes not in `self.classes_`: {unknown}, besides {self.classes_}")
        return np.searchsorted(self.classes_, y)

    def _loss(self) -> Callable[..., Any]:
        if callable(self.loss):
            return self.loss
        if self.loss != "log_loss":
            raise unknown_name("loss", self.loss, ["log_loss"])
        return nn.cross_entropy if self.out_activation_ == "softmax" else fitting.log_loss

    def _decode(self, outputs: Array) -> Array:
        if self._is_multilabel:
            return (outputs > 0).astype(np.int64)
        return self.classes_[self._numbers(outputs)]

    def _numbers(self, outputs: Array) -> Array:
        return outputs.argmax(axis=1) if self.out_activation_ == "softmax" else (outputs[:, 0] > 0).astype(np.int64)

    def _score_of(self, targets: Array, outputs: Array, weights: Array | None) -> float:
        predicted = (outputs > 0).astype(np.int8) if self._is_multilabel else self._numbers(outputs)
        return float(accuracy_score(targets, predicted, sample_weight=weights))

    def _class_factors(self, targets: Array, weights: Array | None) -> Array | None:
        given = self.class_weight
        if given is None:
            return None
        if self._is_multilabel:
            raise ValueError("class_weight is for y of one class a row; for multi-label y use sample_weight")
        amounts = np.bincount(targets, weights, minlength=len(self.classes_))
        if given == "balanced":
            here = np.maximum(amounts, np.finfo(float).tiny)
            return np.where(amounts > 0, amounts.sum() / (np.count_nonzero(amounts) * here), 0.0)
        if not isinstance(given, Mapping):
            raise ValueError(f'class_weight must be a dict from class to weight, "balanced" or None, got {given!r}')
        unknown = [name for name in given if name not in self.classes_]
        if unknown:
            raise ValueError(f"class_weight names {unknown}, which are not classes of y: {self.classes_.tolist()}")
        factors = np.array([float(given.get(name, 1.0)) for name in self.classes_.tolist()])
        if not (np.isfinite(factors).all() and (factors >= 0).all() and (factors * amounts).any()):
            raise ValueError("class_weight must be 0 or more, and not leave every row without weight")
        return factors

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@documented
class NeuralNetRegressor(RegressorMixin, NeuralNetwork):  # type: ignore[misc]
    """A neural network for regression, with the parameters of scikit-learn's `MLPRegressor` and more.

    The loss, summed over several outputs, plus the penalty of `alpha` is averaged over each batch. The score, by which
    early stopping decides, is R². Numbers are taken as they are: scale the columns of X, and y if it is large or small.

    With the same `random_state` the first weights are those of `MLPRegressor`. The same fit gives the same bits,
    whatever the number of threads.

    Parameters
    ----------
    loss : {'squared_error', 'poisson', 'absolute_error', 'huber'} or callable, default='squared_error'
        Loss of a batch: "squared_error" is ½ Σ (y - t)² of a row, "poisson" half the deviance, with predictions eˣ of
        outputs x, "huber" has δ = 1. A function takes (outputs, targets, sample_weight=None).
    {network and training}
    layers : nissl.nn.Module, callable or None, default=None
        The whole network, in place of `hidden_layer_sizes`, `activation`, `dropout` and `batch_norm`: a Module, which
        `fit` copies, or a function that takes the numbers of features and outputs and returns one.
    {schedule}
    {computing}

    Attributes
    ----------
    out_activation_ : str
        What makes predictions of the outputs: "identity", or "exp" for the loss "poisson".
    {attributes}

    See Also
    --------
    NeuralNetClassifier : The same for classes.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from nissl.sklearn import NeuralNetRegressor
    >>> x, y = load_diabetes(return_X_y=True)
    >>> regressor = NeuralNetRegressor("huber", solver="lbfgs", max_iter=1000, random_state=0).fit(x * 20, y / 100)
    >>> regressor.predict(x[:2] * 20).shape
    (2,)
    """

    @explained
    def __init__(
        self,
        loss: str | Callable[..., Any] = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        batch_norm: bool = False,
        layers: Module | Callable[[int, int], Module] | None = None,
        schedule: str | Schedule | None = None,
        clip_norm: float | None = None,
        engine: str = "auto",
        dtype: Any = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.layers = layers
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.engine = engine
        self.dtype = dtype

    @available_if(takes_parts)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:  # noqa: N803
        """Train for one epoch on these rows."""
        return self._partial_fit(X, y, sample_weight)

    def _encode(self, y: Any, fresh: bool, classes: Any, incremental: bool) -> Array:
        if fresh or not hasattr(self, "n_outputs_"):
            self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
        self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        return self._encode_more(y)

    def _check_last(self, layer: Module, outputs: Array) -> None:
        if isinstance(layer, nn.Softmax) and self.n_outputs_ == 1:  # several may be shares of a whole
            raise ValueError(
                "the network given as layers= ends in Softmax, which turns any one number into 1: leave out "
                "the final Softmax"
            )

    def _encode_more(self, y: Any) -> Array:
        outputs = 1 if y.ndim == 1 else y.shape[1]
        if outputs != self.n_outputs_:
            raise ValueError(f"y has {outputs} outputs, the network was made for {self.n_outputs_}")
        targets = np.asarray(y, np.float64).reshape(len(y), outputs)
        if self.loss == "poisson" and (targets < 0).any():
            raise ValueError(f"loss='poisson' is for counts of 0 or more; y contains {targets.min():g}")
        return targets

    def _loss(self) -> Callable[..., Any]:
        if callable(self.loss):
            return self.loss
        given: object = self.loss
        if isinstance(given, int | list | tuple):
            raise OptionError(
                f"loss is a name or a function, got {given!r}. It comes first, as in MLPRegressor; for sizes of layers "
                f"write hidden_layer_sizes={given!r}"
            )
        if self.loss not in fitting.REGRESSION_LOSSES:
            raise unknown_name("loss", self.loss, fitting.REGRESSION_LOSSES)
        return fitting.REGRESSION_LOSSES[self.loss]

    def _decode(self, outputs: Array) -> Array:
        values = np.exp(outputs) if self.out_activation_ == "exp" else outputs
        return values.ravel() if self.n_outputs_ == 1 else values

    def _score_of(self, targets: Array, outputs: Array, weights: Array | None) -> float:
        predicted = self._decode(outputs).reshape(targets.shape)
        if not np.isfinite(predicted).all():
            return math.nan
        return float(r2_score(targets, predicted, sample_weight=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


__all__ = ["NeuralNetClassifier", "NeuralNetRegressor"]
