"""The documentation of the curriculum: `python -m nissl.experiments.pages FOLDER`.

Each page is made from the experiment's own file, and its pictures by running it, so that they cannot drift apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from nissl import files
from nissl.experiments.catalog import Experiment, catalog
from nissl.experiments.report import Report, picture_file, short

PAGE_DPI = 80  # enough for a page, and small enough to be kept with the code
BACK = "[All experiments](README.md)"


def page(experiment: Experiment, pictures: Sequence[str]) -> str:
    """Return the page of an experiment in Markdown, for pictures of these names."""
    images = [f"![{experiment.title}]({picture_file(experiment.name, name)})" for name in pictures]
    parts = [
        f"# {experiment.title}",
        experiment.idea,
        f"```console\n$ nissl run {experiment.name}\n```",
        "\n\n".join(images),
        f"**What to see.** {experiment.see}",
        f"**Try.** {experiment.suggestion}",
        "## The code",
        f"```python\n{experiment.source}```",
        BACK,
    ]
    return "\n\n".join(parts) + "\n"


def index() -> str:
    """Return the page that lists all experiments."""
    lines = [f"{i}. [{e.name}]({e.name}.md): {e.title}" for i, e in enumerate(catalog().values(), start=1)]
    what = (
        "Each is one short file that runs: `nissl run NAME`, or `nissl run all --out gallery`. These pages are made "
        "from the files by `python -m nissl.experiments.pages docs/learn`."
    )
    results = "What came out of all of them, beside what was expected: [results](results.md)."
    return "\n".join(["# How networks learn, in experiments", "", what, "", *lines, "", results]) + "\n"


def results(reports: Mapping[str, Report]) -> str:
    """Return the page of what came out, beside what was expected."""
    lines = ["# What came out", ""]
    for name, report in reports.items():
        lines += [f"## [{name}]({name}.md)", "", "| what | came out | expected | |", "| --- | --- | --- | --- |"]
        for row in report.rows:
            cells = (row.what, short(row.found), row.expected, row.verdict)
            lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Run all experiments; write their pages and pictures."""
    reports = {}
    for experiment in catalog().values():
        report = reports[experiment.name] = experiment.run()
        report.save_pictures(folder, experiment.name, PAGE_DPI)
        files.write_text(folder / f"{experiment.name}.md", page(experiment, list(report.pictures)))
    files.write_text(folder / "README.md", index())
    files.write_text(folder / "results.md", results(reports))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
