"""New images joined with the audio, subtitles, title and chapters of the source.

This is done by copying, after the images are encoded: damaged audio costs no image, and the audio of a
run that was stopped can end with its last image.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av

from hrpose_cli.errors import MediaError
from hrpose_cli.media.audio_copy import copy_audio
from hrpose_cli.media.clip import Clip
from hrpose_cli.media.container import allowed_inputs, open_again
from hrpose_cli.media.encoding import Container
from hrpose_cli.media.ffmpeg import run_ffmpeg
from hrpose_cli.outputs import temporary_path

_TEXT_SUBTITLES = {"mov_text", "subrip", "srt", "ass", "ssa", "webvtt", "text"}  # subtitles that are no bitmaps
_StreamArguments = tuple[list[str], list[str]]  # arguments of ffmpeg, and what they change, in plain words


class _MuxPlan(NamedTuple):
    """Arguments of ffmpeg for one attempt, and what has to differ from the source, in plain words."""

    arguments: list[str]  # of ffmpeg
    notes: list[str]
    damage: str = ""  # what of the source is lost because it cannot be read


def mux_clip(images: Path, clip: Clip, target: Path, container: Container, *, end: Fraction | None = None) -> _MuxPlan:
    """Write `target`; returns the plan that worked.

    `end` (seconds) cuts the audio. MediaError if not even the images can be written.
    """
    # An image keeps its time on the clock of the output, so 0 is where a trimmed clip begins.
    cut = ["-copypriorss", "0", "-ss", "0"] if clip.trimmed else []
    cut += [] if end is None else ["-to", f"{float(end):.6f}"]
    # The index at the front lets a browser start before it has the whole file.
    start = ["-movflags", "+faststart"] if container.muxer in ("mp4", "mov") else []
    outlet = [*cut, *start, "-f", container.muxer, f"file:{target}"]
    failure: MediaError | None = None
    audio = temporary_path(images, ".audio.nut")
    try:
        for plan in _mux_plans(clip, container, _open_source(clip, audio)):
            try:
                run_ffmpeg(["-copyts", "-i", f"file:{images}", *plan.arguments, *outlet])
                return plan
            except MediaError as error:
                if "No space left" in str(error):
                    raise  # less would perhaps fit, but nobody wants it
                failure = error
    finally:
        audio.unlink(missing_ok=True)
    raise failure or AssertionError("there is always a plan")


def _open_source(clip: Clip, audio: Path) -> list[str]:
    """Arguments that open the source again, or a copy of its audio if ffmpeg would misread it; [] if there is none."""
    try:
        source = open_again(clip)
        if source is None:
            return []
        if clip.audio and (len(clip.shifts) > 1 or source.playlist):
            copy_audio(source, clip.shifts, audio)
            return ["-i", f"file:{audio}"]
        allowed = [word for name, value in allowed_inputs(source).items() for word in (f"-{name}", value)]
        return [*allowed, "-i", source.what]
    except MediaError:
        return []


def _mux_plans(clip: Clip, container: Container, source: list[str]) -> Iterator[_MuxPlan]:
    """Yield plans, the best first; the next one is for when it fails."""
    images = ["-map", "0:v", "-c", "copy"]
    no_subtitles = ["the subtitles were left out"] if clip.subtitles else []
    left = _note_left_out(clip.others)
    if source:
        source = ["-itsoffset", f"{-float(clip.origin):.6f}", *source, *images]
        source += ["-map_metadata", "1", "-map_chapters", "1"]
        with av.open(io.BytesIO(), "w", format=container.muxer) as empty:
            held = empty.supported_codecs
        audio, audio_notes = _audio_arguments(clip, container, held)
        text, text_notes = _subtitle_arguments(clip, container, held)
        yield _MuxPlan([*source, *audio, *text], [*audio_notes, *text_notes, *left])
        if clip.subtitles:
            yield _MuxPlan([*source, *audio], [*audio_notes, "the subtitles cannot be copied and were left out", *left])
        if clip.audio:
            note = f"the audio could not be copied and was re-encoded to {container.audio.removeprefix('lib')}"
            yield _MuxPlan([*source, "-map", "1:a", "-c:a", container.audio], [note, *no_subtitles, *left])
    silent = ["the audio cannot be read and was left out"] if clip.audio else []
    if clip.path is None and clip.address is None:  # live, so that it cannot be read again: no damage
        yield _MuxPlan(images, [*silent, *no_subtitles, *left])
    else:
        yield _MuxPlan(images, [*no_subtitles, *left], "".join(silent))


def _audio_arguments(clip: Clip, container: Container, held: set[str]) -> _StreamArguments:
    """Copy all audio; streams that the container cannot hold are re-encoded."""
    arguments, notes = ["-map", "1:a?"], []
    usual = container.audio.removeprefix("lib")
    for number, codec in enumerate(clip.audio):
        if codec not in held:
            arguments += [f"-c:a:{number}", container.audio]
            notes.append(f"audio {number + 1} re-encoded from {codec} to {usual}: {container.muxer} cannot hold it")
    return arguments, notes


def _subtitle_arguments(clip: Clip, container: Container, held: set[str]) -> _StreamArguments:
    """Copy all subtitles that the container can hold, converted to its own format if need be."""
    arguments, notes, kept = list[str](), list[str](), 0
    for number, codec in enumerate(clip.subtitles):
        if codec not in held and codec not in _TEXT_SUBTITLES:
            notes.append(f"subtitles {number + 1} left out: {container.muxer} cannot hold {codec}")
            continue
        arguments += ["-map", f"1:s:{number}"]
        if codec not in held and container.text:
            arguments += [f"-c:s:{kept}", container.text]
            notes.append(f"subtitles {number + 1} rewritten from {codec} to {container.text}")
        kept += 1
    return arguments, notes


def _note_left_out(others: tuple[str, ...]) -> list[str]:
    """Name the streams other than video, audio and subtitles, which are left out."""
    counted = [what if n == 1 else f"{what} ({n} times)" for what, n in Counter(others).items()]
    return [f"left out: {', '.join(counted)}"] if counted else []
