"""The library in two minutes: what a newcomer would try first, in order."""

import numpy as np

import nissl as ns
from nissl import nn, optim


def test_a_tensor_computes_like_an_array():
    x = ns.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (x @ x + 1).tolist() == [[8.0, 11.0], [16.0, 23.0]]


def test_a_gradient_flows_back():
    w = ns.tensor([1.0, 2.0], requires_grad=True)
    (w**3).sum().backward()
    assert w.grad.tolist() == [3.0, 12.0]


def test_a_network_learns_xor():
    ns.manual_seed(0)
    x = ns.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = ns.tensor([[0.0], [1.0], [1.0], [0.0]])
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.05)

    @ns.compile
    def step(x, y):
        loss = nn.binary_cross_entropy_with_logits(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(x, y).item() for _ in range(300)]
    assert losses[-1] < 0.05 < losses[0]
    assert ((model(x) > 0).astype("float32") == y).numpy().all()


def test_fit_learns_from_arrays():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 2))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    ns.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
    history = ns.fit(model, (x, y), epochs=20, optimizer=optim.Adam(model.parameters(), lr=0.01), seed=0)
    assert history.loss[-1] < history.loss[0]
    assert ns.evaluate(model, (x, y)).accuracy > 0.95
