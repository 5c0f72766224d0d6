"""A network with the preprocessing of its table: answers for rows with named columns, metrics, one file for all."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from nissl import evaluation, functional, notebook, storage
from nissl.errors import DataError, ModelFileError, NisslError, OptionError, ShapeError
from nissl.files import PathLike
from nissl.nn.module import Module
from nissl.optim.optimizer import Optimizer
from nissl.tables.columns import DATE_FORMATS, KINDS, TASKS, Column, Target, check_there
from nissl.tables.preprocessing import Preprocessor, frame_of
from nissl.tables.table import Table
from nissl.tensor import Tensor
from nissl.text import percent, printable, table

if TYPE_CHECKING:
    from pandas import DataFrame

Array = npt.NDArray[Any]

ARRAYS = ("medians", "means", "scales", "indicated", "prior")
ROWS_OF_IMPORTANCE = 10_000


@dataclass(frozen=True)
class TableEvaluation:
    """How well a model does on rows, beside an answer that looks at none: the most frequent class, or the mean.

    `metrics` and `baseline` map the same names to numbers: `accuracy`, `balanced_accuracy`, `log_loss`, `roc_auc`, or
    `mae`, `rmse`, `r2`. `true` and `predicted` are the numbers of the classes, or the numbers; `target` says which.
    """

    rows: int
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    true: Array
    predicted: Array
    target: Target
    confusion_matrix: Array | None = None

    def __repr__(self) -> str:
        return table([HEAD, *self._lines], right="lrr")

    def _repr_html_(self) -> str:
        """Return the metrics for a notebook, with the confusion matrix, or predicted against true, as a picture."""
        from nissl import plots  # here, since only pictures need it

        if self.confusion_matrix is None:
            figure = plots.predictions(self.true, self.predicted, label=self.target.name)
        else:
            figure = plots.confusion_matrix(self.confusion_matrix, self.target.classes)
        return notebook.table(HEAD, self._lines, note=f"{self.rows:,} rows") + notebook.picture(figure)

    @property
    def _lines(self) -> list[tuple[str, ...]]:
        return [
            (METRIC_NAMES[name], in_figures(name, value), in_figures(name, self.baseline[name]))
            for name, value in self.metrics.items()
        ]


HEAD = ("", "model", "baseline")
METRIC_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss",
    "roc_auc": "ROC AUC",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
}


def in_figures(name: str, value: float) -> str:
    """Return a metric as it is read.

    >>> in_figures("accuracy", 0.925), in_figures("rmse", 22034.56), in_figures("roc_auc", float("nan"))
    ('92.5 %', '22,035', '-')
    """
    if np.isnan(value):
        return "-"
    if "accuracy" in name:
        return percent(value)
    if name not in ("mae", "rmse"):
        return f"{value:.3f}"
    return f"{value:,.0f}" if 1e3 <= value < 1e9 else f"{value:.4g}"  # prices are not read with an exponent


@dataclass(frozen=True, eq=False)
class TableModel:
    """A network that takes what `preprocessor` makes of rows, and gives class scores, or one standardized number.

    >>> import nissl as ns, pandas as pd
    >>> from nissl import nn, tables
    >>> flowers = pd.DataFrame({"petals": [6, 4, 5, 8] * 5, "kind": ["lily", "poppy", "rose", "rose"] * 5})
    >>> table = tables.from_frame(flowers, target="kind")
    >>> prepare = tables.Preprocessor.fit(table)
    >>> network = nn.Sequential(nn.Linear(prepare.width, prepare.outputs))
    >>> history = ns.fit(network, prepare.dataset(table), epochs=1)
    >>> tables.TableModel(network, prepare).predict_proba(flowers[:2]).shape
    (2, 3)
    """

    network: Module
    preprocessor: Preprocessor

    def __post_init__(self) -> None:
        given: tuple[Any, Any] = (self.network, self.preprocessor)
        if not (isinstance(given[0], Module) and isinstance(given[1], Preprocessor)):
            kinds = " and ".join(type(part).__name__ for part in given)
            raise OptionError(f"TableModel takes a Module and a Preprocessor, got {kinds}")

    @property
    def target(self) -> Target:
        """What is predicted."""
        return self.preprocessor.target

    def predict(self, data: Table | DataFrame) -> Array:
        """Return an answer for each row: the class, or the number in its own units.

        Columns may come in any order, with others among them. Classes come as text, or as whole numbers if all are.
        Raises DataError if a column is missing, or holds text where it held numbers or dates.
        """
        if self.target.task == "regression":
            return self.answers(self._outputs(data))
        return np.array(self.target.class_values)[self.predict_proba(data).argmax(axis=1)]

    def predict_proba(self, data: Table | DataFrame) -> Array:
        """Return the probability of each class for each row, as an array (rows, classes)."""
        if self.target.task != "classification":
            raise OptionError(f"predict_proba is for classes; the target '{self.target.name}' is a number")
        return self.answers(self._outputs(data))

    def _outputs(self, data: Table | DataFrame) -> Array:
        frame = frame_of(data)
        if not len(frame):
            raise DataError("predict got a table without rows")
        return evaluation.predict(self.network, self.preprocessor.transform(frame))

    def answers(self, outputs: Array) -> Array:
        """Return outputs of the network as probabilities (rows, classes), or as numbers (rows,) in their own units."""
        expected = (len(outputs), self.preprocessor.outputs)
        if outputs.shape != expected:
            raise ShapeError(f"the network gives outputs of shape {outputs.shape}, this target needs {expected}")
        if not np.isfinite(outputs).all():
            raise DataError("the network gives NaN or infinite outputs for these rows; was it trained to the end?")
        if self.target.task == "regression":
            return self.preprocessor.prior[0] + self.preprocessor.target_scale * outputs[:, 0].astype(np.float64)
        return functional.softmax(Tensor(outputs.astype(np.float64))).numpy()

    def evaluate(self, data: Table | DataFrame) -> TableEvaluation:
        """Return how well the model does on rows that have a target; those without one are left out."""
        frame, true = self._with_target(data)
        return self._scored(true, self.answers(self._outputs(frame)))

    def _with_target(self, data: Table | DataFrame) -> tuple[DataFrame, Array]:
        frame = frame_of(data)
        check_there([self.target.name], list(frame.columns), "the table")
        true = self.target.values(frame[self.target.name])
        known = ~np.isnan(true) if self.target.task == "regression" else true >= 0
        if not known.any():
            raise DataError(f"no row has a target '{printable(self.target.name)}' to compare with")
        return frame[known], true[known]

    def _scored(self, true: Array, answers: Array) -> TableEvaluation:
        constant = np.broadcast_to(self.preprocessor.prior, (len(true), len(self.preprocessor.prior)))
        if self.target.task == "regression":
            metrics, baseline = (_number_metrics(true, guess) for guess in (answers, constant[:, 0]))
            return TableEvaluation(len(true), metrics, baseline, true, answers, self.target)
        from sklearn.metrics import confusion_matrix

        predicted = answers.argmax(axis=1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="A single label was found")  # as rows of one class have
            matrix = confusion_matrix(true, predicted, labels=range(len(self.target.classes)))
            metrics, baseline = (_class_metrics(true, guess) for guess in (answers, constant))
        return TableEvaluation(len(true), metrics, baseline, true, predicted, self.target, matrix)

    def importances(self, data: Table | DataFrame, repeats: int = 5, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Return how much worse the model gets when a column is shuffled, and the standard deviation, for each column.

        Worse in accuracy, or in R²: the permutation importance of Breiman (2001), by column of the table. Of more than
        10,000 rows, 10,000 drawn at random are used. Columns that say the same take importance from each other.

        Raises OptionError unless `repeats`, how often each column is shuffled, is 1 or more.
        """
        if not isinstance(repeats, int | np.integer) or repeats < 1:
            raise OptionError(f"importances shuffles each column `repeats` times, 1 or more, got {repeats!r}")
        frame, true = self._with_target(data)
        random = np.random.default_rng(seed)
        if len(frame) > ROWS_OF_IMPORTANCE:
            chosen = np.sort(random.choice(len(frame), ROWS_OF_IMPORTANCE, replace=False))
            frame, true = frame.iloc[chosen], true[chosen]
        x = self.preprocessor.transform(frame)
        whole = self._score(x, true)
        found = {}
        for column in self.preprocessor.columns:
            places = self.preprocessor.places(column)
            losses = []
            for _ in range(repeats):
                shuffled = x.copy()
                shuffled[:, places] = x[random.permutation(len(x))][:, places]
                losses.append(whole - self._score(shuffled, true))
            found[column.name] = float(np.mean(losses)), float(np.std(losses))
        return found

    def _score(self, x: Array, true: Array) -> float:
        """Return the accuracy, or R²."""
        answers = self.answers(evaluation.predict(self.network, x))
        if self.target.task == "classification":
            return float((answers.argmax(axis=1) == true).mean())
        return _number_metrics(true, answers)["r2"]

    def save(self, path: PathLike, optimizer: Optimizer | None = None, notes: Mapping[str, Any] | None = None) -> None:
        """Write network and preprocessing to one .safetensors file; `load` brings them back."""
        p = self.preprocessor
        table = {
            "columns": [asdict(column) for column in p.columns],
            "target": asdict(p.target),
            "levels": p.levels,
            "others": p.others,
            "target scale": p.target_scale,
        }
        extras = {name: getattr(p, name) for name in ARRAYS}
        if p.ranges is not None:
            extras["ranges"] = p.ranges
        notes = {**storage.checked_notes(notes), storage.TABLE: table}
        storage.save(self.network, path, optimizer=optimizer, notes=notes, extras=extras)


def _number_metrics(true: Array, predicted: Array) -> dict[str, float]:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "mae": float(mean_absolute_error(true, predicted)),
        "rmse": float(root_mean_squared_error(true, predicted)),
        "r2": float(r2_score(true, predicted)) if len(true) > 1 else float("nan"),
    }


def _class_metrics(true: Array, probabilities: Array) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, roc_auc_score

    classes = range(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    auc = float("nan")
    if len(np.unique(true)) == len(classes):  # else there is a class that nothing can be told from
        scores = probabilities[:, 1] if len(classes) == 2 else probabilities
        auc = float(roc_auc_score(true, scores, multi_class="ovr", labels=list(classes)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")  # small tests lack classes
        balanced = float(balanced_accuracy_score(true, predicted))
    return {
        "accuracy": float(accuracy_score(true, predicted)),
        "balanced_accuracy": balanced,
        "log_loss": float(log_loss(true, probabilities, labels=list(classes))),
        "roc_auc": auc,
    }


@overload
def load(path: PathLike) -> TableModel: ...


@overload
def load(path: PathLike, with_optimizer: Literal[True]) -> tuple[TableModel, Optimizer]: ...


def load(path: PathLike, with_optimizer: bool = False) -> Any:
    """Return the TableModel in a file that `TableModel.save` or `nissl train TABLE` wrote, in evaluation mode.

    With `with_optimizer=True`, (model, optimizer). Raises ModelFileError if the file is none, or is damaged. Loading
    never runs code from the file.
    """
    loaded = storage.load_network(path, with_optimizer)
    network, optimizer = loaded if with_optimizer else (loaded, None)
    notes = storage.load_notes(path)
    if not storage.is_of_table(notes):
        raise ModelFileError(f"{path} is a model, but not one of a table: it does not say which columns it takes")
    try:
        model = TableModel(network.eval(), _preprocessor(notes[storage.TABLE], storage.load_extras(path)))
        _check_fits(model)
    except (NisslError, TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise ModelFileError(f"{path} does not describe the columns of its table rightly: {error}") from None
    return model if optimizer is None else (model, optimizer)


def _preprocessor(document: Mapping[str, Any], arrays: Mapping[str, Array]) -> Preprocessor:
    """Return what a file describes, every part checked."""
    columns = tuple(_column(description) for description in _expect(document["columns"], list))
    target = _target(document["target"])
    names = [column.name for column in columns]
    if len({*names, target.name}) != len(names) + 1 or not names:
        raise DataError("two of its columns have one name, or there are none")
    levels = tuple(_texts(texts) for texts in _expect(document["levels"], list))
    others = tuple(_texts(texts) for texts in _expect(document["others"], list))
    numbers = sum(len(column.number_parts) for column in columns)
    categories = sum(len(column.category_parts) for column in columns)
    sound = all(texts and len(set(texts)) == len(texts) for texts in levels)
    if not (len(levels) == len(others) == categories and sound):
        raise DataError("its categories do not belong to its columns")
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(ARRAYS, (numbers,))
    shapes["prior"] = (len(target.classes) or 1,)
    if "ranges" in arrays:  # which models that were saved before there was such an array lack
        shapes["ranges"] = (2, numbers)
    for name, shape in shapes.items():
        array = arrays[name]
        dtype = "bool" if name == "indicated" else "float64"
        if array.shape != shape or array.dtype != dtype or not np.isfinite(array).all():
            raise DataError(f"its {name} are {array.dtype} of shape {array.shape}, or not all finite")
    target_scale = float(_expect(document["target scale"], (int, float)))
    if not (arrays["scales"] > 0).all() or not 0 < target_scale < np.inf:
        raise DataError("its scales are not all above 0")
    return Preprocessor(
        columns,
        target,
        levels=levels,
        others=others,
        target_scale=target_scale,
        **{name: arrays[name] for name in shapes},
    )


def _check_fits(model: TableModel) -> None:
    """Raise if the network does not take what the preprocessor gives, or gives other than the target needs."""
    _ = model.preprocessor.transformers  # scikit-learn raises for categories that are none
    row = np.zeros((1, model.preprocessor.width), np.float32)
    model.answers(evaluation.predict(model.network, row))


def _column(description: Any) -> Column:
    parts = {field.name: _expect(description, dict)[field.name] for field in fields(Column)}
    date_format = parts["date_format"]
    if parts["kind"] not in KINDS or not (date_format is None or date_format in DATE_FORMATS):
        raise DataError(f"a column is {str(parts)[:80]}")
    words = _texts(parts["missing_words"])
    return Column(_expect(parts["name"], str), parts["kind"], date_format, _expect(parts["hours"], bool), words)


def _target(description: Any) -> Target:
    parts = {field.name: _expect(description, dict)[field.name] for field in fields(Target)}
    classes, words = _texts(parts["classes"]), _texts(parts["missing_words"])
    number_of_classes = len(set(classes))
    if parts["task"] not in TASKS or (number_of_classes > 1) != (parts["task"] == "classification"):
        raise DataError(f"its target is {str(parts)[:80]}")
    if number_of_classes != len(classes):
        raise DataError("two of its classes have one name")
    return Target(_expect(parts["name"], str), parts["task"], classes, words)


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_expect(value, str) for value in _expect(values, list))


def _expect(value: Any, kind: Any) -> Any:
    """Return a value from a file if it is of the kind that it should be."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DataError(f"{str(value)[:40]!r} is no {getattr(kind, '__name__', 'number')}")
    return value
