"""Habits from other libraries: their names and arguments, and how the same is said here.

Whoever writes `x.unsqueeze(0)`, `nn.Dense(10)` or `x.sum(dim=1)` is told what to write, in the error that comes anyway.
There is a table for each thing that may be asked for a name: a Tensor, a Module, an optimizer, a module of nissl. A
test resolves all names that the hints mention.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, NoReturn, TypeVar, cast

from nissl.errors import CallError
from nissl.text import nearest

Function = TypeVar("Function", bound=Callable[..., Any])
Hints = Mapping[str, str]

CPU = "all is computed on the CPU, there is nowhere to move it"
NOT_HERE = "nissl has no such layer; see nissl.nn.__all__ for those that it has"
FUNCTIONS = "most functions are there as in ns.relu(x), the others as in nissl.functional.gelu(x)"


def _each(names: str, hint: str) -> dict[str, str]:
    """Return one hint for several names."""
    return dict.fromkeys(names.split(), hint)


TENSOR: Hints = {
    **_each("view view_as flatten ravel", "write x.reshape(...), as in x.reshape(-1)"),
    "unsqueeze": "write x.expand_dims(axis)",
    **_each("permute transpose swapaxes", "write x.permute_dims(1, 0), or x.T"),
    **_each("t mT", "write x.T"),
    **_each("expand repeat tile", "write x.broadcast_to(shape), or ns.concat([x, x])"),
    "clamp": "write x.clip(min, max)",
    "dim": "write x.ndim",
    **_each("numel nelement", "write x.size"),
    **_each("cuda cpu to device is_cuda block_until_ready", CPU),
    **_each("float double", "write x.astype('float32') or x.astype('float64')"),
    **_each("half bfloat16", "Tensors of floats hold float32 or float64; write x.astype('float32')"),
    **_each("long int bool type cast", "write x.astype('int64') or x.astype('bool')"),
    "clone": "an operation never changes a Tensor in place; ns.tensor(x) makes another of the same values",
    "data": "read x.numpy() or x.detach(), write x.assign(new)",
    "requires_grad_": "write x.requires_grad = True",
    "zero_grad": "write x.grad = None",
    "zero_": "write x.assign(ns.zeros_like(x)); a gradient is forgotten by optimizer.zero_grad(), or x.grad = None",
    **_each("retain_grad register_hook", "ns.gradient_flow(loss) has the gradients of intermediate values"),
    "norm": "write ns.sqrt((x * x).sum())",
    **_each("mm bmm mv dot inner", "write x @ y, or x.matmul(y)"),
    **_each("mul multiply add sub subtract div divide", "write x * y, x + y, x - y, x / y"),
    **_each("eq ne lt le gt ge", "write x == y, x < y, and so on"),
    **_each("gather index_select", "write x.take_along_axis(indices, axis) or x.take(indices, axis)"),
    **_each("masked_fill masked_select", "write ns.where(mask, x, y), or x[mask]"),
    **_each("sort argsort topk cumsum", "for the values, NumPy has it: write x.numpy() and go on there"),
    "at": "a Tensor does not change element by element; write ns.where(mask, x, y)",
    **_each(
        "add_ sub_ mul_ div_ fill_ copy_ clamp_ normal_ uniform_ set",
        "an operation never changes a Tensor in place; write x.assign(new)",
    ),
}

MODULE: Hints = {
    "fit": "write ns.fit(model, (x, y), epochs=5)",
    "compile": "write ns.fit(model, (x, y), loss=..., optimizer=...), which compiles by itself",
    **_each("predict predict_proba", "write ns.predict(model, x)"),
    **_each("evaluate score", "write ns.evaluate(model, (x, y))"),
    **_each("save save_weights", "write ns.save(model, 'model.safetensors')"),
    **_each("load load_weights set_weights", "write model.load_state_dict(state), or ns.load('model.safetensors')"),
    "zero_grad": "write optimizer.zero_grad()",
    "backward": "write loss.backward()",
    "step": "write optimizer.step()",
    **_each("to cuda cpu device", CPU),
    **_each("float double half", "the dtype is an argument of a layer, as in nn.Linear(4, 3, dtype='float64')"),
    **_each("weights get_weights variables", "write model.state_dict() for arrays, model.parameters() for Parameters"),
    **_each("trainable_weights trainable_variables params", "write model.parameters()"),
    "count_params": "write model.summary()",
    **_each("children modules named_children apply", "write model.named_modules(), a dict of Modules by their paths"),
    **_each("add add_module", "a Sequential has model.append(layer); elsewhere set an attribute"),
    **_each("requires_grad_ trainable", "write parameter.requires_grad = False for each of model.parameters()"),
    **_each("register_buffer buffers", "set an attribute to nn.Buffer(values); see model.named_buffers()"),
    "register_parameter": "set an attribute to nn.Parameter(values)",
    **_each("register_forward_hook register_full_backward_hook", "ns.inspect.watch(model) records what goes through"),
}

OPTIMIZER: Hints = {
    "param_groups": "write optimizer.lr = 0.01; optimizer.parameters has the Parameters by path",
    **_each("learning_rate learning_rate_init", "write optimizer.lr"),
    **_each("minimize apply_gradients", "write loss.backward(), then optimizer.step()"),
    "init": "an optimizer is ready when it is made: write optimizer.step() after loss.backward()",
}

NN: Hints = {
    **_each("Dense LazyLinear", "write nn.Linear(in_features, out_features)"),
    **_each("MSELoss MeanSquaredError", "losses are functions: write nn.mse_loss(prediction, target)"),
    **_each("mse mean_squared_error squared_error", "write nn.mse_loss(prediction, target)"),
    **_each("L1Loss MeanAbsoluteError", "losses are functions: write nn.l1_loss(prediction, target)"),
    **_each("mae mean_absolute_error absolute_error", "write nn.l1_loss(prediction, target)"),
    **_each(
        "categorical_crossentropy sparse_categorical_crossentropy log_loss", "write nn.cross_entropy(logits, labels)"
    ),
    **_each("binary_crossentropy bce", "write nn.binary_cross_entropy(probabilities, targets)"),
    "bce_with_logits": "write nn.binary_cross_entropy_with_logits(logits, targets)",
    **_each("SmoothL1Loss HuberLoss Huber", "losses are functions: write nn.huber_loss(prediction, target)"),
    **_each(
        "CrossEntropyLoss SparseCategoricalCrossentropy CategoricalCrossentropy NLLLoss nll_loss",
        "losses are functions: write nn.cross_entropy(logits, labels)",
    ),
    "BCEWithLogitsLoss": "losses are functions: write nn.binary_cross_entropy_with_logits(logits, targets)",
    **_each(
        "BCELoss BinaryCrossentropy", "losses are functions: write nn.binary_cross_entropy(probabilities, targets)"
    ),
    "PoissonNLLLoss": "losses are functions: write nn.poisson_loss(log_rates, counts)",
    **_each("functional relu sigmoid tanh softmax log_softmax gelu silu elu leaky_relu softplus one_hot", FUNCTIONS),
    "LogSoftmax": "write ns.log_softmax(x); nn.cross_entropy(logits, labels) takes it by itself",
    **_each("BatchNorm1d BatchNormalization", "write nn.BatchNorm(features)"),
    "LayerNormalization": "write nn.LayerNorm(features)",
    **_each("Swish swish", "write nn.SiLU()"),
    **_each("ModuleList ModuleDict ParameterList", "a plain list or dict of Modules, set as an attribute, is found"),
    **_each("Model Layer", "write class Net(nn.Module)"),
    **_each("Input InputLayer", "nn.Linear(in_features, out_features) says its input by itself"),
    "Activation": "write nn.ReLU(), nn.Tanh() and so on",
    "utils": "write optim.clip_grad_norm(...)",
    **_each("Conv1d Conv2d Conv3d Conv2D Conv MaxPool2d MaxPooling2D AvgPool2d BatchNorm2d GroupNorm", NOT_HERE),
    **_each("Bilinear RNN LSTM GRU Embedding MultiheadAttention MultiHeadAttention Transformer Dropout2d", NOT_HERE),
}

INIT: Hints = {
    **_each("zeros_ ones_ constant_", "a function here returns new values: write nn.init.constant(shape, value)"),
    "normal_": "a function here returns new values: write nn.init.normal(shape)",
    "uniform_": "a function here returns new values: write nn.init.uniform(shape)",
    **_each("xavier_normal_ glorot_normal", "write nn.init.xavier_normal(shape), which returns the values"),
    **_each("xavier_uniform_ glorot_uniform", "write nn.init.xavier_uniform(shape), which returns the values"),
    **_each("kaiming_normal_ kaiming_normal", "write nn.init.he_normal(shape), which returns the values"),
    **_each("kaiming_uniform_ kaiming_uniform", "write nn.init.he_uniform(shape), which returns the values"),
}

OPTIM: Hints = {
    "lr_scheduler": "schedules are in optim.schedules, to stand for a learning rate: lr=optim.schedules.cosine(...)",
    "Momentum": "write optim.SGD(parameters, lr=0.01, momentum=0.9)",
    **_each("Nadam NAdam Adamax Adadelta LBFGS Lion RAdam", "nissl has SGD, AdaGrad, RMSProp, Adam and optim.AdamW"),
    "apply_updates": "write optimizer.step()",
    **_each("clip_grad_norm_ clip_by_global_norm", "write optim.clip_grad_norm(...)"),
}

SCHEDULES: Hints = {
    **_each("StepLR MultiStepLR", "write lr=optim.schedules.step_decay(0.1, every=1000)"),
    **_each(
        "CosineAnnealingLR CosineDecay cosine_decay_schedule", "write lr=optim.schedules.cosine(0.1, steps=10_000)"
    ),
    **_each("ExponentialLR ExponentialDecay", "write lr=optim.schedules.exponential(0.1, decay=0.999)"),
    **_each("LinearLR PolynomialDecay", "write lr=optim.schedules.linear(0.1, steps=10_000)"),
    "ReduceLROnPlateau": "what follows a metric is a callback of ns.fit that sets optimizer.lr",
}

RANDOM: Hints = {
    **_each("rand random", "write ns.random.uniform(shape)"),
    **_each("randn standard_normal", "write ns.random.normal(shape)"),
    **_each("randint choice", "write (ns.random.uniform(shape) * n).astype('int64')"),
    **_each("randperm shuffle", "write ns.random.permutation(size)"),
    **_each("seed key PRNGKey default_rng", "write ns.manual_seed(0)"),
    "binomial": "write ns.random.bernoulli(shape, probability)",
}

DATASETS: Hints = {
    **_each("mnist MNIST load_mnist fetch_openml", "write datasets.load('mnist')"),
    **_each("fashion_mnist FashionMNIST", "write datasets.load('fashion-mnist')"),
    **_each("digits load_digits", "write datasets.load('digits')"),
    **_each("make_moons make_blobs make_circles", "write datasets.load('moons'), or 'blobs', or 'circles'"),
    "load_data": "write datasets.load('mnist')",
}

TABLES: Hints = {
    **_each("read_csv load_csv read_table", "write tables.read('houses.csv', target='price')"),
    **_each("DataFrame from_pandas", "write tables.from_frame(frame, target='price')"),
}

NISSL: Hints = {
    **_each("array asarray as_tensor from_numpy Variable", "write ns.tensor(values)"),
    "rand": "write ns.random.uniform(shape)",
    "randn": "write ns.random.normal(shape)",
    "randint": "write (ns.random.uniform(shape) * n).astype('int64')",
    "randperm": "write ns.random.permutation(size)",
    **_each("seed set_seed set_random_seed", "write ns.manual_seed(0)"),
    **_each("cat concatenate hstack vstack", "write ns.concat([x, y], axis=0)"),
    **_each("mm bmm dot einsum", "write x @ y, or ns.tensordot(x, y, axes)"),
    "unsqueeze": "write ns.expand_dims(x, axis)",
    **_each("transpose permute swapaxes", "write ns.permute_dims(x, 1, 0), or x.T"),
    **_each("flatten ravel view", "write ns.reshape(x, -1)"),
    "clamp": "write ns.clip(x, min, max)",
    **_each("add subtract sub multiply mul divide div", "write x + y, x - y, x * y, x / y"),
    **_each("eq allclose isclose", "write ns.equal(x, y), or numpy.allclose(x.numpy(), y.numpy())"),
    **_each("norm linalg", "write ns.sqrt(ns.sum(x * x))"),
    "empty": "write ns.zeros(shape)",
    **_each("jit function", "write ns.compile(f)"),
    "vmap": "functions take whole batches; Tensors broadcast, see ns.broadcast_to",
    **_each("autograd GradientTape", "write loss.backward(), or ns.grad(f)"),
    **_each("set_grad_enabled enable_grad stop_gradient inference_mode", "write with ns.no_grad(), or x.detach()"),
    **_each("device cuda set_default_device", CPU),
    **_each("float32 float64 int64 float int long bool", "a dtype is named by text, as in ns.ones(3, dtype='float64')"),
    **_each("layers keras Input", "layers are in nn, as in nn.Linear(4, 3)"),
    "losses": "losses are in nn, as in nn.cross_entropy(logits, labels)",
    "optimizers": "optimizers are in optim, as in optim.Adam(model.parameters())",
    **_each("utils DataLoader", "ns.batches((x, y), 32) gives minibatches; ns.fit(model, (x, y)) makes them by itself"),
    "TensorDataset": "write ns.Dataset(x, y), or the pair (x, y)",
    **_each("accuracy accuracy_score metrics", "write ns.evaluate(model, (x, y)).accuracy"),
    "save_model": "write ns.save(model, 'model.safetensors')",
    "load_model": "write ns.load('model.safetensors')",
    "read_csv": "write ns.tables.read('houses.csv', target='price')",
    "train": "write ns.fit(model, (x, y))",
}

# The names of arguments elsewhere and here; where a function has no such argument, they tell nothing.
ARGUMENTS: Mapping[str, str] = {
    "dim": "axis",
    "dims": "axis",
    "keepdim": "keepdims",
    "keep_dims": "keepdims",
    "ddof": "correction",
    "unbiased": "correction",
    "num_classes": "classes",
    "learning_rate": "lr",
    "learning_rate_init": "lr",
    "units": "out_features",
    "input_dim": "in_features",
    "use_bias": "bias",
    "kernel_initializer": "weight_init",
    "num_features": "features",
    "normalized_shape": "features",
    "epsilon": "eps",
    "rate": "p",
    "negative_slope": "slope",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "max_iter": "epochs",
    "validation_data": "validation",
    "verbose": "progress",
    "criterion": "loss",
    "loss_fn": "loss",
    "n_iter_no_change": "patience",
    "random_state": "seed",
}

# The names of arguments here and in nissl.sklearn, which has those of scikit-learn.
ESTIMATOR_ARGUMENTS: Mapping[str, str] = {
    "hidden": "hidden_layer_sizes",
    "hidden_sizes": "hidden_layer_sizes",
    "lr": "learning_rate_init",
    "epochs": "max_iter",
    "optimizer": "solver",
    "weight_decay": "alpha",
    "patience": "n_iter_no_change",
    "seed": "random_state",
    "progress": "verbose",
}

# Arguments elsewhere for which there is none here, and why.
WITHOUT_ARGUMENT: Hints = {
    "device": CPU,
    "inplace": "an operation never changes a Tensor in place",
    "retain_graph": "loss.backward() can be called again: the graph stays as long as its result does",
    "create_graph": "ns.grad(ns.grad(f)) gives gradients of gradients",
    "set_to_none": "write optimizer.zero_grad()",
    "reduction": "losses average over the batch; nn.sum_squared_error adds up",
    "activation": "an activation is a layer of its own, as in nn.Sequential(nn.Linear(4, 3), nn.ReLU())",
    "input_shape": "write nn.Linear(in_features, out_features)",
    "requires_grad": "write ns.tensor(values, requires_grad=True)",
    "validation_split": "write train, validation = ns.Dataset(x, y).split(0.2), and pass validation=validation",
    "class_weight": "give ns.fit a sample_weight for each example, such as that of its class",
    "lr": "write optimizer=optim.Adam(model.parameters(), lr=0.01)",
    "from_logits": "nn.cross_entropy takes logits, nn.cross_entropy_error probabilities",
}

# How functions are called whose first arguments are easily taken for others.
EXAMPLES: Mapping[str, str] = {
    "fit": "ns.fit(model, (x, y), epochs=5)",
    "evaluate": "ns.evaluate(model, (x, y))",
    "predict": "ns.predict(model, x)",
    "batches": "ns.batches((x, y), 32)",
    "save": "ns.save(model, 'model.safetensors')",
    "concat": "ns.concat([x, y], axis=0)",
    "stack": "ns.stack([x, y], axis=0)",
    "Sequential": "nn.Sequential(nn.Linear(4, 3), nn.ReLU())",
    "SGD": "optim.SGD(model.parameters(), lr=0.01)",
    "Adam": "optim.Adam(model.parameters(), lr=0.001)",
    "mse_loss": "nn.mse_loss(prediction, target)",
    "cross_entropy": "nn.cross_entropy(logits, labels)",
    "NeuralNetClassifier": "NeuralNetClassifier((100,), dropout=0.2)",
    "NeuralNetRegressor": "NeuralNetRegressor(hidden_layer_sizes=(100,), dropout=0.2)",
}


def missing(
    thing: str, name: str, hints: Hints, known: Iterable[str] = (), homes: Iterable[ModuleType] = ()
) -> NoReturn:
    """Raise the AttributeError for a name that a thing does not have: with a hint, its home, or the nearest name."""
    hint = ""
    if name in hints:
        hint = f"; {hints[name]}"
    elif not name.startswith("_"):
        home = next((home for home in homes if name in home.__all__), None)
        hint = f"; it is {home.__name__.removeprefix('nissl.')}.{name}" if home else nearest(name, known)
    # With `name` and `obj` Python would add a guess of its own.
    raise AttributeError(f"{thing} has no attribute {name!r}{hint}", name=None, obj=None)


def attributes(hints: Hints) -> Callable[[Any, str], Any]:
    """Return a `__getattr__` for a class, which knows these names as habits."""

    def __getattr__(self: Any, name: str) -> Any:  # noqa: N807
        if name in hints and not hasattr(type(self), name):
            missing(f"{type(self).__name__!r} object", name, hints)
        return object.__getattribute__(self, name)  # raises once more, as a property may for another name

    return __getattr__


def explained(function: Function) -> Function:
    """Let a function that is called with arguments that it does not take say how it is called.

    >>> import nissl as ns
    >>> ns.ones((2, 3)).sum(dim=1)
    Traceback (most recent call last):
    nissl.errors.CallError: sum() got an unexpected keyword argument 'dim'; write axis=...
    """

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        try:
            return function(*arguments, **keywords)
        except TypeError:
            told = _wrong_call(function, arguments, keywords)
            if not told:
                raise
        raise CallError(told)

    return cast(Function, call)


def _wrong_call(function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> str:
    """Return what is wrong with the arguments of a call, or nothing if the function takes them."""
    signature = inspect.signature(function)
    try:
        signature.bind(*arguments, **keywords)
        return ""
    except TypeError as error:
        problem = str(error)
    name, _, method = function.__qualname__.partition(".")
    parameters = list(signature.parameters.values())
    if method:
        name = type(arguments[0]).__name__ if method == "__init__" else method
        parameters = parameters[1:]
    names = [p.name for p in parameters]
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    usage = EXAMPLES.get(name) or f"{'.' if name == method else ''}{name}{inspect.Signature(plain)}"
    strange = next((keyword for keyword in keywords if keyword not in names), None)
    if strange is None:
        return f"{name}(): {problem}; write {usage}"
    return f"{name}() got an unexpected keyword argument {strange!r}{_instead(strange, names) or f'; write {usage}'}"


def _instead(keyword: str, names: list[str]) -> str:
    """Return what to write in place of an argument that a function with arguments of these names does not have."""
    for elsewhere in (ARGUMENTS, ESTIMATOR_ARGUMENTS):
        if elsewhere.get(keyword) in names:
            return f"; write {elsewhere[keyword]}=..."
    if keyword in WITHOUT_ARGUMENT:
        return f"; {WITHOUT_ARGUMENT[keyword]}"
    return nearest(keyword, names)
