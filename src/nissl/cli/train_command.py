"""`nissl train`: train a multilayer perceptron on a data set or a table, and leave a folder with all that came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy.typing as npt

from nissl import evaluation, functional, nn, optim, plots, random, storage
from nissl.cli import INTERRUPTED
from nissl.cli.options import DataSetOrTable, Name, Number, Sizes, class_table, write_json
from nissl.cli.train_run import (
    MODEL_FILE,
    Settings,
    best_epoch,
    perceptron,
    remark_on_equal_answers,
    run_folder,
    some_rows,
    time_taken,
)
from nissl.data import Dataset, datasets
from nissl.nn.activations import ACTIVATIONS
from nissl.nn.init import INITIALIZERS
from nissl.tables.columns import TASKS
from nissl.tensor import Tensor
from nissl.text import in_decimals, percent
from nissl.traced import ENGINES


@dataclass(frozen=True)
class Recipe:
    """What `nissl train` does with a data set unless told otherwise."""

    hidden: tuple[int, ...] = (128,)
    epochs: int = 5


RECIPES = {"digits": Recipe(epochs=60), "mnist": Recipe(), "fashion-mnist": Recipe()}
TOY_RECIPE = Recipe(hidden=(32, 32), epochs=100)


@click.command("train")
@click.argument("dataset", type=DataSetOrTable(datasets.names()), default="digits", metavar="[DATASET|TABLE]")
@click.option("--target", help="Column of a TABLE to predict; a table needs it.")
@click.option("--task", type=Name("task", TASKS), help="What the target of a TABLE is, if its values do not tell.")
@click.option("--number", multiple=True, metavar="COLUMN", help="Treat COLUMN as numbers (repeatable).")
@click.option("--category", multiple=True, metavar="COLUMN", help="Treat COLUMN as categories (repeatable).")
@click.option("--drop", multiple=True, metavar="COLUMN", help="Leave COLUMN out (repeatable).")
@click.option(
    "--test-fraction",
    type=Number(0, 1, min_open=True, max_open=True),
    help="Share of the rows of a TABLE kept for the test; 0.2 by default.",
)
@click.option("--hidden", type=Sizes(), help="Sizes of the hidden layers, as in 128,64; 0 for none.")
@click.option(
    "--activation",
    type=Name("activation", ACTIVATIONS),
    default="relu",
    show_default=True,
    help="Of the hidden layers.",
)
@click.option(
    "--init",
    type=Name("initializer", ["he", "xavier", "lecun", *INITIALIZERS]),
    default="he",
    show_default=True,
    help="How weights start.",
)
@click.option(
    "--optimizer",
    type=Name("optimizer", optim.OPTIMIZERS),
    default="adam",
    show_default=True,
    help="How weights are updated.",
)
@click.option("--lr", type=Number(min=0, min_open=True), help="Learning rate at the start.")
@click.option(
    "--schedule",
    type=Name("schedule", optim.schedules.NAMED),
    default="cosine",
    show_default=True,
    help="How the learning rate goes down.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training data.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Examples a step; 32, more for large tables.")
@click.option(
    "--dropout",
    type=Number(0, 1, max_open=True),
    help="Share of hidden units left out in each step; 0.2 for a TABLE, else 0 by default.",
)
@click.option("--weight-decay", type=Number(min=0), help="Factor of the pull of weights towards 0.")
@click.option(
    "--validation-fraction",
    type=Number(0, 1, min_open=False, max_open=True),
    help="Share of the training data kept for validation; 0.1 with --patience, 0.2 for a TABLE, else 0 by default.",
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    help="Stop after this many epochs without a better one; by default a tenth of all for a TABLE.",
)
@click.option("--clip-norm", type=Number(min=0, min_open=True), help="Largest norm of the gradient.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Fixes all random numbers.")
@click.option("--engine", type=Name("engine", ENGINES), default="native", show_default=True, help="What computes.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
@click.option("--resume", is_flag=True, help="Resume the run in --out where it stopped.")
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(
    dataset: str | Path,
    target: str | None,
    task: str | None,
    number: tuple[str, ...],
    category: tuple[str, ...],
    drop: tuple[str, ...],
    test_fraction: float | None,
    **options: Any,
) -> int:
    """Train a network on DATASET: the digits that scikit-learn carries, unless another is named.

    Or on TABLE, a file of comma-separated values (.csv, .tsv, .txt, .gz) of which --target is the column to predict.

    Prints accuracies, time and a table of the classes, and leaves the model, its history and pictures in a folder.
    """
    if options["resume"] and options["out"] is None:
        raise click.UsageError("--resume needs --out, the folder of the run to go on with")
    if options["patience"] and options["validation_fraction"] == 0:
        raise click.UsageError("--patience looks at validation data; give --validation-fraction too")
    of_tables = {"target": target, "task": task, "number": number, "category": category, "drop": drop}
    if isinstance(dataset, Path):
        from nissl.cli import train_table

        return train_table.run(dataset, of_tables, 0.2 if test_fraction is None else test_fraction, options)
    given = [name for name, value in (of_tables | {"test-fraction": test_fraction}).items() if value not in (None, ())]
    if given:
        raise click.UsageError(f"--{given[0]} is for tables, such as a file data.csv; {dataset} is a data set")
    return train_dataset(dataset, options)


def train_dataset(dataset: str, options: dict[str, Any]) -> int:
    """Train on a data set that nissl knows."""
    recipe = RECIPES.get(dataset, TOY_RECIPE)
    defaults = {
        "hidden": recipe.hidden,
        "epochs": recipe.epochs,
        "batch_size": 32,
        "dropout": 0.0,
        "validation_fraction": 0.1 if options["patience"] else 0.0,
    }
    settings = Settings.of(options, defaults)
    train, test = datasets.load(dataset)
    random.manual_seed(settings.seed)
    validation = None
    if settings.validation_fraction:
        train, validation = train.split(settings.validation_fraction, settings.seed)
    model = perceptron(
        train.x.shape[1:],
        settings.hidden,
        len(test.class_names or ()),
        settings.activation,
        settings.init,
        settings.dropout,
    )
    rule = settings.make_optimizer(model)
    with run_folder(settings.out, dataset, settings.resume) as folder:
        history, seconds = settings.fit(model, train, validation, nn.cross_entropy, rule, folder)
        notes = {
            "data set": dataset,
            "class names": list(test.class_names or ()),
            "input shape": list(train.x.shape[1:]),
            "loss": "cross_entropy",
        }
        storage.save(model, folder / MODEL_FILE, optimizer=rule, notes=notes)
        if history.interrupted:
            return INTERRUPTED
        report(dataset, model, history, train, test, seconds, folder, settings)
    return 0


def report(
    dataset: str,
    model: nn.Module,
    history: evaluation.History,
    train: Dataset,
    test: Dataset,
    seconds: float,
    folder: Path,
    settings: Settings,
) -> None:
    """Draw the pictures and say how good the model is."""
    on_train = evaluation.evaluate(model, train, loss=nn.cross_entropy)
    on_test = evaluation.evaluate(model, test, loss=nn.cross_entropy)
    matrix = on_test.confusion_matrix
    assert matrix is not None
    names = list(test.class_names or map(str, range(len(matrix))))
    remark_on_equal_answers(probabilities(model, train.x[some_rows(len(train))]), names)
    title = f"Learning curves: {dataset}"
    plots.save(plots.learning_curves(history, title=title), folder / "learning-curves.png")
    plots.save(plots.confusion_matrix(matrix, names), folder / "confusion-matrix.png")
    pictures = ["learning-curves.png", "confusion-matrix.png"]
    if test.x.ndim == 3:
        plots.save(draw_mistakes(model, test, names), folder / "mistakes.png")
        pictures.append("mistakes.png")
    if settings.as_json:
        write_json(
            {
                "test_accuracy": on_test.accuracy,
                "train_accuracy": on_train.accuracy,
                "seconds": seconds,
                "epochs": len(history),
                "model_epoch": best_epoch(history, settings.patience) or len(history),
                "run": str(folder),
            }
        )
        return
    for what, found in {"test accuracy": on_test, "train accuracy": on_train}.items():
        assert found.accuracy is not None
        click.echo(f"{what:16}{percent(found.accuracy, 2)}   loss {in_decimals(found.loss)}")
    click.echo(f"time            {time_taken(history, seconds, f'{len(train):,} examples', settings.patience)}\n")
    click.echo(class_table(matrix, names))
    click.echo(f"\n{folder}: {MODEL_FILE}, history.csv, {', '.join(pictures)}")


def draw_mistakes(model: nn.Module, test: Dataset, names: list[str]) -> Any:
    """Return the picture of the wrong answers that the model was surest of."""
    found = probabilities(model, test.x)
    predicted = [names[i] for i in found.argmax(axis=1)]
    return plots.mistakes(test.x, [names[i] for i in test.y], predicted, found.max(axis=1))


def probabilities(model: nn.Module, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the probabilities of the classes for rows, of shape (rows, classes)."""
    return functional.softmax(Tensor(evaluation.predict(model, x))).numpy()
