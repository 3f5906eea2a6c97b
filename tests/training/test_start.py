from pathlib import Path

import pytest

from hrpose_cli.errors import InputError, WeightsError
from hrpose_cli.models.zoo import spec_from_metadata
from hrpose_cli.training.start import _TRAINABLE_NETS, choose_net, find_start, new_spec
from tests.conftest import spec


def test_choose_net_matches_nets_and_methods() -> None:
    assert choose_net(None, None) == choose_net("hrnet-small", "top-down") == ("hrnet-small", "top-down")
    assert (
        choose_net(None, "bottom-up") == choose_net("higher-hrnet-small", None) == ("higher-hrnet-small", "bottom-up")
    )
    for wrong in [("hrnet-w32", "bottom-up"), ("higher-hrnet-w48", "top-down")]:
        with pytest.raises(InputError, match="leave --method out"):
            choose_net(*wrong)


@pytest.mark.parametrize("name", _TRAINABLE_NETS)
def test_new_spec_describes_every_net(name: str) -> None:
    made = new_spec("own", name, skeleton="crowdpose")
    assert made.net["joints"] == 14
    assert made.input_size == ((512, 512) if made.method == "bottom-up" else (96, 128))
    assert made.decode == ("quarter" if made.method == "bottom-up" else "dark")
    assert spec_from_metadata(Path("own"), made.metadata()).architecture == _TRAINABLE_NETS[name][0]
    with pytest.raises(InputError, match="an input of 100x100 cannot be trained"):
        new_spec("own", name, (100, 100))


@pytest.mark.parametrize("suffix", [".xml", ".onnx"])
def test_find_start_refuses_an_exported_net(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"net{suffix}").touch()
    with pytest.raises(WeightsError, match=f"net{suffix} is an exported net, which cannot be trained"):
        find_start(str(tmp_path / f"net{suffix}"), spec())
