"""Pictures: one function each, from plain arrays to a matplotlib Figure.

A picture here knows nothing of models or training: it draws the arrays it is given (and `computational_graph` the
Tensor), so that anyone can draw their own numbers with it. The Figures are made without pyplot, hence without a window
or any global state: a notebook shows one that ends a cell, `save` writes it to a file, and one that is forgotten is
garbage like any other object.
"""

from nissl.plots.bars import importances
from nissl.plots.classification import confusion_matrix, mistakes
from nissl.plots.curves import learning_curves, lines
from nissl.plots.graphs import computational_graph
from nissl.plots.histograms import histograms
from nissl.plots.images import weight_images
from nissl.plots.neurons import network, neuron
from nissl.plots.planes import contour_paths, decision_regions, vector_field
from nissl.plots.points import scatter
from nissl.plots.regression import predictions
from nissl.plots.style import save

__all__ = [
    "computational_graph",
    "confusion_matrix",
    "contour_paths",
    "decision_regions",
    "histograms",
    "importances",
    "learning_curves",
    "lines",
    "mistakes",
    "network",
    "neuron",
    "predictions",
    "save",
    "scatter",
    "vector_field",
    "weight_images",
]
