"""The arrows of the design: lower layers never import upper ones."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "nissl"

# From the bottom up. A module may import from its own layer and from those before it.
LAYERS = [
    ["version", "errors", "arguments", "text", "notebook", "shapes", "files", "threads", "habits"],
    ["engines.base"],
    ["tensor"],
    ["ops"],
    ["engines.native.cache", "engines.native.machine", "engines.native.maths", "engines.native.elementwise"],
    ["engines.eager", "functional", "random", "autodiff"],
    ["protocols"],
    ["graph"],
    ["engines.native"],
    ["traced"],
    ["compiler"],
    ["nn", "optim", "data"],
    ["storage", "objective", "progress", "plots"],
    ["evaluation"],
    ["divergence", "checkpoint", "step", "training", "inspect"],
    ["tables", "sklearn"],
    ["exchange"],
    ["experiments"],
    ["cli"],
    ["__main__"],
]


def layer_of(module: str) -> int:
    for level, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return level
    raise AssertionError(f"nissl.{module} has no place in LAYERS")


def imports_of(path: Path) -> set[str]:
    """Return the modules of nissl that a file imports when it is imported itself."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body.clear()  # names for the type checker are not imported when the program runs
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "nissl":
            base = node.module.removeprefix("nissl").removeprefix(".")
            for alias in node.names:
                candidate = f"{base}.{alias.name}".removeprefix(".")
                is_module = (PACKAGE / Path(*candidate.split("."))).with_suffix(".py").exists()
                is_package = (PACKAGE / Path(*candidate.split(".")) / "__init__.py").exists()
                found.add(candidate if is_module or is_package else base)
    return found - {""}


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_imports_point_downwards(path):
    name = name_of(path)
    if name == "engines":  # its docstring is all it holds
        return
    for imported in imports_of(path):
        assert layer_of(imported) <= layer_of(name), f"nissl.{name} imports nissl.{imported}, which is above it"


@pytest.mark.parametrize("package", ["nn", "optim"])
def test_layers_and_optimizers_never_see_graphs_or_kernels(package):
    for path in files():
        if name_of(path).startswith(package):
            seen = imports_of(path)
            assert not {m for m in seen if m.startswith(("graph", "traced", "compiler", "engines.eager"))}, path


def test_only_the_eager_engine_and_what_is_above_it_know_it():
    for path in files():
        if name_of(path).startswith(("ops", "tensor", "shapes")):
            assert "engines.eager" not in imports_of(path), path
