"""Files that hold less than their container says, which ffmpeg reads without a word.

Where a container says how long it is, or how it ends: a program stream or a raw one says neither.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

from hrpose_cli.errors import InputError

_MOST_CHUNKS = 1_000_000  # that are looked at
_SMALL_GIF = 1 << 24  # pixels
_MOST_PER_BYTE = 4096  # pixels: more does no code of LZW stand for, and none is shorter than a byte for long
_TAIL = 1 << 17  # bytes; a page of Ogg has 64 KB at most
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # length and place of the first sync byte: plain, Blu-ray, with checksums


def check_canvas(width: int, height: int, file_bytes: int, title: str) -> None:
    """Raise InputError for a large GIF whose data could not paint one frame: it is there to take memory."""
    if width * height > max(_SMALL_GIF, _MOST_PER_BYTE * file_bytes):
        raise InputError(f"{title} claims {width}x{height} pixels, far more than its {file_bytes} bytes can hold")


def is_cut_off(path: Path, format: str) -> bool:
    """Return whether a file of this format (ffmpeg's name) is shorter than it says."""
    is_whole = _WHOLE.get(format.partition(",")[0])
    if is_whole is None or not path.is_file():
        return False
    with path.open("rb") as file:
        return not is_whole(file, path.stat().st_size)


def _holds_chunks(length: Callable[[bytes], int], slack: int = 0) -> Callable[[BinaryIO, int], bool]:
    """The check of a file of chunks, whose whole `length` stands in the first bytes; 0 for what is no chunk."""

    def is_whole(file: BinaryIO, size: int) -> bool:
        at = 0
        for _ in repeat(None, _MOST_CHUNKS):
            file.seek(at)
            chunk = length(file.read(32))
            at += chunk
            if chunk <= 0 or at >= size:
                break
        return at <= size + slack

    return is_whole


def _atom_length(head: bytes) -> int:
    short = int.from_bytes(head[:4], "big") if head[4:8].isalnum() else 0
    return int.from_bytes(head[8:16], "big") if short == 1 else short


def _riff_length(head: bytes) -> int:
    size = int.from_bytes(head[4:8], "little")
    return 8 + size + size % 2 if head[:4] == b"RIFF" and size else 0


def _asf_length(head: bytes) -> int:
    length = int.from_bytes(head[16:24], "little")
    return length if length >= 24 else 0


def _ebml_length(head: bytes) -> int:
    """An element of Matroska: a name and a size, both of as many bytes as their leading zero bits say."""
    name = 9 - head[0].bit_length() if head else 9
    bits = head[name : name + 1]
    width = 9 - bits[0].bit_length() if bits else 9
    size = int.from_bytes(head[name : name + width], "big") - (1 << 7 * width)
    return name + width + size if max(name, width) < 9 and size < (1 << 7 * width) - 1 else 0


def _ends_gif(file: BinaryIO, size: int) -> bool:
    return _read_tail(file, size).rstrip(b"\0").endswith(b";")


def _ends_ogg(file: BinaryIO, size: int) -> bool:
    """True if the last page is whole and says to be the last."""
    tail = _read_tail(file, size)
    page = tail[tail.rfind(b"OggS") :]
    head = 27 + page[26] if len(page) > 26 else len(page) + 1
    return len(page) >= head + sum(page[27:head]) and bool(page[5] & 4)


def _ends_flv(file: BinaryIO, size: int) -> bool:
    """True if the last number is the length of the tag before it."""
    length = int.from_bytes(_read_tail(file, size)[-4:], "big")
    file.seek(max(size - 4 - length, 0))
    return int.from_bytes(file.read(4)[1:], "big") + 11 == length


def _ends_ts(file: BinaryIO, size: int) -> bool:
    """True if the last packet is whole, and the last of those units in each stream that say how long they are."""
    head = file.read(512)
    kinds = [(step, first) for step, first in _TS_PACKETS if head[first::step][:2] == b"GG"]
    if not kinds:
        return True
    step, first = kinds[0]
    missing = dict[int, int]()  # bytes, by stream
    tail = _read_tail(file, size - size % step)
    for at in range(len(tail) % step + first, len(tail), step):
        flags, control, skipped = int.from_bytes(tail[at + 1 : at + 3], "big"), tail[at + 3] >> 4 & 3, tail[at + 4]
        start = at + 4 + (skipped + 1 if control & 2 else 0)
        payload = tail[start : at + 188] if control & 1 else b""
        if flags & 0x4000 and payload[:3] == b"\0\0\1":  # a new unit; one of 0 bytes does not say how long it is
            length = int.from_bytes(payload[4:6], "big")
            missing[flags & 0x1FFF] = length + 6 if length else 0
        if flags & 0x1FFF in missing:
            missing[flags & 0x1FFF] -= len(payload)
    return size % step == 0 and max(missing.values(), default=0) <= 0


def _read_tail(file: BinaryIO, size: int) -> bytes:
    file.seek(max(size - _TAIL, 0))
    return file.read(_TAIL)


_WHOLE: dict[str, Callable[[BinaryIO, int], bool]] = {
    "mov": _holds_chunks(_atom_length),
    "avi": _holds_chunks(_riff_length, 8),  # some count the first eight bytes as well
    "asf": _holds_chunks(_asf_length),
    "matroska": _holds_chunks(_ebml_length),
    "gif": _ends_gif,
    "ogg": _ends_ogg,
    "flv": _ends_flv,
    "mpegts": _ends_ts,
}
