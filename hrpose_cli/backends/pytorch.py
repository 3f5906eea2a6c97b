"""PyTorch: the net on any device that torch knows."""

import operator
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from hrpose_cli.backends.backend import Backend, check_precision
from hrpose_cli.errors import BackendError
from hrpose_cli.models import ModelSpec, load_net
from hrpose_cli.nets import fp32_parts, simplify_net
from hrpose_cli.poses import Image

# ImageNet statistics of images in 0..1, in RGB order; every repository of the family uses them.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
GREY_LEVELS = 255 * torch.tensor([_MEAN, _STD])  # (2, 3) the same in grey levels
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def normalise_images(images: Tensor, color: str = "rgb") -> Tensor:
    """(N, 3, h, w) RGB in 0..255 -> what every net of the family takes.

    With color "bgr" the channels are swapped but the statistics are not, as the official
    SimpleBaseline and Hourglass files expect.
    """
    mean, std = GREY_LEVELS.to(images.device).view(2, 1, 3, 1, 1)
    return _standardise(images, mean, std, color)


def _standardise(images: Tensor, mean: Tensor, std: Tensor, color: str) -> Tensor:
    """`normalise_images` with given statistics (1, 3, 1, 1)."""
    return ((images.flip(1) if color == "bgr" else images) - mean) / std


class NormalisedNet(nn.Module):
    """A net that takes uint8 RGB images (N, h, w, 3) and gives float32; the net itself takes and gives `dtype`.

    levels: (2, 3), the offset that is subtracted from the grey levels and their divisor.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, net: nn.Module, color: str = "rgb", dtype: torch.dtype = torch.float32, *, levels: Tensor = GREY_LEVELS
    ) -> None:
        super().__init__()
        self.net = net
        self.color = color
        self.dtype = dtype
        for name, values in zip(("mean", "std"), levels, strict=True):  # buffers: exported with the net
            self.register_buffer(name, values.view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float()  # channels last in memory, which convolutions like
        x = _standardise(x, self.mean, self.std, self.color)
        heatmaps: Tensor = self.net(x.to(self.dtype))
        return heatmaps.float()


def _fold_batch_norms(net: nn.Module) -> fx.GraphModule:
    """A copy for evaluation in which each batch norm is part of the convolution before it."""
    from torch.fx.experimental.optimization import fuse

    folded = fuse(net.eval())
    assert isinstance(folded, fx.GraphModule)
    return folded.requires_grad_(False)


@torch.no_grad()
def _take_whole_grey_levels(net: nn.Module) -> Tensor:
    """Let the first convolution of a folded net standardise, so that it takes whole numbers; changes `net`.

    bf16 has 8 digits: they hold every grey level less a whole number, but round what is standardised, which
    was a third of all that a net lost in bf16. Gives the (2, 3) levels for `NormalisedNet`. Beyond the
    image, where a convolution reads zeros, these now stand for up to half a grey level more or less.
    """
    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3)
    assert first.bias is not None, "a batch norm was folded into it"
    first.bias.copy_(first.bias + grey_level_shift(first.weight))
    first.weight.copy_(first.weight / GREY_LEVELS[1].view(3, 1, 1))
    return torch.stack([GREY_LEVELS[0].round(), torch.ones(3)])


def grey_level_shift(weight: Tensor) -> Tensor:
    """(O,) output of a convolution (O, 3, h, w) of standardised images for an image of grey levels round(mean)."""
    mean, std = GREY_LEVELS.double()
    shift: Tensor = (weight * ((mean.round() - mean) / std).view(3, 1, 1)).sum((1, 2, 3))
    return shift


def runnable_net(
    net: nn.Module, *, color: str = "rgb", precision: str = "fp32", whole_levels: bool | None = None
) -> NormalisedNet:
    """A simplified and folded copy of `net` that takes uint8 crops and gives float32 heatmaps.

    whole_levels: see `_take_whole_grey_levels`; None: in bf16 only.
    """
    folded, dtype = _fold_batch_norms(simplify_net(net)), DTYPES[precision]
    whole = precision == "bf16" if whole_levels is None else whole_levels
    levels = _take_whole_grey_levels(folded) if whole else GREY_LEVELS
    inner = _convert_precision(folded, dtype, fp32_parts(net) if precision == "bf16" else None)
    return NormalisedNet(inner, color, dtype, levels=levels).eval().to(memory_format=torch.channels_last)


def _convert_precision(net: fx.GraphModule, dtype: torch.dtype, exact: re.Pattern[str] | None) -> fx.GraphModule:
    """Convert `net` to `dtype`, except the operations in whose names `exact` is found: they stay in float32.

    The output is not rounded again: in few digits the two highest pixels of many peaks are equal.
    """
    for name, values in (*net.named_parameters(), *net.named_buffers()):
        if values.is_floating_point() and not _stays_fp32(name, exact):
            values.data = values.data.to(dtype)
    edges = [(node, source) for node in net.graph.nodes for source in node.all_input_nodes]
    for node, source in edges:
        stays, came = (_stays_fp32(_operation_name(each), exact) for each in (node, source))
        of_a_shape = {node.target, source.target} & {getattr, operator.getitem}
        if stays != came and not of_a_shape and node.op != "output":
            with net.graph.inserting_before(node):
                cast = net.graph.call_method("to", (source, torch.float32 if stays else dtype))
            node.replace_input_with(source, cast)
    net.recompile()
    return net


def _operation_name(node: fx.Node) -> str:
    """The name of an operation: that of its layer if it is one."""
    return str(node.target) if node.op == "call_module" else node.name


def _stays_fp32(name: str, exact: re.Pattern[str] | None) -> bool:
    return exact is not None and exact.search(name) is not None


def trace_net(module: nn.Module, size: tuple[int, int], batch: int = 1) -> torch.jit.ScriptModule:
    """Trace `module` for uint8 crops of `size` (width, height), as OpenVINO and ONNX take it.

    torch calls tracing deprecated; its successor `torch.export` takes five times as long for HRNet.
    """
    example = torch.zeros(batch, size[1], size[0], 3, dtype=torch.uint8)
    with torch.no_grad(), ignore_tracing_warnings():
        traced: torch.jit.ScriptModule = torch.jit.trace(module, example, check_trace=False)
    return traced


@contextmanager
def ignore_tracing_warnings() -> Iterator[None]:
    """Silence torch's warnings that tracing is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


class TorchBackend:
    """Eager PyTorch with folded batch norms, channels last. `net` itself is not changed."""

    name = "torch"

    def __init__(self, net: nn.Module, *, device: str = "cpu", color: str = "rgb", precision: str = "fp32") -> None:
        check_precision(f"torch on {device}", precision, torch_precisions(device))
        self.device = device
        self.precision = precision
        self.net = move_to_device(runnable_net(net, color=color, precision=precision), device)

    @torch.inference_mode()
    def __call__(self, images: Image) -> Tensor:
        heatmaps: Tensor = self.net(torch.from_numpy(images).to(self.device))
        return heatmaps


def build_torch(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    """The net of a file of weights in eager PyTorch."""
    return TorchBackend(load_net(spec, path), device=device, color=spec.color, precision=precision)


def move_to_device(module: nn.Module, device: str) -> nn.Module:
    """`module` on `device`; BackendError if torch cannot."""
    try:
        return module.to(device)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"cannot use the device {device}: {error}") from error


def torch_precisions(device: str) -> tuple[str, ...]:
    """The precisions that torch offers on a device; a CPU must have the instructions for them."""
    if device.startswith("cuda"):
        return ("fp32", "fp16", "bf16")
    if device == "mps":
        return ("fp32", "fp16")
    return ("fp32", "bf16") if torch.ops.mkldnn._is_mkldnn_bf16_supported() else ("fp32",)
