"""Small real files of every kind that is read, to be damaged.

Each function gives cases: the files that one attempt needs, by name. The first is damaged, the others stand beside it.
What all attempts of a target share is left in the folder `shared`.
"""

import gzip
import io
import json
import os
import pickle
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from tests.formats.builders import FILES, HEADER, LABELS, READABLE, clip, save

Case = dict[str, bytes]
SIZE = 64, 48
WEIGHTS = bytes(range(256)) * 8  # a download


def pixels(size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.mgrid[: size[1], : size[0]]
    return np.stack([x * 4, y * 5, (x + y) * 2], axis=-1).astype(np.uint8)


def encoded(image: PIL.Image.Image, suffix: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, PIL.Image.registered_extensions()[suffix], **options)
    return out.getvalue()


def make_images(_: Path) -> list[Case]:
    rgb = PIL.Image.fromarray(pixels())
    deep = PIL.Image.fromarray(pixels()[..., 0].astype(np.uint16) * 256)
    real = PIL.Image.fromarray(pixels()[..., 0].astype(np.float32))
    exif = PIL.Image.Exif()
    exif[0x112] = 6  # lies on its side
    pages = {"save_all": True, "append_images": [PIL.Image.fromarray(255 - pixels())] * 2}
    kinds: dict[str, tuple[PIL.Image.Image, dict[str, Any]]] = {
        "rgb.png": (rgb, {}), "palette.png": (rgb.quantize(16), {"transparency": 3}), "deep.png": (deep, {}),
        "clear.png": (rgb.convert("RGBA"), {"exif": exif}), "exif.jpg": (rgb, {"exif": exif}),
        "grey.jpg": (rgb.convert("L"), {"progressive": True}), "print.jpg": (rgb.convert("CMYK"), {}),
        "many.gif": (rgb, pages), "a.webp": (rgb, {}), "many.webp": (rgb, pages), "a.bmp": (rgb, {}),
        "a.tif": (rgb, {}), "deep.tif": (deep, {}), "real.tif": (real, {}),
        "lzw.tif": (rgb, {"compression": "tiff_lzw"}), "jpeg.tif": (rgb, {"compression": "jpeg"}),
        "many.tif": (rgb, pages), "a.ppm": (rgb, {}), "a.tga": (rgb, {"compression": "tga_rle"}), "a.jp2": (rgb, {}),
        "a.avif": (rgb, {"exif": exif}),
    }  # fmt: skip
    return [{name: encoded(image, Path(name).suffix, **options)} for name, (image, options) in kinds.items()]


CODECS = {
    "a.mp4": "libx264 -pix_fmt yuv420p -bf 1 -movflags +faststart", "a.mov": "mpeg4", "a.webm": "libvpx -b:v 100k",
    "a.mkv": "libx264 -pix_fmt yuv420p", "deep.mkv": "ffv1 -pix_fmt yuv420p10le", "a.ts": "libx264 -pix_fmt yuv420p",
    "laced.ts": "mpeg2video -flags +ilme+ildct", "a.avi": "mjpeg -pix_fmt yuvj420p", "b.avi": "mpeg4", "a.gif": "gif",
    "a.flv": "flv1", "a.ogv": "libtheora", "a.mpg": "mpeg1video",
}  # fmt: skip


def make_clips(shared: Path) -> list[Case]:
    from tests.media.clips import film

    for name, codec in CODECS.items():
        audio = 0.2 if name in {"a.mp4", "a.mkv", "a.ts"} else 0
        film(shared / name, 5, size=SIZE, codec=["-c:v", *codec.split()], audio=audio)
    return [{name: (shared / name).read_bytes()} for name in CODECS]


def make_poses(shared: Path) -> list[Case]:
    """A clip with tracked people, and one without, in each format that is read."""
    cases = []
    for number, records in enumerate((clip(2, 0, 1), clip(2, 1, full=False))):
        slow = {"parquet", "netcdf"}  # which take half a second to read; netCDF needs tracks
        for format in READABLE if number == 0 else set(READABLE) - slow:
            target = shared / str(number) / FILES[format]
            save(f"{target}/" if format == "openpose" else target, records, HEADER, format=format)
            files = sorted(target.iterdir()) if target.is_dir() else [target]
            cases.append({str(file.relative_to(shared / str(number))): file.read_bytes() for file in files})
    return cases + make_labels(shared)


def make_labels(shared: Path) -> list[Case]:
    """The same clip in the formats of labelling tools, each in a folder of its name; a YOLO one has its images."""
    for format, name in LABELS.items():
        save(f"{shared}/{name}", clip(2, 0, 1), HEADER, format=format)
    cases = [{LABELS[format]: (shared / LABELS[format]).read_bytes()} for format in ("cvat", "label-studio")]
    yolo = {str(p.relative_to(shared)): p.read_bytes() for p in sorted((shared / "yolo-pose").rglob("*.*"))}
    image = encoded(PIL.Image.new("L", (640, 480)), ".png")
    yolo |= {re.sub("/labels/(.*)txt", r"/images/\1png", name): image for name in yolo if name.endswith(".txt")}
    return cases + [{name: yolo[name]} | yolo for name in [*sorted(yolo, reverse=True)[:4:3], "yolo-pose/data.yaml"]]


# Annotations -------------------------------------------------------------------------------------


def dump(content: Any) -> bytes:
    return json.dumps(content).encode()


def leave_images(shared: Path) -> None:
    for name in ("1.png", "2.png"):
        (shared / name).write_bytes(encoded(PIL.Image.fromarray(pixels()), ".png"))


def coco_content(keypoints: int = 17) -> dict[str, Any]:
    """Two images with three people and a crowd."""
    rows = [[v for k in range(keypoints) for v in (10 + 2 * k + i, 8 + 2 * k, 2)] for i in range(3)]
    common = {"category_id": 1, "iscrowd": 0, "area": 1500.5, "num_keypoints": keypoints}
    people = [
        {"id": i + 1, "image_id": 1 + (i == 2), "bbox": [4, 4, 40 + i, 38], "keypoints": row} | common
        for i, row in enumerate(rows)
    ]
    crowd = people[0] | {"id": 9, "iscrowd": 1, "num_keypoints": 0, "keypoints": [0] * 3 * keypoints}
    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48, "crowdIndex": 0.3 * i} for i in (1, 2)]
    return {"images": images, "annotations": [*people, crowd], "categories": [{"id": 1, "name": "person"}]}


def coco_rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The same people as results."""
    kept = ("image_id", "category_id", "bbox", "keypoints")
    return [{key: row[key] for key in kept} | {"score": 0.5} for row in content["annotations"][:3]]


def ochuman_content() -> dict[str, Any]:
    """Two people in OCHuman's own format."""
    from hrpose_cli.skeletons import COCO

    more = {"bbox": [4, 4, 44, 42], "segms": {"outer": [[1, 2, 3, 4]]}, "max_iou": 0.5}
    people = [more | {"keypoints": row["keypoints"]} for row in coco_content()["annotations"][:2]]
    image = {"image_id": "000001", "file_name": "1.png", "width": 64, "height": 48, "annotations": people}
    return {"keypoint_names": list(COCO.keypoints), "images": [image]}


def mpii_files() -> Case:
    """Two people of MPII: annotations, results, and both as .mat, of which one is compressed."""
    from scipy.io import savemat

    people = [{"image": "1.png", "center": [30.0, 20.0], "scale": 0.2, "joints": [[9, 9]] * 16, "joints_vis": [1] * 16}]
    keypoints = np.arange(16 * 2 * 2.0).reshape(16, 2, 2)
    heads = np.array([[[5.0, 6], [7, 8]], [[15, 16], [17, 28]]])
    arrays = {"pos_gt_src": keypoints, "jnt_missing": np.zeros((16, 2), np.uint8), "headboxes_src": heads}
    truth, found = io.BytesIO(), io.BytesIO()
    savemat(truth, arrays)
    savemat(found, {"preds": keypoints.transpose(2, 0, 1)}, do_compression=True)
    rows = [{"image_id": i, "score": 0.5, "keypoints": [1.0, 2.0, 1.0] * 16} for i in (0, 1)]
    files = {"gt-pckh.json": dump(people * 2), "predictions-pckh.json": dump(rows)}
    return files | {"gt_gt-pckh.mat": truth.getvalue(), "predictions-pckh.mat": found.getvalue()}


def make_annotations(shared: Path) -> list[Case]:
    """Ground truth and predictions of each metric, called gt-METRIC and predictions-METRIC."""
    coco, crowd = coco_content(), coco_content(14)
    leave_images(shared)
    for skeleton in ("coco", "crowdpose", "mpii"):
        write_weights(shared / f"{skeleton}.safetensors", skeleton)
    truths = {"coco": coco, "bbox": coco, "crowdpose": crowd, "ochuman": ochuman_content()}
    cases = []
    for metric, truth in truths.items():
        gt = {f"gt-{metric}.json": dump(truth)}
        rows = {f"predictions-{metric}.json": dump(coco_rows(crowd if metric == "crowdpose" else coco)[:2])}
        cases += [gt | rows, gt | rows, rows | gt]
    mpii = mpii_files()
    return cases + [{name: mpii[name]} | mpii for name in mpii]


def make_crowds(shared: Path) -> list[Case]:
    """One labelled person, and a crowd with an outline or a mask in each of its codes."""
    from pycocotools import mask

    leave_images(shared)
    packed = mask.encode(np.asfortranarray(pixels()[..., 0] > 100))["counts"].decode()
    outlines = [
        [[5, 5, 30.5, 5, 30, 40, 5, 40]], [[5, 5, 30, 5, 30, 40], [1, 1, 9, 1, 9, 9]],
        {"size": [48, 64], "counts": [100, 20, 28, 20, 2904]}, {"size": [48, 64], "counts": packed},
    ]  # fmt: skip
    person = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [4, 4, 40, 38],
        "keypoints": [9, 9, 2] * 17,
    }
    crowd = {"id": 2, "image_id": 1, "category_id": 1, "iscrowd": 1, "bbox": [4, 4, 40, 38]}
    content = {"images": coco_content()["images"][:1], "categories": [{"id": 1}]}
    people = [[person, crowd | {"segmentation": outline}] for outline in outlines]
    return [{"gt-coco.json": dump(content | {"annotations": each})} for each in people]


def make_boxes(shared: Path) -> list[Case]:
    write_weights(shared / "coco.safetensors")
    content = coco_content(1)
    rows = [{key: row[key] for key in ("image_id", "category_id", "bbox")} for row in content["annotations"]]
    frames = [image | {"frame_index": image["id"] - 1} for image in content["images"]]
    return [{"a.json": dump(each)} for each in (content, rows, content | {"images": frames})]


# Weights -----------------------------------------------------------------------------------------


def tiny_spec(skeleton: str = "coco") -> Any:
    from hrpose_cli.models import ModelSpec
    from hrpose_cli.skeletons import SKELETONS

    net = {"width": 2, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "joints": len(SKELETONS[skeleton])}
    return ModelSpec("tiny", "hrnet", net, input_size=(32, 64), sigma=1.0, kernel=3, skeleton=skeleton)


def write_weights(path: Path, skeleton: str = "coco") -> Any:
    """A random tiny net; returns its state dict."""
    from hrpose_cli.models import save_weights
    from hrpose_cli.nets import build_net, initialise_net

    net = build_net("hrnet", tiny_spec(skeleton).net)
    initialise_net(net)
    save_weights(net, tiny_spec(skeleton), path)
    return net.state_dict()


def make_weights(shared: Path) -> list[Case]:
    import torch

    state = write_weights(shared / "a.safetensors")
    torch.save(state, shared / "a.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "meta": {"epoch": 3}}, shared / "b.pth")
    torch.save(state, shared / "old.pth", _use_new_zipfile_serialization=False)
    names = ("a.safetensors", "a.safetensors", "a.pth", "b.pth", "old.pth")
    return [{name: (shared / name).read_bytes()} for name in names]


def make_detectors(_: Path) -> list[Case]:
    from hrpose_cli.detection import find_detector_file

    path = find_detector_file("person-yolo11n")
    return [{path.name: path.read_bytes()}]


class Payload:
    """Unpickles by a call."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def make_pickles(shared: Path) -> list[Case]:
    """Files of weights and poses that make the file `ran` where a pickle is simply loaded."""
    import torch

    ran = str(shared / "ran")
    payloads: list[Any] = [
        Payload(os.system, f"touch {ran}"), Payload(eval, f"open({ran!r}, 'w')"), Payload(exec, f"open({ran!r}, 'w')"),
        Payload(open, ran, "w"), Payload(os.mkdir, ran), Payload(subprocess.check_call, ["touch", ran]),
        Payload(np.save, ran, np.zeros(1)), Payload(torch.save, {}, ran), Payload(os.open, ran, os.O_CREAT),
    ]  # fmt: skip
    payloads += [{"state_dict": {"a": torch.zeros(1), "b": payloads[0]}}, {"meta": payloads[1], "a": torch.zeros(2)}]
    cases: list[Case] = []
    for number, payload in enumerate(payloads):
        arrays, zipped = io.BytesIO(), io.BytesIO()
        np.savez(arrays, header=np.array([payload], object), xy=np.array([payload], object))
        torch.save(payload, zipped)
        plain = pickle.dumps(payload, protocol=number % 6)
        cases += [{"a.pth": plain}, {"a.pth": zipped.getvalue()}, {"a.npz": arrays.getvalue()}]
    return cases


def openvino_model() -> Any:
    """A net of one layer: uint8 crops (1, 64, 32, 3) to heatmaps (1, 17, 16, 8)."""
    from hrpose_cli.backends import import_openvino

    openvino = import_openvino()
    ops = openvino.opset13
    crops = ops.parameter([1, 64, 32, 3], np.uint8, name="crops")
    turned = ops.transpose(ops.convert(crops, "f32"), np.array([0, 3, 1, 2]))
    kernel = np.linspace(-1, 1, 17 * 3 * 16).reshape(17, 3, 4, 4).astype(np.float32)
    return openvino.Model([ops.convolution(turned, kernel, [4, 4], [0, 0], [0, 0], [1, 1])], [crops], "tiny")


def make_exported(shared: Path) -> list[Case]:
    from hrpose_cli.backends import import_openvino
    from hrpose_cli.models import METADATA_SECTION

    model = openvino_model()
    for key, value in {**tiny_spec().metadata(), "precision": "fp32", "batch": "1"}.items():
        model.set_rt_info(value, [METADATA_SECTION, key])
    import_openvino().save_model(model, shared / "a.xml", compress_to_fp16=False)
    net, constants = ({name: (shared / name).read_bytes()} for name in ("a.xml", "a.bin"))
    return [net | constants, net | constants, constants | net]


def make_answers(_: Path) -> list[Case]:
    """What a server says: the file in three codings, one that goes nowhere, none, and one that breaks off."""
    ok, packed = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n", gzip.compress(WEIGHTS)
    answers = [
        ok + b"Content-Length: 2048\r\n\r\n" + WEIGHTS,
        ok + b"Transfer-Encoding: chunked\r\n\r\n800\r\n" + WEIGHTS + b"\r\n0\r\n\r\n",
        ok + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed,
        b"HTTP/1.1 302 Found\r\nLocation: /a.pth\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nnothing",
        ok + b"Content-Length: 2048\r\n\r\n" + WEIGHTS[:-1],
    ]
    return [{"answer.http": answer} for answer in answers]
