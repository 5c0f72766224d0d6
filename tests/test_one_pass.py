"""Update rules in one pass over memory: the same bits as NumPy's, nothing written beside, and NumPy where it cannot."""

import numpy as np
import pytest
from samples import update_samples

import nissl as ns
from nissl import nn, optim
from nissl.engines import eager
from nissl.engines.eager import evaluate
from nissl.engines.native.elementwise import one_pass
from nissl.engines.native.machine import vector_bytes
from nissl.tensor import OPS

RULES = {
    sample.name: (OPS[sample.name.split()[0]], sample.inputs, dict(sample.attributes))
    for sample in update_samples()
    if "(2, 3)" in sample.name
    and OPS[sample.name.split()[0]].outputs > 1
    and not sample.name.startswith("adam_factors")
}


def inputs_of_size(inputs, size, dtype):
    """Return inputs of `size` random numbers, beside those without axes, which stay."""
    generator = np.random.default_rng(size)
    return [x.astype(dtype) if x.ndim == 0 else generator.uniform(0.1, 2, size).astype(dtype) for x in inputs]


def test_every_rule_with_several_outputs_is_here():
    # Powers are the C library's; Adam's factors are single numbers, which NumPy computes.
    several = {op.name for op in OPS.values() if op.outputs > 1}
    assert {op.name for op, _, _ in RULES.values()} == several - {"adam_factors"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_the_bits_are_those_of_numpy_at_every_size_around_the_vector_width(name, dtype):
    op, inputs, attributes = RULES[name]
    lanes = vector_bytes() // np.dtype(dtype).itemsize
    for size in (0, 1, lanes - 1, lanes, lanes + 1, 2 * lanes, 1000, 1003):
        arrays = inputs_of_size(inputs, size, dtype)
        for found, expected in zip(one_pass(op, arrays, attributes), evaluate(op, arrays, attributes), strict=True):
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3e38])
def test_special_numbers_go_through_as_in_numpy(bad):
    op, inputs, attributes = RULES["adam (2, 3) "]
    arrays = inputs_of_size(inputs, 37, "float32")
    arrays[1][5] = bad
    with np.errstate(all="ignore"):
        expected = evaluate(op, arrays, attributes)
    for found, wanted in zip(one_pass(op, arrays, attributes), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_nothing_is_written_behind_a_result_nor_into_an_input(monkeypatch):
    """Each result lies between canaries."""
    op, inputs, attributes = RULES["adam (2, 3) "]
    frames = []

    def framed(like):
        frames.append(np.full(like.size + 32, 7, like.dtype))
        return frames[-1][16 : 16 + like.size]

    for size in (1, 15, 16, 17, 33):
        arrays = inputs_of_size(inputs, size, "float32")
        before = [x.copy() for x in arrays]
        with monkeypatch.context() as patch:
            patch.setattr(np, "empty_like", framed)
            one_pass(op, arrays, attributes)
        for x, y in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(x, y)
    assert len(frames) == 5 * op.outputs
    for frame in frames:
        assert (frame[:16] == 7).all()
        assert (frame[-16:] == 7).all()


def test_inputs_that_do_not_lie_flat_are_left_to_numpy():
    op, inputs, attributes = RULES["adam (2, 3) "]
    p, g, *rest = inputs_of_size(inputs, (4, 6), "float32")
    assert one_pass(op, [p, g, *rest], attributes) is not None
    assert one_pass(op, [p, g.T.copy().T, *rest], attributes) is None
    assert one_pass(op, [p, g[0], *rest], attributes) is None
    assert one_pass(op, [p, g.astype("float64"), *rest], attributes) is None
    assert one_pass(op, [p, g, *rest[:-1], 0.5], attributes) is None


def test_a_large_eager_step_is_the_step_of_numpy(monkeypatch):
    def trained():
        ns.manual_seed(0)
        model = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 3))
        optimizer = optim.Adam(model.parameters())
        x, labels = ns.random.normal((8, 200)), ns.tensor([0, 1, 2, 0, 1, 2, 0, 1])
        for _ in range(5):
            nn.cross_entropy(model(x), labels).backward()
            optimizer.step()
        return model.state_dict()

    assert eager.ONE_PASS_SIZE <= 200 * 100
    found = trained()
    monkeypatch.setattr(eager, "ONE_PASS_SIZE", 1 << 60)
    for name, expected in trained().items():
        np.testing.assert_array_equal(found[name], expected)


def test_memory_that_someone_else_sees_is_not_written_to():
    w = nn.Parameter(np.ones((200, 100), "float32"))
    optimizer = optim.SGD([w], lr=1.0, momentum=0.9)

    def step():
        (w * 2).sum().backward()
        optimizer.step()

    def address():
        return w.payload.__array_interface__["data"][0]

    step()
    before = address()
    step()
    assert address() == before, "in place, as nobody else has it"
    view, velocity = w.reshape(-1), optimizer.state["0"]["velocity"].numpy()
    other = w.detach()
    values = [np.array(x) for x in (view.numpy(), velocity, other.numpy())]
    step()
    for x, expected in zip((view.numpy(), velocity, other.numpy()), values, strict=True):
        np.testing.assert_array_equal(x, expected)
    assert w.numpy().max() < values[0].max()
