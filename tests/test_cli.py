"""The command line: what it prints where, its exit status, what it leaves, and one clear line for each mistake."""

import csv
import dataclasses
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tomllib
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from command import call, fails
from PIL import Image
from safetensors import SafetensorError

import nissl as ns
from nissl import evaluation, nn, training
from nissl.cli import COMMANDS, run
from nissl.data import datasets

DIGITS = datasets.load("digits")[1]
NOTES = {"data set": "digits", "class names": list("0123456789"), "input shape": [8, 8]}
COMMAND = [sys.executable, "-c", "import nissl.cli; nissl.cli.main()"]
RUN_FILES = {"model.safetensors", "history.csv", "learning-curves.png", "confusion-matrix.png", "mistakes.png"}
posix = pytest.mark.skipif(os.name == "nt", reason="has no pseudo-terminals, and other signals")


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def state(folder):
    return ns.load(f"{folder}/model.safetensors").state_dict()


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr("nissl.plots.save", lambda figure, path: None)


def save_model(*layers, **notes):
    """Save a model that takes digits, and return its path."""
    ns.manual_seed(0)
    layers = layers or [nn.Flatten(), nn.Linear(64, 10)]
    ns.save(nn.Sequential(*layers), "model.safetensors", notes=NOTES | notes)
    return "model.safetensors"


# What is there


def test_every_command_has_help_that_names_its_options():
    for arguments in [[], *([name] for name in COMMANDS)]:
        for flag in ("-h", "--help"):
            result = call(*arguments, flag)
            assert (result.status, result.err) == (0, "")
            assert result.out.startswith(" ".join(["Usage: nissl", *arguments]))
    said = set(re.findall("--([a-z-]+)", call("train", "--help").out))
    assert said >= {"hidden", "activation", "init", "optimizer", "lr", "schedule", "epochs", "batch-size", "dropout"}
    assert said >= {"weight-decay", "validation-fraction", "patience", "seed", "engine", "out", "resume", "json"}
    assert all(f"{name} " in call("--help").out and what in call("--help").out for name, what in COMMANDS.items())
    code = "import sys, nissl.cli; nissl.cli.run(['--help']); print([m for m in sys.modules if m.endswith('_command')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.endswith("[]\n")
    assert call("--version").out == f"nissl, version {ns.__version__}\n"


def test_list_shows_every_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("NISSL_DATA_HOME", str(tmp_path))
    assert [line.split()[0] for line in call("list").out.splitlines()[1:]] == datasets.names()
    here = {row["name"]: row["here"] for row in call("list", "--json").json["data_sets"]}
    assert (here["digits"], here["mnist"]) == (True, False)


# Training


def test_train_leaves_a_folder_with_all_that_came_out_and_says_so():
    said = call("train", "--hidden", "24,16", "--epochs", 12, "--validation-fraction", 0.2, "--out", "a/b")
    assert set(os.listdir("a/b")) == RUN_FILES | {"checkpoint.safetensors"}
    for path in Path("a/b").glob("*.png"):
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 300
    rows = list(csv.DictReader(Path("a/b/history.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 13))
    assert {"loss", "accuracy", "validation_loss", "validation_accuracy"} < set(rows[0])
    assert float(rows[-1]["validation_accuracy"]) > 0.7
    # Results on standard output, progress on standard error.
    assert said.status == 0
    assert re.search(r"^test accuracy +\d\d\.\d\d % ", said.out)
    assert [line[:8] for line in said.err.splitlines()] == [f"epoch {i:>2}" for i in range(1, 13)]


def test_train_evaluate_and_info_agree_and_give_one_json_object(no_pictures):
    found = call("train", "digits", "--epochs", 2, "--out", "run", "--json").json
    assert set(found) == {"test_accuracy", "train_accuracy", "seconds", "epochs", "model_epoch", "run"}
    assert (found["epochs"], found["model_epoch"], found["run"]) == (2, 2, "run")
    evaluated = call("evaluate", "run/model.safetensors", "digits", "--json").json
    assert evaluated["accuracy"] == found["test_accuracy"]
    assert np.trace(evaluated["confusion_matrix"]) == pytest.approx(599 * found["test_accuracy"])
    info = call("info", "run/model.safetensors", "--json").json
    assert info["parameters"] == 64 * 128 + 128 + 128 * 10 + 10
    assert (info["data_set"], info["input_shape"]) == ("digits", [8, 8])
    assert "Linear(64, 128)" in call("info", "run/model.safetensors").out
    assert "accuracy" in call("evaluate", "run/model.safetensors", "digits").out


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ("", "Linear(2, 32), ReLU(), Linear(32, 32), ReLU(), Linear(32, 2)"),
        ("--hidden 0", "Linear(2, 2)"),
        ("--hidden 5,3 --dropout 0.5", "Linear(2, 5), ReLU(), Dropout(p=0.5), Linear(5, 3), ReLU()"),
        ("--activation tanh --init xavier --engine numpy --schedule linear", "Tanh()"),
        ("--optimizer sgd --lr 0.5 --weight-decay 1e-3 --batch-size 3 --clip-norm 1", "Linear"),
        (f"--validation-fraction 0.3 --patience 1 --seed {2**64 - 1}", "Linear"),
    ],
)
def test_options_make_the_network_and_no_folder_is_needed(no_pictures, options, layers):
    found = call("train", "xor", "--epochs", 2, *options.split(), "--json").json
    assert Path(found["run"]).match("runs/xor-*")
    assert layers in call("info", f"{found['run']}/model.safetensors", "--json").json["architecture"]


def test_train_says_when_the_model_gives_all_rows_one_class(no_pictures):
    command = ["train", "digits", "--optimizer", "sgd", "--epochs", 2, "--engine", "numpy", "--json"]
    said = call(*command, "--lr", 1e6)
    assert said.status == 0
    assert re.fullmatch(
        r"nothing was learned: all training rows get about the same answer, the class '\d'\. Try a smaller --lr, or "
        r"another --activation or --init",
        said.err.splitlines()[-1],
    )
    assert "nothing was learned" not in call(*command, "--lr", 0.001).err
    assert "nothing was learned" not in call("train", "xor", "--epochs", 1, "--engine", "numpy").err  # 4 rows, one step


def test_percentages_are_written_alike(no_pictures):
    said = call("train", "xor", "--epochs", 1, "--engine", "numpy", "--out", "run")
    evaluated = call("evaluate", "run/model.safetensors", "xor")
    written = re.findall(r"\S+ ?%", said.out + said.err + evaluated.out)
    assert len(written) == 7
    assert all(re.fullmatch(r"\d+\.\d\d? %", share) for share in written), written
    assert re.search(r"^accuracy \d+\.\d\d %$", evaluated.out, re.MULTILINE)


# Resuming and interrupting


def test_resume_goes_on_as_if_nothing_had_happened(no_pictures, monkeypatch):
    def stop(event):
        if isinstance(event, ns.EpochDone) and event.epoch == 3:
            signal.raise_signal(signal.SIGINT)

    command = ["train", "moons", "--epochs", 6, "--dropout", 0.3, "--json", "--out"]
    call(*command, "whole")
    fit = training.fit
    monkeypatch.setattr(training, "fit", lambda *data, **options: fit(*data, **options, callbacks=[stop]))
    result = call(*command, "run")
    assert (result.status, result.out) == (130, "")
    assert "interrupted after 3 epochs; what was learned is in run. " in result.err
    assert "with --out run --resume" in result.err
    monkeypatch.setattr(training, "fit", fit)
    resumed = call(*command, "run", "--resume").json
    assert resumed["epochs"] == 6
    rows = list(csv.DictReader(Path("run/history.csv").read_text().splitlines()))
    assert resumed["seconds"] >= 0.99 * sum(float(row["seconds"]) for row in rows)  # of all epochs, not of the last
    assert same(state("whole"), state("run"))


def test_resume_where_nothing_is_starts_and_where_all_is_done_changes_nothing(no_pictures):
    command = ["train", "xor", "--epochs", 3, "--out", "run", "--resume", "--json"]
    assert call(*command).json["epochs"] == 3
    before = state("run")
    assert call(*command).json["epochs"] == 3
    assert same(before, state("run"))


def test_resume_says_when_there_is_nothing_left_to_train(no_pictures):
    def remarks(*more):
        said = call("train", "xor", "--schedule", "constant", "--out", "run", "--resume", *more)
        assert said.status == 0
        return [line for line in said.err.splitlines() if not line.startswith("epoch")][-1:]

    assert "starts anew" in remarks("--epochs", 3)[0]
    for fewer in 3, 2:
        (line,) = remarks("--epochs", fewer)
        assert line == f"nothing was trained: the run in run has 3 epochs, and --epochs {fewer} asks for no more"
    assert remarks("--epochs", 4) == []


def test_resume_says_when_patience_has_ended_a_run(no_pictures):
    command = ["train", "xor", "--lr", 0.9, "--optimizer", "sgd", "--patience", 1, "--epochs", 400, "--out", "run"]
    found = call(*command, "--json").json
    epochs = found["epochs"]
    assert epochs < 400
    assert found["model_epoch"] == epochs - 1
    said = call(*command, "--resume")
    assert f"nothing was trained: the run in run has {epochs} epochs, and --patience ended it\n" in said.err
    assert re.search(rf"s for {epochs} epochs of \d+ examples; the model is that of epoch {epochs - 1}\n", said.out)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--hidden 7", "model"),
        ("--dropout 0.5", "model"),
        ("--optimizer sgd", "optimizer|schedule"),
        ("--lr 0.3", "0.3"),
        ("--batch-size 3", "batch_size|steps"),
        ("--seed 4", "seed"),
        ("--validation-fraction 0.3", "data|steps"),
        ("--clip-norm 1", "clip_norm"),
        ("--epochs 9", "schedule .* follow from the number of epochs"),
    ],
)
def test_resume_with_other_settings_is_refused_and_the_run_is_kept(no_pictures, options, named):
    command = ["train", "xor", "--epochs", 2, "--out", "run"]
    call(*command)
    before = contents("run")
    fails(1, f"of another training: its .*({named})", *command, *options.split(), "--resume")
    fails(1, "of another training", "train", "moons", *command[2:], "--resume")
    assert contents("run") == before


@posix
def test_ctrl_c_saves_what_was_learned_and_ends_with_130():
    options = ["train", "spirals", "--schedule", "constant", "--out", "run", "--json", "--epochs"]
    with subprocess.Popen([*COMMAND, *options, "1000000"], stdout=-1, stderr=-1, text=True) as process:
        assert all("epoch" in process.stderr.readline() for _ in range(3))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    epochs = int(re.match(r"interrupted after (\d+) epochs; what was learned is in run", err.splitlines()[-1])[1])
    assert len(Path("run/history.csv").read_text().splitlines()) == epochs + 1
    assert ns.load("run/model.safetensors")
    assert call(*options, epochs + 2, "--resume").json["epochs"] == epochs + 2


@pytest.mark.parametrize("place", ["nissl.data.datasets.load", "nissl.plots.save"])
def test_ctrl_c_before_and_after_the_training(monkeypatch, place):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupt)
    result = call("train", "xor", "--epochs", 1, "--out", "run")
    assert (result.status, result.out, result.err.splitlines()[-1]) == (130, "", "interrupted")
    assert os.path.exists("run/model.safetensors") == ("plots" in place)


@pytest.mark.parametrize("module", ["nissl", "numpy", "nissl.cli", "nissl.cli.run_command"])
def test_ctrl_c_while_modules_are_imported_is_one_word(module):
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    entry, main = project["scripts"]["nissl"].split(":")
    code = f"""
import sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
from {entry} import {main}
{main}()
"""
    done = subprocess.run([sys.executable, "-c", code, "run", "losses"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "interrupted")


# Prediction


def test_predict_gives_classes_and_probabilities_for_arrays():
    model = save_model()
    np.save("rows.npy", DIGITS.x[:5])
    np.savez("named.npz", x=DIGITS.x[:5], y=DIGITS.y[:5])
    np.savez_compressed("single.npz", anything=DIGITS.x[:5])
    np.save("flat.npy", np.asfortranarray(DIGITS.x[:5].reshape(5, 64).astype(">f8")))
    np.save("half.npy", np.ascontiguousarray(DIGITS.x[4::-1])[::-1].astype("float16"))
    wanted = evaluation.predict(ns.load(model), DIGITS.x[:5])
    for file in ("rows.npy", "named.npz", "single.npz", "flat.npy", "half.npy"):
        found = call("predict", model, file, "--json").json
        assert set(found) == {"classes", "class_names", "probabilities"}
        assert found["classes"] == [str(i) for i in wanted.argmax(axis=1)]
        assert np.allclose(np.sum(found["probabilities"], axis=1), 1)
    table = [line.split() for line in call("predict", model, "rows.npy").out.splitlines()]
    assert table[0] == ["row", "class", "probability", *"0123456789"]
    assert [row[1] for row in table[1:]] == found["classes"]


def test_predict_says_that_the_class_names_of_a_model_are_too_few():
    np.save("rows.npy", DIGITS.x[:2])
    model = save_model(**{"class names": ["no", "yes"]})
    fails(1, "notes the class names 'no', 'yes', but the model tells 10 classes apart", "predict", model, "rows.npy")


@pytest.mark.parametrize(
    "mode",
    [
        "L",
        "RGB",
        "P",
        "I;16",
    ],
)
def test_predict_takes_one_row_and_a_picture_of_the_right_size(mode):
    model = save_model()
    np.save("one.npy", DIGITS.x[0])
    bits = np.uint16(65535 * DIGITS.x[0]) if mode == "I;16" else np.uint8(255 * DIGITS.x[0])
    Image.fromarray(bits).convert(mode).save("one.PNG")
    one, picture = (call("predict", model, file, "--json").json for file in ("one.npy", "one.PNG"))
    assert np.allclose(picture["probabilities"], one["probabilities"], atol=0.01)


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trian", "unknown command 'trian'; did you mean 'train'"),
        ("train minst", "unknown data set 'minst'; did you mean 'mnist'"),
        ("evaluate m digit", "unknown data set 'digit'; did you mean 'digits'"),
        ("train --activation rleu", "--activation.*did you mean 'relu'"),
        ("train --init hee", "--init.*did you mean 'he'"),
        ("train --optimizer adm", "--optimizer.*did you mean 'adam'"),
        ("train --schedule cosin", "--schedule.*did you mean 'cosine'"),
        ("train --engine nunpy", "--engine.*did you mean 'numpy'"),
        *((f"train --hidden {text}", "--hidden.*as in 128,64") for text in ("abc", "128,", "128,0", "-5", "1.5")),
        *((f"train --{option} -1", f"--{option}.*not in") for option in ("lr", "epochs", "seed", "weight-decay")),
        *((f"train --{option} 0", f"--{option}.*not in the range") for option in ("lr", "epochs", "batch-size")),
        *((f"train --{option} 1", f"--{option}.*not in the range") for option in ("dropout", "validation-fraction")),
        ("train --epochs many", "--epochs.*not a valid integer"),
        ("train --patience 3 --validation-fraction 0", "--patience looks at validation data"),
        ("train --resume", "--resume needs --out"),
        ("train --epoch", "--epochs"),
        ("train xor moons", "unexpected extra argument"),
        ("predict m", "Missing argument 'FILE'"),
        ("info", "Missing argument 'MODEL'"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_what_is_right(arguments, message):
    fails(2, message, *arguments.split())
    assert os.listdir() == []


def test_out_must_be_a_folder_that_is_new_or_empty(no_pictures):
    Path("file").touch()
    Path("full").mkdir()
    Path("full/notes.txt").touch()
    Path("empty").mkdir()
    fails(2, "'file' is a file", "train", "xor", "--out", "file")
    fails(1, "file", "train", "xor", "--out", "file/below")
    fails(1, "full is not empty; add --resume", "train", "xor", "--out", "full")
    assert call("train", "xor", "--epochs", 1, "--out", "empty").status == 0
    assert os.listdir("full") == ["notes.txt"]


def test_divergence_is_one_line_with_advice():
    fails(1, r"diverged in epoch 1, step \d+.*smaller learning rate", "train", "--lr", 1e30, "--optimizer", "sgd")


def test_a_folder_that_cannot_be_written_is_named(monkeypatch):
    def mkdir(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))  # root may write anywhere, so a mode does not do

    monkeypatch.setattr(Path, "mkdir", mkdir)
    fails(1, "locked.run: Permission denied", "train", "xor", "--out", Path("locked/run"))


def test_model_files_that_are_none(no_pictures):
    Path("noise.safetensors").write_bytes(os.urandom(500))
    Path("cut.safetensors").write_bytes(Path(save_model()).read_bytes()[:2000])
    Path("folder").mkdir()
    np.save("rows.npy", DIGITS.x[:2])
    call("train", "xor", "--epochs", 1, "--out", "run")
    kinds = {"gone": "does not exist", "folder": "is a folder", "noise.safetensors": "damaged"}
    kinds |= {
        "run": "is a folder; .* run.model.safetensors",
        "run/checkpoint.safetensors": "is a checkpoint.*model.saf",
    }
    for path, message in (kinds | {"cut.safetensors": "damaged", "rows.npy": "not a model file"}).items():
        for command, *rest in (["info"], ["info", "--json"], ["evaluate", "digits"], ["predict", "rows.npy"]):
            fails(1, f"{path}.*{message}", command, path, *rest)


def test_a_folder_is_no_place_for_a_file():
    pytest.importorskip("onnx")
    Path("folder").mkdir()
    fails(1, "folder: is a folder, not a file to write", "export", save_model(), "--out", "folder")


def test_a_data_set_of_other_classes_than_the_model_is_remarked_on():
    assert call("evaluate", save_model(), "digits").err == ""
    names = [f"letter {letter}" for letter in "abcdefghij"]
    result = call("evaluate", save_model(**{"class names": names}), "digits")
    assert result.status == 0
    assert "tells 'letter a', 'letter b', 'letter c' and 7 more apart, but digits has '0', '1', '2' and 7" in result.err


def test_a_data_set_that_does_not_fit_the_model():
    fails(1, r"takes rows of shape \(8, 8\), but xor has rows of shape \(2,\)", "evaluate", save_model(), "xor")


def npy(header, data=b""):
    """Return a .npy file with a header of one's own."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + data


def shaped(shape, kind="<f4"):
    return npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}", b"\0" * 99)


def png(width, height):
    """Return a PNG of any size, whose data is short."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(b""), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def file_of(save, *arguments, **arrays):
    save(content := BytesIO(), *arguments, **arrays)
    return content.getvalue()


ROWS = DIGITS.x[:3]
FILES = {
    "shape.npy": (file_of(np.save, ROWS[:, :4]), r"shape \(3, 4, 8\); the model takes one example of shape \(8, 8\)"),
    "flat.npy": (file_of(np.save, ROWS[0].reshape(64)), r"shape \(64,\)"),
    "number.npy": (file_of(np.save, np.float32(1)), r"shape \(\)"),
    "none.npy": (file_of(np.save, ROWS[:0]), "no rows"),
    "nan.npy": (file_of(np.save, ROWS * np.nan), "NaN or infinite"),
    "large.npy": (file_of(np.save, np.full((1, 8, 8), 1e300)), "float32 cannot hold"),
    "text.npy": (file_of(np.save, ROWS.astype(str)), "not numbers"),
    "complex.npy": (file_of(np.save, ROWS * 1j), "complex.* not numbers"),
    "times.npy": (file_of(np.save, np.zeros((1, 8, 8), "M8[s]")), "datetime.* not numbers"),
    "records.npy": (file_of(np.save, np.zeros(3, [("a", "f4")])), "not numbers"),
    "pickle.npy": (file_of(np.save, np.array([{}, 1], object)), "damaged.*objects"),
    "nothing.npy": (b"", "damaged"),
    "words.npy": (b"hello, world\n" * 9, "damaged"),
    "huge.npy": (shaped(f"({10**12}, 8, 8)"), "damaged"),
    "short.npy": (shaped("(3, 8, 8)"), "damaged"),
    "kind.npy": (shaped("(3, 8, 8)", "spam"), "damaged"),
    "two.npz": (file_of(np.savez, a=ROWS, b=ROWS), "arrays named a, b; predict takes x, or the only one"),
    "none.npz": (file_of(np.savez), "arrays named nothing"),
    "bell.npz": (file_of(np.savez, **{"a\a": ROWS, "b": ROWS}), r"arrays named a\?, b"),
    "object.npz": (file_of(np.savez, x=np.array([{}], object)), "damaged"),
    "words.npz": (b"hello", "damaged"),
    "short.png": (png(28, 28), "damaged"),
    "size.png": (file_of(Image.new("L", (28, 28)).save, "PNG"), r"shape \(28, 28\); the model takes"),
    "bomb.png": (png(60000, 60000), "not a PNG picture"),
    "words.png": (b"hello", "not a PNG picture"),
    "picture.gif": (b"GIF89a", r"reads \.npy, \.npz, \.png"),
}
SURPRISES = {
    "negative.npy": shaped("(-1, 8, 8)"),
    "many.npy": shaped(f"(0, {10**30})"),
    "keys.npy": npy('{1: 2, "a": 3}'),
    "token.npy": npy("{["),
}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [(name, *file) for name, file in FILES.items()]
    + [pytest.param(name, content, "damaged") for name, content in SURPRISES.items()]
    + [pytest.param("big.npy", file_of(np.save, np.full((1, 8, 8), 3e38)), "finite|NaN")],
    ids=[*FILES, *SURPRISES, "big.npy"],
)
def test_a_file_that_predict_cannot_use_is_named(name, content, message):
    fails(1, f"{name} does not exist", "predict", save_model(), name)
    Path(name).write_bytes(content)
    fails(1, message, "predict", save_model(), name)


def test_without_a_network_there_is_one_line_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NISSL_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "*")
    mirrors = ("http://127.0.0.1:1/a/", "http://127.0.0.1:1/b/")
    files = dataclasses.replace(datasets.IMAGE_FILES["mnist"], mirrors=mirrors)
    monkeypatch.setitem(datasets.IMAGE_FILES, "mnist", files)
    fails(1, "could not download.*:1/a/: no answer.*:1/b/: no.*Check the network", "train", "mnist", "--out", "run")
    assert not os.path.exists("run")


# Terminals and pipes


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no /dev/full")
def test_a_full_disk_and_a_reader_that_has_gone():
    with open("/dev/full", "w") as full:
        result = subprocess.run([*COMMAND, "list"], stdout=full, stderr=-1, text=True)
    assert (result.returncode, result.stderr) == (1, "Error: No space left on device\n")
    np.save("rows.npy", np.zeros((9000, 8, 8)))
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([*COMMAND, "predict", save_model(), "rows.npy"], stdout=write, stderr=-1, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, "")


@posix
@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_sees_a_live_line_in_colour_unless_it_wants_none(no_color):
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    environment |= {"NO_COLOR": "1"} if no_color else {}
    master, slave = os.openpty()
    command = [*COMMAND, "train", "xor", "--epochs", "3", "--json"]
    with subprocess.Popen(command, stdout=-1, stderr=slave, env=environment) as process:
        os.close(slave)
        seen = b""
        try:
            while part := os.read(master, 1 << 16):
                seen += part
        except OSError:  # the other side has gone
            pass
        assert set(json.loads(process.stdout.read())) >= {"test_accuracy", "run"}
    os.close(master)
    assert b"epoch 3/3" in seen
    assert bool(re.search(rb"\x1b\[[0-9;]*[1-9][0-9;]*m", seen)) != no_color


# Mistakes of ours


@pytest.mark.parametrize("option", ["--lr nan", "--lr inf", "--dropout nan", "--validation-fraction nan"])
def test_numbers_that_are_not_finite_are_wrong_usage(option):
    fails(2, option.split()[0], "train", "xor", *option.split())
    assert os.listdir() == []


def test_a_network_larger_than_the_memory_is_one_line(monkeypatch):
    def make(*arguments):
        raise MemoryError("Unable to allocate 7.28 TiB")

    monkeypatch.setattr("nissl.cli.train_command.perceptron", make)
    fails(1, "memory|allocate", "train", "xor")


def test_a_disk_that_is_full_when_the_model_is_saved_is_one_line(no_pictures, monkeypatch):
    def save_file(*arguments, **options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.numpy.save_file", save_file)
    assert re.search("\nError: .*No space left", call("train", "xor", "--epochs", 1).err)


def test_resume_does_not_write_over_what_no_run_left(no_pictures):
    Path("mine").mkdir()
    Path("mine/model.safetensors").write_bytes(b"precious")
    call("train", "xor", "--epochs", 1, "--out", "mine", "--resume")
    assert Path("mine/model.safetensors").read_bytes() == b"precious"


def test_two_trainings_cannot_have_one_folder(no_pictures, monkeypatch):
    fit = training.fit

    def fit_while_another_starts(*data, **options):
        monkeypatch.setattr(training, "fit", fit)
        fails(1, "run", "train", "xor", "--epochs", 1, "--seed", 1, "--out", "run")
        return fit(*data, **options)

    monkeypatch.setattr(training, "fit", fit_while_another_starts)
    assert call("train", "xor", "--epochs", 1, "--out", "run").status == 0


@pytest.mark.parametrize("case", ["shape", "axes", "softmax"])
def test_a_model_that_nissl_train_did_not_write(case):
    np.save("rows.npy", DIGITS.x[:2])
    if case == "shape":
        fails(1, "damaged|input shape", "info", save_model(**{"input shape": ["a", None]}))
    elif case == "axes":
        fails(1, "shape", "predict", save_model(nn.Linear(8, 10)), "rows.npy")
    else:
        model = save_model(nn.Flatten(), nn.Linear(64, 10), nn.Softmax())
        assert "accuracy" in call("evaluate", model, "digits").out


def test_only_a_png_is_opened_as_one(monkeypatch):
    ran = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: ran.append(a) or Image.new("L", (8, 8)).im)
    Path("x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    call("predict", save_model(), "x.png")
    assert not ran


def test_an_output_that_lacks_some_letters_is_no_reason_to_fail():
    environment = os.environ | {"PYTHONIOENCODING": "cp1251"}
    assert subprocess.run([*COMMAND, "list"], stdout=-1, stderr=-1, env=environment).returncode == 0


def test_training_needs_no_standard_error(no_pictures, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert run(["train", "xor", "--epochs", "1", "--json"]) == 0


def test_a_warning_is_one_line_without_its_place_in_our_source():
    code = "import warnings, nissl.cli as c; c.run = lambda _: warnings.warn('look here', stacklevel=1); c.main()"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == "Warning: look here\n"
