"""The one place that knows scikit-learn's callbacks, which came with 1.9 and are marked experimental there.

A fit is a task, each of its epochs a subtask. With an older scikit-learn an estimator has no `set_callbacks`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: there are no callbacks."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method as it is."""
        return method


class FitTask:
    """Tells the callbacks of an estimator how its fit gets on."""

    def __init__(self, estimator: Any, x: Any, y: Any, sample_weight: Any, epochs: int) -> None:
        self.estimator = estimator
        self.listens = bool(getattr(estimator, "_skl_callbacks", None))
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.told = {"estimator": estimator, "X": x, "y": y, "metadata": metadata}
        self.context: Any = None
        if hasattr(estimator, "_init_callback_context"):
            self.context = estimator._init_callback_context(max_subtasks=epochs)
            self.context.call_on_fit_task_begin(**self.told)

    def epoch_begins(self) -> None:
        """Tell that an epoch begins."""
        if self.listens:
            self.epoch = self.context.subcontext(task_name="epoch")
            self.epoch.call_on_fit_task_begin(**self.told)

    def epoch_ends(self) -> bool:
        """Tell that an epoch is over, and return whether a callback wants it to be the last."""
        if not self.listens:
            return False
        return bool(self.epoch.call_on_fit_task_end(**self.told, reconstruction_attributes=self._fitted))

    def ends(self) -> None:
        """Tell that the fit is over."""
        if self.context is not None:
            self.context.call_on_fit_task_end(**self.told, reconstruction_attributes=self._fitted)

    def _fitted(self) -> dict[str, Any]:
        """Return what makes a copy of the estimator one that was fitted up to here."""
        return {"module_": copy.deepcopy(self.estimator.module_)}


__all__ = ["CallbackSupportMixin", "FitTask", "with_callbacks"]
