"""PyTorch on a CUDA device: CUDA graphs for a few batch sizes, and crops that are on the device already."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hrpose_cli.backends.backend import Backend, check_precision, is_out_of_memory
from hrpose_cli.backends.batches import fixed_batch_size, join_heatmaps, split_batch
from hrpose_cli.backends.device import upload
from hrpose_cli.backends.pytorch import move_to_device, runnable_net, torch_precisions
from hrpose_cli.errors import first_line
from hrpose_cli.geometry import Size
from hrpose_cli.models import ModelSpec, load_net
from hrpose_cli.poses import Image

_ARITHMETIC_FLAGS = threading.Lock()  # of cuDNN: all backends of a process have the same ones
_WARM_UP_RUNS = 3  # calls before a capture, in which cuDNN chooses and cuBLAS takes its workspace

# A net and the tensor that holds its images -> what runs the net on whatever lies in that tensor then.
# The result lies in the same place every time.
_GraphReplay = Callable[[], Tensor]
_Capture = Callable[[nn.Module, Tensor], _GraphReplay]


@dataclass(frozen=True)
class _CapturedGraph:
    """A net that was captured for one number of crops."""

    images: Tensor  # (size, h, w, 3) uint8, where the next crops are laid
    replay: _GraphReplay

    def __call__(self, images: Tensor) -> Tensor:
        """Heatmaps of at most `size` crops; the rows after them are those of a call before, and not read."""
        self.images[: len(images)].copy_(images)
        found = self.replay()[: len(images)]
        # A copy, since the next replay writes where this one did, in the order that decoding reads.
        return found.clone(memory_format=torch.contiguous_format)


class _CudaBackend:
    """A net on a CUDA card. Nothing here waits for the card but the capture of a batch size seen first.

    crops: (width, height) of the images that graphs are captured for. Others run without, and None
    says that all do: bottom-up nets see images of any size, and each size would need its own graph.
    Where a capture fails the net runs without graphs from then on, `no_graphs` says why, and so does a warning.
    """

    name = "torch"

    def __init__(
        self,
        net: nn.Module,
        *,
        device: str = "cuda",
        color: str = "rgb",
        precision: str = "fp32",
        crops: Size | None = None,
        capture: _Capture | None = None,
    ) -> None:
        check_precision(f"torch on {device}", precision, torch_precisions(device))
        self.device = device
        self.precision = precision
        self.net = move_to_device(runnable_net(net, color=color, precision=precision), device)
        self.no_graphs = None if crops else "this net takes images of any size"
        self._shape = (crops[1], crops[0], 3) if crops else ()
        self._capture = capture or _Graphs()
        self._recorded: dict[int, _CapturedGraph] = {}
        self._lock = threading.Lock()  # what was captured cannot serve two callers at a time

    def __call__(self, images: Image) -> Tensor:
        return self.on_device(upload(images, self.device))

    def on_device(self, images: Tensor) -> Tensor:
        parts = images.split(split_batch(len(images)))
        # Never in inference mode, not even the caller's: what is captured in it can be written to in it only.
        with torch.inference_mode(False), torch.no_grad(), self._lock:
            return join_heatmaps([self._run(part) for part in parts])

    def _run(self, images: Tensor) -> Tensor:
        recorded = self._recording(fixed_batch_size(len(images))) if images.shape[1:] == self._shape else None
        if recorded is not None:
            return recorded(images)
        with _set_arithmetic(exact=self.precision == "fp32"):
            heatmaps: Tensor = self.net(images)
        return heatmaps

    def _recording(self, size: int) -> _CapturedGraph | None:
        """The graph for `size` crops, captured now or before; None where that is impossible."""
        if self.no_graphs is None and size not in self._recorded:
            images = torch.zeros((size, *self._shape), dtype=torch.uint8, device=self.device)
            try:
                with _set_arithmetic(exact=self.precision == "fp32", tuned=True):
                    self._recorded[size] = _CapturedGraph(images, self._capture(self.net, images))
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                self.no_graphs = first_line(error)
                warnings.warn(f"no CUDA graphs on {self.device}: {self.no_graphs}", RuntimeWarning, stacklevel=2)
        return self._recorded.get(size)


class _Graphs:
    """Captures CUDA graphs on one card: hundreds of small kernels for which Python is called once.

    They are replayed one at a time, and so share the memory of what lies between the crops and the
    heatmaps: a card holds that of the largest batch, not of every size.
    """

    @cached_property
    def stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream()

    @cached_property
    def pool(self) -> Any:
        return torch.cuda.graph_pool_handle()

    def __call__(self, net: nn.Module, images: Tensor) -> _GraphReplay:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(images.device):
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                for _ in range(_WARM_UP_RUNS):
                    net(images)
            torch.cuda.current_stream().wait_stream(self.stream)
            # "thread_local": what another thread allocates meanwhile is no error.
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                heatmaps: Tensor = net(images)

        def replay() -> Tensor:
            graph.replay()
            return heatmaps

        return replay


def build_cuda(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    """The net of a file of weights."""
    return _CudaBackend(
        load_net(spec, path),
        device=device,
        color=spec.color,
        precision=precision,
        crops=spec.input_size if spec.method == "top-down" else None,
    )


@contextmanager
def _set_arithmetic(*, exact: bool, tuned: bool = False) -> Iterator[None]:
    """Set cuDNN's arithmetic within the block; the process keeps its own settings.

    exact: float32 is float32, and not TF32 with ten bits, which torch takes by itself. tuned: time the
    algorithms for a shape and keep the fastest, which pays where few shapes come.
    """
    cudnn = torch.backends.cudnn
    with _ARITHMETIC_FLAGS:
        before = cudnn.allow_tf32, cudnn.benchmark
        cudnn.allow_tf32, cudnn.benchmark = before[0] and not exact, tuned
        try:
            yield
        finally:
            cudnn.allow_tf32, cudnn.benchmark = before
