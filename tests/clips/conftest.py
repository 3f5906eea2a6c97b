from pathlib import Path

import pytest

from tests.clips.builders import FRAMES
from tests.media.clips import film


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)
