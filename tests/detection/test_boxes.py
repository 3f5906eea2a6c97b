from pathlib import Path
from typing import Any

import pytest

from hrpose_cli.detection.boxes import GivenBoxes, read_boxes
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.poses import Boxes, Frame
from tests.builders import boxes, frame
from tests.coco_reader.builders import dataset, written

NOBODY = Boxes.none()


def read(tmp_path: Path, content: object) -> GivenBoxes:
    return read_boxes(written(tmp_path / "boxes.json", content))


def watch(given: GivenBoxes, *frames: Frame, **options: Any) -> list[int]:
    """The number of boxes in each frame of one run."""
    return [len(found) for found in given.watch((given([one])[0] for one in frames), "frames", **options)]


@pytest.mark.parametrize(
    ("content", "names", "numbers"),
    [
        ([{"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], {}, {7: [[1, 2, 4, 6]]}),
        (
            dataset({"image_id": 7, "bbox": [1, 2, 3, 4]}, images=[{"id": 7, "file_name": "sub/a.jpg"}]),
            {"sub/a.jpg": 1},
            {0: [[1, 2, 4, 6]]},
        ),
        (
            [  # our own files: the score of a person is lower than that of the box
                {"image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 0.1, "box_score": 0.8},
                {"image_id": 7, "category_id": 1, "bbox": [5, 5, 2, 2], "score": 0.2, "box_score": 0.3},
            ],
            {},
            {7: [[0, 0, 2, 2], [5, 5, 7, 7]]},
        ),
        (
            [
                {"image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 0.1},
                {"image_id": 7, "category_id": 1, "bbox": [5, 5, 2, 2], "score": 0.9},  # the better one first
                {"image_id": 7, "category_id": 1, "bbox": [5, 5, 0, 2], "score": 0.9},  # no area
                {"image_id": 7, "category_id": 3, "bbox": [1, 1, 2, 2], "score": 0.9},  # a car
            ],
            {},
            {7: [[5, 5, 7, 7], [0, 0, 2, 2]]},
        ),
    ],
)
def test_read_boxes_takes_results_and_annotations(tmp_path: Path, content: object, names: dict, numbers: dict) -> None:
    given = read(tmp_path, content)
    assert {name: len(found) for name, found in given.by_name.items()} == names
    assert {i: found.xyxy.tolist() for i, found in given.by_index.items()} == numbers


def test_given_boxes_finds_boxes_by_name_number_or_index() -> None:
    one = boxes([0, 0, 0, 0])
    named, numbered = GivenBoxes({"a.jpg": one}, {3: one}), GivenBoxes({}, {12: one})
    assert len(named([frame(name="x/a.jpg")])[0]) == 1
    assert [len(b) for b in named([frame(index=3), frame(index=4)])] == [1, 0]  # of a video
    assert [len(b) for b in numbered([frame(index=9, name="000012.jpg"), frame(index=12, name="13.jpg")])] == [1, 0]
    for given, name in ((named, "b.jpg"), (named, "3.jpg"), (numbered, "a.jpg")):
        with pytest.raises(InputError, match="not in the box file"):
            given([frame(index=3, name=name)])


def test_given_boxes_tell_files_of_one_name_by_their_folders() -> None:
    one, two = boxes([0, 0, 1, 1]), boxes([0, 0, 1, 1], [0, 0, 2, 2])
    given = GivenBoxes({"a/1.jpg": one, "b\\1.jpg": two}, {})
    names = ["x/a/1.jpg", r"C:\b\1.jpg"]
    assert [len(found) for found in given([frame(name=name) for name in names])] == [1, 2]
    with pytest.raises(InputError, match=r"1\.jpg may be a/1\.jpg or b\\1\.jpg: name it with its folder"):
        given([frame(name="1.jpg")])
    assert list(GivenBoxes({"b/1.jpg": one}, {}).refuse(["a/1.jpg", "b/1.jpg"])) == ["a/1.jpg"]
    assert GivenBoxes({"b/1.jpg": one}, {}).refuse(["c/1.jpg"]) == GivenBoxes({}, {1: one}).refuse(["1.jpg"]) == {}


@pytest.mark.parametrize(
    ("given", "names", "message"),
    [
        (GivenBoxes({"a.jpg": NOBODY}, {0: NOBODY}), ["b.jpg", "c.jpg"], "none of the 2 images, such as b.jpg, is in"),
        (GivenBoxes({"a.jpg": NOBODY}, {0: NOBODY}), ["b.jpg"], "b.jpg is not in .* the numbers 0 to 0 (a.jpg)"),
        (GivenBoxes({}, {8: NOBODY, 9: NOBODY}), ["b.jpg", "0007.jpg"], "which knows the numbers 8 to 9"),
        (GivenBoxes({}, {8: NOBODY}), ["0007.jpg"], "0007.jpg is not in the box file, which knows the numbers 8 to 8"),
    ],
)
def test_given_boxes_of_other_images_are_one_error(given: GivenBoxes, names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(").replace(")", r"\)")):
        given.refuse(names)


def test_given_boxes_of_other_frames_are_one_error() -> None:
    given = GivenBoxes({}, {1000: NOBODY, 1059: NOBODY}, name="b.json")
    frames = [frame(index=i) for i in (30, 31)]
    message = "b.json has boxes for none of the frames 30 to 31: it knows the numbers 1000 to 1059"
    with pytest.raises(InputError, match=message):
        watch(given, *frames)
    assert len(watch(given, *frames, whole=False)) == 2


def test_given_boxes_leave_out_what_lies_outside_the_image(caplog: pytest.LogCaptureFixture) -> None:
    far = GivenBoxes({}, {0: boxes([64, 0, 90, 9], [-9, 0, -1, 9], [60, 40, 90, 90], [0, -9, 9, -1])})
    assert far([frame((64, 48))])[0].xyxy.tolist() == [[60, 40, 90, 90]]
    assert watch(far, frame((64, 48)), frame((64, 48), index=1)) == [1, 0]
    said = "boxes for 1 of 2 frames; left out 3 of 4 boxes, which lie outside their image"
    assert caplog.messages == [f"note: the box file: {said}"]


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["frame_000000.PNG", "frame_000001.PNG", "frame_000002.PNG"], [0, 1, 2]),
        (["out/clip2_0010.png", "out/clip2_0000.png", "out/clip2_0005.png"], [10, 0, 5]),
        (["001.png", "002.png", "003.png"], [0, 1, 2]),  # as ffmpeg counts them, which their ids do too
        (["002.png", "003.png", "004.png"], [2, 3, 4]),
        (["a.png", "b.png", "c.png"], [0, 1, 2]),
        (["clip2.mp4", "clip2.mp4", "clip2.mp4"], [0, 1, 2]),
    ],
)
def test_read_boxes_numbers_frames_by_name_or_order(tmp_path: Path, names: list[str], numbers: list[int]) -> None:
    images = [{"id": i, "file_name": name} for i, name in enumerate(names, start=1)]
    rows = [{"image_id": i, "bbox": [i, 0, 1, 1]} for i in (1, 2, 3)]
    given = read(tmp_path, {"images": images, "annotations": rows})
    assert {number: found.xyxy[0, 0] for number, found in given.by_index.items()} == dict(
        zip(numbers, (1, 2, 3), strict=True)
    )


def test_read_boxes_takes_the_frame_index_of_our_own_files(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": "walk.mp4", "frame_index": 4 * i} for i in (1, 2)]
    given = read(tmp_path, {"images": images, "annotations": [{"image_id": 2, "bbox": [0, 0, 1, 1]}]})
    assert {number: len(found) for number, found in given.by_index.items()} == {4: 0, 8: 1}
    assert given.by_name == {}


def test_given_boxes_match_annotated_images_by_name_and_else_by_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"image_id": "9", "bbox": [0, 0, 1, 1]}]
    named = {"images": [{"id": 9, "file_name": "val/a.jpg"}, {"id": 8, "file_name": "val/b.jpg"}], "annotations": rows}
    names, ids = {70: "a.jpg", 71: "c.jpg"}, {1: 70, 9: 71}
    for content, want in ((named, {70: 1}), (rows, {71: 1})):
        assert {i: len(found) for i, found in read(tmp_path, content).match(names, ids).by_index.items()} == want
    assert not caplog.messages
    assert read(tmp_path, named).match({71: "x.jpg"}, ids).by_index.keys() == {71}
    assert "boxes.json calls images val/a.jpg, and not x.jpg: they are matched by their ids" in caplog.text
    with pytest.raises(InputError, match=r"x\.jpg is not in .*boxes\.json, which knows the numbers 0 to 1 \(val/a"):
        read(tmp_path, named).match({71: "x.jpg"}, {})


def test_boxes_made_in_images_of_another_size_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [
        {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48},
        {"id": 2, "file_name": "b.jpg", "width": None},
    ]
    given = read(tmp_path, {"images": images, "annotations": [{"image_id": 1, "bbox": [0, 0, 9, 9]}]})
    frames = [frame((64, 48), name="a.jpg"), frame((48, 64), name="a.jpg"), frame((48, 64), name="b.jpg")]
    assert watch(given, *frames) == [1, 1, 0]
    wrong = "1 of 3 frames have another size than it says: a.jpg is 48x64, but annotated as 64x48"
    assert [wrong in text for text in caplog.messages] == [True]
    matched = given.match({70: "a.jpg"}, {})
    for of_another_size in ((matched, 70), (given, 0)):  # of an evaluation, and of a clip
        caplog.clear()
        assert watch(of_another_size[0], frame((48, 64), index=of_another_size[1])) == [1]
        assert "1 of 1 frames have another size" in caplog.text


def test_lists_whose_image_ids_are_text_call_images_by_name(tmp_path: Path) -> None:
    rows = [{"image_id": f"frame_{i}.jpg", "bbox": [i, 0, 1, 1]} for i in (7, 8)]
    given = read(tmp_path, rows)
    assert given([frame(name="x/frame_8.jpg")])[0].xyxy[0, 0] == given([frame(index=8)])[0].xyxy[0, 0] == 8
    assert given.match({1: "frame_7.jpg"}, {}).by_index.keys() == {1}


def test_a_file_without_boxes_means_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = read(tmp_path, [])
    assert given.refuse(["a.jpg"]) == {}
    frames = [frame(name="a.jpg"), frame(index=3)]
    assert watch(given, *frames) == [0, 0]
    assert given.match({1: "a.jpg"}, {5: 1}).by_index == {}
    assert caplog.messages == [f"note: {tmp_path / 'boxes.json'} holds no boxes"]


def test_text_ids_without_a_number_number_no_frames(tmp_path: Path) -> None:
    rows = [{"image_id": "zzz", "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}] * 2
    with pytest.raises(
        InputError, match=r"boxes\.json has boxes for none of the frames 0 to 1: it knows no numbers \(zzz"
    ):
        watch(read(tmp_path, rows), frame(), frame(index=1))


def test_one_odd_name_is_said_to_leave_frames_in_the_order_of_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("f_000000.png", "f_000002.png", "other/f_000000.png")
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    read(tmp_path, dataset({"image_id": 0, "bbox": [1, 2, 3, 4]}, images=images))
    assert (
        "boxes.json: not all names number an image of its own: as frames they are taken in their order" in caplog.text
    )


def test_boxes_that_all_lack_an_area_are_an_error(tmp_path: Path) -> None:
    rows = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, -3, 4], "score": 0.5}] * 3
    with pytest.raises(FormatError, match="none of its 3 boxes has an area"):
        read(tmp_path, rows)
