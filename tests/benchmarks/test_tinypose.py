"""Reading the weights of a net out of an OpenVINO IR."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import fx, nn

from benchmarks import tinypose
from hrpose_cli.errors import WeightsError
from hrpose_cli.nets.lite_hrnet import ConvBN, LiteHRNet, LiteNetConfig
from tests.reference import rule

TINY = LiteNetConfig(width=8, modules=(1, 2, 1), blocks=1, stem=8, joints=3)


@pytest.fixture
def tiny() -> LiteHRNet:
    net = LiteHRNet(TINY).eval()
    net.load_state_dict(rule.state_dict(net))
    return net


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


def test_convolutions_are_in_the_order_of_the_graph(ir: Path) -> None:
    first, second = tinypose.convolutions(tinypose.open_graph(ir))
    assert (first.stride, first.groups, second.stride, second.groups) == ((1, 1), 1, (2, 2), 2)
    assert_array_equal(first.bias, [0, 1])
    assert_array_equal(first.weight, np.arange(2, 8).reshape(2, 3, 1, 1))
    assert_array_equal(second.weight, np.arange(18).reshape(2, 1, 3, 3))
    assert_array_equal(second.bias, [18, 19])


def test_read_ir_refuses_another_graph(ir: Path) -> None:
    with pytest.raises(WeightsError, match="2 convolutions, this net"):
        tinypose.read_ir(ir, TINY)


@pytest.mark.parametrize(
    ("content", "says"), [("<net", "no OpenVINO IR"), ("<net/>", "0 convolutions"), (None, "cannot be read")]
)
def test_read_ir_refuses_other_files(ir: Path, content: str | None, says: str) -> None:
    if content is None:
        ir.with_suffix(".bin").unlink()
    else:
        ir.write_text(content)
    with pytest.raises(WeightsError, match=says):
        tinypose.read_ir(ir)


def test_read_ir_refuses_constants_beyond_the_file(ir: Path) -> None:
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


def test_needed_convolutions_are_in_the_order_of_the_graph(tiny: LiteHRNet) -> None:
    names = {module: name for name, module in tiny.named_modules()}
    wanted = [names[m.conv if isinstance(m, ConvBN) else m] for m in tinypose.needed(tiny)]
    kernels = {name for module, name in names.items() if isinstance(module, nn.Conv2d)}
    nodes = fx.symbolic_trace(tiny).graph.nodes
    assert wanted == [n.target for n in upstream(next(reversed(nodes)), set()) if n.target in kernels]


@torch.inference_mode()
def test_fill_gives_a_folded_convolution_an_identity_batch_norm() -> None:
    module = ConvBN(4, 4, 3, stride=2, groups=4).eval()
    kernel, bias = rule.uniform("kernel", (4, 1, 3, 3)).astype(np.float32), np.arange(4, dtype=np.float32) - 2
    tinypose.fill(module, tinypose.Convolution(kernel, bias, (2, 2), 4))
    x = torch.randn(2, 4, 6, 6)
    want = torch.conv2d(x, torch.from_numpy(kernel), None, 2, 1, 1, 4) + torch.from_numpy(bias)[:, None, None]
    assert_array_equal(module(x), want.relu())


@pytest.mark.parametrize(
    ("shape", "stride", "groups"), [((4, 1, 3, 3), (1, 1), 4), ((4, 1, 3, 3), (2, 2), 1), ((4, 4, 3, 3), (2, 2), 4)]
)
def test_fill_refuses_another_convolution(shape: tuple[int, ...], stride: tuple[int, int], groups: int) -> None:
    given = tinypose.Convolution(np.zeros(shape, np.float32), np.zeros(4, np.float32), stride, groups)
    with pytest.raises(ValueError, match="shape, stride, groups"):
        tinypose.fill(ConvBN(4, 4, 3, stride=2, groups=4), given)
