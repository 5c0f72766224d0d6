"""Checkpoints: a training that was interrupted resumes and ends exactly as it would have without the interruption.

All that is needed for this is in one file: the state of model, optimizer and random streams, the progress, and the
settings that identify the training.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nissl import storage
from nissl.errors import DataError, NisslError, OptionError
from nissl.evaluation import Array
from nissl.optim.optimizer import describe_schedule
from nissl.random import STREAMS, streams
from nissl.shapes import describe
from nissl.tensor import wrap
from nissl.text import printable
from nissl.version import __version__

if TYPE_CHECKING:
    from nissl.training import Training

CHECKPOINT_FILE = "checkpoint.safetensors"
DIGESTED = ("data", "sample_weight", "validation data")


@dataclass
class Progress:
    """The progress of a training: all state, besides model, optimizer and random streams, that is needed to resume.

    A checkpoint stores each field under its name, `best` as arrays.
    """

    epoch: int = 0  # completed epochs
    step: int = 0  # completed steps in the current epoch
    loss_sum: float = 0.0  # over the examples of these steps, weighted
    weight_sum: float = 0.0  # of these examples; without weights, their number
    metric_sum: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Array] = field(default_factory=dict)  # the model's state at the best epoch


def identity(training: Training) -> dict[str, Any]:
    """Return the settings that a checkpoint and the training that resumes from it must share."""
    parameters = {name: describe(tensor) for name, tensor in training.model._state().items()}
    digests = {"data": _digest(training.inputs.x, training.targets)}
    if training.weights is not None:
        digests["sample_weight"] = _digest(training.weights)
    if training.validation is not None:
        held, targets, weights = training.validation
        digests["validation data"] = _digest(held.x, targets, *([] if weights is None else [weights]))
    return {
        "model": repr(training.model),
        "parameters": parameters,
        "loss": training.objective.name,
        "batch_size": training.batch_size,
        "shuffle": training.shuffle,
        "steps an epoch": training.steps,
        "clip_norm": training.clip_norm,
        "patience": training.patience,
        "engine": training.engine,
        "metrics": sorted(training.metrics),
        "schedule": None if training.schedule is None else describe_schedule(training.schedule),
        "optimizer": repr(training.optimizer),
        **digests,
    }


def save_checkpoint(training: Training, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write all that is needed to resume to one file, atomically."""
    arrays = {f"model/{name}": array for name, array in training.model.state_dict().items()}
    arrays |= {f"optimizer/{name}": array for name, array in training.optimizer.state_dict().items()}
    arrays |= {f"best/{name}": array for name, array in training.progress.best.items()}
    for name in STREAMS:
        arrays |= {
            f"random/{name}/key": streams[name].key.numpy(),
            f"random/{name}/draws": streams[name].draws.numpy(),
        }
    document = {
        "checkpoint": settings,
        "seed": str(training.seed),
        "first_step": training.first_step,
        **{name: value for name, value in vars(training.progress).items() if name != "best"},
    }
    storage.write_arrays(folder / CHECKPOINT_FILE, arrays, document)


def load_checkpoint(training: Training, folder: Path, settings: Mapping[str, Any], seed: int | None) -> None:
    """Resume a training from the checkpoint in a folder.

    Raises OptionError, which names the setting that differs, if it is of another training, DataError if it is damaged
    or of another version of nissl, and ModelFileError if the file cannot be read at all. Nothing is changed then.
    """
    path = folder / CHECKPOINT_FILE
    arrays, document = storage.read_arrays(path, "checkpoint")
    theirs = document.get("checkpoint")
    if not isinstance(theirs, dict):
        raise DataError(f"{path} is not a checkpoint")
    ours = dict(settings)
    if seed is not None:
        ours["seed"], theirs["seed"] = str(seed), document.get("seed")
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            # Digests tell nothing to those who read them.
            differs = (
                f"its {name} held other numbers or another order than here"
                if name in DIGESTED and name in ours and name in theirs
                else f"its {name} is {_short(theirs.get(name))}, here it is {_short(ours.get(name))}"
            )
            raise OptionError(
                f"the checkpoint in {folder} is of another training: {differs}. "
                "Use another folder, or the same settings"
                + _about_steps(theirs.get(name), ours.get(name))
                + _written_by(document)
            )
    keys_and_draws = [tensor for stream in streams.values() for tensor in (stream.key, stream.draws)]
    before = [(tensor, tensor.numpy()) for tensor in (*training.state(), *keys_and_draws)]
    try:
        random = {name: (arrays[f"random/{name}/key"], arrays[f"random/{name}/draws"]) for name in STREAMS}
        found_seed, first_step = int(document["seed"]), _expect(document, "first_step", float)
        progress = _progress_in(document, storage.under("best/", arrays))
        training.model.load_state_dict(storage.under("model/", arrays))
        training.optimizer.load_state_dict(storage.under("optimizer/", arrays))
        for name, (key, draws) in random.items():
            streams[name].key.assign(wrap(key))
            streams[name].draws.assign(wrap(draws))
    except (KeyError, TypeError, ValueError, IndexError, NisslError) as error:
        for tensor, array in before:
            tensor.payload = array
        if isinstance(error, KeyError):
            raise DataError(
                f"{path} lacks {error}, so that another version of nissl wrote it: go on with that one, or train anew "
                "in another folder" + _written_by(document)
            ) from None
        raise DataError(f"{path} is damaged: {error}" + _written_by(document)) from None
    training.seed, training.first_step, training.progress = found_seed, first_step, progress


def _progress_in(document: Mapping[str, Any], best: dict[str, Array]) -> Progress:
    """Return the Progress in a document; raise DataError if a field is not of the type of its default."""
    kinds = {name: type(value) for name, value in vars(Progress()).items() if name != "best"}
    progress = Progress(**{name: _expect(document, name, kind) for name, kind in kinds.items()}, best=best)
    progress.rows = [{name: _expect(row, name, float) for name in row} for row in progress.rows]
    return progress


def _about_steps(theirs: object, ours: object) -> str:
    """Return what to say about two schedules that differ in their steps alone, or nothing."""
    same_but_for_steps = re.sub(r"steps=\d+", "", str(theirs)) == re.sub(r"steps=\d+", "", str(ours))
    return ": the steps of a schedule follow from the number of epochs" if same_but_for_steps else ""


def _written_by(document: Mapping[str, Any]) -> str:
    """Return the end of a message: which version of nissl wrote the file, or nothing if it was this one."""
    writer = printable(document.get("version"))[:40]
    return "" if writer == __version__ else f". It was written by nissl {writer}, this is nissl {__version__}"


def _expect(document: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return the value of a name in a document; raise DataError if it is not of type `kind`."""
    value = document[name]
    if not isinstance(value, (int, float) if kind is float else kind):
        raise DataError(f"{name} is {_short(value)}")
    return value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _digest(*arrays: Array) -> str:
    import hashlib  # here, as it takes a while to load

    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
