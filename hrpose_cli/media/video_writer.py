"""A copy of a clip with new images: same frames, times, rate, colours, pixel shape and audio."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from hrpose_cli.errors import MediaError, UsageError
from hrpose_cli.media.clip import Clip
from hrpose_cli.media.encoding import DEFAULT_ENCODING, Encoding
from hrpose_cli.media.gif import GIF_TICK, GifTimes, write_gif
from hrpose_cli.media.mux import mux_clip
from hrpose_cli.media.nut_pipe import FramePipe
from hrpose_cli.outputs import (
    atomic_write,
    check_not_inputs,
    claim,
    follow_links,
    part_path,
    remove_stale_files,
    temporary_path,
)
from hrpose_cli.poses import Image
from hrpose_cli.stopping import StopFlag
from hrpose_cli.streams import is_stream


class VideoWriter:
    """Writes images as a new version of `clip`; a context manager.

        with VideoReader(path) as source, VideoWriter(out, source.clip) as writer:
            for frame in source:
                writer.write(draw(frame.image), frame.pts)

    The suffix of `path` chooses the container: .mp4, .m4v, .mov, .mkv (all H.264), .webm (VP9) or
    .gif; a pipe or device without a suffix gets .mp4. `encoding` chooses the rest. With `encoding.alpha` the
    images are RGBA and become ProRes 4444 (.mov) or VP9 (.webm); `encoding.scale` is that of the
    file, not of the images that are written.

    The file is made when the block ends; missing folders are made too. After a run that `stop` has
    ended early it is called NAME.part.SUFFIX, and its audio ends with the images; an exception leaves no
    file. Afterwards `written` is its path, `notes` says what had to differ from the source, and `damage`
    what of the source could no longer be read. UsageError for a name that cannot be written; MediaError
    when ffmpeg or the disk fails.
    """

    def __init__(
        self, path: Path, clip: Clip, encoding: Encoding = DEFAULT_ENCODING, *, stop: StopFlag | None = None
    ) -> None:
        if path.is_dir():
            raise UsageError(f"{path} is a folder: name a file in it")
        check_not_inputs([path], [clip.path])
        self.path, self.clip = path, clip
        self.frames = 0
        self.notes: list[str] = []
        self.damage = ""
        self.written: Path | None = None
        self._encoding = encoding
        self._codec = encoding.codec_for(path)
        self._stop = stop or StopFlag()
        self._gif = GifTimes(clip) if path.suffix.lower() == ".gif" else None
        self._pipe: FramePipe | None = None
        self._last = -1  # pts
        self._claim = ExitStack()
        try:  # a name that cannot be written is reported before the work, not after it
            self._target = follow_links(path)
            self._part = None if is_stream(self._target) else part_path(self._target)
            self._images = temporary_path(self._target, f".images{self._suffix()}")
            remove_stale_files(self._target)
            if self._part:
                self._claim.enter_context(claim(self._part))
            self._images.touch()
        except OSError as error:
            self._claim.close()
            raise MediaError(f"{path} cannot be written: {error.strerror}") from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._pipe is not None:
                self._pipe.kill()
            self._images.unlink(missing_ok=True)
            self._claim.close()

    def write(self, image: Image, pts: int) -> None:
        """Add a frame, (H, W, 3) uint8 RGB or RGBA, at `pts` ticks of `clip.time_base`; pts must rise."""
        if pts <= self._last:
            raise ValueError(f"pts must rise from frame to frame, but {pts} follows {self._last}")
        if self._pipe is None:
            self._pipe = self._start((image.shape[1], image.shape[0]))
        ticks = pts if self._gif is None else self._gif.pts(pts)
        if ticks is not None:
            self._pipe.write(image, ticks)
        self._last = pts
        self.frames += 1

    def _suffix(self) -> str:
        """Suffix of the file for the images alone: MP4 has the finest times, but no transparent VP9 and no ProRes."""
        if self._codec.encoder == "prores_ks":
            return ".mov"
        return ".webm" if self._encoding.alpha else ".mp4"

    def _start(self, size: tuple[int, int]) -> FramePipe:
        encoding, tick = self._encoding, self.clip.time_base if self._gif is None else GIF_TICK
        new = encoding.size(self._codec, size)
        self.notes += encoding.notes(self._codec, new)
        arguments = encoding.arguments(self._codec, replace(self.clip, size=size), new)
        arguments += ["-fps_mode", "passthrough", "-enc_time_base", f"{tick.numerator}:{tick.denominator}"]
        return FramePipe([*arguments, f"file:{self._images}"], size, self.clip.rate, tick, alpha=encoding.alpha)

    def _finish(self) -> None:
        if self._pipe is None or not self.frames:
            if not self._stop.ended_early:
                raise MediaError(f"{self.path}: not one frame was written")
            return
        self._pipe.finish()
        target = self._part if self._part and self._stop.ended_early else self.path
        try:
            with atomic_write(target) as temporary:
                self._mux(temporary)
            if self._part and target != self._part:
                self._part.unlink()
        except OSError as error:
            raise MediaError(f"{target} cannot be written: {error.strerror}") from error
        self.written = target

    def _mux(self, target: Path) -> None:
        """Join the images with the audio and all else of the source."""
        if self._gif:
            write_gif(self._images, target, self._gif.final_delay)
            self.notes += self._gif.notes
            return
        plan = mux_clip(self._images, self.clip, target, self._encoding.container(self.path), end=self._audio_end())
        self.notes += plan.notes
        self.damage = plan.damage

    def _audio_end(self) -> Fraction | None:
        """Seconds at which the audio ends; None for its own end."""
        images_end = self._last * self.clip.time_base + 1 / self.clip.rate
        if self._stop.ended_early:
            return images_end
        return None if self.clip.end is None else max(self.clip.end, images_end)
