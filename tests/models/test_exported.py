"""Nets that hrpose export wrote."""

from pathlib import Path

import pytest

from hrpose_cli.errors import WeightsError
from hrpose_cli.models.find import find_weights


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_read_export_metadata_refuses_files_that_are_no_nets(tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnx")
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"this is no net")
    with pytest.raises(WeightsError, match=r"damaged"):
        find_weights(str(path))
