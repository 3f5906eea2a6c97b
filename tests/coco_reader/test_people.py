"""Annotation files in the forms that tools write: matched by what they mean, counted, or refused by name and value."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrpose_cli.coco_reader.people import check_coco, read_coco_file
from hrpose_cli.errors import FormatError
from hrpose_cli.metrics import evaluate_coco, load_coco
from hrpose_cli.metrics.coco import load_coco_content
from tests.coco_reader.builders import KEYPOINTS, dataset, image, perfect, person, result, written

INF, NAN = float("inf"), float("nan")
NAMED = {"id": 1, "name": "person"}


@pytest.mark.parametrize(
    "content",
    [
        dataset(person(0), person(1)),
        dataset(person(7), person(7, keypoints=[5, 6, 2] * 17)),
        dataset(person("a"), person(2)),
        dataset(person(image_id="1")),
        dataset(person(image_id=1.0)),
        dataset(person(image_id="1.0")),
        dataset(person(image_id="cat.7"), images=[image("cat.7"), image(2)]),
        dataset(person(image_id=2**80), images=[image(2**80), image(3)]),
        dataset(person(category_id=0), categories=[{"id": 0, "name": "Person"}]),
        dataset(person(category_id="2"), categories=[{"id": 1, "name": "dog", "keypoints": ["a"]}, NAMED | {"id": 2}]),
        dataset(person(category_id=4), categories=[{"id": 3, "name": "x"}, {"id": 4, "keypoints": ["k"] * 17}]),
        dataset(person(category_id=9), categories=[{"id": 9, "name": "skater"}]),
        dataset(person(category_id=5), categories=[]),
        dataset(person(iscrowd=False, num_keypoints=0)),
        dataset(person(num_keypoints=None), person(2, keypoints=None), person(3, keypoints=[])),
    ],
)
def test_people_are_found_whatever_their_ids_are(content: dict[str, Any]) -> None:
    truth = load_coco_content(content, Path("gt.json"))
    assert evaluate_coco(truth, perfect(truth))["AP"] == pytest.approx(1)


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(
    rows=ROWS,
    seed=st.permutations(range(4)),
    form=st.sampled_from([str, float, lambda i: i + 2**70, lambda i: f"x{i}"]),
)
def test_ap_is_the_same_under_other_ids(rows: list[tuple[int, int]], seed: list[int], form: Any) -> None:
    """Shuffled, renumbered, as text and beyond 64 bits: with distinct scores nothing but the ids can matter."""

    def score(ids: list[Any], first: int, order: int) -> dict[str, float]:
        people = [
            person(first + i, image_id=ids[at], keypoints=[v + shift if v != 2 else v for v in KEYPOINTS])
            for i, (at, shift) in enumerate(rows)
        ]
        content = dataset(*people[::order], images=[image(ids[i], file_name=f"{i}.jpg") for i in range(4)])
        truth = load_coco_content(content, Path("gt.json"))
        found = [result(image_id=number, score=1 - i / 10) for i, number in enumerate(truth.numbers.values())]
        return evaluate_coco(truth, sorted(found, key=lambda row: row["score"]))

    plain = score([0, 1, 2, 3], 1, 1)
    assert score([form(i) for i in range(4)], 0, 1) == plain
    assert sorted(score([seed[i] for i in range(4)], 7, -1).items()) == sorted(plain.items())


@pytest.mark.parametrize(
    ("content", "people", "note"),
    [
        (dataset(person(), person(2, image_id=77)), 1, "left out 1 of images that are not listed"),
        (
            dataset(person(), person(2, category_id=2), person(3, category_id=2), person(4, category_id=8),
                    categories=[{"id": 2, "name": "horse", "keypoints": ["h"] * 17}, NAMED]),
            1,
            "left out 2 of category horse, 1 of category 8",
        ),
        (dataset(person(), person()), 1, "left out 1 that repeat another"),
        (dataset(person(), images=[image(), image()]), 1, "left out 1 image entries that repeat another"),
        (dataset(person(num_keypoints=3)), 1, "num_keypoints is not the number of labelled keypoints in 1"),
        (dataset(person(category_id=3), categories=[]), 1, "everything is of category 3, and taken for people"),
        (dataset(person()), 1, ""),
    ],
)  # fmt: skip
def test_what_fits_nowhere_is_counted_in_one_note(
    content: dict[str, Any], people: int, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = check_coco(content, Path("gt.json"))
    file.note()
    assert len(file.people) == people
    assert len(caplog.messages) == bool(note)
    assert note in "".join(caplog.messages)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dataset(person(3, area=None)), r"annotations\[0\] \(id 3\): area is null, but must be a number from 0"),
        (dataset(person(area=-1)), "area is -1"),
        (dataset(person(area="12")), 'area is "12"'),
        (dataset(person(area=True)), "area is true"),
        (dataset(person(iscrowd=None)), "iscrowd is null, but must be 0 or 1"),
        (dataset(person(iscrowd=2)), "iscrowd is 2"),
        (dataset(person(), person(2, bbox=[1, 2, 3])), r"annotations\[1\] \(id 2\): bbox has 3 values, but must be 4"),
        (dataset(person(bbox=[1, 2, NAN, 4])), r"bbox\[2\] is NaN"),
        (dataset(person(bbox=[1, 2, 3, -INF])), r"bbox\[3\] is -Infinity"),
        (dataset(person(bbox=[1, 2, 1e38, 4])), r"bbox\[2\] is 1e\+38, but must be a number from -1e\+09 to 1e\+09"),
        (dataset(person(bbox=[0, 0, 10**400, 4])), r"bbox\[2\] is 1000"),
        (dataset(person(bbox=[[1], 2, 3, 4])), r"bbox\[0\] is \[1\]"),
        (dataset(person(bbox=7)), "bbox is 7"),
        (dataset(person(keypoints=[None, *KEYPOINTS[1:]])), r"keypoints\[0\] is null"),
        (dataset(person(), person(2, keypoints=KEYPOINTS[:48])), "keypoints has 48 values, but must be 51 numbers"),
        (dataset(person(keypoints=[KEYPOINTS])), "keypoints has 1 values"),
        (dataset(person(keypoints={"a": 1})), r'keypoints is \{"a": 1\}'),
        (dataset(person(keypoints=True)), "keypoints is true"),
        (dataset(person(image_id=None)), "image_id is null, but must be a whole number or text"),
        (dataset(person(image_id=INF)), "image_id is Infinity"),
        (dataset(person(image_id=1.5)), r"image_id is 1\.5"),
        (dataset(person(image_id=True)), "image_id is true"),
        (dataset(person(category_id=[])), r"category_id is \[\]"),
        (dataset({}), r"annotations\[0\] has no image_id"),
        (dataset({"image_id": 1}), r"annotations\[0\] has no category_id"),
        (dataset({"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}), "has no area"),
        (dataset(person(image_id=5)), r"image_id is 5, but must be that of a listed image \(1, \.\.\.\)"),
        (dataset(images=[image(file_name=3)]), r"images\[0\] \(id 1\): file_name is 3"),
        (dataset(images=[image(width=None)]), "width is null"),
        (dataset(images=[image(width=2**31)]), "width is 2147483648"),
        (dataset(images=[image(height=-5)]), "height is -5"),
        (dataset(images=[image(height=1e-320)]), "height is 1e-320, but must be 0, where it is unknown"),
        (dataset(images=[{"id": 1, "file_name": "a.jpg", "width": 1}]), "has no height"),
        (dataset(images=[image({})]), r"images\[0\] \(id {}\): id is {}"),
        (dataset(images=[image(), image("1", file_name="b.jpg")]), r"images\[1\] .*: id is \"1\", .* images\[0\] has"),
        (dataset(categories=[{"id": 1, "name": "x"}, {"id": 2, "name": None}]), 'None of "x", null is called person'),
        (dataset(categories=[{"name": "person"}]), r"categories\[0\] has no id"),
        (dataset(person(category_id=0)), r"category_id is 0, but must be that of a listed category \(1, \.\.\.\)"),
        (dataset(categories=[NAMED | {"keypoints": "nose"}]), 'keypoints is "nose", but must be a list of names'),
        (dataset(categories=[NAMED | {"keypoints": ["nose", 2]}]), r"keypoints\[1\] is 2, but must be a name"),
        (dataset(categories=[7]), r"categories\[0\] is 7, but must be an object"),
        (dataset() | {"annotations": [[{}]]}, r"annotations\[0\] is \[{}\], but must be an object"),
        (dataset() | {"images": 3}, "is no COCO annotation file: its images must be a list"),
        ({}, "its images must be a list"),
        ({"images": []}, "its annotations must be a list"),
        ([], "it is a plain list, which names no images"),
        ("3", "its images must be a list"),
        ("[" * 100_000, "should be annotations but is not JSON"),
        ("", "should be annotations but is not JSON"),
    ],
)  # fmt: skip
def test_wrong_values_are_named_with_file_and_row(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(FormatError, match=rf"gt\.json.*{message}") as error:
        load_coco(written(tmp_path / "gt.json", content))
    assert len(str(error.value).splitlines()) == 1


def test_read_coco_file_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    content = dataset(person(9, image_id=7), person(2, image_id=4), images=[image(7), image(4)])
    file = read_coco_file(written(tmp_path / "gt.json", content))
    assert file.image_numbers == [7, 4]
    assert [(row["id"], row["place"], row["image_id"]) for row in file.people] == [(1, 0, 7), (2, 1, 4)]
    assert {number: len(rows) for number, rows in file.by_image().items()} == {7: 1, 4: 1}
