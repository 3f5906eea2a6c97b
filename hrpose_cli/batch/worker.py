"""The work of a batch: the clip of a unit through a net that was loaded once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from hrpose_cli.api import build_estimator, provenance
from hrpose_cli.batch.job import BatchJob
from hrpose_cli.batch.manifest import Manifest
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.clips import ClipOutputs, annotate_clip, describe_motion
from hrpose_cli.draw import build_style
from hrpose_cli.estimation import TopPeople
from hrpose_cli.files import sha256_file
from hrpose_cli.formats import PoseFile
from hrpose_cli.media import build_encoding, build_opener
from hrpose_cli.poses import PoseHeader
from hrpose_cli.stopping import StopFlag
from hrpose_cli.timing import StageTimer


class PoseWork:
    """Finds the people of one clip after the other, with one net, and writes their files."""

    def __init__(self, job: BatchJob, device: str) -> None:
        settings = replace(job.settings, device=device)
        self._job = job
        self._estimator = build_estimator(settings)
        motion = describe_motion(job.motion) | {"trim": job.reading.trim}
        info = provenance(settings, self._estimator) | {"people": asdict(job.people), "motion": motion}
        self._header = PoseHeader(info, self._estimator.skeleton, threshold=job.people.keypoint_score)

    def __call__(self, unit: WorkUnit, manifest: Manifest, stop: StopFlag) -> Manifest | None:
        """Write the files of a unit, and add them to its manifest; None if it was stopped, which leaves no file."""
        job, watch = self._job, StageTimer()
        done = annotate_clip(
            partial(build_opener(job.reading), unit.path),
            TopPeople(replace(self._estimator, watch=watch), job.people.min_score, job.people.max_people),
            _name_outputs(job, unit),
            self._header,
            motion=job.motion,
            watch=watch,
            stop=stop,
        )
        if done.stopped:
            for path in done.written:
                _remove(path)
            return None
        return replace(
            manifest,
            state="damaged" if done.damage else "done",
            error=f"{unit.path} is damaged: {done.damage}; the rest was done" if done.damage else "",
            input={**manifest.input, "first_frame": done.first_frame},
            frames=done.frames,
            people=done.people,
            tracks=done.tracks,
            seconds={stage: round(spent, 3) for stage, spent in {**watch.seconds, "total": watch.total}.items()},
            outputs={
                path.relative_to(job.out).as_posix(): sha256_file(path)
                for each in done.written
                for path in _files_of(each)
            },
        )


def _files_of(output: Path) -> Iterator[Path]:
    """A file, or the files of OpenPose's folder."""
    return output.iterdir() if output.is_dir() else iter([output])


def _remove(part: Path) -> None:
    """Remove what a stopped unit has written, and OpenPose's folder unless it has files of an earlier run."""
    if part.is_dir():
        shutil.rmtree(part)
        with suppress(OSError):
            part.parent.rmdir()
    else:
        part.unlink(missing_ok=True)


def _name_outputs(job: BatchJob, unit: WorkUnit) -> ClipOutputs:
    """The files that a unit becomes: NAME.EXT.pose.SUFFIX, since two clips may differ in their suffix only."""
    beside = f"{job.out / unit.name}.pose"
    encoding = build_encoding(job.encoding, job.drawing)
    return ClipOutputs(
        Path(f"{beside}{'.mov' if encoding.alpha else '.mp4'}") if job.video else None,
        tuple(PoseFile.of(f"{beside}{suffix}") for suffix in job.poses),
        build_style(job.drawing, job.people, tracked=job.motion.track),
        encoding,
    )
