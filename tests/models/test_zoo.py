import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from hrpose_cli.errors import WeightsError
from hrpose_cli.estimation.heatmaps import DECODERS
from hrpose_cli.models.find import describe_weights
from hrpose_cli.models.zoo import _DECODES, MODELS, RECOMMENDED, ModelSpec, spec_from_metadata
from hrpose_cli.skeletons import SKELETONS


@pytest.mark.parametrize("row", MODELS.values(), ids=lambda row: row.name)
def test_models_fit_together(row: ModelSpec) -> None:
    assert row.name == row.name.lower()
    assert row.size in row.name
    assert row.net.get("joints", 17) == len(SKELETONS[row.skeleton])
    assert row.flip_shift == (row.geometry == "classic")
    assert (row.decode == "udp") == (row.geometry == "udp")
    assert row.sigma == {64: 2, 96: 3, 32: 1, 128: 2, 160: 2}[row.input_size[1] // 4] or row.net == {"stacks": 8}
    assert row.licence in {"Apache-2.0", "MIT"}
    assert row.url is None or row.url.endswith("/" + row.file)
    assert row.url is None or row.skeleton == "synthpose" or len(row.sha256_prefix or "") == 8
    assert (row.url is None) == bool(row.source)


def test_models_have_a_file_each() -> None:
    files = [row.file for row in MODELS.values() if row.file]
    assert len(set(files)) == len(files)
    assert len(MODELS) == 81


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        # the repositories differ in how the same net is to be used
        ("hrnet-w32-256x192", {"geometry": "classic", "decode": "dark", "flip_shift": True, "kernel": 11, "ap": 0.749}),
        ("hrnet-w48-384x288-dark", {"geometry": "classic", "flip_shift": True, "kernel": 11, "sigma": 3, "ap": 0.772}),
        ("hrnet-w48-384x288-dark-mm0", {"geometry": "classic", "flip_shift": True, "kernel": 17, "ap": 0.772}),
        ("hrnet-w32-256x192-udp", {"geometry": "udp", "decode": "udp", "flip_shift": False, "sigma": 2}),
        ("hrnet-w32-mpii-256x256", {"net": {"width": 32, "joints": 16}, "input_size": (256, 256), "sigma": 2}),
        ("hrnet-w32-crowdpose-256x192", {"net": {"width": 32, "joints": 14}, "skeleton": "crowdpose"}),
        ("higher-hrnet-w32-512x512-udp-mm0", {"geometry": "udp", "decode": "udp", "kernel": 3, "ap": 0.678}),
        ("official-hrnet-w48-384x288", {"file": "pose_hrnet_w48_384x288.pth", "flip_shift": True, "licence": "MIT"}),
        ("official-dark-hrnet-w32-128x96", {"geometry": "dark", "flip_shift": False, "kernel": 3, "sigma": 1}),
        ("official-dark-hrnet-w48-128x96", {"geometry": "dark", "kernel": 11, "input_size": (96, 128)}),
        ("official-dark-hrnet-w32-384x288", {"geometry": "dark", "flip_shift": False, "kernel": 11, "sigma": 3}),
    ],
)
def test_models_say_how_their_file_is_used(name: str, facts: dict[str, Any]) -> None:
    assert {key: getattr(MODELS[name], key) for key in facts} == facts


def test_models_of_other_skeletons_say_their_scores_and_terms() -> None:
    row = MODELS["hrnet-w48-wholebody-384x288-dark"]
    assert (row.ap, row.kernel, row.sigma, row.decode, row.sha256_prefix) == (0.661, 17, 3, "dark", "f5726563")
    assert row.scores == {"body": 0.742, "foot": 0.707, "face": 0.841, "hand": 0.602}
    assert "COCO-WholeBody val" in row.ap_on
    for row in MODELS.values():
        if row.skeleton in {"wholebody", "ap10k"}:
            assert re.search("non-commercial", row.data)
        if row.ap is not None and row.tested_on:
            assert row.ap_on == row.tested_on


def test_what_nobody_verified_of_synthpose_is_said() -> None:
    row = MODELS["synthpose-hrnet-w48-384x288"]
    assert (row.ap, row.flip_test, row.sha256_prefix) == (None, False, None)
    assert "unverified" in row.remark


def test_model_spec_url_and_sha256_prefix() -> None:
    row = MODELS["hrnet-w32-256x192"]
    assert row.url == (
        "https://download.openmmlab.com/mmpose/v1/body_2d_keypoint/topdown_heatmap/coco/"
        "td-hm_hrnet-w32_8xb64-210e_coco-256x192-81c58e40_20220909.pth"
    )
    assert row.sha256_prefix == "81c58e40"
    assert MODELS["official-hrnet-w32-256x192"].sha256_prefix is None


def test_recommended_models_can_be_downloaded() -> None:
    for skeleton, name in RECOMMENDED.items():
        assert MODELS[name].skeleton == skeleton
        assert MODELS[name].url


@pytest.mark.parametrize("name", ["hrnet-w32-256x192-udp", "official-dark-hrnet-w32-128x96", "hrnet-w48-mpii-256x256"])
def test_spec_from_metadata_brings_a_spec_back(name: str) -> None:
    row = MODELS[name]
    back = spec_from_metadata(Path(f"{name}.safetensors"), row.metadata() | {"ap_coco_dev_gt_flip_dark": "0.5"})
    assert back == replace(row, file=f"{name}.safetensors", ap=0.5, url=None, source="")


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": "big"},
        {"net": "32"},
        {"net": "{"},
        {"geometry": "flat"},
        {"color": "grey"},
        {"skeleton": "horse"},
        {"skeleton": "mpii"},
        *({"input": size} for size in ("0x0", "-256x-192", "256x0", "250x190", "65536x65536", "256", "256x192x3")),
        *({"decode": name} for name in ("", "DARK", "__import__", "eval")),
        *({"kernel": size} for size in ("0", "-11", "10", "11.5", "1000001", "", "9" * 5000)),
        *({"sigma": size} for size in ("nan", "inf", "0", "-2", "1e9", "")),
        *({"padding": factor} for factor in ("nan", "inf", "0", "3")),
        *({"ap_coco_dev_gt_flip_dark": score} for score in ("nan", "inf", "-1", "68")),
        {"net": '{"joints": 1e3}'},
        {"net": "[" * 100_000},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_describe_weights_refuses_wrong_metadata_in_one_line(tmp_path: Path, wrong: dict[str, str]) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"a": np.zeros(1)}, path, metadata=MODELS["hrnet-w32-256x192"].metadata() | wrong)
    with pytest.raises(WeightsError, match=r"net\.safetensors has wrong or incomplete metadata: .+") as caught:
        describe_weights(path)
    assert len(str(caught.value).splitlines()) == 1


def test_spec_from_metadata_knows_every_decoder() -> None:
    assert set(DECODERS) == set(_DECODES)


def test_shipped_models_and_default_weights_need_no_torch() -> None:
    code = "import sys, hrpose_cli.models as m; m.shipped_models(), m.default_weights(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"False"
