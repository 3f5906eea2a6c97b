"""The options of a batch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from hrpose_cli.errors import UsageError
from hrpose_cli.option import Option, check_device, check_values
from hrpose_cli.options import OUTPUT

_BATCH = "Batch"


def _parse_seconds(text: str) -> float:
    """The seconds of a text such as 90, 90s, 30m or 1.5h."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", text)
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not seconds:
        raise UsageError(f"{text} must be a time above 0, such as 90s, 30m or 2h")
    return seconds


def _parse_workers(text: str) -> int | None:
    if text != "auto" and not (text.isdecimal() and int(text)):
        raise UsageError(f"{text} must be a number of processes, at least 1, or auto")
    return None if text == "auto" else int(text)


@dataclass(frozen=True)
class BatchOptions:
    """The outputs of a batch, and how its files are shared out and done."""

    out: Annotated[str, Option("Folder or URL of the results.", OUTPUT, names=("--out", "-o"))]
    poses: Annotated[
        tuple[str, ...],
        Option("Suffix of a pose file per clip, such as .parquet. Repeatable.", OUTPUT, parse=tuple, given=list[str]),
    ] = ()
    video: Annotated[bool, Option("Also write an annotated clip of each.", OUTPUT)] = False
    recursive: Annotated[bool, Option("Search sub-folders too.", _BATCH, names=("--recursive", "-r"))] = False
    lists: Annotated[
        tuple[str, ...],
        Option(
            "File that lists clips, one per line or separated by NUL; - reads it from the standard input. Repeatable.",
            _BATCH, names=("--list",), parse=tuple, given=list[str],
        ),
    ] = ()  # fmt: skip
    shard: Annotated[
        str | None, Option("Do one part of the files: 3/100, or slurm for the task of a job array.", _BATCH)
    ] = None
    workers: Annotated[
        int | None,
        Option("Processes, each with its own net; auto: one per device.", _BATCH, shown="auto", parse=_parse_workers),
    ] = None
    per_device: Annotated[int, Option("Workers that share a GPU.", _BATCH, 1)] = 1
    devices: Annotated[
        tuple[str, ...],
        Option(
            "Devices, separated by commas, such as cuda:0,cuda:1.", _BATCH, shown="that of --device",
            parse=lambda text: tuple(text.split(",")),
        ),
    ] = ()  # fmt: skip
    engine: Annotated[
        Literal["local", "ray"], Option("local: processes of this machine; ray: a Ray cluster.", _BATCH)
    ] = "local"
    ray_address: Annotated[
        str | None, Option("Cluster, such as auto or ray://host:10001.", _BATCH, shown="one on this machine")
    ] = None
    attempts: Annotated[int, Option("Give up a file that has killed its worker this many times.", _BATCH, 1)] = 2
    timeout: Annotated[
        float | None,
        Option("Give up a file that takes longer, such as 90s, 30m or 2h.", _BATCH, shown="none", parse=_parse_seconds),
    ] = None
    redo: Annotated[
        Literal["failed", "changed", "all"] | None,
        Option("Do files again: those that failed, those whose input has changed, or all.", _BATCH),
    ] = None
    progress: Annotated[Literal["text", "json"], Option("json prints a JSON line per finished file.", _BATCH)] = "text"
    dry_run: Annotated[bool, Option("List the files that would be done, and do none.", _BATCH)] = False

    def __post_init__(self) -> None:
        check_values(self)
        for device in self.devices:
            check_device(device)
        for suffix in self.poses:
            if not re.fullmatch(r"\.[A-Za-z0-9]+|/", suffix):
                raise UsageError(f"--poses {suffix}: a batch names its files itself: use a suffix, such as .parquet")
        if not (self.poses or self.video):
            raise UsageError("a batch without --poses and --video would write nothing")
