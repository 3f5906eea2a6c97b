"""What runs on a CUDA card, with plain calls in place of its graphs."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor, nn

from hrpose_cli import backends
from hrpose_cli.backends.cuda import CudaBackend, OnDevice, Replay, arithmetic
from hrpose_cli.backends.pytorch import TorchBackend
from hrpose_cli.crops import upload
from hrpose_cli.detect import WholePicture
from hrpose_cli.estimators import TopDown
from hrpose_cli.nets.hrnet import HRNet
from hrpose_cli.poses import Frame
from tests.conftest import spec

SIZE = (96, 128)


class Graphs:
    """Captures as a card does: the result of each lies in one place, which the next replay overwrites."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.tuned: list[bool] = []

    def __call__(self, net: nn.Module, images: Tensor) -> Replay:
        self.sizes.append(len(images))
        self.tuned.append(torch.backends.cudnn.benchmark)
        out = net(images)

        def replay() -> Tensor:
            return out.copy_(net(images))

        return replay


def crops(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 128, 96, 3), np.uint8)


def backend(net: nn.Module, capture: object = None, *, size: tuple[int, int] | None = SIZE) -> CudaBackend:
    return CudaBackend(net, device="cpu", crops=size, capture=capture or Graphs())


def test_few_sizes_are_captured_and_each_once(net: HRNet) -> None:
    graphs = Graphs()
    made, plain = backend(net, graphs), TorchBackend(net)
    for count in (3, 1, 4, 5, 3):
        images = crops(count, seed=count)
        assert_allclose(made(images), plain(images), atol=1e-4)
    assert graphs.sizes == [4, 1, 8]
    assert graphs.tuned == [True] * 3
    assert made.no_graphs is None


def test_more_than_the_largest_size_comes_in_parts(net: HRNet, monkeypatch: pytest.MonkeyPatch) -> None:
    from hrpose_cli.backends import cuda

    monkeypatch.setattr(cuda, "SIZES", (1, 2, 4))
    graphs = Graphs()
    images = crops(9)
    assert_allclose(backend(net, graphs)(images), TorchBackend(net)(images), atol=1e-4)
    assert graphs.sizes == [4, 1]


def test_heatmaps_stay_when_the_next_ones_come(net: HRNet) -> None:
    made = backend(net)
    first = made(crops(2))
    kept = first.clone()
    made(crops(2, seed=1))
    assert_array_equal(first, kept)


def test_crops_that_are_there_already(net: HRNet) -> None:
    made = backend(net)
    assert isinstance(made, OnDevice)
    assert not isinstance(TorchBackend(net), OnDevice)
    assert_array_equal(made.on_device(upload(crops(3), "cpu")), made(crops(3)))


@pytest.mark.parametrize(("size", "reason"), [(None, "any size"), ((64, 64), None)])
def test_other_pictures_run_without_graphs(net: HRNet, size: tuple[int, int] | None, reason: str | None) -> None:
    graphs = Graphs()
    made = backend(net, graphs, size=size)
    assert_allclose(made(crops(3)), TorchBackend(net)(crops(3)), atol=1e-4)
    assert graphs.sizes == []
    assert made.no_graphs is None if reason is None else reason in str(made.no_graphs)


def test_a_capture_that_fails_is_said_once_and_not_tried_again(net: HRNet) -> None:
    tried = []

    def fail(module: nn.Module, images: Tensor) -> Replay:
        tried.append(len(images))
        raise RuntimeError("operation not permitted when stream is capturing\nand much more")

    made = backend(net, fail)
    with pytest.warns(RuntimeWarning, match="no CUDA graphs on cpu: operation not permitted when stream is capturing$"):
        first = made(crops(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(crops(5))
    assert_allclose(first, TorchBackend(net)(crops(3)), atol=1e-4)
    assert made.no_graphs == "operation not permitted when stream is capturing"
    assert tried == [4]


def test_a_capture_without_enough_memory_is_no_reason_to_go_on(net: HRNet) -> None:
    def fail(module: nn.Module, images: Tensor) -> Replay:
        raise torch.OutOfMemoryError("CUDA out of memory")

    made = backend(net, fail)
    with pytest.raises(torch.OutOfMemoryError):
        made(crops(1))
    assert made.no_graphs is None


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("tuned", [False, True])
def test_the_process_keeps_its_settings(exact: bool, tuned: bool) -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    within = []

    def fail() -> None:
        with arithmetic(exact=exact, tuned=tuned):
            within.append((cudnn.allow_tf32, cudnn.benchmark))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert within == [(before[0] and not exact, tuned)]
    assert (cudnn.allow_tf32, cudnn.benchmark) == before


class There(TorchBackend):
    """Plain calls for crops that are on a device."""

    def on_device(self, images: Tensor) -> Tensor:
        return self(images.numpy())


@pytest.mark.parametrize("flip", [False, True])
def test_graphs_do_not_change_poses(net: HRNet, flip: bool) -> None:
    frames = [Frame(np.random.default_rng(i).integers(0, 255, (91, 77, 3), np.uint8), i) for i in range(5)]
    plain = TopDown(WholePicture(), There(net), spec(), flip_test=flip, batch_size=3)
    for want, found in zip(plain(frames), replace(plain, backend=backend(net))(frames), strict=True):
        assert_allclose(found.xy, want.xy, atol=1e-3)
        assert_allclose(found.score, want.score, atol=1e-5)


# With a card -------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_card_gives_the_poses_of_the_cpu(net: HRNet, weights_file: Path, precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    made = backends.build(spec(), weights_file, device="cuda", backend="torch", precision=precision)
    assert isinstance(made, CudaBackend)
    images = crops(3)
    want = TorchBackend(net)(images)
    share = {"fp32": 1e-5, "fp16": 0.01, "bf16": 0.05}[precision]
    for _ in range(2):
        assert_allclose(made(images).cpu(), want, rtol=0, atol=share * float(want.abs().max()))
    assert made.no_graphs is None


@pytest.mark.gpu
def test_a_card_cuts_the_crops_of_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    from hrpose_cli.crops import cut_crops, sample_crops

    image = np.random.default_rng(0).integers(0, 256, (481, 641, 3), np.uint8)
    boxes = [[10, 20, 90, 200], [-30, 90, 300, 280], [500, 400, 700, 500]]
    found = sample_crops(upload(image, "cuda"), boxes, (192, 256)).images.cpu().numpy()
    assert (np.abs(found.astype(int) - cut_crops(image, boxes, (192, 256)).images) > 1).mean() <= 1e-3
