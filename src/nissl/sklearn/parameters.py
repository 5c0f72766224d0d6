"""What the parameters of an estimator may be: kinds, bounds and choices, checked when `fit` is called."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.utils import check_scalar

from nissl.errors import unknown_name
from nissl.sklearn import fitting
from nissl.text import counted

REAL, INTEGER = numbers.Real, numbers.Integral

# Kind, least and greatest value of each number, and which of these two it may be.
NUMBERS: Mapping[str, tuple[type, float, float | None, str]] = {
    "alpha": (REAL, 0, None, "left"),
    "learning_rate_init": (REAL, 0, None, "neither"),
    "power_t": (REAL, 0, None, "left"),
    "max_iter": (INTEGER, 1, None, "left"),
    "tol": (REAL, 0, None, "left"),
    "momentum": (REAL, 0, 1, "left"),
    "validation_fraction": (REAL, 0, 1, "left"),
    "max_fun": (INTEGER, 1, None, "left"),
    "beta_1": (REAL, 0, 1, "left"),
    "beta_2": (REAL, 0, 1, "left"),
    "epsilon": (REAL, 0, None, "neither"),
}
SWITCHES = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "batch_norm")
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "solver": tuple(fitting.SOLVERS),
    "learning_rate": ("constant", "invscaling", "adaptive"),
    "engine": ("auto", "native", "numpy"),
    "dtype": (None, "float32", "float64", np.float32, np.float64),
}


def check(estimator: Any) -> None:
    """Raise if a parameter of an estimator, other than those that shape its network, has a wrong kind or value."""
    for name, (kind, low, high, bounds) in NUMBERS.items():
        value = check_scalar(getattr(estimator, name), name, kind, min_val=low, max_val=high, include_boundaries=bounds)
        if not math.isfinite(value):
            raise ValueError(f"{name} == {value}, must be finite")
    if not isinstance(estimator.batch_size, str):
        check_scalar(estimator.batch_size, "batch_size", INTEGER, min_val=1)
    elif estimator.batch_size != "auto":
        raise unknown_name("batch_size", estimator.batch_size, ["auto"])
    if estimator.n_iter_no_change != math.inf:
        check_scalar(estimator.n_iter_no_change, "n_iter_no_change", INTEGER, min_val=1)
    if estimator.clip_norm is not None:
        check_scalar(estimator.clip_norm, "clip_norm", REAL, min_val=0, include_boundaries="neither")
    for name in SWITCHES:
        if not isinstance(getattr(estimator, name), bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {getattr(estimator, name)!r}")
    if estimator.solver == "adamw":
        raise ValueError("solver='adamw' is not supported: alpha is a penalty in the loss here; use 'adam'")
    if estimator.solver == "lbfgs" and (estimator.early_stopping or estimator.schedule or estimator.clip_norm):
        raise ValueError(
            "solver='lbfgs' does not support early_stopping, schedule or clip_norm: it takes all rows at once"
        )
    if isinstance(estimator.learning_rate, REAL):
        rate = estimator.learning_rate
        raise ValueError(
            f"learning_rate says how the rate changes; for the rate itself write learning_rate_init={rate}"
        )
    for name, known in CHOICES.items():
        if getattr(estimator, name) not in known:
            raise unknown_name(name, getattr(estimator, name), (str(one) for one in known if not isinstance(one, type)))
    if estimator.layers is not None and not callable(estimator.layers):
        raise TypeError(f"layers= must be an nn.Module or a function that makes one, got {estimator.layers!r}")


def for_each(value: Any, count: int, name: str) -> list[Any]:
    """Return one value per hidden layer: the same for all, or those of a sequence."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value] * count
    values = list(value)
    if len(values) != count:
        values_for = f"{counted(len(values), 'value')} for {counted(count, 'hidden layer')}"
        raise ValueError(f"{name} has {values_for}; give one, or one for each")
    return values
