import os
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def pipe() -> Iterator[Callable[[bytes], str]]:
    """Makes pipes with a content, as <(...) of a shell does."""
    ends: list[int] = []

    def make(content: bytes) -> str:
        end, other = os.pipe()
        os.write(other, content)
        os.close(other)
        ends.append(end)
        return f"/dev/fd/{end}"

    yield make
    for end in ends:
        os.close(end)
