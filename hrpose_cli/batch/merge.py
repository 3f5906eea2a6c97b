"""The Parquet files of a batch in one."""

from __future__ import annotations

from pathlib import Path

from hrpose_cli.batch.manifest import Manifests
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.files import sha256_file
from hrpose_cli.formats import merge_parquet


def list_tables(manifests: Manifests) -> list[str]:
    """The paths or URLs of the Parquet files of all clips."""
    names = (name for each in manifests.all() for name in each.outputs if name.endswith(".parquet"))
    return [f"{manifests.storage.root}/{name}" for name in names]


def merge_tables(manifests: Manifests, target: Path) -> int:
    """Write the Parquet files of all clips into one, in the order of the clips' names; returns their number.

    Raises InputError where there are none, and FormatError for one that is not as its manifest says.
    """
    tables = sorted(
        (each.unit, name, hash)
        for each in manifests.all()
        for name, hash in each.outputs.items()
        if name.endswith(".parquet")
    )
    root = manifests.storage.root
    if not tables:
        raise InputError(f"{root} holds no .parquet files: hrpose batch run --poses .parquet writes them")
    with manifests.storage.copies(name for _, name, _ in tables) as paths:
        for _, name, hash in tables:
            if not paths[name].is_file() or sha256_file(paths[name]) != hash:
                raise FormatError(f"{root}/{name} is not as it was written: copy it again, or use --redo all")
        merge_parquet({unit: paths[name] for unit, name, _ in tables}, target)
    return len(tables)
