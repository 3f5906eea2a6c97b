"""Is an annotated clip the clip that it was made of? Read afresh by PyAV, clip by clip.

    python benchmarks/faithful.py CLIPS... [--out FOLDER] [-- --every 5 ...]

Runs `hrpose video` on each clip (what follows -- is passed on) and prints what the source and the
output have: displayed size, frames, duration, rate, rotation, audio packets, offset of the audio.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import av
from common import HRPOSE


@dataclass(frozen=True)
class Facts:
    """What a player meets."""

    size: tuple[int, int]
    rotation: int
    times: tuple[Fraction, ...]  # of the frames, from the first one, s
    rate: Fraction | None
    audio: tuple[str, ...]  # a hash a stream, of all packets
    offset: Fraction | None  # of the audio against the images, s


def look(path: Path) -> Facts:
    """Decode a file from end to end."""
    with av.open(str(path), metadata_errors="replace") as container:
        video, *_ = container.streams.video
        times, frames, packets, starts = [], [], {s.index: sha256() for s in container.streams.audio}, []
        for packet in container.demux():
            if packet.stream is video:
                try:
                    decoded = packet.decode()
                except av.FFmpegError:
                    continue
                frames += [(f.width, f.height, f.rotation) for f in decoded]
                times += [f.pts * f.time_base for f in decoded if f.pts is not None]
            elif packet.stream.index in packets and packet.size:
                packets[packet.stream.index].update(bytes(packet))
                starts += [packet.pts * packet.time_base] if packet.pts is not None else []
        width, height, rotation = frames[0]
        times.sort()
        return Facts(
            (height, width) if rotation % 180 else (width, height),
            int(rotation),
            tuple(t - times[0] for t in times),
            video.average_rate,
            tuple(h.hexdigest()[:8] for h in packets.values()),
            min(starts) - times[0] if starts else None,
        )


def row(name: str, a: Facts, b: Facts) -> str:
    """One line of the table."""
    frame = 1 / (a.rate or 25)
    late = max((abs(s - t) for s, t in zip(a.times, b.times, strict=False)), default=Fraction(0))
    audio = "none" if not a.audio else "identical" if a.audio == b.audio else f"{len(a.audio)} -> {len(b.audio)}"
    moved = "-" if a.offset is None or b.offset is None else f"{float(b.offset - a.offset) * 1000:+.1f} ms"
    cells = [
        name,
        f"{a.size[0]}x{a.size[1]}" + ("" if a.size == b.size else f" -> {b.size[0]}x{b.size[1]}"),
        f"{len(a.times)}" + ("" if len(a.times) == len(b.times) else f" -> {len(b.times)}"),
        f"{float(late / frame):.3f}",
        f"{a.rate}" + ("" if a.rate == b.rate else f" -> {b.rate}"),
        f"{a.rotation} -> {b.rotation}",
        audio,
        moved,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir(), "faithful"))
    options, more = parser.parse_known_args()
    more = more[more[:1] == ["--"] :]
    options.out.mkdir(parents=True, exist_ok=True)
    print("| clip | size | frames | latest frame, in frames | rate | rotation | audio | offset of the audio |")
    print("|---|---|---|---|---|---|---|---|")
    for clip in options.clips:
        out = options.out / f"{clip.stem}.mp4"
        out.unlink(missing_ok=True)  # of an earlier run
        done = subprocess.run([*HRPOSE, "video", str(clip), "--out", str(out), *more], capture_output=True, text=True)
        print(row(clip.name, look(clip), look(out)) if out.is_file() else f"| {clip.name} | no output |")
        for line in done.stderr.splitlines():
            print(f"    {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
