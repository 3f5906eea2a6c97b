"""The work of a batch: the clip of a unit through a net that was loaded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from hrpose_cli.api import build_estimator, provenance
from hrpose_cli.batch.job import BatchJob
from hrpose_cli.batch.manifest import Manifest
from hrpose_cli.batch.storage import is_remote, local_copy
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.clips import ClipOutputs, annotate_clip, describe_run
from hrpose_cli.draw import build_style
from hrpose_cli.estimation import TopPeople
from hrpose_cli.files import hash_files
from hrpose_cli.formats import PoseFile
from hrpose_cli.media import build_encoding, build_opener
from hrpose_cli.poses import PoseHeader
from hrpose_cli.stopping import StopFlag
from hrpose_cli.timing import StageTimer


class PoseWork:
    """Finds the people of one clip after the other, with one net, and writes their files."""

    def __init__(self, job: BatchJob, device: str) -> None:
        self._job = job
        self._estimator = build_estimator(replace(job.settings, device=device))
        info = provenance(job.settings, self._estimator) | describe_run(job.motion, job.people, job.reading)
        self._header = PoseHeader(info, self._estimator.skeleton, threshold=job.people.keypoint_score)

    def __call__(self, unit: WorkUnit, manifest: Manifest, stop: StopFlag) -> Manifest | None:
        """Write the files of a unit, and add them to its manifest; None if it was stopped, which leaves no file."""
        job, watch = self._job, StageTimer()
        with local_copy(unit.path) as path, job.storage.workplace(unit.key) as out:
            done = annotate_clip(
                partial(build_opener(job.reading), path),
                TopPeople(replace(self._estimator, watch=watch), job.people.min_score, job.people.max_people),
                _name_outputs(job, out / unit.name),
                self._header,
                motion=job.motion,
                watch=watch,
                stop=stop,
            )
            if done.stopped:
                return None
            final = replace(
                manifest,
                **done.facts(watch),
                error=done.error(unit.path),
                input={**manifest.input, "first_frame": done.first_frame},
                outputs={path.relative_to(out).as_posix(): hash for path, hash in hash_files(done.written).items()},
            )
            job.storage.publish(out)
        return final


def list_outputs(job: BatchJob, units: Iterable[WorkUnit]) -> Iterator[Path]:
    """The files, on this machine, that units become."""
    for unit in () if is_remote(job.storage.root) else units:
        files = _name_outputs(job, Path(job.storage.root, unit.name))
        yield from (file.path for file in files.poses)
        yield from filter(None, [files.video])


def _name_outputs(job: BatchJob, clip: Path) -> ClipOutputs:
    """The files that a clip becomes: NAME.EXT.pose.SUFFIX, since two clips may differ in their suffix only."""
    beside = f"{clip}.pose"
    encoding = build_encoding(job.encoding, job.drawing)
    return ClipOutputs(
        Path(f"{beside}{'.mov' if encoding.alpha else '.mp4'}") if job.video else None,
        tuple(PoseFile.of(f"{beside}{suffix}") for suffix in job.poses),
        build_style(job.drawing, job.people, tracked=job.motion.track),
        encoding,
    )
