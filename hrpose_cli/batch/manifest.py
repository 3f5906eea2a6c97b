"""Manifests: what became of each work unit, in a JSON file that is written after all outputs of the unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.errors import FormatError
from hrpose_cli.files import read_json, write_json

_State = Literal["begun", "done", "damaged", "failed"]
FINAL_STATES = ("done", "damaged", "failed")
STATE_FOLDER = ".hrpose"


@dataclass(frozen=True)
class Manifest:
    """What became of one work unit."""

    unit: str  # its name
    state: _State = "begun"  # damaged: done, but a part of the input could not be read
    error: str = ""  # one line
    input: Mapping[str, Any] = field(default_factory=dict)  # path, bytes, modified (ns), first_frame
    settings: str = ""  # hash of all that decides the outputs
    attempts: int = 0  # beginnings in the run below
    run: str = ""  # the run that began it last
    host: str = ""
    ended: float = 0.0  # seconds since 1970
    frames: int = 0
    people: int = 0  # of all frames together
    tracks: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)  # of each stage, which overlap, and in "total"
    outputs: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of each, by its path below the output folder

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


@dataclass(frozen=True)
class Manifests:
    """The manifests of an output folder. They are renamed into place, which is safe on network file systems."""

    out: Path

    def path(self, unit: WorkUnit) -> Path:
        """In 256 folders, since some file systems slow down with many files in one."""
        return self.out / STATE_FOLDER / "units" / unit.key[:2] / f"{unit.key}.json"

    def read(self, unit: WorkUnit) -> Manifest | None:
        """The manifest of a unit; None if it was never begun."""
        path = self.path(unit)
        return _read_manifest(path) if path.is_file() else None

    def write(self, unit: WorkUnit, manifest: Manifest) -> None:
        write_json(self.path(unit), asdict(manifest))

    def all(self) -> Iterator[Manifest]:
        """The manifests of all units, in the order of their keys."""
        for path in sorted((self.out / STATE_FOLDER / "units").glob("??/*.json")):
            if not path.name.startswith("."):
                yield _read_manifest(path)


def describe_input(path: str) -> dict[str, Any]:
    """The facts by which a changed input is recognised without reading it."""
    status = Path(path).stat()
    return {"path": path, "bytes": status.st_size, "modified": status.st_mtime_ns}


def is_changed(manifest: Manifest, unit: WorkUnit) -> bool:
    """Tell whether the input of a unit has changed since its manifest was written."""
    now = describe_input(unit.path)
    return any(manifest.input.get(key) != now[key] for key in ("bytes", "modified"))


def _read_manifest(path: Path) -> Manifest:
    content = read_json(path, "manifest")
    known = {f.name for f in fields(Manifest)}
    if not (isinstance(content, dict) and isinstance(content.get("unit"), str)):
        raise FormatError(f"{path} is no manifest of hrpose batch: remove it, and its file is done again")
    return Manifest(**{key: value for key, value in content.items() if key in known})
