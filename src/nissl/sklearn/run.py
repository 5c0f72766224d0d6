"""A run: what `fit` and `partial_fit` do once network, optimizer and rows have been put together as a training.

What comes of it stands in the fitted attributes of the estimator after each epoch: callbacks see it there, and a fit
that is interrupted keeps what it learned.
"""

from __future__ import annotations

import contextlib
import math
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sklearn.exceptions import ConvergenceWarning

from nissl.errors import DivergenceError
from nissl.evaluation import History
from nissl.progress import reporter
from nissl.sklearn import fitting
from nissl.sklearn.callbacks import FitTask
from nissl.training import EpochDone, deferred_interrupt

if TYPE_CHECKING:
    from nissl.sklearn.base import NeuralNetwork

Values = Mapping[str, float]  # a row of the History

# Packages whose functions may be between a line of the user's and a warning.
BETWEEN = ("nissl", "sklearn", "joblib", "contextlib")


class Run:
    """The run of a training from its first epoch to its last, or with "lbfgs" from its first iteration to its last.

    `task` tells callbacks of `fit`; `partial_fit` has none, and always makes one epoch.
    """

    def __init__(self, estimator: NeuralNetwork, training: fitting.PenalizedTraining, task: FitTask | None) -> None:
        self.estimator = estimator
        self.training = training
        self.task = task

    def to_the_end(self) -> None:
        """Train; Ctrl-C raises KeyboardInterrupt after the steps at hand."""
        e, by_lbfgs = self.estimator, self.estimator.solver == "lbfgs"
        e.n_iter_ = 0
        e.history_ = History() if self.task is not None else _history_of_parts(e)
        if self.training.validation is not None and e.validation_scores_ is None:
            e.validation_scores_, e.validation_loss_curve_, e.best_validation_score_ = [], [], -math.inf
        try:
            with deferred_interrupt() as self.interrupted, reporter(bool(e.verbose), self.training.epochs) as self.tell:
                advice = self._iterations() if by_lbfgs else self._epochs()
        finally:
            e.module_.eval()
        if self.interrupted.is_set():
            taken = f"{e.n_iter_} {'iterations' if by_lbfgs else 'epochs'}"
            raise KeyboardInterrupt(f"fit was interrupted after {taken}; what was learned is kept")
        if advice:
            warn(advice, ConvergenceWarning)

    def _epochs(self) -> str:
        """Train epoch by epoch until one is the last; return what to warn of."""
        e, training = self.estimator, self.training
        # A warm start goes on from the best weights of before, which may stay the best.
        self.best = e.module_.state_dict() if e.early_stopping and e.validation_scores_ else {}
        is_over = False
        with contextlib.closing(training.run(stepwise=False)) as events:
            self._begins()
            for event in events:
                self.tell(event)
                if isinstance(event, EpochDone):
                    e.t_ += len(training.inputs)
                    is_over = self._is_enough(event.values)
                    self._note(event.values)
                    is_over = self._ends() or is_over
                if is_over or self.interrupted.is_set():
                    break
                if isinstance(event, EpochDone) and event.epoch < event.epochs:
                    self._begins()
        if self.best:
            e.module_.load_state_dict(self.best)
        if is_over or self.task is None:
            return ""
        return (
            f"Maximum iterations ({e.max_iter}) reached and the optimization has not converged yet: raise max_iter, "
            "or let a validation set say when to stop, with early_stopping=True"
        )

    def _iterations(self) -> str:
        """Train on all rows at once, by SciPy's L-BFGS; return what to warn of."""
        e, training = self.estimator, self.training

        def told(loss: float) -> bool:
            values = {"loss": loss, **training.validate()}
            self._note(values)
            e.best_loss_ = loss
            self.tell(EpochDone(e.n_iter_, training.epochs, values, improved=False))
            is_over = self._ends()
            if e.n_iter_ < training.epochs:
                self._begins()
            return is_over or self.interrupted.is_set()

        self._begins()
        found = fitting.minimize(
            training, told, {"maxiter": training.epochs, "maxfun": int(e.max_fun), "gtol": float(e.tol)}
        )
        e.loss_ = float(found.fun)
        if not (math.isfinite(e.loss_) or self.interrupted.is_set()):
            raise DivergenceError(
                f"lbfgs ended at a loss of {e.loss_}. Have the columns of X similar scales, as by StandardScaler?"
            )
        if found.status != 1:
            return ""
        return (
            f"lbfgs failed to converge after {found.nit} iterations and {found.nfev} evaluations: raise max_iter or "
            "max_fun, or scale the columns of X"
        )

    def _begins(self) -> None:
        if self.task is not None:
            self.task.epoch_begins()

    def _ends(self) -> bool:
        """Tell callbacks that an epoch is over, and return whether one of them wants it to be the last."""
        return self.task is not None and self.task.epoch_ends()

    def _note(self, values: Values) -> None:
        """Add an epoch to the curves."""
        e = self.estimator
        e.n_iter_ += 1
        e.history_.rows.append(dict(values))
        e.loss_ = values["loss"]
        e.loss_curve_.append(e.loss_)
        if "validation_score" in values:
            assert e.validation_scores_ is not None
            assert e.validation_loss_curve_ is not None
            assert e.best_validation_score_ is not None
            e.validation_scores_.append(values["validation_score"])
            e.validation_loss_curve_.append(values["validation_loss"])
            e.best_validation_score_ = max(e.best_validation_score_, values["validation_score"])

    def _is_enough(self, values: Values) -> bool:
        """Return whether too many epochs in a row, this one the last, were no better; change the rate as they come."""
        e = self.estimator
        if e.early_stopping:
            score, most = values["validation_score"], e.best_validation_score_
            assert most is not None
            no_better = score < most + e.tol
            if score > most:
                self.best = e.module_.state_dict()
        else:
            loss, least = values["loss"], math.inf if e.best_loss_ is None else e.best_loss_
            no_better = loss > least - e.tol
            e.best_loss_ = min(loss, least)
        e._no_improvement_count = e._no_improvement_count + 1 if no_better else 0
        if e.learning_rate == "invscaling":
            fitting.change_rate(e.optimizer_, e.learning_rate_init / (e.t_ + 1) ** e.power_t)
        if e._no_improvement_count <= e.n_iter_no_change:
            return False
        rate = float(e.optimizer_.lr.item())
        if e.learning_rate != "adaptive" or rate <= 1e-6:
            return True
        fitting.change_rate(e.optimizer_, rate / 5)
        e._no_improvement_count = 0
        return False


def _history_of_parts(estimator: NeuralNetwork) -> History:
    """Return the History that `partial_fit` goes on with: it validates nothing, so it has no such curves."""
    rows = estimator.history_.rows if hasattr(estimator, "history_") else []
    if rows and "validation_loss" not in rows[0]:
        return estimator.history_
    return History([{name: row[name] for name in row if not name.startswith("validation")} for row in rows])


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user's, however many frames are between it and here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
