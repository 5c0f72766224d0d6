"""Telling how far a training is: a live line on a terminal, a line an epoch elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nissl.errors import OptionError

Report = Callable[[Any], None]

SECONDS_BETWEEN_DRAWINGS = 0.1


@contextlib.contextmanager
def reporter(progress: bool | str | None, epochs: int) -> Iterator[Report]:
    """Give a function to call with each event of a training.

    `progress` is True, False, "lines", or None: a live line if standard error is a terminal, else nothing.
    """
    if progress not in (True, False, None, "lines"):
        raise OptionError(f'progress is True, False, None or "lines", got {progress!r}')
    live = is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
    if progress is False or (progress is None and not live):
        yield lambda event: None
    elif progress == "lines" or not live:
        yield _print_line
    else:
        with _live_line(epochs) as report:
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
            shown.append(f"{label} {value:.2%}".replace("%", " %") if "accuracy" in name else f"{label} {value:.4f}")
    return "  ".join(shown)


def _is_epoch(event: Any) -> bool:
    return hasattr(event, "improved")


def epoch_line(event: Any) -> str:
    """Return what is said of an epoch."""
    width = len(str(event.epochs))
    seconds = event.values.get("seconds", 0.0)
    return f"epoch {event.epoch:>{width}}/{event.epochs}  {in_words(event.values)}  {seconds:.1f} s"


def _print_line(event: Any) -> None:
    if _is_epoch(event):
        # Whoever should read this may be gone, or its disk full: no reason to end a training.
        with contextlib.suppress(OSError, AttributeError):
            print(epoch_line(event), file=sys.stderr, flush=True)  # noqa: T201


@contextlib.contextmanager
def _live_line(epochs: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[values]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    to_terminal = is_terminal(sys.stdout)  # else what a callback prints must go where it was sent, not through the bar
    with Progress(*columns, console=console, transient=True, auto_refresh=False, redirect_stdout=to_terminal) as bar:
        task = bar.add_task("", total=None, epoch=1, epochs=epochs, values="", rate="")
        drawn = 0.0
        started, examples_before = time.monotonic(), 0
        examples = 0

        def report(event: Any) -> None:
            nonlocal drawn, examples, examples_before
            now = time.monotonic()
            if _is_epoch(event):
                if epochs <= 100 or event.epoch % (epochs // 100) == 0 or event.epoch == epochs:
                    console.print(epoch_line(event), highlight=False)
                examples_before += examples
                return
            examples = event.examples
            done = (event.epoch - 1) * event.steps + event.step
            if now - drawn < SECONDS_BETWEEN_DRAWINGS and done < event.epochs * event.steps:
                return
            drawn = now
            rate = (examples_before + examples) / max(now - started, 1e-9)
            bar.update(
                task,
                total=event.epochs * event.steps,
                completed=done,
                epoch=event.epoch,
                values=in_words(event.values),
                rate=f"{rate:,.0f} examples/s",
            )
            bar.refresh()

        yield report
