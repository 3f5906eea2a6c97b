"""What killed runs left behind: files that would have got their name when they were whole.

Such a file is called .PID.NAME, or .PID.NAME.MORE, by the process that writes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path


def sweep(target: Path) -> None:
    """Remove what processes that do not run any more left of `target`, or in it if it is a folder of OpenPose."""
    name = rf"{re.escape(target.stem)}(_track\d+)?{re.escape(target.suffix)}(\..+)?"  # tracks are those of TRC
    remove(target.parent, name)
    remove(target, r".+_\d{12}_keypoints\.json")


def remove(folder: Path, name: str) -> None:
    """Remove all .PID.`name`, a regular expression, from `folder`, unless a process PID runs."""
    ours = re.compile(rf"\.(\d{{1,10}})\.{name}")
    for left in folder.iterdir() if folder.is_dir() else ():
        named = ours.fullmatch(left.name)
        if named is None or alive(int(named[1])):
            continue
        with contextlib.suppress(OSError):  # somebody else's, or gone by now
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()


def alive(process: int) -> bool:
    """Whether a process of this number runs; yes where that cannot be asked without harm."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
