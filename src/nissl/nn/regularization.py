"""Layers that steady training or keep a network from learning its data by heart."""

from __future__ import annotations

from nissl.arguments import number, whole_number
from nissl.errors import ShapeError
from nissl.functional import mean
from nissl.habits import explained
from nissl.nn.module import Buffer, Module, Parameter
from nissl.ops.elementwise import sqrt, square
from nissl.ops.source import ones, zeros
from nissl.random import streams
from nissl.tensor import DTypeLike, Tensor, TensorLike, as_tensor, check_dtype


class Dropout(Module):
    """In training, each number is 0 with probability p and divided by 1 - p else; in evaluation, y = x.

    A new mask is drawn on each call (Srivastava et al., 2014).

    >>> from nissl import nn
    >>> nn.Dropout(0.5).eval()(3.0)
    tensor(3.)
    """

    @explained
    def __init__(self, p: float = 0.5) -> None:
        self.p = number("p of Dropout", p, least=0, below=1)

    def forward(self, x: TensorLike) -> Tensor:
        """Return x with some numbers dropped."""
        x = as_tensor(x)
        if not self.training or self.p == 0:
            return x
        kept = streams["dropout"].bernoulli(x.shape, 1 - self.p, x.dtype)
        return x * (kept / (1 - self.p))

    def __repr__(self) -> str:
        return f"Dropout(p={self.p!r})"


class BatchNorm(Module):
    """y = γ(x - μ)/√(σ² + ε) + β, with mean μ and variance σ² of each feature over the batch.

    x has shape (..., features). In evaluation, running averages take the place of μ and σ²: after each training batch
    r ← (1 - momentum)·r + momentum·(μ or the unbiased σ²) (Ioffe and Szegedy, 2015).

    >>> from nissl import nn
    >>> import nissl as ns
    >>> nn.BatchNorm(1)(ns.tensor([[1.0], [3.0]])).numpy().round(3).tolist()
    [[-1.0], [1.0]]
    """

    @explained
    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1, dtype: DTypeLike = "float32") -> None:
        self.features = whole_number("features", features, least=0)
        self.eps = number("eps of BatchNorm", eps, above=0)
        self.momentum = number("momentum of BatchNorm", momentum, least=0, most=1)
        self.dtype = check_dtype(dtype).name
        self.weight = Parameter(ones(self.features, self.dtype))
        self.bias = Parameter(zeros(self.features, self.dtype))
        self.running_mean = Buffer(zeros(self.features, self.dtype))
        self.running_var = Buffer(ones(self.features, self.dtype))

    def forward(self, x: TensorLike) -> Tensor:
        """Return x normalized over the batch."""
        x = as_tensor(x)
        if x.ndim < 2 or x.shape[-1] != self.features:
            raise ShapeError(f"{self!r} got input of shape {x.shape}; it needs (batch, {self.features})")
        if not self.training:
            return (x - self.running_mean) / sqrt(self.running_var + self.eps) * self.weight + self.bias
        axes = tuple(range(x.ndim - 1))
        count = x.size // self.features if self.features else 0
        if count < 2:
            raise ShapeError(
                f"{self!r} needs at least two rows in training to see a variance, got shape {x.shape}. "
                "If this is what is left over of the data, train with drop_last=True or another batch size"
            )
        mu = mean(x, axes, keepdims=True)
        variance = mean(square(x - mu), axes, keepdims=True)
        self._update(self.running_mean, mu)
        self._update(self.running_var, variance * (count / (count - 1)))
        return (x - mu) / sqrt(variance + self.eps) * self.weight + self.bias

    def _update(self, running: Buffer, batch: Tensor) -> None:
        new = batch.detach().reshape(self.features).astype(running.dtype)
        running.assign((1 - self.momentum) * running + self.momentum * new)


class LayerNorm(Module):
    """y = γ(x - μ)/√(σ² + ε) + β, with mean μ and variance σ² of each row over its features.

    x has shape (..., features) (Ba, Kiros and Hinton, 2016).

    >>> from nissl import nn
    >>> import nissl as ns
    >>> nn.LayerNorm(2)(ns.tensor([[1.0, 3.0]])).numpy().round(3).tolist()
    [[-1.0, 1.0]]
    """

    @explained
    def __init__(self, features: int, eps: float = 1e-5, dtype: DTypeLike = "float32") -> None:
        self.features = whole_number("features", features, least=0)
        self.eps = number("eps of LayerNorm", eps, above=0)
        self.dtype = check_dtype(dtype).name
        self.weight = Parameter(ones(self.features, self.dtype))
        self.bias = Parameter(zeros(self.features, self.dtype))

    def forward(self, x: TensorLike) -> Tensor:
        """Return x with each row normalized."""
        x = as_tensor(x)
        if x.ndim == 0 or x.shape[-1] != self.features:
            raise ShapeError(f"{self!r} got input of shape {x.shape}; its last axis must be {self.features}")
        centred = x - mean(x, -1, keepdims=True)
        return centred / sqrt(mean(square(centred), -1, keepdims=True) + self.eps) * self.weight + self.bias
