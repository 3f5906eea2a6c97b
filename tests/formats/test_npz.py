"""Arrays of NumPy."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.formats.pose_file import read_pose_file
from hrpose_cli.skeletons import COCO
from tests.formats.builders import clip, same, save


def test_open_npz_writes_arrays_without_pickle(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", clip(2, 0, 1))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["xy"].shape == (3, 17, 2)
        assert arrays["xy"].dtype == np.float32
        assert arrays["track"].tolist() == [7, 10, 7]
        assert arrays["frame"].tolist() == [0, 0, 4]
        assert arrays["frames"].tolist() == [0, 2, 4]
        assert arrays["people"].tolist() == [2, 0, 1]
        assert arrays["sizes"].tolist() == [[640, 480]] * 3
        assert arrays["joints"].tolist() == list(COCO.keypoints)
        assert json.loads(str(arrays["header"]))["rate"] == "30000/1001"


def rewrite(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    """Replace members of the archive."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in (content | members).items():
            archive.writestr(name, data)


def npy(descr: str, shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("xy", npy("<f4", "(17000000000000,)"), r"xy.npy cannot be an array of float32 of shape \(17000000000000,\)"),
        ("xy", npy("<f4", "(-1, 17, 2)"), r"xy.npy cannot be an array of float32 of shape \(-1, 17, 2\)"),
        ("xy", npy("|V0", "(9,)"), "itemsize"),
        ("xy", npy("<f4", "(1L,"), "xy.npy is damaged"),
        ("xy", npy("<f4", f"({'9' * 5000},)"), "xy.npy is damaged"),
        ("xy", b"", "xy.npy is damaged"),
        ("names", npy("|O", "(3,)", b"cos\nsystem\n(S'true'\ntR."), "names.npy cannot be an array of object"),
    ],
)
def test_read_npz_believes_no_header_of_an_array(tmp_path: Path, member: str, content: bytes, words: str) -> None:
    save(tmp_path / "a.npz", clip(2, 0, 1))
    rewrite(tmp_path / "a.npz", {f"{member}.npy": content})
    with pytest.raises(FormatError, match=f"a.npz (cannot be used|is no NPZ file of hrpose): .*{words}") as caught:
        list(read_pose_file(tmp_path / "a.npz")[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"xy": np.zeros((3, 17, 2), np.complex64)}, "in row 0 of its frames: xy must be numbers"),
        ({"xy": np.zeros((3, 17), np.float32)}, "in row 0 of its frames: xy must be numbers"),
        ({"box": np.full((3, 4), "1.5")}, "in row 0 of its frames: box must be numbers.*'1.5'"),
        ({"score": np.zeros((4, 17), np.float32)}, "a row for each of its people"),
        ({"people": np.array([3, 1, -1])}, "a row for each of its people"),
        ({"people": np.array([[2], [0], [1]])}, "a row for each of its people"),
        ({"people": np.array([2.0, 0, 1])}, "a row for each of its people"),
        ({"names": np.array(["", ""])}, "a row for each of its people and frames"),
        ({"frames": np.array([0.0, 2, 4])}, "in row 0 of its frames: index must be a whole number"),
        ({"times": np.array([0, 0j, 0])}, "in row 0 of its frames: time must be a number of seconds, but is 0j"),
        ({"sizes": np.array([[[640], [480]]] * 3)}, r"size must be .* but is \(\[640\], \[480\]\)"),
        ({"names": np.array([b"", b"", b""])}, "name must be a file name"),
        ({"track": np.array([1.5, 2, 3])}, "track_ids must be numbers"),
        ({"names": np.full(3, 2**31, np.uint32).view("U1")}, "in row 0 of its frames: "),
        ({"people": np.array(3)}, "a row for each of its people"),
        ({"xy": np.array(3.0)}, "a row for each of its people"),
        ({"times": np.array(["x", "", ""])}, "in row 0 of its frames: time must be a number of seconds, but is 'x'"),
        ({"header": np.array("{}")}, "it has no 'version'"),
        ({"header": np.array("5")}, "its header must be an object, but is 5"),
        ({"header": np.zeros(9)}, "delimiter"),
        ({"xy": None, "box": None}, "it has no box.npy, xy.npy"),
    ],
)
def test_read_npz_names_the_array_that_is_wrong(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    save(tmp_path / "a.npz", clip(2, 0, 1))
    with np.load(tmp_path / "a.npz") as whole:
        np.savez(tmp_path / "a.npz", **{k: v for k, v in ({**whole} | arrays).items() if v is not None})
    with pytest.raises(FormatError, match=f"a.npz .*({words})"):
        list(read_pose_file(tmp_path / "a.npz")[1])


def test_read_npz_refuses_archives_that_numpy_does_not_make(tmp_path: Path) -> None:
    rewrite(save(tmp_path / "a.npz", clip(1)), {}, zipfile.ZIP_LZMA)
    with pytest.raises(FormatError, match="compressed in a way that NumPy does not use"):
        read_pose_file(tmp_path / "a.npz")


@pytest.mark.parametrize(("counts", "free"), [((2, 0, 1), 4000), ((0,) * 200, 400_000)])
def test_read_npz_checks_the_memory_before_it_unpacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: tuple[int, ...], free: int
) -> None:
    """Of people, and of frames without people, of which a small file can hold millions."""
    save(tmp_path / "a.npz", clip(*counts))
    monkeypatch.setattr("hrpose_cli.files.free_memory", lambda device: free)
    with pytest.raises(InputError, match=r"a.npz would take .* of memory"):
        read_pose_file(tmp_path / "a.npz")


def test_read_npz_takes_arrays_of_other_orders_and_kinds(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", clip(2, 0, 1))
    with np.load(tmp_path / "a.npz") as whole:
        arrays = {**whole, "xy": np.asfortranarray(whole["xy"], ">f8"), "people": whole["people"].astype(np.uint8)}
        arrays["box_score"] = np.asarray([0.5, 0.25, 1], np.float16)
        np.savez(tmp_path / "a.npz", **arrays)
    for got, want in zip(read_pose_file(tmp_path / "a.npz")[1], clip(2, 0, 1), strict=True):
        same(replace(got.people, box_score=want.people.box_score), want.people)
