import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torch.optim.swa_utils import AveragedModel

from hrpose_cli.errors import InputError, WeightsError
from hrpose_cli.estimation.heatmaps import decode_dark
from hrpose_cli.skeletons import COCO
from hrpose_cli.training.annotations import AnnotationSource
from hrpose_cli.training.augment import Augmentation, draw_samples
from hrpose_cli.training.dataset import _PATCH_WIDTHS, load_people
from hrpose_cli.training.loop import CHECKPOINT_FILE, Recipe, _moving_average, learning_rate
from tests.conftest import spec
from tests.training.training_case import GENTLE, QUICK, people, training


@pytest.mark.slow
def test_one_batch_is_learned_by_heart(tmp_path: Path) -> None:
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
def test_the_average_forgets_the_start_of_a_short_training(decay: float, steps: int, left: float) -> None:
    net = torch.nn.BatchNorm1d(1)
    average = AveragedModel(net, multi_avg_fn=_moving_average(decay), use_buffers=True)
    average.update_parameters(net)  # weight 1, bias 0
    with torch.no_grad():
        net.bias.fill_(1.0)
    for _ in range(steps):
        average.update_parameters(net)
    assert 0 <= 1 - average.module.bias.item() < left
    assert int(average.module.num_batches_tracked) == 0


def test_the_average_is_as_slow_as_wanted_in_a_long_training() -> None:
    average, net = [torch.zeros(1)], [torch.ones(1)]
    _moving_average(0.999)(average, net, torch.tensor(9_000))
    assert_allclose(average[0], 0.001, rtol=1e-4)


def test_a_resumed_training_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
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
def test_a_training_that_is_killed_goes_on_as_if_nothing_was(tmp_path: Path) -> None:
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


def test_a_checkpoint_of_another_net_is_refused(tmp_path: Path) -> None:
    training(tmp_path).save()
    other = training(tmp_path)
    other.spec = replace(spec(), sigma=2.0)
    with pytest.raises(WeightsError, match="another --out"):
        other.resume()


@pytest.mark.parametrize("left", [0, 99, 9_999])
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, left: int) -> None:
    case = training(tmp_path)
    case.save()
    (tmp_path / CHECKPOINT_FILE).write_bytes((tmp_path / CHECKPOINT_FILE).read_bytes()[:left])
    with pytest.raises(WeightsError, match=r"last\.pt cannot be read .*: start anew"):
        case.resume()
    torch.save({"net": {}}, tmp_path / CHECKPOINT_FILE)
    with pytest.raises(WeightsError, match="is no checkpoint of hrpose train"):
        case.resume()


def test_another_recipe_is_refused_with_what_differs(tmp_path: Path) -> None:
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
def test_what_may_change_on_the_way(tmp_path: Path, changes: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    case = training(tmp_path)
    case.advance()
    case.save()
    torch.save(torch.load(tmp_path / CHECKPOINT_FILE) | checkpoint, tmp_path / CHECKPOINT_FILE)
    other = training(tmp_path, replace(QUICK, **changes))
    other.resume()
    assert other.progress.step == 1


def test_old_names_of_a_recipe_are_compared_by_their_new_ones(tmp_path: Path) -> None:
    case = training(tmp_path)
    case.save()
    old = {"recipe": {"rate": 0.5, "average": 0.9}}
    torch.save(torch.load(tmp_path / CHECKPOINT_FILE) | old, tmp_path / CHECKPOINT_FILE)
    with pytest.raises(InputError, match=r"trained with --lr 0\.5 --ema-decay 0\.9: use the same, or"):
        case.resume()


@pytest.mark.slow
def test_two_processes_are_one_with_two_parts(tmp_path: Path) -> None:
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


def test_a_loss_that_is_no_number_names_the_step_and_the_images(tmp_path: Path) -> None:
    case = training(tmp_path)
    torch.nn.init.constant_(case.net.final_layer.bias, math.nan)
    with pytest.raises(InputError, match=r"step 0: \d+\.jpg"):
        next(case.run())


def test_a_time_budget_ends_the_schedule(tmp_path: Path) -> None:
    case = training(tmp_path, replace(QUICK, minutes=1 / 60))
    rows = list(case.run())
    assert case.progress.seconds >= 1
    assert case.schedule_fraction() >= 1
    assert rows[-1]["step"] == case.progress.step


@pytest.mark.parametrize(
    ("way", "cosine", "steps"),
    [(0.0, 1.0, 1.0), (0.5, 0.505, 1.0), (0.82, 0.08645, 0.1), (0.96, 0.01390, 0.01), (1.0, 0.01, 0.01)],
)
def test_schedules(way: float, cosine: float, steps: float) -> None:
    recipe = Recipe(lr=1.0, final=0.01, warmup=10)
    assert learning_rate(recipe, 99, way) == pytest.approx(cosine, rel=2e-2)
    assert learning_rate(replace(recipe, schedule="step"), 99, way) == pytest.approx(steps)
    assert learning_rate(recipe, 0, 0.0) == pytest.approx(0.1)


def test_a_teacher_adds_a_second_target(tmp_path: Path) -> None:
    seen: list[torch.Size] = []

    def teacher(crops: torch.Tensor) -> torch.Tensor:
        seen.append(crops.shape)
        return torch.zeros(len(crops), 17, 32, 24)

    plain, taught = (
        training(tmp_path, replace(QUICK, distil=weight), teacher=teacher).step(0.0) for weight in (0.0, 1.0)
    )
    assert seen == [torch.Size([4, 3, 128, 96])]
    assert taught > plain


def test_people_are_cut_once_and_found_again(tmp_path: Path) -> None:
    keypoints = np.array([[40, 50, 2], [60, 90, 1], *[[0, 0, 0]] * 15], float)
    image = np.zeros((120, 100, 3), np.uint8)
    image[50, 40] = image[90, 60] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    person = {"image_id": 1, "category_id": 1, "iscrowd": 0, "area": 9, "bbox": [20, 20, 60, 80]}
    rows = [
        person | {"id": 1, "keypoints": keypoints.ravel().tolist()},
        person | {"id": 2, "keypoints": [0] * 51},
        person | {"id": 3, "keypoints": keypoints.ravel().tolist(), "iscrowd": 1},
    ]
    images = [{"id": 1, "file_name": "a.png", "width": 100, "height": 120}]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1}]}
    (tmp_path / "people.json").write_text(json.dumps(content))
    source = AnnotationSource(tmp_path / "people.json", trust=0.5)
    found = load_people([source], (96, 128), COCO, tmp_path / "cache")
    assert len(found) == 1
    assert found.labelled[0, :3].tolist() == [True, True, False]
    assert found.weight[0, :3].tolist() == [0.5, 0.5, 0]
    hidden = load_people([source], (96, 128), COCO, tmp_path / "cache", occluded=0.5)
    assert hidden.weight[0, :3].tolist() == [0.5, 0.25, 0]
    for k in (0, 1):
        x, y = found.keypoints[0, k].round().int().tolist()
        assert found.patches[0, y - 1 : y + 2, x - 1 : x + 2].max() > 60
    width = 80 * 0.75 * 1.25  # the padded box in image px
    assert_allclose(
        found.keypoints[0, 1] - found.keypoints[0, 0],
        np.array([20, 40]) * 96 * _PATCH_WIDTHS / (width * _PATCH_WIDTHS),
        rtol=1e-5,
    )
    (tmp_path / "a.png").unlink()
    again = load_people([source], (96, 128), COCO, tmp_path / "cache")
    assert_array_equal(again.patches, found.patches)
    (tmp_path / "others").mkdir()
    Image.new("RGB", (100, 120)).save(tmp_path / "others" / "a.png")
    others = load_people([replace(source, images=tmp_path / "others")], (96, 128), COCO, tmp_path / "cache")
    assert not others.patches.any()


def test_targets_are_where_the_keypoints_are() -> None:
    torch.manual_seed(0)
    samples = draw_samples(people(), torch.arange(16), spec(), Augmentation(patches=0))
    assert samples.crops.shape == (16, 3, 128, 96)
    assert 0 <= samples.crops.min() < samples.crops.max() <= 255
    bright = samples.crops.mean(1)[:, ::4, ::4]  # (N, 32, 24)
    covered = samples.target.amax(1)
    assert np.corrcoef(bright.flatten(), covered.flatten())[0, 1] > 0.5


def test_a_smaller_padding_shows_people_larger() -> None:
    some = people()
    some = replace(some, keypoints=some.keypoints.clone().fill_(some.side / 2) + torch.tensor([30.0, 0.0]))
    near, far = (
        draw_samples(some, torch.arange(2), replace(spec(), padding=padding), Augmentation.none())
        .target[0, 0]
        .sum(0)
        .argmax()
        for padding in (1.0, 1.25)
    )
    assert (near - 12) > (far - 12) > 0
