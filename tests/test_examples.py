"""The examples: each is run as a user runs it, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"

# What each says and leaves, beside ending well.
EXAMPLES = {
    "first_steps": (
        ["tensor([2., 4., 6.])", "confusion matrix", "predicted"],
        {"learning-curves.png", "confusion-matrix.png", "digits.safetensors"},
    ),
    "training_loop_by_hand": (["test images right", "= matmul"], set()),
    "looking_inside_a_network": (
        ["gradients agree", "ReLU: the gradient at the first layer", "native engine"],
        {"neuron.png", "gradients.png", "weights.png"},
    ),
    "tabular_data_with_scikit_learn": (["wine: ", "best of the search", "cross-validation: R²"], {"diabetes.png"}),
}


def test_all_examples_are_run():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, tmp_path):
    environment = os.environ | {"PYTHONWARNINGS": "error::DeprecationWarning,error::RuntimeWarning"}
    command = [sys.executable, FOLDER / f"{name}.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    says, leaves = EXAMPLES[name]
    assert done.returncode == 0, done.stderr
    for text in says:
        assert text in done.stdout
    assert {left.name for left in tmp_path.iterdir()} == leaves
