"""How long each stage of a run worked."""

import pytest

from hrpose_cli.timing import StageTimer


def test_stages_are_timed_whole() -> None:
    watch = StageTimer()
    assert list(watch.each("count", range(3))) == [0, 1, 2]
    with pytest.raises(ValueError, match="x"), watch("fail"):
        raise ValueError("x")
    with watch("batch", 5):
        pass
    assert dict(watch.images) == {"count": 4, "fail": 1, "batch": 5}
    assert all(0 <= seconds <= watch.total for seconds in watch.seconds.values())
