import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.optim.swa_utils import AveragedModel

from hrpose_cli.errors import InputError, WeightsError
from hrpose_cli.estimation.heatmaps import decode_dark
from hrpose_cli.training.augment import Augmentation, draw_samples
from hrpose_cli.training.loop import CHECKPOINT_FILE, _moving_average
from tests.conftest import spec
from tests.training.training_case import GENTLE, QUICK, training


@pytest.mark.slow
def test_training_run_learns_one_batch_by_heart(tmp_path: Path) -> None:
    recipe = replace(QUICK, epochs=50, batch=8, lr=4e-3, final=0.025, warmup=5)
    case = training(tmp_path, recipe, width=16, augmentation=Augmentation.none())
    case.people = case.people.part(torch.arange(8))
    losses = [row["loss"] for row in case.run()]
    assert losses[-1] < 0.1 * losses[0]
    samples = draw_samples(case.people, torch.arange(8), spec(), Augmentation.none())
    with torch.inference_mode():
        found, truth = (decode_dark(maps, 3)[0] for maps in (case.outputs(samples.crops)[-1], samples.target))
    assert (found - truth).norm(dim=-1).median() < 0.5  # heatmap px


@pytest.mark.parametrize(("decay", "steps", "left"), [(0.999, 100, 0.01), (0.9, 100, 0.001), (0.999, 20_000, 0.001)])
def test_moving_average_forgets_the_start_of_a_short_training(decay: float, steps: int, left: float) -> None:
    net = torch.nn.BatchNorm1d(1)
    average = AveragedModel(net, multi_avg_fn=_moving_average(decay), use_buffers=True)
    average.update_parameters(net)  # weight 1, bias 0
    with torch.no_grad():
        net.bias.fill_(1.0)
    for _ in range(steps):
        average.update_parameters(net)
    assert 0 <= 1 - average.module.bias.item() < left
    assert int(average.module.num_batches_tracked) == 0


def test_moving_average_reaches_its_decay_in_a_long_training() -> None:
    average, net = [torch.zeros(1)], [torch.ones(1)]
    _moving_average(0.999)(average, net, torch.tensor(9_000))
    assert_allclose(average[0], 0.001, rtol=1e-4)


def test_training_resume_gives_the_same_bits_as_one_run(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole")
    (tmp_path / "part").mkdir()
    list(whole.run())
    first = training(tmp_path / "part")
    rows = first.run()
    next(rows)
    first.save()
    next(rows)  # work that is lost when the process dies here
    second = training(tmp_path / "part")
    second.resume()
    list(second.run())
    assert second.progress.step == whole.progress.step == 16
    for ours, theirs in ((second.net, whole.net), (second.average, whole.average)):
        for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert_array_equal(a, b)


@pytest.mark.slow
def test_training_resume_goes_on_where_a_killed_training_stopped(tmp_path: Path) -> None:
    """SIGKILL in the middle of steps and of the writing of checkpoints, which never stops here."""
    command = [sys.executable, "-m", "tests.training.training_case", "endless", str(tmp_path)]
    for turn in range(2):
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        seen = set()
        while len(seen) < 8 + 5 * turn:
            assert process.poll() is None
            if (tmp_path / CHECKPOINT_FILE).is_file():
                seen.add((tmp_path / CHECKPOINT_FILE).stat().st_mtime_ns)
        process.kill()
        process.wait()
    left = training(tmp_path)
    left.resume()
    assert left.progress.step > 8
    alone = training(tmp_path / "alone", replace(QUICK, epochs=10_000))
    alone.train()
    for _ in range(left.progress.step):
        alone.advance()
    for a, b in zip(left.net.state_dict().values(), alone.net.state_dict().values(), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("left", [0, 99, 9_999])
def test_training_resume_names_a_damaged_checkpoint_and_one_of_another_net(tmp_path: Path, left: int) -> None:
    case = training(tmp_path)
    case.save()
    other = training(tmp_path)
    other.spec = replace(spec(), sigma=2.0)
    with pytest.raises(WeightsError, match="another --out"):
        other.resume()
    (tmp_path / CHECKPOINT_FILE).write_bytes((tmp_path / CHECKPOINT_FILE).read_bytes()[:left])
    with pytest.raises(WeightsError, match=r"last\.pt cannot be read .*: start anew"):
        case.resume()
    torch.save({"net": {}}, tmp_path / CHECKPOINT_FILE)
    with pytest.raises(WeightsError, match="is no checkpoint of hrpose train"):
        case.resume()


def test_training_resume_names_what_differs_in_the_recipe(tmp_path: Path) -> None:
    training(tmp_path, replace(QUICK, lr=1e-4, norms="frozen", accumulate=2)).save()
    with pytest.raises(InputError, match=r"--accumulate 2 --lr 0\.0001 --norms frozen: .*--init and another --out"):
        training(tmp_path).resume()


@pytest.mark.parametrize(
    ("changes", "checkpoint"),
    [
        ({"epochs": 9}, {}),
        ({"minutes": 1.0}, {}),
        ({"accumulate": 2}, {"processes": 2}),
        ({"seed": 3}, {"recipe": {"lr": QUICK.lr}}),  # of a version that had no seeds
        ({}, {"recipe": {"rate": 2e-3, "decay": 1e-4, "average": 0.5, "tags": 0.01, "batch": 4}}),  # with old names
    ],
)
def test_training_resume_allows_a_changed_duration_and_old_checkpoints(
    tmp_path: Path, changes: dict[str, Any], checkpoint: dict[str, Any]
) -> None:
    case = training(tmp_path)
    case.advance()
    case.save()
    torch.save(torch.load(tmp_path / CHECKPOINT_FILE) | checkpoint, tmp_path / CHECKPOINT_FILE)
    other = training(tmp_path, replace(QUICK, **changes))
    other.resume()
    assert other.progress.step == 1


def test_training_resume_compares_old_names_of_a_recipe_by_their_new_ones(tmp_path: Path) -> None:
    case = training(tmp_path)
    case.save()
    old = {"recipe": {"rate": 0.5, "average": 0.9}}
    torch.save(torch.load(tmp_path / CHECKPOINT_FILE) | old, tmp_path / CHECKPOINT_FILE)
    with pytest.raises(InputError, match=r"trained with --lr 0\.5 --ema-decay 0\.9: use the same, or"):
        case.resume()


@pytest.mark.slow
def test_training_step_of_two_processes_equals_accumulate_2(tmp_path: Path) -> None:
    steps = 20
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "tests.training.training_case", "halves", str(tmp_path), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=200)
    # Judged by what was written, not by the exit code: gloo can abort while it is torn down.
    assert (tmp_path / "losses.json").is_file(), done.stderr[-2000:]
    case = training(tmp_path, replace(GENTLE, accumulate=2, epochs=20))
    alone = [case.step(0.0) for _ in range(steps)]
    assert case.progress.step == 0  # `step` leaves the schedule to `run`
    assert_allclose(json.loads((tmp_path / "losses.json").read_text()), alone, atol=1e-5)


def test_training_run_names_step_and_images_of_a_loss_that_is_nan(tmp_path: Path) -> None:
    case = training(tmp_path)
    torch.nn.init.constant_(case.net.final_layer.bias, math.nan)
    with pytest.raises(InputError, match=r"step 0: \d+\.jpg"):
        next(case.run())


def test_training_run_ends_its_schedule_with_the_minutes(tmp_path: Path) -> None:
    case = training(tmp_path, replace(QUICK, minutes=1 / 60))
    rows = list(case.run())
    assert case.progress.seconds >= 1
    assert case.schedule_fraction() >= 1
    assert rows[-1]["step"] == case.progress.step


def test_training_step_with_a_teacher_adds_a_second_target(tmp_path: Path) -> None:
    seen: list[torch.Size] = []

    def teacher(crops: torch.Tensor) -> torch.Tensor:
        seen.append(crops.shape)
        return torch.zeros(len(crops), 17, 32, 24)

    plain, taught = (
        training(tmp_path, replace(QUICK, distil=weight), teacher=teacher).step(0.0) for weight in (0.0, 1.0)
    )
    assert seen == [torch.Size([4, 3, 128, 96])]
    assert taught > plain
