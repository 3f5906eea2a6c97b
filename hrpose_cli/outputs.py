"""Outputs: written atomically, under names that fit, by one process at a time; never an input."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from hrpose_cli.errors import FormatError, InputError, UsageError
from hrpose_cli.streams import is_stream, open_into

_NAME_BYTES = 255  # of a file name, in most file systems


@contextmanager
def atomic_write(path: Path, suffix: str | None = None) -> Iterator[Path]:
    """A temporary name whose file takes the place of `path` when the block ends well, and goes if not.

    A link is followed, a stream is written into. The suffix is kept, since many writers choose a format by it, or
    is `suffix`. Missing folders are made.
    """
    target = follow_links(path)
    temporary = temporary_path(target, suffix)
    with _made_folder(temporary.parent):
        try:
            yield temporary
            if is_stream(target):
                # A reader that has enough, like `head`, is no error.
                with contextlib.suppress(BrokenPipeError), temporary.open("rb") as content, open_into(target) as stream:
                    shutil.copyfileobj(content, stream)
            else:
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _made_folder(folder: Path) -> Iterator[None]:
    """A folder that is made if it is missing; what was made goes at the end if nothing is in it."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        if made:
            folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for each in made:
            with contextlib.suppress(OSError):
                each.rmdir()


def follow_links(path: Path) -> Path:
    """The file that a link leads to, also where there is none yet; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() and not is_stream(path) else path


def file_identity(path: str | Path) -> object:
    """A value that all names of one file share: links, hard links, ./NAME, other cases where those do not count."""
    try:
        found = Path(path).stat()
        return found.st_dev, found.st_ino
    except OSError:
        return os.path.realpath(path)


def part_path(path: Path) -> Path:
    """The name of `path` while it is not complete: NAME.part.SUFFIX, which readers and players open."""
    path = follow_links(path)
    return path.with_name(fit_name(path.stem, f".part{path.suffix}"))


def temporary_path(path: Path, suffix: str | None = None) -> Path:
    """A name with the mark of this process beside `path`, for a stream in the folder for temporary files.

    suffix: instead of that of `path`.
    """
    from tempfile import gettempdir

    folder = Path(gettempdir()) if is_stream(path) else path.parent
    stem = f".hrpose-{_host_mark()}-{os.getpid()}.{path.stem}"
    return folder / fit_name(stem, path.suffix if suffix is None else suffix)


@contextmanager
def pipe_copy(typed: str) -> Iterator[Path]:
    """A temporary file for what comes through the pipe that the user typed; `typed_names` knows it."""
    from tempfile import TemporaryDirectory, gettempdir

    prefix = temporary_path(Path(gettempdir(), "pipe")).name
    with TemporaryDirectory(prefix=f"{prefix}.") as folder:
        ups, name = re.findall(r"^((?:\.\./)*)(.*)", os.path.normpath(typed), re.DOTALL)[0]
        copy = Path(f"{folder}{name}" if name.startswith("/") else f"{folder}/up{len(ups) // 3}/{name}")
        copy.parent.mkdir(parents=True)
        yield copy


def typed_names(text: str) -> str:
    """The text with what the user typed in place of the names of copies of pipes."""
    from tempfile import gettempdir

    copies = rf"{re.escape(gettempdir())}/\.hrpose-\w{{8}}-\d{{1,10}}\.pipe\.\w{{8}}(?:/up(\d+)/|(?=/))"
    return re.sub(copies, lambda copy: "../" * int(copy[1] or 0), text)


def fit_name(stem: str, suffix: str) -> str:
    """A file name; a stem that is too long is cut and ends in a hash of the whole."""
    name, room = os.fsencode(stem), _NAME_BYTES - len(os.fsencode(suffix))
    if len(name) <= room:
        return stem + suffix
    return f"{name[: room - 9].decode(errors='ignore')}~{hashlib.sha256(name).hexdigest()[:8]}{suffix}"


@cache
def _host_mark() -> str:
    """A hash of this machine, and of the container in which its processes have their numbers."""
    from platform import node

    facts = [node()]
    with contextlib.suppress(OSError):
        facts += [str(Path("/proc/self/ns/pid").readlink()), Path("/etc/machine-id").read_text()]
    return hashlib.sha256("".join(facts).encode()).hexdigest()[:8]


@contextmanager
def claim(path: Path, *, folder: bool = False) -> Iterator[None]:
    """Keep a file or `folder`, which is made if it is missing, for this process alone; InputError if another has it.

    The system drops the claim when the process ends, in whatever way. What is empty is removed at the end. Where
    the file system has no locks, there is no claim.
    """
    with _made_folder(path if folder else path.parent):
        descriptor = _open_claimed(path) if fcntl else None
        try:
            yield
        finally:
            if descriptor is not None:
                if _is_open(path, descriptor) and path.is_file() and not path.stat().st_size:
                    path.unlink()
                os.close(descriptor)


def _open_claimed(path: Path) -> int:
    """A descriptor of `path` that holds its lock."""
    while True:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InputError(f"{path} is being written by another run: wait for its end, or name another") from error
        except OSError:  # no locks here
            return descriptor
        if _is_open(path, descriptor):
            return descriptor
        os.close(descriptor)  # the other run has just given it its final name


def _is_open(path: Path, descriptor: int) -> bool:
    """Tell whether an open file still has this name."""
    found = os.fstat(descriptor)
    return file_identity(path) == (found.st_dev, found.st_ino)


def check_not_inputs(targets: Iterable[Path], inputs: Iterable[str | Path | None]) -> None:
    """Raise UsageError if an output, or what it is called until it is complete, is one of the inputs.

    inputs: all files that the run reads; they are looked at only if there is such an output.
    """
    names = ((target, name) for target in targets for name in (target, part_path(target)) if name.exists())
    written = {file_identity(name): (target, name) for target, name in names}
    for read in inputs if written else ():
        if read and (found := written.get(file_identity("/dev/stdin" if str(read) == "-" else read))):
            until = f"called {found[1]} until it is complete, which is " * (found[0] != found[1])
            raise UsageError(f"{found[0]} is {until}an input: choose another name")


def check_writable(path: Path, *, make: bool = False) -> None:
    """Raise an error, before any work is done, if `path` cannot be written, or another run writes it.

    make: its folder will be made if it is missing, which for others is taken for a mistyped name.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder: name a file in it")
        target = follow_links(path)
        if not make and not target.parent.exists():
            raise InputError(f"{path} cannot be written: there is no folder {target.parent}, make it or name another")
        with _made_folder(target.parent):
            if not is_stream(target):
                _check_file(target)
            elif not os.access(target, os.W_OK):
                raise InputError(f"{path} cannot be written: it is closed, or you may not write into it")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def _check_file(path: Path) -> None:
    """Raise an error for a name that is too long, a folder that takes no files, and a file that is being written."""
    with contextlib.suppress(FileNotFoundError):
        path.stat()
    probe, part = temporary_path(path), part_path(path)
    probe.touch()
    probe.unlink()
    if part.exists():
        with claim(part):
            pass


def encode_utf8(text: str) -> bytes:
    """Encode as UTF-8; bytes of a file name that are not UTF-8 become escapes that JSON reads back."""
    return text.encode(errors="backslashreplace")


def write_json(path: Path, content: Any) -> None:
    """Write `content` so that the file is there whole or not at all."""
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(encode_utf8(to_json(content)))
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror}") from error


def to_json(content: Any) -> str:
    return typed_names(json.dumps(content, ensure_ascii=False))


def remove_stale_files(target: Path) -> None:
    """Remove the temporary files that dead processes of this machine left beside `target`."""
    import psutil  # type: ignore[import-untyped]

    ours = re.compile(rf"\.hrpose-{_host_mark()}-(\d{{1,9}})\..+", re.DOTALL)
    folder = temporary_path(target).parent
    for left in folder.iterdir() if folder.is_dir() else ():
        named = ours.fullmatch(left.name)
        if named is None or psutil.pid_exists(int(named[1])):
            continue
        with contextlib.suppress(OSError):  # somebody else's, or gone by now
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
