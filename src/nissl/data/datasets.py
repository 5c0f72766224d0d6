"""Data sets by name: digits from scikit-learn, MNIST and Fashion-MNIST from their files, and two-dimensional toys.

Image files are downloaded once, verified by the SHA-256 of their uncompressed bytes each time they are read, and moved
into place whole. They live in `<home>/<name>/<official file>.gz`, where home is `data_home`, else the environment
variable NISSL_DATA_HOME, else a folder in the user's cache.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nissl import habits
from nissl.data.dataset import Dataset
from nissl.data.toy import TOYS
from nissl.errors import DataError, OptionError, unknown_name
from nissl.files import checked_path

DTYPES = ("float32", "float64", "uint8")


@dataclass(frozen=True)
class ImageFiles:
    """A data set of official IDX files: where they are, and the SHA-256 of each after unpacking."""

    description: str
    mirrors: tuple[str, ...]
    digests: Mapping[str, str]  # by file name without .gz: training images, training labels, test images, test labels
    class_names: tuple[str, ...]
    megabytes: float


IMAGE_FILES = {
    "mnist": ImageFiles(
        "handwritten digits, 28×28, 60,000 for training and 10,000 for test",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        tuple("0123456789"),
        11.6,
    ),
    "fashion-mnist": ImageFiles(
        "pictures of clothes, 28×28, 60,000 for training and 10,000 for test",
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        {
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        30.9,
    ),
}


def names() -> list[str]:
    """Return the names that `load` knows."""
    return ["digits", *IMAGE_FILES, *TOYS]


def load(name: str, data_home: str | os.PathLike[str] | None = None, dtype: str = "float32") -> tuple[Dataset, Dataset]:
    """Return the training and the test set of that name.

    Images have shape (examples, height, width) and values in [0, 1], or 0 to 255 with dtype "uint8"; the digits keep
    out a stratified third for the test. Toys have shape (examples, 2).

    >>> train, test = load("digits")
    >>> train.x.shape, test.x.shape
    ((1198, 8, 8), (599, 8, 8))
    """
    if dtype not in DTYPES:
        raise OptionError(f"a data set comes as {', '.join(DTYPES)}; not {dtype!r}")
    if name == "digits":
        return _digits(dtype)
    if name in IMAGE_FILES:
        return _images(name, data_home, dtype)
    if name in TOYS:
        train, test = TOYS[name].make()
        target = "float32" if dtype == "uint8" else dtype
        return tuple(Dataset(x.astype(target), y, TOYS[name].class_names, name) for x, y in (train, test))  # type: ignore[return-value]
    raise unknown_name("data set", name, names())


def home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that data sets are kept in."""
    chosen = data_home or os.environ.get("NISSL_DATA_HOME")
    if chosen:
        return Path(os.path.expanduser(checked_path(chosen)))
    import platformdirs

    return Path(platformdirs.user_cache_dir("nissl")) / "data"


@dataclass(frozen=True)
class Listing:
    """What `nissl list` says of a data set."""

    name: str
    description: str
    here: bool
    place: str


def listing(data_home: str | os.PathLike[str] | None = None) -> list[Listing]:
    """Return a line for each data set: what it is and whether it is here."""
    rows = [Listing("digits", "handwritten digits, 8×8, 1,198 for training and 599 for test", True, "in scikit-learn")]
    for name, files in IMAGE_FILES.items():
        folder = home(data_home) / name
        here = all((folder / f"{file}.gz").is_file() for file in files.digests)
        rows.append(
            Listing(name, files.description, here, str(folder) if here else f"{files.megabytes} MB to download")
        )
    rows += [Listing(name, toy.description, True, "made when asked for") for name, toy in TOYS.items()]
    return rows


def _scaled(pixels: npt.NDArray[Any], largest: int, dtype: str) -> npt.NDArray[Any]:
    """Return pixels of 0 to `largest` in [0, 1], or as bytes of 0 to 255."""
    if dtype == "uint8":
        return pixels if largest == 255 else np.rint(pixels * (255 / largest)).astype(np.uint8)
    return np.multiply(pixels, np.dtype(dtype).type(1 / largest), dtype=dtype)


def _digits(dtype: str) -> tuple[Dataset, Dataset]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    parts = train_test_split(found.images, found.target, test_size=1 / 3, random_state=0, stratify=found.target)
    train_x, test_x, train_y, test_y = parts
    class_names = tuple("0123456789")
    return (
        Dataset(_scaled(train_x, 16, dtype), train_y.astype(np.int64), class_names, "digits"),
        Dataset(_scaled(test_x, 16, dtype), test_y.astype(np.int64), class_names, "digits"),
    )


def _images(name: str, data_home: str | os.PathLike[str] | None, dtype: str) -> tuple[Dataset, Dataset]:
    files = IMAGE_FILES[name]
    folder = home(data_home) / name
    arrays = [_verified(folder / f"{file}.gz", files.mirrors, digest) for file, digest in files.digests.items()]
    train_x, train_y, test_x, test_y = arrays
    return (
        Dataset(_scaled(train_x, 255, dtype), train_y.astype(np.int64), files.class_names, name),
        Dataset(_scaled(test_x, 255, dtype), test_y.astype(np.int64), files.class_names, name),
    )


def _verified(path: Path, mirrors: tuple[str, ...], digest: str) -> npt.NDArray[Any]:
    if not path.is_file():
        download(path, mirrors, digest)
    try:
        return _read_verified(path, digest)
    except DataError as error:
        raise DataError(f"{error}. Delete it, and it is downloaded again") from None


def _read_verified(path: Path, digest: str) -> npt.NDArray[Any]:
    from nissl.data.idx import read_idx  # here, as gzip and hashlib take a while to load

    array, found = read_idx(path)
    if found != digest:
        raise DataError(
            f"{path} is not the official file: the SHA-256 of its content is {found[:16]}…, it should be {digest[:16]}…"
        )
    return array


def download(path: Path, mirrors: tuple[str, ...], digest: str) -> None:
    """Fetch a file from the first mirror that has it, verify it, and move it into place.

    Raises DataError that says what each mirror answered.
    """
    import tempfile  # here, as most runs download nothing

    answers = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
            for mirror in mirrors:
                temporary = Path(folder) / path.name
                try:
                    _fetch(f"{mirror}{path.name}", temporary)
                    _read_verified(temporary, digest)
                except DataError as error:
                    answers.append(f"{mirror} sent a file that {str(error).removeprefix(f'{temporary} ')}")
                except FetchError as error:
                    answers.append(f"{mirror}: {error}")
                else:
                    os.replace(temporary, path)
                    return
    except OSError as error:
        raise DataError(f"cannot write to {path.parent}: {error.strerror or error}") from None
    raise DataError(
        f"could not download {path.name}: {'; '.join(answers)}. Check the network, "
        f"or put the file into {path.parent} by hand, or set NISSL_DATA_HOME to a folder that has it"
    )


class FetchError(Exception):
    """A mirror did not give the file."""


def _fetch(url: str, path: Path) -> None:
    import pooch
    import requests

    try:
        pooch.HTTPDownloader(progressbar=_ProgressBar(path.name), timeout=30)(url, str(path), None)
    except requests.exceptions.HTTPError as error:
        raise FetchError(str(error)) from None
    except requests.exceptions.RequestException as error:
        raise FetchError(f"no answer ({type(error).__name__})") from None


class _ProgressBar:
    """What pooch tells of a download, on a rich bar if standard error is a terminal."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.total = 0
        self.bar: Any = None

    def update(self, size: int) -> None:
        """Count `size` more bytes."""
        if not sys.stderr.isatty():
            return
        if self.bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.bar.start()
            self.task = self.bar.add_task(self.name, total=self.total or None)
        self.bar.update(self.task, advance=size)

    def reset(self) -> None:
        """Start again; pooch does so before the last update."""
        if self.bar is not None:
            self.bar.reset(self.task)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()


if not TYPE_CHECKING:  # a type checker knows which names there are

    def __getattr__(name: str) -> Any:
        habits.missing(f"module {__name__!r}", name, habits.DATASETS, ("load", "names"))
