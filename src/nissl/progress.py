"""Progress reports of a training: a live line in a terminal or notebook, a line per epoch elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nissl import notebook
from nissl.errors import OptionError
from nissl.text import in_decimals, percent

Report = Callable[[Any], None]

SECONDS_BETWEEN_DRAWINGS = 0.1
LINES_IN_NOTEBOOK = 20


@contextlib.contextmanager
def reporter(progress: bool | str | None, epochs: int) -> Iterator[Report]:
    """Yield a function to call with each event of a training.

    `progress` is True, False, "lines", or None: a live line in a notebook or where standard error is a terminal, else
    nothing.
    """
    if progress is not None and progress != "lines" and not isinstance(progress, bool):
        raise OptionError(f'progress is True, False, None or "lines", got {progress!r}')
    in_notebook = notebook.is_notebook()
    live = in_notebook or (is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb")
    if progress is False or (progress is None and not live):
        yield lambda event: None
    elif progress == "lines" or not live:
        yield _print_line
    else:
        with _notebook_bar(epochs) if in_notebook else _live_line(epochs) as report:
            yield report


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal; a program may have none at all."""
    return stream is not None and stream.isatty()


def in_words(values: Mapping[str, float]) -> str:
    """Return metrics as a short text.

    >>> in_words({"loss": 0.25, "accuracy": 0.9, "seconds": 1.0})
    'loss 0.2500  accuracy 90.00 %'
    """
    shown = []
    for name, value in values.items():
        if name != "seconds":
            label = name.replace("_", " ")
            number = percent(value, 2) if "accuracy" in name else in_decimals(value)
            shown.append(f"{label} {number}")
    return "  ".join(shown)


def _is_epoch(event: Any) -> bool:
    return hasattr(event, "improved")


def epoch_line(event: Any) -> str:
    """Return the line that reports an epoch."""
    width = len(str(event.epochs))
    seconds = event.values.get("seconds", 0.0)
    return f"epoch {event.epoch:>{width}}/{event.epochs}  {in_words(event.values)}  {seconds:.1f} s"


def _print_line(event: Any) -> None:
    if _is_epoch(event):
        line = epoch_line(event)
        # The reader of the stream may be gone, or the disk full: no reason to end a training.
        with contextlib.suppress(OSError, AttributeError):
            print(line, file=sys.stderr, flush=True)  # noqa: T201


@contextlib.contextmanager
def _live_line(epochs: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[epoch]}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[values]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    to_terminal = is_terminal(sys.stdout)  # else a callback's output must go where it is redirected to, not to the bar
    with Progress(*columns, console=console, transient=True, auto_refresh=False, redirect_stdout=to_terminal) as bar:
        task = bar.add_task("", total=None, epoch="", values="", rate="")

        def draw(done: int, total: int, epoch: str, values: str, rate: str) -> None:
            bar.update(task, total=total, completed=done, epoch=epoch, values=values, rate=rate)
            bar.refresh()

        yield _paced(epochs, draw, lambda line: console.print(line, highlight=False))


@contextlib.contextmanager
def _notebook_bar(epochs: int) -> Iterator[Report]:
    move = notebook.bar()
    lines: list[str] = []

    def draw(done: int, total: int, epoch: str, values: str, rate: str) -> None:
        move(min(done / total, 0.999), f"{epoch}  {values}  {rate}", lines[-LINES_IN_NOTEBOOK:])

    try:
        yield _paced(epochs, draw, lines.append)
    finally:
        move(1, "", lines[-LINES_IN_NOTEBOOK:])


def _paced(epochs: int, draw: Callable[[int, int, str, str, str], None], say: Callable[[str], None]) -> Report:
    """Return a report that draws steps, at most 10 times a second, and prints about 100 epochs as lines."""
    drawn, started = 0.0, time.monotonic()
    examples = examples_before = 0

    def report(event: Any) -> None:
        nonlocal drawn, examples, examples_before
        if _is_epoch(event):
            if epochs <= 100 or event.epoch % (epochs // 100) == 0 or event.epoch == epochs:
                say(epoch_line(event))
            examples_before += examples
            return
        now = time.monotonic()
        examples = event.examples
        done, total = (event.epoch - 1) * event.steps + event.step, event.epochs * event.steps
        if now - drawn < SECONDS_BETWEEN_DRAWINGS and done < total:
            return
        drawn = now
        rate = (examples_before + examples) / max(now - started, 1e-9)
        epoch = f"epoch {event.epoch}/{event.epochs}"
        draw(done, total, epoch, in_words(event.values), f"{rate:,.0f} examples/s")

    return report
