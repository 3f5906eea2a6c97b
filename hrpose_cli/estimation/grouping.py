"""Grouping of peaks into people by their tags, for bottom-up nets (HigherHRNet).

Newell et al., Associative Embedding, NIPS 2017, section 3.2, in the form of the HigherHRNet authors
(lib/core/group.py): keypoints are taken one kind after the other, and each peak goes to the person whose
mean tag is nearest, by one assignment per kind. scipy's assignment takes the place of their munkres and does
without the columns of 1e10 that pad their matrices and cost them the last digits of the scores.

People are (P, K, 3 + T) float32: x, y, score and T tags of each keypoint, zeros where it is missing.
Coordinates are pixels of the heatmaps; from `_refine_positions` on a pixel's centre is at `SubpixelSteps.middle`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import scipy  # its parts are imported when they are first used, and take half a second
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrpose_cli.estimation.heatmaps import (
    DEFAULT_DECODE_LIMIT,
    blur_matrix,
    dark_step,
    decode_dtype,
    modulate_heatmaps,
    udp_step,
)
from hrpose_cli.poses import Floats

# The head first, because it is seen most often. The authors' order is written for COCO; for other
# skeletons they use the part of it that has keypoints, whatever those are.
_KEYPOINT_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)


@dataclass(frozen=True)
class GroupingRules:
    """Thresholds of peaks and people; the defaults are the authors'."""

    most: int = 30  # peaks per keypoint, and people that a peak can join
    threshold: float = 0.1  # the score that the peak of a keypoint exceeds
    distance: float = 1.0  # between a keypoint's tags and the mean tags of its person: less than this
    kernel: int = 5  # px, odd: side of the square in which a peak is the highest pixel


GROUP_DECODERS = ("argmax", "quarter", "dark", "udp")
_SQUARE_SIDE = 16  # px of the squares in the search for a missing keypoint
_PEOPLE_PER_CHUNK = 64  # people per search

# Function of heatmaps (K, h, w), keypoints (n,) and their pixels (n, 2) that returns offsets (n, 2) in px.
_SubpixelStep = Callable[[Tensor, Tensor, Tensor], Tensor]


def group_keypoints(
    heatmaps: Tensor, tags: Tensor, *, rules: GroupingRules | None = None, steps: SubpixelSteps | None = None
) -> tuple[Floats, Floats]:
    """People (P, K, 3 + T) in heatmaps (K, h, w) and tags (K, T, h, w), and their scores (P,).

    A person's score is the mean over all keypoints, where a missing one counts 0, before the search for the
    missing ones: HigherHRNet, `HeatmapParser.parse`.
    """
    rules, steps = rules or GroupingRules(), steps or SubpixelSteps()
    people = _match_peaks(_top_peaks(heatmaps, tags, rules), rules)
    scores = people[..., 2].mean(axis=1)
    return _find_missing_keypoints(_refine_positions(people, heatmaps, steps), heatmaps, tags, steps), scores


def _top_peaks(heatmaps: Tensor, tags: Tensor, rules: GroupingRules) -> list[Floats]:
    """The highest peaks of each of the K keypoints, highest first: (R, 3 + T) x, y, score and tags.

    heatmaps: (K, h, w); tags: (K, T, h, w). Few pixels exceed the threshold, and each comparison with a neighbour
    leaves fewer of them: this is much cheaper than the authors' max-pooling of all heatmaps.
    """
    bottom, right = heatmaps.shape[-2] - 1, heatmaps.shape[-1] - 1
    keypoint, y, x = torch.nonzero(heatmaps > rules.threshold, as_tuple=True)
    reach = range(-(rules.kernel // 2), rules.kernel // 2 + 1)
    for dy, dx in sorted(product(reach, reach), key=lambda step: abs(step[0]) + abs(step[1])):
        beside = heatmaps[keypoint, (y + dy).clamp(0, bottom), (x + dx).clamp(0, right)]
        highest = heatmaps[keypoint, y, x] >= beside
        keypoint, y, x = keypoint[highest], y[highest], x[highest]
    columns = [x[:, None], y[:, None], heatmaps[keypoint, y, x][:, None], tags[keypoint, :, y, x]]
    rows = torch.cat([c.float() for c in columns], dim=1).cpu().numpy()
    rows, keypoints = rows[order := np.argsort(-rows[:, 2], kind="stable")], keypoint.cpu().numpy()[order]
    return [rows[keypoints == k][: rules.most] for k in range(len(heatmaps))]


def _match_peaks(peaks: list[Floats], rules: GroupingRules) -> Floats:
    """People (P, K, 3 + T) in the order in which they are found; x and y are whole pixels.

    peaks: from `_top_peaks`. A person is identified by the first tag of its first keypoint. Two people with
    exactly the same tag are therefore one, in which the later keypoint replaces the earlier, as in the authors' code.
    """
    most, width = sum(map(len, peaks)), peaks[0].shape[1]
    people = np.zeros((most, len(peaks), width), np.float32)
    sums, seen = np.zeros((most, width - 3), np.float32), np.zeros((most, 1), np.float32)
    numbers: dict[float, int] = {}
    for keypoint in (k for k in _KEYPOINT_ORDER if k < len(peaks)):
        known = min(len(numbers), rules.most)
        means = np.asarray(sums[:known] / seen[:known], np.float32)
        owners = _assign_to_people(peaks[keypoint], means, rules.distance)
        for row, owner in zip(peaks[keypoint], owners, strict=True):
            person = owner
            if owner < 0:
                person = numbers.setdefault(float(row[3]), len(numbers))
                sums[person], seen[person] = 0, 0
            people[person, keypoint] = row
            sums[person] += row[3:]
            seen[person] += 1
    return people[: len(numbers)]


def _assign_to_people(rows: Floats, people: Floats, limit: float) -> list[int]:
    """The index of the person for each keypoint in `rows` (R, 3 + T), or -1; people: mean tags (P, T).

    The distance of the tags, rounded and below `limit`, decides, then the score. Each keypoint gets at most one
    person and each person at most one keypoint.
    """
    owners = np.full(len(rows), -1)
    if len(rows) and len(people):
        distance = np.linalg.norm(rows[:, None, 3:].astype(np.float64) - people[None], axis=2)  # (R, P)
        chosen, persons = scipy.optimize.linear_sum_assignment(np.round(distance) * 100 - rows[:, 2:3])
        near = distance[chosen, persons] < limit
        owners[chosen[near]] = persons[near]
    return [int(owner) for owner in owners]


def _refine_positions(people: Floats, heatmaps: Tensor, steps: SubpixelSteps) -> Floats:
    """The people (P, K, 3 + T) with sub-pixel positions."""
    person, keypoint = np.nonzero(people[..., 2] > 0)
    refined, xy = people.copy(), people[person, keypoint, :2].astype(np.int64)
    refined[person, keypoint, :2] = _subpixel_positions(heatmaps, keypoint, xy, steps.peaks) + steps.middle
    return refined


def _subpixel_positions(
    heatmaps: Tensor, keypoint: NDArray[np.int64], xy: NDArray[np.int64], step: _SubpixelStep
) -> Floats:
    """Sub-pixel positions (n, 2) of keypoints (n,) in the pixels xy (n, 2)."""
    where = torch.from_numpy(keypoint).to(heatmaps.device), torch.from_numpy(xy).to(heatmaps.device)
    return np.asarray(xy + step(heatmaps, *where).cpu().numpy(), np.float32)


def _find_missing_keypoints(people: Floats, heatmaps: Tensor, tags: Tensor, steps: SubpixelSteps) -> Floats:
    """The people (P, K, 3 + T) with their missing keypoints, if the heatmap is above 0 at the likeliest pixel.

    That is the pixel with the highest heat minus the rounded distance of its tags from the person's mean tags.
    """
    person, keypoint = np.nonzero(people[..., 2] == 0)
    if len(person) == 0:
        return people
    present = (people[..., 2] > 0)[..., None]
    means = (people[..., 3:] * present).sum(axis=1) / present.sum(axis=1, dtype=np.float32)  # (P, T)
    index = _likeliest_pixels(heatmaps, tags, keypoint, torch.from_numpy(means[person]).to(tags.device))
    score = heatmaps.flatten(1)[torch.from_numpy(keypoint).to(index.device), index].cpu().numpy()
    good = score > 0
    person, keypoint, place = person[good], keypoint[good], index.cpu().numpy()[good]
    xy = np.stack([place % heatmaps.shape[-1], place // heatmaps.shape[-1]], axis=1)
    refined = people.copy()
    refined[person, keypoint, :2] = _subpixel_positions(heatmaps, keypoint, xy, steps.missing) + steps.middle
    refined[person, keypoint, 2] = score[good]
    return refined


def _likeliest_pixels(heatmaps: Tensor, tags: Tensor, keypoint: NDArray[np.int64], means: Tensor) -> Tensor:
    """Index (n,) in the flattened heatmap of the likeliest pixel of keypoints (n,) of people with mean tags (n, T)."""
    found = torch.zeros(len(keypoint), dtype=torch.long, device=heatmaps.device)
    for k in np.unique(keypoint):
        squares = _Squares.of(heatmaps[k], tags[k])
        for part in np.array_split(np.flatnonzero(keypoint == k), 1 + (keypoint == k).sum() // _PEOPLE_PER_CHUNK):
            found[part] = squares.search(means[part])
    return found


@dataclass(frozen=True)
class _Squares:
    """One keypoint's maps cut into B squares of S pixels, for a search by branch and bound.

    The likelihood of a pixel is its heat minus the rounded distance of its tags from the person's mean tags.
    In a square it is at most that of the highest heat with the nearest tags, even if no one pixel has both;
    most squares need no look, because a pixel that was looked at is already likelier than that.
    """

    heat: Tensor  # (B, S)
    tags: Tensor  # (T, B, S)
    index: Tensor  # (B, S) int64, of the pixel in the flattened map

    @classmethod
    def of(cls, heat: Tensor, tags: Tensor) -> _Squares:
        """The squares of heat (h, w) and tags (T, h, w)."""
        height, width = heat.shape
        index = torch.arange(height * width, device=heat.device).view(1, height, width)
        return cls(_split_into_squares(heat[None])[0], _split_into_squares(tags), _split_into_squares(index)[0])

    def search(self, means: Tensor) -> Tensor:
        """Index (n,) of the likeliest pixel for people with mean tags (n, T), the first of equals."""
        reachable = self.upper_bounds(means) >= self.known_likelihoods(means).amax(1, keepdim=True)  # (n, B)
        person, square = torch.nonzero(reachable, as_tuple=True)  # (m,) pairs to look at, at least one per person
        likelihood, place = self.likelihoods(person, square, means).max(1)  # (m,), the best pixel of each square
        best = likelihood.new_full((len(means),), -torch.inf).scatter_reduce(0, person, likelihood, "amax")
        wins = likelihood == best[person]
        pixel = self.index[square, place][wins]
        return pixel.new_full((len(means),), self.index.numel()).scatter_reduce(0, person[wins], pixel, "amin")

    def upper_bounds(self, means: Tensor) -> Tensor:
        """Likelihood (n, B) that no pixel of a square exceeds."""
        mean = means.T[:, :, None]  # (T, n, 1)
        low, high = self.tags.amin(2)[:, None], self.tags.amax(2)[:, None]  # (T, 1, B)
        nearest = torch.maximum(low - mean, mean - high).clamp(min=0)  # (T, n, B)
        return self.heat.amax(1) - _rounded_tag_distance(nearest)

    def known_likelihoods(self, means: Tensor) -> Tensor:
        """Likelihood (n, B) of one pixel of each square, that of the highest heat."""
        heat, peak = self.heat.max(1)  # (B,)
        tags = self.tags.gather(2, peak.expand(len(self.tags), 1, -1).mT)  # (T, B, 1)
        return heat - _rounded_tag_distance(tags.mT - means.T[:, :, None])

    def likelihoods(self, person: Tensor, square: Tensor, means: Tensor) -> Tensor:
        """Likelihood (m, S) of all pixels of the squares (m,) for the people (m,)."""
        return self.heat[square] - _rounded_tag_distance(self.tags[:, square] - means[person].T[..., None])


def _split_into_squares(maps: Tensor) -> Tensor:
    """Maps (C, h, w) split into B squares of S pixels: (C, B, S); the last row and column fill up the border."""
    for axis in (1, 2):
        if missing := -maps.shape[axis] % _SQUARE_SIDE:
            last = maps.narrow(axis, maps.shape[axis] - 1, 1)
            maps = torch.cat([maps, *[last] * missing], dim=axis)
    rows = maps.unflatten(1, (-1, _SQUARE_SIDE)).unflatten(3, (-1, _SQUARE_SIDE))  # (C, h/SIDE, SIDE, w/SIDE, SIDE)
    squares: Tensor = rows.transpose(2, 3).flatten(3).flatten(1, 2)
    return squares


def _rounded_tag_distance(difference: Tensor) -> Tensor:
    """Length (...) of vectors (T, ...), rounded to a whole number."""
    length: Tensor = difference.square().sum(0).sqrt().round()
    return length


# Sub-pixel steps ---------------------------------------------------------------------------------


def _no_step(heatmaps: Tensor, keypoint: Tensor, xy: Tensor) -> Tensor:
    """No offset."""
    return torch.zeros_like(xy, dtype=torch.float32)


def _quarter_step(heatmaps: Tensor, keypoint: Tensor, xy: Tensor) -> Tensor:
    """A quarter pixel towards the higher neighbour on each axis, or towards 0, 0 if both are equal."""
    around = _patches_around(heatmaps, keypoint, xy, 1)
    slope = torch.stack([around[:, 1, 2] - around[:, 1, 0], around[:, 2, 1] - around[:, 0, 1]], dim=-1)
    return torch.where(slope > 0, 0.25, -0.25)


def _dark_step(
    heatmaps: Tensor, keypoint: Tensor, xy: Tensor, *, kernel: int = 11, limit: float | None = DEFAULT_DECODE_LIMIT
) -> Tensor:
    """DARK's Newton step on the logarithm of the blurred heatmap; arguments as for `decode_dark`.

    Only the surroundings of the keypoints are blurred, so the cost grows with the people, not with the image.
    """
    radius = 2 + kernel // 2
    around = modulate_heatmaps(_patches_around(heatmaps, keypoint, xy, radius)[None], kernel)[0]
    log = around[:, radius - 2 : radius + 3, radius - 2 : radius + 3].to(decode_dtype(heatmaps)).clamp(min=1e-10).log()
    return dark_step(log, limit)


def _udp_step(
    heatmaps: Tensor, keypoint: Tensor, xy: Tensor, *, kernel: int = 3, limit: float | None = DEFAULT_DECODE_LIMIT
) -> Tensor:
    """UDP's Newton step, whose derivatives are one pixel wide; arguments as for `_decode_udp`.

    mmpose 0.x, `post_dark`, except within two pixels of a border, where the blur here repeats the edge.
    """
    reach = kernel // 2
    blur = blur_matrix(2 * reach + 3, kernel, heatmaps.device, decode_dtype(heatmaps))[reach : reach + 3]
    around = blur @ _patches_around(heatmaps, keypoint, xy, reach + 1).to(blur.dtype) @ blur.T  # (n, 3, 3)
    return udp_step(around.clamp(1e-3, 50).log(), limit, epsilon=1e-8)


@dataclass(frozen=True)
class SubpixelSteps:
    """Sub-pixel steps for the keypoints of one net."""

    peaks: _SubpixelStep = _quarter_step
    missing: _SubpixelStep = _quarter_step  # for keypoints that the search found
    middle: float = 0.5  # px from a pixel's coordinates to its centre; 0.5 where targets were rounded down

    @classmethod
    def of(cls, decode: str, kernel: int, limit: float | None, geometry: str = "classic") -> SubpixelSteps:
        """The steps of one of `GROUP_DECODERS`.

        UDP's authors take quarter steps for missing keypoints, and their targets were not rounded.
        """
        named: dict[str, _SubpixelStep] = {
            "argmax": _no_step,
            "quarter": _quarter_step,
            "dark": partial(_dark_step, kernel=kernel, limit=limit),
            "udp": partial(_udp_step, kernel=kernel, limit=limit),
        }
        missing = _quarter_step if decode == "udp" else named[decode]
        return cls(named[decode], missing, 0.0 if geometry == "udp" else 0.5)


def _patches_around(heatmaps: Tensor, keypoint: Tensor, xy: Tensor, radius: int) -> Tensor:
    """Patches (n, 2r+1, 2r+1) of heatmaps (K, h, w) around pixels (n, 2); beyond the border the edge repeats."""
    height, width = heatmaps.shape[-2:]
    steps = torch.arange(-radius, radius + 1, device=heatmaps.device)
    x = (xy[:, 0, None] + steps).clamp(0, width - 1)  # (n, 2r+1)
    y = (xy[:, 1, None] + steps).clamp(0, height - 1)
    return heatmaps[keypoint[:, None, None], y[:, :, None], x[:, None, :]]
