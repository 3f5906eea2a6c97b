"""Devices by name, and arrays sent to them."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from hrpose_cli.backends.device import choose_device
from hrpose_cli.errors import BackendError
from hrpose_cli.estimation import crops


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "gpu"])
def test_choose_device_refuses_absent_devices(name: str) -> None:
    assert choose_device("cpu") == "cpu"
    with pytest.raises(BackendError, match="device"):
        choose_device(name)


def test_upload_copies_read_only_arrays() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1]
    image.flags.writeable = False
    there = crops.upload(image, "cpu")
    assert_array_equal(there, image)
    there[0] = 7
    assert image[0, 0, 0] == 9
