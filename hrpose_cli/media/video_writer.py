"""A copy of a clip with new images: same frames, times, rate, colours, pixel shape and audio."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from hrpose_cli.errors import MediaError, UsageError
from hrpose_cli.files import atomic_write, remove_stale_files
from hrpose_cli.media.clip import Clip
from hrpose_cli.media.encoding import DEFAULT_ENCODING, Encoding, find_container
from hrpose_cli.media.gif import GIF_TICK, GifTimes, write_gif
from hrpose_cli.media.mux import mux_clip
from hrpose_cli.media.nut_pipe import FramePipe
from hrpose_cli.poses import Image


class VideoWriter:
    """Writes images as a new version of `clip`; a context manager.

        with VideoSource(path) as source, VideoSink(out, source.clip) as sink:
            for frame in source:
                sink.write(draw(frame.image), frame.pts)

    The suffix of `path` chooses the container: .mp4, .m4v, .mov, .mkv (all H.264), .webm (VP9) or
    .gif; `encoding` chooses the rest. With `encoding.alpha` the
    images are RGBA and become ProRes 4444 (.mov) or VP9 (.webm); `encoding.scale` is that of the
    file, not of what is written.

    The file appears under its name when the block ends; missing folders are made. When it ends by
    Ctrl-C (KeyboardInterrupt, GeneratorExit), what was done until then becomes a complete clip, its
    audio cut to the images; any other exception leaves no file. `notes` says afterwards, in plain
    words, what had to differ from the source, and `damage` what of it could not be read any more.
    UsageError for a name that cannot be; MediaError when ffmpeg or the disk fails.
    """

    def __init__(self, path: Path, clip: Clip, encoding: Encoding = DEFAULT_ENCODING) -> None:
        _check_target(path, clip)
        self.path, self.clip = path, clip
        self.frames = 0
        self.notes: list[str] = []
        self.damage = ""
        self._encoding = encoding
        self._codec = self._encoding.codec_for(path)
        self._gif = GifTimes(clip) if path.suffix.lower() == ".gif" else None
        self._pipe: FramePipe | None = None
        self._last = -1  # pts
        self._exit = ExitStack()
        remove_stale_files(path)
        try:
            self._whole = self._exit.enter_context(atomic_write(path))
            self._whole.touch()  # what cannot be written is said before the work, not after it
        except OSError as error:
            raise MediaError(f"{path} cannot be written: {error.strerror}") from error
        self._images = self._whole.with_name(f"{self._whole.name}.images{self._suffix()}")
        self._exit.callback(self._images.unlink, missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt | GeneratorExit):
            self.close(cut_audio=kind is not None)
        else:
            self.abort()

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

    def close(self, *, cut_audio: bool = False) -> None:
        """Finish the file; with `cut_audio` without the audio after the last frame."""
        if self._pipe is None or not self.frames:
            self.abort()
            if cut_audio:
                return  # stopped before the first frame: there is nothing to keep
            raise MediaError(f"{self.path}: not one frame was written")
        try:
            try:
                self._finish(self._pipe, cut_audio)
            except KeyboardInterrupt:  # all frames are there: only a second Ctrl-C gives them up
                self._finish(self._pipe, cut_audio)
                raise
        finally:
            self.abort()  # does nothing to a finished file

    def abort(self) -> None:
        """End ffmpeg and leave no file."""
        if self._pipe is not None:
            self._pipe.kill()
        self._exit.__exit__(MediaError, MediaError("given up"), None)

    def _suffix(self) -> str:
        """Of the file for the images alone: MP4 has the finest times, but no transparent VP9 and no ProRes."""
        special = self._encoding.alpha or self._codec.encoder == "prores_ks"
        if not special:
            return ".mp4"
        return ".mov" if self._codec.encoder == "prores_ks" else ".webm"

    def _start(self, size: tuple[int, int]) -> FramePipe:
        encoding, tick = self._encoding, self.clip.time_base if self._gif is None else GIF_TICK
        new = encoding.size(self._codec, size)
        self.notes += encoding.notes(self._codec, new)
        arguments = encoding.arguments(self._codec, replace(self.clip, size=size), new)
        arguments += ["-fps_mode", "passthrough", "-enc_time_base", f"{tick.numerator}:{tick.denominator}"]
        outlet = [*arguments, f"file:{self._images}"]
        return FramePipe(outlet, size, self.clip.rate, tick, alpha=encoding.alpha)

    def _finish(self, pipe: FramePipe, cut_audio: bool) -> None:
        pipe.finish()
        if self._gif:
            write_gif(self._images, self._whole, self._gif.final_delay)
            notes = self._gif.notes
        else:
            end = self._last * self.clip.time_base + 1 / self.clip.rate
            way = mux_clip(
                self._images, self.clip, self._whole, find_container(self.path), end=self._end(end, cut_audio)
            )
            notes, self.damage = way.notes, way.damage
        try:
            self._exit.close()
        except OSError as error:
            raise MediaError(f"{self.path} cannot be written: {error.strerror}") from error
        self.notes += notes

    def _end(self, images_end: Fraction, cut_audio: bool) -> Fraction | None:
        """Seconds at which the audio ends, None for its own end."""
        if cut_audio:
            return images_end
        return None if self.clip.end is None else max(self.clip.end, images_end)


def _check_target(path: Path, clip: Clip) -> None:
    """UsageError for a name that no clip can be written to."""
    find_container(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file in it")
    if clip.path is not None and path.exists() and clip.path.exists() and path.samefile(clip.path):
        raise UsageError(f"{path} is the input: choose another name")
