"""Readers of files that others make, each tried with all that is done with such a file."""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from hrpose_cli.errors import HRPoseError
from tests.damage import whole_files
from tests.damage.whole_files import SIZE, WEIGHTS, Case, openvino_model, pixels, tiny_spec, write_weights
from tests.damage.workplace import LONGEST_MESSAGE, Maker, Reader, check, folder_of, is_refused, pass_on
from tests.formats.builders import FILES, LABELS, READABLE, save


def net_options(path: Path, skeleton: str = "coco") -> dict[str, Any]:
    """The settings of a tiny net that the files of a target share."""
    return {"weights": str(folder_of(path) / "shared" / f"{skeleton}.safetensors"), "device": "cpu", "backend": "torch"}


# Images, clips, poses ----------------------------------------------------------------------------


def read_one_image(path: Path) -> None:
    from hrpose_cli.media import read_image

    image = read_image(path)
    check(image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, f"an image of {image.shape}")


def read_one_clip(path: Path) -> None:
    from hrpose_cli.media import open_clip

    with open_clip(str(path)) as source:
        times = [(frame.pts, frame.time) for frame in source]
        said = [*source.notes, source.damage]
    check(np.isfinite(times).all() and all(a < b for (a, _), (b, _) in pairwise(times)), f"frames at {times}")
    check(all("\n" not in line and len(line) <= LONGEST_MESSAGE for line in said), f"{said}")


def convert_poses(path: Path) -> None:
    """Read poses, draw them, write them in every format, and read those files back."""
    from hrpose_cli.draw import DrawStyle, draw_poses
    from hrpose_cli.formats import read_pose_file

    inside = folder_of(path) / "input"
    kind = path.relative_to(inside).parts[0]
    source = {"folder": path.parent, "yolo-pose": inside / kind}.get(kind, path)
    header, frames = read_pose_file(source, kind if kind in LABELS else None)
    records = list(frames)
    for record in records:
        draw_poses(np.zeros((*SIZE, 3), np.uint8), record.people, style=DrawStyle(boxes=True, scores=True))
    for format in FILES | LABELS:
        write_and_compare(path.parent / "out", format, records, header)


def write_and_compare(out: Path, format: str, records: list[Any], header: Any) -> None:
    from hrpose_cli.formats import read_pose_file

    target = out / (FILES | LABELS)[format]
    named = None if format in {"trc", "netcdf"} else target  # it needs facts that the source lacks, whatever its name
    if is_refused(lambda: save(target, records, header, format=format), named):
        left = [each.name for each in out.rglob("*") if ".part" not in str(each.relative_to(out)) and each.is_file()]
        check(not left, f"{left} left after a refusal")
    elif format in {*READABLE, "cvat", "label-studio"}:
        apart = (patch(f"hrpose_cli.formats.{name}.run_apart") for name in ("parquet", "netcdf"))
        with next(apart), next(apart):  # a process of its own, for files that are damaged
            compare(list(read_pose_file(target, format)[1]), records, format)
    shutil.rmtree(out, ignore_errors=True)


def compare(got: list[Any], want: list[Any], format: str) -> None:
    """FaultError unless the known keypoints of all people came back from a file of a format."""
    (a, people), (b, others) = keypoints_of(got), keypoints_of(want)
    check(people == others, f"{format}: {others} people became {people}")
    known = np.isfinite(b).all(axis=-1) & (b[..., 2] > 0)
    with np.errstate(all="ignore"):
        near = np.isclose(a, b, rtol=1e-5, atol=1e-3 if format in {"coco", "cvat", "label-studio"} else 1e-30).all(
            axis=-1
        )
    wrong = known & ~near
    check(not wrong.any(), f"{format}: {b[wrong][:2].tolist()} became {a[wrong][:2].tolist()}")
    if format in {"jsonl", "npz", "parquet", "netcdf"}:
        unnamed = {"name": ""} if format == "netcdf" else {}  # which has no place for names
        a, b = (
            [replace(r.frame, time=None if r.frame.time is None else float(r.frame.time), **unnamed) for r in records]
            for records in (got, want)
        )
        check(repr(a) == repr(b), f"{format}: frames {b} became {a}")


def keypoints_of(records: list[Any]) -> tuple[np.ndarray, int]:
    """Keypoints (M, 3), x, y and score, of all people, and the number of people."""
    records = sorted(records, key=lambda record: record.frame.index)  # as a folder of files has them
    rows = [np.dstack([record.people.xy, record.people.score]).reshape(-1, 3) for record in records]
    return np.concatenate([np.zeros((0, 3)), *rows]), sum(len(record.people) for record in records)


# Annotations -------------------------------------------------------------------------------------


def measure(path: Path) -> None:
    """Evaluate predictions and, where the ground truth is damaged, a net, and read what a training reads."""
    from hrpose_cli.api import Settings
    from hrpose_cli.evaluate import EvalJob, run_evaluation

    metric = path.stem.rpartition("-")[2]
    rows = path if path.name.startswith("predictions") else path.with_name(f"predictions-{metric}.json")
    truth, skeleton = (
        path.with_name(f"gt-{metric}.json"),
        {"crowdpose": "crowdpose", "pckh": "mpii"}.get(metric, "coco"),
    )
    net = Settings(**net_options(path, skeleton), detector="none")
    given = EvalJob(truth, Settings(), metric=metric, predictions=rows)
    boxes, shared = "detector" if metric == "bbox" else None, folder_of(path) / "shared"
    run = EvalJob(truth, net, metric=metric, images=shared, weights=[net.weights], boxes=boxes)
    jobs = [given, run] if path == truth else [given]
    refused = [is_refused(lambda job=job: run_evaluation(job), path) for job in jobs]  # type: ignore[misc]
    if path == truth and metric in {"coco", "bbox", "crowdpose"}:
        refused.append(is_refused(lambda: read_training(path, skeleton), path))
    pass_on(any(refused), path)


def read_training(path: Path, skeleton: str = "coco") -> None:
    """Read the people and whole images that a net would be trained on."""
    import torch

    from hrpose_cli.skeletons import SKELETONS
    from hrpose_cli.training import AnnotationSource
    from hrpose_cli.training.dataset import load_people
    from hrpose_cli.training.whole_images import ImageAugmentation, draw_images, load_images

    source, known = AnnotationSource(path, folder_of(path) / "shared"), SKELETONS[skeleton]
    spec = replace(tiny_spec(skeleton), architecture="higher_hrnet", input_size=(64, 64))

    def draw() -> None:
        images = load_images([source], known)
        draw_images(images, torch.arange(len(images)), spec, ImageAugmentation())

    refused = is_refused(lambda: load_people([source], (32, 32), known, path.parent / "cache"), path)
    pass_on(refused | is_refused(draw, path), path)


def use_boxes(path: Path) -> None:
    from hrpose_cli.api import Settings, build_estimator
    from hrpose_cli.poses import Frame

    estimator = build_estimator(Settings(**net_options(path), boxes=str(path)))
    for frame in (Frame(pixels(), 1, name="1.png"), Frame(pixels(), 1), Frame(pixels(), 0)):
        (found,) = estimator([frame])
        check(np.isfinite(found.xy).all(), f"keypoints that are not finite in {frame.name or frame.index}")


# Weights -----------------------------------------------------------------------------------------


def load_weights(path: Path) -> None:
    """Describe, load and run a file."""
    from hrpose_cli.models import inspect_weights, load_net

    refused = is_refused(lambda: inspect_weights(path), path)
    if path.suffix == ".pth":
        load_net(replace(tiny_spec(), file=path.name), path)
    else:
        run_net(path, "torch")
    pass_on(refused, path)


def run_net(path: Path, backend: str) -> None:
    from hrpose_cli.api import Settings, build_estimator
    from hrpose_cli.poses import Frame

    build_estimator(Settings(weights=str(path), device="cpu", backend=backend, detector="none"))([Frame(pixels())])  # type: ignore[arg-type]


def load_detector(path: Path) -> None:
    from hrpose_cli.detection import read_person_net

    read_person_net(path)


def load_pickle(path: Path) -> None:
    from hrpose_cli.formats import read_pose_file
    from hrpose_cli.models import inspect_weights

    try:
        list(read_pose_file(path)[1]) if path.suffix == ".npz" else inspect_weights(path)
    finally:
        check(not (folder_of(path) / "shared" / "ran").exists(), "a pickle ran")


def load_exported(path: Path) -> None:
    from hrpose_cli.models import inspect_weights

    os.environ["HRPOSE_CACHE"] = str(path.parent / "cache")
    refused = is_refused(lambda: inspect_weights(path.with_suffix(".xml")), path)
    run_net(path.with_suffix(".xml"), "openvino")
    pass_on(refused, path)


def compiled_maps(cache: Path) -> Any:
    """The heatmaps of the net of one layer, compiled or from the cache."""
    from hrpose_cli.backends import compile_model, load_compiled

    os.environ["HRPOSE_CACHE"] = str(cache)
    net = load_compiled("tiny", {"net": "tiny"}, "fp32", lambda: compile_model(openvino_model(), "fp32"))
    return net(pixels((32, 64))[None])[0]


def make_cache(shared: Path) -> list[Case]:
    np.save(shared / "maps.npy", compiled_maps(shared / "cache"))
    files = {str(p.relative_to(shared)): p.read_bytes() for p in sorted(shared.rglob("cache/**/*")) if p.is_file()}
    return [{name: files[name]} | files for name in files]


def use_cache(path: Path) -> None:
    folder = folder_of(path)
    maps = compiled_maps(folder / "input" / "cache")
    check(np.array_equal(maps, np.load(folder / "shared" / "maps.npy")), "a damaged net in the cache was used")


@contextlib.contextmanager
def serving(answer: bytes) -> Iterator[int]:
    """A server on this machine that gives the same bytes to everyone; its port."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def fetch(path: Path) -> None:
    """Fetch weights from a server that gives the bytes of a file as its answer."""
    from hrpose_cli.models.download import download_weights

    cache, want = path.parent / "cache", hashlib.sha256(WEIGHTS).hexdigest()
    os.environ |= {"HRPOSE_CACHE": str(cache), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with serving(path.read_bytes()) as port:
        try:
            got = download_weights(f"http://127.0.0.1:{port}/{path.name}", sha256_prefix=want[:8])
        except HRPoseError:
            check(not [p for p in cache.rglob("*") if path.name in p.name], "a file left after a refusal")
            raise
    check(got.read_bytes() == WEIGHTS, "another file was kept")


# Through the command -----------------------------------------------------------------------------

NET = "--weights {2}/coco.safetensors --device cpu --backend torch --detector none"
COMMANDS = {
    "images": f"image {{0}} --out {{1}}/ --json {{1}}/a.json {NET}",
    "clips": f"video {{0}} --out {{1}}/a.mp4 --poses {{1}}/a.jsonl {NET}",
    "poses": "convert {0} {1}/b.jsonl",
    "render": "render {0} {2}/a.mp4 --out {1}/a.mp4",
    "annotations": f"eval --gt {{0}} --images {{2}} {NET}",
    "weights": "weights info {0}",
    "resume": f"video {{2}}/a.mp4 --no-video --poses {{1}}/a.jsonl --resume {NET}",
}


def make_commands(shared: Path) -> list[Case]:
    """The inputs of other targets, and a run that was interrupted, each in a folder that says the command."""
    from typer.testing import CliRunner

    from hrpose_cli.cli import app
    from tests.media.clips import film

    write_weights(shared / "coco.safetensors")
    whole_files.leave_images(shared)
    film(shared / "a.mp4", 5, size=(640, 480))
    cases = []
    for name in [name for name in COMMANDS if name != "resume"]:
        (shared / name).mkdir()
        made = TARGETS[{"render": "poses"}.get(name, name)][0](shared / name)
        cases += [{f"{name}/{file}": content for file, content in case.items()} for case in made]
    cases = [case for case in cases if not re.search("annotations/(?!gt-coco)", next(iter(case)))]
    words = [word.format("", shared, shared) for word in COMMANDS["resume"].split()]
    CliRunner().invoke(app, words)
    begun = b"".join((shared / "a.jsonl").read_bytes().splitlines(keepends=True)[:4])
    return cases + [{"resume/a.part.jsonl": begun}] * 5


def run_command(path: Path) -> None:
    """Run the command that the folder says: exit code 0 to 3, printable lines, and nothing left but its outputs."""
    from typer.testing import CliRunner

    from hrpose_cli.cli import app

    folder = folder_of(path)
    kind, out = path.relative_to(folder / "input").parts[0], folder / "input" / "out"
    out.mkdir()
    if kind == "resume":
        shutil.copy(path, out)
    before = set((folder / "input" / kind).rglob("*"))
    source = path.parent if path.parent.name == "folder" else path
    words = [word.format(source, out, folder / "shared") for word in COMMANDS[kind].split()]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    said = result.stderr
    check(result.exit_code in {0, 1, 2, 3}, f"{words[0]} ends with {result.exit_code}: {said}")
    clean = "Traceback" not in said and all(line.isprintable() for line in said.splitlines())
    check(clean, f"{words[0]} says {said!r}")
    left = {*(folder / "input" / kind).rglob("*")} - before | {p for p in out.rglob("*") if p.name.startswith(".")}
    left |= {p for p in out.rglob("*") if result.exit_code and p.is_file() and ".part" not in p.name}
    check(not left or result.exit_code == 3, f"{words[0]} ends with {result.exit_code} and leaves {left}")
    pass_on(result.exit_code > 0, path)


# How the files of a target are made, and how they are read.
TARGETS: dict[str, tuple[Maker, Reader]] = {
    "images": (whole_files.make_images, read_one_image),
    "clips": (whole_files.make_clips, read_one_clip),
    "poses": (whole_files.make_poses, convert_poses),
    "boxes": (whole_files.make_boxes, use_boxes),
    "annotations": (whole_files.make_annotations, measure),
    "crowds": (whole_files.make_crowds, read_training),
    "weights": (whole_files.make_weights, load_weights),
    "detectors": (whole_files.make_detectors, load_detector),
    "pickles": (whole_files.make_pickles, load_pickle),
    "openvino": (whole_files.make_exported, load_exported),
    "cache": (make_cache, use_cache),
    "server": (whole_files.make_answers, fetch),
    "commands": (make_commands, run_command),
}
