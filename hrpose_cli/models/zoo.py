"""The table of models: all that is known about each file, as data.

Numbers are those that the repositories publish for COCO val2017 with the detector of AP 56.4 and
flip test, as fractions; for MPII PCKh@0.5; for CrowdPose its test set. The eight hexadecimal digits
in an mmpose file name begin its SHA-256.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hrpose_cli.geometry import GEOMETRIES, PADDING, Geometry
from hrpose_cli.skeletons import SKELETONS

_MMPOSE = "https://download.openmmlab.com/mmpose/"
_MM0 = _MMPOSE + "top_down/"
_MM1 = _MMPOSE + "v1/body_2d_keypoint/topdown_heatmap/coco/td-hm_"
_OFFICIAL = "https://github.com/leoxiaobin/deep-high-resolution-net.pytorch"
_DARKPOSE = "https://github.com/ilovepose/DarkPose"
_MICROSOFT = "https://github.com/microsoft/human-pose-estimation.pytorch"
_HIGHER = "https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation"

_Size = tuple[int, int]
_SMALL, _LARGE, _SQUARE, _TINY = (192, 256), (288, 384), (256, 256), (96, 128)
_WHOLE = (512, 512)  # of whole images, whose short side becomes that of the input size
_TESTED_ON = {"coco": "COCO val2017", "mpii": "MPII val", "crowdpose": "CrowdPose test"}  # by the authors of the files
RESNET_BLOCKS = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}  # depth: blocks of each layer


@dataclass(frozen=True)
class ModelSpec:
    """A file of weights and how it must be used. Sizes are (width, height) in pixels."""

    name: str
    architecture: str = "hrnet"  # a row of nets.NETS
    net: dict[str, Any] = field(default_factory=dict)  # the integers of its config
    input_size: tuple[int, int] = (192, 256)
    geometry: Geometry = "classic"
    decode: str = "dark"
    color: str = "rgb"  # "bgr": red and blue change places before the net, which was trained so
    padding: float = PADDING  # of boxes: how much larger than the 3:4 box a crop is
    flip_shift: bool = True  # move the mirrored heatmap one column in a flip test
    sigma: float = 2.0  # of the targets, heatmap px
    kernel: int = 11  # of DARK's blur, heatmap px
    skeleton: str = "coco"
    licence: str = ""
    data: str = ""
    ap: float | None = None  # published, or measured by us where `data` says so
    url: str | None = None  # None: the user brings the file
    file: str = ""  # its name; empty where many files share one
    source: str = ""  # where a file without an address is to be had
    tested_on: str = ""  # what `ap` was measured on, where the skeleton does not say it
    scores: Mapping[str, float] = field(default_factory=dict)  # published AP of parts, or of other data
    flip_test: bool = True  # False: nobody has tried one with these weights
    remark: str = ""  # what a user has to know

    @property
    def sha256_prefix(self) -> str | None:
        """The start of the published hash, if the file's name carries one."""
        found = re.search(r"-([0-9a-f]{8})_\d{8}\.pth$", self.file)
        return found[1] if found else None

    @property
    def size(self) -> str:
        """The input size as model names write it, HxW."""
        return f"{self.input_size[1]}x{self.input_size[0]}"

    @property
    def method(self) -> str:
        """Top-down (boxes first) or bottom-up (all keypoints of the image at once)."""
        return "bottom-up" if self.architecture == "higher_hrnet" else "top-down"

    @property
    def ap_on(self) -> str:
        """What `ap` was measured on."""
        if self.tested_on:
            return self.tested_on
        if not self.url and not self.source:  # ours: the files of others have a place
            return "coco_dev (weights/MODEL_CARD.md): AP in ground-truth boxes with flip test"
        if self.method == "bottom-up":
            return f"{_TESTED_ON[self.skeleton]}: AP of all people at once with flip test"
        measure = "PCKh@0.5" if self.skeleton == "mpii" else "AP in detected boxes"
        return f"{_TESTED_ON[self.skeleton]}: {measure} with flip test"

    def metadata(self) -> dict[str, str]:
        """The strings that a safetensors file of ours carries."""
        return {
            "architecture": self.architecture, "net": json.dumps(self.net), "input": self.size,
            "geometry": self.geometry, "decode": self.decode, "color": self.color,
            "flip_shift": str(self.flip_shift).lower(), "sigma": f"{self.sigma:g}", "kernel": str(self.kernel),
            "skeleton": self.skeleton, "license": self.licence, "data": self.data, "padding": f"{self.padding:g}",
        }  # fmt: skip


def spec_from_metadata(path: Path, facts: Mapping[str, str]) -> ModelSpec:
    """The spec of a file that carries what `ModelSpec.metadata` gave; else KeyError, TypeError or ValueError."""
    height, width = map(int, facts["input"].split("x"))
    measured = facts.get("ap_coco_dev_gt_flip_dark")
    spec = ModelSpec(
        name=path.stem, architecture=facts["architecture"], net=dict(json.loads(facts["net"])),
        input_size=(width, height), geometry=facts["geometry"],  # type: ignore[arg-type]  # checked below
        decode=facts.get("decode", "udp" if facts["geometry"] == "udp" else "dark"),
        color=facts.get("color", "rgb"), flip_shift=facts["flip_shift"] == "true", sigma=float(facts["sigma"]),
        kernel=int(facts["kernel"]), skeleton=facts["skeleton"], licence=facts.get("license", ""),
        data=facts.get("data", ""), padding=float(facts.get("padding", PADDING)),
        ap=float(measured) if measured else None, file=path.name,
    )  # fmt: skip
    _check_spec(spec)
    return spec


_DECODES = ("argmax", "quarter", "dark", "udp")  # rows of estimation.DECODERS, which needs torch


def _check_spec(spec: ModelSpec) -> None:
    """Raise ValueError unless all values of a spec, which may come from anywhere, can be used."""
    wrong = {
        "input": any(side % 32 or not 32 <= side <= 2048 for side in spec.input_size),
        "geometry": spec.geometry not in GEOMETRIES,
        "decode": spec.decode not in _DECODES,
        "color": spec.color not in {"rgb", "bgr"},
        "padding": not 1 <= spec.padding <= 2,
        "sigma": not 0.1 <= spec.sigma <= 20,
        "kernel": spec.kernel % 2 == 0 or not 1 <= spec.kernel <= 99,
        "ap_coco_dev_gt_flip_dark": not 0 <= (spec.ap or 0) <= 1,
        "skeleton": spec.skeleton not in SKELETONS,
    }
    for key in (key for key, is_wrong in wrong.items() if is_wrong):
        raise ValueError(f"{key} is {spec.metadata().get(key, spec.ap)}")
    if spec.net.get("joints", 17) != len(SKELETONS[spec.skeleton]):
        raise ValueError(f"{spec.net.get('joints', 17)} joints for the skeleton {spec.skeleton}")


def _published(name: str, net: dict[str, Any], size: _Size, url: str, ap: float | None) -> ModelSpec:
    """A row of mmpose: HRNet, classic geometry, one-column shift, sigma by size; COCO by default."""
    return ModelSpec(
        name=name, net=net, input_size=size, sigma=3.0 if size == _LARGE else 2.0, ap=ap,
        url=url, file=url.rpartition("/")[2], licence="Apache-2.0", data="COCO train2017 (annotations CC BY 4.0)",
    )  # fmt: skip


def _hrnet(name: str, width: int, size: _Size, url: str, ap: float | None) -> ModelSpec:
    return _published(name, {"width": width}, size, url, ap)


def _resnet(name: str, depth: int, size: _Size, url: str, ap: float | None) -> ModelSpec:
    """A row of mmpose for a SimpleBaseline."""
    return replace(_published(name, {"blocks": RESNET_BLOCKS[depth]}, size, url, ap), architecture="simple_baseline")


def _higher(name: str, width: int, size: _Size, url: str, ap: float | None) -> ModelSpec:
    """A row of mmpose for a HigherHRNet, which moves keypoints by quarters as its authors do."""
    row = _published(name, {"width": width}, size, url, ap)
    return replace(row, architecture="higher_hrnet", decode="quarter", sigma=2.0)


def _other(row: ModelSpec, skeleton: str, joints: int, data: str) -> ModelSpec:
    """The same row for another skeleton."""
    return replace(row, skeleton=skeleton, net=row.net | {"joints": joints}, data=data)


# width, size, kind, file, AP: mmpose 1.x
_MODERN: list[tuple[int, _Size, str, str, float]] = [
    (32, _SMALL, "", "w32_8xb64-210e_coco-256x192-81c58e40_20220909.pth", 0.749),
    (32, _LARGE, "", "w32_8xb64-210e_coco-384x288-ca5956af_20220909.pth", 0.761),
    (48, _SMALL, "", "w48_8xb32-210e_coco-256x192-0e67c616_20220913.pth", 0.756),
    (48, _LARGE, "", "w48_8xb32-210e_coco-384x288-c161b7de_20220915.pth", 0.767),
    (32, _SMALL, "-dark", "w32_dark-8xb64-210e_coco-256x192-0e00bf12_20220914.pth", 0.757),
    (32, _LARGE, "-dark", "w32_dark-8xb64-210e_coco-384x288-9bab4c9b_20220917.pth", 0.766),
    (48, _SMALL, "-dark", "w48_dark-8xb32-210e_coco-256x192-e1ebdd6f_20220913.pth", 0.764),
    (48, _LARGE, "-dark", "w48_dark-8xb32-210e_coco-384x288-39c3c381_20220916.pth", 0.772),
    (32, _SMALL, "-udp", "w32_udp-8xb64-210e_coco-256x192-73ede547_20220914.pth", 0.762),
    (32, _LARGE, "-udp", "w32_udp-8xb64-210e_coco-384x288-9a3f7c85_20220914.pth", 0.768),
    (48, _SMALL, "-udp", "w48_udp-8xb32-210e_coco-256x192-3feaef8f_20220913.pth", 0.768),
    (48, _LARGE, "-udp", "w48_udp-8xb32-210e_coco-384x288-70d7ab01_20220913.pth", 0.773),
]

# The same of mmpose 0.x.
_OLD: list[tuple[int, _Size, str, str, float]] = [
    (32, _SMALL, "", "hrnet/hrnet_w32_coco_256x192-c78dce93_20200708.pth", 0.746),
    (32, _LARGE, "", "hrnet/hrnet_w32_coco_384x288-d9f0d786_20200708.pth", 0.760),
    (48, _SMALL, "", "hrnet/hrnet_w48_coco_256x192-b9e0b3ab_20200708.pth", 0.756),
    (48, _LARGE, "", "hrnet/hrnet_w48_coco_384x288-314c8528_20200708.pth", 0.767),
    (32, _SMALL, "-dark", "hrnet/hrnet_w32_coco_256x192_dark-07f147eb_20200812.pth", 0.757),
    (32, _LARGE, "-dark", "hrnet/hrnet_w32_coco_384x288_dark-307dafc2_20210203.pth", 0.766),
    (48, _SMALL, "-dark", "hrnet/hrnet_w48_coco_256x192_dark-8cba3197_20200812.pth", 0.764),
    (48, _LARGE, "-dark", "hrnet/hrnet_w48_coco_384x288_dark-e881a4b6_20210203.pth", 0.772),
    (32, _SMALL, "-udp", "udp/hrnet_w32_coco_256x192_udp-aba0be42_20210220.pth", 0.760),
    (32, _LARGE, "-udp", "udp/hrnet_w32_coco_384x288_udp-e97c1a0f_20210223.pth", 0.769),
    (48, _SMALL, "-udp", "udp/hrnet_w48_coco_256x192_udp-2554c524_20210223.pth", 0.767),
    (48, _LARGE, "-udp", "udp/hrnet_w48_coco_384x288_udp-0f89c63e_20210223.pth", 0.772),
]

# width, kind, file, PCKh@0.5; mmpose 1.x points to these files too
_SQUARES = [
    (32, "", "hrnet/hrnet_w32_mpii_256x256-6c4f923f_20200812.pth", 0.900),
    (48, "", "hrnet/hrnet_w48_mpii_256x256-92cab7bd_20200812.pth", 0.901),
    (32, "-dark", "hrnet/hrnet_w32_mpii_256x256_dark-f1601c5b_20200927.pth", 0.904),
    (48, "-dark", "hrnet/hrnet_w48_mpii_256x256_dark-0decd39f_20200927.pth", 0.905),
]
_CROWD = "hrnet/hrnet_w32_crowdpose_256x192-960be101_20201227.pth"

# depth, size, kind, address, AP: SimpleBaseline in mmpose 1.x and 0.x
_RESNET_FILES: list[tuple[int, _Size, str, str, float]] = [
    (50, _SMALL, "", _MM1 + "res50_8xb64-210e_coco-256x192-04af38ce_20220923.pth", 0.718),
    (50, _SMALL, "-dark", _MM1 + "res50_dark-8xb64-210e_coco-256x192-c129dcb6_20220926.pth", 0.724),
    (50, _SMALL, "-mm0", _MM0 + "resnet/res50_coco_256x192-ec54d7f3_20200709.pth", 0.718),
    (50, _LARGE, "-mm0", _MM0 + "resnet/res50_coco_384x288-e6f795e9_20200709.pth", 0.731),
    (101, _SMALL, "-mm0", _MM0 + "resnet/res101_coco_256x192-6e6babf0_20200708.pth", 0.726),
    (50, _SMALL, "-dark-mm0", _MM0 + "resnet/res50_coco_256x192_dark-43379d20_20200709.pth", 0.724),
]

# width, short side, file, AP without other scales; mmpose 0.x, 1.x has none
_BOTTOM_UP = [
    (32, 512, "higher_hrnet32_coco_512x512-8ae85183_20200713.pth", 0.677),
    (32, 640, "higher_hrnet32_coco_640x640-a22fe938_20200712.pth", 0.686),
    (48, 512, "higher_hrnet48_coco_512x512-60fedcbc_20200712.pth", 0.686),
]
_BOTTOM_UP_UDP = "higher_hrnet32_coco_512x512_udp-8cc64794_20210222.pth"
_BOTTOM_UP_CROWD = "higher_hrnet32_crowdpose_512x512-1aa4a132_20201017.pth"

_SIMPLE_AUTHORS: dict[tuple[int, _Size], float | None] = {
    (50, _SMALL): 0.704,
    (50, _LARGE): 0.722,
    (101, _SMALL): 0.714,
    (101, _LARGE): None,
    (152, _SMALL): 0.720,
    (152, _LARGE): 0.743,
}
_AUTHORS = {(32, _SMALL): 0.744, (32, _LARGE): 0.758, (48, _SMALL): 0.751, (48, _LARGE): 0.763}
_DARK_AUTHORS = {(32, _TINY): 0.707, (48, _TINY): 0.719, (32, _SMALL): 0.756, (32, _LARGE): 0.766, (48, _LARGE): 0.768}


def _mmpose_rows() -> Iterator[ModelSpec]:
    """Files of mmpose 1.x (the names without a suffix) and 0.x (-mm0); both shift, but for UDP."""
    for table, folder, suffix in ((_MODERN, _MM1 + "hrnet-", ""), (_OLD, _MM0, "-mm0")):
        for width, size, kind, file, ap in table:
            row = _hrnet(f"hrnet-w{width}-{size[1]}x{size[0]}{kind}{suffix}", width, size, folder + file, ap)
            if kind == "-udp":
                row = replace(row, geometry="udp", decode="udp", flip_shift=False)
            elif kind == "-dark" and table is _OLD and size == _LARGE:
                row = replace(row, kernel=17)  # mmpose 1.x and the authors blur with 11 here
            yield row
    for width, kind, file, score in _SQUARES:
        yield _other(
            _hrnet(f"hrnet-w{width}-mpii-256x256{kind}", width, _SQUARE, _MM0 + file, score), "mpii", 16, "MPII"
        )
    yield _other(_hrnet("hrnet-w32-crowdpose-256x192", 32, _SMALL, _MM0 + _CROWD, 0.675), "crowdpose", 14, "CrowdPose")


def _resnet_rows() -> Iterator[ModelSpec]:
    """SimpleBaseline: mmpose's files, and those of its authors, which want blue first."""
    for depth, size, kind, url, ap in _RESNET_FILES:
        yield _resnet(f"simplebaseline-r{depth}-{size[1]}x{size[0]}{kind}", depth, size, url, ap)
    for (depth, size), known_ap in _SIMPLE_AUTHORS.items():
        tag = f"{size[1]}x{size[0]}"
        file = f"pose_resnet_{depth}_{tag}.pth"
        row = _resnet(f"official-simplebaseline-r{depth}-{tag}", depth, size, file, known_ap)
        yield replace(row, url=None, licence="MIT", source=_MICROSOFT, color="bgr")


def _bottom_up_rows() -> Iterator[ModelSpec]:
    """HigherHRNet: mmpose's files, and the one of its authors that has a name."""
    folder = _MMPOSE + "bottom_up/"
    for width, side, file, ap in _BOTTOM_UP:
        yield _higher(f"higher-hrnet-w{width}-{side}x{side}-mm0", width, (side, side), folder + file, ap)
    crowd = _higher("higher-hrnet-w32-crowdpose-512x512-mm0", 32, _WHOLE, folder + _BOTTOM_UP_CROWD, 0.655)
    yield _other(crowd, "crowdpose", 14, "CrowdPose")
    udp = _higher("higher-hrnet-w32-512x512-udp-mm0", 32, _WHOLE, folder + _BOTTOM_UP_UDP, 0.678)
    yield replace(udp, geometry="udp", decode="udp", flip_shift=False, kernel=3, net=udp.net | {"corners": True})
    row = _higher("official-higher-hrnet-w32-512x512", 32, _WHOLE, "pose_higher_hrnet_w32_512.pth", 0.671)
    yield replace(row, url=None, licence="MIT", source=_HIGHER)


def _official_rows() -> Iterator[ModelSpec]:
    """HRNet's own files; they lie in folders of file-sharing sites that have no fixed addresses."""
    own: dict[str, Any] = {"url": None, "licence": "MIT", "source": _OFFICIAL}
    for (width, size), ap in _AUTHORS.items():
        tag = f"{size[1]}x{size[0]}"
        row = _hrnet(f"official-hrnet-w{width}-{tag}", width, size, f"pose_hrnet_w{width}_{tag}.pth", ap)
        yield replace(row, **own)
    for width, score in ((32, 0.903), (48, None)):
        file = f"pose_hrnet_w{width}_256x256.pth"
        row = _hrnet(f"official-hrnet-w{width}-mpii-256x256", width, _SQUARE, file, score)
        yield _other(replace(row, **own), "mpii", 16, "MPII")


def _darkpose_rows() -> Iterator[ModelSpec]:
    """DarkPose's own files. They are called like HRNet's, so only `like` can tell them apart."""
    for (width, size), ap in _DARK_AUTHORS.items():
        row = _hrnet(f"official-dark-hrnet-w{width}-{size[1]}x{size[0]}", width, size, "", ap)
        if size == _TINY:
            row = replace(row, sigma=1.0, kernel=3 if width == 32 else 11)
        yield replace(row, geometry="dark", flip_shift=False, url=None, source=_DARKPOSE)
    own: dict[str, Any] = {"geometry": "dark", "flip_shift": False, "color": "bgr", "url": None, "source": _DARKPOSE}
    simple = _resnet("official-dark-simplebaseline-r50-128x96", 50, _TINY, "", 0.626)
    yield replace(simple, sigma=1.0, kernel=3, **own)
    for stacks, sigma, score in ((4, 1.0, 0.696), (8, 2.0, 0.708)):
        row = _published(f"official-dark-hourglass-{stacks}-128x96", {"stacks": stacks}, _TINY, "", score)
        yield replace(row, architecture="hourglass", sigma=sigma, **own)


def _listed_rows() -> Iterator[ModelSpec]:
    """The rows of zoo.json: HRNets for other skeletons and other people, by mmpose and by Stanford (SynthPose)."""
    for facts in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")):
        net = {"width": facts.pop("width"), "joints": facts.pop("joints")}
        height, width = map(int, facts.pop("input").split("x"))
        file = facts["url"].rpartition("/")[2]
        yield ModelSpec(net=net, input_size=(width, height), file=file, **facts)


_ROWS = (*_mmpose_rows(), *_resnet_rows(), *_bottom_up_rows(), *_official_rows(), *_darkpose_rows(), *_listed_rows())
MODELS: dict[str, ModelSpec] = {row.name: row for row in _ROWS}
# The best of those that a laptop runs: by skeleton, what to download first.
RECOMMENDED = {
    "coco": "hrnet-w32-256x192-udp",
    "mpii": "hrnet-w32-mpii-256x256-dark",
    "crowdpose": "hrnet-w32-crowdpose-256x192",
    "wholebody": "hrnet-w32-wholebody-256x192-dark",
}
