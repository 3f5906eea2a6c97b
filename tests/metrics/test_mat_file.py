"""MATLAB files that SciPy reads, refuses, or dies of."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.io import savemat

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.metrics import mat_file


def test_read_mat_reads_the_named_arrays_only(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"a": np.arange(6).reshape(2, 3), "b": "text", "c": 1})
    found = mat_file.read_mat(tmp_path / "a.mat", ("a", "d"))
    assert found.keys() == {"a"}
    assert_array_equal(found["a"], [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(FormatError, match=r"a\.mat is no whole MATLAB file of version 7 or older: could not convert"):
        mat_file.read_mat(tmp_path / "a.mat", ("b",))


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n" * 40])
def test_read_mat_refuses_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.mat is no whole MATLAB file"):
        mat_file.read_mat(tmp_path / "a.mat", ("a",))
    with pytest.raises(InputError, match="cannot read"):
        mat_file.read_mat(tmp_path / "no.mat", ("a",))


def test_a_crash_of_the_reader_becomes_one_line(tmp_path: Path) -> None:
    """One byte of a tag makes SciPy read where nothing is, which kills its process on most systems."""
    savemat(tmp_path / "a.mat", {"a": np.ones((4, 5))})
    content = bytearray((tmp_path / "a.mat").read_bytes())
    content[content.index(9, 128)] = 200  # the type of the numbers, after the header
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.mat is no whole MATLAB file of version 7 or older: "):
        mat_file.read_mat(tmp_path / "a.mat", ("a",))
