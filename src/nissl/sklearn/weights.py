"""The weights of an estimator's network, as the lists `coefs_` and `intercepts_` that scikit-learn's users know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from nissl import nn
from nissl.nn.module import Module
from nissl.sklearn import fitting
from nissl.tensor import wrap

Array = npt.NDArray[Any]


ONE_BY_ONE = "weights are set layer by layer, or all at once as in coefs_ = arrays"


class Weights(list[Array]):
    """The weights of a network, layer by layer: read-only arrays; setting one gives it to the network.

    A list, since scikit-learn's are lists, but with as many arrays as the network has layers. A copy is a plain list.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(map(_read_only, parameters))
        self.parameters = list(parameters)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            raise TypeError(f"{ONE_BY_ONE}; got a slice")
        parameter = self.parameters[index]
        parameter.assign(wrap(_checked(value, parameter)))
        super().__setitem__(index, _read_only(parameter))

    def set_all(self, arrays: Sequence[Any]) -> None:
        """Set every array, or none where one of them is refused."""
        for i, array in enumerate([_checked(*pair) for pair in zip(arrays, self.parameters, strict=True)]):
            self[i] = array

    def _refuse(self, *given: Any, **options: Any) -> NoReturn:
        raise TypeError(f"{ONE_BY_ONE}; a network has as many as it has layers")

    insert = pop = remove = clear = sort = reverse = _refuse
    __delitem__ = __iadd__ = __imul__ = _refuse

    def extend(self, arrays: Iterable[Array]) -> None:
        """Refuse, but for pickle, which so fills a list of no network yet; files of before `__reduce__` hold such."""
        if hasattr(self, "parameters"):
            self._refuse()
        super().extend(arrays)

    def append(self, array: Array) -> None:
        """Refuse, but for pickle."""
        self.extend([array])

    def __reduce__(self) -> Any:
        return list, (list(self),)


def _checked(value: Any, parameter: nn.Parameter) -> Array:
    """Return a copy of the value as the array that a parameter takes."""
    if np.iscomplexobj(value):
        raise TypeError("weights are real numbers, got complex ones")
    array = np.array(value, parameter.dtype)
    if array.shape != parameter.shape:
        raise ValueError(f"this layer's array has shape {parameter.shape}, got one of shape {array.shape}")
    return array


def _read_only(parameter: nn.Parameter) -> Array:
    """Return a copy of the values, which cannot be written to: a change there would not reach the network."""
    values = parameter.numpy()
    values.flags.writeable = False
    return values


class WeightsMixin:
    """Reads and sets the weights of `module_`; set before there is one, they are kept for the first `partial_fit`."""

    module_: Module

    @property
    def coefs_(self) -> list[Array]:
        """The weights of each layer, of shape (inputs, outputs); `coefs_[i] = array` gives a layer new ones."""
        return self._weights("coefs", "weight")

    @coefs_.setter
    def coefs_(self, arrays: Iterable[Any]) -> None:
        self._set_weights("coefs", arrays)

    @property
    def intercepts_(self) -> list[Array]:
        """The intercepts of each layer, of shape (outputs,); `intercepts_[i] = array` gives a layer new ones."""
        return self._weights("intercepts", "bias")

    @intercepts_.setter
    def intercepts_(self, arrays: Iterable[Any]) -> None:
        self._set_weights("intercepts", arrays)

    def _weights(self, name: str, attribute: str) -> list[Array]:
        if hasattr(self, "module_"):
            found = [getattr(layer, attribute) for layer in fitting.linear_layers(self.module_)]
            return Weights([parameter for parameter in found if parameter is not None])
        if f"_given_{name}" in vars(self):
            return vars(self)[f"_given_{name}"]
        raise AttributeError(f"{type(self).__name__} has no {name}_ before it is fitted")

    def _set_weights(self, name: str, arrays: Iterable[Any]) -> None:
        given = list(arrays)
        if not hasattr(self, "module_"):
            self.__dict__[f"_given_{name}"] = given
            return
        weights = getattr(self, f"{name}_")
        if len(given) != len(weights):
            raise ValueError(f"{name}_ has {len(weights)} arrays, one for each layer; got {len(given)}")
        weights.set_all(given)
