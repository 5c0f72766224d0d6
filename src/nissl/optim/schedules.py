"""Learning rates that change with the step: pure functions of the number of steps taken so far.

A schedule stands where a learning rate stands: `optim.Adam(params, lr=schedules.cosine(1e-3, steps=10_000))`. It is
traced with the step, so a compiled step follows it. A rate that reacts to a metric is a callback that sets
`optimizer.lr` instead.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nissl import habits
from nissl.arguments import number
from nissl.errors import OptionError, unknown_name
from nissl.functional import clip
from nissl.ops.elementwise import cos, minimum, where
from nissl.optim.optimizer import Schedule
from nissl.tensor import Tensor, TensorLike

# Which values the numbers of schedules may have.
RANGES: dict[str, dict[str, float]] = {
    **{name: {"least": 0} for name in ("lr", "final", "steps", "warmup", "decay", "factor")},
    "every": {"above": 0},
}


class _Checked:
    """A schedule whose numbers are checked when it is made."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number(name, value, **RANGES[name])


@dataclass(frozen=True)
class constant(_Checked):  # noqa: N801  (a function to its users)
    """lr at every step."""

    lr: float

    def __call__(self, step: Tensor) -> TensorLike:
        """Return the rate after `step` steps."""
        return step * 0 + self.lr


@dataclass(frozen=True)
class cosine(_Checked):  # noqa: N801
    """Half a cosine from lr to `final` over `steps` steps (Loshchilov and Hutter, 2017), after a linear warm-up.

    lrₜ = final + ½(lr - final)(1 + cos(π·t/steps)), where t counts from the end of the warm-up.
    """

    lr: float
    steps: int
    final: float = 0.0
    warmup: int = 0

    def __call__(self, step: Tensor) -> TensorLike:
        """Return the rate after `step` steps."""
        length = max(self.steps - self.warmup, 1)
        progress = clip((step - self.warmup) / length, 0.0, 1.0)
        falling = self.final + 0.5 * (self.lr - self.final) * (1 + cos(math.pi * progress))
        return where(step < self.warmup, self.lr * (step + 1) / max(self.warmup, 1), falling)


@dataclass(frozen=True)
class linear(_Checked):  # noqa: N801
    """A straight line from lr to `final` over `steps` steps."""

    lr: float
    steps: int
    final: float = 0.0

    def __call__(self, step: Tensor) -> TensorLike:
        """Return the rate after `step` steps."""
        return self.lr + (self.final - self.lr) * minimum(step / max(self.steps, 1), 1.0)


@dataclass(frozen=True)
class exponential(_Checked):  # noqa: N801
    """lr·decayᵗ, t in units of `every` steps."""

    lr: float
    decay: float
    every: int = 1

    def __call__(self, step: Tensor) -> TensorLike:
        """Return the rate after `step` steps."""
        return self.lr * self.decay ** (step / self.every)


@dataclass(frozen=True)
class step_decay(_Checked):  # noqa: N801
    """lr, multiplied by `factor` after every `every` steps."""

    lr: float
    every: int
    factor: float = 0.1

    def __call__(self, step: Tensor) -> TensorLike:
        """Return the rate after `step` steps."""
        return self.lr * self.factor ** (step / self.every).astype("int64").astype("float64")


@dataclass(frozen=True)
class delayed:  # noqa: N801
    """Another schedule, counted from step `start`: what `fit` makes of one for an optimizer that has taken steps."""

    schedule: Schedule
    start: float

    def __call__(self, step: Tensor) -> TensorLike:
        """Return the rate after `step` steps."""
        return self.schedule(step - self.start)


# What `fit(schedule=NAME)` and the command line make of a name, a learning rate and the number of steps in the run.
NAMED: dict[str, Callable[[float, int], Schedule]] = {
    "constant": lambda lr, steps: constant(lr),
    "cosine": lambda lr, steps: cosine(lr, steps),
    "linear": lambda lr, steps: linear(lr, steps),
}


def named(name: str, lr: float, steps: int) -> Schedule:
    """Return the schedule of that name for a run of `steps` steps that starts at `lr`.

    >>> named("cosine", 0.1, 100)
    cosine(lr=0.1, steps=100, final=0.0, warmup=0)
    """
    if not isinstance(name, str):
        raise OptionError(f"a schedule is given by name or as a function of the step, got {name!r}")
    if name not in NAMED:
        raise unknown_name("schedule", name, NAMED)
    return NAMED[name](lr, steps)


if not TYPE_CHECKING:  # a type checker knows which names there are

    def __getattr__(name: str) -> Any:
        habits.missing(f"module {__name__!r}", name, habits.SCHEDULES, __all__)


__all__ = ["NAMED", "constant", "cosine", "delayed", "exponential", "linear", "named", "step_decay"]
