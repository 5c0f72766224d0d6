"""`nissl train`: train a multilayer perceptron on a data set, and leave a folder with all that came out."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from nissl import files, nn, optim, plots, random, storage, training
from nissl.cli.options import Name, Number, Sizes, table, write_json
from nissl.compiler import ENGINES
from nissl.data import Dataset, datasets, split
from nissl.errors import OptionError
from nissl.nn.activations import ACTIVATIONS
from nissl.nn.init import INITIALIZERS

MODEL_FILE = "model.safetensors"
INTERRUPTED = 130


@dataclass(frozen=True)
class Recipe:
    """What `nissl train` does with a data set unless told otherwise."""

    hidden: tuple[int, ...] = (128,)
    epochs: int = 5


RECIPES = {"digits": Recipe(epochs=60), "mnist": Recipe(), "fashion-mnist": Recipe()}
TOY_RECIPE = Recipe(hidden=(32, 32), epochs=100)

LEARNING_RATES = {"sgd": 0.1, "adagrad": 0.02, "rmsprop": 1e-3, "adam": 1e-3, "adamw": 1e-3}


@click.command("train")
@click.argument("dataset", type=Name("data set", datasets.names()), default="digits", metavar="[DATASET]")
@click.option("--hidden", type=Sizes(), help="Sizes of the hidden layers, as in 128,64; 0 for none.")
@click.option("--activation", type=Name("activation", ACTIVATIONS), default="relu", show_default=True)
@click.option(
    "--init",
    type=Name("initializer", ["he", "xavier", "lecun", *INITIALIZERS]),
    default="he",
    show_default=True,
    help="How weights start.",
)
@click.option("--optimizer", type=Name("optimizer", optim.OPTIMIZERS), default="adam", show_default=True)
@click.option("--lr", type=Number(min=0, min_open=True), help="Learning rate at the start.")
@click.option("--schedule", type=Name("schedule", optim.schedules.NAMED), default="cosine", show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), help="Times through the training data.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option(
    "--dropout",
    type=Number(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of hidden units left out in each step.",
)
@click.option("--weight-decay", type=Number(min=0))
@click.option(
    "--validation-fraction",
    type=Number(0, 1, min_open=False, max_open=True),
    help="Share of the training data kept for validation; 0.1 with --patience, else 0 by default.",
)
@click.option("--patience", type=click.IntRange(min=1), help="Stop after so many epochs without a better one.")
@click.option("--clip-norm", type=Number(min=0, min_open=True), help="Largest norm of the gradient.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--engine", type=Name("engine", ENGINES), default="native", show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for what comes out.")
@click.option("--resume", is_flag=True, help="Go on where the run in --out was ended.")
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(
    dataset: str,
    hidden: tuple[int, ...] | None,
    activation: str,
    init: str,
    optimizer: str,
    lr: float | None,
    schedule: str,
    epochs: int | None,
    batch_size: int,
    dropout: float,
    weight_decay: float | None,
    validation_fraction: float | None,
    patience: int | None,
    clip_norm: float | None,
    seed: int,
    engine: str,
    out: Path | None,
    resume: bool,
    as_json: bool,
) -> int:
    """Train a network on DATASET: the digits that scikit-learn carries, unless another is named.

    Prints accuracies, time and a table of the classes, and leaves the model, its history and pictures in a folder.
    """
    if resume and out is None:
        raise click.UsageError("--resume needs --out, the folder of the run to go on with")
    recipe = RECIPES.get(dataset, TOY_RECIPE)
    hidden = recipe.hidden if hidden is None else hidden
    if lr is None:
        # A rate that falls to 0 may start higher: measured on Fashion-MNIST with Adam, 0.002 is better than 0.001.
        lr = LEARNING_RATES[optimizer] * (1 if schedule == "constant" else 2)
    if validation_fraction is None:
        validation_fraction = 0.1 if patience else 0.0
    if patience and validation_fraction == 0:
        raise click.UsageError("--patience looks at validation data; give --validation-fraction too")

    train, test = datasets.load(dataset)
    random.manual_seed(seed)
    validation = None
    if validation_fraction:
        train, validation = split(train, validation_fraction, seed)
    model = perceptron(train.x.shape[1:], hidden, len(test.class_names or ()), activation, init, dropout)
    decay: dict[str, Any] = {} if weight_decay is None else {"weight_decay": weight_decay}
    rule = optim.OPTIMIZERS[optimizer](model.parameters(), lr=lr, **decay)
    with run_folder(out, dataset, resume) as folder:
        started = time.perf_counter()
        history = training.fit(
            model,
            train,
            loss=nn.cross_entropy,
            optimizer=rule,
            epochs=recipe.epochs if epochs is None else epochs,
            batch_size=batch_size,
            validation=validation,
            engine=engine,
            seed=seed,
            checkpoint=folder,
            progress=True,
            clip_norm=clip_norm,
            patience=patience,
            schedule=schedule,
        )
        seconds = time.perf_counter() - started
        model.eval()
        notes = {
            "data set": dataset,
            "class names": list(test.class_names or ()),
            "input shape": list(train.x.shape[1:]),
            "loss": "cross_entropy",
        }
        storage.save(model, folder / MODEL_FILE, optimizer=rule, notes=notes)
        files.write_text(folder / "history.csv", history.to_csv())
        if history.interrupted:
            click.echo(
                f"interrupted after {len(history)} epochs; what was learned is in {folder}. "
                "To go on, give the same command with --out and --resume",
                err=True,
            )
            return INTERRUPTED
        report(dataset, model, history, train, test, seconds, folder, as_json)
    return 0


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
            if there and training.CHECKPOINT_FILE not in there:
                raise OptionError(f"{folder} holds no run to go on with: {training.CHECKPOINT_FILE} is missing there")
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


def perceptron(
    shape: tuple[int, ...], hidden: tuple[int, ...], classes: int, activation: str, init: str, dropout: float
) -> nn.Sequential:
    """Return a multilayer perceptron for rows of `shape`."""
    layers: list[nn.Module] = [nn.Flatten()] if len(shape) > 1 else []
    size = int(np.prod(shape))
    for width in hidden:
        layers += [nn.Linear(size, width, weight_init=init), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        size = width
    return nn.Sequential(*layers, nn.Linear(size, classes, weight_init=init))


def report(
    dataset: str,
    model: nn.Module,
    history: training.History,
    train: Dataset,
    test: Dataset,
    seconds: float,
    folder: Path,
    as_json: bool,
) -> None:
    """Draw the pictures and say how good the model is."""
    on_train = training.evaluate(model, train, loss=nn.cross_entropy)
    on_test = training.evaluate(model, test, loss=nn.cross_entropy)
    matrix = on_test.confusion_matrix
    assert matrix is not None
    names = list(test.class_names or map(str, range(len(matrix))))
    title = f"Learning curves: {dataset}"
    plots.save(plots.learning_curves(curves_to_draw(history), title=title), folder / "learning-curves.png")
    plots.save(plots.confusion_matrix(matrix, names), folder / "confusion-matrix.png")
    pictures = ["learning-curves.png", "confusion-matrix.png"]
    if test.x.ndim == 3:
        plots.save(draw_mistakes(model, test, names), folder / "mistakes.png")
        pictures.append("mistakes.png")
    if as_json:
        write_json(
            {
                "test_accuracy": on_test.accuracy,
                "train_accuracy": on_train.accuracy,
                "seconds": seconds,
                "epochs": len(history),
                "run": str(folder),
            }
        )
        return
    click.echo(f"test accuracy   {on_test.accuracy:.2%}   loss {on_test.loss:.4f}")
    click.echo(f"train accuracy  {on_train.accuracy:.2%}   loss {on_train.loss:.4f}")
    click.echo(f"time            {seconds:.1f} s for {len(history)} epochs of {len(train):,} examples\n")
    click.echo(class_table(matrix, names))
    click.echo(f"\n{folder}: {MODEL_FILE}, history.csv, {', '.join(pictures)}")


def curves_to_draw(history: training.History) -> dict[str, Any]:
    """Return the curves that belong in the picture."""
    return {name: curve for name, curve in history.curves.items() if name != "seconds"}


def class_table(matrix: Any, names: list[str]) -> str:
    """Return a table of precision and recall of each class, from a confusion matrix."""
    rows: list[tuple[str, ...]] = [("class", "examples", "recall", "precision", "most often taken for")]
    for i, name in enumerate(names):
        count, claimed, right = matrix[i].sum(), matrix[:, i].sum(), matrix[i, i]
        wrong = matrix[i].copy()
        wrong[i] = 0
        confused = f"{names[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
        recall = f"{right / count:.1%}" if count else "-"
        precision = f"{right / claimed:.1%}" if claimed else "-"
        rows.append((name, str(count), recall, precision, confused))
    return table(rows, right="lrrrl")


def draw_mistakes(model: nn.Module, test: Dataset, names: list[str]) -> Any:
    """Return the picture of the wrong answers that the model was surest of."""
    logits = training.predict(model, test.x)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    predicted = [names[i] for i in probabilities.argmax(axis=1)]
    return plots.mistakes(test.x, [names[i] for i in test.y], predicted, probabilities.max(axis=1))
