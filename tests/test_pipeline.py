import numpy as np
import pytest

from hrpose_cli import pipeline
from hrpose_cli.poses import Frame, Poses


def frames(n: int) -> list[Frame]:
    return [Frame(np.zeros((10, 10, 3), np.uint8), i) for i in range(n)]


@pytest.mark.parametrize(("n", "most", "sizes"), [(0, 3, []), (3, 3, [3]), (7, 3, [3, 3, 1])])
def test_chunks_hold_so_many_frames(n: int, most: int, sizes: list[int]) -> None:
    assert [len(part) for part in pipeline.chunks(frames(n), most)] == sizes


def test_large_pictures_come_in_smaller_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "CHUNK_BYTES", 700)  # a frame has 300
    assert [len(part) for part in pipeline.chunks(frames(5), 16)] == [2, 2, 1]
    monkeypatch.setattr(pipeline, "CHUNK_BYTES", 100)
    assert [len(part) for part in pipeline.chunks(frames(2), 16)] == [1, 1]


def test_each_frame_keeps_its_poses_and_frames_are_read_only_when_needed() -> None:
    read: list[int] = []

    def source() -> object:
        for frame in frames(6):
            read.append(frame.index)
            yield frame

    def nobody(part: list[Frame]) -> list[Poses]:
        return [Poses.none() for _ in part]

    results = pipeline.estimate(source(), nobody, chunk=2)  # type: ignore[arg-type]
    frame, poses = next(results)
    assert (frame.index, len(poses), read) == (0, 0, [0, 1, 2])
    assert [frame.index for frame, _ in results] == [1, 2, 3, 4, 5]
