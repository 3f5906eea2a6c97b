from pathlib import Path

import pytest

from tests.media.clips import film


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 frames with 2 s of audio, its index in front."""
    return film(tmp_path_factory.mktemp("clips") / "plain.mp4", 50, "-movflags", "+faststart", audio=2)
