"""Readers of other libraries that crash on some damaged files, each run in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from hrpose_cli.errors import FormatError

_MEMORY = 4 << 30  # bytes of address space, the code of the libraries included
_ONE_THREAD = dict.fromkeys(  # threads take memory
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1"
)


def run_apart(module: str, arguments: Sequence[str], content: bytes = b"", *, seconds: float = 60) -> bytes:
    """The standard output of a module that calls `read_apart`; FormatError, with the reason, where its reader fails.

    content: the standard input.
    """
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, *arguments], input=content, capture_output=True, timeout=seconds,
            check=False, env=os.environ | _ONE_THREAD | {"PYTHONPATH": paths},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise FormatError(f"it is not read after {seconds:.0f} s") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise FormatError(said[-1] if said and done.returncode > 0 else "its reader crashes")
    return done.stdout


def read_apart(read: Callable[[Sequence[str]], None]) -> None:
    """Call a reader with the arguments of this process, in little memory, and end with the reason if it fails."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    try:
        read(sys.argv[1:])
    except BaseException as error:  # whatever the library stumbles over in a damaged file, as polars' panics
        sys.exit(" ".join((str(error) or type(error).__name__).split())[:200])
