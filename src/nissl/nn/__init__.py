"""Layers, losses and initial weights."""

from typing import TYPE_CHECKING, Any

from nissl import habits
from nissl.nn import init
from nissl.nn.activations import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Step, Tanh
from nissl.nn.linear import Flatten, Identity, Linear
from nissl.nn.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    cross_entropy_error,
    huber_loss,
    l1_loss,
    mse_loss,
    poisson_loss,
    sum_squared_error,
)
from nissl.nn.module import Buffer, Module, Parameter, Parameters, Sequential
from nissl.nn.regularization import BatchNorm, Dropout, LayerNorm

__all__ = [
    "ELU",
    "GELU",
    "BatchNorm",
    "Buffer",
    "Dropout",
    "Flatten",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Module",
    "Parameter",
    "Parameters",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Step",
    "Tanh",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "cross_entropy_error",
    "huber_loss",
    "init",
    "l1_loss",
    "mse_loss",
    "poisson_loss",
    "sum_squared_error",
]


if not TYPE_CHECKING:  # a type checker knows which names there are

    def __getattr__(name: str) -> Any:
        habits.missing(f"module {__name__!r}", name, habits.NN, __all__)

    def __dir__() -> list[str]:
        return sorted(__all__)
