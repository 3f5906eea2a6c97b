"""Weights of a Lite-HRNet arranged and rounded for bf16: how the shipped ones were made.

    python benchmarks/bf16_weights.py START --data person_keypoints_train.json --out lite-hrnet.safetensors \
        --fact ap_coco_dev_gt_flip_dark=0.6793

What they then do is measured by agreement.py and accuracy.py.
"""

import argparse
from pathlib import Path

import torch
from bf16 import for_bf16

from hrpose_cli.backends import normalise_images
from hrpose_cli.export import CalibrationImages
from hrpose_cli.models import find_weights, load_net, read_weights_metadata, save_weights
from hrpose_cli.nets import LiteHRNet

CROPS = 128  # people on whom the channels are measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", help="name or file of weights")
    parser.add_argument("--data", type=Path, required=True, help="COCO annotations of people who were trained on")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fact", action="append", default=[], help="KEY=VALUE, kept in the file")
    arguments = parser.parse_args()
    spec, path = find_weights(arguments.start)
    net = load_net(spec, path)
    assert isinstance(net, LiteHRNet), f"{path} is no Lite-HRNet"
    crops = torch.from_numpy(CalibrationImages(arguments.data, arguments.images).crops(net, spec, CROPS))
    made = for_bf16(net, normalise_images(crops.permute(0, 3, 1, 2).float(), spec.color))
    history = {key: value for key, value in read_weights_metadata(path).items() if key in {"samples", "minutes"}}
    save_weights(made, spec, arguments.out, **history, **dict(fact.split("=", 1) for fact in arguments.fact))
    print(f"{arguments.out}: measured on {len(crops)} people")


if __name__ == "__main__":
    main()
