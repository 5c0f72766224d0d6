"""The curriculum as a whole: every experiment is told, found and run alike, and its page is made from it."""

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nissl as ns
from nissl import cli, experiments, nn, plots
from nissl.errors import OptionError
from nissl.experiments.catalog import catalog, find
from nissl.experiments.pages import index, page
from nissl.experiments.report import Option, Report

LEARN = Path(__file__).parent.parent / "docs" / "learn"
EXPERIMENTS = list(catalog().values())
each_experiment = pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)


def test_the_curriculum_is_whole_and_in_order():
    names = "gates activations forward softmax losses gradients descent graph backprop xor vanishing init optimizers"
    assert " ".join(catalog()) == f"{names} overfitting batchnorm fashion hyperparameters"
    assert [experiment.module.CHAPTER for experiment in EXPERIMENTS] == list(range(1, len(EXPERIMENTS) + 1))


@each_experiment
def test_an_experiment_says_what_it_is_what_to_see_and_what_to_try(experiment):
    assert ": " in experiment.title
    for part in (experiment.idea, experiment.see, experiment.suggestion):
        assert len(part) > 60
    assert "    " in experiment.idea, "the formula"
    assert f"nissl run {experiment.name}" in experiment.suggestion
    assert len(experiment.source.splitlines()) < 200
    for argument in experiment.arguments.values():
        assert argument.kind in (int, float)
        argument.option.check(argument.name, argument.default)
        assert argument.option.range != "any number"


@each_experiment
def test_an_experiment_uses_the_public_library_alone(experiment):
    for node in ast.walk(ast.parse(Path(experiment.module.__file__).read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) else []
        for module in modules:
            public = module in ("nissl", "numpy", "nissl.experiments.report")
            assert public or module.split(".")[0] in sys.stdlib_module_names, module


@each_experiment
def test_the_page_of_an_experiment_is_made_from_its_file(experiment):
    written = (LEARN / f"{experiment.name}.md").read_text(encoding="utf-8")
    names = [line.split("](")[1][:-5].partition("-")[2] for line in written.splitlines() if line.startswith("![")]
    assert written == page(experiment, names), "python -m nissl.experiments.pages docs/learn"
    assert names
    for name in names:
        assert (LEARN / (f"{experiment.name}-{name}.png" if name else f"{experiment.name}.png")).exists()


def test_the_index_lists_all_pages():
    assert (LEARN / "README.md").read_text(encoding="utf-8") == index()


# ---- the command line ----


def run(capsys, *arguments):
    status = cli.run(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_an_experiment_prints_its_numbers_and_saves_its_picture(capsys, tmp_path):
    status, out, _ = run(capsys, "run", "descent", "--steps", "120", "--out", str(tmp_path / "a" / "b"))
    assert status == 0
    assert out.startswith("Gradient descent: step against the gradient, again and again\n")
    assert "how far from 0 it ends, learning rate 0.1" in out
    assert "expected with the defaults" in out
    assert "With 10 it jumps out of the frame at once" in " ".join(out.split())
    assert (tmp_path / "a" / "b" / "descent.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "a" / "b" / "descent.png") in out


def test_results_come_as_json_too(capsys, tmp_path):
    status, out, _ = run(capsys, "run", "descent", "--lr", "0.2", "--json", "--out", str(tmp_path))
    document = json.loads(out)
    assert status == 0
    assert document["options"] == {"lr": 0.2, "steps": 100}
    assert [row["holds"] for row in document["results"]] == [True, True, True]
    assert document["pictures"] == [str(tmp_path / "descent.png")]


def test_all_are_run_in_order(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("nissl.cli.run_command.catalog", lambda: {name: find(name) for name in ("losses", "descent")})
    status, out, _ = run(capsys, "run", "all", "--json", "--out", str(tmp_path))
    assert status == 0
    assert [document["name"] for document in json.loads(out)["experiments"]] == ["losses", "descent"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["run", "desent"], 2, "unknown experiment 'desent'; did you mean 'descent'?"),
        (["run", "descent", "--lr", "0"], 1, "lr must be above 0 and at most 100, got 0"),
        (["run", "descent", "--lr", "nan"], 1, "lr must be above 0 and at most 100, got nan"),
        (["run", "descent", "--lr", "x"], 2, "'x' is not a valid float"),
        (["run", "descent", "--rate", "1"], 2, "No such option"),
        (["run", "descent", "more"], 2, "unexpected extra argument"),
        (["list", "experimnts"], 2, "did you mean 'experiments'?"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(capsys, tmp_path, arguments, status, message):
    found, _, err = run(capsys, *arguments, *(["--out", str(tmp_path)] if arguments[0] == "run" else []))
    assert found == status
    assert message in err
    assert not list(tmp_path.iterdir())


def test_a_missing_data_set_says_how_to_get_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("NISSL_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("nissl.data.datasets.download", _offline)
    status, _, err = run(capsys, "run", "fashion", "--out", str(tmp_path / "out"))
    assert status == 1
    assert "NISSL_DATA_HOME" in err
    assert not (tmp_path / "out").exists()


def _offline(path, mirrors, digest):
    from nissl.errors import DataError

    raise DataError(f"cannot download {path.name}; put it into the folder that NISSL_DATA_HOME names")


def test_an_interrupt_ends_the_whole_experiment(capsys, tmp_path, monkeypatch):
    trainings = []

    def run_trainings(report):
        for _ in range(3):
            model = nn.Linear(2, 2)
            callbacks = [lambda event: os.kill(os.getpid(), signal.SIGINT)]
            x, y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
            trainings.append(ns.fit(model, (x, y), epochs=2, batch_size=2, progress=False, callbacks=callbacks))

    monkeypatch.setattr(find("losses").module, "run", run_trainings)
    assert find("losses").arguments == {}
    with pytest.raises(KeyboardInterrupt):
        find("losses").run()
    assert not trainings
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr("nissl.cli.run_command.catalog", lambda: {"losses": find("losses")})
    status, _, err = run(capsys, "run", "all", "--out", str(tmp_path / "out"))
    assert (status, "interrupted" in err) == (130, True)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = run(capsys, "run", "descent", "--out", str(tmp_path / "file"))
    assert status in (1, 2)
    assert "file" in err


def test_the_experiments_are_listed(capsys):
    status, out, _ = run(capsys, "list", "experiments")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(catalog())
    status, out, _ = run(capsys, "list", "experiments", "--json")
    assert [row["name"] for row in json.loads(out)["experiments"]] == list(catalog())


# ---- what tells ----


def test_an_option_knows_its_range():
    assert Option("", least=1, most=5).range == "at least 1 and at most 5"
    assert Option("", above=0).range == "above 0"
    for value in (0, 6, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="steps must be at least 1 and at most 5, got"):
            Option("", least=1, most=5).check("steps", value)
    with pytest.raises(OptionError, match="lr must be above 0, got 0"):
        Option("", above=0).check("lr", 0)


def test_options_are_those_of_the_experiment():
    with pytest.raises(OptionError, match="descent: unknown option 'rate'"):
        find("descent").run({"rate": 1})
    for steps in (2.5, float("nan")):
        with pytest.raises(OptionError, match="steps must be a whole number, got"):
            find("descent").run({"steps": steps})
    with pytest.raises(OptionError, match="unknown experiment 'sofmax'; did you mean 'softmax'"):
        find("sofmax")


def test_a_report_keeps_what_came_out():
    report = Report()
    report.note("a", 1.5)
    report.check("b", 2, "2", holds=False)
    assert [(row.what, row.found, row.expected, row.holds) for row in report.rows] == [
        ("a", 1.5, "", None),
        ("b", 2, "2", False),
    ]


def test_the_package_holds_nothing_but_experiments_and_what_runs_them():
    names = {path.stem for path in Path(experiments.__file__).parent.glob("*.py")}
    assert names == {*catalog(), "__init__", "catalog", "pages", "report"}


@pytest.mark.parametrize("place", ["file/below", "x" * 300, "new/" + "x" * 300])
def test_a_folder_that_cannot_be_made_is_refused_before_the_work(capsys, tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(find("losses").module, "run", lambda report: pytest.fail("the experiment was run"))
    status, out, err = run(capsys, "run", "losses", "--json", "--out", str(tmp_path / place))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert place.split("/")[-1] in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_was_there_stays(capsys, tmp_path, monkeypatch):
    def fail(report):
        raise OptionError("no such luck")

    monkeypatch.setattr(find("losses").module, "run", fail)
    (tmp_path / "old").mkdir()
    assert run(capsys, "run", "losses", "--out", str(tmp_path / "old" / "new"))[0] == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]


def test_what_came_out_before_a_failure_is_one_json_document(capsys, tmp_path, monkeypatch):
    def fail(report):
        raise OptionError("no such luck")

    monkeypatch.setattr("nissl.cli.run_command.catalog", lambda: {name: find(name) for name in ("descent", "losses")})
    monkeypatch.setattr(find("losses").module, "run", fail)
    status, out, err = run(capsys, "run", "all", "--json", "--out", str(tmp_path / "out"))
    assert (status, err) == (1, "Error: no such luck\n")
    assert [document["name"] for document in json.loads(out)["experiments"]] == ["descent"]
    assert (tmp_path / "out" / "descent.png").exists()


def test_a_picture_that_another_process_cannot_save_is_told(capsys, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def get_in_the_way(report):
        report.picture(plots.learning_curves({"loss": [0.9, 0.4]}))
        out.rmdir()
        out.write_text("")

    monkeypatch.setattr("nissl.cli.run_command.catalog", lambda: {"losses": find("losses")})
    monkeypatch.setattr(find("losses").module, "run", get_in_the_way)
    status, _, err = run(capsys, "run", "all", "--out", str(out))
    assert (status, err.count("\n")) == (1, 1)
    assert str(out) in err


@pytest.mark.parametrize("how", [["-m", "nissl"], ["-c", "import nissl.cli; nissl.cli.main()"]])
def test_a_display_that_matplotlib_does_not_know_is_no_reason_to_fail(tmp_path, how):
    environment = {**os.environ, "MPLBACKEND": "nonsense"}
    command = [sys.executable, *how, "run", "losses", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "losses.png").exists()
