"""The training step, which is compiled as a whole: forward, loss, backward, update."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nissl import optim
from nissl.compiler import Compiled, compile
from nissl.data.dataset import to_dtype
from nissl.evaluation import as_numbers, loss_of
from nissl.nn.module import Module
from nissl.objective import Objective
from nissl.optim.optimizer import Optimizer
from nissl.tensor import Tensor, wrap

Array = npt.NDArray[Any]
Kind = tuple[tuple[int, ...], np.dtype[Any]]  # shape and dtype


class TrainingStep:
    """A step on some rows, given by their indices, of the data that `read_from` sets.

    `compiled` is the step on the engine that was asked for. It is valid for all data of the same shapes and dtypes, so
    that a training on other data can reuse the compiled step of an earlier one.
    """

    compiled: Compiled
    x: Tensor
    targets: Tensor
    weights: Tensor | None

    def __init__(
        self,
        model: Module,
        objective: Objective,
        optimizer: Optimizer,
        dtype: np.dtype[Any],
        clip_norm: float | None,
        engine: str,
    ) -> None:
        self.model = model
        self.objective = objective
        self.optimizer = optimizer
        self.dtype = dtype
        self.clip_norm = clip_norm
        self.engine = engine
        self.made_of: tuple[Any, ...] = type(self), model, objective, optimizer, dtype, clip_norm, engine
        self.kinds: list[Kind | None] = []

    def does_the_same_as(self, other: TrainingStep) -> bool:
        """Whether both steps have the same parts, so that they compute the same from the same data."""
        return self.made_of == other.made_of

    def read_from(self, x: Array, targets: Array, weights: Array | None) -> None:
        """Set the arrays that rows are taken from."""
        x = self._as_tensors_hold(x)
        arrays = x, targets, weights
        kinds = [None if array is None else (array.shape, array.dtype) for array in arrays]
        if kinds == self.kinds:
            for tensor, array in zip((self.x, self.targets, self.weights), arrays, strict=True):
                if tensor is not None:
                    tensor.payload = array
            return
        self.kinds = kinds
        self.x, self.targets = wrap(x), wrap(targets)
        self.weights = None if weights is None else wrap(weights)
        self.compiled = compile(self.take, engine=self.engine)
        self.compiled.told_by = self.objective.loss  # the part of a step that may be the user's own function

    def let_go(self) -> None:
        """Release the arrays; zeros of their shapes and dtypes, broadcast from one element, replace them."""
        for tensor in (self.x, self.targets, self.weights):
            if tensor is not None:
                tensor.payload = np.broadcast_to(np.zeros((), tensor.dtype), tensor.shape)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Run a step on the rows with these indices; return the loss, and the sum that the metric is computed from."""
        x, targets = as_numbers(self.x[rows], self.dtype), self.targets[rows]
        outputs = self.model(x)
        loss = self.loss_of(outputs, targets, None if self.weights is None else self.weights[rows])
        loss.backward()
        if self.clip_norm is not None:
            optim.clip_grad_norm(self.optimizer.parameters.values(), self.clip_norm)
        self.optimizer.step()
        return loss, self.objective.metric_sum(outputs, targets)

    def loss_of(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Return what a step minimizes; a subclass may add to the loss of the batch."""
        return loss_of(self.objective, outputs, targets, weights)

    def _as_tensors_hold(self, x: Array) -> Array:
        """Return rows in a dtype that Tensors can have: not of other floats, nor in a foreign order of bytes."""
        if x.dtype.kind == "f" and x.dtype not in (np.float32, np.float64):
            return to_dtype(x, self.dtype, "x")
        return x.astype(x.dtype.newbyteorder("="), copy=False)
