"""Models as ONNX files, which programs without nissl, or without Python, can run.

The model is traced in evaluation mode, for several sizes of the batch. Each equation of the trace becomes nodes by the
table of `onnx_nodes`; what differs from one size to another, in a shape or a number, is worked out from the batch when
the ONNX model runs. So whatever can be traced can be exported, Modules of the user's own too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nissl import nn
from nissl.arguments import whole_number
from nissl.engines.base import evaluation_mode, recording, using, watching
from nissl.errors import OptionError, ShapeError, TracingError, missing_package
from nissl.evaluation import model_dtype
from nissl.files import PathLike, write_atomically
from nissl.graph.graph import Equation, Graph, Operand, Symbol
from nissl.graph.passes import without_dead_code
from nissl.graph.trace import Trace
from nissl.nn.module import Module, checked_model
from nissl.objective import layers_in_order
from nissl.storage import checked_notes, to_json
from nissl.tables import TableModel
from nissl.tensor import Tensor, wrap
from nissl.version import __version__

if TYPE_CHECKING:
    from onnx import ModelProto

    from nissl.exchange.onnx_nodes import Nodes, Value

# Of ONNX 1.13 (2022): old enough for most runtimes, and each later one reads it.
OPSET = 18

# Traced for each of these. 1 is where broadcasting and squeezing could go another way; the last is beyond the sizes
# from which on, as in blocks of 32 or 256 rows, models may compute differently.
BATCH_SIZES = (1, 2, 3, 5, 257)

ML = ("ai.onnx.ml", 3)  # operators on texts, for tables; its version in ONNX 1.13

LARGEST = 2**31 - 1  # bytes that a protobuf message, which an ONNX file is, can have


def export_onnx(
    model: Module | TableModel,
    path: PathLike,
    *,
    input_shape: Sequence[int] | None = None,
    opset: int = OPSET,
    input_name: str | None = None,
    output_name: str | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write the model, as it computes in evaluation mode, to an ONNX file.

    It has one input, "x", of shape (batch, *input_shape), in the dtype of the model's parameters, and one output, "y";
    the batch may have any size: traces for 1, 2, 3, 5 and 257 rows are compared, and a model that does not do the same
    in all of them is refused. `input_shape` is the shape of one row, and need not be given where the first layer says
    it. The parameters keep their paths as names. `notes`, anything JSON can hold, goes into the file's metadata.

    The model of a table has an input of shape (batch, 1) for each column, and its preprocessing is in the file: numbers
    are float64, NaN where they are missing; categories are text; dates are days since 1970-01-01. Its output, named as
    the target, holds probabilities, or numbers in their own units.

    What stands outside of the model is not in the file: bytes, which `ns.predict` scales into [0, 1], must be scaled by
    who runs it. For probabilities from a classifier that gives logits, export `nn.Sequential(model, nn.Softmax())`.

    Raises OptionError for a model that ONNX cannot express, and names the op and the module; MissingPackageError
    without the package onnx.

    >>> import os, tempfile
    >>> import nissl as ns
    >>> from nissl import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ns.export_onnx(model, os.path.join(folder, "iris.onnx"))
    ...     os.listdir(folder)
    ['iris.onnx']
    """
    if isinstance(model, TableModel):
        if input_shape is not None or input_name is not None:
            raise OptionError(
                "export_onnx: the inputs of a model of a table are its columns; leave out input_shape and input_name"
            )
        document = make_table_onnx(model, opset=opset, output_name=output_name, notes=notes)
    else:
        document = make_onnx(
            model,
            input_shape=input_shape,
            opset=opset,
            input_name="x" if input_name is None else input_name,
            output_name="y" if output_name is None else output_name,
            notes=notes,
        )
    write_onnx(document, path)


def write_onnx(document: ModelProto, path: PathLike) -> None:
    """Check an ONNX model and write it, whole or not at all; raise OptionError where ONNX does not accept it."""
    import onnx

    try:
        onnx.checker.check_model(document, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise OptionError(f"export_onnx: ONNX does not accept what this model became: {error}") from None
    with write_atomically(path) as temporary:
        temporary.write_bytes(document.SerializeToString())


def make_onnx(
    model: Module,
    *,
    input_shape: Sequence[int] | None = None,
    opset: int = OPSET,
    input_name: str = "x",
    output_name: str = "y",
    notes: Mapping[str, Any] | None = None,
    before: Callable[[Nodes], str] | None = None,
) -> ModelProto:
    """Return the ONNX model that `export_onnx` writes.

    `before` puts nodes in front of the model, such as the preprocessing of a table: it is given the Nodes, declares
    the inputs that there are instead of `input_name`, and returns the name of the rows, of shape (batch, *input_shape),
    that the model takes.
    """
    checked_model("export_onnx", model)
    _require_onnx()
    import onnx

    from nissl.exchange.onnx_nodes import BATCH, Nodes

    newest = onnx.defs.onnx_opset_version()
    whole_number("opset", opset, OPSET, newest)
    properties = _properties(notes)
    paths: dict[Tensor, str] = {tensor: path for path, tensor in model._state().items()}
    shape, dtype = row_shape(model, input_shape), model_dtype(model)
    size = sum(tensor.payload.nbytes for tensor in paths)
    if size > LARGEST:
        raise OptionError(f"this model has {size / 2**30:.1f} GiB of parameters; an ONNX file holds less than 2 GiB")
    forwards = [_traced(model, (batch, *shape), dtype, paths) for batch in BATCH_SIZES]

    nodes = Nodes(BATCH_SIZES, taken=paths.values())
    nodes.take(output_name)
    nodes.rows = before(nodes) if before else nodes.input(input_name, dtype, (BATCH, *shape))
    result = add_function(nodes, forwards, [nodes.rows], paths)
    nodes.output(result, output_name)
    opset_ids = [
        onnx.helper.make_opsetid(name, version) for name, version in (("", opset), ML) if name in nodes.domains
    ]
    document = onnx.helper.make_model(
        nodes.graph(type(model).__name__),
        opset_imports=opset_ids,
        ir_version=onnx.helper.find_min_ir_version_for(opset_ids),  # so that older runtimes read it
        producer_name="nissl",
        producer_version=__version__,
        doc_string=repr(model),
    )
    onnx.helper.set_model_props(document, properties)
    return document


def _properties(notes: Mapping[str, Any] | None) -> dict[str, str]:
    """Return notes as the metadata of an ONNX file, which is text."""
    return {_unicode(name): _unicode(_as_text(note, name)) for name, note in checked_notes(notes).items()}


def _as_text(note: Any, name: str) -> str:
    if isinstance(note, str):
        return note
    return to_json(note, f"the note {name!r}", ensure_ascii=False, allow_nan=False)  # NaN is JSON for Python alone


def _unicode(text: str) -> str:
    """Return text, with halves of characters, as names of files may have them, written out."""
    return text.encode(errors="backslashreplace").decode()


def make_table_onnx(
    model: TableModel, *, opset: int = OPSET, output_name: str | None = None, notes: Mapping[str, Any] | None = None
) -> ModelProto:
    """Return the ONNX model of a model of a table, with its preprocessing.

    Each column is an input of shape (batch, 1): numbers as float64, NaN where they are missing; categories as text, as
    in the file without blanks around them; dates as days since 1970-01-01. The output, named as the target unless told
    otherwise, has shape (batch, classes), the probabilities, or (batch, 1), the number in its own units as float64.
    """
    _require_onnx()
    from nissl.exchange.onnx_tables import add_preprocessing, answer_layer

    prepare = model.preprocessor
    return make_onnx(
        followed_by(model.network, answer_layer(prepare)),
        input_shape=(prepare.width,),
        opset=opset,
        output_name=prepare.target.name if output_name is None else output_name,
        notes={"class names": list(prepare.target.classes)} | checked_notes(notes),
        before=lambda nodes: add_preprocessing(nodes, prepare),
    )


def followed_by(model: Module, layer: Module) -> nn.Sequential:
    """Return the model with a layer behind it; the paths of a Sequential's parameters stay what they are."""
    return nn.Sequential(*(model if isinstance(model, nn.Sequential) else [model]), layer)


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise missing_package("onnx", "ONNX files are written") from None


def row_shape(model: Module, given: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the shape of one row that the model takes: as given, or as its first layer says.

    >>> row_shape(nn.Sequential(nn.Dropout(), nn.Linear(4, 2)))
    (4,)
    """
    if given is not None:
        sizes = tuple(given) if isinstance(given, Sequence) else (given,)
        if not all(isinstance(n, int | np.integer) and n >= 0 for n in sizes):
            raise OptionError(f"input_shape is the shape of one row, without the batch, as in (28, 28); got {given!r}")
        return tuple(map(int, sizes))
    for layer in layers_in_order(model):
        if isinstance(layer, nn.Linear):
            return (layer.in_features,)
        if isinstance(layer, nn.BatchNorm | nn.LayerNorm):
            return (layer.features,)
        if isinstance(layer, nn.Flatten) or type(layer).__module__.partition(".")[0] != "nissl":
            break
    raise OptionError(
        "export_onnx cannot tell the shape of the rows that this model takes; give the shape of one row, without the "
        "batch, such as input_shape=(28, 28)"
    )


# ---- traces ----


@dataclass(frozen=True)
class Forward:
    """The trace of a function of Tensors: its inputs, and what it reads besides, are inputs of the graph."""

    graph: Graph
    inputs: tuple[Symbol, ...]
    state: Mapping[Symbol, Tensor]


def trace_forward(
    function: Callable[..., Any], kinds: Sequence[tuple[tuple[int, ...], Any]], paths: Mapping[Tensor, str]
) -> Forward:
    """Trace a function of Tensors of these shapes and dtypes that returns one Tensor; `paths` names those it reads."""
    trace = Trace()
    inputs = tuple(trace.symbol(shape, np.dtype(dtype)) for shape, dtype in kinds)
    with recording(False), watching(None), using(trace):
        output = function(*map(wrap, inputs))
        if not isinstance(output, Tensor):
            raise OptionError(f"export_onnx needs a model that returns one Tensor, got {type(output).__name__}")
        result = trace.read(output)
    for equation in trace.equations:
        if equation.op.kind == "random":
            raise OptionError(
                f"export_onnx: this model draws random numbers in evaluation mode too, {_place(equation)}"
            )
    for tensor, symbol in trace.inputs.items():
        if trace.values[tensor] is not symbol:
            raise OptionError(
                f"export_onnx: this model changes {paths.get(tensor, 'a Tensor')} when it is called, in evaluation "
                "mode too; an ONNX model has no state that it could change"
            )
    state = {symbol: tensor for tensor, symbol in trace.inputs.items()}
    graph = Graph("forward", (*inputs, *state), trace.constants, tuple(trace.equations), (result,))
    graph = without_dead_code(graph)
    read = {result, *(x for equation in graph.equations for x in equation.inputs)}
    return Forward(graph, inputs, {symbol: tensor for symbol, tensor in state.items() if symbol in read})


def _place(equation: Equation) -> str:
    return f"in {equation.scope or 'the model'} ({equation.source})"


def _traced(model: Module, shape: tuple[int, ...], dtype: Any, paths: Mapping[Tensor, str]) -> Forward:
    try:
        with evaluation_mode():
            return trace_forward(model, [(shape, dtype)], paths)
    except TracingError as error:
        raise TracingError(f"export_onnx traces the model, as ns.compile does, and cannot: {error}") from None
    except ShapeError as error:
        raise ShapeError(f"export_onnx gave the model a batch of shape {shape}: {error}") from None


def _partners(one: Forward, other: Forward) -> dict[Symbol, Symbol]:
    """Return, for each Symbol of a trace, the one of another trace that stands in its place."""
    partners = dict(zip(one.inputs, other.inputs, strict=True))
    places = {tensor: symbol for symbol, tensor in other.state.items()}
    partners |= {symbol: places[tensor] for symbol, tensor in one.state.items() if tensor in places}
    constants = zip(one.graph.constants.items(), other.graph.constants.items(), strict=False)
    partners |= {a: b for (a, array), (b, theirs) in constants if _equal(array, theirs)}
    alike = len(one.graph.equations) == len(other.graph.equations)
    for equation, partner in zip(one.graph.equations, other.graph.equations, strict=False):
        operands = zip(equation.inputs, partner.inputs, strict=False)
        alike = (
            alike
            and equation.op is partner.op
            and len(equation.inputs) == len(partner.inputs)
            and all(_correspond(a, b, partners) for a, b in operands)
            and _form(equation.attributes) == _form(partner.attributes)
        )
        partners.update(zip(equation.outputs, partner.outputs, strict=False))
    if not alike or partners.get(one.graph.outputs[0]) is not other.graph.outputs[0]:
        counts = one.inputs[0].shape[0], other.inputs[0].shape[0]
        raise OptionError(
            f"export_onnx: this model does something else with {counts[0]} rows than with {counts[1]}, or makes "
            "numbers up when it is called; an ONNX model does the same with any number of rows"
        )
    return partners


def _correspond(a: Operand, b: Operand, partners: Mapping[Symbol, Symbol]) -> bool:
    return partners.get(a) is b if isinstance(a, Symbol) else not isinstance(b, Symbol)


def _form(value: Any) -> Any:
    """Return what a value is made of, without its numbers."""
    if isinstance(value, slice):
        value = (value.start, value.stop, value.step)
    parts = value.values() if isinstance(value, Mapping) else value
    return [_form(part) for part in parts] if isinstance(value, Mapping | tuple) else type(value)


def _equal(a: Any, b: Any) -> bool:
    return bool(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


# ---- from traces to nodes ----


def merged(values: Sequence[Any]) -> Any:
    """Return what an attribute, a size or a number is for all traces: itself, or, where it differs, a Varying.

    >>> merged([(1, 10), (2, 10)])
    (Varying(numbers=(1, 2)), 10)
    """
    from nissl.exchange.onnx_nodes import Varying

    first = values[0]
    if isinstance(first, tuple):
        return tuple(merged(parts) for parts in zip(*values, strict=True))
    if isinstance(first, slice):
        return slice(*(merged([getattr(part, end) for part in values]) for end in ("start", "stop", "step")))
    if all(value == first for value in values):
        return first
    return Varying(tuple(values))


def add_function(
    nodes: Nodes, forwards: Sequence[Forward], inputs: Sequence[str], paths: Mapping[Tensor, str]
) -> Value:
    """Add the nodes of a function that was traced for each size of the batch, and return the Value of its result.

    `inputs` are the names of what it is applied to; `paths` names the Tensors that it reads.
    """
    from nissl.exchange.onnx_nodes import BUILDERS, Inexpressible, Value

    first, *others = forwards
    partners = [_partners(first, other) for other in others]
    values: dict[Symbol, Value] = {}

    def define(symbol: Symbol, name: str) -> None:
        shapes = [symbol.shape, *(table[symbol].shape for table in partners)]
        values[symbol] = Value(name, merged(shapes), symbol.dtype)

    def operand(number: Sequence[Operand], dtype: np.dtype[Any]) -> Value:
        if isinstance(number[0], Symbol):
            return values[number[0]]
        return Value(nodes.number(merged(number), dtype), (), dtype)

    for symbol, name in zip(first.inputs, inputs, strict=True):
        define(symbol, name)
    for symbol, tensor in first.state.items():
        define(symbol, nodes.constant(tensor.numpy(), name=paths.get(tensor, "")))
    for symbol, array in first.graph.constants.items():
        define(symbol, nodes.constant(array))
    for alike in zip(*(forward.graph.equations for forward in forwards), strict=True):
        equation: Equation = alike[0]
        nodes.scope = equation.scope
        try:
            build = BUILDERS.get(equation.op.name)
            if build is None:
                raise Inexpressible(f"the op {equation.op.name}")
            dtype = _dtype_of_numbers(equation)
            operands = [operand(x, dtype) for x in zip(*(e.inputs for e in alike), strict=True)]
            attributes = {key: merged([e.attributes[key] for e in alike]) for key in equation.attributes}
            define(equation.outputs[0], build(nodes, *operands, **attributes))
        except Inexpressible as reason:
            raise OptionError(f"export_onnx: ONNX has no nodes for {reason}, {_place(equation)}") from None
    return values[first.graph.outputs[0]]


def _dtype_of_numbers(equation: Equation) -> np.dtype[Any]:
    """Return the dtype that Python numbers take among the inputs of an equation."""
    symbols = [x for x in equation.inputs[equation.op.promoted_from or 0 :] if isinstance(x, Symbol)]
    return symbols[0].dtype if symbols else np.dtype(np.float32)
