"""Frames and people as arrays."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hrpose_cli.poses import Frame, FrameInfo, FramePoses, Poses
from hrpose_cli.skeletons import MPII, SKELETONS
from tests.builders import people


def test_frame_info_is_the_frame_without_its_pixels() -> None:
    frame = Frame(np.zeros((4, 6, 3), np.uint8), 7, 0.5, "a.png")
    assert frame.info == FrameInfo((6, 4), 7, 0.5, "a.png")
    bare = FramePoses(frame, people(2)).without_pixels()
    assert bare.frame == frame.info
    assert len(bare.people) == 2
    assert bare.without_pixels() is bare


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"index": -1}, "index must be a whole number from 0, but is -1"),
        ({"index": 2**63}, "9223372036854775808"),
        ({"index": 1.0}, "1.0"),
        ({"index": True}, "True"),
        ({"time": "0.5"}, "time must be a number of seconds, but is '0.5'"),
        ({"time": float("inf")}, "inf"),
        ({"time": 10**400}, "1000"),
        ({"name": None}, "name must be a file name"),
        ({"name": "a\0.png"}, "x00"),
        ({"name": "\udfff.png"}, "udfff"),
        ({"size": (6, 0)}, r"size must be a positive width and height of at most a million, but is \(6, 0\)"),
        ({"size": (6, 2**64)}, "18446744073709551616"),
        ({"size": (6.0, 4.0)}, "6.0"),
        ({"size": [6, 4]}, "6, 4"),
    ],
)
def test_frame_info_names_the_value_that_no_frame_has(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(FrameInfo((6, 4), 7, 0.5, "a.png"), **changes)


def test_frame_info_takes_what_frames_have() -> None:
    latin1 = "caf\udce9.jpg"  # as os.fsdecode gives a name that is not UTF-8
    assert FrameInfo((0, 0), np.int64(2**63 - 1), -0.04, latin1).name == latin1


def test_frame_poses_people_fail_for_a_skipped_frame() -> None:
    with pytest.raises(AssertionError, match="skipped"):
        FramePoses(FrameInfo((6, 4)), None).people  # noqa: B018


def test_poses_concat_joins_the_fields_that_every_part_has() -> None:
    ids, raw = np.array([4, 2]), np.zeros((2, 16, 2), np.float32)
    first, second = people(2, skeleton=MPII, track_ids=ids, raw=raw), people(1, skeleton=MPII, track_ids=np.array([9]))
    both = Poses.concat([first, second])
    assert both.track_ids.tolist() == [4, 2, 9]
    assert_array_equal(both.xy, [*first.xy, *second.xy])
    assert (both.raw, both.skeleton) == (None, MPII)
    assert_array_equal(Poses.concat([first]).raw, raw)
    assert len(Poses.concat([Poses.none(MPII)] * 2)) == 0


def test_poses_measured_xy_is_raw_if_there_is_any() -> None:
    plain = people(1)
    assert plain.measured_xy is plain.xy
    smooth = replace(plain, raw=plain.xy + 1)
    assert smooth.measured_xy is smooth.raw


def test_poses_say_which_shape_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"Poses.score must have shape \(2, 16\), but has \(2, 17\)"):
        Poses(
            np.zeros((2, 16, 2), np.float32), *[np.zeros(s, np.float32) for s in ((2, 17), (2, 4), (2,))], skeleton=MPII
        )


def test_poses_person_score_is_hrnets_rescoring() -> None:
    poses = people(1)
    counted = poses.score[0][poses.score[0] > 0.2]
    np.testing.assert_allclose(poses.person_score, counted.mean() * poses.box_score, rtol=1e-6)
    silent = Poses(poses.xy, poses.score * 0, poses.box, poses.box_score)
    assert silent.person_score.tolist() == [0.0]


def test_poses_best_gives_the_best_people_first() -> None:
    poses = people(3)
    ranked = poses.best(max_people=2)
    assert len(ranked) == 2
    assert (np.diff(ranked.person_score) <= 0).all()
    assert len(poses.best(min_score=2.0)) == 0


def test_frame_refuses_images_that_are_not_uint8() -> None:
    with pytest.raises(ValueError, match="uint8"):
        Frame(np.zeros((2, 2, 3), np.float32))


@pytest.mark.parametrize(
    ("poses", "shown"),
    [
        (people(4, track_ids=np.arange(4)), "Poses(4 people, coco, tracked)"),
        (people(1, skeleton=MPII), "Poses(1 person, mpii)"),
        (Poses.none(), "Poses(0 people, coco)"),
        (
            people(2, raw=np.zeros((2, 17, 2), np.float32), track_ids=np.arange(2)),
            "Poses(2 people, coco, tracked, smoothed)",
        ),
    ],
)
def test_poses_repr_is_one_line(poses: Poses, shown: str) -> None:
    assert repr(poses) == shown


def test_in_skeleton_takes_keypoints_by_name_and_means_of_two() -> None:
    poses = replace(
        people(2, track_ids=np.arange(2)), sigma=np.full((2, 17), 3.0, np.float32), raw=np.zeros((2, 17, 2), np.float32)
    )
    poses.score[0, 5] = 0  # of the first person's left shoulder
    found = poses.in_skeleton(SKELETONS["body25"])
    assert_array_equal(found.xy[:, [0, 2, 5]], poses.xy[:, [0, 6, 5]])
    assert_array_equal(found.xy[:, 8], poses.xy[:, 11:13].mean(axis=1))  # the middle of the hips
    assert_array_equal(found.score[:, 8], poses.score[:, 11:13].min(axis=1))
    assert found.sigma is not None
    assert_allclose(found.sigma[0, [0, 8]], [3, 3 / 2**0.5], rtol=1e-6)
    assert np.isnan(found.xy[:, 19:]).all()  # nobody has feet
    assert np.isnan(found.xy[:, 1, 0]).tolist() == [True, False]  # the neck of the first is unknown
    assert (found.score[:, 19:] == 0).all()
    assert_array_equal(found.track_ids, poses.track_ids)
    assert found.raw is not None
    assert found.raw.shape == (2, 25, 2)


def test_in_skeleton_of_its_own_changes_nothing() -> None:
    poses = people(2)
    same = poses.in_skeleton(poses.skeleton)
    assert_array_equal(same.xy, poses.xy)
    assert_array_equal(same.score, poses.score)
