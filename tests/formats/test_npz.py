"""Arrays of NumPy."""

import json
from pathlib import Path

import numpy as np

from hrpose_cli.skeletons import COCO
from tests.formats.builders import clip, save


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
