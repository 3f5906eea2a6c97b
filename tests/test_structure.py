"""The house: layers, doors, and what an import loads."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "hrpose_cli"
LAYERS = """
    errors skeletons hardware timing threads stopping streams
    poses files outputs option apart
    geometry options
    coco_reader
    nets media draw metrics tracking
    formats
    models
    backends
    detection
    estimation
    clips
    api ground_truth
    evaluate
    export bench batch training
    cli
"""
RANK = {room: rank for rank, rooms in enumerate(LAYERS.split("\n")) for room in rooms.split()}
MODULES = {
    ".".join(("hrpose_cli", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in ROOT.rglob("*.py")
    if not path.name.startswith("__")
}
Imports = list[tuple[str, str]]  # module, name


def room(module: str) -> str:
    return module.split(".")[1]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def door(folder: str) -> dict[str, str]:
    """The module of each name that a folder's `__init__.pyi` offers."""
    stub = ROOT / folder / "__init__.pyi"
    nodes = tree(stub).body if stub.is_file() else []
    prefix = f"hrpose_cli.{folder}." if folder else "hrpose_cli."
    return {a.name: f"{prefix}{node.module}" for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names}


def written_imports(nodes: Iterator[ast.AST]) -> Imports:
    """The imports from the package in a file, as they are written there."""
    found: Imports = []
    for node in nodes:
        assert not (isinstance(node, ast.Import) and any(a.name.startswith("hrpose_cli") for a in node.names))
        if isinstance(node, ast.ImportFrom) and re.match(r"hrpose_cli(\.|$)", node.module or ""):
            found += [(str(node.module), alias.name) for alias in node.names]
    return [(module, name) for module, name in found if name != "__version__"]


def all_imports(module: str) -> Imports:
    return written_imports(ast.walk(tree(MODULES[module])))


def home(module: str, name: str) -> str:
    """The module in which an imported name is defined."""
    if f"{module}.{name}" in MODULES:
        return f"{module}.{name}"
    return module if module in MODULES else door(module.removeprefix("hrpose_cli").removeprefix("."))[name]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    here = room(module)
    for other, name in all_imports(module):
        there = room(home(other, name))
        assert RANK[there] < RANK[here] or there == here, f"{module} imports {name} of {other}"


def test_no_two_modules_need_each_other() -> None:
    needs = {module: {home(*pair) for pair in all_imports(module)} for module in MODULES}
    graphlib.TopologicalSorter(needs).prepare()


@pytest.mark.parametrize("module", MODULES)
def test_other_folders_are_entered_by_their_door(module: str) -> None:
    """From outside, a folder's names are imported from the folder, and no private name from anywhere."""
    for other, name in all_imports(module):
        assert not name.startswith("_"), f"{module} imports {other}.{name}"
        if room(f"{other}.{name}") != room(module) and (ROOT / room(f"{other}.{name}")).is_dir():
            assert other.count(".") == 1, f"{module} imports {name} from {other}, past the door"


def defined_names(module: str) -> set[str]:
    found: set[str] = set()
    for node in tree(MODULES[module]).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)}
        found |= {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
    return {name for name in found if not name.startswith("_")}


@cache
def used_names() -> set[tuple[str, str]]:
    """(module, name) of all that another module imports, or that a door offers."""
    imported = {(home(*pair), pair[1]) for module in MODULES for pair in all_imports(module)}
    commands = {(home(*pair), pair[1]) for pair in written_imports(ast.walk(tree(ROOT / "cli" / "__init__.py")))}
    offered = {(module, name) for stub in ROOT.rglob("*.pyi") for name, module in door(stub.parent.name if stub.parent != ROOT else "").items()}  # fmt: skip  # noqa: E501
    return imported | commands | offered


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_used_by_others(module: str) -> None:
    """Through a module that is imported whole, too: `from hrpose_cli.cli import spread`."""
    whole = any(f"{other}.{name}" == module for each in MODULES for other, name in all_imports(each))
    if not whole:
        unused = {name for name in defined_names(module) if (module, name) not in used_names()}
        assert not unused, f"no other module uses {', '.join(sorted(unused))} of {module}: begin it with _"


@pytest.mark.parametrize("folder", [path.parent.name for path in ROOT.glob("*/__init__.pyi")])
def test_doors_offer_what_is_there(folder: str) -> None:
    for name, module in door(folder).items():
        assert name in defined_names(module)
        assert f"hrpose_cli.{folder}.{name}" not in MODULES, "a module of the folder has the same name"


def test_chains_of_imports_are_short() -> None:
    """The longest way from a module to one that it needs to be loaded, in modules."""
    loads = {
        name: {home(*pair) for pair in written_imports(iter(tree(path).body))} - {name}
        for name, path in MODULES.items()
    }
    length: dict[str, int] = {}
    for name in graphlib.TopologicalSorter(loads).static_order():
        length[name] = 1 + max((length[other] for other in loads[name]), default=0)
    assert max(length.values()) < 10, max(length, key=length.__getitem__)


HEAVY = {"torch", "cv2", "av", "polars", "scipy", "ultralytics", "openvino"}


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import hrpose_cli", HEAVY | {"numpy", "typer"}),
        ("import hrpose_cli.cli", HEAVY | {"numpy", "rich.console"}),
        ("from hrpose_cli.formats import read_pose_file, open_writer", HEAVY - {"scipy"}),
    ],
)
def test_what_an_import_loads(code: str, heavy: set[str]) -> None:
    say = f"{code}\nimport sys\nprint(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_images_are_opened_in_one_place() -> None:
    """Pillow hands PostScript to Ghostscript, whatever the suffix, unless it is told which formats may come."""
    opening = {name for name, path in MODULES.items() if re.search(r"\bImage\.open\(", path.read_text("utf-8"))}
    assert opening == {"hrpose_cli.media.images"}
