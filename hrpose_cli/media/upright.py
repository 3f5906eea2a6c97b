"""Decoded frames as a player shows them: upright, progressive, in RGB."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import groupby
from typing import cast

import av
import cv2
import numpy as np
from av.buffer import Buffer
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.stream import VideoStream

from hrpose_cli.media.clip import Colour
from hrpose_cli.media.rgb import Turn
from hrpose_cli.poses import Image

_BT601 = 5  # swscale's number
_MATRICES = {1: 1, 4: 4, 7: 7, 9: 9, 10: 9}  # H.273 code -> swscale's number; all others are BT.601
# swscale's BILINEAR | FULL_CHR_H_INT | ACCURATE_RND. Its default darkens by 1.2 of 255 levels, and
# differently from processor to processor.
_EXACT = 0x2 | 0x2000 | 0x40000
_ANY_TICK = Fraction(1, 90_000)  # for filters, which need one; times are kept aside
_MOST_KINDS = 64  # of side data; ffmpeg 8 has 33


def read_colour(frame: av.VideoFrame, stream: VideoStream) -> Colour:
    if frame.format.is_rgb or frame.format.name == "pal8":
        return Colour()
    full = frame.format.name.startswith("yuvj")  # the old way to say full range
    context = stream.codec_context
    return Colour(
        int(frame.colorspace),
        int(context.color_primaries),
        int(context.color_trc),
        2 if full else int(frame.color_range),
    )


def rgb_options(colour: Colour) -> dict[str, int]:
    """Options with which PyAV converts the colours; all are given, because before version 17 it assumes BT.601."""
    matrix = _MATRICES.get(colour.matrix, _BT601)
    return {
        "src_colorspace": matrix,
        "dst_colorspace": _BT601,
        "src_color_range": 2 if colour.range == 2 else 1,
        "dst_color_range": 2,
        "interpolation": _EXACT,
    }


def interleave_rgb(image: av.VideoFrame) -> Image:
    """(H, W, 3) RGB of an image in planes ("gbrp").

    swscale's own way to interleaved RGB takes three times as long.
    """
    rows = [np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size) for plane in image.planes]
    green, blue, red = (row[:, : image.width] for row in rows)
    return cast(Image, cv2.merge([red, green, blue]))


def read_orientation(frame: av.VideoFrame) -> Turn:
    """The turn that makes the stored image upright, rounded to right angles as players do.

    The display matrix maps stored (x, y) to displayed (a x + c y, b x + d y).
    """
    try:
        data = cast(Mapping[Type, Buffer], frame.side_data).get(Type.DISPLAYMATRIX)
    except ValueError:  # PyAV does not know a kind of data that is there, such as EXIF, and gives none at all
        data = cast(Mapping[Type, Buffer], _drop_unknown_data(frame).side_data).get(Type.DISPLAYMATRIX)
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _drop_unknown_data(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame without the side data of kinds that PyAV does not know."""
    unknown = range(len(Type), _MOST_KINDS)
    graph = _build_graph(frame, [("sidedata", f"mode=delete:type={kind}") for kind in unknown])
    graph.vpush(frame)
    return graph.vpull()


def frame_layout(frame: av.VideoFrame) -> tuple[object, ...]:
    """The size, format, colours and rotation of a frame, which those of a stream share until it changes."""
    colour = int(frame.colorspace), int(frame.color_range)
    return frame.width, frame.height, frame.format.name, colour, frame.rotation


def displayed_size(size: tuple[int, int], turn: Turn) -> tuple[int, int]:
    """Stored (width, height) -> displayed, or back again."""
    return (size[1], size[0]) if turn[0] else size


def fit_size(size: tuple[int, int], into: tuple[int, int], stretch: Fraction) -> tuple[int, int]:
    """The largest (width, height) within `into` for an image of `size`, whose pixels are `stretch` times as wide."""
    factor = min(into[0] / (size[0] * stretch), Fraction(into[1], size[1]))
    return max(round(size[0] * stretch * factor), 1), max(round(size[1] * factor), 1)


def add_borders(image: Image, size: tuple[int, int]) -> Image:
    """The image in the middle of a black one of `size` (width, height)."""
    framed = np.zeros((size[1], size[0], 3), np.uint8)
    height, width = image.shape[:2]
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    framed[top : top + height, left : left + width] = image
    return framed


def deinterlace_frames(images: Iterator[av.VideoFrame], on_first: Callable[[], None]) -> Iterator[av.VideoFrame]:
    """Yield each image once, at its own time, and deinterlace those that are interlaced.

    bwdif makes one full image of the first field of each, with the help of its neighbours. Until
    the first interlaced image, when `on_first` is called, nothing is touched; a new layout begins anew.
    """
    for _, run in groupby(images, frame_layout):
        graph: Graph | None = None
        waiting: deque[int | None] = deque()  # times of what is in the filter, which has a finer clock
        for image in run:
            if graph is None and not image.interlaced_frame:
                yield image
                continue
            if graph is None:
                graph = _build_graph(image, [("bwdif", "mode=send_frame:deint=interlaced")])
                on_first()
            waiting.append(image.pts)
            graph.push(image)
            yield from _pull_filtered(graph, waiting)
        if graph is not None:
            graph.vpush(None)
            yield from _pull_filtered(graph, waiting)


def _build_graph(frame: av.VideoFrame, filters: Iterable[tuple[str, str]]) -> Graph:
    """A chain of filters, each with its options, for frames of this layout."""
    graph = Graph()
    buffer = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_ANY_TICK)
    chain = [graph.add(name, options) for name, options in filters]
    graph.link_nodes(buffer, *chain, graph.add("buffersink")).configure()
    return graph


def _pull_filtered(graph: Graph, waiting: deque[int | None]) -> Iterator[av.VideoFrame]:
    """Yield the frames that have come out, with the times of those that went in."""
    while True:
        try:
            image = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert image is not None
        image.pts = waiting.popleft()
        yield image
