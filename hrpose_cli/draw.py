"""Draw poses onto a copy of an image, and heatmaps over the crop that they were made from.

Everything is drawn straight onto one canvas as anti-aliased convex polygons: there is no blend over the
whole image, so thirty people cost a few milliseconds. (cv2's own thick lines have whole widths only,
and its small circles look like stars.) A transparent canvas starts as zeros, RGBA, and gets opaque colours:
cv2's anti-aliasing then leaves premultiplied colour and the right alpha.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose_cli.geometry import Geometry, heatmap_to_crop, transform_points
from hrpose_cli.options import DrawOptions, PeopleOptions
from hrpose_cli.poses import Bools, Floats, Frame, Image, Poses
from hrpose_cli.skeletons import Skeleton

_Color = tuple[int, int, int]
_Fixed = NDArray[np.int32]  # pixels in 1 / 2**SHIFT

# Distinct for every common colour blindness: blue and orange by hue, yellow by lightness.
_SIDE_COLORS: dict[str, _Color] = {"left": (40, 170, 255), "right": (255, 140, 20), "middle": (255, 236, 90)}
_PERSON_COLORS: tuple[_Color, ...] = (  # after Okabe and Ito 2008, brightened
    (86, 180, 233), (240, 165, 25), (40, 205, 150), (245, 230, 70),
    (230, 130, 195), (245, 105, 45), (100, 140, 250), (235, 235, 235),
)  # fmt: skip
_SHADOW_COLOR: _Color = (16, 16, 16)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 22  # px of a capital at scale 1

_SHIFT = 4  # fractional bits that cv2 takes
_FAR_PIXELS = 1 << 17  # px: no image is larger (JPEG ends at 65,535), and cv2 walks along what lies outside
_COLOR_SPREAD = 1.4  # px that cv2's anti-aliasing adds to the width of a polygon (measured)
_CORNERS = 24  # of a keypoint's disc
_FINE_SIGMA = 0.05  # keypoints with a smaller OKS sigma (the eyes) sit close together and are drawn finer
_FINENESS = {"face": 0.2, "hands": 0.3, "markers": 0.5}  # factor on the widths of a part; these have no outline


@dataclass(frozen=True)
class DrawStyle:
    """Style in which people are drawn."""

    threshold: float = 0.3  # keypoints below this score are not drawn
    boxes: bool = False
    scores: bool = False  # the person's score, and the track id if there is one
    background: Literal["keep", "black", "transparent"] = "keep"
    colors: Literal["side", "person"] = "side"
    thickness: float = 1.0  # factor on line widths and keypoint radii
    parts: tuple[str, ...] = ("body", "feet", "markers")  # of `Skeleton.parts`


DEFAULT_STYLE = DrawStyle()


def build_style(drawing: DrawOptions, people: PeopleOptions, *, tracked: bool) -> DrawStyle:
    """The style that options describe; in tracked clips each person has a colour, unless --color says side."""
    return DrawStyle(
        threshold=people.keypoint_score,
        boxes=drawing.draw_boxes,
        scores=drawing.draw_scores,
        background=drawing.background,
        parts=drawing.draw,
        colors=drawing.color or ("person" if tracked else "side"),
    )


def draw_poses(image: Image, poses: Poses, *, style: DrawStyle = DEFAULT_STYLE, in_place: bool = False) -> Image:
    """A copy of `image` (H, W, 3) with people on it, small ones first: (H, W, 3), or RGBA (H, W, 4).

    The background "transparent" gives RGBA whose colours are not premultiplied, as in PNG. in_place: draw onto
    `image` itself, if it is to be kept, which spares a large one a copy.
    """
    canvas = np.ascontiguousarray(image) if in_place and style.background == "keep" else _canvas(image, style)
    drawn = [part in style.parts for part in poses.skeleton.parts]  # (K,)
    shown = (poses.score >= style.threshold) & np.isfinite(poses.xy).all(axis=2) & drawn
    width = _line_widths(poses, shown, Frame(image).size) * style.thickness  # (N,) px
    palettes = [_palette(poses, i, style) for i in range(len(poses))]
    order = np.argsort(width, kind="stable")
    if style.boxes:
        for i in order:
            _draw_box(canvas, poses.box[i], width[i], palettes[i]["middle"])
    _draw_people(canvas, poses, shown, width, [(i, palettes[i]) for i in order])
    if style.scores:
        for i in order:
            _draw_label(canvas, _label(poses, i), poses.box[i], width[i], palettes[i]["middle"])
    return _straight_alpha(canvas) if style.background == "transparent" else canvas


def _canvas(image: Image, style: DrawStyle) -> Image:
    if style.background == "keep":
        return np.array(image, order="C")  # cv2 needs contiguous pixels
    return np.zeros((*image.shape[:2], 3 if style.background == "black" else 4), np.uint8)


def _straight_alpha(canvas: Image) -> Image:
    """RGBA (H, W, 4) with its colours divided by alpha."""
    edge = (canvas[..., 3] > 0) & (canvas[..., 3] < 255)
    pixels = canvas[edge].astype(np.uint16)  # (P, 4)
    color, alpha = pixels[:, :3], pixels[:, 3:]
    canvas[edge, :3] = np.minimum((color * 255 + alpha // 2) // alpha, 255)
    return canvas


def _palette(poses: Poses, i: int, style: DrawStyle) -> dict[str, _Color]:
    """The colour of each side of person `i`."""
    if style.colors == "side":
        return _SIDE_COLORS
    number = i if poses.track_ids is None else int(poses.track_ids[i])
    return dict.fromkeys(_SIDE_COLORS, _PERSON_COLORS[number % len(_PERSON_COLORS)])


def _line_widths(poses: Poses, shown: Bools, size: tuple[int, int]) -> Floats:
    """(N,) px: from the diagonal of each person's box, within bounds set by the image's `size`.

    An empty box (some pose files have none) is replaced by the extent of the keypoints shown.
    """
    inside = np.clip(poses.xy, -_FAR_PIXELS, _FAR_PIXELS)
    low = np.where(shown[..., None], inside, _FAR_PIXELS).min(axis=1)
    high = np.where(shown[..., None], inside, -_FAR_PIXELS).max(axis=1)
    span = np.clip(poses.box[:, 2:], -_FAR_PIXELS, _FAR_PIXELS) - np.clip(poses.box[:, :2], -_FAR_PIXELS, _FAR_PIXELS)
    span = np.where((span > 0).all(axis=1, keepdims=True), span, np.maximum(high - low, 0))
    thin = max(1.2, min(size) / 700)
    return np.clip(np.hypot(span[:, 0], span[:, 1]) / 100, thin, max(2 * thin, min(size) / 90)).astype(np.float32)


def _fixed(pixels: NDArray[np.floating[Any]]) -> _Fixed:
    return np.asarray(np.rint(np.clip(np.nan_to_num(pixels), -_FAR_PIXELS, _FAR_PIXELS) * 2**_SHIFT), np.int32)


def _rgba(color: _Color) -> tuple[int, int, int, int]:
    return (*color, 255)  # cv2 drops the last number on an RGB canvas


def _draw_people(
    canvas: Image, poses: Poses, shown: Bools, width: Floats, order: Sequence[tuple[int, dict[str, _Color]]]
) -> None:
    """Draw limbs, then keypoints, each on a thin dark outline that separates it from any background."""
    skeleton = poses.skeleton
    fine = np.where(np.asarray(skeleton.sigmas) < _FINE_SIGMA, 0.6, 1)  # (K,)
    fine = np.asarray([_FINENESS.get(part, f) for part, f in zip(skeleton.parts, fine, strict=True)], np.float32)
    outlined = np.asarray([part not in _FINENESS for part in skeleton.parts])  # (K,)
    ends = np.asarray(skeleton.limbs)  # (L, 2)
    line = np.maximum(width[:, None] * fine[ends].min(axis=1), 1)  # (N, L)
    disc = np.maximum(width[:, None] * fine * 1.7, np.where(outlined, 2.4, 1.6))  # (N, K) diameters
    rim = np.maximum(width * 0.6, 1.1)[:, None] * outlined  # (N, K) px that the outline adds
    limbs = _limbs(poses.xy, ends, line + rim[:, ends].min(axis=2)), _limbs(poses.xy, ends, line)  # (N, L, 4, 2)
    keypoints = _discs(poses.xy, disc + rim), _discs(poses.xy, disc)  # (N, K, CORNERS, 2)
    sides = _limb_sides(skeleton)
    for i, palette in order:
        for limb in np.flatnonzero(shown[i][ends].all(axis=1)):
            _fill(canvas, limbs[0][i, limb], _SHADOW_COLOR)
            _fill(canvas, limbs[1][i, limb], palette[sides[limb]])
        for k in np.flatnonzero(shown[i]):
            _fill(canvas, keypoints[0][i, k], _SHADOW_COLOR)
            _fill(canvas, keypoints[1][i, k], palette[skeleton.sides[k]])


def _fill(canvas: Image, polygon: _Fixed, color: _Color) -> None:
    cv2.fillConvexPoly(canvas, polygon, _rgba(color), cv2.LINE_AA, _SHIFT)


def _limb_sides(skeleton: Skeleton) -> list[str]:
    """(L,) a limb from the middle to a side belongs to the side; one from side to side to the middle."""
    ends = [{skeleton.sides[a], skeleton.sides[b]} - {"middle"} for a, b in skeleton.limbs]
    return [side.pop() if len(side) == 1 else "middle" for side in ends]


def _limbs(xy: Floats, ends: NDArray[np.intp], width: Floats) -> _Fixed:
    """Rectangles (N, L, 4, 2) of `width` (N, L) px between the keypoints `ends` (L, 2) of `xy` (N, K, 2)."""
    points = np.clip(xy, -_FAR_PIXELS, _FAR_PIXELS)[:, ends]  # (N, L, 2, 2)
    start, end = points[:, :, 0], points[:, :, 1]
    along = (end - start) / np.maximum(np.linalg.norm(end - start, axis=-1, keepdims=True), 1e-6)
    across = along[..., ::-1] * np.asarray([-1, 1], np.float32) * _half(width)[..., None]
    return _fixed(np.stack([start + across, end + across, end - across, start - across], axis=2))


def _discs(xy: Floats, diameter: Floats) -> _Fixed:
    """Polygons (N, K, CORNERS, 2) around `xy` (N, K, 2); diameters (N, K) px."""
    angle = np.arange(_CORNERS, dtype=np.float32) * (2 * np.pi / _CORNERS)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (CORNERS, 2)
    return _fixed(np.clip(xy, -_FAR_PIXELS, _FAR_PIXELS)[:, :, None] + circle * _half(diameter)[..., None, None])


def _half(width: Floats) -> Floats:
    return np.asarray(np.maximum(width - _COLOR_SPREAD, 0.1) / 2, np.float32)


def _draw_box(canvas: Image, box: Floats, width: float, color: _Color) -> None:
    """Draw a thin frame with a dark outside."""
    x1, y1, x2, y2 = (int(v) for v in np.rint(np.clip(box, -_FAR_PIXELS, _FAR_PIXELS)))
    line = max(1, round(width / 4))
    for grown, paint in ((line, _SHADOW_COLOR), (0, color)):
        cv2.rectangle(canvas, (x1 - grown, y1 - grown), (x2 + grown, y2 + grown), _rgba(paint), line)


def _label(poses: Poses, i: int) -> str:
    score = f"{poses.person_score[i]:.2f}"
    return score if poses.track_ids is None else f"#{poses.track_ids[i]} {score}"


def _draw_label(canvas: Image, text: str, box: Floats, width: float, color: _Color) -> None:
    """Draw `text` on a dark plate above the top left corner of the box, but within the image."""
    height = round(max(2.5 * width, 7, min(canvas.shape[:2]) / 120))
    scale, pad = height / _FONT_HEIGHT, max(2, height // 4)
    thickness = max(1, round(scale))
    wide = cv2.getTextSize(text, _FONT, scale, thickness)[0][0]
    limit_x, limit_y = canvas.shape[1] - wide - 2 * pad, canvas.shape[0] - 1
    x = int(np.clip(box[0], 0, max(limit_x, 0)))
    y = int(np.clip(box[1], min(height + 2 * pad, limit_y), limit_y))
    cv2.rectangle(canvas, (x, y - height - 2 * pad), (x + wide + 2 * pad, y), _rgba(_SHADOW_COLOR), -1)
    cv2.putText(canvas, text, (x + pad, y - pad), _FONT, scale, _rgba(color), thickness, cv2.LINE_AA)


def draw_heatmaps(crop: Image, heatmaps: Floats, skeleton: Skeleton, *, geometry: Geometry = "classic") -> Image:
    """A panel (rows, columns of tiles) of one person's heatmaps (K, h/4, w/4) over the crop (h, w, 3).

    Each tile has the name of its keypoint, the height of its peak and a cross at the arg-max; colours are relative
    to the highest peak of all, so that a weak keypoint looks weak. The first tile is the crop itself.
    """
    size = crop.shape[1], crop.shape[0]
    grey = cv2.cvtColor(cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    affine = heatmap_to_crop((heatmaps.shape[2], heatmaps.shape[1]), size, geometry)
    top = max(float(heatmaps.max()), 1e-6)
    tiles = [_captioned(np.array(crop, order="C"), "crop")]
    for name, heatmap in zip(skeleton.keypoints, heatmaps, strict=True):
        heat = cv2.warpAffine(heatmap / top, affine, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
        tile = _cross(_heated(grey, heat), transform_points(affine, [[x, y]])[0])
        tiles.append(_captioned(tile, f"{name.replace('_', ' ')} {heatmap.max():.2f}"))
    return _grid(tiles)


def _heated(grey: NDArray[Any], heat: NDArray[Any]) -> Image:
    """The darkened grey crop (h, w, 3) under the colours of `heat` (h, w), of which cold ones are transparent."""
    heat = np.clip(heat, 0, 1)
    colors = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    cover = np.sqrt(heat)[..., None] * 0.8
    return np.asarray(np.rint(grey * 0.6 * (1 - cover) + colors * cover), np.uint8)


def _cross(tile: Image, at: NDArray[np.float64]) -> Image:
    arm = max(3.0, min(tile.shape[:2]) / 40)
    ends = at + np.asarray([[-arm, 0], [arm, 0], [0, -arm], [0, arm]])  # (4, 2)
    for color, width in ((_SHADOW_COLOR, 3.0), (_SIDE_COLORS["middle"], 1.5)):
        lines = _limbs(ends[None].astype(np.float32), np.asarray([[0, 1], [2, 3]]), np.full((1, 2), width, np.float32))
        for line in lines[0]:
            _fill(tile, line, color)
    return tile


def _captioned(tile: Image, text: str) -> Image:
    """`tile` under a strip with `text`, as large as it fits."""
    wide = cv2.getTextSize(text, _FONT, 1, 1)[0][0]
    scale = min(tile.shape[0] / 24 / _FONT_HEIGHT, 0.95 * tile.shape[1] / wide)
    strip = np.full((tile.shape[0] // 12, tile.shape[1], 3), _SHADOW_COLOR, np.uint8)
    cv2.putText(strip, text, (2, round(len(strip) * 0.75)), _FONT, scale, _SIDE_COLORS["middle"], 1, cv2.LINE_AA)
    return np.concatenate([strip, tile])


def _grid(tiles: list[Image]) -> Image:
    """Arrange tiles of one size in rows, about 3:2 in all, each with a thin dark border."""
    edge = ((1, 1), (1, 1), (0, 0))
    tiles = [np.pad(tile, edge, constant_values=_SHADOW_COLOR[0]) for tile in tiles]
    height, width = tiles[0].shape[:2]
    columns = max(1, round((len(tiles) * height / width * 1.5) ** 0.5))
    tiles += [np.full_like(tiles[0], _SHADOW_COLOR)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)
