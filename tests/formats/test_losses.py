"""One line about what a conversion loses."""

from hrpose_cli.formats.losses import LOSSES, describe_losses
from hrpose_cli.formats.pose_file import POSE_FORMATS


def test_describe_losses_lists_what_the_source_has_and_the_target_lacks() -> None:
    assert describe_losses("jsonl", "npz") == describe_losses("parquet", "jsonl") == ""
    assert describe_losses("csv", "coco") == (
        "coco has no place for digits beyond the third decimal; "
        "csv does not hold everything: boxes are drawn around the keypoints and score 1, image sizes are 0"
    )
    assert describe_losses("openpose", "csv", ["the neck"]) == (
        "left out of openpose: the neck; csv has no place for frames without people"
    )
    assert LOSSES.keys() <= POSE_FORMATS.keys()
