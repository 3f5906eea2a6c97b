"""Codecs, containers, and ffmpeg's arguments for encoding new images."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from hrpose_cli.errors import MediaError, UsageError
from hrpose_cli.media.clip import Clip, Colour
from hrpose_cli.media.ffmpeg import run_ffmpeg
from hrpose_cli.options import DrawOptions, EncodingOptions
from hrpose_cli.streams import written_suffix

# Matrices that swscale converts to; any other becomes BT.709 and is tagged so.
_MATRICES = {1: "bt709", 2: "bt601", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}

_Scale = float | tuple[int, int | None]  # a factor, or (width, height); None: as the width has it
_LARGEST_FACTOR = 8
_LARGEST_SIDE = 16384
_SCALES = "give a factor such as 0.5 (at most 8), a width such as 640, or WIDTHxHEIGHT"


@dataclass(frozen=True)
class _Codec:
    """An encoder of ffmpeg and the arguments it takes.

    H.264 and HEVC get no B-frames: with them MP4 cannot hold the length of the last frames of a
    variable rate, and every time stamp needs an edit list, which many readers ignore.
    """

    encoder: str
    pixels: str = "yuv420p"
    odd: str = "yuv420p"  # pixels for an odd width or height
    clear: str | None = None  # pixels with transparency, if it can
    quality: tuple[str, int] | None = ("-crf", 20)  # option and default of --crf
    speed: tuple[str, str] | None = ("-preset", "veryfast")  # the same of --preset
    fixed: tuple[str, ...] = ()


_LOW_DELAY = ("-rc", "vbr", "-b:v", "0", "-bf", "0")
_X265 = ("-x265-params", "log-level=error:bframes=0", "-tag:v", "hvc1")  # Apple plays no other tag
_VP9 = ("-b:v", "0", "-row-mt", "1", "-auto-alt-ref", "0")  # transparency needs the last
_CODECS = {
    "h264": _Codec("libx264", odd="yuv444p", fixed=("-bf", "0")),
    "hevc": _Codec("libx265", odd="yuv444p", quality=("-crf", 24), fixed=_X265),
    "h264_nvenc": _Codec("h264_nvenc", odd="yuv444p", quality=("-cq", 23), speed=("-preset", "p5"), fixed=_LOW_DELAY),
    "hevc_nvenc": _Codec(
        "hevc_nvenc", odd="yuv444p", quality=("-cq", 26), speed=("-preset", "p5"), fixed=(*_LOW_DELAY, "-tag:v", "hvc1")
    ),
    "vp9": _Codec("libvpx-vp9", clear="yuva420p", quality=("-crf", 31), speed=("-cpu-used", "4"), fixed=_VP9),
    "prores": _Codec("prores_ks", "yuv422p10le", "yuv422p10le", clear="yuva444p10le", quality=None, speed=None),
    # Without loss, for the GIF that is made of it.
    "gif": _Codec("libx264rgb", "rgb24", "rgb24", quality=None, speed=None, fixed=("-qp", "0", "-preset", "ultrafast")),
}


@dataclass(frozen=True)
class Container:
    """A container format: the name of its muxer in ffmpeg, and the codecs that it holds, the default first."""

    muxer: str
    codecs: tuple[str, ...]
    audio: str = "aac"  # for audio that has to be encoded again
    text: str | None = None  # for subtitles that have to


_MP4 = Container("mp4", ("h264", "hevc", "h264_nvenc", "hevc_nvenc", "vp9"), text="mov_text")
CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", ("h264", "hevc", "h264_nvenc", "hevc_nvenc", "prores"), text="mov_text"),
    ".mkv": Container("matroska", ("h264", "hevc", "h264_nvenc", "hevc_nvenc", "vp9", "prores"), text="subrip"),
    ".webm": Container("webm", ("vp9",), audio="libopus", text="webvtt"),
    ".gif": Container("gif", ("gif",)),
}
_TRANSPARENT_PRESETS = {".mov": "prores", ".mkv": "prores", ".webm": "vp9"}  # default codec of transparent images


@dataclass(frozen=True)
class Encoding:
    """Encoding options; None means the default of the container."""

    codec: str | None = None
    crf: int | None = None  # lower is better quality
    preset: str | None = None  # in the encoder's own words: veryfast, p5, for vp9 0..8
    scale: _Scale | None = None
    alpha: bool = False  # images are RGBA

    def suffix(self, path: Path) -> str:
        """The suffix of a clip; the default one for a pipe or device without."""
        return written_suffix(path, ".mov" if self.alpha else ".mp4")

    def container(self, path: Path) -> Container:
        """UsageError for a name by which no clip is written."""
        try:
            return CONTAINERS[self.suffix(path)]
        except KeyError:
            raise UsageError(f"{path}: clips are written as {', '.join(CONTAINERS)}") from None

    def codec_for(self, path: Path) -> _Codec:
        """UsageError, before any work, for what `path` cannot hold; MediaError for what this machine cannot encode."""
        suffix, container = self.suffix(path), self.container(path)
        if self.alpha and suffix not in _TRANSPARENT_PRESETS:
            raise UsageError(f"{path}: {suffix} cannot be transparent, name a .mov (ProRes 4444) or .webm (VP9) file")
        name = self.codec or (_TRANSPARENT_PRESETS[suffix] if self.alpha else container.codecs[0])
        if name not in container.codecs:
            raise UsageError(f"{path}: {suffix} cannot hold {name}, only {', '.join(container.codecs)}")
        codec = _CODECS[name]
        if self.alpha and codec.clear is None:
            raise UsageError(f"{path}: {name} cannot be transparent, choose {_TRANSPARENT_PRESETS[suffix]}")
        for option, value, known in (("crf", self.crf, codec.quality), ("preset", self.preset, codec.speed)):
            if value is not None and known is None:
                raise UsageError(f"{path}: {name} has no {option}")
        if codec.encoder != _CODECS["h264"].encoder:
            _try_encoder(name, codec)
        return codec

    def arguments(self, codec: _Codec, clip: Clip, size: tuple[int, int]) -> list[str]:
        """ffmpeg's, for images of `clip` that become `size`."""
        chosen = ["-c:v", codec.encoder, *codec.fixed]
        if codec.quality:
            option, usual = codec.quality
            chosen += [option, str(usual if self.crf is None else self.crf)]
        if codec.speed:
            chosen += [codec.speed[0], self.preset or codec.speed[1]]
        return [*chosen, "-vf", _image_filter(clip, size, self.pixels(codec, size))]

    def pixels(self, codec: _Codec, size: tuple[int, int]) -> str:
        if self.alpha and codec.clear:
            return codec.clear
        return codec.odd if size[0] % 2 or size[1] % 2 else codec.pixels

    def notes(self, codec: _Codec, size: tuple[int, int]) -> list[str]:
        """Warn of encoded images that some players refuse.

        H.264 and HEVC crop in steps of a colour sample. Only without subsampling that is one pixel;
        what else there is (MP4's clean aperture) players ignore or round, and cut real lines off.
        """
        if self.alpha or self.pixels(codec, size) == codec.pixels:
            return []
        even = "x".join(str(side + side % 2) for side in size)
        return [
            f"{size[0]}x{size[1]} has an odd side and is written as 4:4:4, which phones and QuickTime do not play: "
            f"--scale {even} or a .webm file plays everywhere"
        ]

    def size(self, codec: _Codec, given: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of the file; a factor or a width gives even sides to codecs that like them."""
        if self.scale is None:
            return given
        width, height = self.scale if isinstance(self.scale, tuple) else (None, None)
        factor = (width or 1) / given[0] if isinstance(self.scale, tuple) else self.scale
        step = 1 if codec.pixels == codec.odd else 2
        scaled = [max(round(side * factor / step), 1) * step for side in given]
        size = width or scaled[0], height or scaled[1]
        if max(size) > _LARGEST_SIDE:
            raise MediaError(f"a clip of {size[0]}x{size[1]} cannot be written: choose a smaller --scale")
        return size


DEFAULT_ENCODING = Encoding()


def _try_encoder(name: str, codec: _Codec) -> None:
    """Encode one frame: an encoder may be missing from ffmpeg, or its device from this machine."""
    grey = ["-f", "lavfi", "-i", "color=gray:size=256x256:rate=1", "-frames:v", "1"]
    try:
        run_ffmpeg([*grey, "-c:v", codec.encoder, *codec.fixed, "-pix_fmt", codec.pixels, "-f", "null", "-"])
    except MediaError as error:
        raise MediaError(f"{name} does not work on this machine, choose another codec: {error}") from error


def build_encoding(encoding: EncodingOptions, drawing: DrawOptions) -> Encoding:
    """The encoding that options describe."""
    scale = _parse_scale(encoding.scale) if encoding.scale else None
    return Encoding(encoding.codec, encoding.crf, encoding.preset, scale, alpha=drawing.background == "transparent")


def _parse_scale(text: str) -> _Scale:
    """A factor of at most 8 such as 0.5, a width in pixels, or WIDTHxHEIGHT; UsageError for anything else."""
    try:
        width, cross, height = text.lower().partition("x")
        scale: _Scale = (int(width), int(height)) if cross else float(text)
        if isinstance(scale, float) and scale > _LARGEST_FACTOR:
            scale = int(text), None
    except ValueError as error:
        raise UsageError(f"{text} is no scale: {_SCALES}") from error
    sides = scale if isinstance(scale, tuple) else (scale,)
    if not all(side is None or 0 < side <= _LARGEST_SIDE for side in sides):
        raise UsageError(f"{text} is no scale that can be written: {_SCALES}")
    return scale


def _image_filter(clip: Clip, size: tuple[int, int], pixels: str) -> str:
    """RGB to the colours of the source, by its own matrix and range, and the tags that say so.

    What the source does not say stays unsaid: it was read by BT.601 and is written by BT.601, so
    that a player which guesses does so alike for both.
    """
    scale = f"scale={size[0]}:{size[1]}:flags=bicubic+accurate_rnd+full_chroma_inp+full_chroma_int"
    steps = [f"format={pixels}"]
    if pixels != "rgb24":
        colour = clip.colour if clip.colour.matrix in _MATRICES else Colour()
        scale += f":out_color_matrix={_MATRICES[colour.matrix]}:out_range={'full' if colour.range == 2 else 'limited'}"
        tags = f"range={colour.range}:color_primaries={colour.primaries}:color_trc={colour.transfer}"
        steps.append(f"setparams=colorspace={colour.matrix}:{tags}")
    aspect = _scaled_aspect(clip, size)
    return ",".join([scale, *steps, f"setsar={aspect.numerator}/{aspect.denominator}"])


def _scaled_aspect(clip: Clip, size: tuple[int, int]) -> Fraction:
    """The shape of a pixel by which the image keeps its own; what rounding to pixels did is no change."""
    (width, height), (new_width, new_height) = clip.size, size
    stretched = Fraction(width * new_height, height * new_width)
    close = abs(stretched - 1) <= Fraction(2, min(size))
    return clip.sample_aspect if close else (clip.sample_aspect * stretched).limit_denominator(10_000)
