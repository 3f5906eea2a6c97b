from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from hrpose_cli.tracking.smoothing import OneEuro, _FilterState, _low_pass_butterworth

PLACES = st.integers(-5000 * 64, 5000 * 64).map(lambda place: place / 64)  # px
PATHS = arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=PLACES)
Filter = Callable[[np.ndarray, np.ndarray], np.ndarray]
SHIFTS = st.tuples(PLACES, PLACES).map(np.array)
CAMERA_RATES = st.sampled_from([18.0, 25.0, 30000 / 1001, 60.0, 240.0])  # frames per second


def smooth_one_euro(path: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(T, 2) the path (T, 2) of one keypoint of a body of 200 px, smoothed."""
    smoother, state = OneEuro(), _FilterState.unknown(1, 1)
    smoothed = []
    for point, time in zip(path, times, strict=True):
        state = smoother._step(state, point[None, None], np.array([200.0]), time)
        smoothed.append(state.xy[0, 0])
    return np.array(smoothed)


def smooth_butterworth_6(path: np.ndarray, times: np.ndarray) -> np.ndarray:
    return _low_pass_butterworth(times, path, 6)


FILTERS = pytest.mark.parametrize("filtered", [smooth_one_euro, smooth_butterworth_6])


def frame_times(frames: int, rate: float, uneven: bool) -> np.ndarray:
    return (np.arange(frames) + uneven * 0.3 * np.sin(np.arange(frames))) / rate


@FILTERS
@given(point=SHIFTS, frames=st.integers(1, 60), rate=CAMERA_RATES, uneven=st.booleans())
def test_a_filter_leaves_a_still_keypoint_where_it_is(
    filtered: Filter, point: np.ndarray, frames: int, rate: float, uneven: bool
) -> None:
    path = np.tile(point, (frames, 1))
    assert_allclose(filtered(path, frame_times(frames, rate, uneven)), path, atol=1e-6)


@FILTERS
@given(path=PATHS, shift=SHIFTS, rate=CAMERA_RATES, uneven=st.booleans())
def test_a_filter_does_the_same_everywhere(
    filtered: Filter, path: np.ndarray, shift: np.ndarray, rate: float, uneven: bool
) -> None:
    times = frame_times(len(path), rate, uneven)
    assert_allclose(filtered(path + shift, times), filtered(path, times) + shift, atol=1e-6)
    assert_allclose(filtered(path[:, ::-1], times), filtered(path, times)[:, ::-1], atol=1e-9)


@given(path=PATHS, rate=CAMERA_RATES)
def test_one_euro_stays_between_what_was_measured(path: np.ndarray, rate: float) -> None:
    smoothed = smooth_one_euro(path, frame_times(len(path), rate, uneven=False))
    assert (smoothed <= np.maximum.accumulate(path) + 1e-9).all()
    assert (smoothed >= np.minimum.accumulate(path) - 1e-9).all()
