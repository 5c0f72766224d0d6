"""The experiments of practice: overfitting, batch normalization, Fashion-MNIST, the search for hyperparameters.

Each is run once and has to show what it claims; and each is broken at its key line, so that a claim no longer holds.
"""

import functools
import os
from pathlib import Path

import numpy as np
import pytest

import nissl as ns
from nissl import datasets, optim
from nissl.experiments import batchnorm, catalog, fashion, hyperparameters, overfitting

HOME = os.environ.get("NISSL_DATA_HOME", "")
pytestmark = pytest.mark.skipif(
    not HOME or not all((Path(HOME) / name).is_dir() for name in ("mnist", "fashion-mnist")),
    reason="the real images are not here; set NISSL_DATA_HOME to a folder that has them",
)


@pytest.fixture(scope="module", autouse=True)
def load_each_data_set_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", functools.cache(datasets.load))
        yield


def broken(report):
    """Return what no longer holds."""
    return [row.what for row in report.rows if row.holds is False]


@functools.cache
def result(name):
    return catalog.find(name).run()


@pytest.mark.parametrize("name", ["overfitting", "batchnorm", "fashion", "hyperparameters"])
def test_all_that_is_claimed_comes_out(name):
    report = result(name)
    assert sum(row.holds is not None for row in report.rows) >= 2
    assert not broken(report)


def found(name):
    return {row.what: row.found for row in result(name).rows}
