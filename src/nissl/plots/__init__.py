"""Pictures: one function each, from plain arrays to a matplotlib Figure.

A picture here knows nothing of models or training: it draws the arrays it is given, so that anyone can draw their own
numbers with it. The Figures are made without pyplot, hence without a window or any global state: a notebook shows one
that ends a cell, `save` writes it to a file, and one that is forgotten is garbage like any other object.
"""

from nissl.plots.classification import confusion_matrix, mistakes
from nissl.plots.curves import learning_curves, lines
from nissl.plots.planes import contour_paths
from nissl.plots.style import save

__all__ = ["confusion_matrix", "contour_paths", "learning_curves", "lines", "mistakes", "save"]
