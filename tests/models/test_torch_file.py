"""Files of tensors, of which nothing is run."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from hrpose_cli import files
from hrpose_cli.errors import InputError, WeightsError
from hrpose_cli.models import find, torch_file
from hrpose_cli.nets.hrnet import HRNet
from tests.conftest import spec


def test_read_state_dict_refuses_an_archive_that_unpacks_to_more_than_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    monkeypatch.setattr(files, "free_memory", lambda _: 1 << 20)
    with pytest.raises(InputError, match=r"net\.pth would take"):
        find.load_net(spec(), tmp_path / "net.pth")


class Evil:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"conv1.weight": evil}, lambda evil: {"model": evil}])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("call", [(os.system, "touch {}"), (eval, "open({!r}, 'w')"), (os.mkdir, "{}")])
def test_read_state_dict_runs_nothing_and_says_what_a_pickle_holds(
    tmp_path: Path, call: tuple[Any, str], protocol: int, wrap: Any
) -> None:
    path, ran = tmp_path / "net.pth", str(tmp_path / "ran")
    content = wrap(Evil(call[0], call[1].format(ran)))
    path.write_bytes(pickle.dumps(content, protocol))
    saved = tmp_path / "torch.pth"
    torch.save(content, saved, pickle_protocol=protocol)
    for file in (path, saved):
        with pytest.raises(
            WeightsError, match=r"holds the class (posix|nt|builtins|__builtin__)\.\w+, which may run code"
        ):
            find.load_net(spec(), file)
        assert not Path(ran).exists()


def test_read_state_dict_names_the_class_of_a_pickled_net(net: HRNet, tmp_path: Path) -> None:
    for content in (net, {"model": net}):
        torch.save(content, tmp_path / "net.pth")
        with pytest.raises(
            WeightsError, match=r"net\.pth holds the class hrpose_cli\.nets\.hrnet\.HRNet, .* save its state_"
        ):
            find.load_net(spec(), tmp_path / "net.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_read_state_dict_runs_no_torchscript(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"net\.pth is TorchScript, which hrpose does not run"):
        find.load_net(spec(), tmp_path / "net.pth")


def test_no_module_loads_a_file_that_could_run() -> None:
    """Every load of a pickle is restricted, and no TorchScript is read."""
    for path in Path(torch_file.__file__).parents[1].rglob("*.py"):
        text = path.read_text()
        assert "jit.load" not in text
        assert text.count("torch.load(") == text.count("weights_only=True")
