import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.testing import assert_allclose

from hrpose_cli.clips.render import render_clip
from hrpose_cli.clips.run import ClipOutputs, annotate_clip
from hrpose_cli.draw import DrawStyle
from hrpose_cli.errors import InputError, MediaError, UsageError
from hrpose_cli.estimation.estimator import Estimator, TopPeople
from hrpose_cli.estimation.top_down import DetectEveryN, TopDown
from hrpose_cli.formats import pose_file as formats
from hrpose_cli.formats.pose_file import PoseFile
from hrpose_cli.media.clip import VideoFrame
from hrpose_cli.media.encoding import Encoding
from hrpose_cli.media.video_reader import VideoReader
from hrpose_cli.options import MotionOptions
from hrpose_cli.outputs import temporary_path
from hrpose_cli.poses import Boxes, Frame, PoseHeader, Poses
from hrpose_cli.stopping import StopFlag
from tests.builders import frame_poses, people
from tests.clips.builders import FRAMES, NAMES, Watched, images, run, stopped_run
from tests.formats.builders import save
from tests.media.clips import film


def test_every_output_has_every_frame(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    done = run(clip, tiny, tmp_path, "p.jsonl", "p.json", "p.csv", "p.npz", "of/", video="out.mp4")
    assert (done.frames, done.people, done.seen, done.tracks, done.damage) == (FRAMES, FRAMES, {1: FRAMES}, 1, "")
    assert len(images(tmp_path / "out.mp4")) == FRAMES
    header, records = formats.read_pose_file(tmp_path / "p.jsonl")
    assert (header.source, header.size, header.rate) == ("clip.mp4", (96, 64), 25)
    times = [record.frame.time for record in records]
    assert_allclose(times, np.arange(FRAMES) / 25)
    document = json.loads((tmp_path / "p.json").read_text())
    assert [image["time"] for image in document["images"]] == pytest.approx(times)
    assert {row["track_id"] for row in document["annotations"]} == {1}
    assert len(list((tmp_path / "of").iterdir())) == FRAMES


@pytest.mark.parametrize(
    "motion", [MotionOptions(), MotionOptions(every=3), MotionOptions(every=2, interpolation="hold", smooth="none")]
)
def test_a_run_that_was_interrupted_anywhere_gives_the_same_bytes(
    clip: Path, tiny: TopDown, tmp_path: Path, motion: MotionOptions
) -> None:
    names = ("p.jsonl", "p.json", "p.csv")
    run(clip, tiny, tmp_path / "whole", *names, motion=motion)
    whole = [(tmp_path / "whole" / name).read_bytes() for name in names]
    lines = whole[0].splitlines(keepends=True)
    header = len(lines[0])
    again = tmp_path / "again"
    again.mkdir()
    # Cut as a crash would: before the header is whole, after it, between lines, within the last one.
    for size in (header // 2, header, len(b"".join(lines[:18])), len(whole[0]) - 9):
        (again / "p.jsonl").write_bytes(whole[0][:size])
        estimator = Watched(tiny)
        done = run(clip, estimator, again, *names, motion=motion, resume=True)
        assert [(again / name).read_bytes() for name in names] == whole
        written = max(whole[0][:size].count(b"\n") - 1, 0)
        assert written - 16 * motion.every < done.resumed <= written
        assert min(estimator.seen, default=FRAMES) >= done.resumed
        assert done.frames == FRAMES


def test_another_run_is_not_resumed(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    run(clip, tiny, tmp_path, "p.jsonl")
    before = (tmp_path / "p.jsonl").read_bytes()
    outputs = ClipOutputs(None, (PoseFile.of(str(tmp_path / "p.jsonl")),))
    with pytest.raises(InputError, match="another clip, --trim, options"):
        annotate_clip(partial(VideoReader, clip), tiny, outputs, PoseHeader({"by": "someone else"}), resume=True)
    for info in ({"by": "a test", "now": 1}, {}):
        with pytest.raises(InputError, match=r"version \((now|by)\)"):
            annotate_clip(partial(VideoReader, clip), tiny, outputs, PoseHeader(info), resume=True)
    other = film(tmp_path / "clip.mp4", FRAMES, "-vf", "negate")  # of the same name, size and rate
    with pytest.raises(InputError, match="another clip"):
        run(other, tiny, tmp_path, "p.jsonl", resume=True)
    assert (tmp_path / "p.jsonl").read_bytes() == before
    with pytest.raises(InputError, match=r"--poses NAME\.jsonl"):
        run(clip, tiny, tmp_path, "p.csv", resume=True)


def test_frames_that_wait_have_to_fit_the_memory(
    clip: Path, tiny: TopDown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ten_frames = 10 * 3 * 96 * 64
    monkeypatch.setattr("hrpose_cli.clips.clip_poses.free_memory", lambda _: 4 * ten_frames)
    with pytest.raises(UsageError, match="--interpolation hold"):
        run(clip, tiny, tmp_path, "p.jsonl", motion=MotionOptions(every=11))
    for motion in (MotionOptions(every=10), MotionOptions(every=11, interpolation="hold")):
        assert run(clip, tiny, tmp_path, "p.jsonl", motion=motion).frames == FRAMES


def test_butterworth_keeps_what_was_measured(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    run(clip, tiny, tmp_path, "raw.jsonl", motion=MotionOptions(smooth="none"))
    run(clip, tiny, tmp_path, "smooth.jsonl", video="out.mp4", motion=MotionOptions(smooth="butterworth"))
    raw, smooth = (
        [r.poses for r in formats.read_pose_file(tmp_path / name)[1]] for name in ("raw.jsonl", "smooth.jsonl")
    )
    assert len(raw) == len(smooth) == len(images(tmp_path / "out.mp4")) == FRAMES
    for before, after in zip(raw, smooth, strict=True):
        np.testing.assert_array_equal(after.raw, before.xy)


def test_a_filter_that_the_rate_forbids_is_refused_before_the_work(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    estimator = Watched(tiny)
    with pytest.raises(InputError, match="frames per second"):
        run(clip, estimator, tmp_path, "p.jsonl", motion=MotionOptions(every=5, smooth="butterworth", cutoff=6))
    assert not estimator.seen


def test_saved_poses_are_drawn_as_the_run_drew_them(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    run(clip, tiny, tmp_path, "p.jsonl", video="first.mp4")
    with VideoReader(clip) as source:
        assert render_clip(source, tmp_path / "p.jsonl", ClipOutputs(tmp_path / "again.mp4")).frames == FRAMES
    np.testing.assert_array_equal(images(tmp_path / "first.mp4"), images(tmp_path / "again.mp4"))
    other = film(tmp_path / "other.mp4", 2, size=(64, 64))
    with VideoReader(other) as source, pytest.raises(InputError, match="choose the right clip"):
        render_clip(source, tmp_path / "p.jsonl", ClipOutputs(tmp_path / "wrong.mp4"))


def test_poses_whose_image_size_is_unknown_are_drawn(clip: Path, tmp_path: Path) -> None:
    save(tmp_path / "p.json", [frame_poses(people(1), 0, 0.0, size=(0, 0))], PoseHeader(source="clip.mp4"))
    with VideoReader(clip) as source:
        assert render_clip(source, tmp_path / "p.json", ClipOutputs(tmp_path / "again.mp4")).frames == FRAMES


def test_a_table_is_drawn_without_its_empty_keypoints_and_says_what_it_lacks(
    clip: Path, tiny: TopDown, tmp_path: Path
) -> None:
    run(clip, tiny, tmp_path, "p.csv")
    table = [line.split(",") for line in (tmp_path / "p.csv").read_text().splitlines()]
    for row in table[5::17]:
        row[4:6] = "", ""
    (tmp_path / "p.csv").write_text("\n".join(map(",".join, table)))
    with VideoReader(clip) as source:
        outputs = ClipOutputs(tmp_path / "again.mp4", style=DrawStyle(threshold=0))
        done = render_clip(source, tmp_path / "p.csv", outputs)
    note = f"{tmp_path}/p.csv: csv does not hold everything: boxes are drawn around the keypoints and score 1"
    assert (done.frames, done.notes) == (FRAMES, [note])


def test_side_by_side_and_transparent(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    run(clip, tiny, tmp_path, video="pair.mp4", outputs={"side_by_side": True})
    both = images(tmp_path / "pair.mp4")
    assert both.shape == (FRAMES, 64, 192, 3)
    assert np.median(abs(both[0, :, :96].astype(int) - images(clip)[0])) <= 2
    clear = DrawStyle(background="transparent")
    run(clip, tiny, tmp_path, video="clear.mov", outputs={"style": clear, "encoding": Encoding(alpha=True)})
    with av.open(str(tmp_path / "clear.mov")) as container:
        assert container.streams.video[0].pix_fmt.startswith("yuva444p")
    with pytest.raises(InputError, match="choose one"):
        ClipOutputs(side_by_side=True, style=clear)


class Failing:
    """Works for one chunk and then fails."""

    def __init__(self, base: Estimator, error: BaseException) -> None:
        self.base, self.error, self.calls = base, error, 0

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        self.calls += 1
        if self.calls > 1:
            raise self.error
        return self.base(frames)


@pytest.mark.parametrize("error", [MediaError("the net is gone"), MemoryError("too much")])
def test_after_a_failure_the_poses_so_far_are_there(
    clip: Path, tiny: TopDown, tmp_path: Path, error: Exception
) -> None:
    with pytest.raises(type(error)):
        run(clip, Failing(tiny, error), tmp_path, "p.jsonl", "p.csv", "p.json", video="out.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.part.csv", "p.part.json", "p.part.jsonl"]
    assert len(list(formats.read_pose_file(tmp_path / "p.part.jsonl")[1])) == 16
    assert len(json.loads((tmp_path / "p.part.json").read_text())["images"]) == 16
    assert not [t for t in threading.enumerate() if t.name in ("ahead", "behind")]


@pytest.mark.parametrize("smooth", ["one-euro", "butterworth"])
def test_a_run_that_is_stopped_before_its_first_frame_leaves_nothing(
    clip: Path, tiny: TopDown, tmp_path: Path, smooth: str
) -> None:
    motion = MotionOptions(smooth=smooth)
    done = stopped_run(clip, tiny, tmp_path, "p.jsonl", "p.csv", video="out.mp4", chunk=1, motion=motion)
    assert (done.stopped, done.frames, done.written) == (True, 0, [])
    assert list(tmp_path.iterdir()) == []


def test_a_view_ends_a_run(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    stop, shown = StopFlag(), list[np.ndarray]()

    def view(image: np.ndarray) -> None:
        shown.append(image)
        stop.set("quit")

    done = run(clip, tiny, tmp_path, "p.csv", outputs={"view": view}, stop=stop)
    assert (done.stopped, done.written, len(shown)) == (True, [tmp_path / "p.part.csv"], 1)


def test_a_wait_for_frames_ends_when_the_run_is_stopped(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    """As for a camera or a pipe that gives no more."""
    stop, silent = StopFlag(), threading.Event()

    class Waiting(VideoReader):
        def __iter__(self) -> Iterator[VideoFrame]:
            yield from islice(super().__iter__(), 16)
            stop.set("terminate")  # calls `stop` below
            assert silent.wait(60)

        def stop(self) -> None:
            silent.set()

    done = annotate_clip(partial(Waiting, clip), tiny, ClipOutputs(tmp_path / "out.mp4"), PoseHeader(), stop=stop)
    assert done.stopped


def test_an_interrupt_that_is_raised_leaves_json_lines_only(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(clip, Failing(tiny, KeyboardInterrupt()), tmp_path, *NAMES[:5], video="out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["p.part.jsonl"]
    assert len(list(formats.read_pose_file(tmp_path / "p.part.jsonl")[1])) == 16


class Closing(VideoReader):
    """Remembers which threads were alive when it was closed."""

    alive: list[str]

    def close(self) -> None:
        Closing.alive = [t.name for t in threading.enumerate() if t.name in ("ahead", "behind")]
        super().close()


@pytest.mark.parametrize("error", [MediaError("the net is gone"), KeyboardInterrupt()])
@pytest.mark.parametrize("smooth", ["one-euro", "butterworth"])
def test_no_thread_decodes_from_a_source_that_is_closed(
    clip: Path, tiny: TopDown, tmp_path: Path, error: BaseException, smooth: str
) -> None:
    failing = Failing(tiny, error)
    failing.calls = 1  # fails at once
    with pytest.raises(type(error)):
        annotate_clip(
            partial(Closing, clip),
            failing,
            ClipOutputs(tmp_path / "x.mp4"),
            PoseHeader(),
            motion=MotionOptions(smooth=smooth),
        )
    assert Closing.alive == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="asks the system which processes run")
def test_what_a_killed_run_left_goes_with_the_next_one(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "of").mkdir()
    (tmp_path / "of" / "clip.part").mkdir()
    for name in ("p.trc", "out.mp4", "out.images.mp4", f"of/clip.part/clip_{9:012d}_keypoints.json"):
        left = temporary_path(tmp_path / name)
        left.with_name(left.name.replace(str(os.getpid()), str(gone.pid))).touch()
    (tmp_path / "p.part.json").write_text("half")
    run(clip, tiny, tmp_path, "p.json", "p.trc", "of/", video="out.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["of", "out.mp4", "p.json", "p.trc"]
    assert len(list((tmp_path / "of").iterdir())) == FRAMES


def test_an_input_that_vanishes_is_said_and_what_was_read_is_kept(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    path = tmp_path / "gone.mp4"
    path.write_bytes(clip.read_bytes())

    class Vanishing(Watched):
        def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
            path.unlink(missing_ok=True)
            return super().__call__(frames)

    done = run(path, Vanishing(tiny), tmp_path, "p.jsonl", video="out.mp4")
    assert done.damage == "the file vanished during the run"
    assert len(list(formats.read_pose_file(tmp_path / "p.jsonl")[1])) == len(images(tmp_path / "out.mp4")) == FRAMES


def test_a_run_that_fails_at_once_leaves_the_files_of_the_one_before(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    run(clip, tiny, tmp_path, "p.jsonl", "p.json")
    before = [(tmp_path / name).read_bytes() for name in ("p.jsonl", "p.json")]
    failing = Failing(tiny, MediaError("no"))
    failing.calls = 1
    with pytest.raises(MediaError):
        run(clip, failing, tmp_path, "p.jsonl", "p.json")
    assert [(tmp_path / name).read_bytes() for name in ("p.jsonl", "p.json")] == before


def test_of_two_line_files_one_is_resumed_and_the_other_written_anew(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    run(clip, tiny, tmp_path, "a.jsonl", "b.jsonl")
    whole = (tmp_path / "a.jsonl").read_bytes()
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(b"".join(whole.splitlines(keepends=True)[:30]))
    run(clip, tiny, tmp_path, "a.jsonl", "b.jsonl", resume=True)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes() == whole


def test_detection_keeps_its_rhythm_over_chunks(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    seen: list[int] = []

    def detect(frames: Sequence[Frame]) -> list[Boxes]:
        seen.extend(frame.index for frame in frames)
        return tiny.detector(frames)

    for estimator in (replace(tiny, detector=detect), TopPeople(replace(tiny, detector=detect))):
        run(clip, estimator, tmp_path, "p.jsonl", motion=MotionOptions(detect_every=10))
        assert seen == [0, 10, 20, 30]
        seen.clear()
    with pytest.raises(UsageError, match="bottom-up weights have none"):
        run(clip, Watched(tiny), tmp_path, "p.jsonl", motion=MotionOptions(detect_every=2))


def test_people_are_followed_between_detections(tiny: TopDown) -> None:
    class Counted:
        calls = 0

        def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
            self.calls += len(frames)
            return [Boxes(np.array([[5, 5, 60, 60]], np.float32), np.ones(1, np.float32)) for _ in frames]

    counted = Counted()
    following = DetectEveryN(replace(tiny, detector=counted), 4)
    found = following([Frame(np.full((64, 64, 3), 9, np.uint8), i) for i in range(10)])
    assert (len(found), counted.calls) == (10, 3)
    following([Frame(np.full((64, 64, 3), 9, np.uint8), i, scene=i // 2) for i in range(4)])
    assert counted.calls == 5  # also where another scene begins
    assert len(TopPeople(following, min_score=2.0)([Frame(np.full((64, 64, 3), 9, np.uint8))])[0]) == 0
