"""nissl: a neural-network library and laboratory from first principles.

    import nissl as ns
    from nissl import nn, optim, datasets

Every value and gradient can be looked at; `ns.compile` runs the same code faster.
"""

import nissl.engines.eager as _eager  # the engine that everything starts on
from nissl import random
from nissl.autodiff import check_gradients, grad, no_grad, numerical_gradient, value_and_grad
from nissl.errors import (
    DataError,
    DivergenceError,
    DTypeError,
    GradientError,
    ModelFileError,
    NisslError,
    OptionError,
    ShapeError,
    TracingError,
)
from nissl.functional import clip, log_softmax, logsumexp, mean, prod, softmax, std, var
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
from nissl.ops.reduce import argmax, argmin, max, min, sum
from nissl.ops.source import arange, eye, full, linspace, ones, ones_like, zeros, zeros_like
from nissl.random import manual_seed
from nissl.tensor import Tensor
from nissl.version import __version__

tensor = Tensor
