"""Activations as layers: the functions of `nissl.functional` and `nissl.ops`, to stand in a Sequential."""

from __future__ import annotations

from collections.abc import Callable

from nissl import functional
from nissl.arguments import number
from nissl.habits import explained
from nissl.nn.module import Module
from nissl.ops.elementwise import relu, sigmoid, tanh
from nissl.tensor import Tensor, TensorLike


class Step(Module):
    """y = 1 where x > 0, else 0: the perceptron's activation, through which no gradient flows (Rosenblatt, 1958)."""

    def forward(self, x: TensorLike) -> Tensor:
        """Return the step of x."""
        return functional.step(x)


class Sigmoid(Module):
    """y = 1/(1 + e⁻ˣ), between 0 and 1."""

    def forward(self, x: TensorLike) -> Tensor:
        """Return the sigmoid of x."""
        return sigmoid(x)


class Tanh(Module):
    """y = (eˣ - e⁻ˣ)/(eˣ + e⁻ˣ), between -1 and 1."""

    def forward(self, x: TensorLike) -> Tensor:
        """Return tanh x."""
        return tanh(x)


class ReLU(Module):
    """y = max(0, x) (Nair and Hinton, 2010)."""

    def forward(self, x: TensorLike) -> Tensor:
        """Return max(0, x)."""
        return relu(x)


class LeakyReLU(Module):
    """y = x where x > 0, slope·x elsewhere (Maas, Hannun and Ng, 2013)."""

    @explained
    def __init__(self, slope: float = 0.01) -> None:
        self.slope = number("slope of LeakyReLU", slope)

    def forward(self, x: TensorLike) -> Tensor:
        """Return the leaky relu of x."""
        return functional.leaky_relu(x, self.slope)


class ELU(Module):
    """y = x where x > 0, α(eˣ - 1) elsewhere (Clevert, Unterthiner and Hochreiter, 2016)."""

    @explained
    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number("alpha of ELU", alpha)

    def forward(self, x: TensorLike) -> Tensor:
        """Return the elu of x."""
        return functional.elu(x, self.alpha)


class GELU(Module):
    """y = x·Φ(x), Φ the normal distribution function (Hendrycks and Gimpel, 2016)."""

    def forward(self, x: TensorLike) -> Tensor:
        """Return the gelu of x."""
        return functional.gelu(x)


class SiLU(Module):
    """y = x·sigmoid(x) (Elfwing, Uchibe and Doya, 2018)."""

    def forward(self, x: TensorLike) -> Tensor:
        """Return the silu of x."""
        return functional.silu(x)


class Softplus(Module):
    """y = log(1 + eˣ), a smooth relu (Dugas et al., 2001)."""

    def forward(self, x: TensorLike) -> Tensor:
        """Return the softplus of x."""
        return functional.softplus(x)


class Softmax(Module):
    """y = eˣ / Σ eˣ along an axis: probabilities. `nn.cross_entropy` wants the logits before it."""

    @explained
    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: TensorLike) -> Tensor:
        """Return the softmax of x."""
        return functional.softmax(x, self.axis)


# By the name that the command line uses.
ACTIVATIONS: dict[str, Callable[[], Module]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "gelu": GELU,
    "silu": SiLU,
    "softplus": Softplus,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
}
