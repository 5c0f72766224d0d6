"""Layers that multiply by a matrix, and those that only change shapes."""

from __future__ import annotations

import math
from typing import Any

from nissl.arguments import true_or_false, whole_number
from nissl.errors import ShapeError
from nissl.habits import explained
from nissl.nn import init
from nissl.nn.module import Module, Parameter
from nissl.tensor import DTypeLike, Tensor, TensorLike, as_tensor, check_dtype


class Linear(Module):
    """An affine layer: y = x @ W + b, with W of shape (in_features, out_features) and b of shape (out_features,).

    x has shape (..., in_features), y has shape (..., out_features). `weight_init` names a function of `nn.init`; the
    default, He normal, is for the relu that usually follows. The bias starts at 0.

    >>> from nissl import nn
    >>> import nissl as ns
    >>> nn.Linear(3, 2)(ns.zeros((4, 3))).shape
    (4, 2)
    """

    transposed_in_pytorch = ("weight",)

    @explained
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        weight_init: str = "he_normal",
        dtype: DTypeLike = "float32",
    ) -> None:
        self.in_features = whole_number("in_features", in_features, least=0)
        self.out_features = whole_number("out_features", out_features, least=0)
        self.weight_init = weight_init
        self.dtype = check_dtype(dtype).name
        shape = (self.in_features, self.out_features)
        self.weight = Parameter(init.named(weight_init)(shape, dtype=self.dtype))
        self.bias = Parameter(init.zeros(shape[1:], dtype=self.dtype)) if true_or_false("bias", bias) else None

    def forward(self, x: TensorLike) -> Tensor:
        """Return x @ W + b."""
        x = as_tensor(x)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            flat = x.ndim > 2 and math.prod(x.shape[1:]) == self.in_features
            raise ShapeError(
                f"{self.name()} got input of shape {x.shape}; its last axis must be {self.in_features}. "
                + ("Put nn.Flatten() before it" if flat else "Was the layer built for other data?")
            )
        y = x @ self.weight
        return y if self.bias is None else y + self.bias

    def name(self) -> str:
        """Return the layer as it is called in messages."""
        path = self.weight.path.rpartition(".")[0]
        return f"Linear({self.in_features}, {self.out_features}){f' at {path}' if path else ''}"

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments; `bias` is whether there is one."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
            "weight_init": self.weight_init,
            "dtype": self.dtype,
        }

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features}{'' if self.bias is not None else ', bias=False'})"


class Flatten(Module):
    """All axes but the first made one: (batch, ...) becomes (batch, features).

    >>> from nissl import nn
    >>> import nissl as ns
    >>> nn.Flatten()(ns.zeros((5, 28, 28))).shape
    (5, 784)
    """

    def forward(self, x: TensorLike) -> Tensor:
        """Return x with shape (batch, features)."""
        x = as_tensor(x)
        if x.ndim == 0:
            raise ShapeError("Flatten needs a batch: got a Tensor without axes")
        if x.ndim == 2:
            return x
        features = 1
        for n in x.shape[1:]:
            features *= n
        return x.reshape(x.shape[0], features)


class Identity(Module):
    """y = x.

    >>> from nissl import nn
    >>> nn.Identity()(2.0)
    tensor(2.)
    """

    def forward(self, x: TensorLike) -> Tensor:
        """Return x."""
        return as_tensor(x)
