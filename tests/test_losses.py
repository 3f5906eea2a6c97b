import json

import pytest
import torch

from hrpose_cli.skeletons import COCO
from hrpose_cli.training import losses
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
@pytest.mark.parametrize(("loss", "key"), [(losses.joints_mse, "mse"), (losses.joints_ohkm, "ohkm8")])
@pytest.mark.parametrize("weighted", [True, False])
def test_losses_and_gradients_are_the_authors(
    loss, key: str, weighted: bool, dtype, name: str, tolerance: float
) -> None:
    output, target, weight = case(dtype)
    expected = EXPECTED[f"{key}_{'weight' if weighted else 'noweight'}_{name}"]
    value = loss(output, target, weight if weighted else torch.ones_like(weight))
    value.backward()
    assert value.item() == pytest.approx(expected["loss"], rel=tolerance)
    assert output.grad.abs().sum().item() == pytest.approx(expected["grad_abs_sum"], rel=tolerance)
    assert output.grad.flatten()[:4].tolist() == pytest.approx(expected["grad_first4"], rel=1e-5, abs=1e-10)


def test_a_perfect_output_costs_nothing_and_peaks_count_more() -> None:
    target = torch.zeros(1, 17, 8, 6)
    target[..., 4, 3] = 1
    weight = torch.ones(1, 17)
    for loss in losses.LOSSES.values():
        assert loss(target, target, weight) == 0
    missed = losses.peaked_mse(target * 0, target, weight)
    assert missed == pytest.approx(10 * losses.joints_mse(target * 0, target, weight).item())
    assert losses.peaked_mse(target * 0, target, weight * 0) == 0


def test_weights_of_joints() -> None:
    visible = torch.tensor([[0, 1, 2] + [2] * 14])
    assert losses.joint_weights(visible, occluded=0.5)[0, :3].tolist() == [0, 0.5, 1]
    by_joint = losses.joint_weights(visible, by_joint=torch.tensor(COCO.joint_weights))
    assert by_joint[0, [9, 13]].tolist() == pytest.approx([1.5, 1.2])
