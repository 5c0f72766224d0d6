"""What every `nissl train` shares, whatever it trains on: settings, network, the folder of the run, the training."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from nissl import files, nn, optim, training
from nissl.checkpoint import CHECKPOINT_FILE
from nissl.data import Dataset
from nissl.errors import OptionError
from nissl.evaluation import History
from nissl.nn.activations import ACTIVATIONS
from nissl.objective import Loss
from nissl.optim.optimizer import Optimizer
from nissl.text import counted

MODEL_FILE = "model.safetensors"

LEARNING_RATES = {"sgd": 0.1, "adagrad": 0.02, "rmsprop": 1e-3, "adam": 1e-3, "adamw": 1e-3}


@dataclass(frozen=True)
class Settings:
    """How a network is made and trained: the options of the command, with what stands for those not given."""

    hidden: tuple[int, ...]
    activation: str
    init: str
    optimizer: str
    lr: float | None
    schedule: str
    epochs: int
    batch_size: int
    dropout: float
    weight_decay: float | None
    validation_fraction: float
    patience: int | None
    clip_norm: float | None
    seed: int
    engine: str
    out: Path | None
    resume: bool
    as_json: bool

    @classmethod
    def of(cls, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> Settings:
        """Return the settings of a command line, and `defaults` where it is silent."""
        given = {name: value for name, value in options.items() if value is not None}
        settings: dict[str, Any] = {**dict.fromkeys(options), **defaults, **given}
        return cls(**settings)

    def make_optimizer(self, model: nn.Module) -> Optimizer:
        """Return the optimizer for the parameters of a model."""
        lr = self.lr
        if lr is None:
            # A rate that falls to 0 may start higher: measured on Fashion-MNIST with Adam, 0.002 is better than 0.001.
            lr = LEARNING_RATES[self.optimizer] * (1 if self.schedule == "constant" else 2)
        decay: dict[str, Any] = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        return optim.OPTIMIZERS[self.optimizer](model.parameters(), lr=lr, **decay)

    def fit(
        self,
        model: nn.Module,
        train: Dataset,
        validation: Dataset | None,
        loss: Loss,
        optimizer: Optimizer,
        folder: Path,
    ) -> tuple[History, float]:
        """Train a model, leave it in evaluation mode, and return its history and the seconds that all epochs took.

        The history goes to the folder of the run, where the training can be gone on with.
        """
        curves = folder / "history.csv"
        before = curves.read_bytes() if curves.is_file() else None
        started = time.perf_counter()
        history = training.fit(
            model,
            train,
            loss=loss,
            optimizer=optimizer,
            epochs=self.epochs,
            batch_size=self.batch_size,
            validation=validation,
            engine=self.engine,
            seed=self.seed,
            checkpoint=folder,
            progress=True,
            clip_norm=self.clip_norm,
            patience=self.patience,
            schedule=self.schedule,
        )
        seconds = time.perf_counter() - started
        if self.resume:  # the epochs before took their time too
            seconds = max(seconds, sum(row["seconds"] for row in history.rows))
        model.eval()
        files.write_text(curves, history.to_csv())
        if history.interrupted:
            click.echo(
                f"interrupted after {len(history)} epochs; what was learned is in {folder}. "
                f"To go on, give the same command with --out {shlex.quote(str(folder))} --resume",
                err=True,
            )
        elif curves.read_bytes() == before:
            why = f"--epochs {self.epochs} asks for no more" if len(history) >= self.epochs else "--patience ended it"
            there = counted(len(history), "epoch")
            click.echo(f"nothing was trained: the run in {folder} has {there}, and {why}", err=True)
        return history, seconds


def time_taken(history: History, seconds: float, rows: str, patience: int | None) -> str:
    """Say how long a training took, and, where patience chose it, of which epoch the weights are."""
    taken = f"{seconds:.1f} s for {counted(len(history), 'epoch')} of {rows}"
    best = best_epoch(history, patience)
    return taken if best is None else f"{taken}; the model is that of epoch {best}"


def best_epoch(history: History, patience: int | None) -> int | None:
    """Return the epoch whose weights the model has, or None where no patience chose it: then it is the last."""
    if patience is None or np.isnan(history.validation_loss).all():
        return None
    return int(np.nanargmin(history.validation_loss)) + 1


def remark_on_equal_answers(probabilities: npt.NDArray[Any], names: Sequence[str]) -> None:
    """Say so if training rows get about the same probabilities, of shape (rows, classes), whatever is in them.

    That all get one class is no failure by itself: where it is frequent, it may be the likeliest in each row. But a
    network that tells rows apart at all, however little it has learned, gives them other probabilities.
    """
    mean = probabilities.mean(axis=0)
    if np.allclose(probabilities, mean, rtol=0.01, atol=1e-6):
        click.echo(
            f"nothing was learned: all training rows get about the same answer, the class '{names[mean.argmax()]}'. "
            "Try a smaller --lr, or another --activation or --init",
            err=True,
        )


def some_rows(count: int) -> slice:
    """Return which of so many training rows are looked at for that: about a thousand, from all over."""
    return slice(None, None, max(1, count // 1000))


def perceptron(
    shape: tuple[int, ...], hidden: tuple[int, ...], outputs: int, activation: str, init: str, dropout: float
) -> nn.Sequential:
    """Return a multilayer perceptron for rows of `shape`."""
    layers: list[nn.Module] = [nn.Flatten()] if len(shape) > 1 else []
    size = int(np.prod(shape))
    for width in hidden:
        layers += [nn.Linear(size, width, weight_init=init), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        size = width
    return nn.Sequential(*layers, nn.Linear(size, outputs, weight_init=init))


@contextlib.contextmanager
def run_folder(out: Path | None, dataset: str, resume: bool) -> Iterator[Path]:
    """Give a folder for this run, which no other run has meanwhile: a new one, or the one that is gone on with."""
    folder = _new_folder(dataset) if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with files.claimed(folder):
            there = {path.name for path in folder.iterdir()} - {files.LOCK_FILE}
            if there and not resume:
                raise OptionError(
                    f"{folder} is not empty; add --resume to go on with the run in it, or choose another --out"
                )
            if there and CHECKPOINT_FILE not in there:
                raise OptionError(f"{folder} holds no run to go on with: {CHECKPOINT_FILE} is missing there")
            if resume and not there:
                click.echo(f"{folder} is empty, so there is nothing to go on with; this run starts anew", err=True)
            yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # if nothing came of it


def _new_folder(dataset: str) -> Path:
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    for count in itertools.count(1):
        folder = Path("runs") / (f"{dataset}-{stamp}" if count == 1 else f"{dataset}-{stamp}-{count}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("there is always another number")
