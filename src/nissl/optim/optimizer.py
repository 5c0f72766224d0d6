"""Optimizer: an update rule plus named state Tensors, one set for each parameter path.

A subclass says what state a parameter has (`slots`), which numbers a step needs (`factors`) and how a parameter moves
(`update`). The numbers are computed in float64 once a step and cast to the parameter's dtype once, so that no rule
turns float32 into float64 and none loses digits in powers of β.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from nissl import habits
from nissl.arguments import number
from nissl.engines.base import Configured, Gradient, current, recording
from nissl.errors import GradientError, OptionError, ShapeError
from nissl.nn.module import fingerprint
from nissl.ops.elementwise import elementwise
from nissl.ops.source import zeros_like
from nissl.shapes import describe
from nissl.tensor import Op, Tensor, TensorLike, as_tensor

Schedule = Callable[[Tensor], TensorLike]
State = dict[str, Tensor]
Params = Iterable[Tensor] | Mapping[str, Tensor]  # `params`, by PyTorch's name: what an optimizer is made of

# Checks of settings, from the name and the value to the value that is kept.
Check = Callable[[str, Any], Any]
NOT_NEGATIVE: Check = functools.partial(number, least=0)
BELOW_ONE: Check = functools.partial(number, least=0, below=1)


class Optimizer(Configured):
    """Moves parameters against their gradients.

    `params` is what `module.parameters()` or `module.named_parameters()` returns, or any list of Tensors with
    `requires_grad`; `optimizer.parameters` has them by path. `lr` is a number, or a schedule: a function from the
    number of steps taken so far, a float64 Tensor, to the learning rate (see `optim.schedules`). `optimizer.lr = 0.01`
    changes it, in compiled steps too.
    """

    checks: ClassVar[Mapping[str, Check]] = {}  # of settings, when the optimizer is made and whenever they are set

    def __init__(self, params: Params, lr: float | Schedule) -> None:
        self.parameters = by_path(params, type(self).__name__)
        self.steps = Tensor(np.zeros(()))
        self.lr = lr
        self.state: dict[str, State] = {path: self.slots(p) for path, p in self.parameters.items()}

    if not TYPE_CHECKING:  # a type checker knows which attributes there are
        __getattr__ = habits.attributes(habits.OPTIMIZER)

        def __setattr__(self, name: str, value: Any) -> None:
            if name in habits.OPTIMIZER:  # `optimizer.learning_rate = 0.1` would do nothing
                habits.missing(f"{type(self).__name__!r} object", name, habits.OPTIMIZER)
            check = type(self).checks.get(name)
            super().__setattr__(name, value if check is None else check(name, value))

    @property
    def lr(self) -> Tensor:
        """The learning rate of the next step."""
        return self._rate if self.schedule is None else as_tensor(self.schedule(self.steps))

    @lr.setter
    def lr(self, value: float | Tensor | Schedule) -> None:
        if callable(value):
            self.schedule: Schedule | None = value
            if hasattr(self, "_rate"):
                return  # the number stays for when the schedule goes
            value = 0.0
        else:
            self.schedule = None
            value = value if isinstance(value, Tensor) else number("lr", value, least=0)
        new = as_tensor(value, np.float64)
        if hasattr(self, "_rate"):
            self._rate.assign(new)  # the same handle, so that compiled steps see it
        else:
            self._rate: Tensor = Tensor(new.detach())

    def slots(self, parameter: Tensor) -> State:
        """Return the state Tensors of a parameter, as they start."""
        return {}

    def factors(self, rate: Tensor) -> tuple[Tensor, ...]:
        """Return the numbers that `update` gets, in float64, from the learning rate; `self.steps` counts this step."""
        return (rate,)

    def update(self, p: Tensor, g: Tensor, state: State, *factors: Tensor) -> None:
        """Assign new values to the parameter `p`, with gradient `g`, and to its state."""
        raise NotImplementedError(f"{type(self).__name__} has no update rule")

    @habits.explained
    def step(self) -> None:
        """Move every parameter that has a new gradient, and mark the gradients as used.

        Raises GradientError if no parameter has one.
        """
        engine = current.engine
        engine.observe(self)
        new: dict[Tensor, tuple[str, Tensor]] = {}  # path and gradient of each parameter that has a new one
        for path, p in self.parameters.items():
            gradient = engine.gradient(p)
            if p.requires_grad and gradient is not None and not gradient.used and gradient.value is not None:
                new.setdefault(p, (path, gradient.value))  # once, though it may have been given twice
        if not new:
            raise GradientError(
                f"{type(self).__name__}.step() found no new gradient at any parameter; "
                "call loss.backward() before each step"
            )
        with recording(False):
            rate = self.lr
            self.steps.assign(self.steps + 1)
            factors = self.factors(rate)
            cast: dict[np.dtype[Any], list[Tensor]] = {}
            for p, (path, g) in new.items():
                if p.dtype not in cast:
                    cast[p.dtype] = [factor.astype(p.dtype) for factor in factors]
                self.update(p, g, self.state[path], *cast[p.dtype])
                engine.set_gradient(p, Gradient(g, used=True))
        if current.watch is not None:
            current.watch.stepped({p: g for p, (_, g) in new.items()})

    @habits.explained
    def zero_grad(self) -> None:
        """Forget the gradients. Not needed between steps: a step uses them up."""
        for p in self.parameters.values():
            p.grad = None

    def settings(self) -> dict[str, Any]:
        """Return the hyperparameters by name, without the learning rate if a schedule gives it."""
        rate = {"schedule": describe_schedule(self.schedule)} if self.schedule else {"lr": self._rate.item()}
        return self._hyperparameters() | rate

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of the state: "steps", "lr", and "path/slot" for each parameter and state Tensor."""
        return {name: np.array(tensor.numpy()) for name, tensor in self._named_state().items()}

    def load_state_dict(self, state: Mapping[str, TensorLike]) -> None:
        """Take the state from what `state_dict` returned; nothing changes if it does not fit."""
        own = self._named_state()
        if set(own) != set(state):
            different = sorted(set(own) ^ set(state))
            raise OptionError(f"load_state_dict: the state is not of this {type(self).__name__}; see {different[0]}")
        arrays = {name: as_tensor(state[name]) for name in own}
        for name, tensor in own.items():
            if (arrays[name].shape, arrays[name].dtype) != (tensor.shape, tensor.dtype):
                raise ShapeError(f"load_state_dict: {name} is {describe(tensor)} here, {describe(arrays[name])} there")
        for name, tensor in own.items():
            tensor.assign(arrays[name])

    def _named_state(self) -> dict[str, Tensor]:
        slots = {f"{path}/{slot}": t for path, state in self.state.items() for slot, t in state.items()}
        return {"steps": self.steps, "lr": self._rate, **slots}

    def fingerprint(self) -> tuple[Any, ...]:
        """Return what steers a step besides numbers; a compiled step is traced again when it changes."""
        held = list(vars(self).items())  # a list at once, as another thread may set an attribute meanwhile
        return (type(self), self.schedule, fingerprint({name: value for name, value in held if name != "schedule"}))

    def _hyperparameters(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if isinstance(value, bool | int | float | tuple)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in self.settings().items())})"


def describe_schedule(schedule: Schedule) -> str:
    """Return a schedule in words that are the same in the next run of the program."""
    return repr(schedule) if is_dataclass(schedule) else getattr(schedule, "__qualname__", type(schedule).__qualname__)


def by_path(params: Params, owner: str) -> dict[str, Tensor]:
    """Return what a user gives as parameters to `owner`, a name in `optim`, by path, or raise OptionError."""
    if isinstance(params, Tensor):
        raise OptionError(f"{owner} needs a list of parameters, got one Tensor; write [parameter]")
    if callable(params) or not isinstance(params, Iterable):
        raise OptionError(f"{owner} needs parameters first, as in optim.{owner}(model.parameters()); got {params!r}")
    if isinstance(params, Mapping):
        named = dict(params)
    else:
        listed = list(params)
        paths = getattr(params, "paths", None) or [str(i) for i in range(len(listed))]
        named = dict(zip(paths, listed, strict=True))
    if not named:
        raise OptionError(f"{owner} got no parameters; does the model have any?")
    for path, p in named.items():
        if not isinstance(p, Tensor) or p.dtype.kind != "f":
            raise OptionError(f"{owner} trains Tensors of floats; parameter {path} is {type(p).__name__}")
        if p.op is not None:
            raise OptionError(
                f"{owner} trains Tensors made by hand; parameter {path} is the result of an operation. Write "
                "ns.tensor(values, requires_grad=True), or nn.Parameter(values)"
            )
    if not any(p.requires_grad for p in named.values()):
        raise OptionError(
            f"no parameter of {owner} requires a gradient, so none would be trained; set p.requires_grad = True, or "
            "write ns.tensor(values, requires_grad=True)"
        )
    return named


def zeros_for(p: Tensor, *names: str) -> State:
    """Return state of zeros, of the shape and dtype of `p`, under the names."""
    return {name: Tensor(zeros_like(p).detach()) for name in names}


def update_rule(name: str, value: Callable[..., tuple[Any, ...]], outputs: int, doc: str) -> Op:
    """Make the op of an update: `value(m, p, g, *state, *factors, **hyperparameters)` gives the new p and state.

    It says what happens to one number, as elementwise ops do, so that an engine can do it in one go.
    """
    return elementwise(name, value, doc=doc, outputs=outputs, rough=True)


def decayed(g: Any, p: Any, weight_decay: float) -> Any:
    """Return the gradient of the loss plus ½·weight_decay·Σp²: g + weight_decay·p."""
    return g + weight_decay * p if weight_decay else g
