"""The people of annotation files, each cut once as a patch larger than the box."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrpose_cli.coco_reader import is_labelled
from hrpose_cli.estimation import crop_bounds, warp_into_crop
from hrpose_cli.geometry import Size, box_regions, invert_affines, region_affines, transform_points
from hrpose_cli.media import read_image
from hrpose_cli.outputs import atomic_write
from hrpose_cli.skeletons import Skeleton
from hrpose_cli.training.annotations import AnnotationSource, check_labelled, read_annotated, read_labels
from hrpose_cli.training.losses import keypoint_weights

_PATCH_WIDTHS = 2.0  # side of a patch in widths of the padded box: room to turn, shift and zoom out


@dataclass(frozen=True)
class PeopleDataset:
    """N people. All patches have the same side P; the person's padded box is in the middle."""

    patches: Tensor  # (N, P, P, 3) uint8
    keypoints: Tensor  # (N, K, 2) float32, patch px
    labelled: Tensor  # (N, K) bool, by an annotator
    weight: Tensor  # (N, K) float32, weight in the loss; 0: unknown keypoint
    names: tuple[str, ...]  # (N,) image files
    key: str = ""  # hash of all that the people depend on

    def __len__(self) -> int:
        return len(self.names)

    @property
    def side(self) -> int:
        """Side P of the patches."""
        return self.patches.shape[1]

    @property
    def width(self) -> float:
        """Width of every padded box, in patch px."""
        return self.side / _PATCH_WIDTHS

    def to(self, device: str) -> PeopleDataset:
        """A copy with the patches on `device`; the rest is small and stays."""
        return replace(self, patches=self.patches.to(device))

    def part(self, keep: Tensor) -> PeopleDataset:
        """The people at the indices `keep`."""
        names = tuple(self.names[int(i)] for i in keep)
        return PeopleDataset(
            self.patches[keep], self.keypoints[keep], self.labelled[keep], self.weight[keep], names, self.key
        )


def load_people(
    sources: Sequence[AnnotationSource],
    crop: Size,
    skeleton: Skeleton,
    cache: Path,
    *,
    occluded: float = 1.0,
    by_keypoint: bool = False,
) -> PeopleDataset:
    """Load the labelled people of `sources` for nets whose input is `crop` (width, height).

    occluded: the weight of keypoints labelled as occluded. by_keypoint: weigh keypoints by
    `Skeleton.keypoint_weights`.

    The patches are kept in the folder `cache` and read from there the next time. All processes of
    one training map the same memory.
    """
    key = _fingerprint(sources, crop, skeleton)
    patches, labels = cache / f"people-{key}.npy", cache / f"labels-{key}.npz"
    if not labels.is_file():
        _write_people(sources, crop, skeleton, patches, labels)
    with np.load(labels) as stored:
        keypoints, visible, trust = (torch.from_numpy(stored[name]) for name in ("keypoints", "visible", "trust"))
        names = tuple(stored["names"].tolist())
    # Mapped copy-on-write, since torch has no read-only tensors; nobody writes.
    mapped = torch.from_numpy(np.load(patches, mmap_mode="c"))
    more = torch.tensor(skeleton.keypoint_weights) if by_keypoint else None
    weight = keypoint_weights(visible, occluded=occluded, by_keypoint=more) * trust[:, None]
    return PeopleDataset(mapped, keypoints, visible > 0, weight, names, key)


def _fingerprint(sources: Sequence[AnnotationSource], crop: Size, skeleton: Skeleton) -> str:
    """Eight digits that change with all that the patches depend on, but for the content of the images.

    Checking those would need the annotation files, which take longer to read than the patches.
    """
    files = [
        (str(s.annotations.resolve()), s.annotations.stat().st_mtime_ns, s.trust, str(s.images and s.images.resolve()))
        for s in sources
    ]
    facts = json.dumps([files, crop, skeleton.name, _PATCH_WIDTHS])
    return hashlib.sha256(facts.encode()).hexdigest()[:8]


def _write_people(
    sources: Sequence[AnnotationSource], crop: Size, skeleton: Skeleton, patches: Path, labels: Path
) -> None:
    """Cut all people and write both files; the labels come last and mark both as complete."""
    plans = [list(_read_labelled(source, skeleton)) for source in sources]
    check_labelled([each for plan in plans for each in plan], sources, skeleton)
    count = sum(len(rows) for plan in plans for _, rows in plan)
    side = round(crop[0] * _PATCH_WIDTHS)
    keypoints, visible = np.zeros((count, len(skeleton), 2), np.float32), np.zeros((count, len(skeleton)), np.float32)
    trust, names, n = np.zeros(count, np.float32), [], 0
    with atomic_write(patches) as temporary:
        stored = np.lib.format.open_memmap(temporary, "w+", np.uint8, (count, side, side, 3))
        for source, plan in zip(sources, plans, strict=True):
            for path, rows in plan:
                image = read_image(path)
                for row in rows:
                    stored[n], keypoints[n], visible[n] = _cut_patch(image, row, crop, side)
                    trust[n] = source.trust
                    names.append(path.name)
                    n += 1
        stored.flush()
        del stored
    with atomic_write(labels) as temporary:
        np.savez(temporary, keypoints=keypoints, visible=visible, trust=trust, names=np.array(names))


def _read_labelled(source: AnnotationSource, skeleton: Skeleton) -> Iterator[tuple[Path, list[Any]]]:
    """Each image with its people who have a box and a labelled keypoint."""
    for path, _, everyone in read_annotated(source, skeleton, boxed=True):
        if rows := list(filter(is_labelled, everyone)):
            yield path, rows


def _cut_patch(image: Any, row: Any, crop: Size, side: int) -> tuple[Any, Any, Any]:
    """Cut the patch (side, side, 3) of one annotation; also its keypoints (K, 2) in patch px and v (K,)."""
    x, y, w, h = row["bbox"]
    center, region = box_regions([[x, y, x + w, y + h]], crop)
    to_patch = region_affines(center, np.repeat(region[:, :1] * _PATCH_WIDTHS, 2, axis=1), (side, side))
    patch = np.zeros((side, side, 3), np.uint8)
    warp_into_crop(patch, image, to_patch[0], crop_bounds(invert_affines(to_patch), (side, side))[0])
    labels = read_labels(row)
    return patch, transform_points(to_patch[0], labels[:, :2]), labels[:, 2]
