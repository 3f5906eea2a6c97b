"""A training from its options to a file of weights, with validation by average precision."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from hrpose_cli.backends import TorchBackend, choose_device, normalise_images
from hrpose_cli.errors import BackendError, HRPoseError, InputError, UsageError
from hrpose_cli.estimation import BottomUp, TopDown
from hrpose_cli.evaluate import EvalProtocol, keypoint_rows
from hrpose_cli.ground_truth import METRICS, CocoGroundTruth
from hrpose_cli.models import ModelSpec, save_weights
from hrpose_cli.nets import unfold_batch_norms
from hrpose_cli.outputs import atomic_write, check_not_inputs, check_writable, claim
from hrpose_cli.skeletons import SKELETONS
from hrpose_cli.training.annotations import AnnotationSource, check_image_files, list_files
from hrpose_cli.training.dataset import PeopleDataset, load_people
from hrpose_cli.training.loop import CHECKPOINT_FILE, LOG_FILE, Training
from hrpose_cli.training.method import TRAINING_METHODS
from hrpose_cli.training.processes import is_other_process, join_processes, process_device, run_first
from hrpose_cli.training.recipe import Recipe, TrainJob, check_method, complete_recipe
from hrpose_cli.training.start import are_norms_folded, build_start_net, find_start, plan_spec
from hrpose_cli.training.teacher import Teacher, fill_labels
from hrpose_cli.training.whole_images import ImageDataset, load_images

_MEASURED = 128  # samples that folded batch norms get their statistics from
_LOG = logging.getLogger(__name__)
_CURVES_FILE = "curves.png"


def train(job: TrainJob, recipe: Recipe) -> Iterator[Mapping[str, float]]:
    """Train a net; gives a line of the log after every epoch, with AP where it was measured.

    The best weights by --val, or else the last, are left in `job.out`. With torchrun all its processes
    call this.
    """
    device = process_device(choose_device(job.device))
    known, start = find_start(job.init) if job.init else (None, None)
    spec = plan_spec(job, known)
    _check_job(job, recipe, spec.method, device)
    val_images = _find_val_images(job, spec)
    sources = [_parse_source(entry, job.images) for entry in job.data]
    load = _data_loader(job, sources, spec)
    if find_spec("matplotlib") is None:
        _LOG.info("note: curves.png needs matplotlib: pip install 'hrpose[train]'")
    teacher = Teacher.load(job.teacher, spec, device) if job.teacher else None
    if not is_other_process():  # the first alone writes
        validation = [AnnotationSource(job.val, val_images)] if job.val else []
        _check_outputs(job, spec, chain([start, job.teacher], *map(list_files, sources + validation)))
    alone = nullcontext() if is_other_process() else claim(job.out, folder=True)
    with join_processes(device), alone, _dropped_if_refused(job.out / "cache"):
        people = run_first(load).to(device)
        if teacher and isinstance(people, PeopleDataset):
            people = run_first(partial(fill_labels, people, spec, teacher, job.out / "cache"))
        target = teacher if recipe.distil else None
        net = build_start_net(spec, start)
        folded = start is not None and are_norms_folded(net)
        if folded and recipe.norms is None:
            _LOG.info("note: the batch norms of the start are folded and stay frozen, unless --norms says otherwise")
        recipe = complete_recipe(recipe, TRAINING_METHODS[spec.method].batch, init=start is not None, folded=folded)
        if folded and recipe.norms != "frozen":
            net = _unfold_norms(net.to(device), spec, people, recipe)
        training = Training(net, spec, people, recipe, job.out, teacher=target, device=device)
        training.start(resume=job.resume)
        what, steps = "images" if spec.method == "bottom-up" else "people", training.steps_per_epoch
        _LOG.info("%d %s, %d steps per epoch, from step %d", len(people), what, steps, training.progress.step)
        yield from _train_epochs(training, job, val_images)
        _LOG.info("the %s weights are in %s", "last" if job.val is None else "best", _best_weights_file(training))


def _check_job(job: TrainJob, recipe: Recipe, method: str, device: str) -> None:
    """Raise an error, before any work, for options that cannot be followed, or not on this device."""
    check_method(method, job, recipe)
    if recipe.distil and not job.teacher:
        raise UsageError("--distil weighs the heatmaps of a teacher: name it with --teacher")
    if recipe.norms == "sync" and not device.startswith("cuda"):
        raise BackendError(f"--norms sync needs a CUDA device, not {device}: use --norms batch or frozen")


def _unfold_norms(net: nn.Module, spec: ModelSpec, people: PeopleDataset | ImageDataset, recipe: Recipe) -> nn.Module:
    """Give batch norms that were folded away the statistics of samples, without which training wrecks the net."""
    method = TRAINING_METHODS[spec.method]
    torch.manual_seed(recipe.seed)
    chosen = torch.randperm(len(people))[:_MEASURED]
    _LOG.info("note: the batch norms of the start are folded: their statistics are those of %d samples", len(chosen))
    parts = (method.draw(people, part, spec, method.augmentation(), recipe) for part in chosen.split(method.batch))
    return unfold_batch_norms(net, (normalise_images(part.crops, spec.color) for part in parts))


@contextmanager
def _dropped_if_refused(cache: Path) -> Iterator[None]:
    """Remove the cache, if it is new, of a training that is refused before its first checkpoint."""
    there = cache.exists()
    try:
        yield
    except HRPoseError:
        if not (there or (cache.parent / CHECKPOINT_FILE).exists()):
            shutil.rmtree(cache, ignore_errors=True)
        raise


def _check_outputs(job: TrainJob, spec: ModelSpec, inputs: Iterable[str | Path | None]) -> None:
    """Raise an error, before any work, for files that cannot be written, or are inputs."""
    outputs = [job.out / name for name in (CHECKPOINT_FILE, LOG_FILE, _CURVES_FILE, f"{spec.name}.safetensors")]
    for output in outputs:
        check_writable(output, make=True)
    check_not_inputs(outputs, inputs)


def _find_val_images(job: TrainJob, spec: ModelSpec) -> Path | None:
    """The folder of the images of --val; InputError if it does not exist or they cannot be measured."""
    if job.val is None:
        return None
    truth = _open_validation(job.val, spec)
    folder = truth.folder(job.val_images, instead=job.images, option="--val-images")
    check_image_files(truth.truth, truth.truth.images, folder)
    return folder


def _data_loader(
    job: TrainJob, sources: Sequence[AnnotationSource], spec: ModelSpec
) -> Callable[[], PeopleDataset | ImageDataset]:
    """The function that reads the annotated people, or for bottom-up nets the images."""
    skeleton = SKELETONS[spec.skeleton]
    if spec.method == "bottom-up":
        return partial(load_images, sources, skeleton)
    load = partial(load_people, sources, spec.input_size, skeleton, job.out / "cache")
    return partial(load, occluded=job.occluded, by_keypoint=job.keypoint_weights)


def _parse_source(text: str, images: Path | None) -> AnnotationSource:
    """An annotation file whose images lie in `images`; after @ the weight of its labels."""
    name, _, trust = text.rpartition("@") if "@" in text else (text, "", "1")
    try:
        source = AnnotationSource(Path(name), images, float(trust))
    except ValueError as error:
        raise UsageError(f"--data {text}: the weight after @ must be a number in 0..1") from error
    if not 0 < source.trust <= 1:
        raise UsageError(f"--data {text}: the weight after @ must be above 0 and at most 1")
    if not source.annotations.is_file():
        raise InputError(f"--data {text}: there is no such file: name a COCO keypoint file")
    return source


def _averaged_net(training: Training) -> nn.Module:
    """The moving average of the net, in evaluation mode, which is validated and saved."""
    net: nn.Module = training.average.module
    return net.eval()


def _measure_ap(training: Training, annotations: Path, images: Path | None = None) -> Mapping[str, float]:
    """Measure the averaged net as `hrpose eval` does: with flip test, top-down on ground-truth boxes."""
    spec, truth = training.spec, _open_validation(annotations, training.spec)
    backend = TorchBackend(_averaged_net(training), device=training.device, color=spec.color)
    estimator: TopDown | BottomUp
    if spec.method == "bottom-up":
        estimator = BottomUp(backend, spec, decode=spec.decode, flip_test=True)
    else:
        truth = truth.in_boxes()
        estimator = TopDown(truth.boxes(spec.geometry), backend, spec, decode=spec.decode, flip_test=True)
    rows = keypoint_rows(truth.frames(images), estimator, EvalProtocol())
    return next(iter(truth.score([row for part in rows for row in part]).values()))


def _open_validation(annotations: Path, spec: ModelSpec) -> CocoGroundTruth:
    """Open an annotation file under the metric of the skeleton; InputError if it does not fit."""
    if spec.skeleton not in METRICS:
        raise UsageError(f"--val measures {' or '.join(s for s in SKELETONS if s in METRICS)}, not {spec.skeleton}")
    truth = METRICS[spec.skeleton](annotations, None)
    assert isinstance(truth, CocoGroundTruth), "PCKh is not named like a skeleton"
    truth.check(spec)
    return truth


def _save_best(training: Training, path: Path, numbers: Mapping[str, float]) -> None:
    """Write the averaged net in half precision, with its spec and numbers as metadata."""
    facts = {"samples": str(training.progress.samples), "minutes": f"{training.progress.seconds / 60:.1f}"}
    if numbers:
        facts["ap_val_gt_flip"] = f"{numbers['AP']:.4f}"
    save_weights(_averaged_net(training), training.spec, path, half=True, **facts)


def _best_weights_file(training: Training) -> Path:
    """The file of the weights that users take away."""
    return training.out / f"{training.spec.name}.safetensors"


def _train_epochs(training: Training, job: TrainJob, val_images: Path | None) -> Iterator[Mapping[str, float]]:
    """Train to the end; write the log after every epoch, and the best weights whenever AP rises."""
    best = _best_weights_file(training)
    if job.val is None and training.progress.best >= 0:
        raise InputError(f"{best} is the best by --val: name that again, or the next weights would take its place")
    for row in training.run(save_every=60 * job.save_every):
        finished = training.schedule_fraction() >= 1  # before the others go on, for all processes ask together
        if training.rank:
            continue
        numbers: Mapping[str, float] = {}
        if job.val is not None and (row["epoch"] % job.val_every == 0 or finished):
            numbers = _measure_ap(training, job.val, val_images)
        if job.val is None or numbers.get("AP", -1.0) > training.progress.best:
            _save_best(training, best, numbers)
            training.progress = replace(training.progress, best=numbers.get("AP", -1.0))
        training.save()
        training.log(row | dict(numbers))
        _draw_curves(training.out / LOG_FILE, training.out / _CURVES_FILE)
        yield row | ({"AP": numbers["AP"]} if numbers else {})


def _draw_curves(log: Path, image: Path) -> None:
    """Plot loss and average precision over the samples seen, as a PNG, if matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    left.plot([row["samples"] for row in rows], [row["loss"] for row in rows], color="tab:blue")
    left.set(xlabel="samples", ylabel="loss", yscale="log")
    measured = [row for row in rows if "AP" in row]
    if measured:
        right = left.twinx()
        right.plot([row["samples"] for row in measured], [row["AP"] for row in measured], "o-", color="tab:orange")
        right.set(ylabel="average precision")
    with atomic_write(image) as temporary:
        figure.savefig(temporary, dpi=120)
