"""Skeletons as data."""

import json

from hrpose_cli.skeletons import CROWDPOSE
from tests.reference import FOLDER

AUTHORS = json.loads((FOLDER / "crowdpose_eval.json").read_text())


def test_crowdpose_has_the_keypoints_of_the_annotations() -> None:
    assert list(CROWDPOSE.keypoints) == AUTHORS["gt"]["categories"][0]["keypoints"]
