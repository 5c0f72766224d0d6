"""Layers, losses, initial weights and modules: values by formula, safety at the limits, and the tree of parts."""

import math

import numpy as np
import pytest
from samples import numbers
from scipy import special

import nissl as ns
from nissl import nn
from nissl.errors import DataError, DTypeError, OptionError, ShapeError
from nissl.nn import init


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


ACTIVATIONS = {
    nn.Step: lambda x: (x > 0) * 1.0,
    nn.Sigmoid: special.expit,
    nn.Tanh: np.tanh,
    nn.ReLU: lambda x: np.maximum(x, 0),
    nn.LeakyReLU: lambda x: np.where(x > 0, x, 0.01 * x),
    nn.ELU: lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    nn.GELU: lambda x: x * special.ndtr(x),
    nn.SiLU: lambda x: x * special.expit(x),
    nn.Softplus: lambda x: np.logaddexp(0, x),
    nn.Softmax: softmax,
    nn.Identity: lambda x: x,
}


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=lambda layer: layer.__name__)
def test_an_activation_is_its_formula_with_the_right_gradient(layer):
    x = numbers((4, 5), -4, 4)
    np.testing.assert_allclose(layer()(ns.tensor(x)).numpy(), ACTIVATIONS[layer](x), rtol=1e-12, atol=1e-15)
    ns.check_gradients(layer(), x)


def test_settings_of_activations():
    x = np.array([-2.0, 3.0])
    assert nn.LeakyReLU(0.5)(ns.tensor(x)).tolist() == [-1, 3]
    np.testing.assert_allclose(nn.ELU(2.0)(ns.tensor(x)).numpy(), [2 * math.expm1(-2), 3])
    assert nn.Softmax(axis=0)(ns.zeros((2, 3))).tolist() == [[0.5] * 3] * 2


def test_no_gradient_flows_through_a_step():
    x = ns.tensor([1.0, -1.0], requires_grad=True)
    assert not nn.Step()(x).requires_grad


# ---- Linear and Flatten ----


def test_linear_is_x_at_w_plus_b():
    layer = nn.Linear(3, 2, dtype="float64")
    layer.bias.assign([0.5, -0.5])
    x = numbers((4, 3))
    np.testing.assert_allclose(layer(ns.tensor(x)).numpy(), x @ layer.weight.numpy() + [0.5, -0.5], rtol=1e-14)
    ns.check_gradients(lambda x, w, b: x @ w + b, x, layer.weight, layer.bias)
    assert layer(ns.zeros((2, 5, 3), "float64")).shape == (2, 5, 2)
    assert layer(ns.zeros(3, "float64")).shape == (2,)
    assert nn.Linear(3, 2, bias=False).bias is None


def test_a_wrong_shape_names_the_layer_both_shapes_and_the_place():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(4, 2))
    model.parameters()
    with pytest.raises(
        ShapeError, match=r"Linear\(12, 5\) at 1 got input of shape \(32, 10\); its last axis must be 12"
    ):
        model(ns.zeros((32, 10)))
    with pytest.raises(ShapeError, match=r"Linear\(4, 2\) at 3 got input of shape \(32, 5\)"):
        model(ns.zeros((32, 12)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(-1, 2),
        lambda: nn.Linear(2.5, 2),
        lambda: nn.Linear(2, True),
        lambda: nn.Linear(2, 2, weight_init="hee"),
        lambda: nn.Linear(2, 2, weight_init=3),
        lambda: nn.BatchNorm(2, eps=0),
        lambda: nn.BatchNorm(2, momentum=1.5),
        lambda: nn.LayerNorm(-2),
        lambda: nn.Dropout(1.0),
        lambda: nn.Dropout(-0.1),
        lambda: nn.Dropout("a"),
        lambda: nn.Sequential(nn.ReLU),
    ],
)
def test_a_layer_with_wrong_settings_is_refused(make):
    with pytest.raises(OptionError):
        make()


def test_flatten_keeps_the_batch():
    x = ns.tensor(numbers((2, 3, 4)))
    np.testing.assert_array_equal(nn.Flatten()(x).numpy(), x.numpy().reshape(2, 12))
    assert nn.Flatten()(ns.zeros(3)).shape == (3, 1)
    assert nn.Flatten()(ns.zeros((0, 3, 4))).shape == (0, 12)
    with pytest.raises(ShapeError, match="needs a batch"):
        nn.Flatten()(ns.tensor(1.0))


# ---- regularization ----


def test_dropout_zeroes_a_share_and_keeps_the_mean():
    layer, x = nn.Dropout(0.3), ns.ones((200, 200))
    ns.manual_seed(0)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.7)}
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.01)
    assert (layer(x).numpy() != y).any(), "a new mask each time"
    ns.manual_seed(0)
    np.testing.assert_array_equal(layer(x).numpy(), y)
    layer.eval()
    np.testing.assert_array_equal(layer(x).numpy(), x.numpy())


def test_the_gradient_of_dropout_goes_where_the_mask_lets_it():
    x = ns.ones(100).detach()
    x.requires_grad = True
    y = nn.Dropout(0.5)(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())


def test_batch_norm_in_training_and_evaluation():
    layer = nn.BatchNorm(3, dtype="float64")
    layer.weight.assign([1.0, 2.0, 0.5])
    layer.bias.assign([0.0, 1.0, -1.0])
    x = numbers((10, 3), -1, 5)
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * layer.weight.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(layer(ns.tensor(x)).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-12)
    layer.eval()
    running = (layer.running_mean.numpy(), layer.running_var.numpy())
    expected = (x - running[0]) / np.sqrt(running[1] + 1e-5) * layer.weight.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(layer(ns.tensor(x)).numpy(), expected, rtol=1e-12)
    np.testing.assert_array_equal(layer.running_mean.numpy(), running[0])
    ns.check_gradients(layer.train(), x)
    with pytest.raises(ShapeError, match=r"at least two rows .*drop_last"):
        layer(ns.zeros((1, 3), "float64"))
    with pytest.raises(ShapeError, match=r"got input of shape \(4, 2\)"):
        layer(ns.zeros((4, 2), "float64"))


def test_layer_norm():
    layer = nn.LayerNorm(4, dtype="float64")
    layer.weight.assign([1.0, 2.0, 0.5, 1.0])
    x = numbers((3, 4), -1, 5)
    expected = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * layer.weight.numpy()
    np.testing.assert_allclose(layer(ns.tensor(x)).numpy(), expected, rtol=1e-12)
    ns.check_gradients(layer, x)


# ---- losses ----

Y, T = numbers((6, 4), seed=1), numbers((6, 4), seed=2)
P = softmax(Y)
LABELS = np.array([0, 1, 2, 3, 0, 1])
ROWS = np.eye(4)[LABELS]
UNIT = special.expit(T)

LOSSES = {
    "mse_loss": (nn.mse_loss, (Y, T), lambda y, t: ((y - t) ** 2).mean()),
    "sum_squared_error": (nn.sum_squared_error, (Y, T), lambda y, t: 0.5 * ((y - t) ** 2).sum()),
    "l1_loss": (nn.l1_loss, (Y, T), lambda y, t: np.abs(y - t).mean()),
    "huber_loss": (
        nn.huber_loss,
        (Y, T),
        lambda y, t: np.where(np.abs(y - t) <= 1, (y - t) ** 2 / 2, np.abs(y - t) - 0.5).mean(),
    ),
    "cross_entropy of labels": (nn.cross_entropy, (Y, LABELS), lambda y, t: -np.log(P)[range(6), LABELS].mean()),
    "cross_entropy of rows": (nn.cross_entropy, (Y, UNIT), lambda y, t: -(t * np.log(P)).sum(1).mean()),
    "cross_entropy_error of labels": (
        nn.cross_entropy_error,
        (P, LABELS),
        lambda y, t: -np.log(y + 1e-7)[range(6), t].mean(),
    ),
    "cross_entropy_error of rows": (
        nn.cross_entropy_error,
        (P, ROWS),
        lambda y, t: -(t * np.log(y + 1e-7)).sum(1).mean(),
    ),
    "binary_cross_entropy": (
        nn.binary_cross_entropy,
        (special.expit(Y), UNIT),
        lambda p, t: -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(),
    ),
    "binary_cross_entropy_with_logits": (
        nn.binary_cross_entropy_with_logits,
        (Y, UNIT),
        lambda y, t: -(t * np.log(special.expit(y)) + (1 - t) * np.log(1 - special.expit(y))).mean(),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_its_formula_with_the_right_gradient(name):
    loss, (y, t), formula = LOSSES[name]
    assert loss(ns.tensor(y), ns.tensor(t)).item() == pytest.approx(formula(y, t), rel=1e-12)
    ns.check_gradients(lambda y: loss(y, ns.tensor(t)), y)


def test_the_numbers_of_the_textbook():
    t = np.eye(10)[2]
    y1 = np.array([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0])
    y2 = np.array([0.1, 0.05, 0.1, 0.0, 0.05, 0.1, 0.0, 0.6, 0.0, 0.0])
    assert nn.sum_squared_error(y1, t).item() == pytest.approx(0.0975)
    assert nn.sum_squared_error(y2, t).item() == pytest.approx(0.5975)
    assert nn.cross_entropy_error(y1, t).item() == pytest.approx(0.510825457)
    assert nn.cross_entropy_error(y2, t).item() == pytest.approx(2.302584092)


def test_the_gradient_of_softmax_with_cross_entropy_is_y_minus_t_over_n():
    found = ns.grad(lambda y: nn.cross_entropy(y, LABELS))(ns.tensor(Y))
    np.testing.assert_allclose(found.numpy(), (P - ROWS) / 6, atol=1e-15)


LIMITS = {
    "cross_entropy, right": (lambda: nn.cross_entropy([[1e4, -1e4]], [0]), 0.0),
    "cross_entropy, wrong": (lambda: nn.cross_entropy([[1e4, -1e4]], [1]), 2e4),
    "cross_entropy_error of 0": (lambda: nn.cross_entropy_error([[0.0, 1.0]], [0]), -math.log(1e-7)),
    "binary_cross_entropy of 0": (lambda: nn.binary_cross_entropy([0.0], [1.0]), 100.0),
    "binary_cross_entropy of 1": (lambda: nn.binary_cross_entropy([1.0], [0.0]), 100.0),
    "binary_cross_entropy, right": (lambda: nn.binary_cross_entropy([1.0, 0.0], [1.0, 0.0]), 0.0),
    "with logits, wrong": (lambda: nn.binary_cross_entropy_with_logits([-1e4], [1.0]), 1e4),
    "with logits, right": (lambda: nn.binary_cross_entropy_with_logits([1e4], [1.0]), 0.0),
    "softmax": (lambda: nn.Softmax()(ns.tensor([1e4, -1e4]))[0], 1.0),
    "sigmoid": (lambda: nn.Sigmoid()(ns.tensor(-1e3)), 0.0),
}


@pytest.mark.parametrize("name", LIMITS)
def test_at_the_limits_a_loss_is_what_it_should_be_and_nothing_warns(name):
    call, expected = LIMITS[name]
    assert call().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: nn.cross_entropy(x.reshape(1, -1), [1]),
        lambda x: nn.binary_cross_entropy_with_logits(x, [1.0, 0.0]),
        lambda x: nn.binary_cross_entropy(ns.sigmoid(x), [1.0, 0.0]),
        lambda x: nn.cross_entropy_error(ns.softmax(x), [0.0, 1.0]),
    ],
)
def test_at_the_limits_gradients_are_finite(loss):
    for x in ([1e4, -1e4], [-1e4, 1e4]):
        assert np.isfinite(ns.grad(loss)(ns.tensor(x)).numpy()).all()


WRONG_TARGETS = [
    (lambda: nn.mse_loss(ns.zeros((3, 1)), ns.zeros(3)), ShapeError, r"\(3, 1\) and a target of shape \(3,\).*reshape"),
    (lambda: nn.cross_entropy(ns.zeros((3, 2)), [0, 1, 2]), DataError, "label 2 is outside the classes 0 to 1"),
    (lambda: nn.cross_entropy(ns.zeros((3, 2)), [0, -1, 1]), DataError, "label -1"),
    (lambda: nn.cross_entropy(ns.zeros((3, 2)), [0.0, 1.0, 1.0]), DTypeError, "class numbers of float32; they are int"),
    (
        lambda: nn.cross_entropy(ns.zeros((3, 2)), [0, 1]),
        ShapeError,
        r"scores of shape \(3, 2\) and labels of shape \(2,",
    ),
    (lambda: nn.cross_entropy(ns.tensor(1.0), [0]), ShapeError, "an axis of classes"),
    (lambda: nn.huber_loss([1.0], [1.0], delta=0), OptionError, "delta > 0, got 0"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG_TARGETS)
def test_targets_that_do_not_fit_are_explained(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# ---- initial weights ----

SPREADS = {
    "xavier_normal": math.sqrt(2 / 700),
    "xavier_uniform": math.sqrt(2 / 700),
    "he_normal": math.sqrt(2 / 400),
    "he_uniform": math.sqrt(2 / 400),
    "lecun_normal": math.sqrt(1 / 400),
    "normal": 0.01,
    "uniform": 0.1 / math.sqrt(12),
}


@pytest.mark.parametrize("name", SPREADS)
def test_initial_weights_have_the_spread_of_their_formula(name):
    ns.manual_seed(0)
    w = init.named(name)((400, 300)).numpy()
    assert w.mean() == pytest.approx(0, abs=0.02 * SPREADS[name])
    assert w.std() == pytest.approx(SPREADS[name], rel=0.01)
    if name.endswith("uniform"):
        assert np.abs(w).max() == pytest.approx(math.sqrt(3) * SPREADS[name], rel=1e-3)
    ns.manual_seed(0)
    np.testing.assert_array_equal(init.named(name)((400, 300)).numpy(), w)


def test_constants_and_fans():
    assert init.zeros((2, 2)).tolist() == [[0, 0], [0, 0]]
    assert init.constant((2,), 5.0).tolist() == [5, 5]
    assert init.fans((3, 4)) == (3, 4)
    with pytest.raises(ShapeError, match="two axes"):
        init.he_normal((3,))
    with pytest.raises(OptionError, match="unknown initializer 'he_norml'; did you mean 'he_normal'"):
        init.named("he_norml")


# ---- modules ----


class Block(nn.Module):
    def __init__(self, width):
        self.width = width
        self.layers = [nn.Linear(width, width), nn.BatchNorm(width)]
        self.scale = nn.Parameter([1.0])
        self.named = {"extra": nn.Linear(width, 1, bias=False)}

    def forward(self, x):
        return self.named["extra"](self.layers[1](self.layers[0](x)) * self.scale)


def test_parts_have_paths_in_the_order_in_which_they_were_set():
    model = nn.Sequential(Block(2), nn.Linear(1, 1))
    assert list(model.named_parameters()) == [
        "0.layers.0.weight",
        "0.layers.0.bias",
        "0.layers.1.weight",
        "0.layers.1.bias",
        "0.scale",
        "0.named.extra.weight",
        "1.weight",
        "1.bias",
    ]
    assert list(model.named_buffers()) == ["0.layers.1.running_mean", "0.layers.1.running_var"]
    assert [p.path for p in model.parameters()] == list(model.named_parameters())
    assert model.parameters().paths == list(model.named_parameters())


def test_mode_reaches_every_part():
    model = nn.Sequential(Block(2), nn.Dropout())
    assert all(not module.training for module in model.eval().named_modules().values())
    assert all(module.training for module in model.train().named_modules().values())


def test_the_state_goes_from_one_model_to_another():
    ns.manual_seed(0)
    one, other = Block(3), Block(3)
    x = ns.random.normal((4, 3))
    assert (one(x).numpy() != other(x).numpy()).any()
    other.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(one.eval()(x).numpy(), other.eval()(x).numpy())


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda s: s.pop("scale"), OptionError, "missing: scale; not in the model: nothing"),
        (lambda s: s.update(more=1), OptionError, "missing: nothing; not in the model: more"),
        (lambda s: s.update(scale=np.ones(2)), ShapeError, r"scale has shape \(1,\) in the model, \(2,\) in the state"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, kind, message):
    model = Block(2)
    state = {name: values + 1 for name, values in model.state_dict().items()}
    before = model.state_dict()
    change(state)
    with pytest.raises(kind, match=message):
        model.load_state_dict(state)
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


def test_a_shared_layer_is_counted_once_and_gets_both_gradients():
    layer = nn.Linear(2, 2, bias=False)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    assert list(model.named_parameters()) == ["0.weight"]
    model(ns.ones((1, 2))).sum().backward()
    both = layer.weight.grad.numpy()
    x = ns.tanh(layer(ns.ones((1, 2))).detach())
    layer.weight.grad = None
    layer(x).sum().backward()
    assert (both != layer.weight.grad.numpy()).any()


def test_a_sequential_is_a_list_of_layers():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    model.append(nn.Linear(3, 1))
    assert len(model) == 3
    assert [type(layer).__name__ for layer in model] == ["Linear", "ReLU", "Linear"]
    model[1] = nn.Tanh()
    assert repr(model) == "Sequential(Linear(2, 3), Tanh(), Linear(3, 1))"


def test_a_summary_has_a_line_for_each_layer_and_the_total():
    lines = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)).summary().splitlines()
    assert len(lines) == 6
    assert lines[2].split() == ["1", "Linear(784,", "128)", "784×128", "128", "100,480"]
    assert lines[-1] == "101,770 parameters, 407.1 kB"


def test_a_module_without_forward_says_so():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty"):
        Empty()(ns.ones(2))


def test_a_notebook_shows_a_model_as_a_table():
    class Strange(nn.Module):
        def __repr__(self):
            return "<strange>"

    page = nn.Sequential(nn.Linear(2, 3), Strange())._repr_html_()
    assert "<td>0</td><td>Linear(2, 3)</td><td>2×3 3</td><td>9</td>" in page
    assert "&lt;strange&gt;" in page
    assert "9 parameters, 0.0 kB" in page


def test_a_sequential_cannot_be_a_layer_of_itself():
    inner = nn.Sequential(nn.ReLU())
    outer = nn.Sequential(nn.Linear(2, 2), inner)
    for make in (
        lambda: outer.append(outer),
        lambda: inner.append(outer),
        lambda: outer.__setitem__(0, outer),
        lambda: inner.__setitem__(-1, nn.Sequential(nn.ReLU(), outer)),
    ):
        with pytest.raises(OptionError, match="cannot be a layer of itself"):
            make()
    with pytest.raises(OptionError, match=r"made of Modules, as in nn\.ReLU\(\); got 'relu'"):
        outer.append("relu")
    assert repr(outer) == "Sequential(Linear(2, 2), Sequential(ReLU()))"
    for _ in range(2000):
        inner = nn.Sequential(inner)
    outer.append(inner)


def test_a_sequential_that_came_to_hold_itself_is_told_of_by_all_that_walks_it(tmp_path):
    inner = nn.Sequential(nn.ReLU())
    outer = nn.Sequential(nn.Linear(2, 2), inner)
    inner.layers.append(outer)
    data = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    for walk in (
        outer.parameters,
        inner.state_dict,
        outer.train,
        lambda: ns.fit(outer, data),
        lambda: ns.predict(outer, data[0]),
        lambda: ns.save(outer, tmp_path / "m"),
        lambda: ns.export_onnx(outer, tmp_path / "m"),
        nn.Sequential(outer).parameters,
    ):
        with pytest.raises(OptionError, match="is the module in which it stands"):
            walk()


def test_a_layer_may_stand_in_several_places_and_know_the_module_that_it_is_in():
    class Part(nn.Module):
        def __init__(self):
            self.whole = None
            self.scale = nn.Parameter([2.0])

        def forward(self, x):
            return x * self.scale

    part = Part()
    part.whole = nn.Sequential(part)
    part.whole.append(nn.Sequential(part))
    assert list(part.whole.named_parameters()) == ["0.scale"]
    assert part.whole(3.0).item() == 12.0


def test_a_layer_shows_what_it_needs_and_what_is_not_as_usual():
    class Scaled(nn.Module):
        def __init__(self, inner, factor, *, shift=0.0):
            self.inner, self.factor, self.shift = inner, factor, shift

    for layer, shown in {
        nn.BatchNorm(3): "BatchNorm(3)",
        nn.BatchNorm(3, momentum=0.2): "BatchNorm(3, momentum=0.2)",
        nn.LayerNorm(3, dtype="float64"): "LayerNorm(3, dtype='float64')",
        nn.LeakyReLU(): "LeakyReLU()",
        nn.Dropout(): "Dropout(p=0.5)",
        Scaled(nn.Tanh(), 2.0): "Scaled(Tanh(), 2.0)",
        Scaled(nn.Tanh(), 2.0, shift=1.0): "Scaled(Tanh(), 2.0, shift=1.0)",
    }.items():
        assert repr(layer) == shown


def test_a_slice_of_a_sequential_is_one():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    first = model[:2]
    assert isinstance(first, nn.Sequential)
    assert list(first) == list(model)[:2]
    x = ns.ones((5, 3))
    np.testing.assert_array_equal(model[2:](first(x)).numpy(), model(x).numpy())


@pytest.mark.parametrize(
    ("name", "told"),
    [("fit", r"ns.fit\(model"), ("predict", r"ns.predict\(model, x\)"), ("zero_grad", r"optimizer.zero_grad\(\)")],
)
def test_methods_that_models_have_elsewhere_are_told(name, told):
    model = nn.Linear(2, 3)
    with pytest.raises(AttributeError, match=f"'Linear' object has no attribute '{name}'; write {told}"):
        getattr(model, name)
    with pytest.raises(AttributeError, match=r"'Linear' object has no attribute 'wieght'$"):
        getattr(model, "wieght")  # noqa: B009  (whose message is looked at)


def test_a_property_that_lacks_something_says_what():
    class Wide(nn.Module):
        @property
        def width(self):
            return self.missing

    with pytest.raises(AttributeError, match="'Wide' object has no attribute 'missing'"):
        _ = Wide().width
