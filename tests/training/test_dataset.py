import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from hrpose_cli.skeletons import COCO
from hrpose_cli.training.annotations import AnnotationSource
from hrpose_cli.training.dataset import _PATCH_WIDTHS, load_people


def test_load_people_cuts_patches_once_and_reads_them_from_the_cache(tmp_path: Path) -> None:
    keypoints = np.array([[40, 50, 2], [60, 90, 1], *[[0, 0, 0]] * 15], float)
    image = np.zeros((120, 100, 3), np.uint8)
    image[50, 40] = image[90, 60] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    person = {"image_id": 1, "category_id": 1, "iscrowd": 0, "area": 9, "bbox": [20, 20, 60, 80]}
    rows = [
        person | {"id": 1, "keypoints": keypoints.ravel().tolist()},
        person | {"id": 2, "keypoints": [0] * 51},
        person | {"id": 3, "keypoints": keypoints.ravel().tolist(), "iscrowd": 1},
    ]
    images = [{"id": 1, "file_name": "a.png", "width": 100, "height": 120}]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1}]}
    (tmp_path / "people.json").write_text(json.dumps(content))
    source = AnnotationSource(tmp_path / "people.json", trust=0.5)
    found = load_people([source], (96, 128), COCO, tmp_path / "cache")
    assert len(found) == 1
    assert found.labelled[0, :3].tolist() == [True, True, False]
    assert found.weight[0, :3].tolist() == [0.5, 0.5, 0]
    hidden = load_people([source], (96, 128), COCO, tmp_path / "cache", occluded=0.5)
    assert hidden.weight[0, :3].tolist() == [0.5, 0.25, 0]
    for k in (0, 1):
        x, y = found.keypoints[0, k].round().int().tolist()
        assert found.patches[0, y - 1 : y + 2, x - 1 : x + 2].max() > 60
    width = 80 * 0.75 * 1.25  # the padded box in image px
    assert_allclose(
        found.keypoints[0, 1] - found.keypoints[0, 0],
        np.array([20, 40]) * 96 * _PATCH_WIDTHS / (width * _PATCH_WIDTHS),
        rtol=1e-5,
    )
    (tmp_path / "a.png").unlink()
    again = load_people([source], (96, 128), COCO, tmp_path / "cache")
    assert_array_equal(again.patches, found.patches)
    (tmp_path / "others").mkdir()
    Image.new("RGB", (100, 120)).save(tmp_path / "others" / "a.png")
    others = load_people([replace(source, images=tmp_path / "others")], (96, 128), COCO, tmp_path / "cache")
    assert not others.patches.any()
