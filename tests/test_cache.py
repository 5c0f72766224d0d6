"""The cache of machine code: found again, never trusted blindly, never in the way, never without bound."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import nissl as ns
from nissl.engines.native import cache, program
from nissl.engines.native.program import Program
from nissl.tensor import OPS, Op


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NISSL_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Maker:
    def __init__(self, code=b"code"):
        self.code = code
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.code


def test_what_was_made_is_found_again(home):
    make = Maker()
    assert [cache.kept("a", make), cache.kept("a", make)] == [b"code", b"code"]
    assert make.calls == 1
    assert cache.kept("b", Maker(b"other")) == b"other"
    assert len(list(home.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 100])
def test_a_damaged_entry_is_made_anew(home, damage):
    cache.kept("a", Maker())
    (entry,) = home.iterdir()
    whole = entry.read_bytes()
    for content in (damage, whole[:-1], whole[:-1] + b"?"):
        entry.write_bytes(content)
        make = Maker()
        assert cache.kept("a", make) == b"code"
        assert make.calls == 1
        assert entry.read_bytes() == whole


def test_an_entry_under_the_key_of_another_is_made_anew(home):
    cache.kept("a", Maker())
    (first,) = home.iterdir()
    cache.kept("b", Maker(b"other"))
    (second,) = set(home.iterdir()) - {first}
    second.write_bytes(first.read_bytes())
    make = Maker(b"other")
    assert cache.kept("b", make) == b"other"
    assert make.calls == 1


def test_a_folder_that_cannot_be_used_does_no_harm(home, monkeypatch):
    home.write_text("a file is in the way")
    assert cache.kept("a", Maker()) == b"code"
    monkeypatch.setenv("NISSL_CACHE_HOME", "/dev/null/nowhere")
    assert cache.kept("a", Maker()) == b"code"


def test_a_tilde_is_the_home_of_the_user(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home.parent))
    monkeypatch.setenv("USERPROFILE", str(home.parent))
    monkeypatch.setenv("NISSL_CACHE_HOME", "~/home")
    assert cache.folder() == home


def test_the_oldest_entries_go_when_there_are_too_many(home, monkeypatch):
    monkeypatch.setattr(cache, "LARGEST", 10 * (100 + cache.DIGEST_SIZE))
    for i in range(30):
        cache.kept(str(i), Maker(bytes(100)))
        cache.kept("0", Maker(bytes(100)))  # used all the time
    assert len(list(home.iterdir())) == 10
    for name, calls in (("0", 0), ("29", 0), ("5", 1)):
        make = Maker(bytes(100))
        cache.kept(name, make)
        assert make.calls == calls, name


def test_several_writers_at_once_leave_whole_entries(home):
    def write(i):
        for j in range(30):
            assert cache.kept(f"{j}", lambda j=j: bytes([j]) * 5000) == bytes([j]) * 5000

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(home.iterdir())) == 30
    assert all(path.suffix == cache.ENDING for path in home.iterdir())


PROGRAM = """
import sys
import nissl as ns
from nissl import nn, optim
from nissl.engines.native import program
ns.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))
optimizer = optim.Adam(model.parameters())
@ns.compile(engine="native")
def step(x, labels):
    loss = nn.cross_entropy(model(x), labels)
    loss.backward()
    optimizer.step()
    return loss
made = []
compiled = program.object_code
program.object_code = lambda text: made.append(1) or compiled(text)
loss = step(ns.ones((6, 4)), ns.tensor([0, 1, 2, 0, 1, 2]))
print(loss.item(), len(made), "nissl.engines.native.assembly" in sys.modules)
"""


def test_equal_programs_share_their_code_but_nothing_that_changes():
    def counter(start):
        total = ns.nn.Buffer(np.full(300, float(start)))

        @ns.compile
        def add(x):
            total.assign(total + x.sum(axis=0))
            return total * 2.0

        return add, total

    x = np.ones((5, 300))
    (one, first), (other, second) = counter(0), counter(100)
    for _ in range(2):
        one(x)
        other(x)
    assert one.latest.program.code is other.latest.program.code
    assert first.tolist() == [10.0] * 300
    assert second.tolist() == [110.0] * 300


def test_the_second_run_of_a_program_compiles_nothing():
    runs = [subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
            for _ in range(3)]  # fmt: skip
    assert [made for _, *made in runs] == [["1", "True"], ["0", "False"], ["0", "False"]]
    assert len({loss for loss, *_ in runs}) == 1


def test_code_that_was_kept_computes_what_was_compiled(home):
    double = ns.compile(lambda x: (x * 2.0).sum(), engine="native")
    assert double(ns.ones(40)).item() == 80
    assert len(list(home.iterdir())) == 1
    assert Program(double.graph)([ns.ones(40).numpy()])[0] == 80


def test_an_equation_without_machine_code_is_found_again(home, monkeypatch):
    power = ns.compile(lambda x, n: x**n + 1, engine="native")
    x, n = ns.tensor([2, 3]), ns.tensor([3, 2])
    assert power(x, n).tolist() == [9, 10]
    monkeypatch.setattr(program, "_made", lambda *arguments: pytest.fail("it was looked for again"))
    assert [equation.op.name for equation in Program(power.graph).plan.left_to_numpy] == ["pow"]


def test_programs_that_differ_only_in_what_they_keep_have_code_of_their_own():
    w = np.random.default_rng(0).normal(size=(16, 16))
    for first in (True, False):
        one, two = ns.tensor(w + 1), ns.tensor(w - 1)

        def step(w, one=one, two=two, first=first):
            doubled, product = one * 2, two @ w
            a, b = product * doubled, product + doubled
            one.assign(a if first else b)
            if first:
                two.assign(b)
            return None if first else a

        result = ns.compile(step, engine="native")(w)
        product, doubled = (w - 1) @ w, (w + 1) * 2
        np.testing.assert_allclose(one.numpy(), product * doubled if first else product + doubled)
        if not first:
            np.testing.assert_allclose(result.numpy(), product * doubled)


@pytest.mark.parametrize("factor", [2, 3])
def test_the_rule_of_someone_elses_op_is_not_looked_up_by_its_name(home, factor):
    often = Op(
        "often", kind="elementwise", value=lambda m, x: x * factor, shape=lambda x: x, dtype=lambda x: x, doc="more"
    )
    del OPS[often.name]  # for the other tests
    assert ns.compile(lambda x: often(x) + 1, engine="native")(ns.ones(3)).tolist() == [factor + 1] * 3
    assert not home.exists()
