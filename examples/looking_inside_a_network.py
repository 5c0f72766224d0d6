"""Looking inside a network: its graph with values and gradients, its layers while it trains, and where they fail.

Run it with `python examples/looking_inside_a_network.py`. It leaves three pictures in this folder.
"""

import numpy as np

import nissl as ns
from nissl import datasets, nn, optim, plots

# One neuron, y = tanh(w x + b): every value and gradient on its graph.
x, w, b = (ns.tensor(value, requires_grad=True) for value in (2.0, 0.5, -0.3))
y = ns.tanh(w * x + b)
y.backward()
plots.save(plots.computational_graph(y, names={"x": x, "w": w, "b": b}), "neuron.png")
print(f"y = {y.item():.4f}, dy/dw = {w.grad.item():.4f}")

# Are the gradients right? Compare them with differences, in float64.
ns.check_gradients(lambda w, b: ns.tanh(w * 2.0 + b).sum(), np.array([0.5, -1.0]), np.array([0.1, 0.2]))
print("gradients agree with differences")

# A deep network of sigmoids: watch what each layer puts out, and what gradient comes back, in every tenth step.
train, _ = datasets.load("digits")


def watched(activation):
    """Train a deep network for an epoch, and return what was seen."""
    ns.manual_seed(0)
    layers = [nn.Flatten()]
    for inputs in (64, 64, 64, 64, 64):
        layers += [nn.Linear(inputs, 64), activation()]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    with ns.inspect.watch(model, every=10) as seen:
        ns.fit(model, train, optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=2, seed=0)
    return seen


sigmoids, rectifiers = watched(nn.Sigmoid), watched(nn.ReLU)
print(sigmoids)  # the last step that was seen
norms = {
    name: {path: curve for path, curve in seen.curves("gradients", "norm").items() if path.endswith("weight")}
    for name, seen in (("sigmoid", sigmoids), ("ReLU", rectifiers))
}
for name, curves in norms.items():
    first, last = (curves[path][-1] for path in ("1.weight", "11.weight"))
    print(f"{name}: the gradient at the first layer is {first / last:.1e} times that at the last")
figure = plots.lines(norms, x=sigmoids.steps, log="y", x_label="step", y_label="norm of the gradient")
plots.save(figure, "gradients.png")

# What a compiled step really runs, kernel by kernel.
step = ns.compile(lambda x: ns.softmax(x @ w.detach() if x.ndim > 1 else x * w.detach()))
step(ns.tensor(np.arange(6.0)))
print(step.explain())

# A training that diverges says where.
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
try:
    ns.fit(model, train, optimizer=optim.SGD(model.parameters(), lr=1e30), epochs=1, seed=0)
except ns.DivergenceError as error:
    print(error)

plots.save(plots.weight_images(model[1].weight.numpy().T.reshape(10, 8, 8)), "weights.png")
