"""Module: a named tree of Parameters, Buffers and other Modules, with a `__call__`.

A Module finds its parts among its own attributes, in the order in which they were set, also inside lists, tuples and
dicts; the path of a part ("0.weight") is where it was found. Nothing is registered, so a part is replaced by setting
the attribute. A Module keeps each argument of its constructor under the argument's name: that is how it is printed,
saved and made again.
"""

from __future__ import annotations

import inspect
import math
import operator
import os
import warnings
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from nissl import habits, notebook, text
from nissl.engines.base import Configured, Same, current
from nissl.errors import DTypeError, OptionError, ShapeError
from nissl.nn import weights
from nissl.tensor import DTypeLike, Tensor, TensorLike, as_tensor


class Parameter(Tensor):
    """A Tensor that is trained: it survives the step that changes it.

    >>> from nissl import nn
    >>> nn.Parameter([1.0, 2.0]).requires_grad
    True
    """

    owns_payload = True
    path: str = ""  # its place in the Module whose parameters() were last asked for; for reading, not for finding

    def __init__(self, data: TensorLike, dtype: DTypeLike = None, requires_grad: bool = True) -> None:
        super().__init__(data, dtype, requires_grad)


class Buffer(Tensor):
    """A Tensor that belongs to a Module's state but is not trained, such as a running mean."""

    owns_payload = True
    path: str = ""


class Parameters(list[Parameter]):
    """A list of Parameters that knows their paths; what `module.parameters()` returns."""

    def __init__(self, named: Mapping[str, Parameter]) -> None:
        super().__init__(named.values())
        self.paths = list(named)


class Module(Configured):
    """A part of a network: holds Parameters, Buffers and Modules, and computes in `forward`.

    >>> from nissl import nn
    >>> class Affine(nn.Module):
    ...     def __init__(self):
    ...         self.scale = nn.Parameter([2.0])
    ...     def forward(self, x):
    ...         return x * self.scale
    >>> Affine()(3.0)
    tensor([6.], requires_grad=True)
    """

    _training: bool = True
    transposed_in_pytorch: tuple[str, ...] = ()  # the names of Parameters that PyTorch keeps transposed

    if not TYPE_CHECKING:  # a type checker knows which attributes there are
        __getattr__ = habits.attributes(habits.MODULE)

        def __setattr__(self, name: str, value: Any) -> None:
            before = vars(self).get(name)
            if isinstance(before, Parameter | Buffer) and not isinstance(value, Parameter | Buffer | NoneType):
                kind = type(before).__name__
                raise OptionError(
                    f"{name} of {type(self).__name__} is a {kind} and cannot become {type(value).__name__}, which is "
                    f"neither trained nor saved; to change its values write {name}.assign(new), to replace it "
                    f"{name} = nn.{kind}(new)"
                )
            super().__setattr__(name, value)

    @habits.explained
    def __init__(self) -> None:
        """Make a Module without settings; a subclass may set its parts here."""

    @property
    def training(self) -> bool:
        """Whether this Module is in training mode: as `train` and `eval` set it, but never in predict and evaluate."""
        return self._training and not current.evaluating

    @training.setter
    def training(self, mode: bool) -> None:
        self._training = mode

    def forward(self, *inputs: Any) -> Any:
        """Return the output for `inputs`; a subclass says how."""
        raise NotImplementedError(f"{type(self).__name__} has no forward method; define forward(self, x)")

    def __call__(self, *inputs: Any) -> Any:
        """Return `forward(*inputs)`; the engine is told whose ops they are."""
        engine = current.engine
        engine.enter(self)
        try:
            output = self.forward(*inputs)
        finally:
            engine.leave(self)
        if current.watch is not None:
            current.watch.saw(self, output)
        return output

    def _parts(self) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if isinstance(value, MAY_HOLD_PARTS):
                yield from _find(name, value)

    def _walk(
        self, prefix: str = "", seen: set[int] | None = None, above: frozenset[int] = frozenset()
    ) -> Iterator[tuple[str, Any]]:
        """Yield every part of the tree with its path, each once, under the first path where it is found.

        Raises OptionError for a Sequential that holds itself, which `above`, the Sequentials that it is in, tells.
        Other Modules may know the Module that they are in.
        """
        seen = set() if seen is None else seen
        above = above | {id(self)} if isinstance(self, Sequential) else frozenset()
        for name, part in self._parts():
            if id(part) in above:
                raise OptionError(f"layer {prefix}{name} is the module in which it stands: a call would never end")
            if id(part) in seen:
                continue
            seen.add(id(part))
            yield prefix + name, part
            if isinstance(part, Module):
                yield from part._walk(f"{prefix}{name}.", seen, above)

    def named_parameters(self) -> dict[str, Parameter]:
        """Return the Parameters of the tree by their paths."""
        return {path: part for path, part in self._walk() if isinstance(part, Parameter)}

    def parameters(self) -> Parameters:
        """Return the Parameters of the tree, in the order of their paths; `.paths` has the paths.

        Warns if a Module has a Tensor that requires a gradient, but is neither a Parameter nor a result.
        """
        named = self.named_parameters()
        for where, module in self.named_modules().items():
            for name, value in vars(module).items():
                if type(value) is Tensor and value.requires_grad and value.op is None:
                    warnings.warn(
                        f"{name} of {where or type(self).__name__} is a Tensor that requires a gradient, but no "
                        f"Parameter, so that it is not trained; write self.{name} = nn.Parameter(values)",
                        stacklevel=2,
                    )
        for path, parameter in named.items():
            parameter.path = path
        return Parameters(named)

    def named_buffers(self) -> dict[str, Buffer]:
        """Return the Buffers of the tree by their paths."""
        return {path: part for path, part in self._walk() if isinstance(part, Buffer)}

    def named_modules(self) -> dict[str, Module]:
        """Return this Module, under "", and the Modules of the tree by their paths."""
        return {"": self} | {path: part for path, part in self._walk() if isinstance(part, Module)}

    def state_dict(self, target: str | None = None) -> dict[str, npt.NDArray[Any]]:
        """Return copies of all Parameters and Buffers by their paths.

        With `target="pytorch"` they are laid out as the same architecture in PyTorch takes them: weights of Linear
        layers transposed. `safetensors.numpy.save_file` writes them to a file that PyTorch users can read.
        """
        arrays = {path: tensor.numpy() for path, tensor in self._state().items()}
        return arrays if target is None else weights.laid_out_for(target, self._slots(), arrays)

    def _state(self) -> dict[str, Parameter | Buffer]:
        return {path: part for path, part in self._walk() if isinstance(part, Parameter | Buffer)}

    def _slots(self) -> dict[str, weights.Slot]:
        transposed = {
            f"{path}.{name}".removeprefix(".")
            for path, module in self.named_modules().items()
            for name in module.transposed_in_pytorch
        }
        return {path: weights.Slot(tensor.shape, path in transposed) for path, tensor in self._state().items()}

    def load_state_dict(self, state: Any, source: str | None = None) -> weights.LoadedWeights | None:
        """Take all Parameters and Buffers from `state`; nothing changes if a name or shape does not fit.

        `state` holds arrays by the paths of this Module, as `state_dict()` returns them, or is the path of a
        safetensors file of them.

        With `source="pytorch"` or `source="keras"` it comes from the same architecture there, and what went where is
        returned: PyTorch's weights of Linear layers are transposed, Keras's names (kernel, gamma, moving_mean, ...) are
        known, and the list of its `get_weights()` is taken as well. Arrays go by name, else by shape where that leaves
        no choice, else in order. The settings of layers are not in a state: Keras's norms have `eps=1e-3`.

        Raises OptionError or ShapeError if the state does not fit, or if it is not clear what goes where, and
        DTypeError for arrays of integers in place of floats, such as quantized weights.

        >>> from nissl import nn
        >>> import numpy as np
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
        >>> model.load_state_dict({"fc.weight": np.ones((2, 3)), "fc.bias": np.zeros(2)}, source="pytorch")
        weights from PyTorch, matched by shape:
          fc.weight -> 0.weight  transposed
          fc.bias   -> 0.bias
        """
        own = self._state()
        arrays = weights.arrays_from(state, source)
        loaded = None
        if source is not None:
            by_name = isinstance(state, str | os.PathLike) or list(arrays) == sorted(arrays)  # as a file's always are
            arrays, loaded = weights.match(self._slots(), arrays, source, sorted_by_name=by_name)
        missing = [path for path in own if path not in arrays]
        extra = [path for path in arrays if path not in own]
        if missing or extra:
            raise OptionError(
                f"load_state_dict: the state does not fit {type(self).__name__}; "
                f"missing: {', '.join(missing) or 'nothing'}; not in the model: {', '.join(extra) or 'nothing'}"
                ". If it comes from PyTorch or Keras, say source='pytorch' or source='keras'"
            )
        for path, slot in self._slots().items():
            if arrays[path].shape != slot.shape:
                turned = slot.transposed_in_pytorch and arrays[path].shape == slot.shape[::-1]
                hint = "; if it comes from PyTorch, say load_state_dict(state, source='pytorch')" if turned else ""
                raise ShapeError(
                    f"load_state_dict: {path} has shape {slot.shape} in the model, {arrays[path].shape} in the state"
                    + hint
                )
        for path, tensor in own.items():
            if tensor.dtype.kind == "f" and arrays[path].dtype.kind != "f":
                raise DTypeError(
                    f"load_state_dict: {path} is {tensor.dtype} in the model, {arrays[path].dtype} in the state. "
                    "Multiply quantized weights by their scales first; if these are the weights themselves, pass "
                    "array.astype('float32')"
                )
            largest = np.abs(arrays[path][np.isfinite(arrays[path])]).max(initial=0)
            if tensor.dtype.kind == "f" and largest > np.finfo(tensor.dtype).max:
                raise OptionError(f"load_state_dict: {path} holds {largest:g}, which {tensor.dtype} cannot hold")
        for path, tensor in own.items():
            tensor.assign(Tensor(arrays[path], tensor.dtype))
        return loaded

    def train(self, mode: bool = True) -> Module:
        """Switch the whole tree to training (or, with False, to evaluation), which Dropout and BatchNorm obey."""
        for module in self.named_modules().values():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch the whole tree to evaluation."""
        return self.train(False)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that make another Module of this kind."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def fingerprint(self) -> tuple[Any, ...]:
        """Return what steers the computation besides numbers; a compiled step is traced again when it changes."""
        return (fingerprint(self),)

    def summary(self) -> str:
        """Return a table of the layers: path, layer, shapes of its own parameters, how many numbers these hold."""
        return f"{text.table(_summary_rows(self), right='lllr')}\n{_size(self)}"

    def _repr_html_(self) -> str:
        """Return the summary as a table for a notebook."""
        head, *rows = _summary_rows(self)
        return notebook.table(head, rows, _size(self))

    def __repr__(self) -> str:
        try:
            settings = self.settings()
        except AttributeError:  # a Module of the user's that does not keep its arguments
            settings = {}
        return f"{type(self).__name__}({', '.join(_told(settings, inspect.signature(type(self)).parameters))})"


def checked_model(caller: str, model: Any) -> Module:
    """Return what a user gives as a model, or raise OptionError if it is no Module."""
    if isinstance(model, type):
        raise OptionError(
            f"{caller} takes a Module first, got the class {model.__name__}; make one: {model.__name__}(...)"
        )
    if not isinstance(model, Module):
        hint = ""  # for an estimator, or the model of a table
        if callable(getattr(model, caller, None)):
            hint = f"; it has a {caller} of its own: write model.{caller}(...)"
        elif hasattr(model, "module_"):
            hint = "; its network is its module_"
        raise OptionError(f"{caller} takes a Module first, got {type(model).__name__}{hint}")
    return model


def _told(settings: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> Iterator[str]:
    """Yield the arguments of a constructor that are required, and those that differ from what is the default."""
    for name, value in settings.items():
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        if default is inspect.Parameter.empty:
            yield repr(value)
        elif repr(value) != repr(default):
            yield f"{name}={value!r}"


# Parts, and what they can be in: as tuples, since a union that is made anew takes twice as long to ask for.
PARTS = (Parameter, Buffer, Module)
MAY_HOLD_PARTS = (*PARTS, list, tuple, dict)


def _find(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts that an attribute holds, also inside lists, tuples and dicts, with their names."""
    if isinstance(value, PARTS):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _find(f"{name}.{key}", part)
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from _find(f"{name}.{i}", part)


def fingerprint(value: Any, seen: set[int] | None = None) -> Any:
    """Return what tells a setting from another: for a plain value itself, in containers part by part, else which it is.

    `seen` are the ids of what has been looked into already, as a part may know the Module that it is in.
    """
    seen = set() if seen is None else seen
    if isinstance(value, float):
        return (type(value), value, math.copysign(1.0, value))  # as 0.0 and -0.0 are equal
    if value is None or isinstance(value, bool | int | str):
        return (type(value), value)
    if isinstance(value, Tensor):
        return (Same(value), value.requires_grad)
    if id(value) in seen or not isinstance(value, Module | list | tuple | dict):
        return Same(value)
    seen.add(id(value))
    found: list[Any] = [type(value)]
    if isinstance(value, Module):
        found += [Same(value), value.training]
        value = vars(value)
    parts: dict[Any, Any] = dict(value if isinstance(value, dict) else enumerate(value))  # which no thread changes
    for name, part in parts.items():
        found += [name, fingerprint(part, seen)]
    return tuple(found)


class Sequential(Module):
    """Modules one after the other: y = fₙ(…f₂(f₁(x))).

    >>> from nissl import nn
    >>> import nissl as ns
    >>> nn.Sequential(nn.Flatten(), nn.Linear(784, 10))(ns.zeros((2, 28, 28))).shape
    (2, 10)
    """

    @habits.explained
    def __init__(self, *layers: Module) -> None:
        for i, layer in enumerate(layers):
            _check_is_layer(layer, f"argument {i} is")
        self.layers = list(layers)

    def _checked(self, layer: Any) -> Module:
        """Return what can be a layer of this Sequential."""
        _check_is_layer(layer, "got")
        if _is_in(layer, self):
            raise OptionError("a Sequential cannot be a layer of itself, nor of its own layers: a call would never end")
        return layer

    def forward(self, x: Any) -> Any:
        """Return the output of the last layer, or x as a Tensor if there is none."""
        for layer in self.layers:
            x = layer(x)
        return x if self.layers else as_tensor(x)

    def _parts(self) -> Iterator[tuple[str, Any]]:
        # "0.weight", not "layers.0.weight".
        for i, layer in enumerate(self.layers):
            yield str(i), layer

    def settings(self) -> dict[str, Any]:
        """Return the layers, which the constructor takes by position."""
        return {"layers": list(self.layers)}

    def append(self, layer: Module) -> Sequential:
        """Add a layer at the end."""
        self.layers.append(self._checked(layer))
        return self

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Module:
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[self._place(index)]

    def __setitem__(self, index: int, layer: Module) -> None:
        self.layers[self._place(index)] = self._checked(layer)

    def _place(self, index: int) -> int:
        """Return the number of a layer, or raise IndexError if there is none."""
        count = len(self.layers)
        if not isinstance(index, SupportsIndex) or not -count <= operator.index(index) < count:
            raise IndexError(f"this Sequential has {text.counted(count, 'layer')}, numbered from 0; got {index!r}")
        return operator.index(index)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"


def _check_is_layer(layer: object, told: str) -> None:
    if not isinstance(layer, Module):
        hint = "; write Sequential(*layers)" if isinstance(layer, list | tuple) else ""
        raise OptionError(f"Sequential is made of Modules, as in nn.ReLU(); {told} {layer!r}{hint}")


def _is_in(layer: Module, sequential: Sequential) -> bool:
    """Return whether a layer is this Sequential, or has it among its layers."""
    waiting, seen = [layer], {id(layer)}
    while waiting:
        part = waiting.pop()
        if part is sequential:
            return True
        if isinstance(part, Sequential):
            new = [inner for inner in part.layers if id(inner) not in seen]
            seen.update(map(id, new))
            waiting += new
    return False


def _summary_rows(module: Module) -> list[tuple[str, str, str, str]]:
    rows = [("layer", "", "shapes", "parameters")]
    for path, part in module.named_modules().items():
        own = [p for p in vars(part).values() if isinstance(p, Parameter)]
        if isinstance(part, Sequential) or (path == "" and not own):
            continue
        shapes = " ".join("×".join(map(str, p.shape)) or "1" for p in own)
        rows.append((path, repr(part), shapes, f"{sum(p.size for p in own):,}"))
    return rows


def _size(module: Module) -> str:
    total = sum(p.size for p in module.named_parameters().values())
    size = sum(p.size * p.dtype.itemsize for p in module.named_parameters().values())
    return f"{total:,} parameters, {size / 1e3:,.1f} kB"
