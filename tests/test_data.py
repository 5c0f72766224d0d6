"""Data sets, the readers of their files, and minibatches."""

import gzip
import hashlib
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nissl as ns
from nissl.data import Dataset, as_dataset, batches, datasets, load
from nissl.data.idx import ELEMENT_TYPES, read_idx
from nissl.errors import DataError, OptionError

IMAGES = Path(os.environ.get("NISSL_DATA_HOME", "")) / "fashion-mnist"
needs_images = pytest.mark.skipif(
    not os.environ.get("NISSL_DATA_HOME") or not IMAGES.is_dir(),
    reason="the real images are not here; set NISSL_DATA_HOME to a folder that has them",
)


def idx_bytes(array: np.ndarray) -> bytes:
    code = next(code for code, dtype in ELEMENT_TYPES.items() if dtype.newbyteorder("=") == array.dtype)
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(ELEMENT_TYPES[code]).tobytes()


def write_idx(path: Path, array: np.ndarray) -> str:
    """Write an IDX file and return the digest of its content."""
    content = idx_bytes(array)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content))
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0, 4), (2, 3, 4)])
def test_idx_of_every_type_comes_back(tmp_path, dtype, shape):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    digest = write_idx(tmp_path / "x.gz", array)
    found, found_digest = read_idx(tmp_path / "x.gz")
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    assert found_digest == digest


GOOD = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated: the magic number"),
        (GOOD[:3], "truncated: the magic number"),
        (GOOD[:7], "truncated: the header"),
        (GOOD[:-1], "truncated: an array of shape"),
        (GOOD + b"x", "more data than its header says"),
        (b"\x00\x01" + GOOD[2:], "wrong magic number 00010802"),
        (b"\x00\x00\x07" + GOOD[3:], "wrong magic number"),
        (b"\x00\x00\x08\xff" + GOOD[4:], "wrong magic number"),
        (b"\x00\x00\x08\x02" + b"\x7f" * 8 + GOOD[12:], r"truncated: an array of shape \(2139062143, 2139062143\)"),
        (b"\x00\x00\x08\x02" + b"\xff" * 8 + GOOD[12:], "larger than any can be"),
        # Nothing to store, but axes that NumPy cannot have.
        (b"\x00\x00\x08\x04" + bytes(4) + b"\xff" * 12, r"shape \(0, 4294967295, .*larger than any can be"),
    ],
)
def test_a_bad_idx_file_is_named_with_what_is_wrong(tmp_path, content, reason):
    path = tmp_path / "bad.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=reason) as caught:
        read_idx(path)
    assert "bad.gz" in str(caught.value)


def test_files_that_are_no_gzip_are_named(tmp_path):
    path = tmp_path / "bad.gz"
    path.write_bytes(GOOD)
    with pytest.raises(DataError, match="not a gzip file"):
        read_idx(path)
    path.write_bytes(gzip.compress(GOOD)[:-9])
    with pytest.raises(DataError, match="truncated or damaged"):
        read_idx(path)
    damaged = bytearray(gzip.compress(GOOD))
    damaged[-5] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(DataError):
        read_idx(path)
    with pytest.raises(DataError, match="does not exist"):
        read_idx(tmp_path / "none.gz")
    with pytest.raises(DataError, match="folder"):
        read_idx(tmp_path)


@pytest.mark.parametrize("path", [None, 3, b"images.gz"])
def test_what_is_no_path_of_an_idx_file_is_said(path):
    with pytest.raises(OptionError, match=r"a path is text or a pathlib\.Path, got"):
        read_idx(path)


def test_a_lying_header_takes_no_memory(tmp_path):
    path = tmp_path / "lies.gz"
    path.write_bytes(gzip.compress(b"\x00\x00\x0e\x04" + b"\xff" * 16 + b"abc"))
    tracemalloc.start()
    with pytest.raises(DataError, match="larger than any can be"):
        read_idx(path)
    path.write_bytes(gzip.compress(b"\x00\x00\x0e\x02" + b"\x0f" * 8 + b"abc"))
    with pytest.raises(DataError, match="truncated"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200), compressed=st.booleans())
def test_random_bytes_give_our_error_or_an_array(tmp_path_factory, content, compressed):
    path = tmp_path_factory.mktemp("random") / "x.gz"
    path.write_bytes(gzip.compress(content) if compressed else content)
    try:
        array, _ = read_idx(path)
    except DataError:
        return
    assert idx_bytes(array) == content


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 200), value=st.integers(0, 255))
def test_a_changed_byte_gives_our_error_or_an_array(tmp_path_factory, position, value):
    path = tmp_path_factory.mktemp("changed") / "x.gz"
    content = bytearray(gzip.compress(GOOD))
    content[position % len(content)] = value
    path.write_bytes(content)
    try:
        array, _ = read_idx(path)
    except DataError:
        return
    assert idx_bytes(array) == GOOD


def fake_download(monkeypatch, tmp_path, answers):
    """Let each mirror of a small data set answer with bytes or an error, in turn; return what was asked for."""
    array = np.arange(6, dtype=np.uint8)
    digest = write_idx(tmp_path / "right.gz", array)
    asked = []

    def fetch(url, path):
        asked.append(url)
        answer = answers[len(asked) - 1]
        if isinstance(answer, Exception):
            raise answer
        Path(path).write_bytes((tmp_path / "right.gz").read_bytes() if answer == "right" else answer)

    monkeypatch.setattr(datasets, "_fetch", fetch)
    return digest, asked


def test_a_second_mirror_is_asked_when_the_first_fails(monkeypatch, tmp_path):
    digest, asked = fake_download(monkeypatch, tmp_path, [datasets.FetchError("HTTP status 404"), "right"])
    target = tmp_path / "home" / "file.gz"
    datasets.download(target, ("a/", "b/"), digest)
    assert asked == ["a/file.gz", "b/file.gz"]
    assert read_idx(target)[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert os.listdir(target.parent) == ["file.gz"]


def test_a_mirror_with_another_file_is_passed_over_and_nothing_is_left(monkeypatch, tmp_path):
    wrong = gzip.compress(idx_bytes(np.zeros(3, np.uint8)))
    digest, _ = fake_download(monkeypatch, tmp_path, [wrong, b"<html>"])
    target = tmp_path / "my home" / "file.gz"
    with pytest.raises(DataError, match=r"file\.gz: a/ sent a file that is not the .*SHA-256") as caught:
        datasets.download(target, ("a/", "b/"), digest)
    assert "\n" not in str(caught.value)
    assert "b/ sent a file that is not a gzip file" in str(caught.value)
    assert "put the file into" in str(caught.value)
    assert "Delete" not in str(caught.value)  # what was sent is not there any more
    assert os.listdir(target.parent) == []


def test_without_a_network_there_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setenv("NISSL_DATA_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(DataError, match=r"could not download train-images.*Check the network") as caught:
        load("mnist")
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="cannot write to"):
        load("mnist", data_home=tmp_path / "file")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda content: content, "not the official file"),
        (lambda content: content[:-9], "truncated or damaged"),
        (lambda content: b"", "truncated: the magic number"),
        (lambda content: b"<html>", "not a gzip file"),
    ],
)
def test_a_file_of_another_content_is_named_with_the_remedy(tmp_path, change, what):
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    write_idx(path, np.zeros((1, 28, 28), np.uint8))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=rf"train-images.*{what}.*\. Delete it, and it is downloaded again$"):
        load("mnist", data_home=tmp_path)


@needs_images
def test_fashion_mnist_is_what_it_should_be():
    train, test = load("fashion-mnist")
    assert train.x.shape == (60000, 28, 28)
    assert test.x.shape == (10000, 28, 28)
    assert train.x.dtype == np.float32
    assert (train.x.min(), train.x.max()) == (0, 1)
    assert np.bincount(train.y).tolist() == [6000] * 10
    assert train.class_names[train.y[0]] == "Ankle boot"


@needs_images
def test_mnist_comes_as_bytes_too():
    train, _ = load("mnist", dtype="uint8")
    assert train.x.dtype == np.uint8
    assert train.x.max() == 255
    assert train.y[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_digits_are_split_by_class(dtype):
    train, test = load("digits", dtype=dtype)
    assert (len(train), len(test)) == (1198, 599)
    assert train.x.dtype == dtype
    assert train.x.max() == (255 if dtype == "uint8" else 1)
    shares = np.bincount(test.y) / np.bincount(np.concatenate([train.y, test.y]))
    assert np.allclose(shares, 1 / 3, atol=0.01)


@pytest.mark.parametrize("name", ["xor", "moons", "circles", "spirals", "blobs"])
def test_toys_have_two_coordinates_and_all_classes_and_are_the_same_each_time(name):
    train, test = load(name)
    assert train.x.shape[1:] == (2,)
    assert train.x.dtype == np.float32
    assert set(train.y) == set(test.y) == set(range(len(train.class_names)))
    assert np.array_equal(train.x, load(name)[0].x)
    assert name == "xor" or not np.array_equal(train.x[: len(test)], test.x)


def test_a_tilde_is_the_home_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("NISSL_DATA_HOME", "~/data")
    assert datasets.home() == tmp_path / "data"
    assert datasets.home(Path("~/other")) == tmp_path / "other"


def test_every_name_is_listed():
    assert [row.name for row in datasets.listing()] == datasets.names()


def test_an_unknown_data_set_gets_the_nearest_name():
    with pytest.raises(OptionError, match="did you mean 'fashion-mnist'"):
        load("fashion_mnist")
    with pytest.raises(OptionError, match=r"unknown data set 'iris'\. Known: .*digits"):  # which is not like iris
        load("iris")
    with pytest.raises(OptionError, match="float16"):
        load("digits", dtype="float16")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((np.zeros((0, 2)), np.zeros(0)), "has no rows"),
        ((np.zeros((3, 2)), np.zeros(2)), "3 rows x but 2 targets"),
        ((np.array([[1.0], [np.nan]]), np.zeros(2)), r"1 NaN or infinite numbers, the first at index \(1, 0\)"),
        ((np.zeros((2, 1)), np.array([0.0, np.inf])), "y of data has 1 NaN or infinite"),
        ((np.array([["a"]]), np.zeros(1)), "not numbers"),
        ((np.array([[1, "a"]], dtype=object), np.zeros(1)), "mixed kinds"),
        ((np.array([[1.5, True]], dtype=object), np.zeros(1)), "x of data holds numbers, but as Python objects"),
        (([[1.0], [1.0, 2.0]], [0, 1]), "not an array"),
        (np.zeros((3, 2)), "a Dataset or a pair"),
        ((5.0, 1), "has no rows"),
    ],
)
def test_bad_data_is_refused_at_the_door(data, message):
    with pytest.raises(DataError, match=message):
        as_dataset(data, "data")


def test_labels_of_bools_become_class_numbers():
    assert as_dataset((np.zeros((2, 1)), [True, False]), "data").y.tolist() == [1, 0]


def test_large_finite_numbers_are_not_taken_for_infinite():
    data = as_dataset((np.full((4, 2), 1e308), np.zeros(4)), "data")
    assert len(data) == 4


def test_a_dataset_can_be_sliced_and_shown():
    data = Dataset(np.arange(6).reshape(3, 2), np.arange(3), ("a", "b", "c"), "small")
    assert data[1:].y.tolist() == [1, 2]
    assert repr(data) == "Dataset(small: 3 rows of shape (2,), 3 classes)"


def test_class_names_may_be_an_array_and_are_kept_as_text():
    names, y = np.unique(["cat", "ant", "cat"], return_inverse=True)
    data = ns.Dataset(np.eye(3), y, names)
    assert data.class_names == ("ant", "cat")
    assert "2 classes" in repr(data)
    assert data[:2].class_names == ("ant", "cat")


@pytest.mark.parametrize("names", ["ab", 2])
def test_class_names_that_are_no_list_are_refused(names):
    with pytest.raises(DataError, match="class_names holds a name for each class"):
        ns.Dataset(np.eye(2), np.arange(2), names)


def test_split_keeps_every_row_once():
    data = Dataset(np.arange(10), np.arange(10))
    kept, held = data.split(0.3, seed=1)
    assert len(held) == 3
    assert sorted([*kept.y, *held.y]) == list(range(10))
    assert (kept.x == kept.y).all()
    assert sorted(kept.y) == list(kept.y)
    again, other = data.split(0.3, seed=1)[1], data.split(0.3, seed=2)[1]
    assert again.y.tolist() == held.y.tolist() != other.y.tolist()
    with pytest.raises(DataError, match="leaves nothing"):
        data[:1].split(0.5, seed=1)
    for fraction in (0, 1, 2.5):
        with pytest.raises(OptionError, match="fraction must be above 0 and below 1"):
            data.split(fraction)


def test_batches_hold_every_row_once_in_another_order_each_epoch():
    x, y = np.arange(10.0), np.arange(10)
    iterable = batches((x, y), 4, seed=3)
    first, second = (np.concatenate([labels for _, labels in iterable]) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()
    again = np.concatenate([labels for _, labels in batches((x, y), 4, seed=3)])
    assert again.tolist() == first.tolist()
    assert all((rows == labels).all() for rows, labels in iterable)


def test_the_last_short_batch_is_kept_or_dropped():
    data = np.arange(10.0), np.arange(10)
    assert [len(y) for _, y in batches(data, 4)] == [4, 4, 2]
    assert [len(y) for _, y in batches(data, 4, drop_last=True)] == [4, 4]
    assert (len(batches(data, 4)), len(batches(data, 4, drop_last=True))) == (3, 2)
    assert [y.tolist() for _, y in batches(data, 5, shuffle=False)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    with pytest.raises(OptionError, match="batch_size"):
        batches(data, 0)


def test_batches_and_fit_shuffle_alike():
    """A loop by hand sees the rows in the order in which fit does."""
    x = np.random.default_rng(0).normal(size=(30, 2)).astype("float32")
    y = (x[:, 0] > 0).astype(np.int64)
    results = []
    for by_hand in (True, False):
        ns.manual_seed(0)
        model = ns.nn.Linear(2, 2)
        optimizer = ns.optim.SGD(model.parameters(), lr=0.1)
        if by_hand:
            iterable = batches((x, y), 8, seed=5)
            for _ in range(2):
                for rows, labels in iterable:
                    ns.nn.cross_entropy(model(rows), labels).backward()
                    optimizer.step()
        else:
            ns.fit(model, (x, y), optimizer=optimizer, epochs=2, batch_size=8, seed=5, engine="numpy")
        results.append(model.weight.numpy())
    assert np.array_equal(*results)
