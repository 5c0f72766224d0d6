"""`nissl info`: what is in a model file."""

from __future__ import annotations

from typing import Any

import click

from nissl.cli.model_files import model_argument, open_model
from nissl.cli.options import write_json
from nissl.tables import TableModel
from nissl.text import printable, table


@click.command("info")
@model_argument
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(model: str, as_json: bool) -> None:
    """Show the layers of MODEL, their shapes and how many parameters they have."""
    saved = open_model(model)
    parameters = saved.model.named_parameters()
    if as_json:
        write_json(
            {
                "architecture": repr(saved.model),
                "parameters": sum(p.size for p in parameters.values()),
                "shapes": {path: list(p.shape) for path, p in parameters.items()},
                "input_shape": saved.input_shape,
                "class_names": saved.class_names,
                "data_set": saved.data_set,
                **({} if saved.table is None else {"table": describe(saved.table)}),
            }
        )
        return
    click.echo(saved.model.summary())
    if saved.table is not None:
        show_columns(saved.table)
    elif saved.input_shape is not None:
        click.echo(f"takes rows of shape {saved.input_shape}")
    if saved.class_names:
        click.echo(f"classes: {', '.join(saved.class_names)}")
    if saved.data_set:
        click.echo(f"trained on {saved.data_set}")


def describe(model: TableModel) -> dict[str, Any]:
    """Return what a model of a table takes and predicts."""
    columns = {column.name: column.kind for column in model.preprocessor.columns}
    return {"target": model.target.name, "task": model.target.task, "columns": columns}


def show_columns(model: TableModel) -> None:
    """Print what a model of a table takes and predicts."""
    prepare = model.preprocessor
    rows = [("column", "kind", "features")]
    rows += [(printable(c.name), c.kind, str(len(prepare.places(c)))) for c in prepare.columns]
    click.echo(f"{table(rows, right='llr')}\npredicts '{printable(model.target.name)}': {model.target.task}")
