"""PyTorch on a CUDA card: half weights, a CUDA graph for each of a few batch sizes, crops that are there already."""

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

from hrpose_cli.backends.backend import Backend, check_offered, short_of_memory
from hrpose_cli.backends.batches import fixed_size, joined, pieces
from hrpose_cli.backends.device import upload
from hrpose_cli.backends.pytorch import Compiled, moved, precisions, runnable
from hrpose_cli.errors import first_line
from hrpose_cli.geometry import Size
from hrpose_cli.models.find import load
from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.poses import Picture

SETTINGS = threading.Lock()  # of cuDNN: all backends of a process have the same ones
WARM_UP = 3  # calls before a capture, in which cuDNN chooses and cuBLAS takes its workspace

# A net and the tensor that holds its pictures -> what runs the net on whatever lies in that tensor then.
# The result lies in the same place every time.
Replay = Callable[[], Tensor]
Capture = Callable[[nn.Module, Tensor], Replay]


@dataclass(frozen=True)
class Recorded:
    """A net that was captured for one number of crops."""

    images: Tensor  # (size, h, w, 3) uint8, where the next crops are laid
    replay: Replay

    def __call__(self, images: Tensor) -> Tensor:
        """Heatmaps of at most `size` crops; the rows after them are those of a call before, and not read."""
        self.images[: len(images)].copy_(images)
        found = self.replay()[: len(images)]
        # A copy, since the next replay writes where this one did, in the order that decoding reads.
        return found.clone(memory_format=torch.contiguous_format)


class CudaBackend:
    """A net on a CUDA card. Nothing here waits for the card but the capture of a batch size seen first.

    crops: (width, height) of the pictures that graphs are captured for. Others run without, and None
    says that all do: bottom-up nets see pictures of any size, and each size would need its own graph.
    Where a capture fails the net runs without graphs from then on, `no_graphs` says why, and so does a
    warning. compiled: by `torch.compile`, which makes one kernel of several and is captured like any net.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        device: str = "cuda",
        color: str = "rgb",
        precision: str = "fp32",
        crops: Size | None = None,
        compiled: bool = False,
        capture: Capture | None = None,
    ) -> None:
        check_offered(f"torch on {device}", precision, precisions(device))
        self.name = "compile" if compiled else "torch"
        self.device = device
        self.precision = precision
        net = moved(runnable(net, color=color, precision=precision), device)
        self.net = Compiled(net) if compiled else net
        self.no_graphs = None if crops else "this net takes pictures of any size"
        self._shape = (crops[1], crops[0], 3) if crops else ()
        self._capture = capture or Graphs()
        self._recorded: dict[int, Recorded] = {}
        self._lock = threading.Lock()  # what was captured cannot serve two callers at a time

    def __call__(self, images: Picture) -> Tensor:
        return self.on_device(upload(images, self.device))

    def on_device(self, images: Tensor) -> Tensor:
        parts = images.split(pieces(len(images)))
        # Never in inference mode, not even the caller's: what is captured in it can be written to in it
        # only, and dynamo compiles twice.
        with torch.inference_mode(False), torch.no_grad(), self._lock:
            return joined([self._run(part) for part in parts])

    def _run(self, images: Tensor) -> Tensor:
        recorded = self._recording(fixed_size(len(images))) if images.shape[1:] == self._shape else None
        if recorded is not None:
            return recorded(images)
        with arithmetic(exact=self.precision == "fp32"):
            heatmaps: Tensor = self.net(images)
        return heatmaps

    def _recording(self, size: int) -> Recorded | None:
        """What was captured for `size` crops, now or before; None where that is impossible."""
        if self.no_graphs is None and size not in self._recorded:
            images = torch.zeros((size, *self._shape), dtype=torch.uint8, device=self.device)
            try:
                with arithmetic(exact=self.precision == "fp32", tuned=True):
                    self._recorded[size] = Recorded(images, self._capture(self.net, images))
            except RuntimeError as error:
                if short_of_memory(error):
                    raise
                self.no_graphs = first_line(error)
                warnings.warn(f"no CUDA graphs on {self.device}: {self.no_graphs}", RuntimeWarning, stacklevel=2)
        return self._recorded.get(size)


class Graphs:
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

    def __call__(self, net: nn.Module, images: Tensor) -> Replay:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(images.device):
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UP):
                    net(images)
            torch.cuda.current_stream().wait_stream(self.stream)
            # "thread_local": what another thread allocates meanwhile is no error.
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                heatmaps: Tensor = net(images)

        def replay() -> Tensor:
            graph.replay()
            return heatmaps

        return replay


def build(spec: ModelSpec, path: Path, device: str, precision: str, *, compiled: bool = False) -> Backend:
    """The net of a file of weights."""
    return CudaBackend(
        load(spec, path),
        device=device,
        color=spec.color,
        precision=precision,
        crops=spec.input_size if spec.method == "top-down" else None,
        compiled=compiled,
    )


def build_compiled(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    """The same by `torch.compile`."""
    return build(spec, path, device, precision, compiled=True)


@contextmanager
def arithmetic(*, exact: bool, tuned: bool = False) -> Iterator[None]:
    """How cuDNN computes within the block; the process keeps its own settings.

    exact: float32 is float32, and not TF32 with ten bits, which torch takes by itself. tuned: time the
    algorithms for a shape and keep the fastest, which pays where few shapes come.
    """
    cudnn = torch.backends.cudnn
    with SETTINGS:
        before = cudnn.allow_tf32, cudnn.benchmark
        cudnn.allow_tf32, cudnn.benchmark = before[0] and not exact, tuned
        try:
            yield
        finally:
            cudnn.allow_tf32, cudnn.benchmark = before
