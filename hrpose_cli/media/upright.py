"""Decoded frames as a player shows them: upright, progressive, in RGB."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import av
import cv2
import numpy as np
from av.buffer import Buffer
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.stream import VideoStream

from hrpose_cli.media.clip import Colour
from hrpose_cli.poses import Image

_BT601 = 5  # swscale's number
_MATRICES = {1: 1, 4: 4, 7: 7, 9: 9, 10: 9}  # H.273 code -> swscale's number; all others are BT.601
# swscale's BILINEAR | FULL_CHR_H_INT | ACCURATE_RND. Its default darkens by 1.2 of 255 levels, and
# differently from processor to processor.
_EXACT = 0x2 | 0x2000 | 0x40000


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


_Turn = tuple[bool, bool, bool]  # transpose, then mirror left-right, then mirror top-bottom


def read_orientation(frame: av.VideoFrame) -> _Turn:
    """The turn that makes the stored image upright, rounded to right angles as players do.

    The display matrix maps stored (x, y) to displayed (a x + c y, b x + d y).
    """
    data = cast(Mapping[Type, Buffer], frame.side_data).get(Type.DISPLAYMATRIX)
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def displayed_size(size: tuple[int, int], turn: _Turn) -> tuple[int, int]:
    """Stored (width, height) -> displayed, or back again."""
    return (size[1], size[0]) if turn[0] else size


def apply_turn(image: Image, how: _Turn) -> Image:
    """(H, W, 3) as stored -> as displayed."""
    transpose, mirror, flip = how
    if transpose:
        image = image.swapaxes(0, 1)
    return np.ascontiguousarray(image[:: -1 if flip else 1, :: -1 if mirror else 1])


def deinterlace_frames(
    images: Iterator[av.VideoFrame], stream: VideoStream, on_first: Callable[[], None]
) -> Iterator[av.VideoFrame]:
    """Yield each image once, at its own time, and deinterlace those that are interlaced.

    bwdif makes one full image of the first field of each, with the help of its neighbours. Until
    the first interlaced image, when `on_first` is called, nothing is touched.
    """
    graph: Graph | None = None
    waiting: deque[int | None] = deque()  # times of what is in the filter, which has a finer clock
    for image in images:
        if graph is None and not image.interlaced_frame:
            yield image
            continue
        if graph is None:
            graph = _build_deinterlacer(stream)
            on_first()
        waiting.append(image.pts)
        graph.push(image)
        yield from _pull_filtered(graph, waiting)
    if graph is not None:
        graph.vpush(None)
        yield from _pull_filtered(graph, waiting)


def _build_deinterlacer(stream: VideoStream) -> Graph:
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(template=stream),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
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
