"""nissl: a neural-network library and laboratory from first principles.

    import nissl as ns
    from nissl import nn, optim, datasets

Every value and gradient can be looked at; `ns.compile` runs the same code faster.
"""

import importlib
from typing import TYPE_CHECKING, Any

import nissl.engines.eager as _eager  # noqa: F401  (the engine that everything starts on)
import nissl.protocols as _protocols  # noqa: F401  (what NumPy's functions do with Tensors)
from nissl import functional, habits, inspect, nn, optim, random
from nissl.autodiff import check_gradients, grad, gradient_flow, no_grad, numerical_gradient, value_and_grad
from nissl.compiler import compile
from nissl.data import Dataset, batches, datasets
from nissl.errors import (
    CallError,
    DataError,
    DivergenceError,
    DTypeError,
    GradientError,
    MissingPackageError,
    ModelFileError,
    NisslError,
    OptionError,
    ShapeError,
    TracingError,
)
from nissl.evaluation import Evaluation, History, evaluate, predict
from nissl.functional import clip, logsumexp, mean, prod, softmax, std, var
from nissl.ops.elementwise import (
    abs,
    astype,
    cos,
    equal,
    erf,
    exp,
    expm1,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    not_equal,
    pow,
    relu,
    sigmoid,
    sign,
    sin,
    sqrt,
    square,
    tanh,
    where,
)
from nissl.ops.indexing import one_hot, take, take_along_axis
from nissl.ops.linalg import matmul, tensordot
from nissl.ops.movement import (
    broadcast_to,
    concat,
    expand_dims,
    flip,
    pad,
    permute_dims,
    reshape,
    squeeze,
    stack,
)
from nissl.ops.reduce import argmax, argmin, log_softmax, max, min, sum
from nissl.ops.source import arange, eye, full, linspace, ones, ones_like, zeros, zeros_like
from nissl.random import manual_seed
from nissl.storage import load, save
from nissl.tensor import Tensor
from nissl.threads import get_num_threads, set_num_threads
from nissl.training import EpochDone, StepDone, StopTraining, fit
from nissl.version import __version__

if TYPE_CHECKING:
    from nissl import plots, sklearn, tables  # noqa: F401  (in __all__, sklearn would hide scikit-learn)
    from nissl.exchange.onnx import export_onnx

tensor = Tensor
LATER = ("plots", "sklearn", "tables")  # which take a while to load


def __getattr__(name: str) -> Any:
    """Import what only some programs use when it is first asked for."""
    if name in LATER:
        return importlib.import_module(f"nissl.{name}")
    if name == "export_onnx":
        return importlib.import_module("nissl.exchange.onnx").export_onnx
    habits.missing("nissl", name, habits.NISSL, __all__, homes=(nn, optim, functional))


def __dir__() -> list[str]:
    """Return the names to complete: what is meant to be used, not the modules it comes from."""
    return sorted({*__all__, *LATER, "functional", "__doc__", "__file__", "__path__"})


__all__ = [
    "CallError",
    "DTypeError",
    "DataError",
    "Dataset",
    "DivergenceError",
    "EpochDone",
    "Evaluation",
    "GradientError",
    "History",
    "MissingPackageError",
    "ModelFileError",
    "NisslError",
    "OptionError",
    "ShapeError",
    "StepDone",
    "StopTraining",
    "Tensor",
    "TracingError",
    "__version__",
    "abs",
    "arange",
    "argmax",
    "argmin",
    "astype",
    "batches",
    "broadcast_to",
    "check_gradients",
    "clip",
    "compile",
    "concat",
    "cos",
    "datasets",
    "equal",
    "erf",
    "evaluate",
    "exp",
    "expand_dims",
    "expm1",
    "export_onnx",
    "eye",
    "fit",
    "flip",
    "full",
    "get_num_threads",
    "grad",
    "gradient_flow",
    "greater",
    "greater_equal",
    "inspect",
    "less",
    "less_equal",
    "linspace",
    "load",
    "log",
    "log1p",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logsumexp",
    "manual_seed",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "nn",
    "no_grad",
    "not_equal",
    "numerical_gradient",
    "one_hot",
    "ones",
    "ones_like",
    "optim",
    "pad",
    "permute_dims",
    "plots",
    "pow",
    "predict",
    "prod",
    "random",
    "relu",
    "reshape",
    "save",
    "set_num_threads",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "sum",
    "tables",
    "take",
    "take_along_axis",
    "tanh",
    "tensor",
    "tensordot",
    "value_and_grad",
    "var",
    "where",
    "zeros",
    "zeros_like",
]
