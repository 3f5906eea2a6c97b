from pathlib import Path
from typing import Any

import pytest

from hrpose_cli.models.find import save_weights
from hrpose_cli.nets.lite_hrnet import LiteHRNet
from tests.backends.builders import SMALL_LITE, light_spec
from tests.conftest import spec
from tests.reference import rule


@pytest.fixture
def light_file(tmp_path: Path) -> Path:
    net = LiteHRNet(SMALL_LITE).eval()
    net.load_state_dict(rule.state_dict(net))
    save_weights(net, light_spec(), tmp_path / "light.safetensors")
    return tmp_path / "light.safetensors"


@pytest.fixture(params=["light", "hrnet"])
def delicate_case(request: pytest.FixtureRequest, light_file: Path, weights_file: Path) -> tuple[Any, Path, int]:
    """A net, and how many of its convolutions at least stay exact."""
    return (light_spec(), light_file, 6) if request.param == "light" else (spec(), weights_file, 3)
