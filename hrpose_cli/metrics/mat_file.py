"""Arrays of MATLAB files, read by a process of its own, since SciPy's reader crashes on some damaged files."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hrpose_cli.apart import read_apart, run_apart
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.poses import Doubles


def read_mat(path: Path, names: Sequence[str]) -> dict[str, Doubles]:
    """Those of the named arrays of numbers that a file (version 7 or older) has; FormatError if it is damaged."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    try:
        arrays = run_apart(__name__, names, content)
    except FormatError as error:  # what SciPy says of damaged files are names of its own variables
        newer = content.startswith(b"MATLAB 7.3")
        wrong = "is of MATLAB's version 7.3: save it with -v7" if newer else "is damaged, or no MATLAB file of numbers"
        raise FormatError(f"{path} {wrong}") from error
    with np.load(io.BytesIO(arrays)) as named:
        return dict(named)


def _convert(names: Sequence[str]) -> None:
    """Read a MATLAB file from the standard input, and write its named arrays as NPZ to the standard output."""
    from scipy.io import loadmat

    content = loadmat(io.BytesIO(sys.stdin.buffer.read()), variable_names=names)
    loaded = {name: np.asarray(content[name]) for name in names if name in content}
    arrays = {name: array.astype(np.float64) for name, array in loaded.items() if array.dtype.kind in "buif"}
    np.savez(sys.stdout.buffer, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    read_apart(_convert)
