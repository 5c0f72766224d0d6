"""A training loop by hand: first as plain Python that can be looked into, then compiled, with nothing else changed.

Run it with `python examples/training_loop_by_hand.py`.
"""

import time

import numpy as np

import nissl as ns
from nissl import datasets, nn, optim

train, test = datasets.load("digits")


def train_network(compiled):
    """Train the same network in the same way, eagerly or compiled, and say how it went."""
    ns.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(x, labels):
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()  # fills p.grad for each parameter p
        optimizer.step()  # uses the gradients up: there is no need for zero_grad()
        return loss

    if compiled:
        step = ns.compile(step)

    batches = ns.batches(train, 32, seed=0, drop_last=True)
    started = time.perf_counter()
    for epoch in range(1, 31):
        losses = [step(x, labels).item() for x, labels in batches]
        if epoch % 10 == 0:
            print(f"  epoch {epoch}: loss {np.mean(losses):.4f}")
    seconds = time.perf_counter() - started

    model.eval()  # no dropout from here on
    with ns.no_grad():
        right = model(test.x).numpy().argmax(axis=1) == test.y
    print(f"  {right.mean():.1%} of {len(test)} test images right, after {seconds:.2f} s")
    return step


print("eager: each operation is one call of NumPy, and any value can be printed on the way")
train_network(compiled=False)
print("compiled: traced once, then machine code (the first run on a computer takes a second longer, to make it)")
step = train_network(compiled=True)

print("\nWhat the step does, as one list of equations, forward, backward and update:")
print(step.graph)
