"""Stochastic gradient descent."""

from typing import TYPE_CHECKING, Any, ClassVar

from nissl.arguments import true_or_false
from nissl.errors import OptionError
from nissl.habits import explained
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
from nissl.tensor import Tensor, apply, assign_results


def _sgd(m: Any, p: Any, g: Any, rate: Any, *, weight_decay: float) -> Any:
    return p - rate * decayed(g, p, weight_decay)


def _momentum(
    m: Any, p: Any, g: Any, v: Any, rate: Any, *, momentum: float, nesterov: bool, weight_decay: float
) -> tuple[Any, Any]:
    g = decayed(g, p, weight_decay)
    v = momentum * v + g
    return p - rate * (g + momentum * v if nesterov else v), v


sgd = update_rule("sgd", _sgd, outputs=1, doc="A step of gradient descent.")
momentum_sgd = update_rule("momentum_sgd", _momentum, outputs=2, doc="A step of gradient descent with momentum.")


class SGD(Optimizer):
    """Gradient descent, with a heavy ball if momentum is not 0 (Polyak, 1964; Nesterov, 1983; Sutskever et al., 2013).

        g ← g + weight_decay · p
        v ← momentum · v + g
        p ← p - lr · v                      or, with nesterov,  p ← p - lr · (g + momentum · v)

    As in PyTorch, the learning rate stands outside of the velocity v. Textbooks that write v ← αv - lr·g, p ← p + v
    give the same path while lr does not change.

    >>> import nissl as ns
    >>> from nissl import optim
    >>> w = ns.tensor([1.0], requires_grad=True)
    >>> sgd = optim.SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> sgd.step()
    >>> w
    tensor([0.8], requires_grad=True)
    """

    checks: ClassVar = {"momentum": BELOW_ONE, "nesterov": true_or_false, "weight_decay": NOT_NEGATIVE}

    if not TYPE_CHECKING:  # a type checker knows which attributes there are

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "momentum" and value and "state" in vars(self) and not any(self.state.values()):
                raise OptionError(
                    "this SGD was made without momentum, so it keeps no velocities; make a new one with "
                    f"momentum={value}"
                )
            super().__setattr__(name, value)

    @explained
    def __init__(
        self,
        params: Params,
        lr: float | Schedule = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if nesterov and momentum == 0:
            raise OptionError("nesterov needs a momentum above 0")
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        super().__init__(params, lr)

    def slots(self, parameter: Tensor) -> State:
        """Return the velocity, if there is one."""
        return zeros_for(parameter, "velocity") if self.momentum else {}

    def update(self, p: Tensor, g: Tensor, state: State, *factors: Tensor) -> None:
        """Move `p` against its gradient."""
        decay = self.weight_decay
        if not self.momentum:
            p.assign(apply(sgd, p, g, *factors, weight_decay=decay))
            return
        velocity = state["velocity"]
        options = {"momentum": self.momentum, "nesterov": self.nesterov, "weight_decay": decay}
        assign_results(momentum_sgd, (p, velocity), p, g, velocity, *factors, **options)
