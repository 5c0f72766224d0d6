"""Optimizers that give each number a step of its own, from the history of its gradients."""

from collections.abc import Iterable, Mapping

from nissl.errors import OptionError
from nissl.ops.elementwise import sqrt, square
from nissl.optim.optimizer import Optimizer, Schedule, State, at_least, decayed, fraction, zeros_for
from nissl.tensor import Tensor

Params = Iterable[Tensor] | Mapping[str, Tensor]


class AdaGrad(Optimizer):
    """Steps shrink with the gradients seen so far (Duchi, Hazan and Singer, 2011).

    g ← g + weight_decay · p
    h ← h + g²
    p ← p - lr · g / (√h + eps)
    """

    def __init__(
        self, params: Params, lr: float | Schedule = 1e-2, eps: float = 1e-10, weight_decay: float = 0.0
    ) -> None:
        at_least("eps", eps, 0.0)
        at_least("weight_decay", weight_decay, 0.0)
        self.eps = eps
        self.weight_decay = weight_decay
        super().__init__(params, lr)

    def slots(self, parameter: Tensor) -> State:
        """Return the sum of squares."""
        return zeros_for(parameter, "sum")

    def update(self, p: Tensor, g: Tensor, state: State, *factors: Tensor) -> None:
        """Move `p` by the rule above."""
        (rate,) = factors
        g = decayed(g, p, self.weight_decay)
        h = state["sum"] + square(g)
        state["sum"].assign(h)
        p.assign(p - rate * (g / (sqrt(h) + self.eps)))


class RMSProp(Optimizer):
    """AdaGrad that forgets: a running mean of squares (Tieleman and Hinton, 2012).

    g ← g + weight_decay · p
    v ← alpha · v + (1 - alpha) · g²
    u ← g / (√v + eps)                  with momentum:  b ← momentum · b + u,  u ← b
    p ← p - lr · u
    """

    def __init__(
        self,
        params: Params,
        lr: float | Schedule = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        fraction("alpha", alpha)
        fraction("momentum", momentum)
        at_least("eps", eps, 0.0)
        at_least("weight_decay", weight_decay, 0.0)
        self.alpha = alpha
        self.eps = eps
        self.weight_decay = weight_decay
        self.momentum = momentum
        super().__init__(params, lr)

    def slots(self, parameter: Tensor) -> State:
        """Return the mean of squares, and the velocity if there is momentum."""
        return zeros_for(parameter, "square", *(["velocity"] if self.momentum else []))

    def update(self, p: Tensor, g: Tensor, state: State, *factors: Tensor) -> None:
        """Move `p` by the rule above."""
        (rate,) = factors
        g = decayed(g, p, self.weight_decay)
        v = self.alpha * state["square"] + (1 - self.alpha) * square(g)
        state["square"].assign(v)
        u = g / (sqrt(v) + self.eps)
        if self.momentum:
            u = self.momentum * state["velocity"] + u
            state["velocity"].assign(u)
        p.assign(p - rate * u)


class Adam(Optimizer):
    """Momentum and a step of its own for each number, both corrected for their start at 0 (Kingma and Ba, 2015).

        g ← g + weight_decay · p
        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        p ← p - lr · (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + eps)

    As in PyTorch, eps stands outside of the root and after the correction of v.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise OptionError(f"betas are two numbers, got {betas!r}") from None
        fraction("beta1", beta1)
        fraction("beta2", beta2)
        at_least("eps", eps, 0.0)
        at_least("weight_decay", weight_decay, 0.0)
        self.betas = (beta1, beta2)
        self.eps = eps
        self.weight_decay = weight_decay
        super().__init__(params, lr)

    def slots(self, parameter: Tensor) -> State:
        """Return the running means of the gradient and of its square."""
        return zeros_for(parameter, "mean", "square")

    def factors(self, rate: Tensor) -> tuple[Tensor, ...]:
        """Return the step, and eps, both times √(1 - β₂ᵗ), which spares a division of all of v."""
        beta1, beta2 = self.betas
        correction = sqrt(1 - beta2**self.steps)
        return rate * correction / (1 - beta1**self.steps), self.eps * correction

    def update(self, p: Tensor, g: Tensor, state: State, *factors: Tensor) -> None:
        """Move `p` by the rule above."""
        step, eps = factors
        beta1, beta2 = self.betas
        g = self.regularized(g, p)
        m = beta1 * state["mean"] + (1 - beta1) * g
        v = beta2 * state["square"] + (1 - beta2) * square(g)
        state["mean"].assign(m)
        state["square"].assign(v)
        p.assign(p - step * (m / (sqrt(v) + eps)))

    def regularized(self, g: Tensor, p: Tensor) -> Tensor:
        """Return the gradient with the decay that goes through it."""
        return decayed(g, p, self.weight_decay)


class AdamW(Adam):
    """Adam whose weight decay does not go through the gradient (Loshchilov and Hutter, 2019).

    p ← p - lr · weight_decay · p,      then Adam's rule without decay
    """

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
        p.assign(p * remaining)
        super().update(p, g, state, step, eps)

    def regularized(self, g: Tensor, p: Tensor) -> Tensor:
        """Return the gradient itself."""
        return g
