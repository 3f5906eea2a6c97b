"""Animated GIF: 256 colours for the whole clip, times in hundredths of a second, no audio."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from hrpose_cli.media.clip import Clip
from hrpose_cli.media.ffmpeg import run_ffmpeg
from hrpose_cli.outputs import temporary_path

GIF_TICK = Fraction(1, 100)
_SHORTEST_DELAY = 2  # ticks: what is shorter players show for ten


class GifTimes:
    """Converts the time stamps of a clip to those of a GIF, which begins at 0 and keeps the whole length."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._first: Fraction | None = None
        self._last = -_SHORTEST_DELAY  # ticks
        self._end = Fraction(0)  # seconds
        self.rounded = False
        self.dropped = 0

    def pts(self, pts: int) -> int | None:
        """Ticks of the next frame, or None if it comes too soon after the one before to be shown."""
        time = pts * self._clip.time_base
        self._first = time if self._first is None else self._first
        exact = (time - self._first) / GIF_TICK
        self._end = exact * GIF_TICK + 1 / self._clip.rate
        ticks = round(exact)
        if ticks - self._last < _SHORTEST_DELAY:
            self.dropped += 1
            return None
        self.rounded |= ticks != exact
        self._last = ticks
        return ticks

    @property
    def final_delay(self) -> int:
        """Ticks for which the last frame is shown."""
        return max(round(self._end / GIF_TICK) - self._last, _SHORTEST_DELAY)

    @property
    def notes(self) -> list[str]:
        notes = ["times are rounded to 1/100 s, as GIF wants them"] if self.rounded else []
        if self.dropped:
            notes.append(f"{self.dropped} frames left out: GIF shows at most 50 per second")
        has = [what for what, there in (("audio", self._clip.audio), ("subtitles", self._clip.subtitles)) if there]
        return notes + ([f"a GIF holds no {' or '.join(has)}"] if has else [])


def write_gif(images: Path, target: Path, final_delay: int) -> None:
    """Write the GIF in two passes: in one, ffmpeg would hold the whole clip in memory."""
    palette = temporary_path(images, ".png")
    source = ["-i", f"file:{images}"]
    try:
        run_ffmpeg([*source, "-vf", "palettegen", "-frames:v", "1", "-update", "1", "-f", "image2", f"file:{palette}"])
        use = ["-i", f"file:{palette}", "-lavfi", "[0:v][1:v]paletteuse", "-fps_mode", "passthrough"]
        run_ffmpeg([*source, *use, "-final_delay", str(final_delay), "-f", "gif", f"file:{target}"])
    finally:
        palette.unlink(missing_ok=True)
