"""Tensor itself: how it is made, asked, changed and shown."""

import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import nissl as ns
from nissl import nn
from nissl.errors import DTypeError, NisslError, OptionError, ShapeError
from nissl.tensor import OPS, wrap


@pytest.mark.parametrize(
    ("data", "dtype", "expected"),
    [
        (1.5, None, "float32"),
        (3, None, "int64"),
        (True, None, "bool"),
        ([1, 2.5], None, "float32"),
        ([[True], [False]], None, "bool"),
        ([], None, "float32"),
        (range(3), None, "int64"),
        (np.arange(3), None, "int64"),
        (np.float64(2), None, "float64"),
        (np.zeros(2), None, "float64"),
        (np.zeros(2, "uint8"), None, "uint8"),
        (np.zeros(2, ">f4"), None, "float32"),
        ([1, 2], "float64", "float64"),
        ([1.7, -1.7], "int32", "int32"),
        ([ns.tensor(1.0), ns.tensor(2.0)], None, "float32"),
    ],
)
def test_dtype_of_a_new_tensor(data, dtype, expected):
    assert ns.tensor(data, dtype).dtype == expected
    assert ns.tensor(data, dtype).dtype.isnative


def test_a_tensor_has_a_copy_of_its_data():
    data = np.ones(3)
    x = ns.tensor(data)
    data[:] = 7
    assert x.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        ([[1, 2], [3]], ShapeError, "could not read this as an array of numbers"),
        ("words", DTypeError, "float32, float64, integers or bools, not text"),
        ([None], DTypeError, "not object"),
        (1 + 2j, DTypeError, "not complex128"),
        (np.zeros(2, "float16"), DTypeError, "not float16"),
        (np.zeros(2, "datetime64[s]"), DTypeError, "not datetime64"),
        (2**70, DTypeError, "not object"),
        (object(), DTypeError, "not object"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(data, kind, message):
    with pytest.raises(kind, match=message):
        ns.tensor(data)


def test_what_a_tensor_says_of_itself():
    x = ns.tensor([[1.0, 2.0, 3.0]])
    assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((1, 3), 2, 3, np.float32, 1)
    assert x.T.shape == (3, 1)
    assert [row.tolist() for row in x] == [[1, 2, 3]]
    assert x.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("x", "shown"),
    [
        (ns.tensor(1.5), "tensor(1.5)"),
        (ns.tensor([1, 2]), "tensor([1, 2])"),
        (ns.tensor([True]), "tensor([ True])"),
        (ns.tensor([1.0], "float64"), "tensor([1.], dtype=float64)"),
        (ns.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
        (ns.zeros((0, 2)), "tensor([])"),
    ],
)
def test_repr(x, shown):
    assert repr(x) == shown


def test_one_element_turns_into_a_number():
    assert float(ns.tensor([[2.5]])) == 2.5
    assert int(ns.tensor(3)) == 3
    assert ns.tensor([7]).item() == 7
    assert [10, 20, 30][ns.tensor(1)] == 20
    assert f"{ns.tensor(2.0):.3f}" == "2.000"
    assert bool(ns.tensor([0.0])) is False
    for ask in (float, bool, lambda x: x.item()):
        with pytest.raises(ShapeError, match=r"\(2,\)"):
            ask(ns.tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="without axes has no length"):
        len(ns.tensor(1.0))


def test_the_values_cannot_be_changed_from_outside():
    x = ns.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 5
    with pytest.raises(TypeError, match="assign"):
        x[0] = 5
    w = nn.Parameter([1.0, 2.0])
    w.numpy()[0] = 5  # a copy
    assert w.tolist() == [1, 2]


def test_assign_changes_the_handle_and_nothing_that_was_read_before():
    w = nn.Parameter([1.0, 2.0])
    before, detached = w.numpy(), w.detach()
    w.assign([5.0, 6.0])
    assert w.tolist() == [5, 6]
    assert before.tolist() == [1, 2]
    assert detached.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("new", "kind", "message"),
    [
        ([1.0], ShapeError, r"shape \(2,\) cannot take values of shape \(1,\)"),
        (ns.tensor([1.0, 2.0], "float64"), DTypeError, "float32 cannot take values of float64; use astype"),
    ],
)
def test_assign_keeps_shape_and_dtype(new, kind, message):
    w = nn.Parameter([1.0, 2.0])
    with pytest.raises(kind, match=message):
        w.assign(new)
    assert w.tolist() == [1, 2]


def test_the_result_of_an_operation_cannot_be_assigned_to():
    with pytest.raises(OptionError, match="result of an operation"):
        (ns.tensor([1.0], requires_grad=True) * 2).assign([1.0])


def test_numpy_and_dlpack_take_tensors():
    x = ns.tensor([[1.0, 2.0]])
    np.testing.assert_array_equal(np.asarray(x), [[1, 2]])
    assert np.asarray(x, dtype="float64").dtype == np.float64
    taken = np.from_dlpack(x)
    np.testing.assert_array_equal(taken, [[1, 2]])
    assert np.sin(np.asarray(x)).shape == (1, 2)


def test_a_tensor_is_a_key_by_its_identity_and_none_is_no_number():
    x, y = ns.tensor([1.0]), ns.tensor([1.0])
    assert {x: "x", y: "y"}[x] == "x"
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    assert [x, y].index(y) == 0, "== is elementwise"


def test_gradients_are_recorded_by_each_thread_for_itself():
    seen = []
    with ns.no_grad():
        thread = threading.Thread(target=lambda: seen.append((ns.tensor(1.0, requires_grad=True) * 2).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]


def test_tensors_can_be_copied_by_pickle_without_their_history():
    # Not how models are saved (see storage), but what multiprocessing and copy.deepcopy do.
    x = ns.tensor([1.0, 2.0], requires_grad=True)
    again = pickle.loads(pickle.dumps(x))
    assert again.tolist() == [1, 2]
    assert again.requires_grad


def test_every_op_says_what_it_is_and_is_what_it_says():
    for name, op in OPS.items():
        assert op.name == name
        assert op.doc.endswith("."), name
        assert repr(op) == f"<op {name}>"
        assert op.kind in ("elementwise", "reduce", "matmul", "movement", "index", "source", "random")


def test_the_errors_of_nissl_are_errors_of_python_too():
    assert issubclass(ShapeError, ValueError)
    assert issubclass(DTypeError, TypeError)
    assert issubclass(OptionError, ValueError)
    assert all(issubclass(kind, NisslError) for kind in (ShapeError, DTypeError, OptionError))
    with pytest.raises(ValueError, match="do not broadcast"):
        wrap(np.ones(2)) + wrap(np.ones(3))


def test_importing_nissl_loads_nothing_heavy():
    heavy = {"llvmlite", "matplotlib", "sklearn", "scipy", "rich", "click", "safetensors", "pooch", "pandas"}
    slow_to_load = {"numpy.ma", "hashlib", "tempfile", "html", "difflib", "gzip"}
    code = "import sys, nissl, nissl.nn, nissl.optim; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "numpy" in loaded
    assert not (heavy | slow_to_load) & loaded


def test_every_public_name_is_there_and_documented():
    for name in ns.__all__:
        thing = getattr(ns, name)
        assert getattr(thing, "__doc__", None), name


@pytest.mark.parametrize("operation", [lambda a, b: a & b, lambda a, b: a | b, lambda a, b: ~a, lambda a, b: [1] & a])
def test_logical_operators_are_for_bools_since_numpys_work_on_bits(operation):
    with pytest.raises(DTypeError, match="Tensors of bools, got int64"):
        operation(ns.tensor([1, 2]), ns.tensor([3, 4]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ns.tensor(np.ma.array([1.0, 2.0], mask=[True, False])), "masked numbers"),
        (lambda: ns.tensor([300], "int8"), "out of bounds for int8"),
    ],
)
def test_numbers_that_a_tensor_cannot_hold_are_refused(make, message):
    with pytest.raises(OptionError, match=message):
        make()
