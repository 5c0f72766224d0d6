"""Arithmetic on shapes, beside what NumPy does with arrays, on shapes that nobody chose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nissl import shapes
from nissl.errors import ShapeError
from nissl.shapes import HOLE

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=150)
SIZES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def outcome(f):
    """Return what `f` gives, or that it is refused."""
    try:
        return f()
    except (ValueError, IndexError):
        return "refused"


@DERANDOMIZED
@given(st.lists(SIZES, min_size=1, max_size=3))
def test_broadcast(given_shapes):
    expected = outcome(lambda: np.broadcast_shapes(*given_shapes))
    assert outcome(lambda: shapes.broadcast(*given_shapes)) == expected


@DERANDOMIZED
@given(SIZES, SIZES)
def test_expanded(shape, new):
    expected = outcome(lambda: np.broadcast_to(np.zeros(shape), new).shape)
    assert outcome(lambda: shapes.expanded(shape, new)) == expected


@DERANDOMIZED
@given(SIZES, st.data(), st.booleans())
def test_reduced(shape, data, keepdims):
    axis = data.draw(st.one_of(st.none(), hnp.valid_tuple_axes(len(shape))))
    axes = shapes.normalize_axes(axis, len(shape))
    assert shapes.reduced(shape, axes, keepdims) == np.zeros(shape).sum(axis=axis, keepdims=keepdims).shape


@DERANDOMIZED
@given(SIZES, st.lists(st.integers(-2, 12), max_size=4))
def test_reshaped(shape, new):
    expected = outcome(lambda: np.zeros(shape).reshape(new).shape)
    assert outcome(lambda: shapes.reshaped(shape, new)) == expected or min(new, default=0) < -1


@DERANDOMIZED
@given(SIZES, st.data())
def test_permuted(shape, data):
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    assert shapes.permuted(shape, axes) == np.zeros(shape).transpose(axes).shape


@DERANDOMIZED
@given(
    hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=3),
    hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=3),
)
def test_multiplied(a, b):
    expected = outcome(lambda: np.matmul(np.ones(a), np.ones(b)).shape)
    assert outcome(lambda: shapes.multiplied(a, b)) == expected


@DERANDOMIZED
@given(st.lists(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=2), min_size=1, max_size=3), st.data())
def test_concatenated(given_shapes, data):
    axis = data.draw(st.integers(0, len(given_shapes[0]) - 1))
    expected = outcome(lambda: np.concatenate([np.zeros(s) for s in given_shapes], axis).shape)
    assert outcome(lambda: shapes.concatenated(*given_shapes, axis=axis)) == expected


@DERANDOMIZED
@given(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4), st.data())
def test_indexed(shape, data):
    parts = data.draw(
        st.one_of(
            hnp.basic_indices(shape, allow_newaxis=True),
            hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)),
        )
    )
    parts = list(parts) if isinstance(parts, tuple) else [parts]
    if data.draw(st.booleans()) and len(parts) < len(shape) and Ellipsis not in parts:
        parts.insert(data.draw(st.integers(0, len(parts))), data.draw(st.sampled_from([None, slice(0, 2), 0])))
    key = tuple(HOLE if isinstance(part, np.ndarray) else part for part in parts)
    arrays = [part.shape for part in parts if isinstance(part, np.ndarray)]
    expected = outcome(lambda: np.zeros(shape)[tuple(parts)].shape)
    if expected == "refused":  # a value of an index array, moved to a shorter axis; only values can tell
        return
    assert shapes.indexed(shape, *arrays, key=key) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shapes.broadcast((2, 3), (4, 1), (2, 5)), r"axis 1 has sizes 3 and 5"),
        (lambda: shapes.reshaped((0, 3), (0, -1)), r"cannot reshape \(0, 3\)"),
        (lambda: shapes.multiplied((2, 3), (4, 5)), r"first \(3\) must equal .* of the second \(4\)"),
        (lambda: shapes.expanded((2,), ()), r"\(2,\) does not broadcast to \(\)"),
    ],
)  # fmt: skip
def test_a_message_names_the_shapes_and_the_axis(call, message):
    with pytest.raises(ShapeError, match=message):
        call()
