"""The information that a pose format has no place for, and that a conversion therefore loses."""

from __future__ import annotations

from collections.abc import Sequence

BOXES, SIZES = "boxes and their scores", "image sizes"
TRACK_IDS, TIMES = "track ids", "times"
_SCORES, _RAW, _FILLED, _SIGMA = "scores", "raw keypoints", "marks of filled keypoints", "sigmas"
_NAMES = "image names"
_CLIP = (BOXES, _SIGMA, SIZES, "the frame rate", "what made the poses")
_BOX_SCORES = "box scores"
_DIGITS = "digits beyond the third decimal"
_LABELS = (_SIGMA, _RAW, _FILLED, TIMES, "the frame rate", "what made the poses")  # of labelling tools
LOSSES = {  # by format; others hold everything
    "coco": (_SIGMA, _DIGITS),
    "cvat": (_SIGMA, _DIGITS),
    "csv": (*_CLIP, "frames without people"),
    "netcdf": (_NAMES, "the order of people in a frame"),
    "trc": (*_CLIP, _NAMES, _SCORES, _RAW, _FILLED, _DIGITS),
    "label-studio": (*_LABELS, TRACK_IDS, _DIGITS),
    "yolo-pose": (*_LABELS, TRACK_IDS, _SCORES, _BOX_SCORES, _DIGITS),
    "openpose": (*_CLIP, _NAMES, _RAW, _FILLED, TIMES),
}
# What readers put in place of information that their format lacks.
_REPLACEMENTS = {
    _SCORES: "known keypoints score 1",
    _BOX_SCORES: "boxes score 1",
    BOXES: "boxes are drawn around the keypoints and score 1",
    SIZES: "image sizes are 0",
}


def describe_losses(source: str, target: str, unread: Sequence[str] = ()) -> str:
    """One line about the information that a conversion loses or makes up; empty if there is none.

    source, target: names of formats. unread: the parts of the source file that its reader leaves out.
    """
    source_lacks, target_lacks = LOSSES.get(source, ()), LOSSES.get(target, ())
    lost = [each for each in target_lacks if each not in source_lacks]
    parts = [f"left out of {source}: {', '.join(unread)}"] * bool(unread)
    parts += [f"{target} has no place for {', '.join(lost)}"] * bool(lost)
    parts += filter(None, [describe_replacements(source, target_lacks)])
    return "; ".join(parts)


def describe_replacements(source: str, unused: Sequence[str] = ()) -> str:
    """One line about what is made up for facts that a format lacks, unless they are `unused`; empty for none."""
    made = [text for each, text in _REPLACEMENTS.items() if each in LOSSES.get(source, ()) and each not in unused]
    return f"{source} does not hold everything: {', '.join(made)}" if made else ""
