"""Heatmaps of our Lite-HRNet with PP-TinyPose's weights against OpenVINO's run of the same IR.

    python benchmarks/lite_hrnet_parity.py tinypose_256_192.xml [person_keypoints.json images/]

With a COCO file, crops of its people are compared too. Ends with 1 if an error exceeds 1e-5.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import torch
from tinypose import read_ir
from torch import Tensor

from hrpose_cli.backends.pytorch import _MEAN, _STD
from hrpose_cli.estimation import cut_crops
from hrpose_cli.media import read_image
from hrpose_cli.nets import LiteHRNet

SIZE = (192, 256)
LIMIT = 1e-5


def crops(annotations: Path, images: Path, count: int) -> Tensor:
    """(count, 3, 256, 192) normalised crops of the first people of a COCO file."""
    content = json.loads(annotations.read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    people = [a for a in content["annotations"] if a.get("num_keypoints") and not a.get("iscrowd")][:count]
    cut = [crop(images / names[a["image_id"]], a["bbox"]) for a in people]
    pixels = np.concatenate(cut).astype(np.float32) / 255
    return torch.from_numpy((pixels - _MEAN) / _STD).float().permute(0, 3, 1, 2).contiguous()


def crop(path: Path, box: list[float]) -> np.ndarray:
    """(1, 256, 192, 3) of a COCO box (x, y, w, h)."""
    x, y, w, h = box
    return cut_crops(read_image(path), [[x, y, x + w, y + h]], SIZE).images


def reference(xml: Path) -> Callable[[Tensor], np.ndarray]:
    """OpenVINO in full precision, one image at a time."""
    net = openvino.Core().compile_model(xml, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: np.concatenate([net(image[None].numpy())[0] for image in images])


def main() -> int:
    """Compare and print; the exit code says whether all is within the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xml", type=Path)
    parser.add_argument("coco", type=Path, nargs="*", help="annotations and the folder of their images")
    parser.add_argument("--count", type=int, default=32, help="images of each kind")
    options = parser.parse_args()
    net = LiteHRNet().eval()
    net.load_state_dict(read_ir(options.xml))
    openvino_net = reference(options.xml)
    torch.manual_seed(0)
    images = {"noise": torch.randn(options.count, 3, 256, 192)}
    if options.coco:
        images["crops"] = crops(*options.coco, options.count)
    worst = 0.0
    for name, batch in images.items():
        with torch.inference_mode():
            ours = net(batch).numpy()
        error = float(np.abs(ours - openvino_net(batch)).max())
        worst = max(worst, error)
        print(f"{name}: {len(batch)} images, {ours.shape[1:]} heatmaps up to {ours.max():.3f}, error {error:.1e}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
