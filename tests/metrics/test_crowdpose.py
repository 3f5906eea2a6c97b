"""CrowdPose's AP against the authors' code."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hrpose_cli.errors import FormatError
from hrpose_cli.metrics import coco, crowdpose
from hrpose_cli.skeletons import CROWDPOSE
from tests.coco_reader.builders import perfect, written
from tests.reference import FOLDER

AUTHORS = json.loads((FOLDER / "crowdpose_eval.json").read_text())


@pytest.fixture
def truth(tmp_path: Path) -> Any:
    return crowdpose.load_crowdpose(written(tmp_path / "gt.json", AUTHORS["gt"]))


def test_evaluate_crowdpose_matches_the_authors(truth: Any) -> None:
    numbers = crowdpose.evaluate_crowdpose(truth, AUTHORS["dt"])
    want = [*AUTHORS["stats"][:3], *AUTHORS["stats"][5:]]
    assert list(numbers) == [name for name in AUTHORS["stats_names"] if "unused" not in name]
    assert_allclose(list(numbers.values())[:6], want[:6], atol=1e-9)
    assert [round(value, 4) for value in list(numbers.values())[6:]] == want[6:]


def test_crowdpose_sigmas_give_the_authors_oks(truth: Any) -> None:
    from pycocotools.cocoeval import COCOeval

    index = coco._index_coco(truth)
    run = COCOeval(index, index.loadRes(deepcopy(AUTHORS["dt"])), "keypoints")
    run.params.kpt_oks_sigmas = np.array(CROWDPOSE.sigmas)
    run._prepare()
    for image, want in AUTHORS["oks"].items():
        assert_allclose(run.computeOks(int(image), 1), want, atol=1e-9)


def test_load_crowdpose_takes_the_area_from_the_box(tmp_path: Path) -> None:
    content = deepcopy(AUTHORS["gt"])
    for row in content["annotations"]:
        row["area"] = 7.0
    numbers = crowdpose.evaluate_crowdpose(
        crowdpose.load_crowdpose(written(tmp_path / "gt.json", content)), AUTHORS["dt"]
    )
    assert_allclose(numbers["AP"], AUTHORS["stats"][0], atol=1e-9)


def test_evaluate_crowdpose_of_the_truth_itself_is_1(truth: Any) -> None:
    assert set(crowdpose.evaluate_crowdpose(truth, perfect(truth)).values()) == {1.0}


def test_evaluate_crowdpose_gives_minus_1_for_a_class_without_images(truth: Any) -> None:
    numbers = crowdpose.evaluate_crowdpose(truth, perfect(truth), image_ids=[104, 105, 106])  # 0.2, 0.25, 0.5
    assert {name for name, value in numbers.items() if value == 1.0} == {*crowdpose._OVERALL, "AP medium"}
    assert numbers["AP easy"] == numbers["AP hard"] == -1


def test_evaluate_crowdpose_without_people_is_0(truth: Any) -> None:
    assert crowdpose.evaluate_crowdpose(truth, []) == dict.fromkeys(crowdpose._METRIC_NAMES, 0.0)


@pytest.mark.parametrize("drop", ["images/crowdIndex", "annotations/bbox", "annotations/iscrowd", "categories/id"])
def test_load_crowdpose_refuses_other_files(tmp_path: Path, drop: str) -> None:
    name, key = drop.split("/")
    content = deepcopy(AUTHORS["gt"])
    del content[name][0][key]
    with pytest.raises(FormatError, match=rf"gt\.json: {name}\[0\].* has no {key}"):
        crowdpose.load_crowdpose(written(tmp_path / "gt.json", content))
