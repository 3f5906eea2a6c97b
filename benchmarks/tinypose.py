"""PP-TinyPose as the start of a training: its OpenVINO IR becomes weights that `hrpose train --init` takes.

    python benchmarks/tinypose.py tinypose_256_192.xml --data person_keypoints_train.json --out start.safetensors

An IR is an XML graph and a .bin with its constants; both are read here without OpenVINO. The batch norms were folded
into the convolutions when it was made: those of the net become identities with the folded bias, then
`unfold_batch_norms` gives them the statistics of real crops, without which training wrecks the net.
"""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hrpose_cli.backends import normalise_images
from hrpose_cli.errors import WeightsError
from hrpose_cli.export import CalibrationImages
from hrpose_cli.models import save_weights
from hrpose_cli.nets import ConvBN, LiteHRNet, LiteNetConfig, build_net, unfold_batch_norms
from hrpose_cli.training import new_spec

DTYPES = {"f16": "<f2", "f32": "<f4"}
KINDS = {"Convolution", "GroupConvolution"}


@dataclass(frozen=True)
class Convolution:
    """A convolution of the graph with the constant that is added to it."""

    weight: np.ndarray[Any, np.dtype[np.float32]]  # (O, I / groups, h, w)
    bias: np.ndarray[Any, np.dtype[np.float32]]  # (O,)
    stride: tuple[int, ...]
    groups: int


def read_ir(xml: Path, config: LiteNetConfig | None = None) -> dict[str, Tensor]:
    """The state dict of `LiteHRNet(config)` from an IR; WeightsError unless the graph is such a net."""
    net = LiteHRNet(config or LiteNetConfig())
    graph = open_graph(xml)
    try:
        found = list(convolutions(graph))
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(f"{xml} or its .bin is damaged: {error!r}") from error
    wanted = list(needed(net))
    if len(found) != len(wanted):
        raise WeightsError(f"{xml} has {len(found)} convolutions, this net {len(wanted)}")
    names = {module: name for name, module in net.named_modules()}
    for number, (module, convolution) in enumerate(zip(wanted, found, strict=True)):
        try:
            fill(module, convolution)
        except ValueError as error:
            raise WeightsError(f"{xml}: convolution {number} is not {names[module]}: {error}") from error
    return net.state_dict()


# The graph ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Graph:
    """Layers by id, the ids that feed each in the order of its ports, and the bytes of the constants."""

    layers: dict[str, ET.Element]
    sources: dict[str, list[str]]
    constants: bytes

    def kind(self, layer: str) -> str:
        return self.layers[layer].attrib["type"]

    def data(self, layer: str) -> dict[str, str]:
        """The attributes that the layer's type has; empty where it has none."""
        found = self.layers[layer].find("data")
        return {} if found is None else found.attrib

    def is_constant(self, layer: str) -> bool:
        """Whether it is a constant, maybe one that is kept in half precision."""
        if self.kind(layer) == "Convert":
            return self.is_constant(self.sources[layer][0])
        return self.kind(layer) == "Const"

    def constant(self, layer: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The value of a constant, in float32."""
        if self.kind(layer) == "Convert":
            return self.constant(self.sources[layer][0])
        data = self.data(layer)
        start, dtype = int(data["offset"]), np.dtype(DTYPES[data["element_type"]])
        flat = np.frombuffer(self.constants, dtype, int(data["size"]) // dtype.itemsize, start)
        return flat.reshape(numbers(data["shape"])).astype(np.float32)


def numbers(text: str) -> tuple[int, ...]:
    """The integers of an attribute such as "2, 2"."""
    return tuple(int(part) for part in text.split(",") if part.strip())


def open_graph(xml: Path) -> Graph:
    """Read an IR; the .bin lies beside the .xml."""
    try:
        root = ET.parse(xml).getroot()
        layers = {layer.attrib["id"]: layer for layer in root.iterfind("layers/layer")}
        edges = [edge.attrib for edge in root.iterfind("edges/edge")]
        edges.sort(key=lambda edge: int(edge["to-port"]))
        sources: dict[str, list[str]] = {layer: [] for layer in layers}
        for edge in edges:
            sources[edge["to-layer"]].append(edge["from-layer"])
        return Graph(layers, sources, xml.with_suffix(".bin").read_bytes())
    except OSError as error:
        raise WeightsError(f"{error.filename} cannot be read: {error.strerror}") from error
    except (ET.ParseError, KeyError, ValueError) as error:
        raise WeightsError(f"{xml} is no OpenVINO IR: {error!r}") from error


def convolutions(graph: Graph) -> Iterator[Convolution]:
    """Those that the first output needs, in the order of `upstream`."""
    for layer in upstream(graph):
        feeds = graph.sources[layer]
        # A bias is the constant that is added to a convolution; sums of branches have no constant.
        if graph.kind(layer) == "Add" and graph.kind(feeds[0]) in KINDS and graph.is_constant(feeds[1]):
            yield convolution(graph, feeds[0], feeds[1])


def upstream(graph: Graph) -> Iterator[str]:
    """All that the first output needs, each after what feeds it: depth first, ports in their order."""
    first = next((layer for layer in graph.layers if graph.kind(layer) == "Result"), None)
    todo: list[tuple[str, bool]] = [] if first is None else [(first, False)]
    seen: set[str] = set()
    while todo:
        layer, fed = todo.pop()
        if fed:
            yield layer
        elif layer not in seen:
            seen.add(layer)
            todo.append((layer, True))
            todo.extend((source, False) for source in reversed(graph.sources[layer]))


def convolution(graph: Graph, layer: str, bias: str) -> Convolution:
    """The numbers of one; a grouped kernel (G, O / G, I / G, h, w) loses its first axis."""
    weight = graph.constant(graph.sources[layer][1])
    groups = weight.shape[0] if graph.kind(layer) == "GroupConvolution" else 1
    return Convolution(
        weight=weight.reshape(-1, *weight.shape[-3:]),
        bias=graph.constant(bias).ravel(),
        stride=numbers(graph.data(layer)["strides"]),
        groups=groups,
    )


# The net -----------------------------------------------------------------------------------------


def needed(net: LiteHRNet) -> Iterator[ConvBN | nn.Conv2d]:
    """The convolutions of `net` in the order of `upstream`: each when a later one first asks for it.

    A lower branch is first asked for when the 1/4 branch sums all, and only then asks for its own
    row of the unit before.
    """
    yield from inside(net.stem)
    rows: list[nn.Module] = []  # the fusions of the unit before
    for transition, stage in zip(transitions(net), stages(net), strict=True):
        for unit in stage:
            for i, branch in enumerate(unit.layers):
                if 0 < i < len(rows):
                    yield from inside(rows[i])
                if unit is stage[0]:
                    yield from inside(transition[i])
                yield from inside(branch)
                yield from inside(unit.fuse_layers[0][i])
            rows = list(unit.fuse_layers)
    for row in rows[1:]:
        yield from inside(row)
    yield from inside(net.head_layer)
    yield net.final_layer


def transitions(net: LiteHRNet) -> list[Any]:
    return [net.transition0, net.transition1, net.transition2]


def stages(net: LiteHRNet) -> list[Any]:
    return [net.stage0, net.stage1, net.stage2]


def inside(module: nn.Module) -> Iterator[ConvBN]:
    """Those within `module`, in the order in which it runs them."""
    return (part for part in module.modules() if isinstance(part, ConvBN))


@torch.no_grad()
def fill(module: ConvBN | nn.Conv2d, given: Convolution) -> None:
    """Take over a convolution; ValueError if it is another one. A batch norm becomes weight 1 and the bias."""
    conv = module.conv if isinstance(module, ConvBN) else module
    want = (tuple(conv.weight.shape), conv.stride, conv.groups)
    have = (given.weight.shape, given.stride, given.groups)
    if want != have:
        raise ValueError(f"shape, stride, groups are {have}, not {want}")
    conv.weight.copy_(torch.from_numpy(given.weight))
    if isinstance(module, ConvBN):
        norm = module.bn
        norm.reset_parameters()
        norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]  # 1 after the eps is added
        norm.bias.copy_(torch.from_numpy(given.bias))
    else:
        module.bias.copy_(torch.from_numpy(given.bias))  # type: ignore[union-attr]


CROPS, BATCH = 256, 32  # people on whom the statistics of batch norms are measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xml", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="COCO annotations of people")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--padding", type=float, default=1.17)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    spec = new_spec("tinypose", "lite-hrnet", (192, 256), padding=arguments.padding)
    net = build_net(spec.architecture, spec.net)
    net.load_state_dict(read_ir(arguments.xml))
    crops = torch.from_numpy(CalibrationImages(arguments.data, arguments.images).crops(net, spec, CROPS))
    batches = [normalise_images(part.permute(0, 3, 1, 2).float(), spec.color) for part in crops.split(BATCH)]
    save_weights(unfold_batch_norms(net, batches), spec, arguments.out)
    print(f"{arguments.out}: statistics of {len(crops)} people")


if __name__ == "__main__":
    main()
