"""The errors that nissl raises for a user's mistake.

Each also subclasses the built-in exception that a NumPy user would expect, so `except ValueError` goes on working.
A message says what was called, what came, what was expected, and what to try.
"""

from collections.abc import Iterable

from nissl.text import nearest


class NisslError(Exception):
    """The base of all errors that nissl raises on purpose; the command line prints it as one line."""


class ShapeError(NisslError, ValueError):
    """Shapes do not fit together."""


class DTypeError(NisslError, TypeError):
    """A dtype that the operation cannot work with."""


class CallError(NisslError, TypeError):
    """A function was called with arguments that it does not have."""


class OptionError(NisslError, ValueError):
    """An argument outside the values that it may have."""


class TracingError(NisslError, RuntimeError):
    """Something was asked of a traced Tensor that only a computed value can answer."""


class GradientError(NisslError, RuntimeError):
    """A gradient was asked for that does not exist."""


class DivergenceError(NisslError, ArithmeticError):
    """Training produced a NaN or an infinity."""


class DataError(NisslError, ValueError):
    """Data, or a file of data, that cannot be used."""


class ModelFileError(NisslError, ValueError):
    """A model or checkpoint file that cannot be used."""


class MissingPackageError(NisslError, ImportError):
    """A package that is needed for one thing only is not installed."""


def missing_package(package: str, purpose: str) -> MissingPackageError:
    """Return the error for a package that an extra of nissl, named as the package is, would bring.

    >>> str(missing_package("onnx", "ONNX files are written"))
    "ONNX files are written with the package onnx, which is not installed: pip install 'nissl[onnx]'"
    """
    return MissingPackageError(
        f"{purpose} with the package {package}, which is not installed: pip install 'nissl[{package}]'"
    )


def unknown_name(kind: str, name: object, known: Iterable[str]) -> OptionError:
    """Return the error for a name that is not one of `known`, with the nearest right one.

    >>> str(unknown_name("optimizer", "adm", ["adam", "sgd"]))
    "unknown optimizer 'adm'; did you mean 'adam'? Known: adam, sgd"
    """
    names = sorted(known)
    return OptionError(f"unknown {kind} '{name}'{nearest(str(name), names) or '.'} Known: {', '.join(names)}")
