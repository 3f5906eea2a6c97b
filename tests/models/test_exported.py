"""Nets that hrpose export wrote."""

from pathlib import Path

import pytest

from hrpose_cli.errors import WeightsError
from hrpose_cli.models.exported import read_export_info, read_export_metadata
from hrpose_cli.models.find import find_weights


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_read_export_metadata_refuses_files_that_are_no_nets(tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnx")
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"this is no net")
    with pytest.raises(WeightsError, match=r"damaged"):
        find_weights(str(path))


LAUGHS = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
PRECISION = '<net><rt_info><hrpose><precision value="{}"/></hrpose></rt_info></net>'


@pytest.mark.parametrize(
    "head",
    [
        f'<!DOCTYPE net [<!ENTITY a0 "ha">{LAUGHS}]>',
        '<!DOCTYPE net [<!ENTITY a11 SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE net SYSTEM "http://127.0.0.1:9/net.dtd">',
        '<!DOCTYPE net [<!ENTITY % a SYSTEM "net.dtd"> %a;]>',
    ],
    ids=["laughs", "file", "server", "parameter"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_read_export_metadata_opens_no_entity(tmp_path: Path, head: str, encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>{head}{PRECISION.format("&a11;")}'
    (tmp_path / "net.xml").write_text(text, encoding=encoding)
    with pytest.raises(WeightsError, match=r"net\.xml is damaged .*document type net"):
        read_export_metadata(tmp_path / "net.xml")


def test_read_export_metadata_reads_only_its_own_section(tmp_path: Path) -> None:
    other = "<net><layers><hrpose><precision value='int8'/></hrpose></layers><rt_info><hrpose>"
    (tmp_path / "net.xml").write_text(f"{other}<batch value='any'/></hrpose><other value='1'/></rt_info></net>")
    assert read_export_metadata(tmp_path / "net.xml") == {"batch": "any"}
    (tmp_path / "net.xml").write_text(f"{'<net>' * 100_000}{'</net>' * 100_000}")
    assert read_export_metadata(tmp_path / "net.xml") == {}


@pytest.mark.parametrize(
    ("precision", "batch"), [("fp64", "1"), ("", "1"), ("fp32", "0"), ("fp32", "-1"), ("fp32", "9" * 9), ("fp32", "x")]
)
def test_read_export_info_refuses_what_no_export_writes(tmp_path: Path, precision: str, batch: str) -> None:
    said = f"<precision value='{precision}'/><batch value='{batch}'/>"
    (tmp_path / "net.xml").write_text(f"<net><rt_info><hrpose>{said}</hrpose></rt_info></net>")
    with pytest.raises(WeightsError, match="does not say how to feed it"):
        read_export_info(tmp_path / "net.xml")
