"""Losses: one number that says how wrong a prediction is. All average over the batch, except `sum_squared_error`.

Those that average take `sample_weight`, one number of 0 or more for each example, of shape (batch,): the loss is then
Σ wᵢ lᵢ / Σ wᵢ, where lᵢ is the mean loss of example i; where all wᵢ are 0 it is 0.

A prediction and its target must have the same shape: they never broadcast against each other, because that hides a
mistake. Class labels are told by their rank: integers of one axis less than the logits are class numbers, the same
shape is rows of probabilities.
"""

from __future__ import annotations

import math

from nissl.errors import DTypeError, OptionError, ShapeError
from nissl.functional import mean, softplus
from nissl.habits import explained
from nissl.ops.elementwise import abs, exp, log, maximum, square, where
from nissl.ops.indexing import one_hot
from nissl.ops.reduce import log_softmax, sum
from nissl.tensor import Tensor, TensorLike, as_tensor


def _pair(name: str, prediction: TensorLike, target: TensorLike) -> tuple[Tensor, Tensor]:
    """Return both as Tensors of one shape, the target in the prediction's dtype."""
    prediction, target = as_tensor(prediction), as_tensor(target)
    if prediction.shape != target.shape:
        raise ShapeError(
            f"{name} got a prediction of shape {prediction.shape} and a target of shape {target.shape}; they must be "
            f"equal. If they hold the same numbers, reshape the target: target.reshape{prediction.shape}"
        )
    if prediction.dtype.kind != "f":
        prediction = prediction.astype("float32")
    return prediction, target.astype(prediction.dtype)


def _average(name: str, losses: Tensor, sample_weight: TensorLike | None) -> Tensor:
    """Return the mean of all losses, of shape (batch, ...), or their average by the weights of the examples."""
    if sample_weight is None:
        return mean(losses)
    w = as_tensor(sample_weight).astype(losses.dtype)
    if losses.ndim == 0 or w.shape != losses.shape[:1]:
        raise ShapeError(
            f"{name} got sample_weight of shape {w.shape} for losses of shape {losses.shape}; there is one weight for "
            "each example, in shape (batch,)"
        )
    rows = mean(losses, tuple(range(1, losses.ndim))) if losses.ndim > 1 else losses
    total = sum(w)
    return sum(w * rows) / where(total == 0, 1, total)


@explained
def mse_loss(prediction: TensorLike, target: TensorLike, sample_weight: TensorLike | None = None) -> Tensor:
    """Return the mean squared error, mean((y - t)²); shapes equal, for example (batch, outputs).

    >>> mse_loss([1.0, 2.0], [1.0, 4.0])
    tensor(2.)
    """
    y, t = _pair("mse_loss", prediction, target)
    return _average("mse_loss", square(y - t), sample_weight)


@explained
def sum_squared_error(prediction: TensorLike, target: TensorLike) -> Tensor:
    """Return ½ Σ (y - t)²; shapes equal.

    >>> sum_squared_error([1.0, 2.0], [1.0, 4.0])
    tensor(2.)
    """
    y, t = _pair("sum_squared_error", prediction, target)
    return 0.5 * sum(square(y - t))


@explained
def l1_loss(prediction: TensorLike, target: TensorLike, sample_weight: TensorLike | None = None) -> Tensor:
    """Return the mean absolute error, mean(|y - t|); shapes equal.

    >>> l1_loss([1.0, 2.0], [1.0, 4.0])
    tensor(1.)
    """
    y, t = _pair("l1_loss", prediction, target)
    return _average("l1_loss", abs(y - t), sample_weight)


@explained
def huber_loss(
    prediction: TensorLike, target: TensorLike, delta: float = 1.0, sample_weight: TensorLike | None = None
) -> Tensor:
    """Return the mean of ½d² where |d| ≤ δ and δ(|d| - ½δ) beyond, for d = y - t; shapes equal (Huber, 1964).

    >>> huber_loss([0.5, 4.0], [0.0, 0.0])
    tensor(1.8125)
    """
    if not delta > 0:
        raise OptionError(f"huber_loss needs delta > 0, got {delta}")
    y, t = _pair("huber_loss", prediction, target)
    distance = abs(y - t)
    losses = where(distance <= delta, 0.5 * square(distance), delta * (distance - 0.5 * delta))
    return _average("huber_loss", losses, sample_weight)


@explained
def poisson_loss(log_rates: TensorLike, counts: TensorLike, sample_weight: TensorLike | None = None) -> Tensor:
    """Return half the mean Poisson deviance, mean(t log(t/y) - t + y), for rates y = eˣ and counts t of 0 or more.

    x, the logarithms of the rates, has the shape of the counts, for example (batch, outputs).

    >>> poisson_loss([0.0], [1.0])
    tensor(0.)
    """
    x, t = _pair("poisson_loss", log_rates, counts)
    # t log t is 0 at t = 0.
    return _average("poisson_loss", exp(x) - t * x + t * log(where(t > 0, t, 1)) - t, sample_weight)


def _class_rows(name: str, scores: Tensor, labels: Tensor) -> Tensor:
    """Return labels as rows of the shape of `scores`."""
    if scores.ndim == 0:
        raise ShapeError(f"{name} needs scores with an axis of classes, got a Tensor without axes")
    if labels.shape == scores.shape and scores.ndim >= 1:
        return labels.astype(scores.dtype)
    if labels.shape == scores.shape[:-1]:
        if labels.dtype.kind not in "iu":
            raise DTypeError(f"{name} got class numbers of {labels.dtype}; they are integers. Use astype('int64')")
        return one_hot(labels, scores.shape[-1], scores.dtype)
    raise ShapeError(
        f"{name} got scores of shape {scores.shape} and labels of shape {labels.shape}; labels are class numbers of "
        f"shape {scores.shape[:-1]}, or rows of probabilities of shape {scores.shape}"
    )


def _batch_size(scores: Tensor) -> int:
    """Return the number of rows, over which a loss of classes is averaged."""
    return math.prod(scores.shape[:-1])


def _average_of_classes(name: str, products: Tensor, sample_weight: TensorLike | None) -> Tensor:
    """Return minus the average over the batch of Σ products, of shape (batch, classes)."""
    if sample_weight is None:
        return sum(products) / -_batch_size(products)
    return -_average(name, sum(products, -1), sample_weight)


@explained
def cross_entropy(logits: TensorLike, labels: TensorLike, sample_weight: TensorLike | None = None) -> Tensor:
    """Return the mean over the batch of -Σ t log softmax(x), for logits x of shape (batch, classes).

    `labels` are class numbers of shape (batch,), or rows of probabilities t of shape (batch, classes). The softmax is
    part of the loss: give it the numbers before a softmax. Raises DataError for a class number out of range.

    >>> round(cross_entropy([[0.0, 0.0]], [1]).item(), 6)
    0.693147
    """
    logits, labels = as_tensor(logits), as_tensor(labels)
    rows = _class_rows("cross_entropy", logits, labels)
    return _average_of_classes("cross_entropy", rows * log_softmax(logits), sample_weight)


@explained
def cross_entropy_error(
    probabilities: TensorLike, targets: TensorLike, sample_weight: TensorLike | None = None
) -> Tensor:
    """Return the mean over the batch of -Σ t log(y + 1e-7), for probabilities y.

    y has shape (batch, classes) or (classes,); `targets` are as in `cross_entropy`.

    The 1e-7 keeps the logarithm of 0 finite. For training, `cross_entropy` on logits is more exact.

    >>> cross_entropy_error([0.0, 1.0], [0.0, 1.0]).item() < 1e-6
    True
    """
    y, t = as_tensor(probabilities), as_tensor(targets)
    rows = _class_rows("cross_entropy_error", y, t)
    return _average_of_classes("cross_entropy_error", rows * log(y + 1e-7), sample_weight)


@explained
def binary_cross_entropy(
    probabilities: TensorLike, targets: TensorLike, sample_weight: TensorLike | None = None
) -> Tensor:
    """Return the mean of -(t log p + (1 - t) log(1 - p)) for probabilities p and targets t in [0, 1]; shapes equal.

    Each logarithm is kept at -100 or above, so that a wrong certainty costs much, but not infinitely much.

    >>> round(binary_cross_entropy([0.5], [1.0]).item(), 6)
    0.693147
    """
    p, t = _pair("binary_cross_entropy", probabilities, targets)
    # The smallest float32 above 0 has a logarithm of about -103: the clip is what PyTorch does too.
    return -_average("binary_cross_entropy", t * _bounded_log(p) + (1 - t) * _bounded_log(1 - p), sample_weight)


def _bounded_log(p: Tensor) -> Tensor:
    positive = where(p > 0, p, 1)
    return where(p > 0, maximum(log(positive), -100.0), -100.0)


@explained
def binary_cross_entropy_with_logits(
    logits: TensorLike, targets: TensorLike, sample_weight: TensorLike | None = None
) -> Tensor:
    """Return the mean of -(t log σ(x) + (1 - t) log(1 - σ(x))) for logits x and targets t in [0, 1]; shapes equal.

    >>> binary_cross_entropy_with_logits([1000.0], [1.0])
    tensor(0.)
    """
    x, t = _pair("binary_cross_entropy_with_logits", logits, targets)
    # -t log σ(x) - (1 - t) log(1 - σ(x)) = softplus(x) - t x, which does not overflow.
    return _average("binary_cross_entropy_with_logits", softplus(x) - t * x, sample_weight)
