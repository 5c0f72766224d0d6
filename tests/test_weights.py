"""Weights of PyTorch and Keras: the same architecture gives the same outputs, and nothing is ever guessed silently."""

import importlib.util
import itertools
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import nissl as ns
from nissl import nn
from nissl.errors import DTypeError, ModelFileError, NisslError, OptionError, ShapeError

DATA = Path(__file__).parent / "data"
# What data/make_weights.py made always; where PyTorch is installed, what it makes now as well.
PYTORCH = ["file", *["live"] * (importlib.util.find_spec("torch") is not None)]


def like_pytorch():
    """Return the network of data/make_weights.py as a Sequential, whose layers have numbers."""
    return nn.Sequential(
        nn.Linear(6, 5),
        nn.BatchNorm(5),
        nn.GELU(),
        nn.Linear(5, 5),  # square: its shape does not show that it is transposed
        nn.LayerNorm(5),
        nn.ELU(),
        nn.Linear(5, 3),
    )


def like_keras():
    model = like_pytorch()
    model[1], model[4] = nn.BatchNorm(5, eps=1e-3), nn.LayerNorm(5, eps=1e-3)
    return model


class Net(nn.Module):
    """The same with names."""

    def __init__(self):
        self.first, self.batch_norm = nn.Linear(6, 5), nn.BatchNorm(5)
        self.second, self.layer_norm = nn.Linear(5, 5), nn.LayerNorm(5)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        x = nn.GELU()(self.batch_norm(self.first(x)))
        return self.last(nn.ELU()(self.layer_norm(self.second(x))))


def from_pytorch(which):
    """Return a state of PyTorch with an input and its output."""
    if which == "file":
        found = safetensors.numpy.load_file(DATA / "pytorch-outputs.safetensors")
        return DATA / "pytorch-weights.safetensors", found["input"], found["output"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = runpy.run_path(str(DATA / "make_weights.py"))
        net = made["pytorch"]()
        return net.state_dict(), made["X"], made["pytorch_output"](net)


def arrays_of(name):
    return safetensors.numpy.load_file(DATA / f"{name}-weights.safetensors")


@pytest.mark.parametrize("which", PYTORCH)
@pytest.mark.parametrize("make", [Net, like_pytorch])
def test_a_network_of_pytorch_gives_the_same_here(which, make):
    state, x, output = from_pytorch(which)
    model = make()
    loaded = model.load_state_dict(state, source="pytorch")
    np.testing.assert_allclose(ns.predict(model, x), output, atol=1e-6, rtol=1e-6)
    assert loaded.matched == ("by name" if make is Net else "by shape")
    assert set(loaded.transposed) == {"first.weight", "second.weight", "last.weight"}
    assert loaded.not_needed == ("batch_norm.num_batches_tracked",)
    assert set(loaded.places.values()) == model.state_dict().keys()


@pytest.mark.parametrize("which", PYTORCH)
def test_a_state_goes_to_pytorch_and_back(which, tmp_path):
    model, other = Net(), Net()
    model.load_state_dict(from_pytorch(which)[0], source="pytorch")
    state = model.state_dict(target="pytorch")
    safetensors.numpy.save_file(state, tmp_path / "back.safetensors")
    other.load_state_dict(tmp_path / "back.safetensors", source="pytorch")
    for path, array in model.state_dict().items():
        assert np.array_equal(other.state_dict()[path], array)
    theirs = arrays_of("pytorch")
    if which == "file":
        assert state.keys() == theirs.keys() - {"batch_norm.num_batches_tracked"}
        assert all(np.array_equal(state[name], theirs[name]) for name in state)
        return
    import torch

    made = runpy.run_path(str(DATA / "make_weights.py"))
    net, expected = made["pytorch"](), ns.predict(model, made["X"])
    for parameter in net.parameters():
        parameter.data.zero_()
    net.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    np.testing.assert_allclose(made["pytorch_output"](net), expected, atol=1e-6, rtol=1e-6)


def keras_state(form):
    """Return the weights of Keras as get_weights() gives them, by their paths in order, or as a file."""
    file = DATA / "keras-weights.safetensors"
    if form == "file":
        return file
    with safetensors.safe_open(file, framework="np") as opened:
        order = [opened.metadata()[str(i)] for i in range(12)]
    arrays = arrays_of("keras")
    return {name: arrays[name] for name in order} if form == "dict" else [arrays[name] for name in order]


@pytest.mark.parametrize(("form", "matched"), [("list", "in order"), ("dict", "by shape"), ("file", "by shape")])
def test_a_network_of_keras_gives_the_same_here(form, matched):
    model = like_keras()
    loaded = model.load_state_dict(keras_state(form), source="keras")
    found = safetensors.numpy.load_file(DATA / "keras-outputs.safetensors")
    np.testing.assert_allclose(ns.predict(model, found["input"]), found["output"], atol=1e-6, rtol=1e-6)
    assert (loaded.matched, loaded.transposed) == (matched, ())


def test_what_went_where_is_shown():
    loaded = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.BatchNorm(2)).load_state_dict(
        state_of([("a", (2, 2), True), ("norm", (2,), False)]), source="pytorch"
    )
    assert (
        repr(loaded)
        == str(loaded)
        == (
            "weights from PyTorch, matched by shape:\n"
            "  a.weight          -> 1.weight        transposed\n"
            "  a.bias            -> 1.bias\n"
            "  norm.weight       -> 2.weight\n"
            "  norm.bias         -> 2.bias\n"
            "  norm.running_mean -> 2.running_mean\n"
            "  norm.running_var  -> 2.running_var\n"
            "  norm.num_batches_tracked is not needed"
        )
    )


def state_of(layers, seed=0):
    """Return a state as PyTorch would have it, of Linear layers (name, shape there, True) and batch norms."""
    generator = np.random.default_rng(seed)
    state = {}
    for name, shape, is_linear in layers:
        state[f"{name}.weight"] = generator.normal(size=shape)
        state[f"{name}.bias"] = generator.normal(size=shape[:1])
        if not is_linear:
            state[f"{name}.running_mean"] = generator.normal(size=shape)
            state[f"{name}.running_var"] = generator.uniform(1, 2, size=shape)
            state[f"{name}.num_batches_tracked"] = np.array(3)
    return state


# When names do not agree


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 3), min_size=2, max_size=6), named=st.booleans())
def test_layers_in_order_go_where_they_belong(sizes, named):
    pairs = list(itertools.pairwise(sizes))
    state = state_of([(f"fc{i}" if named else str(2 * i), pair[::-1], True) for i, pair in enumerate(pairs)])
    model = nn.Sequential(nn.Dropout(), *(nn.Linear(*pair, dtype="float64") for pair in pairs))
    model.load_state_dict(state, source="pytorch")
    for i, array in enumerate(v for name, v in state.items() if name.endswith("weight")):
        assert np.array_equal(model[i + 1].weight.numpy(), array.T)


def test_a_file_whose_names_and_shapes_do_not_tell_is_refused(tmp_path):
    state = state_of([("b", (3, 3), True), ("a", (3, 3), True)])
    safetensors.numpy.save_file(state, tmp_path / "m.safetensors")
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    before = model.state_dict()
    with pytest.raises(OptionError, match=r"same shapes, and neither names nor order tell.*rename"):
        model.load_state_dict(tmp_path / "m.safetensors", source="pytorch")
    assert all(np.array_equal(before[path], array) for path, array in model.state_dict().items())
    assert model.load_state_dict(state, source="pytorch").matched == "in order"
    assert np.array_equal(model[0].weight.numpy(), state["b.weight"].T.astype("f"))
    renamed = {name.replace("b.", "0.").replace("a.", "1."): array for name, array in state.items()}
    safetensors.numpy.save_file(renamed, tmp_path / "m.safetensors")
    assert model.load_state_dict(tmp_path / "m.safetensors", source="pytorch").matched == "by name"


def test_a_name_that_stands_for_another_layer_is_not_crossed():
    class Two(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    state = state_of([("zeroth", (3, 3), True), ("first", (3, 3), True)])
    with pytest.raises(OptionError, match="in order, first would become second, but there is a first"):
        Two().load_state_dict(state, source="pytorch")


REFUSED = {
    "another width": (
        [("0", (4, 3), True)],
        ShapeError,
        r"0.weight has shape \(4, 3\); from PyTorch, 0.weight .*\(2, 3\)",
    ),
    "not transposed": ([("0", (3, 2), True)], ShapeError, "it would fit as it is: is it from elsewhere"),
    "another name and width": ([("fc", (4, 3), True)], OptionError, "neither names nor shapes agree.*fc.weight 4×3"),
    "not transposed by another name": ([("fc", (3, 2), True)], OptionError, "neither names nor shapes"),
    "too many": ([("0", (2, 3), True), ("1", (2, 2), True)], OptionError, "4 arrays do not fill 2"),
    "nothing": ([], OptionError, "0 arrays do not fill 2. The state from PyTorch has nothing; this model takes"),
    "another layer": ([("0", (2,), False)], OptionError, "4 arrays do not fill 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_state_of_another_architecture_changes_nothing(name):
    layers, error, message = REFUSED[name]
    model = nn.Sequential(nn.Linear(3, 2))
    before = model.state_dict()
    with pytest.raises(error, match=message):
        model.load_state_dict(state_of(layers), source="pytorch")
    assert all(np.array_equal(before[path], array) for path, array in model.state_dict().items())


def test_keras_names_do_not_fit_a_layer_without_bias():
    with pytest.raises(OptionError, match="2 arrays do not fill 1"):
        nn.Linear(2, 2, bias=False).load_state_dict([np.ones((2, 2)), np.ones(2)], source="keras")
    with pytest.raises(ShapeError, match=r"array 0 has shape \(2, 3\); from Keras, weight .* takes shape \(3, 2\)"):
        nn.Linear(3, 2).load_state_dict([np.ones((2, 3)), np.ones(2)], source="keras")
    model = nn.Linear(2, 2)
    kernel = np.arange(4.0).reshape(2, 2)
    assert model.load_state_dict({"kernel": kernel, "bias": np.ones(2)}, source="keras").matched == "by name"
    assert np.array_equal(model.weight.numpy(), kernel)


# The source must be said where it matters


def test_what_pytorch_wrote_is_not_taken_for_ours():
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ShapeError, match=r"in the state; if it comes from PyTorch, say .*source='pytorch'"):
        model.load_state_dict({"0.weight": np.ones((2, 3)), "0.bias": np.ones(2)})
    with pytest.raises(OptionError, match=r"not in the model: fc.weight, fc.bias. If .* say source='pytorch'"):
        model.load_state_dict({"fc.weight": np.ones((2, 3)), "fc.bias": np.ones(2)})
    with pytest.raises(OptionError, match=r"comes from PyTorch, which keeps .* transposed; say"):
        Net().load_state_dict(DATA / "pytorch-weights.safetensors")


def test_a_tensor_of_pytorch_is_known_even_where_all_weights_are_square():
    class Square(np.ndarray):
        """Stands for torch.Tensor where that is not installed."""

    Square.__module__ = "torch"
    state = {"weight": np.ones((2, 2)).view(Square), "bias": np.ones(2).view(Square)}
    model = nn.Linear(2, 2)
    with pytest.raises(OptionError, match="comes from PyTorch"):
        model.load_state_dict(state)
    model.load_state_dict(state, source="pytorch")


def test_our_own_state_is_taken_as_before(tmp_path):
    one, other = Net(), Net()
    assert other.load_state_dict(one.state_dict()) is None
    safetensors.numpy.save_file(one.state_dict(), tmp_path / "state.safetensors")
    other = Net()
    other.load_state_dict(tmp_path / "state.safetensors")
    assert all(np.array_equal(other.state_dict()[path], array) for path, array in one.state_dict().items())


class OwnMatrix(nn.Module):
    """A matrix of the user's own, which is used here as it is in PyTorch."""

    def __init__(self):
        self.mix = nn.Parameter(np.eye(3, dtype="f"))
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(x @ self.mix)


def test_only_the_weights_of_linear_layers_are_transposed():
    model = OwnMatrix()
    mix = np.arange(9.0).reshape(3, 3)
    state = {"mix": mix, "head.weight": np.ones((2, 3)), "head.bias": np.zeros(2)}
    assert model.load_state_dict(state, source="pytorch").transposed == ("head.weight",)
    assert np.array_equal(model.mix.numpy(), mix)


# Wrong use


def test_unknown_sources_and_targets_are_named():
    model = nn.Linear(2, 2)
    with pytest.raises(OptionError, match="unknown source of weights 'torch'; did you mean 'pytorch'"):
        model.load_state_dict(model.state_dict(), source="torch")
    with pytest.raises(OptionError, match="unknown target of weights 'keras'"):
        model.state_dict(target="keras")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([np.ones((2, 2)), np.ones(2)], "takes a dict of arrays by name.* got list"),
        (None, "got NoneType"),
        ({"weight": "abc", "bias": [1.0, 2.0]}, "weight holds <U3, not numbers"),
        ({"weight": [[1.0], [2.0, 3.0]], "bias": [1.0, 2.0]}, "weight is not an array"),
        ({"weight": np.ma.masked_equal(np.eye(2), 1), "bias": [1.0, 2.0]}, "weight has masked numbers"),
    ],
)
def test_what_is_no_state_is_refused(state, message):
    for source in (None, "pytorch"):
        with pytest.raises(OptionError, match=message):
            nn.Linear(2, 2).load_state_dict(state, source=source)


def test_files_that_are_no_weights_are_refused(tmp_path):
    model = nn.Linear(2, 2)
    ns.save(model, tmp_path / "model.safetensors")
    (tmp_path / "net.pt").write_bytes(b"PK\x03\x04 a pickle")
    (tmp_path / "empty").touch()
    for name, message in [
        ("model.safetensors", r"whole model of nissl; ns.load\(path\)"),
        ("net.pt", r"is not a safetensors file.*safetensors.torch.save_file"),
        ("empty", "is not a safetensors file"),
        ("none", "does not exist"),
        ("", "is a folder"),
    ]:
        with pytest.raises(ModelFileError, match=message):
            model.load_state_dict(tmp_path / name, source="pytorch")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
def test_quantized_weights_are_not_taken_for_the_weights(tmp_path, dtype):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm(2))
    before = model.state_dict()
    state = before | {"0.weight": np.ones((2, 2), dtype)}
    safetensors.numpy.save_file(state, tmp_path / "quantized.safetensors")
    for source in (None, "pytorch", "keras"):
        for given_state in (state, tmp_path / "quantized.safetensors"):
            with pytest.raises(DTypeError, match=rf"0.weight is float32 in the model, {dtype} in .* by their scales"):
                model.load_state_dict(given_state, source=source)
    assert all(np.array_equal(before[path], array) for path, array in model.state_dict().items())


def test_whole_numbers_written_by_hand_are_weights():
    model = nn.Linear(2, 1)
    model.load_state_dict({"weight": [[1], [-1]], "bias": [0]})
    assert model.weight.numpy().tolist() == [[1.0], [-1.0]]


def test_damaged_files_raise_our_errors_only(tmp_path):
    content = (DATA / "pytorch-weights.safetensors").read_bytes()
    path, model = tmp_path / "m", Net()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            model.load_state_dict(path, source="pytorch")
    generator = np.random.default_rng(0)
    for _ in range(200):
        flipped = bytearray(content)
        flipped[generator.integers(1000)] ^= 1 << generator.integers(8)
        path.write_bytes(flipped)
        try:
            model.load_state_dict(path, source="pytorch")
        except NisslError:
            continue


def test_bfloat16_is_refused_with_advice(tmp_path):
    header = b'{"weight":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    (tmp_path / "m").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    program = (
        "import sys; exec(sys.argv[1]); from nissl import nn\n"
        "try: nn.Linear(2, 1, bias=False).load_state_dict('m', source='pytorch')\n"
        "except ValueError as error: print(type(error).__name__, error)"
    )
    # ml_dtypes teaches NumPy what bfloat16 is; newer versions of the package onnx bring it.
    for before in ["", *["import ml_dtypes"] * (importlib.util.find_spec("ml_dtypes") is not None)]:
        command = [sys.executable, "-c", program, before]
        said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
        assert re.match(r"ModelFileError m is not a safetensors file .*model.float\(\)", said)


def test_numbers_too_large_for_the_model_are_refused_and_nothing_changes():
    model = nn.Sequential(nn.Linear(3, 3))
    before = model.state_dict()
    with pytest.raises(OptionError, match=r"0.bias holds 1e\+300, which float32 cannot hold"):
        model.load_state_dict({"0.weight": np.ones((3, 3)), "0.bias": np.full(3, 1e300)})
    np.testing.assert_array_equal(model.state_dict()["0.weight"], before["0.weight"])
