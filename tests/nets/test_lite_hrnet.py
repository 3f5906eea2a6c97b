from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import fx, nn

from benchmarks import tinypose
from hrpose_cli.errors import WeightsError
from hrpose_cli.nets.init import multiply_adds
from hrpose_cli.nets.lite_hrnet import (
    _CONFIGS,
    ConvBN,
    LiteHRNet,
    LiteNetConfig,
    ShuffleUnit,
    _measure_statistics,
    _shuffle_channels,
    unfold_batch_norms,
)
from tests.conftest import parameter_count
from tests.reference import rule

TINY = LiteNetConfig(width=8, modules=(1, 2, 1), blocks=1, stem=8, joints=3)
TEACHER = _CONFIGS["lite-hrnet"]


@pytest.fixture
def tiny() -> LiteHRNet:
    net = LiteHRNet(TINY).eval()
    net.load_state_dict(rule.state_dict(net))
    return net


# The net -----------------------------------------------------------------------------------------


def test_the_teacher_has_the_published_size() -> None:
    net = LiteHRNet(TEACHER)
    kernels = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    grouped = [m for m in kernels if m.groups > 1]
    assert (len(kernels) - len(grouped), len(grouped)) == (173, 96)
    assert sum(m.weight.numel() for m in kernels) == 1_281_712
    assert parameter_count(net) == 1_281_712 + 17 + 2 * 18_448  # weights, heatmap biases, batch norms
    assert multiply_adds(net, (192, 256)) == 302_331_648


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (TEACHER, (192, 256)),
        (TINY, (64, 96)),
        (
            LiteNetConfig(width=4, modules=(1, 1, 1), blocks=2, stem=4, joints=14),
            (32, 32),
        ),  # first branch as the stem
        (LiteNetConfig(width=6, modules=(2, 1, 2), blocks=1, stem=8), (96, 64)),
    ],
)
@torch.inference_mode()
def test_a_quarter_of_the_input_comes_out(config: LiteNetConfig, size: tuple[int, int]) -> None:
    out = LiteHRNet(config).eval()(torch.rand(2, 3, size[1], size[0]))
    assert out.shape == (2, config.joints, size[1] // 4, size[0] // 4)


@torch.inference_mode()
def test_a_batch_is_its_images_one_by_one(tiny: LiteHRNet) -> None:
    images = rule.image("3x3x128x96")
    alone = torch.cat([tiny(p[None]) for p in images])
    assert_allclose(tiny(images).numpy(), alone.numpy(), atol=1e-5)
    assert np.ptp(alone.numpy()) > 0.1


@torch.inference_mode()
def test_channels_last_changes_nothing_and_stays(tiny: LiteHRNet) -> None:
    images = rule.image("2x3x64x96")
    want = tiny(images).numpy()
    out = tiny.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert_allclose(out.numpy(), want, atol=1e-5)


@pytest.mark.parametrize(
    ("left", "right", "want"),
    [([0], [1], [0, 1]), ([0, 1], [2, 3], [0, 2, 1, 3]), ([0, 1, 2], [3, 4, 5], [0, 3, 1, 4, 2, 5])],
)
def test_shuffled_takes_channels_by_turns(left: list[int], right: list[int], want: list[int]) -> None:
    out = _shuffle_channels(*(torch.tensor(c).view(1, -1, 1, 1).expand(2, -1, 3, 4) for c in (left, right)))
    assert out.shape == (2, len(want), 3, 4)
    assert_array_equal(out[1, :, 2, 3], want)
    # The permutation as ShuffleNet writes it: reshape to (groups, n), transpose, flatten.
    assert_array_equal(np.reshape(left + right, (2, -1)).T.ravel(), want)


@torch.inference_mode()
def test_a_shuffle_unit_leaves_half_of_its_channels() -> None:
    unit = ShuffleUnit(6).eval()
    x = torch.randn(2, 6, 4, 4)
    assert_array_equal(unit(x)[:, ::2], x[:, :3])


# Batch norms -------------------------------------------------------------------------------------


@torch.inference_mode()
def test_unfolding_leaves_the_function_and_the_net(tiny: LiteHRNet) -> None:
    batches = [rule.image("4x3x64x64"), rule.image("2x3x64x96")]
    other, want = rule.image("3x3x96x64"), rule.state_dict(tiny)
    unfolded = unfold_batch_norms(tiny, batches)
    assert_allclose(unfolded(other), tiny(other), atol=1e-5)
    assert all(torch.equal(value, want[key]) for key, value in tiny.state_dict().items())
    assert not torch.equal(unfolded.stem.conv1.bn.running_mean, tiny.stem.conv1.bn.running_mean)


@torch.inference_mode()
def test_unfolded_nets_train_as_they_evaluate(tiny: LiteHRNet) -> None:
    batch = rule.image("8x3x64x64")
    unfolded = unfold_batch_norms(tiny, [batch[:3], batch[3:]])
    want = unfolded(batch).numpy()
    assert_allclose(unfolded.train()(batch), want, atol=2e-3 * np.ptp(want))  # eps and rounding in dead channels
    assert np.abs(tiny.train()(batch).numpy() - want).max() > 0.05 * np.ptp(want)


def test_measure_pools_the_batches() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3)).train()
    x = torch.randn(7, 3, 5, 4) * 3 + 2
    ((mean, variance),) = _measure_statistics(net, [x[:2], x[2:]]).values()
    assert_allclose(mean, x.mean((0, 2, 3)), rtol=1e-5)
    assert_allclose(variance, x.var((0, 2, 3), unbiased=False), rtol=1e-5)
    assert net.training
    assert net[0].num_batches_tracked == 0


# Reading an IR -----------------------------------------------------------------------------------

# A 1x1 convolution in half precision and a depthwise one of stride 2, each with a bias; a second
# output (layer 20) that nothing asks for; listed in no useful order.
IR = """<net><layers>
<layer id="9" type="Result"/><layer id="20" type="Result"/>
<layer id="8" type="Add"/><layer id="7" type="GroupConvolution"><data strides="2, 2"/></layer>
<layer id="6" type="Const"><data offset="16" size="72" element_type="f32" shape="2, 1, 1, 3, 3"/></layer>
<layer id="5" type="Const"><data offset="88" size="8" element_type="f32" shape="1, 2, 1, 1"/></layer>
<layer id="4" type="Add"/><layer id="3" type="Convolution"><data strides="1, 1"/></layer>
<layer id="2" type="Convert"/><layer id="1" type="Const"><data offset="4" size="12" element_type="f16" shape="2,3,1,1"/>
</layer><layer id="12" type="Convert"/><layer id="11" type="Const"><data offset="0" size="4" element_type="f16"
shape="1, 2, 1, 1"/></layer><layer id="0" type="Parameter"/>
</layers><edges>
<edge from-layer="8" to-layer="9" to-port="0"/><edge from-layer="0" to-layer="20" to-port="0"/>
<edge from-layer="5" to-layer="8" to-port="1"/><edge from-layer="7" to-layer="8" to-port="0"/>
<edge from-layer="4" to-layer="7" to-port="0"/><edge from-layer="6" to-layer="7" to-port="1"/>
<edge from-layer="3" to-layer="4" to-port="0"/><edge from-layer="12" to-layer="4" to-port="1"/>
<edge from-layer="0" to-layer="3" to-port="0"/><edge from-layer="2" to-layer="3" to-port="1"/>
<edge from-layer="1" to-layer="2" to-port="0"/><edge from-layer="11" to-layer="12" to-port="0"/>
</edges></net>"""


@pytest.fixture
def ir(tmp_path: Path) -> Path:
    path = tmp_path / "net.xml"
    path.write_text(IR)
    half, full = np.arange(8, dtype="<f2"), np.arange(20, dtype="<f4")
    path.with_suffix(".bin").write_bytes(half.tobytes() + full.tobytes())
    return path


def test_convolutions_come_in_the_order_of_the_graph(ir: Path) -> None:
    first, second = tinypose.convolutions(tinypose.open_graph(ir))
    assert (first.stride, first.groups, second.stride, second.groups) == ((1, 1), 1, (2, 2), 2)
    assert_array_equal(first.bias, [0, 1])
    assert_array_equal(first.weight, np.arange(2, 8).reshape(2, 3, 1, 1))
    assert_array_equal(second.weight, np.arange(18).reshape(2, 1, 3, 3))
    assert_array_equal(second.bias, [18, 19])


def test_another_graph_does_not_fit(ir: Path) -> None:
    with pytest.raises(WeightsError, match="2 convolutions, this net"):
        tinypose.read_ir(ir, TINY)


@pytest.mark.parametrize(
    ("content", "says"), [("<net", "no OpenVINO IR"), ("<net/>", "0 convolutions"), (None, "cannot be read")]
)
def test_what_is_no_ir_is_said(ir: Path, content: str | None, says: str) -> None:
    if content is None:
        ir.with_suffix(".bin").unlink()
    else:
        ir.write_text(content)
    with pytest.raises(WeightsError, match=says):
        tinypose.read_ir(ir)


def test_constants_beyond_the_file_are_said(ir: Path) -> None:
    ir.with_suffix(".bin").write_bytes(b"\0" * 8)
    with pytest.raises(WeightsError, match="damaged"):
        tinypose.read_ir(ir)


def upstream(node: fx.Node, seen: set[fx.Node]) -> Iterator[fx.Node]:
    """What feeds `node` and then itself, depth first, as in an IR; for torch's own graph of the net."""
    if node not in seen:
        seen.add(node)
        for source in node.all_input_nodes:
            yield from upstream(source, seen)
        yield node


def test_convolutions_are_needed_in_the_order_of_the_graph(tiny: LiteHRNet) -> None:
    names = {module: name for name, module in tiny.named_modules()}
    wanted = [names[m.conv if isinstance(m, ConvBN) else m] for m in tinypose.needed(tiny)]
    kernels = {name for module, name in names.items() if isinstance(module, nn.Conv2d)}
    nodes = fx.symbolic_trace(tiny).graph.nodes
    assert wanted == [n.target for n in upstream(next(reversed(nodes)), set()) if n.target in kernels]


@torch.inference_mode()
def test_a_folded_convolution_gets_an_identity_as_batch_norm() -> None:
    module = ConvBN(4, 4, 3, stride=2, groups=4).eval()
    kernel, bias = rule.uniform("kernel", (4, 1, 3, 3)).astype(np.float32), np.arange(4, dtype=np.float32) - 2
    tinypose.fill(module, tinypose.Convolution(kernel, bias, (2, 2), 4))
    x = torch.randn(2, 4, 6, 6)
    want = torch.conv2d(x, torch.from_numpy(kernel), None, 2, 1, 1, 4) + torch.from_numpy(bias)[:, None, None]
    assert_array_equal(module(x), want.relu())


@pytest.mark.parametrize(
    ("shape", "stride", "groups"), [((4, 1, 3, 3), (1, 1), 4), ((4, 1, 3, 3), (2, 2), 1), ((4, 4, 3, 3), (2, 2), 4)]
)
def test_another_convolution_is_refused(shape: tuple[int, ...], stride: tuple[int, int], groups: int) -> None:
    given = tinypose.Convolution(np.zeros(shape, np.float32), np.zeros(4, np.float32), stride, groups)
    with pytest.raises(ValueError, match="shape, stride, groups"):
        tinypose.fill(ConvBN(4, 4, 3, stride=2, groups=4), given)
