"""The metadata of an exported net: those of a file of weights, its precision and its batch size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from hrpose_cli.errors import WeightsError

METADATA_SECTION = "hrpose"  # in the runtime information of an OpenVINO file
EXPORTED_SUFFIXES = (".onnx", ".xml")


@dataclass(frozen=True)
class _ExportInfo:
    """The precision and the batch size of an exported net."""

    precision: str
    batch: int | None  # crops per call; None: any number


def read_export_metadata(path: Path) -> dict[str, str]:
    """The strings that `hrpose export` put into a file; none if another program wrote it."""
    readers = {".onnx": _read_onnx_metadata, ".xml": _read_openvino_metadata}
    try:
        return readers[path.suffix](path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, ElementTree.ParseError) as error:
        raise WeightsError(f"{path} is damaged or no {path.suffix} net: {type(error).__name__}") from error


def read_export_info(path: Path) -> _ExportInfo:
    """The precision and the batch size of the net in `path`; WeightsError if `hrpose export` did not write it."""
    said = read_export_metadata(path)
    try:
        return _ExportInfo(said["precision"], None if said["batch"] == "any" else int(said["batch"]))
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path} was not written by hrpose export: it does not say how to feed it") from error


def _read_openvino_metadata(path: Path) -> dict[str, str]:
    entries = ElementTree.parse(path).iterfind(f"rt_info/{METADATA_SECTION}/*")
    return {entry.tag: entry.get("value", "") for entry in entries}


def _read_onnx_metadata(path: Path) -> dict[str, str]:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise WeightsError(f"reading {path} needs the package onnx: pip install 'hrpose[onnx]'") from error
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ValueError from error
    return {entry.key: entry.value for entry in model.metadata_props}
