"""Data: the data sets by name, a Dataset of rows and targets, minibatches."""

from nissl.data.batches import batches
from nissl.data.dataset import Dataset, as_dataset
from nissl.data.datasets import load, names

__all__ = ["Dataset", "as_dataset", "batches", "load", "names"]
