"""What nets lose when they are computed less exactly, as it was measured; "auto" goes by that."""

from pathlib import Path

from hrpose_cli.exported import EXPORTED, read_metadata
from hrpose_cli.fetch import digest

# By the SHA-256 of a file of weights: average precision on coco_dev (208 held-out pictures) in fp32, minus
# that in each precision; of joints with ground-truth boxes and flip test, of a detector's boxes for itself.
# What is not here was not measured.
LOSSES: dict[str, dict[str, float]] = {
    # lite-hrnet-256x192: .6793 in fp32
    "bd16c2d8b7f53d729169a235a2d61485041984c3ebc98e3dca74680126b274b1": {"bf16": 0.0001, "int8": 0.0077},
    # hrnet-small-256x192: .3613 in fp32
    "1c732c4577636e9fb7559667539fd1d967a4395e8ca55ef885908767343b5ab4": {"bf16": -0.0007, "int8": 0.0016},
    # person-yolo11n: .5191 in fp32
    "fa748227d8ca16068e0613fe2ee8c5faad0139b7f3a8bded30ebe8ffac0565d6": {"bf16": 0.0005, "int8": 0.0095},
}
# The most that "auto" gives away for speed.
ALLOWED = {"fp32": 0.0, "fp16": 0.001, "bf16": 0.001, "int8": 0.005}


def measured(path: Path) -> dict[str, float]:
    """What the net in `path` was measured to lose, by precision."""
    return LOSSES.get(source(path), {})


def harmless(path: Path) -> frozenset[str]:
    """The precisions in which the net in `path` was measured to lose no more than ALLOWED."""
    lost = measured(path) | {"fp32": 0.0}
    return frozenset(precision for precision, loss in lost.items() if loss <= ALLOWED[precision])


def source(path: Path) -> str:
    """The SHA-256 of the weights in `path`, or of those that an exported net was made of."""
    return read_metadata(path).get("weights_sha256", "") if path.suffix in EXPORTED else digest(path)
