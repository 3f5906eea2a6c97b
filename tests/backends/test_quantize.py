"""Quantization."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SILENT = """
import socket, sys
tried = []
socket.getaddrinfo = socket.socket.connect = lambda *arguments, **_: tried.append(arguments)
from hrpose_cli.backends.quantize import import_nncf
nncf = import_nncf()
assert type(nncf.telemetry.telemetry).__name__ == "MagicMock", nncf.telemetry.telemetry
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
assert not tried, tried
"""


def test_import_nncf_reports_nothing(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    own = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "CI": ""}
    found = subprocess.run(
        [sys.executable, "-c", SILENT], env=os.environ | own, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert not found.stdout
    assert not (tmp_path / "intel").exists()
