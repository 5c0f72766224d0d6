"""Optimizers that give each number a step of its own, from the history of its gradients."""

from typing import Any, ClassVar

from nissl.errors import OptionError
from nissl.habits import explained
from nissl.ops.elementwise import elementwise
from nissl.optim.optimizer import (
    BELOW_ONE,
    NOT_NEGATIVE,
    Optimizer,
    Params,
    Schedule,
    State,
    decayed,
    update_rule,
    zeros_for,
)
from nissl.tensor import Tensor, apply_all, assign_results

Element = Any  # a number of a Tensor, in an engine's terms
Elements = tuple[Element, ...]


def _adagrad(m: Any, p: Element, g: Element, h: Element, rate: Element, *, eps: float, weight_decay: float) -> Elements:
    g = decayed(g, p, weight_decay)
    h = h + g * g
    return p - rate * (g / (m.sqrt(h) + eps)), h


adagrad = update_rule("adagrad", _adagrad, outputs=2, doc="A step of AdaGrad.")


class AdaGrad(Optimizer):
    """Steps shrink with the gradients seen so far (Duchi, Hazan and Singer, 2011).

    g ← g + weight_decay · p
    h ← h + g²
    p ← p - lr · g / (√h + eps)
    """

    checks: ClassVar = {"eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}

    @explained
    def __init__(
        self, params: Params, lr: float | Schedule = 1e-2, eps: float = 1e-10, weight_decay: float = 0.0
    ) -> None:
        self.eps = eps
        self.weight_decay = weight_decay
        super().__init__(params, lr)

    def slots(self, parameter: Tensor) -> State:
        """Return the sum of squares."""
        return zeros_for(parameter, "sum")

    def update(self, p: Tensor, g: Tensor, state: State, *factors: Tensor) -> None:
        """Move `p` by the rule above."""
        options = {"eps": self.eps, "weight_decay": self.weight_decay}
        assign_results(adagrad, (p, state["sum"]), p, g, state["sum"], *factors, **options)


def _rmsprop(
    m: Any,
    p: Element,
    g: Element,
    v: Element,
    b: Element,
    rate: Element,
    *,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
) -> Elements:
    g = decayed(g, p, weight_decay)
    v = alpha * v + (1 - alpha) * (g * g)
    b = momentum * b + g / (m.sqrt(v) + eps)
    return p - rate * b, v, b


rmsprop = update_rule("rmsprop", _rmsprop, outputs=3, doc="A step of RMSProp.")


class RMSProp(Optimizer):
    """AdaGrad that forgets: a running mean of squares (Tieleman and Hinton, 2012).

    g ← g + weight_decay · p
    v ← alpha · v + (1 - alpha) · g²
    b ← momentum · b + g / (√v + eps)
    p ← p - lr · b
    """

    checks: ClassVar = {"alpha": BELOW_ONE, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE, "momentum": BELOW_ONE}

    @explained
    def __init__(
        self,
        params: Params,
        lr: float | Schedule = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        self.alpha = alpha
        self.eps = eps
        self.weight_decay = weight_decay
        self.momentum = momentum
        super().__init__(params, lr)

    def slots(self, parameter: Tensor) -> State:
        """Return the mean of squares and the velocity."""
        return zeros_for(parameter, "square", "velocity")

    def update(self, p: Tensor, g: Tensor, state: State, *factors: Tensor) -> None:
        """Move `p` by the rule above."""
        slots = state["square"], state["velocity"]
        options = {"alpha": self.alpha, "eps": self.eps, "weight_decay": self.weight_decay, "momentum": self.momentum}
        assign_results(rmsprop, (p, *slots), p, g, *slots, *factors, **options)


def _adam(
    m: Any,
    p: Element,
    g: Element,
    mean: Element,
    square: Element,
    step: Element,
    eps: Element,
    *,
    beta1: float,
    beta2: float,
    weight_decay: float,
) -> Elements:
    g = decayed(g, p, weight_decay)
    mean = beta1 * mean + (1 - beta1) * g
    square = beta2 * square + (1 - beta2) * (g * g)
    return p - step * (mean / (m.sqrt(square) + eps)), mean, square


adam = update_rule("adam", _adam, outputs=3, doc="A step of Adam; `step` and `eps` hold the corrections.")


def _adam_factors(m: Any, rate: Element, t: Element, *, beta1: float, beta2: float, eps: float) -> Elements:
    correction = m.sqrt(1 - m.pow(beta2, t))
    return rate * correction / (1 - m.pow(beta1, t)), eps * correction


# No rule of an update: what an engine may do to state, take 0 for what is subnormal, would be wrong for a small eps.
adam_factors = elementwise("adam_factors", _adam_factors, outputs=2, doc="The corrections in step t of Adam.")


def _two_below_one(name: str, betas: Any) -> tuple[float, float]:
    try:
        beta1, beta2 = betas
    except (TypeError, ValueError):
        raise OptionError(f"betas are two numbers, got {betas!r}") from None
    return BELOW_ONE("beta1", beta1), BELOW_ONE("beta2", beta2)


class Adam(Optimizer):
    """Momentum and a step of its own for each number, both corrected for their start at 0 (Kingma and Ba, 2015).

        g ← g + weight_decay · p
        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        p ← p - lr · (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + eps)

    As in PyTorch, eps stands outside of the root and after the correction of v.
    """

    checks: ClassVar = {"betas": _two_below_one, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}

    @explained
    def __init__(
        self,
        params: Params,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        super().__init__(params, lr)

    def slots(self, parameter: Tensor) -> State:
        """Return the running means of the gradient and of its square."""
        return zeros_for(parameter, "mean", "square")

    def factors(self, rate: Tensor) -> tuple[Tensor, ...]:
        """Return the step, and eps, both times √(1 - β₂ᵗ), so that v is not divided element by element."""
        beta1, beta2 = self.betas
        return apply_all(adam_factors, rate, self.steps, beta1=beta1, beta2=beta2, eps=self.eps)

    def update(self, p: Tensor, g: Tensor, state: State, *factors: Tensor) -> None:
        """Move `p` by the rule above."""
        step, eps = factors
        self.take_step(p, p, g, state, step, eps, self.weight_decay)

    def take_step(
        self, p: Tensor, start: Tensor, g: Tensor, state: State, step: Tensor, eps: Tensor, weight_decay: float
    ) -> None:
        """Move `p` from `start`."""
        beta1, beta2 = self.betas
        slots = state["mean"], state["square"]
        options = {"beta1": beta1, "beta2": beta2, "weight_decay": weight_decay}
        assign_results(adam, (p, *slots), start, g, *slots, step, eps, **options)


class AdamW(Adam):
    """Adam whose weight decay does not go through the gradient (Loshchilov and Hutter, 2019).

    p ← p - lr · weight_decay · p,      then Adam's rule without decay
    """

    @explained
    def __init__(
        self,
        params: Params,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def factors(self, rate: Tensor) -> tuple[Tensor, ...]:
        """Return Adam's, and what remains of a weight after the decay."""
        return (*super().factors(rate), 1 - rate * self.weight_decay)

    def update(self, p: Tensor, g: Tensor, state: State, *factors: Tensor) -> None:
        """Move `p` by the rule above."""
        step, eps, remaining = factors
        self.take_step(p, p * remaining, g, state, step, eps, weight_decay=0.0)
