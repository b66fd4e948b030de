"""The house: imports point one way, and reading results needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "stillmark"
TORCH_FREE = [
    "errors",
    "startup",
    "cache",
    "published",
    "study",
    "records",
    "provenance",
    "compute",
    "tasks",
    "configs",
    "lengths",
    "sizes",
    "added_arms",
    "benchmark_plan",
    "profile_plan",
    "plan",
    "marks",
    "analysis",
    "report",
]
TORCH_BELOW = [
    "models",
    "backends",
    "distill",
    "evaluate",
    "profiling",
    "stages",
    "resolve",
    "together",
    "runner",
    "distilled",
    "cli",
]
LAYERS = TORCH_FREE + TORCH_BELOW


def imported_layers(path: Path) -> set[str]:
    """First-level names that a file takes from the package, at any depth of the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide the layer"
            if node.module.startswith("stillmark."):
                names.add(node.module.split(".")[1])
            elif node.module == "stillmark":
                names |= {alias.name for alias in node.names} & set(LAYERS)
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("stillmark.")}
    return names


def test_imports_point_one_way():
    for path in PACKAGE.rglob("*.py"):
        layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if layer in ("__init__", "__main__"):
            continue
        assert layer in LAYERS, f"{path} is in no layer of {LAYERS}"
        later = {name for name in imported_layers(path) if LAYERS.index(name) > LAYERS.index(layer)}
        assert not later, f"{path} imports {sorted(later)}, which come after `{layer}`"


def test_reading_results_needs_no_torch():
    modules = [
        "stillmark." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in TORCH_FREE
    ]
    code = (
        f"import sys, importlib\nfor m in {modules!r}: importlib.import_module(m.removesuffix('.__init__'))\n"
    )
    code += "heavy = {'torch', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(PACKAGE.parent)})
