"""New pictures and all else of the source into one file: sound, title, chapters.

This comes after the pictures are encoded, and by copying, so that a damaged sound costs no picture,
and a run that was stopped can have its sound cut at the last picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from hrpose_cli.errors import MediaError
from hrpose_cli.media.clip import Clip
from hrpose_cli.media.ffmpeg import run

MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}  # suffix -> ffmpeg's name
FALLBACK = "aac"  # for sound that cannot be copied


def join(pictures: Path, clip: Clip, target: Path, muxer: str, *, end: Fraction | None = None) -> list[str]:
    """Write `target`; returns what had to differ from the source, in plain words.

    `end` (seconds) cuts the sound. MediaError if not even the pictures can be written.
    """
    cut = [] if end is None else ["-to", f"{float(end):.6f}"]
    # The index at the front lets a browser start before it has the whole file.
    start = ["-movflags", "+faststart"] if muxer in ("mp4", "mov") else []
    outlet = [*cut, *start, "-f", muxer, f"file:{target}"]
    failure: MediaError | None = None
    for arguments, notes in ways(clip, muxer):
        try:
            run(["-copyts", "-i", f"file:{pictures}", *arguments, *outlet])
            return notes
        except MediaError as error:
            failure = error
    raise failure or AssertionError("there is always a way")


def ways(clip: Clip, muxer: str) -> Iterator[tuple[list[str], list[str]]]:
    """Arguments and what they change, the best first; a later one is for when it fails."""
    copy = ["-map", "0:v", "-c", "copy"]
    if clip.path is not None:
        source = ["-itsoffset", f"{-float(clip.origin):.6f}", "-i", f"file:{clip.path}"]
        everything = [*source, *copy, "-map", "1:a?", "-map_metadata", "1", "-map_chapters", "1"]
        recode, notes = refused(clip, muxer)
        yield everything + recode, notes
        if clip.has_audio:
            yield [*everything, "-c:a", FALLBACK], [f"the sound could not be copied and was re-encoded to {FALLBACK}"]
    yield copy, ["the sound cannot be read and was left out"] if clip.has_audio else []


def refused(clip: Clip, muxer: str) -> tuple[list[str], list[str]]:
    """Arguments that re-encode the streams which the container cannot hold, and a note on each."""
    with av.open(io.BytesIO(), "w", format=muxer) as container:
        held = container.supported_codecs
    arguments, notes = [], []
    for number, codec in enumerate(clip.audio):
        if codec not in held:
            arguments += [f"-c:a:{number}", FALLBACK]
            notes.append(f"sound {number + 1} re-encoded from {codec} to {FALLBACK}: {muxer} cannot hold it")
    return arguments, notes
