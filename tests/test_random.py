"""Random numbers: the published known answers, the distributions, streams apart, and a state that a trace carries."""

import numpy as np
import pytest

import nissl as ns
from nissl import nn, ops
from nissl.errors import DTypeError, OptionError
from nissl.ops.random import philox
from nissl.random import STREAMS, Generator, permutation_indices, streams

# The known answers for philox4x32-10 that the authors publish with Random123 (kat_vectors).
KNOWN_ANSWERS = [
    ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, answer):
    assert [int(word) for word in philox([np.uint64(c) for c in counter], key)] == answer


def test_the_same_seed_gives_the_same_numbers_and_another_one_others():
    ns.manual_seed(5)
    first = ns.random.uniform(100).numpy(), ns.random.normal(100).numpy()
    ns.manual_seed(5)
    again = ns.random.uniform(100).numpy(), ns.random.normal(100).numpy()
    np.testing.assert_array_equal(first, again)
    ns.manual_seed(6)
    assert (ns.random.uniform(100).numpy() != first[0]).all()


def test_each_draw_is_new():
    generator = Generator(0)
    draws = np.stack([generator.uniform(50).numpy() for _ in range(20)])
    assert len(np.unique(draws)) > 995  # 24 bits: hardly a number twice


def test_a_number_depends_on_its_place_and_not_on_the_shape():
    flat = Generator(3).uniform(12).numpy()
    np.testing.assert_array_equal(Generator(3).uniform((3, 4)).numpy(), flat.reshape(3, 4))
    np.testing.assert_array_equal(Generator(3).uniform(5).numpy(), flat[:5])


@pytest.mark.parametrize("chunk", [1, 5, 12, 13])
def test_a_number_does_not_depend_on_how_many_are_drawn_at_once(chunk, monkeypatch):
    def drawn():
        generator = Generator(3)
        floats = [generator.normal((3, 4), dtype=dtype).numpy() for dtype in ("float32", "float64")]
        return [generator.bits(12).numpy(), *floats, permutation_indices(3, np.arange(3), 12)]

    wanted = drawn()
    monkeypatch.setattr(ops.random, "CHUNK", chunk)
    for found, whole in zip(drawn(), wanted, strict=True):
        np.testing.assert_array_equal(found, whole)


def test_streams_are_apart():
    found = {name: tuple(Generator(0, name).bits(4).tolist()) for name in STREAMS}
    assert len(set(found.values())) == len(STREAMS)
    ns.manual_seed(1)
    before = streams["init"].uniform(3).numpy()
    ns.manual_seed(1)
    ns.random.uniform(1000)
    nn.Dropout(0.5)(ns.ones(10))
    np.testing.assert_array_equal(streams["init"].uniform(3).numpy(), before)


MANY = 200_000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_numbers_fill_their_interval_evenly(dtype):
    x = Generator(0).uniform(MANY, -1.0, 3.0, dtype=dtype).numpy()
    assert x.dtype == dtype
    assert x.min() >= -1
    assert x.max() < 3
    counts = np.histogram(x, 20, (-1, 3))[0]
    # χ² with 19 degrees of freedom: above 45 once in a thousand; the seed is fixed.
    assert ((counts - MANY / 20) ** 2 / (MANY / 20)).sum() < 45


def test_uniform_never_reaches_its_upper_end():
    x = Generator(0).uniform(MANY).numpy()
    assert x.max() < 1
    assert x.max() <= 1 - 2.0**-24
    assert (x * 2**24 == np.floor(x * 2**24)).all(), "every value is a multiple of 2⁻²⁴, exactly"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_numbers_have_the_moments_of_the_normal_distribution(dtype):
    x = Generator(0).normal(MANY, 2.0, 3.0, dtype=dtype).numpy().astype("float64")
    z = (x - 2) / 3
    error = 5 / np.sqrt(MANY)
    assert np.isfinite(x).all()
    assert abs(z.mean()) < error
    assert abs((z**2).mean() - 1) < 2 * error
    assert abs((z**3).mean()) < 4 * error
    assert abs((z**4).mean() - 3) < 10 * error
    assert abs((abs(z) > 1.96).mean() - 0.05) < error
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < error


def test_bernoulli_numbers_are_1_as_often_as_said():
    for probability in (0.0, 0.1, 0.5, 1.0):
        x = Generator(0).bernoulli(MANY, probability).numpy()
        assert set(np.unique(x)) <= {0, 1}
        assert abs(x.mean() - probability) < 5 * np.sqrt(0.25 / MANY)


def test_a_permutation_holds_each_number_once_and_every_order_comes():
    assert sorted(Generator(0).permutation(1000).tolist()) == list(range(1000))
    generator = Generator(1)
    orders = [tuple(generator.permutation(3).tolist()) for _ in range(600)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert ((np.array(counts) - 100) ** 2 / 100).sum() < 20.5  # χ², 5 degrees of freedom, once in a thousand
    assert Generator(0).permutation(0).shape == (0,)


def test_training_shuffles_by_the_numbers_of_the_shuffle_stream():
    generator = Generator(9, "shuffle")
    generator.permutation(7)
    np.testing.assert_array_equal(generator.permutation(7).numpy(), permutation_indices(9, 1, 7))


def test_a_compiled_function_draws_new_numbers_and_the_same_as_eagerly():
    eager, traced = Generator(4), Generator(4)
    draw = ns.compile(lambda: traced.normal((2, 3)), engine="numpy")
    for _ in range(3):
        np.testing.assert_array_equal(draw().numpy(), eager.normal((2, 3)).numpy())
    assert traced.draws.item() == 3


def test_a_seed_of_64_bits_counts_in_full():
    assert Generator(1).bits(2).tolist() != Generator(1 + 2**32).bits(2).tolist()
    Generator(2**64 - 1).uniform(3)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: ns.manual_seed(-1), r"from 0 to 18446744073709551615, got -1"),
        (lambda: ns.manual_seed(2**64), "a seed must be a whole number from 0"),
        (lambda: ns.random.bernoulli(3, 1.5), "a probability must be at least 0 and at most 1, got 1.5"),
        (lambda: ns.random.uniform((2, -1)), "sizes of 0 or more"),
        (lambda: ns.random.permutation(-1), "0 or more"),
    ],
)
def test_a_mistake_is_explained(mistake, message):
    with pytest.raises(OptionError, match=message):
        mistake()


@pytest.mark.parametrize(
    "draw", [lambda: ns.random.uniform(3, dtype="int32"), lambda: ns.random.normal(3, dtype="bool")]
)
def test_numbers_from_an_interval_are_floats(draw):
    with pytest.raises(DTypeError, match=r"are floats, not (int32|bool)"):
        draw()


@pytest.mark.parametrize("seed", [1.5, "1", None])
def test_a_seed_that_is_no_integer_is_refused(seed):
    with pytest.raises(OptionError, match="seed must be a whole number"):
        ns.manual_seed(seed)


def test_seeded_blocks_of_threads_follow_each_other():
    from concurrent.futures import ThreadPoolExecutor

    from nissl.random import seeded

    def draw(seed):
        with seeded(seed):
            return [ns.random.uniform(3).numpy() for _ in range(50)]

    alone = [draw(seed) for seed in range(8)]
    ns.manual_seed(9)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(8)))
    np.testing.assert_array_equal(together, alone)
    after = ns.random.uniform(3).numpy()
    ns.manual_seed(9)
    np.testing.assert_array_equal(after, ns.random.uniform(3).numpy())
