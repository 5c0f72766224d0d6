"""Optimizers, learning-rate schedules and gradient clipping."""

from typing import TYPE_CHECKING, Any

from nissl import habits
from nissl.optim import schedules
from nissl.optim.adaptive import AdaGrad, Adam, AdamW, RMSProp
from nissl.optim.clip import clip_grad_norm
from nissl.optim.optimizer import Optimizer
from nissl.optim.sgd import SGD

# By the name that the command line uses.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adagrad": AdaGrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
}

__all__ = ["OPTIMIZERS", "SGD", "AdaGrad", "Adam", "AdamW", "Optimizer", "RMSProp", "clip_grad_norm", "schedules"]


if not TYPE_CHECKING:  # a type checker knows which names there are

    def __getattr__(name: str) -> Any:
        habits.missing(f"module {__name__!r}", name, habits.OPTIM, __all__)

    def __dir__() -> list[str]:
        return sorted(__all__)
