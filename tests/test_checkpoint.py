"""fit(checkpoint=folder): a training that was ended in any way goes on to exactly where it would have come."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import nissl as ns
import nissl.training
from nissl import nn, optim, storage
from nissl.checkpoint import CHECKPOINT_FILE as FILE
from nissl.errors import DataError, ModelFileError, NisslError, OptionError
from nissl.files import LOCK_FILE, claimed

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(60, 4)).astype("float32")
LABELS = (X @ GENERATOR.normal(size=(4, 3))).argmax(axis=1)
HELD = X[:15], LABELS[:15]


def make_model(activation=nn.ReLU):
    ns.manual_seed(0)
    layers = [nn.Linear(4, 8), nn.BatchNorm(8), activation(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(8, 3))


def train(folder, callbacks=(), model=None, data=(X, LABELS), rule=optim.Adam, lr=0.02, start=None, **changes):
    """Train 6 epochs of 4 steps, with everything that has a state; return (model, optimizer, history)."""
    model = model or make_model()
    optimizer = rule(model.parameters(), lr=lr)
    ns.manual_seed(random.randrange(1000) if start is None else start)  # must not matter where a seed is given
    options = {"epochs": 6, "batch_size": 16, "seed": 4, "schedule": "cosine", "validation": HELD, "patience": 5}
    options |= changes
    history = ns.fit(model, data, optimizer=optimizer, checkpoint=folder, callbacks=callbacks, **options)
    return model, optimizer, history


def end_at(epoch, step, how):
    """Return a callback that ends the training at a step of an epoch, or at its end if step is None."""

    def callback(event):
        if (event.epoch, getattr(event, "step", None)) == (epoch, step):
            how()

    return callback


def stop():
    raise ns.StopTraining


def crash():
    raise RuntimeError("crash")


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def assert_same(found, expected):
    """Compare two results of `train` bit for bit, but for the seconds."""
    for one, other in zip(found[:2], expected[:2], strict=True):
        one, other = one.state_dict(), other.state_dict()
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    rows = [[{**row, "seconds": 0} for row in result[2].rows] for result in (found, expected)]
    assert rows[0] == rows[1]


def test_the_comparison_sees_a_difference():
    with pytest.raises(AssertionError):
        assert_same(train(None), train(None, seed=5))


# Ended and started again


@pytest.mark.parametrize(
    ("how", "places"),
    [
        (stop, [(1, 1)]),
        (stop, [(1, None)]),
        (press_ctrl_c, [(3, 2)]),
        (crash, [(3, 2)]),
        *((how, [(1, 3), (2, 1), (2, 2), (4, None), (6, 4)]) for how in (stop, press_ctrl_c, crash)),
    ],
)
def test_a_training_that_was_ended_goes_on_bit_for_bit(tmp_path, monkeypatch, places, how):
    monkeypatch.setattr(nissl.training, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    for place in places:
        try:
            history = train(tmp_path, [end_at(*place, how)])[2]
            assert history.interrupted == (how is press_ctrl_c)
        except RuntimeError:
            assert how is crash
    assert_same(train(tmp_path), train(None))
    assert os.listdir(tmp_path) == [FILE]


def test_the_best_weights_are_remembered_through_an_interruption(tmp_path):
    def run(folder, callbacks=()):
        return train(folder, callbacks, epochs=40, patience=3, lr=0.3, schedule=None)

    whole = run(None)
    best = int(whole[2].validation_loss.argmin()) + 1
    assert best + 3 == len(whole[2]) < 40
    run(tmp_path, [end_at(best + 1, 2, stop)])
    assert_same(run(tmp_path), whole)
    assert_same(run(tmp_path), whole)  # it is over: nothing is trained, the same comes back


def test_without_a_seed_the_drawn_one_is_kept(tmp_path):
    train(tmp_path, [end_at(2, 2, stop)], seed=None, start=9)
    assert_same(train(tmp_path, seed=None, start=77), train(None, seed=None, start=9))


def test_a_training_that_is_over_goes_on_when_more_epochs_are_wanted(tmp_path):
    train(tmp_path, epochs=3, schedule=None, patience=None)
    heard = []
    found = train(tmp_path, [heard.append], epochs=5, schedule=None, patience=None)
    assert (heard[0].epoch, heard[0].step) == (4, 1)
    assert_same(found, train(None, epochs=5, schedule=None, patience=None))


def test_parameters_without_axes_come_back(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            self.scale = nn.Parameter(2.0)
            self.layer = make_model()

        def forward(self, x):
            return self.layer(x) * self.scale

    train(tmp_path, [end_at(2, 1, stop)], model=Scaled())
    assert_same(train(tmp_path, model=Scaled()), train(None, model=Scaled()))


# In a process of its own, which is killed


def main(folder):
    """Train slowly, with a checkpoint at each epoch, and save the model at the end."""
    nissl.training.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    model, optimizer, _ = train(folder, [lambda event: time.sleep(0.002)], epochs=150, patience=None)
    np.savez(folder.parent / "end.npz", **model.state_dict(), **optimizer.state_dict())


def test_kill_9_at_any_moment_costs_nothing(tmp_path):
    folder, draw = tmp_path / "checkpoint", random.Random(time.time())
    command = [sys.executable, "-W", "error", __file__, str(folder)]
    kills, stood = 0, [0]
    for _ in range(4):
        before = (folder / FILE).stat().st_mtime_ns if (folder / FILE).exists() else 0
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + 10
            while (
                process.poll() is None
                and time.monotonic() < deadline
                and not ((folder / FILE).exists() and changed(folder, before))
            ):
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.2))
            process.kill()
            _, errors = process.communicate()
        assert errors == b""
        kills += process.returncode == -signal.SIGKILL
        stood.append(storage.read_arrays(folder / FILE)[1]["epoch"])
    assert kills >= 3
    assert stood == sorted(set(stood))  # each time it got further
    subprocess.run(command, check=True, timeout=20)
    model, optimizer, _ = train(None, epochs=150, patience=None)
    end = np.load(tmp_path / "end.npz")
    for name, array in {**model.state_dict(), **optimizer.state_dict()}.items():
        np.testing.assert_array_equal(end[name], array, err_msg=name)


def changed(folder, before):
    return (folder / FILE).stat().st_mtime_ns != before


# A folder of another training


class Flat(nn.Module):
    """A Module that does not keep its arguments, so that its repr does not tell them."""

    def __init__(self, width):
        self.first, self.second = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lr": 0.03}, r"schedule is constant\(lr=0\.02\), here it is constant\(lr=0\.03"),
        ({"batch_size": 20}, "batch_size is 16, here it is 20"),
        ({"model": lambda: make_model(activation=nn.Tanh)}, "model is .*ReLU.*, here it is .*Tanh"),
        ({"data": (X + 1, LABELS)}, "data held other numbers or another order than here"),
        ({"data": (X, LABELS[::-1])}, "data"),
        ({"validation": (X, LABELS)}, "validation data"),
        ({"rule": optim.AdamW}, "optimizer is Adam.* here it is AdamW"),
        ({"schedule": "linear"}, "schedule is constant.* here it is linear"),
        ({"seed": 5}, "seed is 4, here it is 5"),
        ({"patience": 4}, "patience is 5, here it is 4"),
        ({"clip_norm": 1.0}, "clip_norm is None, here it is 1.0"),
        ({"shuffle": False}, "shuffle is True, here it is False"),
        ({"drop_last": True}, "steps an epoch is 4, here it is 3"),
        ({"loss": nn.cross_entropy_error}, "loss is cross_entropy, here it is cross_entropy_error"),
    ],
)
def test_another_training_is_refused_by_what_differs_and_changes_nothing(tmp_path, changes, named):
    train(tmp_path, [end_at(1, 2, stop)], schedule="constant")
    before = (tmp_path / FILE).read_bytes()
    model = changes.get("model", make_model)()
    state = model.state_dict()
    with pytest.raises(OptionError, match=f"another training: its {named}"):
        train(tmp_path, **{"schedule": "constant", **changes, "model": model})
    assert (tmp_path / FILE).read_bytes() == before
    for path, array in model.state_dict().items():
        assert np.array_equal(array, state[path])


def test_another_dtype_is_refused(tmp_path):
    train(tmp_path, [end_at(1, 2, stop)], model=nn.Linear(4, 3))
    with pytest.raises(OptionError, match="another training"):
        train(tmp_path, model=nn.Linear(4, 3, dtype="float64"))


def test_another_width_of_a_custom_module_is_another_training(tmp_path):
    train(tmp_path, [end_at(1, 2, stop)], model=Flat(5))
    with pytest.raises(OptionError, match="another training"):
        train(tmp_path, model=Flat(6))


def test_a_schedule_that_is_a_function_can_be_used_again(tmp_path):
    def run(folder, callbacks=()):
        return train(folder, callbacks, schedule=lambda step: 0.1 / (1 + step))

    run(tmp_path, [end_at(2, 2, stop)])
    assert_same(run(tmp_path), run(None))


def test_the_same_call_with_the_same_objects_goes_on(tmp_path):
    model = make_model()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    options = {"optimizer": optimizer, "schedule": "cosine", "epochs": 3, "checkpoint": tmp_path, "seed": 0}
    ns.fit(model, (X, LABELS), callbacks=[end_at(2, 1, stop)], **options)
    assert len(ns.fit(model, (X, LABELS), **options)) == 3


def test_other_metrics_leave_curves_that_can_be_read(tmp_path):
    train(tmp_path, [end_at(1, None, stop)], metrics={"one": lambda outputs, targets: 1.0})
    try:
        history = train(tmp_path)[2]
    except OptionError:
        return
    assert len(history.curves["loss"]) == len(history)


# Damage


@pytest.mark.parametrize("damage", ["empty", "noise", "half", "a model", "a folder"])
def test_a_damaged_file_is_named_and_kept(tmp_path, damage):
    train(tmp_path, [end_at(1, 2, stop)])
    path = tmp_path / FILE
    whole = path.read_bytes()
    content = {"empty": b"", "noise": random.Random(0).randbytes(500), "half": whole[: len(whole) // 2]}.get(damage)
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "a model":
        ns.save(make_model(), path)
    else:
        path.write_bytes(content)
    with pytest.raises((ModelFileError, DataError), match=FILE) as told:
        train(tmp_path)
    if content is not None:
        assert "is not a checkpoint file, or it is damaged" in str(told.value)
        assert path.read_bytes() == content


def test_a_weight_with_a_flipped_bit_is_not_gone_on_with(tmp_path):
    train(tmp_path, [end_at(1, 2, stop)])
    content = bytearray((tmp_path / FILE).read_bytes())
    for place in (content.index(b"loss_sum"), -1, -200):
        damaged = content.copy()
        damaged[place] ^= 1
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(ModelFileError, match="is damaged: it does not hold what was written"):
            train(tmp_path)
    (tmp_path / FILE).write_bytes(content)
    assert len(train(tmp_path)[2]) == 6


@pytest.mark.parametrize("name", ["model/0.bias", "optimizer/steps", "random/dropout/draws"])
def test_a_damaged_array_changes_nothing(tmp_path, name):
    train(tmp_path, [end_at(1, 2, stop)])
    arrays, document = storage.read_arrays(tmp_path / FILE)
    storage.write_arrays(tmp_path / FILE, {**arrays, name: np.zeros((2, 5))}, document)
    model = make_model()
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    held = [*model._state().values(), *optimizer._named_state().values(), ns.random.streams["dropout"].draws]
    before = [tensor.numpy() for tensor in held]
    with pytest.raises(DataError, match="is damaged"):
        train(tmp_path, model=model, rule=lambda *_, **__: optimizer)
    assert all(np.array_equal(tensor.numpy(), array) for tensor, array in zip(held, before, strict=True))


def test_a_document_that_lies_is_told_as_damage(tmp_path):
    train(tmp_path, [end_at(2, 1, stop)])
    arrays, document = storage.read_arrays(tmp_path / FILE)
    assert len(train(tmp_path)[2]) == 6  # the whole one is good
    escaped = []
    for key in ("seed", "epoch", "step", "loss_sum", "metric_sum", "rows", "best_epoch"):
        for lie in (None, "x", [], [1], [[1]], {}):
            storage.write_arrays(tmp_path / FILE, arrays, {**json.loads(json.dumps(document)), key: lie})
            try:
                train(tmp_path)
            except NisslError:
                continue
            except Exception as error:  # each is a finding
                escaped.append((key, lie, repr(error)))
    assert escaped == []


@pytest.mark.parametrize("lacking", ["weight_sum", "first_step", "epoch", "random/dropout/key"])
@pytest.mark.parametrize("version", [None, "0.0.1"])
def test_a_file_that_lacks_something_is_of_another_version_and_changes_nothing(tmp_path, lacking, version):
    train(tmp_path, [end_at(2, 1, stop)])
    arrays, document = storage.read_arrays(tmp_path / FILE)
    assert (document.pop(lacking, None) is None) != (arrays.pop(lacking, None) is None)
    storage.write_arrays(tmp_path / FILE, arrays, document if version is None else document | {"version": version})
    before = (tmp_path / FILE).read_bytes()
    model = make_model()
    state = model.state_dict()
    with pytest.raises(DataError, match=f"{FILE} lacks '{lacking}', so that another version") as caught:
        train(tmp_path, model=model)
    assert ("written by nissl 0.0.1, this is" in str(caught.value)) == (version is not None)
    assert "damaged" not in str(caught.value)
    assert all(np.array_equal(array, state[path]) for path, array in model.state_dict().items())
    assert (tmp_path / FILE).read_bytes() == before


def test_another_training_of_another_version_is_told_as_both(tmp_path):
    train(tmp_path, [end_at(2, 1, stop)])
    arrays, document = storage.read_arrays(tmp_path / FILE)
    storage.write_arrays(tmp_path / FILE, arrays, document | {"version": "9\n"})
    with pytest.raises(OptionError, match=r"batch_size is 16, here it is 20.* It was written by nissl 9\S*, this is"):
        train(tmp_path, batch_size=20)
    assert len(train(tmp_path)[2]) == 6  # the version alone is no hindrance


@pytest.mark.parametrize("place", ["file", "file/deeper"])
def test_a_folder_that_cannot_be_made_is_refused_before_the_training(tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    heard = []
    with pytest.raises(OSError, match=str(tmp_path / "file")):
        train(tmp_path / place, [heard.append])
    assert (tmp_path / "file").read_text() == "in the way"
    assert heard == []


@pytest.mark.parametrize("folder", [3, b"folder"])
def test_what_is_no_path_is_refused(folder):
    with pytest.raises(OptionError, match=r"a path is text or a pathlib\.Path, got"):
        train(folder)


def test_a_full_disk_leaves_the_checkpoint_before_and_no_litter(tmp_path, monkeypatch):
    train(tmp_path, [end_at(2, 2, stop)])
    before = (tmp_path / FILE).read_bytes()

    def full(*paths):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            train(tmp_path)
    assert os.listdir(tmp_path) == [FILE]
    assert (tmp_path / FILE).read_bytes() == before
    assert_same(train(tmp_path), train(None))


def test_a_kill_in_the_middle_of_a_write_leaves_no_litter_for_ever(tmp_path):
    killed = f"""
import os, pathlib, test_checkpoint
os.replace = lambda *paths: os.kill(os.getpid(), 9)
test_checkpoint.train(pathlib.Path({str(tmp_path)!r}))
"""
    command = [sys.executable, "-c", killed]
    process = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, timeout=20, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    train(tmp_path)
    assert os.listdir(tmp_path) == [FILE]


def test_a_numpy_number_as_a_setting_is_kept(tmp_path):
    assert len(train(tmp_path, clip_norm=np.float32(1.0))[2]) == 6


if __name__ == "__main__":
    main(Path(sys.argv[1]))


def test_a_folder_is_claimed_by_one_at_a_time(tmp_path):
    with claimed(tmp_path), pytest.raises(OptionError, match="another training is at work"), claimed(tmp_path):
        pass
    with claimed(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed there")
def test_a_lock_that_its_holder_removes_meanwhile_is_no_claim(tmp_path, monkeypatch):
    """Who opened the file before it was removed would lock one that nobody else sees."""
    import fcntl

    lock, locked = fcntl.flock, []

    def late(descriptor, how):
        if not locked:
            (tmp_path / LOCK_FILE).unlink()
        locked.append(descriptor)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with claimed(tmp_path), pytest.raises(OptionError, match="another training is at work"), claimed(tmp_path):
        pass
    assert len(locked) == 3
