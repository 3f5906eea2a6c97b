"""Images found by the names of another folder or system, and never one for another."""

from pathlib import Path
from unicodedata import normalize

import pytest

from hrpose_cli.coco_reader.images import PathIndex, describe_missing, find_image_folder, find_images
from hrpose_cli.errors import InputError


@pytest.mark.parametrize("place", ["annotations/images", "annotations", "val2017", "images/val2017", "images"])
def test_find_image_folder_looks_beside_the_annotations(tmp_path: Path, place: str) -> None:
    annotations = tmp_path / "annotations" / "person_keypoints_val2017.json"
    for folder in (annotations.parent, tmp_path / place):
        folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "b.jpg").touch()
    assert find_image_folder(annotations, ["a.jpg", "b.jpg", "c.jpg"]) == tmp_path / place
    with pytest.raises(InputError, match=r"val2017\.json: none of its 1 images, such as a\.jpg, .* use --images DIR"):
        find_image_folder(annotations, ["a.jpg"])
    with pytest.raises(InputError, match=r"such as a\.jpg, is in nowhere: is it the right folder\?$"):
        find_image_folder(annotations, ["a.jpg"], Path("nowhere"))


def test_long_names_are_cut_in_messages(tmp_path: Path) -> None:
    names = [letter * 5000 for letter in "ab"]
    with pytest.raises(InputError) as caught:
        find_image_folder(tmp_path / "val2017.json", names)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))
    assert len(describe_missing(names, 2, tmp_path)) < 300 + len(str(tmp_path))


KNOWN = [
    "a/0001.jpg",
    "b/0001.jpg",
    "b/c/2.jpg",
    "d/c/2.jpg",
    "e/3.jpg",
    "http://host/f/4.jpg?size=1",
    "\u00e9.jpg",
    "x/z/7.jpg",
    "z/7.jpg",
]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("x/a/0001.jpg", "a/0001.jpg"),
        (r"C:\photos\b\0001.jpg", "b/0001.jpg"),
        ("/data/d/c/2.jpg", "d/c/2.jpg"),
        ("elsewhere/3.jpg", "e/3.jpg"),
        ("./4.jpg", "http://host/f/4.jpg?size=1"),
        ("e\u0301.jpg", "\u00e9.jpg"),
        ("y/z/7.jpg", "z/7.jpg"),  # and not x/z/7.jpg, of another folder
        ("z/7.jpg", "z/7.jpg"),
        ("http://[::1/5.jpg", None),
        ("", None),
        ("0001.jpg", InputError),
        ("c/0001.jpg", InputError),
        ("c/2.jpg", InputError),
    ],
)
def test_path_index_takes_the_longest_common_end(name: str, found: object) -> None:
    got = PathIndex.of(KNOWN).find(name)
    assert isinstance(got, InputError) if found is InputError else got == found


def test_path_index_gives_a_known_path_to_the_closest_name_only() -> None:
    assert PathIndex.of(["b/1.jpg"]).find_all(["a/1.jpg", "x/b/1.jpg"]) == {"a/1.jpg": None, "x/b/1.jpg": "b/1.jpg"}
    unclear = PathIndex.of(["1.jpg"]).find_all(["a/1.jpg", "b/1.jpg"])
    assert all(str(error) == "1.jpg may be a/1.jpg or b/1.jpg: give it its folder" for error in unclear.values())


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.jpg", "a.jpg"),
        ("sub/a.jpg", "sub/a.jpg"),
        ("sub/a.jpg", r"sub\a.jpg"),
        ("sub/a.jpg", "/data/upload/sub/a.jpg"),
        ("a.jpg", "/data/upload/3/a.jpg"),
        ("a.jpg", r"D:\labels\a.jpg"),
        ("a b.jpg", "https://host/x/a%20b.jpg?token=1"),
        (normalize("NFD", "\u00e9.jpg"), "\u00e9.jpg"),
        ("\u00e9.jpg", normalize("NFD", "\u00e9.jpg")),
        ("a.jpg", "/data/upload/3/ab12cd34-a.jpg"),
        ("ab12cd34-a.jpg", "https://host/data/upload/3/ab12cd34-a.jpg"),
    ],
)
def test_find_images_knows_names_of_other_systems(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert {key: path.resolve() for key, path in find_images(tmp_path, [name, "other.jpg"]).items()} == {
        name: (tmp_path / file).resolve()
    }


def test_find_images_takes_no_image_for_another(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    assert find_images(tmp_path, ["a/1.jpg", "b/1.jpg"]) == {}
    assert find_images(tmp_path, ["b/1.jpg", "1.jpg", "y\0.jpg", ""]) == {"1.jpg": tmp_path / "1.jpg"}
    assert find_images(tmp_path, ["ab12cd34-1.jpg", "1.jpg"]) == {"1.jpg": tmp_path / "1.jpg"}
    assert find_images(tmp_path, ["ab12cd34-1.jpg", "00000000-1.jpg"]) == {}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.jpg").touch()
    assert find_images(tmp_path, ["a/1.jpg", "b/1.jpg"]) == {
        "a/1.jpg": tmp_path / "1.jpg",
        "b/1.jpg": tmp_path / "b" / "1.jpg",
    }


def test_describe_missing_names_a_few() -> None:
    assert describe_missing(["a", "b", "c", "d"], 9, Path("f")) == "4 of 9 images are not in f: a, b, c and 1 more"
    assert describe_missing(["a"], 9, Path("f")) == "1 of 9 images are not in f: a"
