"""Model files: named arrays and a description, read without trusting them.

A model file is in safetensors format: named arrays, and a JSON document in its metadata that describes the model in
terms of nissl's own classes. Reading one runs no code from the file, follows no import path, and allocates no more than
the file holds: the architecture is built first without memory, and its shapes are compared with those of the arrays.
The document has a checksum of itself and the arrays, against damage; it is no proof of who wrote the file.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nissl import nn, optim
from nissl.data.dataset import as_array_of_rows
from nissl.engines.base import using
from nissl.errors import DTypeError, ModelFileError, NisslError, OptionError
from nissl.files import PathLike, checked_path, write_atomically
from nissl.graph.trace import Trace
from nissl.habits import explained
from nissl.nn.module import Module, checked_model
from nissl.optim.optimizer import Optimizer
from nissl.version import __version__

FORMAT = 1
KEY = "nissl"  # of the document in the metadata
DIGEST = "digest"  # the key, in the document, of the checksum of all else
TABLE = "table"  # the key, in the notes of a model of a table, of the description of its columns

Arrays = dict[str, npt.NDArray[Any]]

# The classes that a model file may name.
MODULES: dict[str, type[Module]] = {
    name: value
    for name, value in vars(nn).items()
    if isinstance(value, type) and issubclass(value, Module) and value is not Module
}
OPTIMIZERS: dict[str, type[Optimizer]] = {cls.__name__: cls for cls in optim.OPTIMIZERS.values()}
SCHEDULES: dict[str, Any] = {
    cls.__name__: cls for cls in vars(optim.schedules).values() if isinstance(cls, type) and is_dataclass(cls)
}


def write_arrays(path: PathLike, arrays: Mapping[str, npt.NDArray[Any]], document: Mapping[str, Any]) -> None:
    """Write a safetensors file of `arrays`, with a JSON document in its metadata."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    whole = {"format": FORMAT, "version": __version__, **document}
    digest = _digest(contiguous, to_json(whole, "a file's description"))
    text = to_json({**whole, DIGEST: digest}, "a file's description")
    with write_atomically(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata={KEY: text})
        except SafetensorError as error:
            full = "os error 28" in str(error)
            reason = os.strerror(errno.ENOSPC) if full else str(error)
            raise OSError(errno.ENOSPC if full else errno.EIO, reason, str(path)) from None


def _digest(arrays: Mapping[str, npt.NDArray[Any]], text: str) -> str:
    """Return the checksum of arrays and a description: a weight with one bit turned is a number like others."""
    import hashlib  # here, as it takes a while to load

    found = hashlib.blake2b(text.encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype.name} {array.shape}".encode())
        found.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return found.hexdigest()


def to_json(value: Any, name: str, **options: Any) -> str:
    """Return a value as JSON, with NumPy's numbers and arrays as plain ones; `options` are those of `json.dumps`.

    Raises OptionError for what JSON cannot hold; `name` is the name of the value in the message.
    """
    try:
        return json.dumps(value, default=_as_plain, **options)
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"{name} holds what JSON can: numbers, text, lists, dicts named by text; {error}") from None


def _as_plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"got {value!r}")


def checked_notes(notes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the notes passed by a user, or raise OptionError if they are no dict with text as keys."""
    if notes is None:
        return {}
    if not isinstance(notes, Mapping):
        raise OptionError(f"notes is a dict of what JSON can hold, by names; got {notes!r}")
    strange = next((name for name in notes if not isinstance(name, str)), None)
    if strange is not None:
        raise OptionError(f"notes are named by text, got the name {strange!r}")
    return dict(notes)


def read_arrays(path: PathLike, what: str = "model") -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays and the document of a file that `write_arrays` wrote; `what` it is, for messages.

    Raises ModelFileError for anything else.
    """
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(checked_path(path)):
        problem = "is a folder" if os.path.isdir(path) else "does not exist"
        raise ModelFileError(f"{path} {problem}; a model is a .safetensors file that ns.save or nissl train wrote")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise ModelFileError(f"{path} is a safetensors file, but not a {what} of nissl: it has no description")
            document = json.loads(metadata[KEY])
            if not isinstance(document, dict) or not isinstance(document.get("format"), int):
                raise ModelFileError(f"{path} is damaged: its description is not readable")
            if document["format"] > FORMAT:
                raise ModelFileError(
                    f"{path} was written by nissl {document.get('version', '?')}, in a newer format than this version, "
                    f"{__version__}, can read; update nissl"
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        digest = document.pop(DIGEST, None)
        if digest is not None and digest != _digest(arrays, json.dumps(document)):  # older files have none
            raise ModelFileError(f"{path} is damaged: it does not hold what was written; its checksum differs")
        return arrays, document
    except (SafetensorError, ValueError, TypeError, RecursionError, AttributeError) as error:
        if isinstance(error, NisslError):
            raise
        raise ModelFileError(f"{path} is not a {what} file, or it is damaged: {error}") from None


def describe_module(module: Module) -> dict[str, Any]:
    """Return the architecture of a Module as plain data: its class and settings, with nested layers."""
    name = type(module).__name__
    if MODULES.get(name) is not type(module):
        raise OptionError(
            f"{name} is not one of nissl's own modules, so a file cannot say how to make it again; "
            "save its state_dict() instead and load it into a new one"
        )
    return {"class": name, "settings": {key: _describe_value(value) for key, value in module.settings().items()}}


def _parts(module: Module) -> Iterator[Module]:
    """Yield a Module and all layers of nested Sequentials, each as often as it occurs."""
    yield module
    if isinstance(module, nn.Sequential):
        for layer in module:
            yield from _parts(layer)


def _describe_value(value: Any) -> Any:
    if isinstance(value, Module):
        return describe_module(value)
    if isinstance(value, list | tuple):
        return [_describe_value(part) for part in value]
    return value


def _make_module(description: Any) -> Module:
    if not isinstance(description, dict) or set(description) != {"class", "settings"}:
        raise ModelFileError("the description of a layer is not readable")
    cls = MODULES.get(str(description["class"]))
    if cls is None:
        raise ModelFileError(f"it names a layer that this version does not have: {str(description['class'])[:40]!r}")
    settings = {key: _make_value(value) for key, value in dict(description["settings"]).items()}
    return cls(*settings["layers"]) if cls is nn.Sequential else cls(**settings)


def _make_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _make_module(value)
    if isinstance(value, list):
        return [_make_value(part) for part in value]
    return value


def make_module(description: Any, arrays: Arrays, path: PathLike) -> Module:
    """Return the Module that `describe_module` described, with the values in `arrays`.

    It is built under a trace, where Parameters have shapes but no memory, so that a description with a wrong size costs
    nothing, and no random numbers are drawn.
    """
    try:
        with using(Trace()):
            module = _make_module(description)
            state = module._state()
            wanted = {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
    except (NisslError, TypeError, ValueError, KeyError, OverflowError, RecursionError, AttributeError) as error:
        raise ModelFileError(f"{path} does not describe a model that can be made: {error}") from None
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    for name in wanted.keys() | found.keys():
        if wanted.get(name) != found.get(name):
            raise ModelFileError(
                f"{path} is damaged: the architecture has {name} as {wanted.get(name, 'nothing')}, "
                f"the file holds {found.get(name, 'nothing')}"
            )
    for name, tensor in state.items():
        tensor.payload = arrays[name]
    module.parameters()  # gives each its path
    return module


def describe_optimizer(optimizer: Optimizer, model: Module) -> dict[str, Any]:
    """Return the class, settings and parameter paths of an Optimizer as plain data."""
    if OPTIMIZERS.get(type(optimizer).__name__) is not type(optimizer):
        raise OptionError(f"{type(optimizer).__name__} is not one of nissl's own optimizers, so a file cannot hold it")
    own = model.named_parameters()
    if any(own.get(path) is not parameter for path, parameter in optimizer.parameters.items()):
        raise OptionError(
            "the optimizer's parameters are not those of the model by their paths; make it from model.parameters(), "
            "or from a part of model.named_parameters()"
        )
    settings = {key: value for key, value in optimizer.settings().items() if key not in ("schedule", "lr")}
    schedule = optimizer.schedule
    document = {
        "class": type(optimizer).__name__,
        "settings": settings,
        "parameters": list(optimizer.parameters),
    }
    if schedule is not None:
        document["schedule"] = _describe_schedule(schedule)
    return document


def _describe_schedule(schedule: Any) -> dict[str, Any]:
    if SCHEDULES.get(type(schedule).__name__) is not type(schedule):
        raise OptionError("a schedule that is not one of optim.schedules cannot be saved with the optimizer")
    settings = {name: _describe_schedule(v) if callable(v) else v for name, v in vars(schedule).items()}
    return {"class": type(schedule).__name__, "settings": settings}


def _make_schedule(description: Any) -> Any:
    settings = {k: _make_schedule(v) if isinstance(v, dict) else v for k, v in description["settings"].items()}
    return SCHEDULES[description["class"]](**settings)


def make_optimizer(description: Any, module: Module, state: Arrays, path: PathLike) -> Optimizer:
    """Return the Optimizer that `describe_optimizer` described, for the parameters of `module`."""
    try:
        lr = 0.0
        if "schedule" in description:
            lr = _make_schedule(description["schedule"])
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in description["settings"].items()}
        parameters = module.named_parameters()
        chosen = {path: parameters[path] for path in description["parameters"]}
        optimizer = OPTIMIZERS[description["class"]](chosen, lr=lr, **settings)
        optimizer.load_state_dict(state)
    except (NisslError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelFileError(f"{path} does not describe an optimizer that can be made: {error}") from None
    return optimizer


@explained
def save(
    model: Module,
    path: PathLike,
    optimizer: Optimizer | None = None,
    notes: Mapping[str, Any] | None = None,
    extras: Mapping[str, npt.NDArray[Any]] | None = None,
) -> None:
    """Write a model of nissl's own modules, with its optimizer if given, to one .safetensors file.

    `notes` is a dict of anything JSON can hold that belongs with the model, such as the names of its classes; `extras`
    are arrays that do, such as the means and scales of its inputs.
    The file is written atomically. `ns.load(path)` loads the complete model.

    Raises OptionError for a module that is not nissl's own, or notes that JSON cannot hold; DTypeError for extras that
    are no numbers.
    """
    checked_model("save", model)
    arrays = {f"model/{name}": array for name, array in model.state_dict().items()}
    places = [id(part) for part in _parts(model)]
    if len(set(places)) < len(places):
        raise OptionError(
            "a layer stands in this model twice, with one set of weights, which a file cannot say; "
            "save its state_dict() instead and load it into a new one"
        )
    frozen = [path for path, p in model.named_parameters().items() if not p.requires_grad]
    document: dict[str, Any] = {"architecture": describe_module(model), "frozen": frozen, "notes": checked_notes(notes)}
    if optimizer is not None:
        document["optimizer"] = describe_optimizer(optimizer, model)
        arrays |= {f"optimizer/{name}": array for name, array in optimizer.state_dict().items()}
    arrays |= {f"extra/{name}": array for name, array in _checked_extras(extras).items()}
    write_arrays(path, arrays, document)


def _checked_extras(extras: Mapping[str, npt.NDArray[Any]] | None) -> Arrays:
    if not isinstance(extras, Mapping | None):
        raise OptionError(f"extras is a dict of arrays by names, got {type(extras).__name__}")
    arrays = {name: as_array_of_rows(array, f"the array {name!r} of extras") for name, array in (extras or {}).items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise DTypeError(f"extras holds arrays of real numbers of up to 64 bits, but {name!r} is of {array.dtype}")
    return arrays


def load(path: PathLike, with_optimizer: bool = False) -> Any:
    """Return the model in a file that `ns.save` wrote, or (model, optimizer) with `with_optimizer=True`.

    The file of a model of a table, such as `nissl train data.csv` writes, also holds its preprocessing: load it with
    `nissl.tables.load`; it is refused here.

    Raises ModelFileError if the file is damaged, is not a model, or comes from a newer version. Loading never runs code
    from the file.
    """
    arrays, document = read_arrays(path)
    if is_of_table(_notes(document)):
        raise ModelFileError(
            f"{path} is the model of a table: nissl.tables.load(path) gives it with its preprocessing, and "
            "nissl.tables.load(path).network the network alone"
        )
    return _load(arrays, document, path, with_optimizer)


def load_network(path: PathLike, with_optimizer: bool = False) -> Any:
    """Return the network in a model file as `load` does, also from the file of a model of a table."""
    return _load(*read_arrays(path), path, with_optimizer)


def _load(arrays: Arrays, document: Mapping[str, Any], path: PathLike, with_optimizer: bool) -> Any:
    if "checkpoint" in document:
        raise ModelFileError(
            f"{path} is a checkpoint, from which a training goes on; a model is a file that ns.save or nissl train "
            "wrote, such as model.safetensors beside it"
        )
    model = make_module(document.get("architecture"), under("model/", arrays), path)
    parameters = model.named_parameters()
    frozen = document.get("frozen", [])
    if not isinstance(frozen, list) or not all(name in parameters for name in map(str, frozen)):
        raise ModelFileError(f"{path} is damaged: it freezes parameters that the model does not have")
    for name in frozen:
        parameters[name].requires_grad = False
    if not with_optimizer:
        return model
    if "optimizer" not in document:
        raise ModelFileError(f"{path} holds a model without its optimizer; it was saved without optimizer=")
    return model, make_optimizer(document["optimizer"], model, under("optimizer/", arrays), path)


def load_notes(path: PathLike) -> dict[str, Any]:
    """Return the notes that were saved with a model."""
    return _notes(read_arrays(path)[1])


def _notes(document: Mapping[str, Any]) -> dict[str, Any]:
    notes = document.get("notes", {})
    return notes if isinstance(notes, dict) else {}


def is_of_table(notes: Mapping[str, Any]) -> bool:
    """Return whether the notes of a model file are those of a `nissl.tables.TableModel`, not a user's own."""
    table = notes.get(TABLE)
    return isinstance(table, dict) and "target scale" in table


def load_extras(path: PathLike) -> Arrays:
    """Return the `extras` that were saved with a model."""
    return under("extra/", read_arrays(path)[0])


def under(prefix: str, arrays: Arrays) -> Arrays:
    """Return the arrays whose names start with `prefix`, under their names without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
