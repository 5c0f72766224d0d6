"""`nissl info`: what is in a model file."""

from __future__ import annotations

import click

from nissl import nn
from nissl.cli.model_files import model_argument, open_model
from nissl.cli.options import write_json


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
            }
        )
        return
    click.echo(nn.module.summary(saved.model))
    if saved.input_shape is not None:
        click.echo(f"takes rows of shape {saved.input_shape}")
    if saved.class_names:
        click.echo(f"classes: {', '.join(saved.class_names)}")
    if saved.data_set:
        click.echo(f"trained on {saved.data_set}")
