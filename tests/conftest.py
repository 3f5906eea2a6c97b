from pathlib import Path

import numpy as np
import pytest
import torch

from hrpose_cli.backends.pytorch import TorchBackend
from hrpose_cli.detect import WholePicture
from hrpose_cli.estimators import TopDown
from hrpose_cli.nets.hrnet import HRNet, NetConfig
from hrpose_cli.zoo import ModelSpec
from tests.reference import rule

TINY = {"width": 4, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "joints": 17}


def spec() -> ModelSpec:
    """The facts of a net that is small enough to run everywhere."""
    return ModelSpec(name="tiny", architecture="hrnet", net=TINY, input_size=(96, 128), sigma=1.0, kernel=3)


@pytest.fixture(scope="session")
def net() -> HRNet:
    torch.set_num_threads(2)
    tiny = HRNet(NetConfig(**TINY)).eval()
    tiny.load_state_dict(rule.state_dict(tiny))
    return tiny


@pytest.fixture(scope="session")
def tiny(net: HRNet) -> TopDown:
    """One person who fills the picture, found by a net that knows nothing."""
    return TopDown(WholePicture(), TorchBackend(net), spec())


@pytest.fixture(scope="session")
def weights_file(net: HRNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny net as a file that `--weights` takes."""
    from hrpose_cli.weights import save

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(net, spec(), path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small picture with something on it."""
    from PIL import Image

    y, x = np.mgrid[:90, :70]
    path = tmp_path / "photo.png"
    Image.fromarray(np.stack([x * 3, y * 2, x + y], axis=-1).astype(np.uint8)).save(path)
    return path
