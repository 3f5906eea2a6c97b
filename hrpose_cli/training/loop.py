"""The training loop: a step, a schedule, a checkpoint, and nothing else.

Randomness is drawn anew from (seed, step, part) before every batch and the order of people from
(seed, epoch), so that a run that is resumed does the very same as one that never stopped. With
`torchrun` each process takes its parts of every step; one process with `accumulate` = n takes all n.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hrpose_cli.backends import normalise_images
from hrpose_cli.errors import InputError, WeightsError, first_line
from hrpose_cli.models import CHECKPOINT_KEYS, ModelSpec, read_torch_file
from hrpose_cli.outputs import atomic_write
from hrpose_cli.training.augment import Augmentation, CropSamples
from hrpose_cli.training.dataset import PeopleDataset
from hrpose_cli.training.method import TRAINING_METHODS, TrainingBatch
from hrpose_cli.training.recipe import Recipe, complete_recipe, differing_options, learning_rate
from hrpose_cli.training.whole_images import ImageAugmentation, ImageDataset

_LOG = logging.getLogger(__name__)
_TELL_EVERY = 60  # seconds
CHECKPOINT_FILE = "last.pt"
LOG_FILE = "log.jsonl"
_START_ANEW = "start anew from its weights with --init and another --out"


@dataclass(frozen=True)
class _Progress:
    """The progress of a training."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    best: float = -1.0  # average precision of the weights that were kept


def _moving_average(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """For `AveragedModel`: decays by at most (1 + t) / (10 + t) after t steps.

    So a short training does not carry its start to its end. The ramp is the one of TensorFlow's
    ExponentialMovingAverage.
    """

    def update(average: Any, net: Any, count: Tensor | int) -> None:
        steps = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(average, net, count)

    return update


@dataclass
class Training:
    """A net in training, with all that changes on the way."""

    net: nn.Module
    spec: ModelSpec
    people: PeopleDataset | ImageDataset
    recipe: Recipe
    out: Path
    augmentation: Augmentation | ImageAugmentation | None = None  # None: the default of the method
    teacher: Callable[[Tensor], Tensor] | None = None  # crops (N, 3, h, w) in 0..255 -> heatmaps
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.progress = _Progress()
        self.method = TRAINING_METHODS[self.spec.method]
        self.augmentation = self.augmentation or self.method.augmentation()
        self.batch = self.recipe.batch or self.method.batch
        self.recipe = complete_recipe(self.recipe, self.batch)
        self.check_people()
        if self.recipe.norms == "sync":
            self.net = nn.SyncBatchNorm.convert_sync_batchnorm(self.net)
        self.net = self.net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(self.net, multi_avg_fn=_moving_average(self.recipe.ema_decay), use_buffers=True)
        self.average.eval()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), weight_decay=self.recipe.weight_decay)
        self.model = DistributedDataParallel(self.net) if self.world > 1 else self.net

    def check_people(self) -> None:
        """Raise InputError if there are too few people, or images, for one step."""
        need = self.batch * self.parts
        if len(self.people) < need:
            what = "images" if self.spec.method == "bottom-up" else "people"
            raise InputError(
                f"there are {len(self.people)} {what}, but a step takes {need}, --batch {self.batch} x "
                f"--accumulate {self.recipe.accumulate} x {self.world} processes: lower one of these"
            )

    @property
    def parts(self) -> int:
        """Batches per step, over all processes."""
        return self.recipe.accumulate * self.world

    @property
    def steps_per_epoch(self) -> int:
        return len(self.people) // (self.batch * self.parts)

    def run(self, *, save_every: float = math.inf) -> Iterator[dict[str, float]]:
        """Train to the end; gives the step, loss and time of each epoch.

        save_every: seconds between checkpoints within an epoch.
        """
        self.train()
        losses: list[float] = []
        saved = told = time.monotonic()
        while (done := self.schedule_fraction()) < 1:
            losses.append(self.advance())
            if time.monotonic() - told > _TELL_EVERY:
                _LOG.info("step %d, %.0f %% done, loss %.6f", self.progress.step, 100 * done, losses[-1])
                told = time.monotonic()
            if self.progress.step % self.steps_per_epoch == 0 or self.schedule_fraction() >= 1:
                row = {"epoch": self.progress.step / self.steps_per_epoch, "loss": sum(losses) / len(losses)}
                yield row | {k: v for k, v in asdict(self.progress).items() if k != "best"}
                losses, saved = [], time.monotonic()
                self.train()
            elif time.monotonic() - saved > save_every and not self.rank:
                self.save()
                saved = time.monotonic()

    def advance(self) -> float:
        """Take and count one step; returns its loss."""
        began, done = time.monotonic(), self.progress
        loss = self.step(self.schedule_fraction())
        samples, seconds = done.samples + self.batch * self.parts, done.seconds + time.monotonic() - began
        self.progress = replace(done, step=done.step + 1, samples=samples, seconds=seconds)
        return loss

    def train(self) -> None:
        """Enter training mode, but for batch norms that keep their statistics."""
        self.model.train()
        for module in self.model.modules():
            if self.recipe.norms == "frozen" and isinstance(module, nn.BatchNorm2d):
                module.eval()

    def schedule_fraction(self) -> float:
        """The fraction of the schedule that has passed, 0..1; all processes go by the clock of the first."""
        if self.recipe.minutes is None:
            return self.progress.step / max(1, round((self.recipe.epochs or 0) * self.steps_per_epoch))
        done = torch.tensor(self.progress.seconds / (60 * self.recipe.minutes))
        if self.world > 1:
            dist.broadcast(done, 0)
        return float(done)

    def step(self, done: float) -> float:
        """Change the weights once; returns the mean loss of this process's parts. done: as for `learning_rate`."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.progress.step, done)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for i in range(self.recipe.accumulate):
            part = self.rank * self.recipe.accumulate + i
            last = i == self.recipe.accumulate - 1
            quiet = self.model.no_sync() if self.world > 1 and not last else nullcontext()  # type: ignore[operator]
            with quiet:
                loss = self.loss(self.samples(part))
                (loss / self.recipe.accumulate).backward()
            total += loss.item() / self.recipe.accumulate
        self.optimizer.step()
        self.average.update_parameters(self.net)
        return total

    def samples(self, part: int) -> TrainingBatch:
        """Part `part` of the current step."""
        chosen = self.chosen(part)
        torch.manual_seed(hash((self.recipe.seed, self.progress.step, part)) % 2**63)
        return self.method.draw(self.people, chosen, self.spec, self.augmentation, self.recipe)

    def chosen(self, part: int) -> Tensor:
        """The people (N,) of a part; every epoch has a new order."""
        epoch, place = divmod(self.progress.step, self.steps_per_epoch)
        generator = torch.Generator().manual_seed(hash((self.recipe.seed, epoch)) % 2**63)
        order = torch.randperm(len(self.people), generator=generator)
        start = (place * self.parts + part) * self.batch
        return order[start : start + self.batch]

    def loss(self, samples: TrainingBatch) -> Tensor:
        """The method's loss; InputError with the names of the images if it is no finite number."""
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            outputs = self.outputs(samples.crops)
        value = self.method.loss(outputs, samples, self.recipe)
        if self.teacher is not None and self.recipe.distil:
            assert isinstance(samples, CropSamples), "only top-down nets have a teacher"
            taught = replace(samples, target=self.teacher(samples.crops), weight=torch.ones_like(samples.weight))
            value = value + self.recipe.distil * self.method.loss(outputs, taught, self.recipe)
        if not torch.isfinite(value):
            raise InputError(f"the loss is no longer a number at step {self.progress.step}: {self.images()}")
        return value

    def outputs(self, crops: Tensor) -> list[Tensor]:
        """The outputs of the net for crops (N, 3, h, w) in 0..255: heatmaps, several where all of them are trained."""
        found = self.model(normalise_images(crops, self.spec.color))
        return [maps.float() for maps in (found if isinstance(found, list) else [found])]

    def images(self) -> str:
        """The files of the current step."""
        chosen = torch.cat([self.chosen(part) for part in range(self.parts)])
        return ", ".join(sorted({self.people.names[int(i)] for i in chosen}))

    def save(self) -> None:
        """Write the checkpoint atomically."""
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
            "recipe": asdict(self.recipe),
            "processes": self.world,
            "spec": self.spec.metadata(),
        }
        with atomic_write(self.out / CHECKPOINT_FILE) as temporary:
            torch.save(state, temporary)

    def start(self, *, resume: bool) -> None:
        """Resume from the last checkpoint of `out`, or refuse to start over one."""
        if resume:
            self.resume()
        elif (self.out / CHECKPOINT_FILE).is_file():
            raise InputError(f"{self.out} holds a training: use --resume, or name another --out")

    def resume(self) -> None:
        """Go on from the last checkpoint of `out`, if there is one; InputError if the recipe is not the same."""
        path = self.out / CHECKPOINT_FILE
        if not path.is_file():
            return
        state = _read_checkpoint(path)
        if state["spec"] != self.spec.metadata():
            raise WeightsError(f"{path} is of another net: name another --out")
        # With more or fewer processes, another --accumulate takes the same step.
        free = {"epochs", "minutes"} | ({"accumulate"} if state.get("processes", self.world) != self.world else set())
        if before := differing_options(state.get("recipe", {}), self.recipe, free):
            raise InputError(f"{path} was trained with {before}: use the same, or {_START_ANEW}")
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = _Progress(**state["progress"])

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a line to log.jsonl."""
        with (self.out / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; WeightsError if it is damaged or something else."""
    try:
        state: dict[str, Any] = read_torch_file(path)
        missing = CHECKPOINT_KEYS - state.keys()
    except Exception as error:  # a damaged pickle can fail in any way
        raise WeightsError(f"{path} cannot be read ({first_line(error)}): {_START_ANEW}") from error
    if missing:
        raise WeightsError(f"{path} is no checkpoint of hrpose train: name another --out")
    return state
