"""Where a batch reads and writes: folders of this machine, or whatever fsspec opens, such as s3://bucket/results/.

A file appears whole or not at all, by renaming or as one object, so that no locks are needed. Remote clips are copied
to the folder for temporary files, and results are written there first. Names are paths below a root, with slashes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hrpose_cli.errors import BackendError, HRPoseError, InputError, first_line
from hrpose_cli.outputs import atomic_write, fit_name, remove_stale_files, temporary_path

STATE_FOLDER = ".hrpose"
_LOCAL = "file://"


def is_remote(path: str) -> bool:
    return "://" in path and not path.startswith(_LOCAL)


def without_scheme(path: str) -> str:
    """The path of file://PATH; any other as it is."""
    return path.removeprefix(_LOCAL)


@dataclass(frozen=True)
class _Local:
    """The files of a batch below a folder."""

    root: str

    def _path(self, name: str) -> Path:
        return Path(self.root, name)

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of those of the files that are there."""
        found = {}
        for name in names:
            with suppress(FileNotFoundError, NotADirectoryError):
                found[name] = self._path(name).read_bytes()
        return found

    def list(self, folder: str) -> list[str]:
        """The names of the files in a folder and its sub-folders, sorted; none if there is no such folder."""
        paths = (path for path in self._path(folder).rglob("*") if not path.name.startswith("."))
        return sorted(path.relative_to(self.root).as_posix() for path in paths if path.is_file())

    def write(self, name: str, content: bytes) -> None:
        with atomic_write(self._path(name)) as temporary:
            temporary.write_bytes(content)

    def create(self, name: str, content: bytes) -> None:
        """Write a file unless it is there; of several that try, one succeeds."""
        path = self._path(name)
        own = temporary_path(path)
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_bytes(content)
        with suppress(FileExistsError):
            os.link(own, path)  # it appears whole, and once, also on network file systems
        own.unlink()

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._path(name).unlink(missing_ok=True)

    @contextmanager
    def workplace(self, key: str) -> Iterator[Path]:
        """A folder of this machine for files that are not complete, which is removed with all that is in it."""
        named = self._path(f"{STATE_FOLDER}/work/{key}")  # on the disk of the results
        remove_stale_files(named)  # of workers that were killed
        folder = temporary_path(named)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path) -> None:
        """Give the files of a workplace their names below the root."""
        for path in _files(folder):
            target = self._path(path.relative_to(folder).as_posix())
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)

    @contextmanager
    def copies(self, names: Iterable[str]) -> Iterator[Mapping[str, Path]]:
        """The files on this machine, by their names."""
        yield {name: self._path(name) for name in names}


@dataclass(frozen=True)
class _Remote:
    """The files of a batch below a URL, with the same methods as `_Local`."""

    root: str

    def _path(self, name: str) -> tuple[Any, str]:
        return _resolve(f"{self.root}/{name}")

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        with _named_errors(self.root):
            files, root = _resolve(self.root)
            paths = [f"{root}/{name}" for name in names]
            found = dict(zip(names, files.cat_ranges(paths, None, None, on_error="return"), strict=True))
            for error in found.values():
                if isinstance(error, Exception) and not isinstance(error, FileNotFoundError):
                    raise error
        return {name: content for name, content in found.items() if isinstance(content, bytes)}

    def list(self, folder: str) -> list[str]:
        return [f"{folder}/{name}" for name in _find(f"{self.root}/{folder}")]

    def write(self, name: str, content: bytes, mode: str = "overwrite") -> None:
        with _named_errors(self.root):
            files, path = self._path(name)
            files.makedirs(path.rpartition("/")[0], exist_ok=True)
            with suppress(FileExistsError):
                files.pipe_file(path, content, mode=mode)

    def create(self, name: str, content: bytes) -> None:
        self.write(name, content, mode="create")

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with _named_errors(self.root), suppress(FileNotFoundError):
                files, path = self._path(name)
                files.rm_file(path)

    @contextmanager
    def workplace(self, key: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="hrpose-") as folder:
            yield Path(folder)

    def publish(self, folder: Path) -> None:
        for path in _files(folder):
            with _named_errors(self.root):
                files, target = self._path(path.relative_to(folder).as_posix())
                files.put_file(str(path), target)

    @contextmanager
    def copies(self, names: Iterable[str]) -> Iterator[Mapping[str, Path]]:
        with TemporaryDirectory(prefix="hrpose-") as folder:
            copied = {name: Path(folder, f"{number}.parquet") for number, name in enumerate(names)}
            for name, path in copied.items():
                with _named_errors(f"{self.root}/{name}"):
                    files, source = self._path(name)
                    files.get_file(source, str(path))
            yield copied


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


Storage = _Local | _Remote


def open_storage(root: str) -> Storage:
    """The storage of a folder or URL."""
    return _Remote(root.rstrip("/")) if is_remote(root) else _Local(without_scheme(root))


# Inputs --------------------------------------------------------------------------------------------


def find_remote(url: str, *, recursive: bool) -> list[str] | None:
    """The names of the files in a remote folder; None for a file."""
    with _named_errors(url):
        files, path = _resolve(url)
        if not url.endswith("/") and files.info(path)["type"] != "directory":
            return None
    return _find(url.rstrip("/"), None if recursive else 1)


def describe_input(path: str) -> dict[str, Any]:
    """The facts by which a changed input is recognised without reading it; its path alone if it is not there."""
    facts: dict[str, Any] = {"path": path}
    with suppress(OSError, HRPoseError), _named_errors(path):
        if is_remote(path):
            files, remote = _resolve(path)
            return facts | {"bytes": files.info(remote)["size"], "modified": files.ukey(remote)}
        status = Path(path).stat()
        return facts | {"bytes": status.st_size, "modified": status.st_mtime_ns}
    return facts


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """The path of an input on this machine; errors name the input."""
    if not is_remote(path):
        yield path
        return
    with TemporaryDirectory(prefix="hrpose-") as folder:
        copied = str(Path(folder, fit_name(path.rpartition("/")[2], "")))
        with _named_errors(path):
            files, remote = _resolve(path)
            files.get_file(remote, copied)
        try:
            yield copied
        except HRPoseError as error:
            raise type(error)(str(error).replace(copied, path)) from error


def _find(url: str, depth: int | None = None) -> list[str]:
    """The names, below a remote folder, of the files in it."""
    with _named_errors(url):
        files, root = _resolve(url)
        return sorted(path.removeprefix(root).lstrip("/") for path in files.find(root, maxdepth=depth))


def _resolve(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there."""
    from fsspec.core import url_to_fs

    files, path = url_to_fs(url)
    return files, str(path)


@contextmanager
def _named_errors(url: str) -> Iterator[None]:
    """Turn the errors of fsspec and of the libraries behind it into one line that names the URL."""
    try:
        yield
    except ImportError as error:
        raise BackendError(
            f"{url} needs another package ({first_line(error)}): pip install 'hrpose[remote]'"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{url}: no such file or folder") from error
    except Exception as error:
        raise InputError(f"{url}: {first_line(error)}") from error
