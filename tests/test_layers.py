"""A module imports only from lower layers or from its own folder; the table is the architecture."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "hrpose_cli"
LAYERS = [
    ["errors", "skeletons", "resources", "stopwatch", "overlap"],
    ["poses", "files"],
    ["geometry", "records"],
    [
        "nets",
        "heatmaps",
        "crops",
        "media",
        "formats",
        "draw",
        "metrics",
        "fetch",
        "letterbox",
        "zoo",
        "checkpoints",
        "exported",
        "track",
        "smooth",
    ],
    ["weights", "grouping", "yolo_net"],
    ["detect", "backends"],
    ["yolo"],
    ["estimators", "bottom_up"],
    ["pipeline"],
    ["api", "evaluate", "annotate"],
    ["export", "bench"],
    ["training"],
    ["cli"],
]
RANK = {name: layer for layer, names in enumerate(LAYERS) for name in names}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hrpose_cli."):
            yield node.module.split(".")[1]  # type: ignore[union-attr]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("hrpose_cli."))


FILES = [p for p in ROOT.rglob("*.py") if p.name != "__init__.py" or p.parent != ROOT]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    assert here in RANK, f"{here} has no layer yet"
    for other in imported(path):
        assert RANK[other] < RANK[here] or other == here, f"{path.name} imports {other}"
