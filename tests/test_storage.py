"""Model files: what is saved comes back, and nothing in a file can do worse than raise ModelFileError."""

import copy
import functools
import json
import operator
import os
import pickle
import random
import struct
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nissl as ns
from nissl import nn, optim, storage
from nissl.errors import DataError, DTypeError, ModelFileError, NisslError, OptionError

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
LABELS = np.array([0, 1, 2, 0, 1, 2])


def one_of_each():
    """Return one or more layers of every kind in nn, by name."""
    ns.manual_seed(1)
    norm = nn.BatchNorm(4, eps=1e-3, momentum=0.3)
    norm(X * 2 + 1)  # gives it running averages of its own
    nested = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Tanh(), nn.Sequential(nn.Linear(3, 2))))
    given = {
        "Linear": nn.Linear(4, 3, weight_init="xavier_uniform"),
        "Linear without bias": nn.Linear(4, 3, bias=False),
        "Linear in float64": nn.Linear(4, 3, dtype="float64"),
        "BatchNorm": norm,
        "LayerNorm": nn.LayerNorm(4, eps=1e-2),
        "Dropout": nn.Dropout(0.25),
        "LeakyReLU": nn.LeakyReLU(0.2),
        "ELU": nn.ELU(0.7),
        "Softmax": nn.Softmax(axis=0),
        "Sequential": nested,
        "empty Sequential": nn.Sequential(),
    }
    names = {name.split()[0] for name in given} | {"Sequential"}
    return given | {name: getattr(nn, name)() for name in storage.MODULES if name not in names}


LAYERS = one_of_each()


def make_model():
    ns.manual_seed(2)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm(5), nn.LeakyReLU(0.1), nn.Dropout(0.2), nn.Linear(5, 3))


def take_steps(model, optimizer, count):
    for _ in range(count):
        nn.cross_entropy(model(X), LABELS).backward()
        optimizer.step()
    return model.state_dict()


def header_of(content):
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header, body):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


@pytest.fixture(scope="module")
def with_checksum(tmp_path_factory):
    """Return the bytes of a good file."""
    path = tmp_path_factory.mktemp("valid") / "model.safetensors"
    ns.save(make_model(), path, notes={"classes": ["a", "b", "c"]})
    return path.read_bytes()


@pytest.fixture(scope="module")
def valid(with_checksum):
    """Return the bytes of a good file without a checksum, as older ones are: what is wrong then shows elsewhere."""
    document = document_of(with_checksum)
    del document["digest"]
    return with_document(with_checksum, document)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """Return a path to write bad files to."""
    return tmp_path_factory.mktemp("bad") / "model.safetensors"


def outcome(target, content):
    """Load a file of these bytes; return the model or the ModelFileError. Any other exception comes through."""
    target.write_bytes(content)
    try:
        return ns.load(target)
    except ModelFileError as error:
        return error


def document_of(valid):
    return json.loads(header_of(valid)[0]["__metadata__"]["nissl"])


def with_document(valid, document):
    """Return the file with another document, given as text or as what JSON makes of it."""
    header, body = header_of(valid)
    header["__metadata__"]["nissl"] = document if isinstance(document, str) else json.dumps(document)
    return with_header(header, body)


# There and back


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_comes_back_with_the_same_outputs(tmp_path, name):
    model = LAYERS[name]
    ns.save(model, tmp_path / "model.safetensors")
    found = ns.load(tmp_path / "model.safetensors")
    assert type(found) is type(model)
    assert repr(found) == repr(model)
    assert found.settings().keys() == model.settings().keys()
    assert found.named_parameters().keys() == model.named_parameters().keys()
    for training in (True, False):
        outputs = []
        for module in (found, model):
            ns.manual_seed(3)
            outputs.append(copy.deepcopy(module).train(training)(ns.tensor(X)).numpy())
        assert outputs[0].dtype == outputs[1].dtype
        assert np.array_equal(*outputs)


def test_a_loaded_model_can_be_trained_and_saved_again(tmp_path):
    paths = tmp_path / "one.safetensors", tmp_path / "deep" / "two.safetensors"
    ns.save(make_model(), paths[0], notes={"classes": ["ä", 1, None]})
    model = ns.load(str(paths[0]))
    ns.save(model, paths[1], notes=storage.load_notes(paths[0]))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert storage.load_notes(paths[1]) == {"classes": ["ä", 1, None]}
    before = model.state_dict()["0.weight"]
    assert not np.array_equal(take_steps(model, optim.SGD(model.parameters(), lr=0.1), 1)["0.weight"], before)
    assert ns.fit(model, (X, LABELS), epochs=1).loss[0] > 0


RULES = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adagrad": lambda p: optim.AdaGrad(p, lr=0.1, eps=1e-3),
    "rmsprop": lambda p: optim.RMSProp(p, lr=0.01, alpha=0.5, momentum=0.5),
    "adam": lambda p: optim.Adam(p, lr=0.01, betas=(0.8, 0.9), weight_decay=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=optim.schedules.cosine(0.1, steps=9, warmup=2)),
    "decay": lambda p: optim.Adam(p, lr=optim.schedules.step_decay(0.1, every=2)),
}


@pytest.mark.parametrize("rule", RULES)
def test_an_optimizer_goes_on_bit_for_bit(tmp_path, rule):
    model = make_model()
    optimizer = RULES[rule](model.parameters())
    ns.manual_seed(5)
    take_steps(model, optimizer, 3)
    ns.save(model, tmp_path / "model.safetensors", optimizer)
    drawn = ns.random.streams["dropout"].draws.numpy()
    expected = take_steps(model, optimizer, 3)
    found, continued = ns.load(tmp_path / "model.safetensors", with_optimizer=True)
    assert repr(continued) == repr(RULES[rule](found.parameters()))
    ns.random.streams["dropout"].draws.assign(ns.tensor(drawn))
    for path, array in take_steps(found, continued, 3).items():
        assert np.array_equal(array, expected[path]), path


def test_settings_given_as_numpy_numbers_come_back(tmp_path):
    model = make_model()
    ns.save(model, tmp_path / "m", optim.Adam(model.parameters(), weight_decay=np.float32(0.5)))
    found = ns.load(tmp_path / "m", with_optimizer=True)[1]
    assert found.weight_decay == 0.5


def test_a_file_without_optimizer_says_so(tmp_path):
    ns.save(make_model(), tmp_path / "m")
    with pytest.raises(ModelFileError, match="without its optimizer"):
        ns.load(tmp_path / "m", with_optimizer=True)


# What cannot be saved is refused when it is saved


class Mine(nn.Module):
    def forward(self, x):
        return x


class Linear(nn.Linear):
    """Has the name of one of ours."""


@pytest.mark.parametrize("module", [Mine(), nn.Sequential(nn.ReLU(), nn.Sequential(Mine())), Linear(2, 2)])
def test_a_module_of_the_users_is_refused_with_advice(tmp_path, module):
    with pytest.raises(OptionError, match=r"is not one of nissl's own modules.* save its state_dict\(\) instead"):
        ns.save(module, tmp_path / "m")
    assert os.listdir(tmp_path) == []


class MySGD(optim.SGD):
    pass


tied = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        (nn.Sequential(tied, nn.ReLU(), tied), None),
        (tied, MySGD(tied.parameters())),
        (tied, optim.Adam([tied.weight])),
        (tied, optim.Adam(list(tied.parameters()))),
        (tied, optim.Adam(nn.Linear(2, 2, bias=False).parameters())),
    ],
)
def test_what_save_takes_load_gives_back(tmp_path, model, optimizer):
    try:
        ns.save(model, tmp_path / "m", optimizer)
    except OptionError:
        return
    ns.load(tmp_path / "m", with_optimizer=optimizer is not None)


@pytest.mark.parametrize(
    ("model", "notes"),
    [
        (nn.Linear(4, LABELS.max() + 1), None),  # np.int64, as many would write it
        (nn.Linear(4, 3, dtype=np.float32), None),
        (nn.Linear(4, 3), {"accuracy": np.float32(0.5)}),
    ],
)
def test_numpy_numbers_and_dtypes_can_be_saved_or_are_refused_clearly(tmp_path, model, notes):
    try:
        ns.save(model, tmp_path / "m", notes=notes)
    except NisslError:
        return
    assert repr(ns.load(tmp_path / "m")) == repr(model)


@pytest.mark.parametrize("when", ["before", "half-way", "move"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, when, error, valid):
    path = tmp_path / "m.safetensors"
    path.write_bytes(valid)

    def fail(*arguments, **options):
        if when == "half-way":
            arguments[1].write_bytes(valid[:100])
        raise error

    place = (os, "replace") if when == "move" else (safetensors.numpy, "save_file")
    monkeypatch.setattr(*place, fail)
    with pytest.raises(type(error)):
        ns.save(nn.Linear(1, 1), path)
    assert path.read_bytes() == valid
    assert os.listdir(tmp_path) == [path.name]


def test_what_a_killed_save_left_goes_with_a_later_one_and_nothing_else_does(tmp_path):
    killed = "import os, signal, sys; from nissl import files\nwith files.write_atomically(sys.argv[1]) as temporary:\n"
    killed += "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    for name in ("model.safetensors", "model-b.safetensors", "model.png"):
        subprocess.run([sys.executable, "-c", killed, str(tmp_path / name)])
    left = sorted(path.name for path in tmp_path.iterdir())
    assert [name.startswith(".model") for name in left] == [True] * 3
    (tmp_path / ".model-mine.safetensors").touch()

    def save_after(seconds):
        for path in tmp_path.iterdir():
            os.utime(path, (time.time() - seconds,) * 2)
        ns.save(nn.Linear(1, 1), tmp_path / "model.safetensors")
        return sorted(path.name for path in tmp_path.iterdir())

    # It may be at work still, for all that can be seen.
    assert save_after(60) == sorted([*left, ".model-mine.safetensors", "model.safetensors"])
    (gone,) = set(left) - set(save_after(7200))
    assert gone.startswith(".model-nissl-")
    assert gone.endswith(".safetensors")
    assert (tmp_path / ".model-mine.safetensors").exists()


def test_saving_to_a_folder_or_below_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "m"):
        with pytest.raises(OSError, match=str(tmp_path)):
            ns.save(nn.Linear(1, 1), path)
    assert os.listdir(tmp_path) == ["file"]


# Files that are not what they should be


def test_a_file_cut_short_at_any_length_is_damaged(valid, target):
    assert isinstance(outcome(target, valid), nn.Sequential)
    for length in range(len(valid)):
        assert isinstance(outcome(target, valid[:length]), ModelFileError), length
    assert isinstance(outcome(target, valid + b"\0"), ModelFileError)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400), prefixed=st.booleans())
def test_random_bytes_are_no_model(target, content, prefixed):
    content = struct.pack("<Q", len(content)) + content if prefixed else content
    assert isinstance(outcome(target, content), ModelFileError)


@settings(max_examples=500, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=4))
def test_flipped_bits_give_a_model_or_an_error(valid, target, flips):
    content = bytearray(valid)
    for place, bit in flips:
        content[place % len(content)] ^= 1 << bit
    assert isinstance(outcome(target, bytes(content)), nn.Sequential | ModelFileError)


def test_a_flipped_bit_never_gives_another_model(with_checksum, target):
    state = outcome(target, with_checksum).state_dict()
    size = len(json.dumps(header_of(with_checksum)[0]))
    for place in [*range(0, size, 7), *range(size, len(with_checksum))]:
        content = bytearray(with_checksum)
        content[place] ^= 1 << place % 8
        found = outcome(target, bytes(content))
        if not isinstance(found, ModelFileError):  # a bit of the filling between header and arrays
            assert all(np.array_equal(array, state[path]) for path, array in found.state_dict().items()), place
            assert storage.load_notes(target) == {"classes": ["a", "b", "c"]}
            assert place < len(with_checksum) - sum(array.nbytes for array in state.values())


def test_arrays_of_every_byte_order_size_and_shape_pass_their_checksum(tmp_path):
    extras = {"big": np.arange(3, dtype=">f4"), "none": np.zeros((0, 3)), "one": np.array(2.0), "bits": np.eye(2) > 0}
    extras["turned"] = np.arange(6.0).reshape(2, 3).T
    ns.save(nn.Linear(2, 2), tmp_path / "m.safetensors", extras=extras, notes={"nan": float("nan"), "ü": [1e300, 1]})
    found = storage.load_extras(tmp_path / "m.safetensors")
    assert all(np.array_equal(found[name], array) for name, array in extras.items())


def test_any_value_anywhere_in_the_document_gives_a_module_or_an_error(valid, target):
    lies = [None, True, -1, 2.5, 10**30, float("nan"), "x", "float64", "object", [], [1, 2], {}, "ReLU", "Module"]
    lies += [{"class": "Sequential", "settings": {"layers": {}}}, {"class": ["a"], "settings": []}]
    found = []
    for place in list(places(document_of(valid)))[1:]:
        for lie in lies:
            document = document_of(valid)
            holder = functools.reduce(operator.getitem, place[:-1], document)
            holder[place[-1]] = lie
            found.append(outcome(target, with_document(valid, document)))
    assert len(found) > 500
    assert {isinstance(result, nn.Module) for result in found} == {True, False}


def places(document, before=()):
    yield before
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield from places(document[key], (*before, key))


def layers(document):
    return document["architecture"]["settings"]["layers"]


LIES = {
    "an unknown layer": (lambda d: layers(d)[0].update({"class": "os.system"}), "does not have: 'os.system'"),
    "a name that is no layer": (lambda d: layers(d)[0].update({"class": "init"}), "does not have"),
    "an unknown setting": (lambda d: layers(d)[2]["settings"].update(path="x"), "unexpected keyword"),
    "another size": (lambda d: layers(d)[0]["settings"].update(in_features=9), r"0\.weight as .*9, 5"),
    "another dtype": (lambda d: layers(d)[0]["settings"].update(dtype="float64"), r"0\.\w+ as .*float64"),
    "a layer more": (lambda d: layers(d).append(layers(d)[0]), r"5\.\w+ as .*, the file holds nothing"),
    "a layer less": (lambda d: layers(d).pop(), r"has 4\.\w+ as nothing"),
    "a newer format": (lambda d: d.update(format=2, version="9.1"), r"nissl 9\.1, in a newer format .* update nissl"),
    "no format": (lambda d: d.pop("format"), "damaged"),
    "no architecture": (lambda d: d.pop("architecture"), "not readable"),
    "no settings": (lambda d: d["architecture"].pop("settings"), "not readable"),
    "no layers": (lambda d: d["architecture"]["settings"].clear(), "layers"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_document_that_lies_is_refused_with_what_is_wrong(valid, target, lie):
    change, message = LIES[lie]
    document = document_of(valid)
    change(document)
    target.write_bytes(with_document(valid, document))
    with pytest.raises(ModelFileError, match=message) as caught:
        ns.load(target)
    assert str(caught.value).startswith(str(target))


@pytest.mark.parametrize("depth", [60, 150, 200, 300, 5_000, 200_000])
def test_deep_nesting_is_refused(valid, target, depth):
    for layer, end in (('{"class":"Sequential","settings":{"layers":[', "]}}"), ("[", "]")):
        text = '{"format":1,"architecture":' + layer * depth + end * depth + "}"
        assert isinstance(outcome(target, with_document(valid, text)), ModelFileError)


@pytest.mark.parametrize("width", [10**6, 10**9, 10**15, 2**62, 10**40])
def test_a_huge_shape_costs_no_memory(valid, target, width):
    header, body = header_of(valid)
    header["model/0.weight"]["shape"] = [width, width]
    document = document_of(valid)
    layers(document)[0]["settings"] |= {"in_features": width, "out_features": width}
    layers(document)[1]["settings"]["features"] = width
    contents = [with_document(valid, document), with_header(header, body), struct.pack("<Q", min(width, 2**63)) + body]
    tracemalloc.start()
    for content in contents:
        assert isinstance(outcome(target, content), ModelFileError)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


def test_arrays_of_another_kind_or_too_many_are_refused(valid, target):
    arrays = safetensors.numpy.load(valid)
    metadata = header_of(valid)[0]["__metadata__"]
    lies = [
        {"model/0.bias": arrays["model/0.bias"].astype("float64")},
        {"model/0.bias": arrays["model/0.bias"].view("int32")},
        {"model/0.bias": arrays["model/0.bias"].reshape(5, 1)},
        {"model/0.bias": np.zeros(0, "float32")},
        {"model/9.bias": np.zeros(3, "float32")},
        {"model/": np.zeros(3, "float32")},
    ]
    assert isinstance(outcome(target, safetensors.numpy.save(arrays, metadata)), nn.Module)
    for lie in lies:
        assert isinstance(outcome(target, safetensors.numpy.save(arrays | lie, metadata)), ModelFileError), lie
    del arrays["model/4.weight"]
    assert "4.weight" in str(outcome(target, safetensors.numpy.save(arrays, metadata)))


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F16", "I64", "BOOL", "F64", "C64", "unheard of", None])
def test_a_dtype_that_lies_is_refused(valid, target, dtype):
    header, body = header_of(valid)
    entry = header["model/0.bias"]
    count = entry["data_offsets"][1] - entry["data_offsets"][0]
    for size in (1, 2, 4, 8):
        header["model/0.bias"] = {**entry, "dtype": dtype, "shape": [count // size]}
        assert isinstance(outcome(target, with_header(header, body)), ModelFileError)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was run",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (safetensors.numpy.save({"weight": X}), "not a model of nissl"),
        (safetensors.numpy.save({"weight": X}, {"nissl": "{"}), "damaged"),
        (pickle.dumps(Bomb()), "not a model file"),
        (b"", "not a model file"),
        (b"PK\3\4" + random.Random(0).randbytes(300), "not a model file"),
    ],
)
def test_other_files_are_told_apart(target, content, message):
    target.write_bytes(content)
    for load in (ns.load, storage.load_notes):
        with pytest.raises(ModelFileError, match=message):
            load(target)


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(ModelFileError, match=f"{tmp_path} is a folder"):
        ns.load(tmp_path)
    with pytest.raises(ModelFileError, match=r"nowhere\.safetensors does not exist"):
        ns.load(tmp_path / "nowhere.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="has no links and devices of this kind")
def test_a_link_is_followed_permissions_stay_and_a_device_is_left_alone(tmp_path):
    model = make_model()
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    ns.save(model, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o600
    assert ns.load(tmp_path / "real").state_dict().keys() == model.state_dict().keys()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is not a file that can be written anew"):
        ns.save(model, tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_frozen_parameters_come_back_frozen(tmp_path):
    model = make_model()
    first, *others = model.named_parameters().values()
    first.requires_grad = False
    ns.save(model, tmp_path / "m")
    found = ns.load(tmp_path / "m").named_parameters().values()
    assert [p.requires_grad for p in found] == [False, *[True] * len(others)]


@pytest.mark.parametrize(
    ("extras", "error", "message"),
    [
        ({"names": ["oak", "yew"]}, DTypeError, "arrays of real numbers .* but 'names' is of <U3"),
        ({"waves": np.ones(2) * 1j}, DTypeError, "'waves' is of complex128"),
        ({"rows": [[1], [1, 2]]}, DataError, "the array 'rows' of extras is not an array"),
        ([np.ones(2)], OptionError, "extras is a dict of arrays by names, got list"),
    ],
)
def test_extras_that_are_no_arrays_of_numbers_are_refused(extras, error, message, tmp_path):
    with pytest.raises(error, match=message):
        ns.save(nn.Linear(2, 2), tmp_path / "m", extras=extras)
    assert os.listdir(tmp_path) == []
