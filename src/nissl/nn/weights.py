"""Weights from PyTorch and Keras: how they name and lay out what a state holds, and what goes where.

PyTorch keeps the weight of a Linear transposed, as (out_features, in_features); Keras keeps it as we do, and calls
things otherwise. Names that agree say what goes where. Where they do not, layers are matched by the shapes of their
arrays if no two have the same, else in order, if the order is known: a safetensors file is sorted by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl.errors import ModelFileError, OptionError, ShapeError, unknown_name
from nissl.shapes import Shape
from nissl.tensor import is_masked

Array = npt.NDArray[Any]

SOURCES = {"pytorch": "PyTorch", "keras": "Keras"}
KERAS_NAMES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# What a layer of PyTorch counts and nothing here needs.
NOT_NEEDED = ("num_batches_tracked",)


@dataclass(frozen=True)
class Slot:
    """A Parameter or Buffer of a model, to be filled."""

    shape: Shape
    transposed_in_pytorch: bool

    def shape_in(self, source: str) -> Shape:
        """Return the shape that it has in PyTorch or Keras."""
        return self.shape[::-1] if self.is_transposed_in(source) else self.shape

    def is_transposed_in(self, source: str) -> bool:
        """Return whether PyTorch or Keras keeps it transposed."""
        return self.transposed_in_pytorch and source == "pytorch"


@dataclass(frozen=True)
class LoadedWeights:
    """What went where when a state from PyTorch or Keras was loaded; it prints itself as a table.

    `places` has the path in the model for each name in the state, `transposed` those names whose arrays were
    transposed, `not_needed` the names that were left out. `matched` says how: by name, by shape or in order.
    """

    source: str
    matched: str
    places: Mapping[str, str]
    transposed: tuple[str, ...]
    not_needed: tuple[str, ...]

    def __str__(self) -> str:
        width = max(map(len, self.places), default=0)
        longest = max(map(len, self.places.values()), default=0)
        lines = [f"weights from {SOURCES[self.source]}, matched {self.matched}:"]
        for name, path in self.places.items():
            note = "  transposed" if name in self.transposed else ""
            lines.append(f"  {name:{width}} -> {path:{longest}}{note}".rstrip())
        lines += [f"  {name} is not needed" for name in self.not_needed]
        return "\n".join(lines)

    __repr__ = __str__


def arrays_from(state: Any, source: str | None) -> dict[str, Array]:
    """Return the arrays of a state by name: a dict, the path of a safetensors file or, from Keras, a list.

    Raises OptionError for what PyTorch wrote if `source` does not say so: a square weight does not show that it is
    transposed.
    """
    if source is not None and source not in SOURCES:
        raise unknown_name("source of weights", source, SOURCES)
    from_pytorch = False
    if isinstance(state, str | os.PathLike):
        state, metadata = _read(state)
        from_pytorch = metadata.get("format") == "pt"
    if isinstance(state, Sequence) and source == "keras":
        state = {_numbered(i): array for i, array in enumerate(state)}
    if not isinstance(state, Mapping):
        raise OptionError(
            "load_state_dict takes a dict of arrays by name, the path of a safetensors file or, with source='keras', "
            f"the list that get_weights() returns; got {type(state).__name__}"
        )
    from_pytorch |= any(type(value).__module__.partition(".")[0] == "torch" for value in state.values())
    if from_pytorch and source is None:
        raise OptionError(
            "load_state_dict: this state comes from PyTorch, which keeps the weights of Linear layers transposed; "
            "say load_state_dict(state, source='pytorch')"
        )
    return {str(name): _array(name, value) for name, value in state.items()}


def _numbered(position: int) -> str:
    return f"array {position}"


def _array(name: Any, value: Any) -> Array:
    if is_masked(value):
        raise OptionError(
            f"load_state_dict: {name} has masked numbers, which stand for missing ones; fill them in first"
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f"load_state_dict: {name} is not an array that NumPy can read: {error}") from None
    if array.dtype.kind not in "biuf":
        raise OptionError(f"load_state_dict: {name} holds {array.dtype}, not numbers")
    if array.dtype.kind == "i" and not hasattr(value, "dtype"):  # [1, -1], written by hand, says nothing of a dtype
        return array.astype(np.float64)
    return array


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays in a safetensors file, and its metadata."""
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(path):
        raise ModelFileError(f"{path} {'is a folder' if os.path.isdir(path) else 'does not exist'}")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if "nissl" in metadata:
                raise ModelFileError(f"{path} is a whole model of nissl; ns.load(path).state_dict() has its arrays")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            for name, array in arrays.items():
                if array.dtype.kind not in "biuf":  # as bfloat16, which some packages make known to NumPy
                    raise TypeError(f"{name} is {array.dtype}")
            return arrays, metadata
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(
            f"{path} is not a safetensors file of numbers that NumPy has ({error}). From PyTorch, write one with "
            "safetensors.torch.save_file(model.float().state_dict(), path); from Keras, pass model.get_weights()"
        ) from None


def laid_out_for(target: str, slots: Mapping[str, Slot], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays of a model as PyTorch lays them out, under the same names."""
    if target != "pytorch":
        raise unknown_name("target of weights", target, ["pytorch"])
    transposed = {path for path, slot in slots.items() if slot.is_transposed_in(target)}
    return {path: np.ascontiguousarray(array.T) if path in transposed else array for path, array in arrays.items()}


def match(
    slots: Mapping[str, Slot], arrays: Mapping[str, Array], source: str, sorted_by_name: bool
) -> tuple[dict[str, Array], LoadedWeights]:
    """Return the arrays by the model's paths, laid out as here, and what went where.

    `sorted_by_name` says that the order of the arrays does not tell the order of the layers.
    """
    not_needed = tuple(name for name in arrays if name.rpartition(".")[2] in NOT_NEEDED and name not in slots)
    shapes = {name: array.shape for name, array in arrays.items() if name not in not_needed}
    matched, places = _places(slots, shapes, source, sorted_by_name)
    for name, path in places.items():
        if shapes[name] != slots[path].shape_in(source):
            raise ShapeError(_misfit(name, shapes[name], path, slots[path], source))
    transposed = tuple(name for name, path in places.items() if slots[path].is_transposed_in(source))
    found = {path: arrays[name].T if name in transposed else arrays[name] for name, path in places.items()}
    return found, LoadedWeights(source, matched, places, transposed, not_needed)


def _misfit(name: str, shape: Shape, path: str, slot: Slot, source: str) -> str:
    hint = ""
    if slot.is_transposed_in(source) and shape == slot.shape:
        hint = "; it would fit as it is: is it from elsewhere?"
    return (
        f"load_state_dict: {name} has shape {shape}; from {SOURCES[source]}, {path} of this model takes shape "
        f"{slot.shape_in(source)}{hint}"
    )


def _places(
    slots: Mapping[str, Slot], shapes: Mapping[str, Shape], source: str, sorted_by_name: bool
) -> tuple[str, dict[str, str]]:
    """Return how the names of a state were matched with the paths of a model, and the path for each name."""
    if len(shapes) != len(slots):
        raise OptionError(_difference(slots, shapes, source, f"{len(shapes)} arrays do not fill {len(slots)}"))
    if all(name == _numbered(i) for i, name in enumerate(shapes)):
        return "in order", dict(zip(shapes, slots, strict=True))
    names = {_our_name(name, source): name for name in shapes}
    if names.keys() == slots.keys():
        return "by name", {names[path]: path for path in slots}
    there, here = _by_layer(names), _by_layer({path: path for path in slots})
    kinds = {layer: _kind(parts, shapes) for layer, parts in there.items()}
    wanted_shapes = {path: slot.shape_in(source) for path, slot in slots.items()}
    wanted = {layer: _kind(parts, wanted_shapes) for layer, parts in here.items()}
    if sorted(kinds.values()) != sorted(wanted.values()):
        raise OptionError(_difference(slots, shapes, source, "neither names nor shapes agree"))
    if len(set(wanted.values())) == len(wanted):
        layers = {kind: layer for layer, kind in kinds.items()}
        matched, pairs = "by shape", [(layers[kind], layer) for layer, kind in wanted.items()]
    elif not sorted_by_name and list(kinds.values()) == list(wanted.values()):
        matched, pairs = "in order", list(zip(there, here, strict=True))
    else:
        reason = "several layers have the same shapes, and neither names nor order tell"
        raise OptionError(_difference(slots, shapes, source, reason))
    for theirs, layer in pairs:
        # A number is a place in a Sequential, which may have shifted; a name that stands for another layer has not.
        if theirs != layer and theirs in here and not theirs.rpartition(".")[2].isdecimal():
            reason = f"{matched}, {theirs} would become {layer}, but there is a {theirs}"
            raise OptionError(_difference(slots, shapes, source, reason))
    return matched, {there[theirs][leaf]: path for theirs, layer in pairs for leaf, path in here[layer].items()}


def _our_name(name: str, source: str) -> str:
    """Return a name as it would be here.

    >>> _our_name("mlp/dense_1/kernel", "keras")
    'mlp.dense_1.weight'
    """
    if source != "keras":
        return name
    layer, dot, leaf = name.replace("/", ".").rpartition(".")
    return layer + dot + KERAS_NAMES.get(leaf, leaf)


def _by_layer(names: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return names by layer and by what they are in it, from names by path."""
    layers: dict[str, dict[str, str]] = {}
    for path, name in names.items():
        layer, _, leaf = path.rpartition(".")
        layers.setdefault(layer, {})[leaf] = name
    return layers


def _kind(parts: Mapping[str, str], shapes: Mapping[str, Shape]) -> tuple[tuple[str, Shape], ...]:
    """Return what a layer consists of: layers of the same kind cannot be told apart."""
    return tuple(sorted((leaf, shapes[name]) for leaf, name in parts.items()))


def _difference(slots: Mapping[str, Slot], shapes: Mapping[str, Shape], source: str, reason: str) -> str:
    there = _listed(shapes)
    here = _listed({path: slot.shape_in(source) for path, slot in slots.items()})
    return (
        f"load_state_dict: {reason}. The state from {SOURCES[source]} has {there}; this model takes {here}. "
        "If they belong together, rename the arrays to the model's paths"
    )


def _listed(shapes: Mapping[str, Shape], most: int = 12) -> str:
    shown = [f"{name} {'×'.join(map(str, shape)) or 'number'}" for name, shape in list(shapes.items())[:most]]
    return ", ".join(shown) + (f" and {len(shapes) - most} more" if len(shapes) > most else "") or "nothing"
