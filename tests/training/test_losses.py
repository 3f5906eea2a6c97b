import json

import pytest
import torch

from hrpose_cli.skeletons import COCO
from hrpose_cli.training import losses
from hrpose_cli.training.augment import CropSamples
from hrpose_cli.training.method import _crop_loss, _image_loss
from hrpose_cli.training.recipe import Recipe
from hrpose_cli.training.whole_images import ImageSamples
from tests.reference import FOLDER, rule

EXPECTED = json.loads((FOLDER / "losses.json").read_text())
SHAPE = (3, 17, 16, 12)


def case(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Output, target and weight of the reference README, section 9; made in float32 as there."""
    output = torch.from_numpy((1.2 * rule.uniform("loss:out", SHAPE) - 0.1).astype("float32"))
    target = torch.from_numpy(rule.uniform("loss:tgt", SHAPE).astype("float32"))
    drawn = torch.from_numpy(rule.uniform("loss:w", (3, 17, 1))[..., 0] > 0.25)
    weight = drawn * torch.tensor([1.0, 1.2, 1.5])[torch.arange(17) % 3]
    return output.to(dtype).requires_grad_(), target.to(dtype), weight.to(dtype)


@pytest.mark.parametrize(
    ("dtype", "name", "tolerance"), [(torch.float32, "fp32", 1e-6), (torch.float64, "fp64", 1e-12)]
)
@pytest.mark.parametrize(("loss", "key"), [(losses._keypoint_mse, "mse"), (losses._keypoint_ohkm, "ohkm8")])
@pytest.mark.parametrize("weighted", [True, False])
def test_keypoint_mse_and_ohkm_equal_the_authors(
    loss, key: str, weighted: bool, dtype, name: str, tolerance: float
) -> None:
    output, target, weight = case(dtype)
    expected = EXPECTED[f"{key}_{'weight' if weighted else 'noweight'}_{name}"]
    value = loss(output, target, weight if weighted else torch.ones_like(weight))
    value.backward()
    assert value.item() == pytest.approx(expected["loss"], rel=tolerance)
    assert output.grad.abs().sum().item() == pytest.approx(expected["grad_abs_sum"], rel=tolerance)
    assert output.grad.flatten()[:4].tolist() == pytest.approx(expected["grad_first4"], rel=1e-5, abs=1e-10)


def test_losses_of_a_perfect_output_are_0_and_peaked_mse_weighs_peaks() -> None:
    target = torch.zeros(1, 17, 8, 6)
    target[..., 4, 3] = 1
    weight = torch.ones(1, 17)
    for loss in losses.LOSSES.values():
        assert loss(target, target, weight) == 0
    missed = losses._peaked_mse(target * 0, target, weight)
    assert missed == pytest.approx(10 * losses._keypoint_mse(target * 0, target, weight).item())
    assert losses._peaked_mse(target * 0, target, weight * 0) == 0


def test_keypoint_weights_weighs_occluded_keypoints_and_each_keypoint() -> None:
    visible = torch.tensor([[0, 1, 2] + [2] * 14])
    assert losses.keypoint_weights(visible, occluded=0.5)[0, :3].tolist() == [0, 0.5, 1]
    by_keypoint = losses.keypoint_weights(visible, by_keypoint=torch.tensor(COCO.keypoint_weights))
    assert by_keypoint[0, [9, 13]].tolist() == pytest.approx([1.5, 1.2])


def grouping_case(dtype: torch.dtype) -> tuple[list[torch.Tensor], ImageSamples]:
    """Outputs and batch of the reference README, section 9; made in float32 as there."""

    def drawn(tag: str, *shape: int) -> torch.Tensor:
        return torch.from_numpy(rule.uniform(tag, shape).astype("float32")).to(dtype)

    outputs = [2 * drawn("ae:o0", 4, 34, 8, 8) - 0.5, 2 * drawn("ae:o1", 4, 17, 16, 16) - 0.5]
    targets = [drawn("ae:h0", 4, 17, 8, 8), drawn("ae:h1", 4, 17, 16, 16)]
    masks = [(drawn("ae:m0", 4, 8, 8) > 0.2).to(dtype), (drawn("ae:m1", 4, 16, 16) > 0.2).to(dtype)]
    batch = ImageSamples(torch.zeros(4, 3, 32, 32), targets, masks, reference_places())
    return [output.requires_grad_() for output in outputs], batch


def reference_places() -> torch.Tensor:
    """(4, 6, 17) pixels of the table of the authors, who index keypoint k's pixel i as 64 k + i, in any order."""
    places = torch.full((4, 6, 17), -1)
    for n, people in EXPECTED["ae_joints_8"].items():
        for p, keypoints in enumerate(people):
            for index, flag in keypoints:
                if flag:
                    places[int(n), p, index // 64] = index % 64
    return places


@pytest.mark.parametrize(
    ("dtype", "name", "tolerance"), [(torch.float32, "fp32", 1e-6), (torch.float64, "fp64", 1e-12)]
)
def test_tag_loss_and_masked_mse_equal_the_authors(dtype, name: str, tolerance: float) -> None:
    outputs, batch = grouping_case(dtype)
    pull, push = losses.tag_loss(outputs[0][:, 17:], batch.places)
    assert pull.tolist() == pytest.approx(EXPECTED[f"ae_exp_{name}"]["pull"], rel=tolerance)
    assert push.tolist() == pytest.approx(EXPECTED[f"ae_exp_{name}"]["push"], rel=tolerance)
    expected = EXPECTED[f"higher_multi_{name}"]
    for maps, target, mask, each in zip(
        [outputs[0][:, :17], outputs[1]], batch.targets, batch.masks, expected["heatmaps_loss"], strict=True
    ):
        assert losses.masked_mse(maps, target, mask).tolist() == pytest.approx(each, rel=tolerance)
    total = _image_loss(outputs, batch, Recipe(loss="mse", tag_weight=1e-3))
    total.backward()
    assert total.item() == pytest.approx(expected["total_mean"], rel=tolerance)
    found = [output.grad.abs().sum().item() for output in outputs]
    assert found == pytest.approx(expected["grad_abs_sum"], rel=10 * tolerance)


def test_tag_loss_of_nobody_and_of_one_person() -> None:
    tags = torch.rand(2, 3, 4, 4, requires_grad=True)
    places = torch.full((2, 2, 3), -1)
    places[1, 1] = torch.tensor([5, -1, 7])
    pull, push = losses.tag_loss(tags, places)
    far = (tags[1, 0].flatten()[5] - tags[1, 2].flatten()[7]).item()
    assert push.tolist() == [0, 0]
    assert pull.tolist() == pytest.approx([0, far**2 / 4])
    (pull + push).sum().backward()
    assert tags.grad.isfinite().all()


def test_masked_mse_weighs_peaks_by_the_gain() -> None:
    target, mask = torch.zeros(1, 17, 8, 6), torch.ones(1, 8, 6)
    target[..., 4, 3] = 1
    assert losses.masked_mse(target * 0, target, mask, gain=9.0) == pytest.approx(10 / 48)
    mask[..., 4, 3] = 0
    assert losses.masked_mse(target * 0, target, mask, gain=9.0) == 0


def test_crop_loss_sums_over_stacks() -> None:
    output, target, weight = case(torch.float32)
    samples = CropSamples(torch.zeros(3, 3, 64, 48), target, weight)
    one, three = (_crop_loss([output] * n, samples, Recipe(loss="mse")) for n in (1, 3))
    assert one == losses._keypoint_mse(output, target, weight)
    assert three.item() == pytest.approx(3 * one.item())
