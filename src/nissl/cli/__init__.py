"""The command line: `nissl run | train | evaluate | predict | export | info | list`.

Results go to standard output, progress and errors to standard error. A user's mistake is one line and exit status 1, or
2 for wrong usage; an interrupted training ends with 130. Each command is a file that is imported when it is called, so
that `nissl --help` is there at once.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from nissl.errors import NisslError, unknown_name
from nissl.text import printable
from nissl.version import __version__

# What each command does. It is the `command` of the module of that name, as in `run_command`.
COMMANDS = {
    "run": "Run an experiment of the curriculum, or all of them.",
    "train": "Train a network on a data set or a table.",
    "evaluate": "Evaluate a model on a data set or a table.",
    "predict": "Predict for the rows of a file, or for a picture.",
    "export": "Export a model to ONNX.",
    "info": "Show a model's layers and parameters.",
    "list": "List the data sets or the experiments.",
}

INTERRUPTED = 130


class _Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"nissl.cli.{name}_command")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            context.fail(str(unknown_name("command", arguments[0], COMMANDS)))
        return super().resolve_command(context, arguments)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nissl")
def commands() -> None:
    """Neural networks from first principles: train one, look inside, use it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    # Pictures are written to files; matplotlib would fail over the name of a display that it does not know.
    os.environ.pop("MPLBACKEND", None)
    warnings.showwarning = _show_warning
    sys.exit(run(arguments))


def _show_warning(message: Warning | str, *place: Any, **options: Any) -> None:
    """Show what a warning says, without the line of our source that it comes from."""
    _say(f"Warning: {message}")


def _say(text: str) -> None:
    """Write to standard error; what text from a file holds that would steer a terminal is replaced."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=True)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a letter that the terminal's encoding lacks is no reason to fail
            stream.reconfigure(errors="replace")
    try:
        status = commands.main(arguments, prog_name="nissl", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except NisslError as error:
        _say(f"Error: {error}")
        return 1
    except MemoryError as error:
        click.echo(f"Error: not enough memory: {error or 'choose a smaller network, batch or data set'}", err=True)
        return 1
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does. Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _say(f"Error: {place}{error.strerror or error}")
        return 1
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    return status if isinstance(status, int) else 0
