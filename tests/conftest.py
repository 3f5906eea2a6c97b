import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from hrpose_cli.backends.pytorch import TorchBackend
from hrpose_cli.detection.boxes import WholeImage
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.nets.hrnet import HRNet, NetConfig
from tests.reference import rule

# A runner in the background may ignore Ctrl-C, which tests send to themselves and to their processes.
for _signal, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
    signal.signal(_signal, _handler)
# The nets are tiny, and threads that wait for each other on a busy machine take four times as long.
torch.set_num_threads(1)
# The same examples on every machine, and no clock beside them.
settings.register_profile("hrpose", max_examples=50, derandomize=True, deadline=None)
settings.load_profile("hrpose")
TINY = {"width": 4, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "joints": 17}


def clean_failure(result: Any, code: int = 1) -> str:
    """The one line of a run that failed as it should; a crash has another exception or more lines."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def wrong_usage(result: Any) -> str:
    """The one line of a usage error."""
    return clean_failure(result, code=2)


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file gets larger, in bytes: what is beyond is an error of the system, as on a full disk.

    That holds for the file which pytest may write to as well, so the block must not outlast the command.
    """
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # Python ignores the signal
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def parameter_count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def spec() -> ModelSpec:
    """The facts of a net that is small enough to run everywhere."""
    return ModelSpec(name="tiny", architecture="hrnet", net=TINY, input_size=(96, 128), sigma=1.0, kernel=3)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for this run, so that tests leave nothing on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HRPOSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def net() -> HRNet:
    tiny = HRNet(NetConfig(**TINY)).eval()
    tiny.load_state_dict(rule.state_dict(tiny))
    return tiny


@pytest.fixture(scope="session")
def tiny(net: HRNet) -> TopDown:
    """An estimator of one person per image, with an untrained net."""
    return TopDown(WholeImage(), TorchBackend(net), spec())


@pytest.fixture(scope="session")
def weights_file(net: HRNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny net as a file that `--weights` takes."""
    from hrpose_cli.models.find import save_weights

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(net, spec(), path)
    return path


def bottom_up_file(folder: Path, skeleton: str) -> Path:
    """Weights of a tiny net that finds everyone at once."""
    from hrpose_cli.models.find import save_weights
    from hrpose_cli.nets.build import build_net
    from hrpose_cli.skeletons import SKELETONS

    config = TINY | {"refine": 1, "joints": len(SKELETONS[skeleton])}
    net = build_net("higher_hrnet", config).eval()
    net.load_state_dict(rule.state_dict(net))
    facts = {"architecture": "higher_hrnet", "net": config, "skeleton": skeleton, "input_size": (64, 64)}
    path = folder / f"whole-{skeleton}.safetensors"
    save_weights(net, replace(spec(), decode="quarter", **facts), path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small image with something on it."""
    from PIL import Image

    y, x = np.mgrid[:90, :70]
    path = tmp_path / "photo.png"
    Image.fromarray(np.stack([x * 3, y * 2, x + y], axis=-1).astype(np.uint8)).save(path)
    return path
