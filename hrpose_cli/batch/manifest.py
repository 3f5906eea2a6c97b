"""Manifests: what became of each work unit, in a JSON file that is written after all outputs of the unit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from hrpose_cli.batch.storage import STATE_FOLDER, Storage, describe_input
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.errors import FormatError
from hrpose_cli.outputs import encode_utf8, to_json

_State = Literal["begun", "done", "damaged", "failed"]
FINAL_STATES = ("done", "damaged", "failed")
_FOLDER = f"{STATE_FOLDER}/units"


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

    def __post_init__(self) -> None:
        if any(name.startswith("/") or ".." in name.split("/") for name in self.outputs):
            raise ValueError("an output that lies elsewhere")

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


@dataclass(frozen=True)
class Manifests:
    """The manifests of a batch."""

    storage: Storage

    def read(self, units: Iterable[WorkUnit]) -> dict[str, Manifest]:
        """The manifests of those units that were begun, by the names of the units."""
        return {each.unit: each for each in self._read([_name(unit) for unit in units])}

    def write(self, unit: WorkUnit, manifest: Manifest) -> None:
        self.storage.write(_name(unit), encode_utf8(to_json(asdict(manifest))))

    def all(self) -> list[Manifest]:
        """The manifests of all units, in the order of their keys."""
        return self._read(self.storage.list(_FOLDER))

    def _read(self, names: Sequence[str]) -> list[Manifest]:
        return [_parse(name, content) for name, content in self.storage.read(names).items()]


def is_changed(manifest: Manifest, unit: WorkUnit) -> bool:
    """Tell whether the input of a unit is there and has changed since its manifest was written."""
    now = describe_input(unit.path)
    return "bytes" in now and any(manifest.input.get(key) != now[key] for key in ("bytes", "modified"))


def _name(unit: WorkUnit) -> str:
    """The name of a manifest, in one of 256 folders, since some file systems slow down with many files in one."""
    return f"{_FOLDER}/{unit.key[:2]}/{unit.key}.json"


def _parse(name: str, content: bytes) -> Manifest:
    try:
        values = json.loads(content)
        known = {f.name: values[f.name] for f in fields(Manifest) if f.name in values}
        return Manifest(**known)
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{name} is no manifest of hrpose batch: remove it, and its file is done again") from error
