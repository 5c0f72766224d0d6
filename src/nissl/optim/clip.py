"""Clipping gradients."""

from nissl.arguments import number
from nissl.engines.base import current, recording
from nissl.errors import GradientError
from nissl.habits import explained
from nissl.ops.elementwise import minimum, sqrt, square
from nissl.ops.reduce import sum
from nissl.optim.optimizer import Params, by_path
from nissl.tensor import Tensor


@explained
def clip_grad_norm(parameters: Params, max_norm: float) -> Tensor:
    """Scale the gradients of all parameters by min(1, max_norm / (norm + 1e-6)); return the norm before.

    The norm is that of all gradients as one vector, √Σg² (Pascanu, Mikolov and Bengio, 2013).

    >>> import nissl as ns
    >>> from nissl import optim
    >>> w = ns.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> optim.clip_grad_norm([w], 1.0)
    tensor(10.)
    """
    number("max_norm", max_norm, least=0)
    distinct = dict.fromkeys(by_path(parameters, "clip_grad_norm").values())  # though one may have been given twice
    waiting = [(p, current.engine.gradient(p)) for p in distinct]
    found = [(p, g.value) for p, g in waiting if g is not None and g.value is not None and not g.used]
    if not found:
        raise GradientError("clip_grad_norm found no new gradient at any parameter; call loss.backward() first")
    with recording(False):
        total = sum(square(found[0][1]))
        for _, g in found[1:]:
            total = total + sum(square(g))
        norm = sqrt(total)
        scale = minimum(max_norm / (norm + 1e-6), 1.0)
        for p, g in found:
            p.grad = g * scale
    return norm
