"""Seeded damage to files: to the bytes of any, and to the parts of those whose structure is known."""

import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

Mutator = Callable[[bytes, Random], bytes]
INTEGERS = (0, 1, -1, 2, 255, 65535, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**63 - 1, 2**63, 2**64, 10**40)
NUMBERS = (*INTEGERS, 0.5, -0.5, 1e-320, 1e30, 1e300, math.inf, -math.inf, math.nan)
TEXTS = ("", "x", "0", "-1", "nan", "1e999", "1/0", "1e99999999", "é\u202e\U0001f600", "\ud800", "a\nb", "\x1b[31m\x07",
         "a\0b", "../../x", "/", "x" * 300, "9" * 5000)  # fmt: skip
VALUES = (None, True, False, *NUMBERS, *TEXTS, [], {}, [None], [[1, 2], [3]], {"id": 1}, [1e30] * 51)
DEEP = "@deep@"  # becomes lists within lists


def damage(name: str, data: bytes, chance: Random) -> bytes:
    """Damage the content of the file `name`: its structure in most cases where that is known, else its bytes."""
    structured = STRUCTURED.get(Path(name).suffix)
    if structured and chance.random() < 0.7:
        return chance.choice(structured)(data, chance)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        data = chance.choice(BYTES)(data, chance)
    return data


# Bytes -------------------------------------------------------------------------------------------


def _span(data: bytes, chance: Random) -> tuple[int, int]:
    """A block of at most 64 bytes, more often in the head, or now and then a large one."""
    start = chance.randrange(min(len(data), chance.choice((64, 512, 1 << 30))) or 1)
    return start, start + chance.randint(1, chance.choice((1, 4, 64, len(data) or 1)))


_BLOCK_CHANGES: tuple[Mutator, ...] = (
    lambda block, chance: bytes(v ^ 1 << chance.randrange(8) if i == 0 else v for i, v in enumerate(block)),
    lambda block, chance: chance.randbytes(len(block)),
    lambda block, _: b"\0" * len(block),
    lambda block, _: b"\xff" * len(block),
    lambda *_: b"",
    lambda block, chance: block * chance.choice((2, 3, 101 if len(block) < 4096 else 2)),
)


def change_block(data: bytes, chance: Random) -> bytes:
    """Flip a bit of a block, or overwrite, zero, fill, delete or repeat it."""
    a, b = _span(data, chance)
    return data[:a] + chance.choice(_BLOCK_CHANGES)(data[a:b], chance) + data[b:]


def swap_blocks(data: bytes, chance: Random) -> bytes:
    (a, b), (c, d) = sorted((_span(data, chance), _span(data, chance)))
    return data if b > c else data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def truncate(data: bytes, chance: Random) -> bytes:
    return data[: _span(data, chance)[0]]


def write_number(data: bytes, chance: Random) -> bytes:
    """An integer or float of 1 to 8 bytes in either order that headers seldom hold."""
    a, _ = _span(data, chance)
    number = chance.choice(NUMBERS)
    if isinstance(number, float):
        form = chance.choice("fd")
        raw = struct.pack("<" + form, number if form == "d" or abs(number) < 3e38 else math.inf)
    else:
        size = chance.choice((1, 2, 4, 8))
        raw = (number % (1 << 8 * size)).to_bytes(size, chance.choice(("little", "big")))
    return data[:a] + raw + data[a + len(raw) :]


BYTES: tuple[Mutator, ...] = (*[change_block] * 5, swap_blocks, truncate, write_number)


# Text --------------------------------------------------------------------------------------------


def replace_token(data: bytes, chance: Random) -> bytes:
    """Put another number or text in place of a number or a quoted text."""
    tokens = list(re.finditer(rb'-?\d+(?:\.\d+)?|"[^"\n]{0,80}"|\'[^\'\n]{0,80}\'', data))
    if not tokens:
        return data
    token = chance.choice(tokens)
    quote = token[0][:1].decode() if token[0][:1] in b"\"'" else ""
    new = quote + str(chance.choice(TEXTS if quote else (*NUMBERS, *TEXTS))) + quote
    return data[: token.start()] + new.encode(errors="replace") + data[token.end() :]


def edit_lines(data: bytes, chance: Random) -> bytes:
    """Delete a line or repeat one elsewhere, or change how the text is stored, as editors do."""
    lines = data.splitlines(keepends=True) or [b""]
    i, j = chance.randrange(len(lines)), chance.randrange(len(lines))
    shorter, longer = lines[:i] + lines[i + 1 :], [*lines[:i], lines[j], *lines[i:]]
    changed = (b"".join(shorter), b"".join(longer), data.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + data, data[:-1])
    return chance.choice((*changed, data.decode(errors="replace").encode("utf-16")))


def edit_cells(data: bytes, chance: Random) -> bytes:
    """Replace or remove a cell of a CSV file, a whole column, or the name of one."""
    rows = [line.split(",") for line in data.decode(errors="replace").split("\n")]
    value, column = str(chance.choice((*VALUES, "", "NULL", '"', "True", "1,5"))), chance.randrange(len(rows[0]))
    kind = chance.randrange(4)
    for row in rows if kind == 0 else [chance.choice(rows)] if kind < 3 else rows[:1]:
        if column < len(row):
            row[column : column + 1] = [value] if chance.random() < 0.9 else []
    return "\n".join(map(",".join, rows)).encode(errors="surrogatepass")


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Each list or dictionary in a tree with each of its indices or keys."""
    inner = list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())
    return [place for key, value in inner for place in ((tree, key), *_places(value))]


def edit_json(data: bytes, chance: Random) -> bytes:
    """Replace, remove, repeat or nest one to three values of a JSON text; the rest stays valid."""
    tree = json.loads(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        places = _places(tree)
        if not places:
            break
        # Long lists of numbers would take nearly all of the hits.
        owner, key = min(chance.sample(places, min(3, len(places))), key=lambda place: len(place[0]))
        kind = chance.randrange(10)
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, list):
            owner[key:key] = [owner[key]] * chance.choice((1, 2, 50))
        elif kind == 2:
            owner[key] = [owner[key]]
        elif kind == 3 and isinstance(owner, dict):
            owner[chance.choice(("x", "id", "", "é"))] = owner.pop(key)
        elif kind == 4:
            owner[key] = str(owner[key]) if chance.random() < 0.8 else DEEP
        elif kind == 5:
            owner[key] = deepcopy(chance.choice(places)[0])
        else:
            owner[key] = deepcopy(chance.choice(VALUES))
    text = json.dumps(tree, separators=(",", ":")).replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000)
    return text.encode()


def edit_json_line(data: bytes, chance: Random) -> bytes:
    lines = data.splitlines()
    i = chance.choice((0, chance.randrange(len(lines))))
    lines[i] = edit_json(lines[i], chance)
    return b"\n".join(lines) + b"\n"


# Containers of other things ----------------------------------------------------------------------


def _edit_inner(data: bytes, chance: Random) -> bytes:
    return chance.choice((*BYTES, replace_token, replace_token))(data, chance)


def edit_member(data: bytes, chance: Random) -> bytes:
    """Damage, rename, repeat or remove one member of a ZIP file (NPZ, torch), whose checksums stay right."""
    if not zipfile.is_zipfile(io.BytesIO(data)):  # torch's files of older versions
        return _edit_inner(data, chance)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    i, kind = chance.randrange(len(members)), chance.randrange(8)
    name, content = members[i]
    if kind == 0:
        del members[i]
    elif kind == 1:
        members[i] = (name, chance.choice(members)[1])
    elif kind == 2:
        members[i] = (chance.choice(TEXTS).replace("\ud800", "") or "y", content)
    elif kind < 6 and content[:6] == b"\x93NUMPY":
        members[i] = (name, _edit_array_header(content, chance))
    else:
        members[i] = (name, _edit_inner(content, chance))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members:
            archive.writestr(name.replace("\0", "") or "x", content)
    return out.getvalue()


def _edit_array_header(data: bytes, chance: Random) -> bytes:
    """Damage the header of a .npy file, which is text; its length is right in most cases."""
    size = 10 + int.from_bytes(data[8:10], "little")
    kind = chance.choice((b"<f8", b"<i8", b"|b1", b"|O", b"<U7", b"<c16", b"<M8[s]", b"<f2", b"|V4"))
    header = data[10:size]
    header = re.sub(rb"[<|]\w+", kind, header) if chance.random() < 0.3 else replace_token(header, chance)
    size_field = len(header).to_bytes(2, "little") if chance.random() < 0.8 else data[8:10]
    return data[:8] + size_field + header + data[size:]


def edit_chunk(data: bytes, chance: Random) -> bytes:
    """Damage, repeat or remove a chunk of a PNG file, whose checksums stay right."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    i = chance.randrange(len(chunks))
    kind, content = chunks[i]
    chunks[i : i + 1] = chance.choice(([(kind, _edit_inner(content, chance))], [chunks[i]] * 2, [], [(kind, b"")]))
    packed = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return data[:8] + b"".join(packed)


def edit_segment(data: bytes, chance: Random) -> bytes:
    """Damage one segment of a JPEG file before its pixels; its length is right, or is damaged too."""
    at, starts = 2, []
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        starts.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    a = chance.choice(starts or [0])
    b = a + 2 + int.from_bytes(data[a + 2 : a + 4], "big")
    inner = _edit_inner(data[a + 4 : b], chance)
    size = min(len(inner) + 2, 65535) if chance.random() < 0.8 else chance.randrange(65536)
    return data[: a + 2] + size.to_bytes(2, "big") + inner + data[b:]


def edit_box(data: bytes, chance: Random) -> bytes:
    """Damage the size, the name or the head of a box of an MP4 or AVIF file."""
    names = rb"ftyp|moov|mvhd|trak|tkhd|edts|elst|mdia|mdhd|hdlr|minf|stbl|stsd|avc1|avcC|stts|ctts|stsc|stsz|stco|meta"
    boxes = [m.start() for m in re.finditer(names, data)]
    if not boxes:
        return write_number(data, chance)
    a = chance.choice(boxes) + chance.choice((-4, 0, 4, 8, 12, 16, 20, 24, 28))
    new = chance.choice((chance.randbytes(4), *(struct.pack(">I", n % 2**32) for n in INTEGERS)))
    return data[: max(a, 0)] + new + data[max(a, 0) + 4 :]


def edit_header(data: bytes, chance: Random) -> bytes:
    """Damage the JSON header of a safetensors file, or a text within its metadata; the length stays right."""
    size = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + size], data[8 + size :]
    facts = json.loads(header)
    if chance.random() < 0.6 and "__metadata__" in facts:
        name = chance.choice(list(facts["__metadata__"]))
        value = replace_token(facts["__metadata__"][name].encode(), chance).decode(errors="replace")
        facts["__metadata__"][name] = chance.choice((value, value, value, chance.choice(TEXTS)))
        header = json.dumps(facts).encode()
    else:
        header = edit_json(header, chance)
    return len(header).to_bytes(8, "little") + header + rest


def edit_matrix(data: bytes, chance: Random) -> bytes:
    """Damage the inside of an element of a MATLAB file; a compressed one is compressed again."""
    kind, size = struct.unpack("<II", data[128:136])
    if kind != 15:
        return data[:128] + _edit_inner(data[128:400], chance) + data[400:]
    inner = zlib.decompress(data[136 : 136 + size])
    packed = zlib.compress(_edit_inner(inner[:200], chance) + inner[200:])
    return data[:128] + struct.pack("<II", 15, len(packed)) + packed + data[136 + size :]


STRUCTURED: dict[str, tuple[Mutator, ...]] = {
    ".json": (edit_json, edit_json, edit_json, replace_token),
    ".jsonl": (edit_json_line, edit_json_line, edit_json_line, replace_token, edit_lines),
    ".csv": (edit_cells, edit_cells, edit_lines, replace_token),
    ".npz": (edit_member,),
    ".pth": (edit_member,),
    ".png": (edit_chunk,),
    ".jpg": (edit_segment,),
    ".mp4": (edit_box,),
    ".mov": (edit_box,),
    ".avif": (edit_box,),
    ".xml": (replace_token, edit_lines),
    ".http": (replace_token, edit_lines),
    ".safetensors": (edit_header,),
    ".mat": (edit_matrix,),
}
