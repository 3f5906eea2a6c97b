"""The job of a batch: all that decides its outputs, the same for every unit, worker, shard and engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hrpose_cli import __version__
from hrpose_cli.batch.storage import STATE_FOLDER, Storage
from hrpose_cli.errors import FormatError, UsageError
from hrpose_cli.files import sha256_file
from hrpose_cli.options import ClipOptions, DrawOptions, EncodingOptions, MotionOptions, PeopleOptions, Settings
from hrpose_cli.outputs import encode_utf8

RUN_FILE = f"{STATE_FOLDER}/run.json"


@dataclass(frozen=True)
class BatchJob:
    """The options of a batch and the hashes of its weights."""

    storage: Storage  # of the outputs
    poses: tuple[str, ...]  # suffixes of the pose files
    video: bool
    settings: Settings
    people: PeopleOptions
    motion: MotionOptions
    reading: ClipOptions
    encoding: EncodingOptions
    drawing: DrawOptions
    weights: Mapping[str, str]  # SHA-256 of the net's and of the detector's or boxes' file

    def content(self) -> dict[str, Any]:
        """All that decides the outputs, as it stands in `run.json`; the place of the outputs does not."""
        content = asdict(self) | {"version": __version__}
        del content["storage"]
        return dict(json.loads(json.dumps(content, default=str)))

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that stand for the content."""
        return sha256(encode_utf8(json.dumps(self.content(), sort_keys=True))).hexdigest()[:16]

    def claim(self) -> None:
        """Write the job into the output folder; UsageError if a run with other settings has begun there."""
        now = self.content()
        self.storage.create(RUN_FILE, encode_utf8(json.dumps(now, ensure_ascii=False, indent=1)))
        if differing := _differences(_read_settings(self.storage), now):
            raise UsageError(
                f"{self.storage.root} holds a batch with other settings ({', '.join(differing)}): use the same, or "
                "another --out"
            )


def hash_weights(settings: Settings) -> dict[str, str]:
    """The SHA-256 of the net's file and of the detector's, or of that of the boxes."""
    from hrpose_cli.backends import choose_device
    from hrpose_cli.detection import find_detector_file
    from hrpose_cli.models import find_weights

    fast = choose_device(settings.device) != "cpu"
    spec, net = find_weights(settings.weights, like=settings.like, download=settings.download, fast=fast)
    if settings.boxes is not None:
        return {"net": sha256_file(net), "boxes": sha256_file(Path(settings.boxes))}
    if settings.detector == "none" or spec.method != "top-down":
        return {"net": sha256_file(net)}
    return {"net": sha256_file(net), "detector": sha256_file(find_detector_file(settings.detector))}


def _read_settings(storage: Storage) -> Any:
    try:
        return json.loads(storage.read([RUN_FILE])[RUN_FILE])
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{storage.root}/{RUN_FILE} should be settings of a batch but is not JSON: {error}"
        ) from error


def _differences(was: Any, now: Any, name: str = "") -> list[str]:
    """The names of the values in which two contents differ, with the values."""
    if isinstance(was, dict) and isinstance(now, dict):
        return [each for key in {**was, **now} for each in _differences(was.get(key), now.get(key), key)]
    return [] if was == now else [f"{name} {was} there, {now} here"]
