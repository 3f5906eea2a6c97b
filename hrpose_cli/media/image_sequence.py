"""A folder of numbered images as a clip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from hrpose_cli.errors import MediaError
from hrpose_cli.media.clip import WHOLE_CLIP, Clip, ClipSource, Trim, VideoFrame, is_in_trim
from hrpose_cli.media.container import media_errors
from hrpose_cli.media.find import describe_left_out, expand_input, folder_name
from hrpose_cli.media.images import read_image

_DEFAULT_RATE = Fraction(30)


class ImageSequence(ClipSource):
    """The images of a folder, a glob or a pattern like img_%04d.png, in the order of their numbers.

    Like `VideoReader`, with `rate` images per second (30 if None, and a note says so). A number that
    is missing leaves no gap in time; a note says that too. MediaError for an image that cannot be
    read or has another size than the first.
    """

    def __init__(self, what: str, *, rate: Fraction | None = None, trim: Trim = WHOLE_CLIP) -> None:
        self.name = folder_name(what)
        rate_used = rate or _DEFAULT_RATE
        with media_errors(what, "no images that can be read"):
            names, left_out = expand_input(what, recursive=False)
            self._kept = [(i, Path(n)) for i, n in enumerate(names) if is_in_trim(i / rate_used, trim)]
            if not self._kept:
                raise MediaError(f"{what}: none of its {len(names)} images lies in the time asked for")
            first = read_image(self._kept[0][1])
        duration = len(self._kept) / rate_used
        size = (first.shape[1], first.shape[0])
        self.clip = Clip(size, rate_used, 1 / rate_used, len(self._kept), duration=duration)
        self.notes = [] if rate else [f"images have no times: taken as {_DEFAULT_RATE} per second"]
        self.notes += describe_left_out(left_out)
        if missing := _missing_numbers(names):
            self.notes.append(f"{missing} numbers are missing: no gap is left for them")

    def __iter__(self) -> Iterator[VideoFrame]:
        width, height = self.clip.size
        for pts, (index, path) in enumerate(self._kept):
            with media_errors(str(path), "an image that cannot be read"):
                image = read_image(path, on_note=lambda _: None)  # what the first frame said holds for all
            if image.shape[:2] != (height, width):
                got = f"{image.shape[1]}x{image.shape[0]}"
                raise MediaError(f"{path} is {got}, but the first image {width}x{height}: frames need one size")
            yield VideoFrame(image, index, float(index / self.clip.rate), path.name, pts=pts)


def _missing_numbers(names: list[str]) -> int:
    """Count the numbers between the first and the last that have no image; 0 if names have no numbers."""
    numbers = [int(found[-1]) for name in names if (found := re.findall(r"\d+", Path(name).stem))]
    if len(numbers) != len(names):
        return 0
    return max(numbers[-1] - numbers[0] + 1 - len(numbers), 0)
