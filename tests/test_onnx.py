"""ONNX files: what onnxruntime computes from them is what the model computes, for every layer, op and batch."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from command import call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import every_op_with_samples

import nissl as ns
from nissl import nn, storage
from nissl.errors import OptionError, ShapeError, TracingError
from nissl.exchange.onnx import OPSET, add_function, make_onnx, trace_forward
from nissl.exchange.onnx_nodes import BUILDERS, Nodes, element_type
from nissl.tensor import OPS

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def session(document, exact=False):
    options = onnxruntime.SessionOptions()
    if exact:  # by default, onnxruntime folds factors of float64 into fused products as float32
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = document if isinstance(document, str) else document.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def rows(count, shape, dtype="float32"):
    return np.random.default_rng([count, *shape]).normal(size=(count, *shape)).astype(dtype)


def check(model, shape, folder, dtype="float32", batches=(1, 2, 7), given=False):
    """Check that the exported model gives what the model gives."""
    path = str(folder / "model.onnx")
    ns.export_onnx(model, path, input_shape=shape if given else None)
    exported = session(path, exact=dtype == "float64")
    for count in batches:
        x = rows(count, shape, dtype)
        (found,) = exported.run(None, {"x": x})
        expected = ns.predict(model, x)
        assert found.dtype == expected.dtype == np.dtype(dtype)
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    return onnx.load(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


# Layers


def with_statistics(norm):
    """Give a BatchNorm running averages of its own."""
    for seed in range(3):
        norm(np.random.default_rng(seed).normal(2, 3, (8, norm.features)).astype(norm.dtype))
    return norm


def layers(dtype):
    """Return a layer of every kind in nn, by name; those of one argument or none need no row of their own."""
    ns.manual_seed(1)
    made = {
        "Linear": nn.Linear(4, 3, dtype=dtype),
        "Linear without bias": nn.Linear(4, 3, bias=False, dtype=dtype),
        "BatchNorm": with_statistics(nn.BatchNorm(4, dtype=dtype)),
        "LayerNorm": nn.LayerNorm(4, eps=1e-2, dtype=dtype),
        "LeakyReLU": nn.LeakyReLU(0.2),
        "ELU": nn.ELU(0.7),
        "Softmax over rows": nn.Softmax(axis=0),
        "Sequential": nn.Sequential(nn.Linear(4, 3, dtype=dtype), nn.Sequential(nn.Tanh(), nn.Identity())),
        "empty Sequential": nn.Sequential(),
    }
    rest = {name: getattr(nn, name)() for name in storage.MODULES if name not in made}
    return made | rest


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("name", layers("float32"))
def test_every_layer_gives_the_same_in_onnxruntime(folder, name, shape, dtype):
    layer = layers(dtype)[name]
    if not layer.parameters():  # a model without parameters computes in float32: this one gives it the dtype
        layer = nn.Sequential(nn.Linear(4, 4, dtype=dtype), layer)
    check(layer, shape, folder, dtype, given=True)


def test_every_kind_of_layer_is_among_them():
    assert {type(layer) for layer in layers("float32").values()} == set(storage.MODULES.values())


@pytest.mark.parametrize("name", ["ELU", "GELU", "SiLU", "Sigmoid", "Softplus", "Tanh", "ReLU", "LeakyReLU", "Step"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_keep_their_digits_where_they_are_small_or_large(name, dtype):
    model = nn.Sequential(nn.Linear(1, 1, dtype=dtype), getattr(nn, name)())
    model.load_state_dict({"0.weight": [[1.0]], "0.bias": [0.0]})
    small = np.logspace(-7, 2.5, 200)
    x = np.concatenate([-small[::-1], [0], small]).astype(dtype)[:, None]
    (found,) = session(make_onnx(model)).run(None, {"x": x})
    expected = ns.predict(model, x)
    # Few digits are left of 1 + erf where erf is near -1, and of onnxruntime's Sigmoid of large negative numbers, which
    # is 1e-8 and more in float32. GELU and SiLU are x times that.
    loses = name in ("GELU", "SiLU", "Sigmoid")
    relative, absolute = (2e-6, 5e-6) if dtype == "float32" else (1e-13, 1e-14)
    np.testing.assert_allclose(found, expected, rtol=relative, atol=absolute if loses else 1e-30)


KINDS = st.sampled_from(["Linear", "BatchNorm", "LayerNorm", "Dropout", *nn.activations.ACTIVATIONS])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.tuples(KINDS, st.integers(1, 6)), min_size=1, max_size=8),
    features=st.integers(1, 5),
    dtype=st.sampled_from(DTYPES),
    image=st.booleans(),
)
def test_stacks_of_layers_give_the_same(folder, kinds, features, dtype, image):
    ns.manual_seed(0)
    stack = [nn.Flatten()] if image else []
    size = 2 * features if image else features
    for kind, width in kinds:
        if kind == "Linear":
            stack.append(nn.Linear(size, width, dtype=dtype))
            size = width
        elif kind in ("BatchNorm", "LayerNorm"):
            # A large ε, since near 0 a norm magnifies the last digits.
            norm = getattr(nn, kind)(size, eps=0.1, dtype=dtype)
            stack.append(with_statistics(norm) if kind == "BatchNorm" else norm)
        else:
            stack.append(nn.Dropout() if kind == "Dropout" else nn.activations.ACTIVATIONS[kind]())
    stack.append(nn.Linear(size, 2, dtype=dtype))
    check(nn.Sequential(*stack), (2, features) if image else (features,), folder, dtype, given=True)


# Ops: the exporter knows each that can be met on the way forward

ONLY_BACKWARD = {"index_add", "add_along_axis"}
OF_OPTIMIZERS = {"sgd", "momentum_sgd", "adagrad", "rmsprop", "adam", "adam_factors"}
RANDOM = {"random_bits", "random_uniform", "random_permutation"}


def test_every_op_has_nodes_or_a_reason_to_have_none():
    assert OPS.keys() - BUILDERS.keys() == ONLY_BACKWARD | OF_OPTIMIZERS | RANDOM
    assert BUILDERS.keys() <= OPS.keys()


def has_nodes(sample):
    """Whether a sample can be traced, and is made of ops with nodes."""
    if "mask" in sample.name or "two arrays" in sample.name or "array and integer" in sample.name:
        return False
    return not sample.name.startswith(tuple(ONLY_BACKWARD | RANDOM | OF_OPTIMIZERS)) and sample.name not in (
        "index integer and array apart ",
        "index integer and array apart transposed",
        "index list ",
        "index list transposed",
    )


def in_onnx(function, arrays):
    """Return what a function of Tensors gives for arrays, by onnxruntime."""
    forward = trace_forward(function, [(array.shape, array.dtype) for array in arrays], {})
    nodes = Nodes()
    names = [nodes.input(f"x{i}", array.dtype, array.shape) for i, array in enumerate(arrays)]
    nodes.output(add_function(nodes, [forward], names, {}), "y")
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    version = onnx.helper.find_min_ir_version_for(opsets)
    document = onnx.helper.make_model(nodes.graph("sample"), opset_imports=opsets, ir_version=version)
    onnx.checker.check_model(document, full_check=True)
    return session(document, exact=True).run(None, dict(zip(names, arrays, strict=True)))[0]


@pytest.mark.parametrize("sample", every_op_with_samples(has_nodes))
def test_every_op_gives_what_it_should(sample):
    for dtype in DTYPES:
        arrays = sample.arrays(dtype)
        found, expected = in_onnx(sample, arrays), np.asarray(sample.result(dtype))
        assert found.shape == expected.shape
        assert found.dtype == sample(*sample.tensors(dtype)).dtype
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_and_nan_come_out_as_they_should(dtype):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -1.0, -2.0, 30.0], dtype)
    for function in (ns.log1p, ns.expm1, ns.erf, ns.log, ns.exp, ns.tanh, ns.sigmoid, ns.relu, ns.sqrt):
        with np.errstate(all="ignore"):
            expected = function(x).numpy()
        np.testing.assert_allclose(in_onnx(function, [x]), expected, rtol=1e-6, err_msg=str(function))


# Modules of the user's own


class Residual(nn.Module):
    def __init__(self, features, dtype="float32"):
        self.inner = nn.Sequential(nn.LayerNorm(features, dtype=dtype), nn.Linear(features, features, dtype=dtype))
        self.gain = nn.Parameter(np.full(features, 0.5, dtype))
        self.shift = ns.tensor(np.arange(features, dtype=dtype))  # neither Parameter nor Buffer

    def forward(self, x):
        return x + self.gain * self.inner(x).tanh() + self.shift


class OfTheBatch(nn.Module):
    """Looks at the batch as a whole: its size is in shapes, in numbers and in indices."""

    def __init__(self):
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        x = x.reshape(len(x), 2, 3)
        centred = x - x.mean(axis=0, keepdims=True)  # divides by the size of the batch
        tall = centred.reshape(len(x) * 2, 3)
        pairs = ns.concat([tall, tall.flip(axis=0)], axis=0).reshape(len(x), 2, 2, 3)
        last = x[len(x) - 1]
        wide = ns.broadcast_to(last, (len(x), 2, 3)) / len(x) + ns.full((len(x), 1, 1), 2.0)
        return self.linear((pairs[:, :, 0] + wide)[: len(x), ::-1].reshape(-1, 6)).sum(axis=-1)


class Attention(nn.Module):
    """Products of more than two axes, of values with each other."""

    def __init__(self):
        self.query, self.key = nn.Linear(4, 4), nn.Linear(4, 4)
        self.value = self.key  # one layer in two places

    def forward(self, x):
        scores = self.query(x) @ self.key(x).permute_dims(0, 2, 1)
        return (ns.softmax(scores / 2) @ self.value(x)).max(axis=1)


def test_own_modules_give_the_same(folder):
    ns.manual_seed(0)
    for dtype in DTYPES:
        model = nn.Sequential(nn.Linear(4, 3, dtype=dtype), Residual(3, dtype), Residual(3, dtype))
        document = check(model, (4,), folder, dtype)
    names = {tensor.name for tensor in document.graph.initializer}
    assert names >= model.state_dict().keys()
    check(OfTheBatch(), (6,), folder, given=True)
    check(Attention(), (5, 4), folder, given=True)


OF_BOOLS = {
    "both": lambda a, b: a * b,
    "either": lambda a, b: a + b,
    "with a constant": lambda a, b: a * True,
    "maximum": ns.maximum,
    "minimum": ns.minimum,
    "square": lambda a, b: ns.square(a),
    "abs": lambda a, b: ns.abs(a),
    "where": lambda a, b: ns.where(a, b, a),
    "less": lambda a, b: a < b,
    "less or equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater or equal": lambda a, b: a >= b,
    "any": lambda a, b: (a * b).max(axis=1),
    "any, the axis kept": lambda a, b: (a * b).max(axis=1, keepdims=True),
    "all": lambda a, b: (a + b).min(axis=1),
    "of no axes": lambda a, b: a.max(axis=()),
    "the first that holds": lambda a, b: ns.argmax(a, 1),
    "the first that does not": lambda a, b: ns.argmin(a, 1),
    "the first of all": lambda a, b: ns.argmax(a),
}


@pytest.mark.parametrize("name", OF_BOOLS)
def test_bools_are_reckoned_with_as_in_numpy(name):
    bools = np.array([[False, False, True, True], [False, True, False, True], [True] * 4, [False] * 4])
    arrays = [bools, bools[[1, 0, 2, 3]]]
    found, expected = in_onnx(OF_BOOLS[name], arrays), OF_BOOLS[name](*map(ns.tensor, arrays)).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_layer_that_stands_twice_has_its_weights_once(folder):
    document = check(nn.Sequential(tied := nn.Linear(4, 4), nn.Tanh(), tied), (4,), folder)
    assert [t.name for t in document.graph.initializer if "weight" in t.name] == ["0.weight"]


class Says(nn.Module):
    """Does what a function says."""

    def __init__(self, function):
        self.function = function
        self.count = nn.Buffer([0.0])

    def forward(self, x):
        return self.function(self, x)


def counting(self, x):
    self.count.assign(self.count + 1)
    return x


REFUSED = {
    "random numbers": (lambda s, x: x + ns.random.normal(x.shape), OptionError, r"draws random .* in Says \(.*py:"),
    "an op": (lambda s, x: ns.grad(lambda a: a[1:].sum())(x), OptionError, r"nodes for the op index_add, in Says \("),
    "two arrays": (lambda s, x: x[ns.tensor([0, 0]), ns.tensor([1, 1])], OptionError, "by several arrays .*Says"),
    "state": (counting, OptionError, "changes count when it is called"),
    "a question of values": (lambda s, x: x if x.sum() > 0 else -x, TracingError, "export_onnx traces the model"),
    "two results": (lambda s, x: (x, x), OptionError, "one Tensor, got tuple"),
    "no Tensor": (lambda s, x: None, OptionError, "one Tensor, got NoneType"),
    "a loop over rows": (lambda s, x: ns.stack([row * 2 for row in x]), OptionError, "something else with 1 rows"),
    "a batch joined to itself": (
        lambda s, x: ns.concat([x] * len(x)),
        OptionError,
        "something else with 1 rows than with 2",
    ),
    "rank of the batch": (lambda s, x: x.reshape([len(x) * 4, *[1] * len(x)]), OptionError, "something else"),
    "new constants": (lambda s, x: x + np.random.default_rng().normal(size=4), OptionError, "makes numbers up"),
    "a root of the size": (lambda s, x: x / len(x) ** 0.5, OptionError, r"not a·batch \+ c .*\(1 for 1, 1.41421 for 2"),
    "other than in small batches": (lambda s, x: x if len(x) < 32 else -x, OptionError, "1 rows than with 257"),
    "the negative of bytes": (lambda s, x: -x.astype("uint8"), OptionError, r"(?s)ONNX does not accept .*Neg"),
    "a wrong shape": (lambda s, x: x @ ns.ones((3, 2)), ShapeError, r"batch of shape \(1, 4\): matmul got"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_onnx_cannot_say_is_refused_clearly(tmp_path, name):
    function, error, message = REFUSED[name]
    model = Says(function)
    with pytest.raises(error, match=message):
        ns.export_onnx(model, tmp_path / "model.onnx", input_shape=(4,))
    assert os.listdir(tmp_path) == []
    assert model.training


def test_what_is_random_in_training_only_is_no_matter(folder):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm(4))
    before = model.state_dict()
    check(model, (4,), folder)
    assert model.training
    assert model[1].training
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())


# The file


def test_the_file_says_what_is_in_it(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    notes = {"class names": ["ä", "b", "c"], "data set": "mine", "accuracy": np.float32(0.5)}
    ns.export_onnx(
        model, tmp_path / "m.onnx", input_shape=(2, 3), input_name="picture", output_name="logits", notes=notes
    )
    document = onnx.load(tmp_path / "m.onnx")
    assert (document.producer_name, document.producer_version) == ("nissl", ns.__version__)
    assert document.doc_string == repr(model)
    found = {entry.key: entry.value for entry in document.metadata_props}
    assert json.loads(found["class names"]) == notes["class names"]
    assert (found["data set"], found["accuracy"]) == ("mine", "0.5")
    assert [entry.version for entry in document.opset_import] == [OPSET]
    (given,), (result,) = document.graph.input, document.graph.output
    assert (given.name, result.name) == ("picture", "logits")
    shape = given.type.tensor_type.shape.dim
    assert (shape[0].dim_param, [n.dim_value for n in shape[1:]]) == ("batch", [2, 3])
    assert result.type.tensor_type.shape.dim[0].dim_param == "batch"
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in document.graph.initializer}
    for path, array in model.state_dict().items():
        assert np.array_equal(arrays[path], array)
    assert all(node.name for node in document.graph.node)
    assert len({node.name for node in document.graph.node}) == len(document.graph.node)
    # No path of this machine is in the file.
    assert os.path.dirname(__file__).encode() not in document.SerializeToString()


def test_every_opset_from_ours_on_is_written_and_valid(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Softplus(), nn.GELU(), nn.LayerNorm(4), nn.Softmax())
    for opset in range(OPSET, onnx.defs.onnx_opset_version() + 1):
        ns.export_onnx(model, tmp_path / "m.onnx", opset=opset)  # which checks it
        assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == opset
    for opset in (OPSET - 1, onnx.defs.onnx_opset_version() + 1, "18", float(OPSET)):
        with pytest.raises(OptionError, match=f"opset must be a whole number from {OPSET} to "):
            make_onnx(model, opset=opset)


def test_the_shape_of_rows_is_found_or_asked_for():
    for model in (nn.BatchNorm(4), nn.Sequential(nn.Tanh(), nn.Sequential(nn.LayerNorm(4)))):
        assert make_onnx(model).graph.input[0].type.tensor_type.shape.dim[1].dim_value == 4
    for model in (nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), nn.Sequential(), Residual(4)):
        with pytest.raises(OptionError, match=r"cannot tell the shape .* such as input_shape=\(28, 28\)"):
            make_onnx(model)
    for shape in [(28, -1), (2.5,), "28", 2.5]:
        with pytest.raises(OptionError, match="input_shape is the shape of one row"):
            make_onnx(nn.ReLU(), input_shape=shape)
    with pytest.raises(ShapeError, match=r"gave the model a batch of shape \(1, 5\): Linear\(4, 2\)"):
        make_onnx(nn.Linear(4, 2), input_shape=5)


def test_names_that_would_clash_are_refused():
    class Named(nn.Module):
        def __init__(self):
            self.x, self.constant_3, self.add_4 = (nn.Parameter(np.full(2, i, "f")) for i in range(3))

        def forward(self, x):
            return (x + self.x) * 2.0 + self.constant_3 + self.add_4

    for names in ({}, {"input_name": ""}, {"input_name": "a", "output_name": "a"}, {"input_name": "add_4"}):
        with pytest.raises(OptionError, match=r"cannot be named .* choose another name"):
            make_onnx(Named(), input_shape=(2,), **names)
    x = rows(3, (2,))
    (found,) = session(make_onnx(Named(), input_shape=(2,), input_name="rows")).run(None, {"rows": x})
    np.testing.assert_allclose(found, ns.predict(Named(), x))
    with pytest.raises(OptionError, match="is named by text, got 3"):
        make_onnx(nn.Linear(3, 2), input_name=3)


@pytest.mark.parametrize("model", [nn.Identity(), nn.Sequential(nn.Identity(), nn.Dropout())])
def test_a_model_that_does_nothing_gives_its_input(model):
    x = rows(3, (2,))
    assert np.array_equal(session(make_onnx(model, input_shape=(2,))).run(["y"], {"x": x})[0], x)


def test_nodes_can_stand_in_front(folder):
    """The preprocessing of a table: columns in, rows out."""
    model = nn.Sequential(nn.Linear(5, 4), OfRows())

    def before(nodes):
        age = nodes.input("age", "float32", ("batch", 1))
        town = nodes.input("town", "int64", ("batch", 1))
        scaled = nodes.add("Div", nodes.add("Sub", age, nodes.constant(40, "float32")), nodes.constant(10, "float32"))
        known = nodes.add("Equal", town, nodes.constant([0, 1, 2, 3]))
        return nodes.add("Concat", scaled, nodes.add("Cast", known, to=element_type("float32")), axis=1)

    exported = session(make_onnx(model, before=before))
    for count in (1, 3):
        age, town = rows(count, (1,)), np.arange(count)[:, None] % 4
        (found,) = exported.run(None, {"age": age, "town": town})
        x = np.concatenate([(age - 40) / 10, np.eye(4, dtype="f")[town[:, 0]]], axis=1)
        np.testing.assert_allclose(found, ns.predict(model, x), rtol=1e-5)


class OfRows(nn.Module):
    def forward(self, x):
        return x - x.mean(axis=0)


def test_a_model_too_large_for_the_format_is_refused(monkeypatch):
    monkeypatch.setattr("nissl.exchange.onnx.LARGEST", 100)
    with pytest.raises(OptionError, match=r"ONNX file holds less than 2 GiB"):
        make_onnx(nn.Linear(10, 10))
    with pytest.raises(OptionError, match="takes a Module first, got str"):
        ns.export_onnx("model.safetensors", "model.onnx")


LOOP = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"model": nn.ReLU()}, r"the note 'model' holds what JSON can: .*; got ReLU\(\)"),
        ({"when": np.datetime64("2020-01-01")}, r"the note 'when' .* got datetime\.date"),
        ({"part": np.ones(2) * 1j}, "the note 'part' .* got 1j"),
        ({"deep": LOOP}, "the note 'deep' .* Circular"),
        ({"pair": {(1, 2): "x"}}, "the note 'pair' .* dicts named by text; keys must be"),
        ({3: "x"}, "notes are named by text, got the name 3"),
        (["x"], r"notes is a dict .* got \['x'\]"),
        ("text", "notes is a dict"),
    ],
)
def test_notes_that_are_no_json_are_refused_and_nothing_is_written(notes, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        ns.export_onnx(nn.Linear(2, 2), tmp_path / "m.onnx", notes=notes)
    with pytest.raises(OptionError, match=re.sub("the note '.*?'", "a file's description", message)):
        ns.save(nn.Linear(2, 2), tmp_path / "m.safetensors", notes=notes)
    assert os.listdir(tmp_path) == []


def test_nan_among_notes_is_told_of_since_other_programs_cannot_read_it(tmp_path):
    ns.save(nn.Linear(2, 2), tmp_path / "m.safetensors", notes={"score": float("nan"), "input shape": [2]})
    message = "the note 'score' holds what JSON can"
    assert call("export", tmp_path / "m.safetensors") == (1, "", Line(message))
    assert os.listdir(tmp_path) == ["m.safetensors"]
    with pytest.raises(OptionError, match=message):
        make_onnx(nn.Linear(2, 2), notes={"score": float("nan")})


def test_notes_are_metadata_as_text_or_as_json():
    notes = {"of": "roses", "mean": np.float32(0.5), "names": np.arange(2), "half a \udcff": "b\ud800"}
    found = {item.key: item.value for item in make_onnx(nn.Linear(2, 2), notes=notes).metadata_props}
    assert found == {"of": "roses", "mean": "0.5", "names": "[0, 1]", "half a \\udcff": "b\\ud800"}


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        ns.export_onnx(nn.Linear(2, 2), tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == b"old"


def test_importing_nissl_does_not_import_onnx():
    program = "import sys, nissl, nissl.cli; print([name for name in sys.modules if name.split('.')[0] == 'onnx'])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_without_onnx_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    path = saved(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'nissl\[onnx\]'"):
        ns.export_onnx(nn.Linear(2, 2), tmp_path / "m.onnx")
    assert call("export", path) == (1, "", Line(r"pip install 'nissl\[onnx\]'"))


# The command


class Line:
    """Equals one line of an error that matches a pattern."""

    def __init__(self, pattern):
        self.pattern = pattern

    def __eq__(self, text):
        *usage, line = text.splitlines()
        plain = not usage or usage[0].startswith("Usage: nissl export")
        return plain and line.startswith("Error: ") and bool(re.search(self.pattern, line))

    def __repr__(self):
        return f"<one line: {self.pattern}>"


def saved(folder, *layers, **notes):
    ns.manual_seed(0)
    layers = layers or [nn.Flatten(), nn.Linear(64, 10)]
    given = {"class names": list("0123456789"), "input shape": [8, 8], "loss": "cross_entropy"}
    ns.save(nn.Sequential(*layers), folder / "model.safetensors", notes=given | notes)
    return folder / "model.safetensors"


def test_the_command_writes_the_model_beside_it(tmp_path):
    path = saved(tmp_path)
    status, out, err = call("export", path, "--to", "onnx")
    assert (status, err) == (0, "")
    written = tmp_path / "model.onnx"
    size = written.stat().st_size / 1e3
    assert out == f"{written}: x float32 (batch, 8, 8) -> y float32 (batch, 10), opset {OPSET}, {size:,.1f} kB\n"
    x = rows(5, (8, 8))
    np.testing.assert_allclose(session(str(written)).run(None, {"x": x})[0], ns.predict(ns.load(path), x), rtol=1e-5)
    found = {entry.key: entry.value for entry in onnx.load(written).metadata_props}
    assert json.loads(found["class names"]) == list("0123456789")
    assert json.loads(found["input shape"]) == [8, 8]


def test_the_command_as_json(tmp_path):
    status, out, err = call("export", saved(tmp_path), "--out", tmp_path / "new" / "a.onnx", "--opset", 20, "--json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out) == {
        "file": str(tmp_path / "new" / "a.onnx"),
        "format": "onnx",
        "opset": 20,
        "bytes": (tmp_path / "new" / "a.onnx").stat().st_size,
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 8, 8]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 10]}],
    }


@pytest.mark.parametrize(
    ("layers", "loss", "expected"),
    [
        ([nn.Linear(4, 3)], "cross_entropy", lambda y: ns.softmax(y).numpy()),
        ([nn.Linear(4, 3)], None, lambda y: ns.softmax(y).numpy()),
        ([nn.Linear(4, 3), nn.Softmax()], "cross_entropy_error", lambda y: y),
        ([nn.Linear(4, 1)], "binary_cross_entropy_with_logits", lambda y: ns.sigmoid(y).numpy()),
        ([nn.Linear(4, 1)], None, lambda y: ns.sigmoid(y).numpy()),
        ([nn.Linear(4, 3)], "binary_cross_entropy_with_logits", lambda y: ns.sigmoid(y).numpy()),
        ([nn.Linear(4, 1), nn.Sigmoid()], "binary_cross_entropy", lambda y: y),
    ],
)
def test_the_command_gives_probabilities_if_asked(tmp_path, layers, loss, expected):
    path = saved(tmp_path, *layers, loss=loss, **{"input shape": [4]})
    assert call("export", path, "--probabilities")[0] == 0
    x = rows(5, (4,))
    (found,) = session(str(tmp_path / "model.onnx")).run(None, {"x": x})
    np.testing.assert_allclose(found, expected(ns.predict(ns.load(path), x)), rtol=1e-5, atol=1e-6)
    names = {tensor.name for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert names >= {"0.weight", "0.bias"}


def test_the_mistakes_of_a_user_are_one_line_each(tmp_path):
    path = saved(tmp_path)
    assert call("export") == (2, "", Line("Missing argument"))
    assert call("export", tmp_path / "none") == (1, "", Line("none does not exist"))
    assert call("export", path, "--to", "onix") == (2, "", Line("did you mean 'onnx'"))
    assert call("export", path, "--out", path) == (2, "", Line("--out is MODEL itself"))
    assert call("export", path, "--out", tmp_path) == (1, "", Line("is a folder, not a file"))
    assert call("export", path, "--opset", 5) == (1, "", Line(f"opset must be a whole number from {OPSET} to .*got 5"))
    assert call("export", path, "--input-shape", "28x28") == (2, "", Line("'28x28': the shape of one row"))
    assert call("export", path, "--input-shape", "7,7") == (
        1,
        "",
        Line(r"batch of shape \(1, 7, 7\): Linear\(64, 10\)"),
    )
    regression = saved(tmp_path, nn.Linear(4, 1), loss="mse_loss", **{"input shape": None})
    assert call("export", regression, "--probabilities") == (1, "", Line("trained with mse_loss"))
    assert call("export", regression)[0] == 0
    unknown = saved(tmp_path, nn.Flatten(), nn.Linear(4, 1), **{"input shape": None})
    (tmp_path / "model.onnx").unlink()
    assert call("export", unknown) == (1, "", Line("cannot tell the shape"))
    assert not (tmp_path / "model.onnx").exists()
    assert call("export", unknown, "--input-shape", "2,2")[0] == 0
