"""Arrays of MATLAB files, read by a process of its own, since SciPy's reader crashes on some damaged files."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.poses import Doubles

_MEMORY = 4 << 30  # bytes of address space, SciPy's code included
_SECONDS = 60
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # threads take memory


def read_mat(path: Path, names: Sequence[str]) -> dict[str, Doubles]:
    """Those of the named arrays of numbers that a file (version 7 or older) has; FormatError if it is damaged."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-P", "-m", __name__, *names]
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, timeout=_SECONDS, check=False,
            env=os.environ | _ONE_THREAD | {"PYTHONPATH": paths},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise FormatError(f"{path} is damaged: it is not read after {_SECONDS} s") from error
    if done.returncode:  # what SciPy says of damaged files are names of its own variables
        newer = content.startswith(b"MATLAB 7.3")
        wrong = "is of MATLAB's version 7.3: save it with -v7" if newer else "is damaged, or no MATLAB file of numbers"
        raise FormatError(f"{path} {wrong}")
    with np.load(io.BytesIO(done.stdout)) as arrays:
        return dict(arrays)


def _convert(names: Sequence[str]) -> None:
    """Read a MATLAB file from the standard input, and write its named arrays as NPZ to the standard output."""
    from scipy.io import loadmat

    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    content = loadmat(io.BytesIO(sys.stdin.buffer.read()), variable_names=names)
    loaded = {name: np.asarray(content[name]) for name in names if name in content}
    arrays = {name: array.astype(np.float64) for name, array in loaded.items() if array.dtype.kind in "buif"}
    np.savez(sys.stdout.buffer, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    _convert(sys.argv[1:])
