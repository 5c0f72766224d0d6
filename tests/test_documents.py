"""The documents: what README.md and the pages of docs/guide show is run, and must say what is shown.

The blocks of a page run in order, in one namespace and one folder, as a reader runs them. A `text` block after Python
is what that Python prints. Lines after `$ nissl ...` in a `console` block are what the command says, on standard output
and standard error; `...` stands for any text. Warnings are errors here as in all tests.
"""

import contextlib
import doctest
import importlib.util
import io
import re
import shlex
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from sklearn.datasets import load_digits

from nissl import cli, datasets, nn

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Libraries that need not be installed: the files that their blocks write, and those with which the same networks of
# data/make_weights.py, trained there, stand in for them.
ELSEWHERE = {
    "torch": {
        "torch.safetensors": "pytorch-weights.safetensors",
        "torch-outputs.safetensors": "pytorch-outputs.safetensors",
    },
    "keras": {
        "keras.safetensors": "keras-weights.safetensors",
        "keras-outputs.safetensors": "keras-outputs.safetensors",
    },
    "sklearn.callback": {},  # which came with scikit-learn 1.9
}
NOT_RUN = "not run"  # in place of what a block prints
LANGUAGES = {"python", "text", "console"}


class WrongError(AssertionError):
    """A document that says what is not so: its place, what it shows, what came out."""

    def __init__(self, place, shown, found):
        super().__init__(f"{place} shows\n{shown}\nbut there came\n{found}")


def check_shown(place, shown, found):
    """Raise WrongError unless what came out is what a document shows, in which `...` stands for any text."""
    shown, found = (re.sub(r"[ \t]+$", "", text.strip("\n"), flags=re.MULTILINE) for text in (shown, found))
    if not doctest.OutputChecker().check_output(
        f"{shown}\n", f"{found}\n", doctest.ELLIPSIS | doctest.DONT_ACCEPT_TRUE_FOR_1
    ):
        raise WrongError(place, shown, found)


def blocks_of(path):
    """Yield language, text and number of the first line for each block of code on a page."""
    page = path.read_text("utf-8")
    if page.count("```") != 2 * len(BLOCK.findall(page)):
        raise AssertionError(f"{path.name} has a block without an end, or one that is indented")
    for match in BLOCK.finditer(page):
        yield match[1], match[2], page.count("\n", 0, match.start(2)) + 1


def commands_in(text):
    """Return the commands of a console block, each with the output that is shown beneath it.

    >>> commands_in("$ nissl list  # all\\ndigits\\n$ nissl --version\\n")
    [('nissl list  # all', 'digits\\n'), ('nissl --version', '')]
    """
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    assert not parts[0], f"a console block begins with a command, not with {parts[0]!r}"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def run_python(text, name, line, namespace):
    """Run a block of Python as the page's own lines, so that a traceback names them; return what it prints.

    Where a library is not installed that need not be, put there what the block would write, and return NOT_RUN.
    """
    library = next((known for known in ELSEWHERE if re.search(rf"^(import|from) {known}\b", text, re.MULTILINE)), None)
    if library and not importlib.util.find_spec(library):
        for written, real in ELSEWHERE[library].items():
            shutil.copy(Path(__file__).parent / "data" / real, written)
        return NOT_RUN
    with contextlib.redirect_stdout(io.StringIO()) as out, warnings.catch_warnings():
        if library:
            warnings.simplefilter("ignore")  # which are not ours
        exec(compile("\n" * (line - 1) + text, name, "exec"), namespace)
    return out.getvalue()


def run_command(command, shown, place):
    """Run a command line of a console block and check what it says."""
    program, *arguments = shlex.split(command, comments=True)
    if program == "make":
        assert f"\n{arguments[0]}:" in (ROOT / "Makefile").read_text("utf-8"), f"{place}: {command}"
        return
    assert program == "nissl", f"{place}: this test does not know how to run {command!r}"
    with io.StringIO() as said:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = cli.run(arguments)
        found = said.getvalue()
    fails = "Error: " in shown
    if (status != 0) != fails:
        raise WrongError(place, f"{command}\n{shown}", f"{found}and the status {status}")
    if shown:
        check_shown(place, shown, found)


def run_page(path, namespace=None):
    """Run the blocks of a page in order and check what they show; return how many there were.

    `namespace` has what a reader has already.
    """
    names = {"__name__": path.stem, **(namespace or {})}
    printed = None  # by the Python above, until it is compared
    count = 0
    for language, text, line in blocks_of(path):
        place = f"{path.name}, line {line}"
        assert language in LANGUAGES, f"{place}: a block of {language or 'no language'}"
        if language == "text":
            assert printed is not None, f"{place} shows output, but no Python stands before it"
            if printed is not NOT_RUN:
                check_shown(place, text, printed)
            printed = None
        elif language == "python":
            printed = run_python(text, path.name, line, names)
            count += 1
        else:
            printed = None
            for command, shown in commands_in(text):
                run_command(command, shown, place)
                count += 1
    return count


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", GUIDE, ids=lambda path: path.stem)
def test_a_page_of_the_guide_is_right(path):
    assert run_page(path) > 0 or path.stem == "README"


def test_the_readme_is_right(tmp_path, monkeypatch):
    # Few small pictures in place of Fashion-MNIST, whose 70,000 would have to be downloaded first.
    digits = load_digits()
    pictures = np.kron(digits.images[:200] / 16, np.ones((4, 4)))[:, 2:30, 2:30].astype("float32")
    small = datasets.Dataset(pictures, digits.target[:200], tuple(map(str, range(10))), "fashion-mnist")
    monkeypatch.setattr(datasets, "load", lambda name: {"fashion-mnist": (small, small[:50])}[name])
    # Experiments are asked for, with their options, but not run: their own tests do that, and all take minutes.
    asked = []
    monkeypatch.setattr("nissl.cli.run_command._run", lambda experiment, *_, **__: asked.append(experiment.name) or {})
    # What a reader has: tables, rows for scikit-learn, weights of the same network from PyTorch.
    houses().to_csv("houses.csv", index=False)
    houses().drop(columns="price").to_csv("new.csv", index=False)
    theirs = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)).state_dict("pytorch")
    safetensors.numpy.save_file(theirs, "torch.safetensors", metadata={"format": "pt"})
    x, y = digits.data[:300] / 16, np.array(["even", "odd"])[digits.target[:300] % 2]
    parts = {"X": x[:200], "X_val": x[200:250], "X_test": x[250:], "y": y[:200], "y_val": y[200:250], "y_test": y[250:]}
    assert run_page(README, parts) == len(re.findall(r"^```python$|^\$ ", README.read_text("utf-8"), re.MULTILINE))
    assert len(asked) > 10
    assert Path("answers.csv").read_text().count("\n") == 41


def houses():
    """Return a small table of houses and their prices."""
    random = np.random.default_rng(0)
    area, garden = random.integers(50, 250, 40), random.choice(["yes", "no"], 40)
    return pd.DataFrame({"area": area, "garden": garden, "price": 2.5 * area + 30 * (garden == "yes")})


def test_every_page_of_the_guide_is_listed_and_every_link_leads_somewhere():
    listed = set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / "guide" / "README.md").read_text("utf-8")))
    assert listed == {path.name for path in GUIDE} - {"README.md"}
    for page in [README, *GUIDE]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}, which is not there"


# ---- the checks themselves ----


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ("loss 0.25\n", "loss 0.25\n"),
        ("\nloss 0.25", "loss 0.25  \n\n"),  # blanks that nobody sees
        ("loss 0.2...\n", "loss 0.2517\n"),
        ("...\ndone\n", "epoch 1\nepoch 2\ndone\n"),
        ("a\n...\nb ... s\n", "a\n1\n2\nb 3.1 s\n"),
    ],
)
def test_what_is_shown_may_leave_text_out(shown, found):
    check_shown("here", shown, found)


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ("loss 0.25\n", "loss 0.26\n"),
        ("loss 0.25\n", "loss 0.25\nand more\n"),
        ("loss 0.25\nand more\n", "loss 0.25\n"),
        ("a  b\n", "a b\n"),
        ("a\n\nb\n", "a\nb\n"),
        ("loss 0.2...\n", "loss 0.3\n"),
        ("...done\n", "done, almost\n"),
        ("1\n", "True\n"),
        ("loss 0.25\n", ""),
    ],
)
def test_what_is_shown_wrongly_is_noticed(shown, found):
    with pytest.raises(WrongError, match=r"^here shows\n"):
        check_shown("here", shown, found)


RIGHT = """
```python
x = 6
```

Then:

```python
print(x * 7)
```

```text
42
```

```console
$ nissl info nothing.safetensors
Error: ...nothing.safetensors...
$ nissl list datasets  # and more
...
digits...
```
"""


def page(text):
    Path("page.md").write_text(text)
    return Path("page.md")


def test_a_page_that_is_right_passes():
    assert run_page(page(RIGHT)) == 4


@pytest.mark.parametrize(
    ("right", "wrong", "error", "message"),
    [
        ("42", "43", WrongError, "page.md, line 13 shows\n43\nbut there came\n42"),
        ("x * 7", "z * 7", NameError, "'z' is not defined"),
        ("nothing.safetensors...", "something...", WrongError, "page.md, line 17"),
        ("Error: ", "Right: ", WrongError, "and the status 1"),
        ("list datasets", "lists datasets", WrongError, "and the status 2"),
        ("digits...", "Error: ...", WrongError, "and the status 0"),
        ("digits...", "digit", WrongError, "page.md, line 17"),
        ("$ nissl list", "$ curl list", AssertionError, "does not know how to run 'curl"),
        ("```console\n$", "```console\n", AssertionError, "begins with a command"),
        ("```text", "```txt", AssertionError, "a block of txt"),
        ("print(x * 7)\n```", "print(x * 7)", AssertionError, "a block without an end"),
        ("x = 6", "import warnings; warnings.warn('old')", UserWarning, "old"),
    ],
)
def test_a_page_that_is_wrong_fails(right, wrong, error, message):
    assert right in RIGHT
    with pytest.raises(error, match=re.escape(message)):
        run_page(page(RIGHT.replace(right, wrong)))
