"""Make the weights that tests/test_weights.py loads: of a small network that PyTorch, or Keras, trained for ten steps.

    python make_weights.py pytorch
    python make_weights.py keras

Each leaves NAME-weights.safetensors, what a user of it would have, and NAME-outputs.safetensors, with an input and what
the network makes of it in evaluation mode.
"""

import os
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy

HERE = Path(__file__).parent
X = np.random.default_rng(0).normal(size=(9, 6)).astype("float32")
TARGETS = np.random.default_rng(1).normal(size=(9, 3)).astype("float32")


def pytorch():
    """Return a network of PyTorch that was trained, with layers that have names."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.batch_norm = nn.Linear(6, 5), nn.BatchNorm1d(5)
            self.second, self.layer_norm = nn.Linear(5, 5), nn.LayerNorm(5)
            self.last = nn.Linear(5, 3)

        def forward(self, x):
            x = nn.functional.gelu(self.batch_norm(self.first(x)))
            return self.last(nn.functional.elu(self.layer_norm(self.second(x))))

    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(10):
        optimizer.zero_grad()
        ((net(torch.tensor(X)) - torch.tensor(TARGETS)) ** 2).mean().backward()
        optimizer.step()
    return net.eval()


def pytorch_output(net):
    """Return what a network of PyTorch makes of X."""
    import torch

    with torch.no_grad():
        return net(torch.tensor(X)).numpy()


def keras():
    """Return a network of Keras that was trained."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, name="first"),
            layers.BatchNormalization(name="batch_norm"),
            layers.Activation("gelu"),
            layers.Dense(5, name="second"),
            layers.LayerNormalization(name="layer_norm"),
            layers.Activation("elu"),
            layers.Dense(3, name="last"),
        ]
    )
    net.compile("adam", "mse")
    net.fit(X, TARGETS, epochs=10, verbose=0)
    return net


def main(name):
    """Write the two files."""
    if name == "pytorch":
        from safetensors.torch import save_file

        net = pytorch()
        save_file(net.state_dict(), HERE / "pytorch-weights.safetensors", metadata={"format": "pt"})
        output = pytorch_output(net)
    else:
        net = keras()
        arrays = {weight.path: np.asarray(weight) for weight in net.weights}
        order = {str(i): weight.path for i, weight in enumerate(net.weights)}
        safetensors.numpy.save_file(arrays, HERE / "keras-weights.safetensors", metadata=order)
        output = net.predict(X, verbose=0)
    safetensors.numpy.save_file({"input": X, "output": output}, HERE / f"{name}-outputs.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])
