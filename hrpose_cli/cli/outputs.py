"""Pictures in and out of `hrpose image`: names that never collide and never hit an input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from hrpose_cli.draw import DrawStyle, draw_heatmaps, draw_poses
from hrpose_cli.errors import HRPoseError, InputError
from hrpose_cli.media.pictures import PICTURE_SUFFIXES, read_picture, write_picture
from hrpose_cli.poses import Boxes, Frame, Poses

if TYPE_CHECKING:
    from hrpose_cli.estimators import TopDown

STDIN = "-"
LOSSY = {".jpg", ".jpeg"}


def read_frames(paths: Sequence[str], failed: Callable[[Exception], None]) -> Iterator[Frame]:
    """The pictures that can be read, numbered by their place in `paths`; the others are reported."""
    for index, path in enumerate(paths):
        try:
            source = sys.stdin.buffer.read() if path == STDIN else Path(path)
            yield Frame(read_picture(source, name=path), index, name=path)
        except HRPoseError as error:
            failed(error)


@dataclass(frozen=True)
class PictureOutputs:
    """What to write for each input, and where."""

    targets: Sequence[Path]  # one an input
    style: DrawStyle
    pictures: bool = True
    heatmaps: bool = False

    @classmethod
    def plan(
        cls, paths: Sequence[str], out: Path | None, style: DrawStyle, *, pictures: bool, heatmaps: bool
    ) -> PictureOutputs:
        """Raises InputError, before any work is done, if a name is impossible."""
        one_file = out is not None and len(paths) == 1 and out.suffix.lower() in PICTURE_SUFFIXES
        targets = [out] if one_file and out is not None else numbered(paths, out or Path(), style)
        clear = style.background == "transparent"
        for target in targets:
            if pictures and clear and target.suffix.lower() in LOSSY:
                raise InputError(f"{target} cannot be transparent: name a .png file")
            if pictures and any(p != STDIN and same(target, Path(p)) for p in paths):
                raise InputError(f"{target} is an input: choose another --out")
        return cls(targets, style, pictures, heatmaps)

    def write(self, frame: Frame, poses: Poses, estimator: TopDown) -> str:
        """Draw what was asked for; returns the names of the files for the summary."""
        target = self.targets[frame.index]
        written = []
        if self.pictures:
            write_picture(target, draw_poses(frame.image, poses, style=self.style))
            written.append(str(target))
        if self.heatmaps and len(poses):
            crops = estimator.cut([frame], [Boxes(poses.box, poses.box_score)], [(0, i) for i in range(len(poses))])
            for i, (crop, maps) in enumerate(zip(crops.images, estimator.heatmaps(crops).cpu().numpy(), strict=True)):
                panel = target.with_name(f"{target.stem.removesuffix('.pose')}.heatmaps-{i + 1}.jpg")
                write_picture(panel, draw_heatmaps(crop, maps, estimator.skeleton))
                written.append(str(panel))
        return ", ".join(written)


def numbered(paths: Sequence[str], folder: Path, style: DrawStyle) -> list[Path]:
    """NAME.pose.jpg or .png for each input; a name that comes again gets -2, -3, ..."""
    taken: set[str] = set()
    targets = []
    for path in paths:
        source = Path("stdin.jpg" if path == STDIN else path)
        suffix = ".jpg" if source.suffix.lower() in LOSSY and style.background != "transparent" else ".png"
        names = (f"{source.stem}{again}.pose{suffix}" for again in chain([""], (f"-{n}" for n in count(2))))
        name = next(name for name in names if name.casefold() not in taken)
        taken.add(name.casefold())
        targets.append(folder / name)
    return targets


def same(a: Path, b: Path) -> bool:
    """Whether both names lead to one file."""
    return a.resolve() == b.resolve() or (a.exists() and b.exists() and a.samefile(b))
