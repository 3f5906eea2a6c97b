"""Facts written into the metadata of weights."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from benchmarks.record import record
from hrpose_cli.files import sha256_file
from hrpose_cli.models.find import read_weights_metadata, save_weights
from hrpose_cli.nets.hrnet import HRNet
from tests.conftest import spec


@pytest.mark.parametrize("fact", ["", "short", "né " * 99])
def test_tensors_stay_and_metadata_grow(net: HRNet, tmp_path: Path, fact: str) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(net, spec(), path)
    before, tensors = path.read_bytes(), load_file(path)
    quantized = path.with_suffix(".int8.xml")
    quantized.write_text(f'<a sha="{sha256_file(path)}"/><b sha="{"0" * 64}"/>')
    record(path, {"agreement": json.dumps({"torch cpu bf16": 0.99}), "fact": fact})
    assert read_weights_metadata(path)["fact"] == fact
    assert read_weights_metadata(path).items() > spec().metadata().items()
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == set(tensors)
    assert all(values.equal(tensors[name]) for name, values in load_file(path).items())
    size, old = (int.from_bytes(content[:8], "little") for content in (path.read_bytes(), before))
    assert size % 8 == 0
    assert path.read_bytes()[8 + size :] == before[8 + old :]
    assert quantized.read_text() == f'<a sha="{sha256_file(path)}"/><b sha="{"0" * 64}"/>'
