"""A training that is small enough for tests; also a program, for torchrun."""

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hrpose_cli.nets.hrnet import HRNet, NetConfig
from hrpose_cli.nets.init import initialise_net
from hrpose_cli.training.augment import Augmentation
from hrpose_cli.training.dataset import PeopleDataset
from hrpose_cli.training.loop import Recipe, Training
from tests.conftest import TINY, spec

QUICK = Recipe(epochs=4, batch=4, lr=2e-3, warmup=2, ema_decay=0.5)
# Adam makes of a gradient that is nearly zero a whole step, whichever way its last bit points.
GENTLE = replace(QUICK, lr=1e-4)


def people(n: int = 16) -> PeopleDataset:
    """Grey patches with a bright spot at each keypoint."""
    generator = torch.Generator().manual_seed(5)
    keypoints = 60 + 72 * torch.rand(n, 17, 2, generator=generator)
    y, x = torch.meshgrid(torch.arange(192.0), torch.arange(192.0), indexing="ij")
    patches = torch.zeros(n, 192, 192, 3)
    for k in range(17):
        spot = torch.exp(-((x - keypoints[:, k, 0, None, None]) ** 2 + (y - keypoints[:, k, 1, None, None]) ** 2) / 30)
        patches += 250 * spot[..., None] * torch.rand(3, generator=generator)
    names = tuple(f"{i}.jpg" for i in range(n))
    return PeopleDataset(
        patches.clamp(0, 255).byte(), keypoints, torch.ones(n, 17, dtype=torch.bool), torch.ones(n, 17), names
    )


def fold_norms(net: torch.nn.Module) -> torch.nn.Module:
    """A copy whose batch norms are as folding leaves them."""
    net = copy.deepcopy(net)
    for norm in (module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.reset_running_stats()
        torch.nn.init.ones_(norm.weight)
    return net


def training(out: Path, recipe: Recipe = QUICK, *, width: int = 4, **more: Any) -> Training:
    torch.manual_seed(1)
    net = HRNet(NetConfig(**(TINY | {"width": width})))
    initialise_net(net)
    return Training(net, spec(), people(), recipe, out, **{"augmentation": Augmentation(half_body=0)} | more)


def endless(out: Path) -> None:
    """A training that saves after every step until it is killed."""
    case = training(out, replace(QUICK, epochs=10_000))
    case.start(resume=True)
    for _ in case.run(save_every=0):
        case.save()


def halves(out: Path, steps: int) -> None:
    """One of the processes that torchrun starts: the mean losses of all go to a file."""
    torch.distributed.init_process_group("gloo")
    case = training(out, GENTLE)
    losses = torch.tensor([case.step(case.schedule_fraction()) for _ in range(steps)])
    torch.distributed.all_reduce(losses)
    if case.rank == 0:
        Path(out, "losses.json").write_text(json.dumps((losses / case.world).tolist()))
    torch.distributed.barrier()
    del case  # gloo's threads must not outlive the reducer that uses them
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"endless": endless, "halves": halves}[sys.argv[1]](Path(sys.argv[2]), *map(int, sys.argv[3:]))
