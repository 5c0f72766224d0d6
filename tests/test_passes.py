"""Passes over graphs: each alone leaves what the interpreter finds, and does what it is for."""

import numpy as np
import pytest
from samples import every_op_with_samples, numbers

import nissl as ns
from nissl import nn, optim
from nissl.graph import passes
from nissl.graph.graph import verify
from nissl.graph.interpret import interpret


def traced(f, *inputs):
    compiled = ns.compile(f, engine="numpy")
    compiled(*inputs)
    return compiled.graph


def names(graph):
    return [equation.op.name for equation in graph.equations]


def training_step():
    ns.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm(4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 3))
    optimizer = optim.AdamW(model.parameters(), lr=optim.schedules.cosine(0.01, 10))

    def step(x, labels):
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return traced(step, ns.random.normal((6, 5)), ns.tensor([0, 1, 2, 2, 1, 0]))


def softmax_gradient():
    def gradient(logits, labels):
        return ns.grad(lambda x: nn.cross_entropy(x, labels))(logits)

    return traced(gradient, ns.random.normal((6, 10)), ns.tensor([0, 1, 2, 2, 1, 0]))


GRAPHS = {f.__name__: f for f in (training_step, softmax_gradient)}


def arrays_for(graph):
    """Return inputs for a graph: floats between 0.1 and 1, all integers 1."""
    return [
        numbers(s.shape, 0.1, 1, seed=i).astype(s.dtype) if s.dtype.kind == "f" else np.ones(s.shape, s.dtype)
        for i, s in enumerate(graph.inputs)
    ]


def check_same_results(graph, changed, inputs):
    verify(changed)
    for before, after in zip(interpret(graph, inputs), interpret(changed, inputs), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("each", [*dict.fromkeys(passes.PASSES), passes.simplified], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", GRAPHS)
def test_a_pass_leaves_what_the_interpreter_finds(name, each):
    graph = GRAPHS[name]()
    check_same_results(graph, each(graph), arrays_for(graph))


@pytest.mark.parametrize("name", GRAPHS)
def test_passes_alone_find_nothing_more_after_all_of_them(name):
    once = passes.simplified(GRAPHS[name]())
    assert str(passes.simplified(once)) == str(once)


def test_a_tensor_of_one_value_becomes_one_number_that_is_repeated():
    graph = traced(lambda x: x + ns.full((100, 100), 2.5), ns.ones((100, 100)))
    changed = passes.with_fills_as_broadcasts(graph)
    assert names(changed) == ["full", "broadcast_to", "add"]
    assert [e.outputs[0].shape for e in changed.equations] == [(), (100, 100), (100, 100)]


def test_dead_code_goes():
    def f(x):
        ns.exp(x)
        return x + 1

    graph = passes.without_dead_code(traced(f, ns.ones(3)))
    assert names(graph) == ["add"]


def test_what_is_said_twice_is_computed_once():
    graph = traced(lambda x, y: (ns.exp(x) * y) + (ns.exp(x) * y) + ns.exp(y), ns.ones(3), ns.zeros(3))
    assert names(passes.with_common_results_shared(graph)) == ["exp", "mul", "add", "exp", "add"]


def test_numbers_that_differ_only_in_kind_are_not_the_same():
    graph = traced(lambda x: (x > 1) | (x > 1.5) | (x > True), ns.ones(3))
    assert names(passes.with_common_results_shared(graph)).count("greater") == 3


def test_random_numbers_are_drawn_as_often_as_before():
    graph = traced(lambda: ns.random.uniform(3) + ns.random.uniform(3))
    assert names(passes.simplified(graph)).count("random_uniform") == 2


def test_constants_are_worked_out_ahead_unless_they_are_large():
    graph = traced(lambda x: x * (ns.full(3, 2.0) + 1) + ns.ones((100, 100)).sum(), ns.ones(3))
    folded = passes.simplified(graph)
    assert "full" not in names(folded)
    assert names(folded).count("sum") == 1
    assert {float(array.flat[0]) for array in folded.constants.values()} == {1.0, 3.0}


def test_movements_that_move_nothing_go():
    graph = traced(lambda x: x.reshape(3, 2).broadcast_to(3, 2) + x.reshape(2, 3).reshape(3, 2), ns.ones((3, 2)))
    assert names(passes.without_idle_equations(graph)).count("broadcast_to") == 0


@pytest.mark.parametrize("sample", every_op_with_samples(lambda sample: "mask" not in sample.name))
def test_what_is_left_out_as_idle_is_no_part_of_any_result(sample):
    graph = traced(sample, *sample.tensors("float32"))
    inputs = sample.arrays("float32")
    inputs += [np.ones(state.shape, state.dtype) for state in graph.inputs[len(inputs) :]]
    check_same_results(graph, passes.without_idle_equations(graph), inputs)


def test_log_softmax_is_spelled_out():
    graph = passes.with_softmax_spelled_out(traced(lambda x: x.log_softmax(0), ns.ones((3, 2))))
    assert names(graph) == ["max", "sub", "exp", "sum", "log", "sub"]
