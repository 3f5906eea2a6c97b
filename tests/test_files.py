import pytest

from hrpose_cli import files
from hrpose_cli.errors import InputError
from hrpose_cli.files import check_memory


def test_check_memory_leaves_the_most_part_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_memory", lambda device: 8_000_000_000)
    check_memory(2_000_000_000, "a.png")
    with pytest.raises(InputError, match=r"^a\.png would take 2\.1 GB of memory, but may take 2\.0 GB$"):
        check_memory(2_100_000_000, "a.png")
