from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrpose_cli.errors import MediaError
from hrpose_cli.media.video_reader import VideoReader
from tests.media.clips import film

FRAMES = 12


@pytest.fixture(scope="session", params=["a.mp4", "a.mkv", "a.avi", "a.ts"])
def sound_clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("sound") / request.param, FRAMES, audio=0.48)


def read_or_refuse(path: Path) -> None:
    """Read a damaged clip: frames in order, or one error of one line."""
    pts, refused = [], ""
    try:
        with VideoReader(path) as source:
            pts = [frame.pts for frame in source]
    except MediaError as error:
        refused = str(error)
    assert bool(pts) != bool(refused)
    assert all(before < after for before, after in pairwise(pts))
    assert "\n" not in refused


@given(part=st.floats(0, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_clip_cut_off_anywhere_gives_frames_or_one_error(sound_clip: Path, tmp_path: Path, part: float) -> None:
    damaged = tmp_path / sound_clip.name
    data = sound_clip.read_bytes()
    damaged.write_bytes(data[: round(part * len(data))])
    read_or_refuse(damaged)


@given(seed=st.integers(0, 2**32), header=st.booleans(), bits=st.integers(1, 60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_clip_with_flipped_bits_gives_frames_or_one_error(
    sound_clip: Path, tmp_path: Path, seed: int, header: bool, bits: int
) -> None:
    random = np.random.default_rng(seed)
    data = np.frombuffer(sound_clip.read_bytes(), np.uint8).copy()
    places = random.integers(0, 2000 if header else len(data), bits)
    data[places] ^= (1 << random.integers(0, 8, bits)).astype(np.uint8)
    damaged = tmp_path / sound_clip.name
    damaged.write_bytes(data.tobytes())
    read_or_refuse(damaged)
