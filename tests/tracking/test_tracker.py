from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from hrpose_cli.poses import Poses
from hrpose_cli.skeletons import COCO
from hrpose_cli.tracking.tracker import Tracker, boxes_from_keypoints
from tests.builders import frame_poses, person

K = len(COCO)
# A walker, 100 px high, seen from the side: ears to ankles.
SIDE = np.asarray([
    (9, 6), (8, 5), (8, 5), (3, 7), (3, 7), (0, 20), (2, 20), (12, 34), (-10, 34),
    (20, 46), (-12, 47), (0, 52), (1, 52), (10, 74), (-6, 74), (14, 95), (-16, 93),
], np.float32)  # fmt: skip
RIGHT, LEFT = SIDE, SIDE * (-1, 1)  # who walks to the right, and to the left


def walker(x: float, y: float = 100, *, body: np.ndarray = RIGHT, **how: float) -> Poses:
    """Someone whose head is over x."""
    return person(x, y, body=body, score=0.8, **how)


def scene(*people: Poses) -> Poses:
    """The people in one frame."""
    return Poses.concat(people or (Poses.none(),))


def follow(scenes: list[Poses], rate: float = 25.0, tracker: Tracker | None = None) -> list[list[int]]:
    """The ids of each frame."""
    tracker = tracker or Tracker()
    found = []
    for i, poses in enumerate(scenes):
        result = tracker(frame_poses(poses, i, i / rate)).people
        assert_array_equal(result.xy, poses.xy)
        assert result.track_ids is not None
        assert len(set(result.track_ids.tolist())) == len(poses)
        found.append(result.track_ids.tolist())
    return found


def crossing(rate: float, hidden: float, seconds: float = 4.0) -> tuple[list[Poses], list[list[int]]]:
    """Two people walk through each other with noise, listed in changing order, and their true order.

    The one behind is not found while the distance is below `hidden` px.
    """
    rng = np.random.default_rng(5)
    scenes, truth = [], []
    for i in range(round(seconds * rate)):
        way = 100 * i / rate
        pair = [walker(100 + way), walker(500 - way, 97, body=LEFT, size=0.97)]
        noisy = [replace(p, xy=p.xy + rng.normal(0, 1.5, p.xy.shape), box=p.box + rng.normal(0, 1.5, 4)) for p in pair]
        shown = [0] if abs(400 - 2 * way) < hidden else [0, 1] if rng.random() < 0.5 else [1, 0]
        scenes.append(scene(*(noisy[k] for k in shown)))
        truth.append([k + 1 for k in shown])
    return scenes, truth


@pytest.mark.parametrize("hidden", [0, 20, 60])
@pytest.mark.parametrize("rate", [10, 25, 60])
def test_tracker_keeps_the_ids_of_people_who_walk_through_each_other(rate: float, hidden: float) -> None:
    scenes, truth = crossing(rate, hidden)
    found = follow(scenes, rate)
    assert found == [[found[0][k - 1] if truth[0] == [1, 2] else found[0][2 - k] for k in row] for row in truth]


def test_tracker_keeps_the_others_ids_when_someone_leaves() -> None:
    three = [walker(100), walker(220), walker(340)]
    scenes = [scene(*three)] * 10 + [scene(three[0], three[2])] * 40 + [scene(three[2], three[0])] * 10
    assert follow(scenes) == [[1, 2, 3]] * 10 + [[1, 3]] * 40 + [[3, 1]] * 10


def test_tracker_remembers_people_for_a_second() -> None:
    def away(frames: int) -> list[Poses]:
        there = [scene(walker(100), walker(300 + 2 * i)) for i in range(60)]
        return there[:10] + [scene(walker(100))] * frames + there[10 + frames :]

    assert follow(away(20))[-1] == [1, 2]
    assert follow(away(40))[-1] == [1, 3]
    assert follow(away(20), rate=10)[-1] == [1, 3]  # seconds count, not frames


def test_tracker_follows_over_frames_that_are_far_apart() -> None:
    assert follow([scene(walker(100), walker(300))] * 4, rate=0.5) == [[1, 2]] * 4
    assert follow([scene(walker(100)), scene(), scene(walker(100))], rate=0.5) == [[1], [], [2]]


def test_tracker_keeps_the_first_id_of_a_person_detected_twice() -> None:
    usual = [scene(walker(100 + 4 * i)) for i in range(30)]
    double = [scene(walker(100 + 4 * 12, 103, size=0.7, box_score=0.3), walker(100 + 4 * 12))]
    found = follow([*usual[:12], *double, *usual[13:]])
    assert found[12][1] == 1
    assert found[13:] == [[1]] * 17


def test_tracker_lets_confident_detections_choose_first() -> None:
    found = follow([scene(walker(100))] * 5 + [scene(walker(100, box_score=0.3), walker(102))])
    assert found[-1] == [2, 1]
    assert follow([scene(walker(100, box_score=0.3))] * 5) == [[1]] * 5


def test_tracker_brings_nobody_back_for_a_second_box_on_a_passer_by() -> None:
    def passing(i: int) -> Poses:
        return walker(360 - 4 * i, 110)

    scenes = [scene(walker(300), passing(i)) for i in range(10)]
    scenes += [scene(passing(i)) for i in range(10, 14)]
    scenes += [scene(passing(14), walker(303, 106, box_score=0.3))]
    scenes += [scene(passing(i), walker(300)) for i in range(15, 25)]
    found = follow(scenes)
    assert [row[:1] for row in found[10:]] == [[2]] * 15
    assert [row[1] for row in found[14:]] == [3] + [1] * 10


def test_tracker_gives_new_ids_after_a_scene_change() -> None:
    before, after = scene(walker(100), walker(300)), scene(walker(200, 20), walker(420, 10))
    assert follow([before] * 5 + [after] * 5) == [[1, 2]] * 5 + [[3, 4]] * 5


def test_tracker_repeats_itself_on_smoothed_poses() -> None:
    scenes, _ = crossing(25, 30)
    first = follow(scenes)
    assert first == follow(scenes)
    tracker = Tracker()
    saved = [replace(p, raw=p.xy, xy=p.xy + 50) for p in scenes]  # smoothed, with what was measured
    assert [tracker(frame_poses(p, i, i / 25)).people.track_ids.tolist() for i, p in enumerate(saved)] == first


def test_tracker_takes_empty_frames_and_frames_without_times() -> None:
    tracker = Tracker()
    assert follow([scene(), scene(walker(100)), scene(), scene(walker(100))], tracker=tracker) == [[], [1], [], [1]]
    timeless = [Tracker()(frame_poses(scene(walker(100)), i)).people for i in range(3)]
    assert [p.track_ids.tolist() for p in timeless] == [[1]] * 3
    unknown = replace(scene(walker(100)), score=np.zeros((1, K), np.float32))
    assert follow([unknown] * 3) == [[1]] * 3


def test_boxes_from_keypoints_surround_them() -> None:
    people = scene(walker(100), walker(635, 300))
    low, high = people.xy.min(axis=1), people.xy.max(axis=1)
    found = boxes_from_keypoints(people, (640, 360))
    edge = 0.09 * (high - low)[0].max()
    assert_allclose(found.xyxy[0], [*(low[0] - edge), *(high[0] + edge)], rtol=1e-5)
    assert found.xyxy[1, 2:].tolist() == [640, 360]
    assert_array_equal(found.score, people.box_score)


def test_boxes_from_keypoints_of_people_who_hardly_show() -> None:
    poses = walker(100)
    score = np.zeros((1, K), np.float32)
    score[0, :2] = 0.9
    assert_array_equal(boxes_from_keypoints(replace(poses, score=score), (640, 360)).xyxy, poses.box)
    assert len(boxes_from_keypoints(walker(900), (640, 360))) == 0
    assert len(boxes_from_keypoints(Poses.none(), (640, 360))) == 0


BODIES = st.builds(
    walker, st.floats(0, 640), st.floats(0, 260), body=st.sampled_from([RIGHT, LEFT]), size=st.floats(0.2, 2),
    box_score=st.floats(0.05, 1),
)  # fmt: skip
SCENES = st.lists(st.lists(BODIES, max_size=5).map(lambda people: scene(*people)), min_size=1, max_size=6)


@given(SCENES, st.sampled_from([0.5, 5.0, 25.0]))
def test_tracker_gives_everyone_an_id_and_counts_new_ones_on(scenes: list[Poses], rate: float) -> None:
    highest = 0
    for track_ids in follow(scenes, rate):  # which holds that none comes twice in a frame
        new = [track_id for track_id in track_ids if track_id > highest]
        assert new == list(range(highest + 1, highest + 1 + len(new)))
        assert min(track_ids, default=1) >= 1
        highest += len(new)


@given(SCENES, st.randoms(use_true_random=False))
def test_tracker_ids_do_not_depend_on_the_order_of_people(scenes: list[Poses], random: Random) -> None:
    noise = np.random.default_rng(random.randrange(100))  # no two ways to pair people are equally good
    scenes = [replace(s, box=(s.box + noise.uniform(-1, 1, s.box.shape)).astype(np.float32)) for s in scenes]
    *earlier, last = scenes
    order = random.sample(range(len(last)), len(last))
    found, moved = follow(scenes)[-1], follow([*earlier, last[order]])[-1]
    known = max((track_id for track_ids in follow(scenes)[:-1] for track_id in track_ids), default=0)
    assert sorted(found) == sorted(moved)
    for track_id, other in zip([found[i] for i in order], moved, strict=True):
        assert track_id == other or min(track_id, other) > known  # new ones are numbered as they are listed


def test_tracker_follows_nobody_into_another_scene() -> None:
    tracker = Tracker()
    found = []
    for i, number in enumerate([0, 0, 1, 1, 2]):
        each = frame_poses(scene(walker(100)), i, i / 25)
        found.append(tracker(replace(each, frame=replace(each.frame, scene=number))).people.track_ids.tolist())
    assert found == [[1], [1], [2], [2], [3]]
