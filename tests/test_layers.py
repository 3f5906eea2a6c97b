"""A module imports only from lower layers or from its own folder; the table is the architecture."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "hrpose_cli"
LAYERS = """
    errors skeletons hardware timing threads
    poses files
    geometry
    nets media formats draw metrics tracking
    models
    backends
    detection
    estimation
    clips evaluate
    api
    export bench training
    cli
"""
RANK = {name: layer for layer, names in enumerate(LAYERS.split("\n")) for name in names.split()}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "hrpose_cli":
            yield from (a.name for a in node.names if not a.name.startswith("__"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hrpose_cli."):
            yield node.module.split(".")[1]  # type: ignore[union-attr]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("hrpose_cli."))


def modules(path: Path) -> set[str]:
    """The modules of ours that a file names, wherever in it."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    names = [f"{node.module}.{alias.name}" for node in nodes for alias in node.names]
    return {name for name in names if name in MODULES} | {str(node.module) for node in nodes if node.module in MODULES}


FILES = [p for p in ROOT.rglob("*.py") if p.name != "__init__.py" or p.parent != ROOT]

MODULES = {".".join(("hrpose_cli", *p.relative_to(ROOT).with_suffix("").parts)): p for p in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    assert here in RANK, f"{here} has no layer yet"
    for other in imported(path):
        assert RANK[other] < RANK[here] or other == here, f"{path.name} imports {other}"


def test_no_two_modules_need_each_other() -> None:
    """Beside a folder's `__init__`, which may offer what lies in it."""
    plain = {name: modules(path) for name, path in MODULES.items() if path.name != "__init__.py"}
    graphlib.TopologicalSorter({name: used & plain.keys() for name, used in plain.items()}).prepare()
