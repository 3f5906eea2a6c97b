"""The CUDA backend, with plain calls in place of its graphs where there is no GPU."""

import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hrpose_cli.backends import batches, cuda
from hrpose_cli.backends.backend import OnDevice
from hrpose_cli.backends.by_name import BACKENDS
from hrpose_cli.backends.cuda import _CudaBackend, _GraphReplay, _set_arithmetic
from hrpose_cli.backends.device import upload
from hrpose_cli.backends.pytorch import TorchBackend
from hrpose_cli.detection.boxes import WholeImage
from hrpose_cli.estimation.crops import CropMode, mirror_images
from hrpose_cli.estimation.flip_test import _mirror_on_device
from hrpose_cli.estimation.heatmaps import DECODERS, merge_flip
from hrpose_cli.estimation.precision import build_backend
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.nets.hrnet import HRNet
from tests.backends.builders import assert_close, plain_heatmaps, random_crops
from tests.builders import boxes, frame
from tests.conftest import spec

SIZE = (96, 128)


class Graphs:
    """Capture like a GPU: each result lies in one place, which the next replay overwrites."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.tuned: list[bool] = []

    def __call__(self, net: nn.Module, images: Tensor) -> _GraphReplay:
        self.sizes.append(len(images))
        self.tuned.append(torch.backends.cudnn.benchmark)
        out = net(images)

        def replay() -> Tensor:
            return out.copy_(net(images))

        return replay


def backend(net: nn.Module, capture: object = None, *, size: tuple[int, int] | None = SIZE) -> _CudaBackend:
    return _CudaBackend(net, device="cpu", crops=size, capture=capture or Graphs())


def test_cuda_backend_captures_few_sizes_and_each_once(net: HRNet) -> None:
    graphs = Graphs()
    made, plain = backend(net, graphs), TorchBackend(net)
    for count in (3, 1, 4, 5, 3):
        images = random_crops(count, seed=count)
        assert_allclose(made(images), plain(images), atol=1e-4)
    assert graphs.sizes == [4, 1, 8]
    assert graphs.tuned == [True] * 3
    assert made.no_graphs is None


def test_cuda_backend_splits_more_than_the_largest_size(net: HRNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_BATCH_SIZES", (1, 2, 4))
    graphs = Graphs()
    images = random_crops(9)
    assert_allclose(backend(net, graphs)(images), TorchBackend(net)(images), atol=1e-4)
    assert graphs.sizes == [4, 1]


def test_cuda_backend_does_not_double_the_work_for_a_remainder(net: HRNet) -> None:
    graphs = Graphs()
    images = random_crops(33)
    assert_allclose(backend(net, graphs)(images), TorchBackend(net)(images), atol=1e-4)
    assert graphs.sizes == [32, 1]


def test_cuda_backend_gives_heatmaps_that_later_calls_do_not_change(net: HRNet) -> None:
    made = backend(net)
    first = made(random_crops(2))
    kept = first.clone()
    made(random_crops(2, seed=1))
    assert_array_equal(first, kept)


@pytest.mark.parametrize("first", [True, False])
def test_cuda_backend_works_in_and_out_of_inference_mode(net: HRNet, first: bool) -> None:
    made = backend(net)
    for mode in (first, not first):
        with torch.inference_mode(mode):
            assert_allclose(made(random_crops(2, seed=mode)), TorchBackend(net)(random_crops(2, seed=mode)), atol=1e-4)


def test_graphs_share_one_memory_pool_and_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the arguments of torch.cuda.graph; only a GPU shows that they work."""
    asked = []
    card = {"graph": lambda _, **how: asked.append(how) or nullcontext(), "Stream": MagicMock, "CUDAGraph": MagicMock}
    card |= {"graph_pool_handle": object, "current_stream": MagicMock, "stream": nullcontext, "device": nullcontext}
    for name, fake in card.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    capture = cuda._Graphs()
    for size in (1, 2):
        assert capture(nn.Identity(), torch.zeros(size))().shape == (size,)
    assert asked[0] == asked[1]
    assert {"pool", "stream"} <= asked[0].keys()


def test_cuda_backend_on_device_takes_crops_of_the_device(net: HRNet) -> None:
    made = backend(net)
    assert isinstance(made, OnDevice)
    assert not isinstance(TorchBackend(net), OnDevice)
    assert_array_equal(made.on_device(upload(random_crops(3), "cpu")), made(random_crops(3)))


@pytest.mark.parametrize(("size", "reason"), [(None, "any size"), ((64, 64), None)])
def test_cuda_backend_runs_other_sizes_without_graphs(
    net: HRNet, size: tuple[int, int] | None, reason: str | None
) -> None:
    graphs = Graphs()
    made = backend(net, graphs, size=size)
    assert_allclose(made(random_crops(3)), TorchBackend(net)(random_crops(3)), atol=1e-4)
    assert graphs.sizes == []
    assert made.no_graphs is None if reason is None else reason in str(made.no_graphs)


def test_cuda_backend_warns_of_a_failed_capture_once(net: HRNet) -> None:
    tried = []

    def fail(module: nn.Module, images: Tensor) -> _GraphReplay:
        tried.append(len(images))
        raise RuntimeError("operation not permitted when stream is capturing\nand much more")

    made = backend(net, fail)
    with pytest.warns(RuntimeWarning, match="no CUDA graphs on cpu: operation not permitted when stream is capturing$"):
        first = made(random_crops(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(random_crops(5))
    assert_allclose(first, TorchBackend(net)(random_crops(3)), atol=1e-4)
    assert made.no_graphs == "operation not permitted when stream is capturing"
    assert tried == [4]


def test_cuda_backend_raises_out_of_memory_in_a_capture(net: HRNet) -> None:
    def fail(module: nn.Module, images: Tensor) -> _GraphReplay:
        raise torch.OutOfMemoryError("CUDA out of memory")

    made = backend(net, fail)
    with pytest.raises(torch.OutOfMemoryError):
        made(random_crops(1))
    assert made.no_graphs is None


@pytest.mark.parametrize(("method", "graphs"), [("top-down", True), ("bottom-up", False)])
def test_cuda_backend_is_built_from_files(
    weights_file: Path, monkeypatch: pytest.MonkeyPatch, method: str, graphs: bool
) -> None:
    monkeypatch.setattr(cuda, "move_to_device", lambda module, device: module)  # there is no card
    found = replace(spec(), architecture="hrnet" if graphs else "higher_hrnet")
    monkeypatch.setattr(cuda, "load_net", lambda *_: nn.Identity())
    monkeypatch.setattr(cuda, "runnable_net", lambda net, **_: net)
    made = BACKENDS["torch"](found, weights_file, "cuda:1", "bf16")
    assert isinstance(made, _CudaBackend)
    assert found.method == method
    assert (made.name, made.device, made.precision) == ("torch", "cuda:1", "bf16")
    assert (made.no_graphs is None) == graphs


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("tuned", [False, True])
def test_set_arithmetic_restores_the_settings_of_the_process(exact: bool, tuned: bool) -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    within = []

    def fail() -> None:
        with _set_arithmetic(exact=exact, tuned=tuned):
            within.append((cudnn.allow_tf32, cudnn.benchmark))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert within == [(before[0] and not exact, tuned)]
    assert (cudnn.allow_tf32, cudnn.benchmark) == before


def test_set_arithmetic_is_held_by_one_backend_at_a_time() -> None:
    with _set_arithmetic(exact=True):
        assert not cuda._ARITHMETIC_FLAGS.acquire(blocking=False)
    assert not cuda._ARITHMETIC_FLAGS.locked()


class There(TorchBackend):
    """Plain calls for crops that are on a device."""

    def on_device(self, images: Tensor) -> Tensor:
        return self(images.numpy())


@pytest.mark.parametrize("flip", [False, True])
def test_cuda_backend_does_not_change_the_poses_of_top_down(net: HRNet, flip: bool) -> None:
    frames = [frame((77, 91), i, seed=i) for i in range(5)]
    plain = TopDown(WholeImage(), There(net), spec(), flip_test=flip, batch_size=3)
    for want, found in zip(plain(frames), replace(plain, backend=backend(net))(frames), strict=True):
        assert_allclose(found.xy, want.xy, atol=1e-3)
        assert_allclose(found.score, want.score, atol=1e-5)


# Nothing waits for the GPU -----------------------------------------------------------------------


class Waits(TorchDispatchMode):
    """Record operations that would wait for a GPU: numbers that go to or come from Python, blocking copies."""

    NAMES = ("_local_scalar_dense", "nonzero", "lift_fresh", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        self.found += [name for name in self.NAMES if func.__name__.startswith(name)]
        if func is torch.ops.aten._to_copy.default and not options.get("non_blocking"):
            self.found += ["_to_copy"] * (options.get("device", args[0].device) != args[0].device)
        return func(*args, **options)


CARD = torch.device("cuda", 7)  # which no machine has: what is kept for it disturbs no other test


def test_waits_notes_what_blocks() -> None:
    with Waits() as waits:
        assert torch.tensor([1.0]).sum() > 0
    assert waits.found == ["lift_fresh", "_local_scalar_dense"]
    for blocking in (True, False):
        with FakeTensorMode(), Waits() as waits:
            torch.empty(2).to(torch.float64).to(CARD, non_blocking=not blocking)
        assert waits.found == ["_to_copy"] * blocking


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("mode", get_args(CropMode))
def test_top_down_on_cuda_waits_for_nothing_before_the_keypoints_come_back(
    net: HRNet, decode: str, mode: CropMode
) -> None:
    made = TopDown(WholeImage(), backend(net), spec(), decode=decode, flip_test=True, crop=mode)
    frames, found = [frame((77, 91), seed=0)], [boxes([5, 5, 60, 80], [20, 1, 50, 90])]

    def work() -> Tensor:
        (crops,) = made.crops(frames, found)
        return made.decoder.decode(made.net(crops.images), crops.to_frame)[0]

    work()  # constants go there once, and a capture waits
    with Waits() as waits:
        assert work().shape == (2, 17, 3)
    assert waits.found == []


def empty(array: np.ndarray, device: str) -> Tensor:
    """Stand in for `upload`, which needs a GPU."""
    return torch.empty(array.shape, dtype=getattr(torch, array.dtype.name), device=device)


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("mode", get_args(CropMode))
def test_top_down_on_cuda_leaves_and_fetches_nothing_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, decode: str, mode: CropMode
) -> None:
    """Use fake tensors, which have a device and a shape but no numbers: those of two devices must not meet."""
    monkeypatch.setattr("hrpose_cli.estimation.crops.upload", empty)
    made = TopDown(WholeImage(), None, spec(), decode=decode, crop=mode)  # type: ignore[arg-type]

    def work() -> tuple[Tensor, Tensor]:
        pixels, heatmaps = empty(np.zeros((50, 40, 3), np.uint8), CARD), torch.empty(2, 17, 32, 24, device=CARD)
        merged = merge_flip(heatmaps, heatmaps, _mirror_on_device("coco", CARD), shift=True)
        images = mirror_images(made.cropper.cut_on_device(pixels, [[1, 2, 30, 40]]).images)
        return images, made.decoder.decode(merged, np.zeros((2, 2, 3)))[0]

    with FakeTensorMode(allow_non_fake_inputs=True):
        work()  # constants go there once
        with Waits() as waits:
            images, points = work()
    assert waits.found == []
    assert [t.device for t in (images, points)] == [CARD] * 2
    assert (images.shape, points.shape, points.dtype) == ((1, 128, 96, 3), (2, 17, 3), torch.float32)


# With a GPU -------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_build_backend_on_cuda_gives_the_heatmaps_of_the_cpu(net: HRNet, weights_file: Path, precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    made = build_backend(spec(), weights_file, device="cuda", backend="torch", precision=precision)
    assert isinstance(made, _CudaBackend)
    images = random_crops(3)
    want = TorchBackend(net)(images)
    fraction = {"fp32": 1e-4, "fp16": 0.01, "bf16": 0.05}[precision]
    for _ in range(2):
        assert_allclose(made(images).cpu(), want, rtol=0, atol=fraction * float(want.abs().max()))
    assert made.no_graphs is None


@pytest.mark.gpu
def test_cuda_backend_graphs_do_not_disturb_each_other(net: HRNet) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    made, plain = _CudaBackend(net, crops=SIZE), TorchBackend(net)
    for count in (2, 8, 1, 8, 2, 1):  # captured small and large, and replayed in another order
        want = plain(random_crops(count, seed=count))
        assert_allclose(made(random_crops(count, seed=count)).cpu(), want, rtol=0, atol=1e-4 * float(want.abs().max()))
    assert made.no_graphs is None


@pytest.mark.gpu
def test_build_backend_in_fp16_on_cuda_is_near(net: HRNet, weights_file: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    backend = build_backend(spec(), weights_file, device="cuda", precision="fp16")
    images = random_crops(3)
    assert_close(backend(images).cpu(), plain_heatmaps(net, images), 0.01)
