"""Finding the origin of a NaN or an infinity: the failing step is repeated, and the result of every op is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from nissl.engines.base import using
from nissl.engines.eager import EagerEngine
from nissl.errors import DivergenceError
from nissl.shapes import describe
from nissl.tensor import Op, Tensor

if TYPE_CHECKING:
    from nissl.training import Training


class _Found(Exception):  # noqa: N818  (a result, not an error)
    """The first bad value, described in words."""


class CheckingEngine(EagerEngine):
    """Computes like the eager engine, and stops at the first result that is not finite."""

    def __init__(self, module_paths: Mapping[int, str]) -> None:
        self.module_paths = module_paths
        self.modules: list[Any] = []
        self.maker: dict[int, tuple[npt.NDArray[Any], str]] = {}  # which module made an array; holds it, for its id

    def run(self, op: Op, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        """Return the results of `op`; raise if one is not finite."""
        results = super().run(op, inputs, attributes)
        for result in results if op.outputs > 1 else (results,):
            if self.modules:
                self.maker[id(result)] = result, self.place(self.modules[-1])
            if result.dtype.kind == "f" and not np.isfinite(result).all():
                tensors = [x for x in inputs if isinstance(x, Tensor)]
                raise _Found(self.describe(op, tensors, result))
        return results

    def update(self, op: Op, targets: Sequence[Tensor], inputs: Sequence[Any], attributes: Mapping[str, Any]) -> None:
        """Let the targets hold the results of `op`, which `run` checks."""
        for target, result in zip(targets, self.run(op, inputs, attributes), strict=True):
            target.payload = result

    def describe(self, op: Op, inputs: Sequence[Tensor], result: npt.NDArray[Any]) -> str:
        """Return a description of the bad value and of where it came from."""
        for x in inputs:
            if x.dtype.kind == "f" and not np.isfinite(x._array()).all():
                path = getattr(x, "path", "")
                where = f"parameter {path}" if path else "a Tensor"
                return f"{where}, which {count_bad(x._array())} before the step"
        what = f"{op.name}, whose result {describe(result)} {count_bad(result)}"
        if self.modules:
            return f"{what}, in module {self.place(self.modules[-1])}"
        makers = [self.maker[id(x.payload)][1] for x in inputs if id(x.payload) in self.maker]
        if makers:
            return f"{what}, on the way back through module {makers[-1]}"
        path = next((x.path for x in inputs if getattr(x, "path", "")), "")
        return (
            f"{what}, in the update of parameter {path}"
            if path
            else f"{what}, outside of the modules, as in the loss or the optimizer"
        )

    def place(self, module: Any) -> str:
        """Return the path of a module and its repr, or its class name if it has no path."""
        path = self.module_paths.get(id(module), "")
        return f"{path} ({module!r})" if path else f"{type(module).__name__}"

    def enter(self, module: Any) -> None:
        """Record that the following ops belong to `module`."""
        self.modules.append(module)

    def leave(self, module: Any) -> None:
        """Record the end of `module`'s ops."""
        self.modules.pop()


def count_bad(array: npt.NDArray[Any]) -> str:
    """Return how many numbers are NaN and how many are infinite, in words.

    >>> count_bad(np.array([1.0, np.nan, np.inf]))
    'has 1 NaN and 1 infinite of 3 numbers'
    """
    nans, infinities = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    kinds = [f"{n} {word}" for n, word in ((nans, "NaN"), (infinities, "infinite")) if n]
    return f"has {' and '.join(kinds)} of {array.size} numbers"


def explain_divergence(training: Training, rows: Tensor, loss: float) -> NoReturn:
    """Repeat the step from the state before it, checking every op, and raise DivergenceError with what was found.

    The state before the step is restored.
    """
    paths = {id(module): path for path, module in training.model.named_modules().items()}
    state = training.state()
    before = [tensor.payload for tensor in state]
    cause = "it could not be traced to an op"
    try:
        with using(CheckingEngine(paths)), np.errstate(all="ignore"):
            training.step.take(rows)
    except _Found as found:
        cause = f"the first bad value comes from {found}"
    finally:
        for tensor, payload in zip(state, before, strict=True):
            tensor.payload = payload
    p = training.progress
    raise DivergenceError(
        f"training diverged in epoch {p.epoch + 1}, step {p.step + 1}: the loss is {loss}; {cause}. "
        "The model has the weights from before this step. Try a smaller learning rate, or clip_norm=1.0"
    )
