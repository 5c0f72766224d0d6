"""What people bring from other libraries: each mistake gets one clear message, and every hint names what exists."""

import ast
import inspect
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from command import call

import nissl as ns
from nissl import datasets, habits, nn, optim, tables
from nissl.errors import CallError, DataError, DTypeError, GradientError, OptionError, ShapeError
from nissl.experiments.catalog import catalog
from nissl.sklearn import NeuralNetClassifier, NeuralNetRegressor

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
LABELS = np.arange(12) % 3


def classifier():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


class Sorted(nn.Module):
    def forward(self, x):
        return np.sort(x)


MODEL = classifier()
# What the names in hints stand for.
THINGS = {
    "ns": ns,
    "nissl": ns,
    "nn": nn,
    "optim": optim,
    "datasets": datasets,
    "tables": tables,
    "x": ns.ones((2, 3)),
    "loss": ns.ones(()),
    "model": MODEL,
    "optimizer": optim.Adam(MODEL.parameters()),
    "parameter": nn.Parameter([1.0]),
    "numpy": np,
    "NeuralNetClassifier": NeuralNetClassifier,
    "NeuralNetRegressor": NeuralNetRegressor,
}
TABLES = {
    "Tensor": (THINGS["x"], habits.TENSOR),
    "Module": (nn.Linear(2, 3), habits.MODULE),
    "Optimizer": (THINGS["optimizer"], habits.OPTIMIZER),
    "nn": (nn, habits.NN),
    "nn.init": (nn.init, habits.INIT),
    "optim": (optim, habits.OPTIM),
    "schedules": (optim.schedules, habits.SCHEDULES),
    "random": (ns.random, habits.RANDOM),
    "datasets": (datasets, habits.DATASETS),
    "tables": (tables, habits.TABLES),
    "nissl": (ns, habits.NISSL),
}
HINTS = {(where, name): hint for where, (_, table) in TABLES.items() for name, hint in table.items()}


def mentioned(hint):
    """Return the dotted names in a hint, outside of text in quotes."""
    return re.findall(rf"\b(?:{'|'.join(THINGS)})(?:\.\w+)+", re.sub("'.*?'", "''", hint))


def resolve(name):
    thing, *rest = name.split(".")
    found = THINGS[thing]
    for part in rest:
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("where", TABLES)
def test_a_name_from_elsewhere_is_told_how_it_is_here(where):
    thing, table = TABLES[where]
    for name, hint in table.items():
        with pytest.raises(AttributeError, match=re.escape(f"has no attribute '{name}'; {hint}")):
            getattr(thing, name)


EVERY_HINT = {**HINTS, **{("argument", name): hint for name, hint in habits.WITHOUT_ARGUMENT.items()}}


@pytest.mark.parametrize("hint", sorted(set(EVERY_HINT.values())))
def test_a_hint_names_only_what_exists(hint):
    for name in mentioned(hint):
        resolve(name)
    says_why = (habits.CPU, "in place", "x @ y", "x * y", "x == y", "x < y", "list or dict")
    assert mentioned(hint) or any(reason in hint for reason in says_why)


def test_a_name_that_does_not_exist_would_be_found():
    assert mentioned("write ns.no_such(x), or x.T") == ["ns.no_such", "x.T"]
    with pytest.raises(AttributeError):
        resolve("ns.no_such")


FUNCTIONS = [
    thing
    for space in (ns, nn, optim)
    for thing in map(vars(space).get, space.__all__)
    if callable(thing) and not (isinstance(thing, type) and issubclass(thing, Exception))
]


def test_an_argument_from_elsewhere_is_one_that_some_function_has_here():
    known = {name for thing in FUNCTIONS for name in inspect.signature(thing).parameters}
    assert set(habits.ARGUMENTS.values()) <= known
    assert not set(habits.ARGUMENTS) & known


def test_an_argument_of_ours_is_told_by_the_name_that_estimators_have_for_it():
    known = set(inspect.signature(NeuralNetRegressor).parameters)
    assert known < set(inspect.signature(NeuralNetClassifier).parameters)
    assert set(habits.ESTIMATOR_ARGUMENTS.values()) <= known
    assert not set(habits.ESTIMATOR_ARGUMENTS) & known


@pytest.mark.parametrize("name", habits.EXAMPLES)
def test_an_example_is_a_call_that_the_function_takes(name):
    example = ast.parse(habits.EXAMPLES[name], mode="eval").body
    function = resolve(ast.unparse(example.func))
    assert function.__name__ == name
    inspect.signature(function).bind(*example.args, **{keyword.arg: None for keyword in example.keywords})


def test_a_misspelt_name_is_told_the_nearest():
    for space, name, near in ((nn, "Relu", "ReLU"), (optim, "RMSprop", "RMSProp"), (ns, "tensr", "tensor")):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'; did you mean '{near}'"):
            getattr(space, name)
    with pytest.raises(AttributeError, match=r"module 'nissl.nn' has no attribute 'zzz'$"):
        _ = nn.zzz
    assert not hasattr(ns, "__path_of_nothing__")


def test_a_misspelt_schedule_is_told_the_nearest_of_all():
    schedules = optim.schedules
    ours = {name for name, value in vars(schedules).items() if getattr(value, "__module__", "") == schedules.__name__}
    here = {name for name in ours if not name.startswith("_")}
    assert set(schedules.__all__) == here | {"NAMED"}
    for name in here:
        with pytest.raises(AttributeError, match=f"; did you mean '{name}'"):
            getattr(schedules, f"{name}s")


@pytest.mark.parametrize("name", ["mse", "mean_squared_error"])
def test_the_mean_is_not_taken_for_the_sum(name):
    with pytest.raises(AttributeError, match=r"write nn\.mse_loss"):
        getattr(nn, name)


def test_what_is_in_another_module_is_told_where():
    for name, home in {"Linear": "nn", "cross_entropy": "nn", "Adam": "optim", "gelu": "functional"}.items():
        with pytest.raises(AttributeError, match=f"; it is {home}.{name}$"):
            getattr(ns, name)


def test_python_adds_no_guess_of_its_own_to_a_hint():
    with pytest.raises(AttributeError) as caught:
        _ = nn.Dense
    assert caught.value.name is None


ONES = ns.ones((3, 4))
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
MISTAKES = {
    "dim": (lambda: ONES.sum(dim=1), CallError, r"sum\(\) got .* 'dim'; write axis="),
    "dim of a function": (lambda: ns.softmax(ONES, dim=1), CallError, "write axis="),
    "keepdim": (lambda: ns.mean(ONES, 0, keepdim=True), CallError, "write keepdims="),
    "dim of concat": (lambda: ns.concat([ONES], dim=0), CallError, "write axis="),
    "misspelt": (lambda: ONES.max(axs=0), CallError, "did you mean 'axis'"),
    "too many": (lambda: ONES.sum(0, True, 3, 4), CallError, r"too many .* write sum\(x, axis=None, keepdims=False\)"),
    "retain_graph": (lambda: ONES.backward(retain_graph=True), CallError, r"backward\(\) can be called again"),
    "requires_grad": (lambda: ns.ones(3, requires_grad=True), CallError, r"ns.tensor\(values, requires_grad=True\)"),
    "not in a list": (lambda: ns.stack(ONES, ONES), OptionError, r"in one list, as in ns.stack\(\[x, y\], axis=0\)"),
    "concat not in a list": (lambda: ns.concat(ONES, ONES), OptionError, "in one list"),
    "several not in a list": (lambda: ns.stack(ONES, ONES, ONES), CallError, r"write ns.stack\(\[x, y\], axis=0\)"),
    "model not called": (lambda: nn.cross_entropy(MODEL, LABELS), DTypeError, "got Sequential, which is to be called"),
    "method not called": (lambda: ns.exp(ONES.sum), DTypeError, "got method, which is to be called first"),
    "unequal lists": (lambda: ns.tensor([[1, 2], [3]]), ShapeError, "its parts have different lengths$"),
    "x and y": (lambda: ns.fit(MODEL, X, LABELS), CallError, r"write ns.fit\(model, \(x, y\), epochs=5\)"),
    "evaluate x and y": (lambda: ns.evaluate(MODEL, X, LABELS), CallError, r"ns.evaluate\(model, \(x, y\)\)"),
    "predict nothing": (lambda: ns.predict(MODEL), CallError, r"missing .* 'x'; write ns.predict\(model, x\)"),
    "fit's lr": (lambda: ns.fit(MODEL, (X, LABELS), lr=0.1), CallError, r"write optimizer=optim.Adam\("),
    "verbose": (lambda: ns.fit(MODEL, (X, LABELS), verbose=1), CallError, "write progress="),
    "epoch": (lambda: ns.fit(MODEL, (X, LABELS), epoch=1), CallError, "did you mean 'epochs'"),
    "class": (lambda: ns.fit(nn.Linear, (X, LABELS)), OptionError, r"got the class Linear; make one: Linear\("),
    "fraction": (lambda: ns.fit(MODEL, (X, LABELS), validation=0.2), DataError, r"Dataset\(x, y\).split\(0.2\)"),
    "metric of no number": (
        lambda: ns.evaluate(MODEL, (X, LABELS), metrics={"error": lambda outputs, labels: outputs}),
        OptionError,
        r"the metric 'error' must return one number, got an array of shape \(12, 3\)",
    ),
    "fit of a metric of no number": (
        lambda: ns.fit(MODEL, (X, LABELS), validation=(X, LABELS), metrics={"error": lambda *both: []}, epochs=1),
        OptionError,
        r"the metric 'error' must return one number, got an array of shape \(0,\)",
    ),
    "class_weight": (
        lambda: ns.fit(MODEL, (X, LABELS), class_weight={0: 2}),
        CallError,
        "a sample_weight for each example",
    ),
    "batches to fit": (
        lambda: ns.fit(MODEL, ns.batches((X, LABELS), 4)),
        DataError,
        "got batches; give the data themselves, and batch_size=",
    ),
    "list of metrics": (
        lambda: ns.evaluate(MODEL, (X, LABELS), metrics=["f1"]),
        OptionError,
        "functions of .* by names",
    ),
    "metrics of text": (lambda: ns.evaluate(MODEL, (X, LABELS), metrics={"f1": "f1"}), OptionError, "functions of"),
    "shuffle": (lambda: ns.fit(MODEL, (X, LABELS), shuffle=3), OptionError, "shuffle must be True or False, got 3"),
    "one-hot": (lambda: ns.fit(MODEL, (X, ONE_HOT)), OptionError, "rows are one-hot: pass loss=nn.cross_entropy"),
    "labels as floats": (
        lambda: ns.fit(nn.Linear(4, 1), (X, (LABELS > 0) * 1.0)),
        OptionError,
        r"all 0 or 1: pass loss=nn.binary_cross_entropy_with_logits if they are labels \(as integers, .*nn.mse_loss",
    ),
    "labels of probabilities as floats": (
        lambda: ns.fit(nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()), (X, (LABELS[:, None] > 0) * 1.0)),
        OptionError,
        "all 0 or 1: pass loss=nn.binary_cross_entropy if",
    ),
    "several labels as floats": (
        lambda: ns.evaluate(MODEL, (X, (X[:, :3] > 0) * 1.0)),
        OptionError,
        "all 0 or 1: pass loss=nn.binary_cross_entropy_with_logits if they are labels, or loss=nn.mse_loss",
    ),
    "whole numbers to predict": (
        lambda: ns.fit(nn.Linear(4, 1), (X, LABELS * 100)),
        DataError,
        "found 100: for more classes use that many outputs, for numbers loss=nn.mse_loss$",
    ),
    "labels -1 and 1": (lambda: ns.fit(nn.Linear(4, 1), (X, 1 - LABELS % 2 * 2)), DataError, "found -1: write y > 0$"),
    "loss of no Tensor": (
        lambda: ns.fit(MODEL, (X, LABELS), loss=lambda outputs, labels: 1.0, epochs=1),
        GradientError,
        "the loss <lambda> must return a Tensor of one number, .*; got float$",
    ),
    "loss without return": (
        lambda: ns.evaluate(MODEL, (X, LABELS), loss=lambda outputs, labels: None),
        GradientError,
        "the loss <lambda> must return .*; got None; does it lack its return",
    ),
    "array from a model": (
        lambda: ns.fit(Sorted(), (X, LABELS)),
        ShapeError,
        r"return one Tensor for a batch of shape \(1, 4\), .*; got ndarray$",
    ),
    "fit of an if": (
        lambda: ns.fit(MODEL, (X, LABELS), schedule=lambda step: 0.1 if step < 10 else 0.01),
        ns.TracingError,
        r"Use ns.where instead of if, .* or write the loop of ns.fit yourself$",
    ),
    "from 1": (lambda: ns.fit(MODEL, (X, LABELS + 1)), DataError, "label 3 at row 2 .* count from 1: write y - 1$"),
    "outside": (lambda: ns.fit(MODEL, (X, LABELS + 2)), DataError, "of a model with 3 outputs$"),
    "column": (lambda: ns.fit(MODEL, (X, LABELS[:, None])), ShapeError, r"got \(12, 1\): write y.reshape\(-1\)"),
    "no probabilities": (
        lambda: ns.fit(nn.Linear(4, 1), (X, LABELS > 0), loss=nn.binary_cross_entropy),
        OptionError,
        r"takes probabilities, but the model gives .* loss=nn.binary_cross_entropy_with_logits",
    ),
    "no softmax": (
        lambda: ns.fit(MODEL, (X, LABELS), loss=nn.cross_entropy_error),
        OptionError,
        r"takes probabilities, .* loss=nn.cross_entropy$",
    ),
    "unequal rows": (lambda: ns.predict(MODEL, (X, LABELS)), DataError, "its parts have different lengths$"),
    "text to predict": (lambda: ns.predict(MODEL, "x"), DataError, "predict needs numbers, got 'x'"),
    "one row": (lambda: ns.predict(MODEL, X[0]), ShapeError, r"for a single row write x\[None\]"),
    "sizes": (lambda: nn.Linear(4, 3, 2), OptionError, "bias must be True or False, got 2"),
    "one size": (
        lambda: nn.Linear(4),
        CallError,
        r"missing .* 'out_features'; write Linear\(in_features, out_features",
    ),
    "units": (lambda: nn.Linear(4, units=3), CallError, r"Linear\(\) got .* 'units'; write out_features="),
    "activation": (lambda: nn.Linear(4, 3, activation="relu"), CallError, "a layer of its own"),
    "inplace": (lambda: nn.ReLU(inplace=True), CallError, r"ReLU\(\) got .* 'inplace'; an operation never changes"),
    "argument of a layer without": (lambda: nn.Tanh(3), CallError, r"Tanh\(\): too many positional arguments"),
    "rate": (lambda: nn.Dropout(rate=0.5), CallError, "write p="),
    "Softmax's dim": (lambda: nn.Softmax(dim=1), CallError, "write axis="),
    "reduction": (lambda: nn.mse_loss(ONES, ONES, reduction="sum"), CallError, "losses average over the batch"),
    "loss as a class": (lambda: nn.mse_loss(), CallError, r"write nn.mse_loss\(prediction, target\)"),
    "list of layers": (lambda: nn.Sequential([nn.ReLU()]), OptionError, r"write Sequential\(\*layers\)"),
    "no such layer": (lambda: MODEL[7], IndexError, "this Sequential has 3 layers, numbered from 0; got 7"),
    "layer by text": (lambda: MODEL["0"], IndexError, "numbered from 0; got '0'"),
    "grad of a number": (lambda: ns.grad(3), OptionError, r"as in ns.grad\(f\)\(x\); got int"),
    "slope of a number": (lambda: ns.numerical_gradient(3, ONES), OptionError, "takes a function first"),
    "check of a number": (lambda: ns.check_gradients(ONES, ONES), OptionError, "takes a function first"),
    **{
        f"null byte to {name}": (partial(mistake, "a\0b"), OptionError, r"a path holds no null byte, got 'a\\x00b'")
        for name, mistake in {
            "save": partial(ns.save, MODEL),
            "load": ns.load,
            "export": partial(ns.export_onnx, MODEL, input_shape=(4,)),
            "fit": lambda path: ns.fit(MODEL, (X, LABELS), checkpoint=path),
            "datasets": partial(datasets.load, "mnist"),
        }.items()
    },
    "number of a file": (lambda: ns.load(0), OptionError, "a path is text or a pathlib.Path, got 0"),
    "save to a number": (lambda: ns.save(MODEL, 0), OptionError, "a path is text or a pathlib.Path, got 0"),
    "save without a path": (lambda: ns.save(MODEL), CallError, r"write ns.save\(model, "),
    "parameters not called": (
        lambda: optim.SGD(MODEL.parameters, 0.1),
        OptionError,
        r"optim.SGD\(model.parameters\(\)\)",
    ),
    "model to optimize": (lambda: optim.Adam(MODEL), OptionError, r"optim.Adam\(model.parameters\(\)\)"),
    "rate first": (lambda: optim.SGD(0.1, MODEL.parameters()), OptionError, "needs parameters first, .* got 0.1"),
    "learning_rate": (lambda: optim.SGD(MODEL.parameters(), learning_rate=0.1), CallError, "write lr="),
    "untrained": (lambda: optim.SGD([ns.ones(3)], 0.1), OptionError, "requires a gradient, so none would be trained"),
    "result": (lambda: optim.SGD([nn.Parameter([1.0]) * 2], 0.1), OptionError, "parameter 0 is the result of an op"),
    "nothing to optimize": (lambda: optim.SGD([], 0.1), OptionError, "got no parameters"),
    "set_to_none": (
        lambda: THINGS["optimizer"].zero_grad(set_to_none=True),
        CallError,
        r"write optimizer.zero_grad\(\)",
    ),
    "x, y and size": (lambda: ns.batches(X, LABELS, 4), CallError, r"write ns.batches\(\(x, y\), 32\)"),
    "classes": (lambda: ns.one_hot(LABELS, num_classes=3), CallError, "write classes="),
    "sizes apart": (lambda: ns.zeros(3, 4, 5), CallError, r"write zeros\(shape, dtype='float32'\)"),
    "Keras's compile": (lambda: ns.compile(MODEL, loss="mse"), CallError, "compile.* got .* 'loss'"),
    "clip a model": (lambda: optim.clip_grad_norm(MODEL, 1.0), OptionError, r"clip_grad_norm\(model.parameters\(\)\)"),
    "clip without norm": (lambda: optim.clip_grad_norm(MODEL.parameters()), CallError, "missing .* 'max_norm'"),
    "lr=True": (lambda: optim.Adam(MODEL.parameters(), lr=True), OptionError, "lr must be a number, got True"),
    "slope": (lambda: nn.LeakyReLU("a"), OptionError, "slope of LeakyReLU must be a number, got 'a'"),
    "alpha": (lambda: nn.ELU("a"), OptionError, "alpha of ELU must be a number, got 'a'"),
    "images": (lambda: nn.Linear(64, 10)(ns.ones((5, 8, 8))), ShapeError, r"must be 64. Put nn.Flatten\(\) before it$"),
    "rows": (lambda: nn.Linear(8, 2)(ns.ones((5, 4))), ShapeError, "Was the layer built for other data"),
    "None": (lambda: nn.mse_loss(None, X), DTypeError, "got None; does a function lack its return"),
    "half a size": (lambda: ns.ones(2.5), OptionError, r"a whole number or several, as in \(3, 4\); got 2.5"),
    "callbacks": (
        lambda: ns.fit(MODEL, (X, LABELS), callbacks=[3]),
        OptionError,
        r"callbacks are functions.* got \[3\]",
    ),
    "parts by sizes": (lambda: ns.Dataset(X, LABELS).split([0.8, 0.2]), OptionError, "fraction must be a number, got"),
    "three parts": (
        lambda: ns.Dataset(X, LABELS).split(0.6, 0.2, 0.2),
        CallError,
        r"too many positional arguments; write .split\(fraction, seed=0\)",
    ),
    "unpacked": (lambda: [*ns.Dataset(X, LABELS)], DataError, r"its arrays are .x and .y, .* ns.batches\(data, 32\)"),
    "misspelt parameter": (
        lambda: NeuralNetClassifier(hiden_layer_sizes=(3,)),
        CallError,
        "NeuralNetClassifier.* 'hiden_layer_sizes'; did you mean 'hidden_layer_sizes'",
    ),
    "epochs of an estimator": (lambda: NeuralNetRegressor(epochs=3), CallError, "write max_iter="),
    "solver by position": (
        lambda: NeuralNetClassifier((3,), "relu", "adam"),
        CallError,
        r"too many positional arguments; write NeuralNetClassifier\(\(100,\), dropout=0.2\)",
    ),
    "shuffled": (lambda: ns.random.permutation([2, 3]), OptionError, r"takes one size, .* got \(2, 3\)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_what_to_write(name):
    mistake, error, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        mistake()


@pytest.mark.parametrize("space", [ns, nn, optim], ids=lambda space: space.__name__)
def test_dir_lists_what_is_promised_and_nothing_that_is_not_there(space):
    listed = set(dir(space))
    assert listed >= set(space.__all__)
    assert all(hasattr(space, name) for name in listed)
    assert not listed & {"Any", "TYPE_CHECKING", "habits", "importlib", "checkpoint"}


@pytest.mark.parametrize("name", ["plots", "sklearn", "tables"])
def test_parts_that_are_loaded_late_need_no_import_of_their_own(name):
    program = f"import nissl as ns, sys; assert 'nissl.{name}' not in sys.modules; print(ns.{name}.__name__)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == f"nissl.{name}\n"


def test_a_wrong_call_is_a_type_error_and_an_error_of_nissl():
    with pytest.raises(TypeError):
        ONES.sum(dim=1)
    assert issubclass(CallError, ns.NisslError)


def test_a_type_error_from_inside_a_function_stays_what_it_is():
    @habits.explained
    def add(a, b):
        return a + b

    with pytest.raises(TypeError, match="unsupported operand") as caught:
        add(1, "2")
    assert not isinstance(caught.value, CallError)
    assert str(inspect.signature(add)) == "(a, b)"


def test_a_subclass_is_called_by_its_own_name():
    class Tall(nn.Linear):
        pass

    with pytest.raises(CallError, match=r"Tall\(\): missing a required argument: 'out_features'"):
        Tall(3)


OPERATORS = {"+=": 7.0, "-=": 3.0, "*=": 10.0, "/=": 2.5, "**=": 25.0}


@pytest.mark.parametrize("operator", OPERATORS)
def test_in_place_operators_change_leaves_and_give_results_a_name(operator):
    def update(tensor):
        names = {"t": tensor}
        exec(f"t {operator} 2.0", names)
        return names["t"]

    plain = ns.tensor([5.0])
    changed = update(plain)
    assert (plain.item(), changed.item()) == (5.0, OPERATORS[operator])

    leaf = ns.tensor([5.0], requires_grad=True)
    result = update(leaf * 1.0)
    assert (result.requires_grad, result.item()) == (True, OPERATORS[operator])
    result.sum().backward()
    assert leaf.grad is not None

    for tensor in (leaf, nn.Parameter([5.0])):
        with pytest.raises(GradientError, match=re.escape(f"{operator} changes a {type(tensor).__name__} itself")):
            update(tensor)
        assert tensor.item() == 5.0
        with ns.no_grad():
            assert update(tensor) is tensor
        assert tensor.item() == OPERATORS[operator]
        assert tensor.requires_grad

    for tensor in (nn.Buffer([5.0]), nn.Parameter([5.0], requires_grad=False)):
        assert update(tensor) is tensor
        assert tensor.item() == OPERATORS[operator]


def test_gradient_descent_by_hand_as_elsewhere():
    def train(step):
        model = nn.Sequential(nn.Linear(4, 1))
        model.load_state_dict({"0.weight": np.ones((4, 1)), "0.bias": np.zeros(1)})
        for _ in range(3):
            nn.mse_loss(model(X), X[:, :1]).backward()
            step(model.parameters())
        return model.state_dict()

    def in_place(parameters):
        with ns.no_grad():
            for w in parameters:
                w -= 0.1 * w.grad
                w.grad = None

    def optimizer(parameters):
        optim.SGD(parameters, lr=0.1).step()

    for got, expected in zip(train(in_place).values(), train(optimizer).values(), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_in_place_operators_mean_the_same_compiled(engine):
    w, count = nn.Parameter([1.0, 2.0]), nn.Buffer([0.0])

    @ns.compile(engine=engine)
    def step(x):
        nonlocal count
        y = w * x
        y *= 2.0
        loss = y.sum()
        loss.backward()
        with ns.no_grad():
            v = w
            v -= 0.5 * w.grad
        count += 1.0
        w.grad = None
        return loss

    assert [step(ns.tensor([1.0, 1.0])).item() for _ in range(3)] == [6.0, 2.0, -2.0]
    np.testing.assert_array_equal(w.numpy(), [-2.0, -1.0])
    assert count.item() == 3.0


def test_a_running_mean_kept_in_place_stays_a_buffer():
    class Counting(nn.Module):
        def __init__(self):
            self.calls = nn.Buffer(0.0)

        def forward(self, x):
            self.calls += 1.0
            return x

    module = Counting()
    module(module(ns.ones(2)))
    assert module.state_dict()["calls"] == 2.0


def test_what_would_lose_a_gradient_in_place_is_refused():
    buffer = nn.Buffer([1.0])
    with pytest.raises(GradientError, match="changes a Buffer itself"):
        buffer *= nn.Parameter([2.0])


@pytest.mark.parametrize("value", [3, np.zeros((4, 3)), ns.zeros((4, 3))], ids=["int", "ndarray", "Tensor"])
def test_a_parameter_is_replaced_by_parameters_only(value):
    layer = nn.Linear(4, 3)
    message = f"weight of Linear is a Parameter and cannot become {type(value).__name__}, .* weight = nn.Parameter"
    with pytest.raises(OptionError, match=message):
        layer.weight = value
    assert layer.parameters().paths == ["weight", "bias"]
    layer.weight = nn.Parameter(np.ones((4, 3)))
    layer.bias = None
    assert layer.parameters().paths == ["weight"]
    with pytest.raises(OptionError, match="running_mean of BatchNorm is a Buffer"):
        nn.BatchNorm(2).running_mean = 0.0


def test_an_optimizer_has_no_learning_rate_that_does_nothing():
    with pytest.raises(AttributeError, match=r"no attribute 'learning_rate'; write optimizer\.lr"):
        THINGS["optimizer"].learning_rate = 0.5


def test_an_empty_sequential_gives_a_tensor():
    y = nn.Sequential()(X)
    assert isinstance(y, ns.Tensor)
    np.testing.assert_array_equal(y.numpy(), X)


def test_tensors_in_a_list_keep_their_gradients_or_say_so():
    w = nn.Parameter(2.0)
    with pytest.raises(GradientError, match=r"ns\.stack\(\[a, b\]\)"):
        ns.tensor([w, 1.0])
    with pytest.raises(GradientError, match=r"ns\.stack"):
        nn.mse_loss([w, w], [1.0, 2.0])
    with ns.no_grad():
        np.testing.assert_array_equal(ns.tensor([w, 1.0]).numpy(), [2.0, 1.0])
    assert ns.tensor([w.detach(), 1.0]).shape == (2,)


def test_one_hot_targets_train_with_the_loss_that_is_said():
    history = ns.fit(classifier(), (X, ONE_HOT), loss=nn.cross_entropy, epochs=1, progress=False)
    assert "accuracy" in history.curves
    history = ns.fit(classifier(), (X, ONE_HOT), loss=nn.mse_loss, epochs=1, progress=False)
    assert "r2" in history.curves


@pytest.mark.parametrize(
    "targets",
    [ONE_HOT * 2, ONE_HOT - 0.5, np.zeros_like(ONE_HOT), np.ones_like(ONE_HOT)],
    ids=["twice", "shifted", "zeros", "ones"],
)
def test_real_targets_that_are_not_one_hot_are_numbers(targets):
    assert "r2" in ns.fit(classifier(), (X, targets), epochs=1, progress=False).curves


def test_help_shows_the_whole_summary_of_each_experiment():
    text = " ".join(call("run", "--help").out.split())
    assert "..." not in text.partition("Commands:")[2]
    for experiment in catalog().values():
        assert f"{experiment.name} {experiment.title}." in text


def test_a_module_without_forward_says_so():
    class Net(nn.Module):
        def call(self, x):
            return x

    with pytest.raises(NotImplementedError, match=r"Net has no forward method; define forward\(self, x\)"):
        Net()(X)


def test_a_tensor_that_is_no_parameter_is_told_before_it_is_not_trained():
    class Scale(nn.Module):
        def __init__(self):
            self.factor = ns.tensor([2.0], requires_grad=True)
            self.seen = None

        def forward(self, x):
            self.seen = x * self.factor
            return self.seen

    model = nn.Sequential(nn.Linear(4, 3), Scale())
    with pytest.warns(UserWarning, match=r"factor of 1 is a Tensor .* self.factor = nn.Parameter\(values\)"):
        model.parameters()
    model[1].factor = nn.Parameter([2.0])
    model(X)  # a result that requires a gradient is none to be trained
    assert model.parameters().paths == ["0.weight", "0.bias", "1.factor"]


def test_integers_get_no_gradient():
    w = ns.tensor([2])
    w.requires_grad = True
    with pytest.raises(GradientError, match="a Tensor of int64 requires a gradient, which needs floats"):
        (w * 2.0).sum().backward()
