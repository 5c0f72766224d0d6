"""The examples: each is run as a user runs it, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))

# What each must say and leave, beside ending well.
SAYS = {
    "first_steps": ("tensor([2., 4., 6.])", "confusion matrix", "predicted"),
    "training_loop_by_hand": ("test images right", "= matmul"),
    "looking_inside_a_network": ("gradients agree", "ReLU: the gradient at the first layer", "native engine"),
}
LEAVES = {
    "first_steps": {"learning-curves.png", "confusion-matrix.png", "digits.safetensors"},
    "training_loop_by_hand": set(),
    "looking_inside_a_network": {"neuron.png", "gradients.png", "weights.png"},
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path):
    environment = os.environ | {"PYTHONWARNINGS": "error::DeprecationWarning,error::RuntimeWarning"}
    done = subprocess.run([sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for text in SAYS[path.stem]:
        assert text in done.stdout
    assert {left.name for left in tmp_path.iterdir()} == LEAVES[path.stem]
