"""First steps: numbers with gradients, a network, its training, and what it learned.

Run it with `python examples/first_steps.py`. It takes a few seconds, and leaves two pictures and a model in the
folder that it is run in.
"""

import nissl as ns
from nissl import datasets, nn, optim, plots

# A Tensor is an array that remembers how it was made, so that gradients can flow back through it.
x = ns.tensor([1.0, 2.0, 3.0], requires_grad=True)
y = (x * x).sum()
y.backward()
print(y)  # tensor(14., requires_grad=True)
print(x.grad)  # dy/dx = 2x: tensor([2., 4., 6.])

# Handwritten digits, 8 by 8 pixels, which scikit-learn carries: nothing is downloaded.
# A tenth of the training digits is held back, to tell when to stop; the test digits are for the very end.
train, test = datasets.load("digits")
train, validation = train.split(0.1)
print(train, validation, test, sep="\n")

# A network is made of layers. The same seed gives the same weights.
ns.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
print(model.summary())

# `fit` compiles the training step to machine code for this computer, and trains until ten epochs are no better.
optimizer = optim.Adam(model.parameters(), lr=1e-3)
history = ns.fit(model, train, validation=validation, optimizer=optimizer, epochs=60, patience=10, seed=0)
print(history.rows[-1])

# How good is it on digits that it never saw, and what does it mistake for what?
evaluation = ns.evaluate(model, test)
print(evaluation)
plots.save(plots.learning_curves(history), "learning-curves.png")
plots.save(plots.confusion_matrix(evaluation.confusion_matrix, test.class_names), "confusion-matrix.png")

# A model file holds numbers and names of layers, never code.
ns.save(model, "digits.safetensors")
same = ns.load("digits.safetensors")
logits = ns.predict(same, test.x[:5])
print("predicted", logits.argmax(axis=1), "true", test.y[:5])
