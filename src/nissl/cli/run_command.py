"""`nissl run`: an experiment of the curriculum, its numbers and its pictures; or all of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click

from nissl.cli.options import write_json
from nissl.errors import unknown_name
from nissl.experiments.catalog import Experiment, catalog, find
from nissl.experiments.report import Report, short
from nissl.text import table

WIDTH = 88  # of running text


class _Experiments(click.Group):
    """A command for each experiment, with the options that it declares, and `all`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*catalog(), "all"]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name == "all":
            return click.Command("all", callback=_run_all, params=_common(), help="Run all experiments, in order.")
        return _command(find(name)) if name in catalog() else None

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0] if arguments else ""
        if name and not name.startswith("-") and name not in self.list_commands(context):
            context.fail(str(unknown_name("experiment", name, self.list_commands(context))))
        return super().resolve_command(context, arguments)


def _common() -> list[click.Parameter]:
    return [
        click.Option(["--out"], type=click.Path(file_okay=False, path_type=Path), default=Path("gallery"),
                     show_default=True, help="Folder for the pictures."),
        click.Option(["--json", "as_json"], is_flag=True, help="Write the results as one JSON object."),
    ]  # fmt: skip


def _command(experiment: Experiment) -> click.Command:
    options = [
        click.Option(
            [f"--{argument.name.replace('_', '-')}"],
            type=argument.kind,
            default=argument.default,
            show_default=True,
            help=f"{argument.option.help[:1].upper()}{argument.option.help[1:]}, {argument.option.range}.",
        )
        for argument in experiment.arguments.values()
    ]

    def callback(out: Path, as_json: bool, **chosen: Any) -> None:
        with _folder(out):
            document = _run(experiment, out, chosen, quiet=as_json)
        if as_json:
            write_json(document)

    text = f"{experiment.title}.\n\n{experiment.see}"
    return click.Command(
        experiment.name,
        callback=callback,
        params=[*options, *_common()],
        help=text,
        short_help=f"{experiment.title}.",  # or else click cuts it to a line
    )


def _run_all(out: Path, as_json: bool) -> None:
    documents = []
    try:
        with _folder(out), _drawing_beside() as save:
            for experiment in catalog().values():
                documents.append(_run(experiment, out, {}, quiet=as_json, save=save))
                if not as_json:
                    click.echo()
    finally:  # if one fails, what came out of those before is not lost
        if as_json and documents:
            write_json({"experiments": documents})


Save = Callable[[Report, Path, str], object]


@contextlib.contextmanager
def _drawing_beside() -> Iterator[Save]:
    """Let another process save pictures, a fifth of all the work, while the next experiment runs; wait for the last."""
    spawn = multiprocessing.get_context("spawn")  # the only kind that every system has
    ignore = signal.SIGINT, signal.SIG_IGN  # Ctrl-C is for this process
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=signal.signal, initargs=ignore) as pool:
        pictures: list[Future[object]] = []
        try:
            yield lambda *arguments: pictures.append(pool.submit(Report.save_pictures, *arguments))
            for picture in pictures:
                picture.result()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Make a folder and see that it can be written to, before the work; take it away again if nothing came into it."""
    new = [folder for folder in (path, *path.parents) if not os.path.exists(folder)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        try:
            tempfile.TemporaryFile(dir=path).close()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
        yield
    finally:
        for folder in new:  # asked by os.path, for which a name that is too long is no error
            if os.path.isdir(folder) and not any(folder.iterdir()):
                folder.rmdir()


def _run(
    experiment: Experiment, out: Path, options: dict[str, Any], quiet: bool, save: Save = Report.save_pictures
) -> dict[str, Any]:
    """Run an experiment, save its pictures, say what came out; return that as a document."""
    if not quiet:
        click.echo(click.style(experiment.title, bold=True))
    start = time.perf_counter()
    report = experiment.run(options)
    seconds = time.perf_counter() - start
    save(report, out, experiment.name)
    paths = report.paths(out, experiment.name)
    if not quiet:
        chosen = any(experiment.arguments[name].default != value for name, value in options.items())
        click.echo(_table(report, "expected with the defaults" if chosen else "expected"))
        click.echo()
        click.echo(click.wrap_text(" ".join(experiment.see.split()), WIDTH))
        for path in paths:
            click.echo(f"picture: {path}")
    return {
        "name": experiment.name,
        "options": options,
        "seconds": round(seconds, 3),
        "results": [{"what": r.what, "found": r.found, "expected": r.expected, "holds": r.holds} for r in report.rows],
        "pictures": [str(path) for path in paths],
    }


def _table(report: Report, expected: str) -> str:
    rows = [("what", "came out", expected, "")]
    rows += [(row.what, short(row.found), row.expected, row.verdict) for row in report.rows]
    return table(rows)


command = _Experiments("run", help="Run an experiment of the curriculum, or all of them.")
