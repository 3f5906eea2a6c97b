"""The metadata of an exported net: those of a file of weights, its precision and its batch size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from hrpose_cli.errors import WeightsError, first_line
from hrpose_cli.files import check_memory

METADATA_SECTION = "hrpose"  # in the runtime information of an OpenVINO file
EXPORTED_SUFFIXES = (".onnx", ".xml")
_PRECISIONS = ("fp32", "fp16", "int8")
_MOST_CROPS = 4096  # per call
_ONNX_FLOATS = {1, 10, 11}  # FLOAT, FLOAT16, DOUBLE


@dataclass(frozen=True)
class _ExportInfo:
    """The precision and the batch size of an exported net."""

    precision: str
    batch: int | None  # crops per call; None: any number


def read_export_metadata(path: Path) -> dict[str, str]:
    """The strings that `hrpose export` put into a file; none if another program wrote it."""
    try:
        check_memory(path.stat().st_size, str(path))
        return _METADATA_READERS[path.suffix](path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, ElementTree.ParseError) as error:
        raise WeightsError(f"{path} is damaged or no {path.suffix} net: {first_line(error)}") from error


def read_export_info(path: Path) -> _ExportInfo:
    """The precision and the batch size of the net in `path`; WeightsError if `hrpose export` did not write it."""
    said = read_export_metadata(path)
    try:
        batch = None if said["batch"] == "any" else int(said["batch"])
        if said["precision"] not in _PRECISIONS or (batch is not None and not 1 <= batch <= _MOST_CROPS):
            raise ValueError(f"precision {said['precision']}, batch {batch}")
        return _ExportInfo(said["precision"], batch)
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path} was not written by hrpose export: it does not say how to feed it") from error


class _RuntimeInfo:
    """What an XML parser finds under net/rt_info/hrpose; it keeps nothing else of the file."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.found: dict[str, str] = {}

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.path.append(tag)
        if len(self.path) == 4 and self.path[1:3] == ["rt_info", METADATA_SECTION]:
            self.found[tag] = attributes.get("value", "")

    def end(self, _: str) -> None:
        self.path.pop()

    def doctype(self, name: str, *_: object) -> None:
        """Refuse a document type: only in one can there be entities, which name other files or unfold to gigabytes."""
        raise ValueError(f"it declares the document type {name}")

    def close(self) -> dict[str, str]:
        return self.found


def _read_openvino_metadata(path: Path) -> dict[str, str]:
    parser = ElementTree.XMLParser(target=_RuntimeInfo())
    with path.open("rb") as file:
        while block := file.read(1 << 16):
            parser.feed(block)
    found: Any = parser.close()
    return dict(found)


def _read_onnx_metadata(path: Path) -> dict[str, str]:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise WeightsError(f"reading {path} needs the package onnx: pip install 'hrpose[onnx]'") from error
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ValueError("it cannot be decoded") from error
    _check_constants(model, onnx)
    return {entry.key: entry.value for entry in model.metadata_props}


def _check_constants(model: Any, onnx: Any) -> None:
    """Raise ValueError, which names it, for a constant that lies in another file or is no number."""
    for message in _messages(model):
        if not isinstance(message, onnx.TensorProto):
            continue
        if message.data_location == onnx.TensorProto.EXTERNAL or message.external_data:
            raise ValueError(f"{message.name or 'a constant'} lies in another file, which hrpose does not open")
        if message.data_type in _ONNX_FLOATS and not np.isfinite(onnx.numpy_helper.to_array(message)).all():
            raise ValueError(f"{message.name or 'a constant'} holds NaN or infinity")


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all within it."""
    yield message
    for kind, value in message.ListFields():
        if kind.message_type:
            for inner in value if kind.is_repeated else [value]:
                yield from _messages(inner)


_METADATA_READERS = {".onnx": _read_onnx_metadata, ".xml": _read_openvino_metadata}
