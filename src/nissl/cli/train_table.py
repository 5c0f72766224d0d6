"""`nissl train TABLE --target COLUMN`: what is in the table, a network for it, and how good it is on rows held out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from nissl import nn, plots, random, tables
from nissl.cli import INTERRUPTED
from nissl.cli.options import class_table, write_json
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
from nissl.errors import DataError
from nissl.evaluation import History
from nissl.tables.guessing import TableError
from nissl.tables.model import METRIC_NAMES
from nissl.tables.reading import find_layout
from nissl.text import printable, some

# Measured on five small tables (iris, wine, breast cancer, diabetes, passengers), mean of three seeds: with dropout the
# log loss on rows held out is a third lower on two, and the same or a little lower on the others; R² is the same.
HIDDEN = (64, 64)
DROPOUT = 0.2
VALIDATION_FRACTION = 0.2
MOST_EPOCHS = 200
MOST_EXAMPLES = 10_000_000  # seen in all epochs
# Of a small table an epoch is a few steps: with fewer than these, measured on the same tables, iris and wine are told
# apart a little worse.
LEAST_STEPS = 2_000
FEW_ROWS = 50
NAMED = 5  # of the columns, in the text; the picture has more


def run(path: Path, of_table: Mapping[str, Any], test_fraction: float, options: Mapping[str, Any]) -> int:
    """Train on the rows of a file, and leave a folder with the model and how good it is."""
    if of_table["target"] is None:
        names = find_layout(path).names
        raise click.UsageError(f"a table needs --target, the column to predict; {path.name} has {some(names, 20)}")
    try:
        table = tables.read(path, **of_table)
    except TableError as error:
        raise DataError(error.said(as_options)) from None
    rest, test = table.split(test_fraction, int(options["seed"]))
    settings = Settings.of(options, defaults(options, len(rest)))
    train, validation = rest, None
    if settings.validation_fraction:
        train, validation = rest.split(settings.validation_fraction, settings.seed)
    if not settings.as_json:
        click.echo(f"{table}\n\n{parts(train, validation, test)}\n")
    random.manual_seed(settings.seed)
    prepare = tables.Preprocessor.fit(train)
    network = perceptron(
        (prepare.width,), settings.hidden, prepare.outputs, settings.activation, settings.init, settings.dropout
    )
    model = tables.TableModel(network, prepare)
    rule = settings.make_optimizer(network)
    classes = table.target.task == "classification"
    with run_folder(settings.out, path.name.split(".")[0], settings.resume) as folder:
        history, seconds = settings.fit(
            network,
            prepare.dataset(train),
            None if validation is None else prepare.dataset(validation),
            nn.cross_entropy if classes else nn.mse_loss,
            rule,
            folder,
        )
        model.save(folder / MODEL_FILE, optimizer=rule, notes={"data set": path.name})
        if history.interrupted:
            return INTERRUPTED
        report(model, history, train, test, seconds, folder, settings)
    return 0


def as_options(name: str, value: str | list[str]) -> str:
    """Return an argument of `tables.read` as options of the command.

    >>> as_options("drop", ["name", "born in"])
    "--drop name --drop 'born in'"
    """
    return " ".join(f"--{name} {shlex.quote(each)}" for each in ([value] if isinstance(value, str) else value))


def defaults(options: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return what stands for options that are not given, for a table that has so many rows to train on."""
    fraction = VALIDATION_FRACTION if options["validation_fraction"] is None else options["validation_fraction"]
    batch = 32 if rows < 20_000 else 128 if rows < 200_000 else 256
    epochs = max(min(MOST_EPOCHS, max(10, MOST_EXAMPLES // rows)), LEAST_STEPS * batch // rows)
    return {
        "hidden": HIDDEN,
        "dropout": DROPOUT,
        "epochs": epochs,
        "batch_size": batch,
        "validation_fraction": fraction,
        "patience": max(epochs // 10, 3) if fraction else None,
    }


def parts(train: tables.Table, validation: tables.Table | None, test: tables.Table) -> str:
    """Say how many rows each part has."""
    said = f"{len(train):,} rows to train on"
    if validation is not None:
        said += f", {len(validation):,} to tell when to stop"
    said += f", {len(test):,} for the test"
    if len(train) < FEW_ROWS:
        said += "; so few that the numbers below say little"
    return said


def report(
    model: tables.TableModel,
    history: History,
    train: tables.Table,
    test: tables.Table,
    seconds: float,
    folder: Path,
    settings: Settings,
) -> None:
    """Draw the pictures and say how good the model is."""
    on_train, on_test = model.evaluate(train), model.evaluate(test)
    classes = list(map(printable, model.target.classes))
    if classes:
        remark_on_equal_answers(model.predict_proba(train.frame[some_rows(len(train))]), classes)
    importances = model.importances(test, seed=settings.seed)
    pictures = draw(model, history, on_test, importances, test.name, folder)
    main = "accuracy" if model.target.task == "classification" else "r2"
    if settings.as_json:
        write_json(
            {
                f"test_{main}": on_test.metrics[main],
                f"train_{main}": on_train.metrics[main],
                "seconds": seconds,
                "epochs": len(history),
                "model_epoch": best_epoch(history, settings.patience) or len(history),
                "run": str(folder),
                "task": model.target.task,
                "test": dict(on_test.metrics),
                "baseline": dict(on_test.baseline),
                "importances": {name: mean for name, (mean, _) in importances.items()},
            }
        )
        return
    guess = "the most frequent class" if main == "accuracy" else "the mean"
    click.echo(f"on the {on_test.rows:,} rows of the test, beside {guess} as the answer to all:\n{on_test}\n")
    click.echo(f"on training rows  {METRIC_NAMES[main]} {tables.in_figures(main, on_train.metrics[main])}")
    click.echo(f"time              {time_taken(history, seconds, f'{len(train):,} rows', settings.patience)}")
    largest = sorted(importances.items(), key=lambda one: -one[1][0])[:NAMED]
    named = ", ".join(f"{printable(name)} {mean:.3f}" for name, (mean, _) in largest)
    most = tables.model.ROWS_OF_IMPORTANCE
    where = f", on {most:,} of these rows" if on_test.rows > most else ""
    click.echo(f"{METRIC_NAMES[main]} lost when a column is shuffled{where}: {named}")
    if on_test.confusion_matrix is not None:
        click.echo(f"\n{class_table(on_test.confusion_matrix, classes)}")
    click.echo(f"\n{folder}: {MODEL_FILE}, history.csv, {', '.join(pictures)}")


def draw(
    model: tables.TableModel,
    history: History,
    on_test: tables.TableEvaluation,
    importances: Mapping[str, tuple[float, float]],
    name: str,
    folder: Path,
) -> list[str]:
    """Draw the pictures of a run into its folder, and return their names."""
    means, errors = zip(*importances.values(), strict=True)
    classes = on_test.confusion_matrix is not None
    label = f"{'accuracy' if classes else 'R²'} lost when the column is shuffled"
    title = f"What {model.target.name} is told from"
    figures = {
        "learning-curves.png": plots.learning_curves(history, title=f"Learning curves: {name}"),
        "importances.png": plots.importances(list(importances), means, errors, label=label, title=title),
    }
    if on_test.confusion_matrix is not None:
        figures["confusion-matrix.png"] = plots.confusion_matrix(on_test.confusion_matrix, model.target.classes)
    else:
        figures["predictions.png"] = plots.predictions(on_test.true, on_test.predicted, label=model.target.name)
    for file, figure in figures.items():
        plots.save(figure, folder / file)
    return list(figures)
