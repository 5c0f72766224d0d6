"""Which network an estimator trains: the one its parameters describe, or the user's own, given as layers=."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_scalar

from nissl.errors import unknown_name
from nissl.evaluation import predict as outputs_of
from nissl.nn.module import Module
from nissl.objective import last_layer
from nissl.random import seeded
from nissl.sklearn import fitting, parameters

Array = npt.NDArray[Any]

ROWS_TO_TRY = 8  # on a network of the user's own, before it is trained


class NetworkMixin:
    """Builds `module_`, and checks that a training that goes on is of the same network."""

    hidden_layer_sizes: Any
    activation: str | Sequence[str]
    dropout: float | Sequence[float]
    batch_norm: bool
    layers: Module | Callable[[int, int], Module] | None

    module_: Module
    n_outputs_: int

    def _build(self, x: Array, random: Any, given: Mapping[str, Any]) -> None:
        """Make the network for rows x; weights that were set before the first `partial_fit` are its first ones."""
        features, dtype = x.shape[1], x.dtype
        if self.layers is not None:
            self.module_ = self._layers_of_user(x[:ROWS_TO_TRY], random)
        else:
            units, activations, dropout = self._hidden()
            units = [features, *units, self.n_outputs_]
            self.module_ = fitting.network(units, activations, dropout, bool(self.batch_norm), dtype, random)
        for name in ("coefs", "intercepts"):
            if given.get(name) is not None:
                setattr(self, f"{name}_", given[name])
            self.__dict__.pop(f"_given_{name}", None)
        self.n_layers_ = len(fitting.linear_layers(self.module_)) + 1
        self._made_of = self._plan(features)

    def _layers_of_user(self, rows: Array, random: Any) -> Module:
        """Return the network given as layers=, which must return what the loss takes for rows."""
        module = self._module_of_user(rows.shape[1], random)
        outputs = outputs_of(module, rows)
        if outputs.shape != (len(rows), self.n_outputs_):
            raise ValueError(
                f"the network given as layers= returns outputs of shape {('rows', *outputs.shape[1:])} for "
                f"{rows.shape[1]} features; it must return {self.n_outputs_} for this y, without a final softmax or "
                "sigmoid, which belong to the loss"
            )
        self._check_last(last_layer(module), outputs)
        return module

    def _module_of_user(self, features: int, random: Any) -> Module:
        defaults = inspect.signature(type(self)).parameters
        for name in ("hidden_layer_sizes", "activation", "dropout", "batch_norm"):
            if not np.array_equal(getattr(self, name), defaults[name].default):
                raise ValueError(f"layers= is the whole network, so {name} would have no effect: leave one of them out")
        if isinstance(self.layers, Module):
            return copy.deepcopy(self.layers)  # a parameter is not changed by fit
        assert callable(self.layers)
        with seeded(int(random.randint(2**31 - 1))):
            module = self.layers(features, self.n_outputs_)
        if not isinstance(module, Module):
            raise TypeError(f"layers= must return an nn.Module, got {type(module).__name__}")
        return module

    def _hidden(self) -> tuple[list[int], list[str], list[float]]:
        """Return units, activation and dropout of each hidden layer."""
        given = self.hidden_layer_sizes
        sizes = list(given) if isinstance(given, Iterable) else [given]
        for size in sizes:
            check_scalar(size, "hidden_layer_sizes", parameters.INTEGER, min_val=1)
        activations = parameters.for_each(self.activation, len(sizes), "activation")
        for name in activations or parameters.for_each(self.activation, 1, "activation"):
            if name not in fitting.ACTIVATIONS:
                raise unknown_name("activation", name, fitting.ACTIVATIONS)
        dropout = parameters.for_each(self.dropout, len(sizes), "dropout")
        for share in dropout:
            check_scalar(share, "dropout", parameters.REAL, min_val=0, max_val=1, include_boundaries="left")
        # Without hidden layers there is no activation, but it still says how wide the first weights spread.
        return [int(size) for size in sizes], activations or [str(self.activation)], [float(p) for p in dropout]

    def _plan(self, features: int) -> tuple[Any, ...]:
        """Return what the network is made for."""
        if self.layers is not None:
            return features, self.n_outputs_
        sizes, activations, dropout = self._hidden()
        return features, self.n_outputs_, tuple(sizes), tuple(activations), tuple(dropout), bool(self.batch_norm)

    def _check_same_network(self, features: int) -> None:
        if self._plan(features) != self._made_of:
            raise ValueError(
                "the network was made for other parameters or data: features, outputs, units and so on "
                f"were {self._made_of}, now they are {self._plan(features)}. Train from scratch with warm_start=False"
            )

    def _check_last(self, layer: Module, outputs: Array) -> None:
        """Raise if the network given as layers= must not end in this layer, or return these outputs for a few rows."""
        raise NotImplementedError
