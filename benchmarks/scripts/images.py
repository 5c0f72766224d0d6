"""Fashion-MNIST from the official files, for the libraries that would download it."""

import gzip
import os
from pathlib import Path

import numpy as np


def read(name: str, header: int) -> np.ndarray:
    folder = Path(os.environ["NISSL_DATA_HOME"]) / "fashion-mnist"
    with gzip.open(folder / f"train-{name}-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return images (60000, 784) in [0, 1] and labels."""
    x = read("images-idx3", 16).reshape(-1, 784).astype(np.float32) / 255
    return x, read("labels-idx1", 8).astype(np.int64)
