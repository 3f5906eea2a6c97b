"""MATLAB files that SciPy reads, refuses, or dies of."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.io import savemat
from scipy.sparse import csc_array

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.metrics import mat_file


def test_read_mat_reads_the_named_arrays_only(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"a": np.arange(6).reshape(2, 3), "b": "text", "c": 1, "e": csc_array((2, 2))})
    found = mat_file.read_mat(tmp_path / "a.mat", ("a", "b", "d", "e"))
    assert found.keys() == {"a"}
    assert_array_equal(found["a"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged, or no MATLAB file of numbers"),
        (b"\x89HDF\r\n" * 40, "is damaged, or no MATLAB file of numbers"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512), "is of MATLAB's version 7.3: save it with -v7"),
    ],
)
def test_read_mat_refuses_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(FormatError, match=rf"a\.mat {message}$"):
        mat_file.read_mat(tmp_path / "a.mat", ("a",))
    with pytest.raises(InputError, match="cannot read"):
        mat_file.read_mat(tmp_path / "no.mat", ("a",))


def test_a_crash_of_the_reader_becomes_one_line(tmp_path: Path) -> None:
    """One byte of a tag makes SciPy read where nothing is, which kills its process on most systems."""
    savemat(tmp_path / "a.mat", {"a": np.ones((4, 5))})
    content = bytearray((tmp_path / "a.mat").read_bytes())
    content[content.index(9, 128)] = 200  # the type of the numbers, after the header
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.mat is damaged, or no MATLAB file of numbers$"):
        mat_file.read_mat(tmp_path / "a.mat", ("a",))
