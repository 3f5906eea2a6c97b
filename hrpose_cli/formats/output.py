"""Output of the formats: files that get their name when they are complete, spools, the standard output."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Protocol

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.outputs import claim, fit_name, follow_links
from hrpose_cli.poses import FramePoses
from hrpose_cli.stopping import StopFlag
from hrpose_cli.streams import is_stream, open_into, silence_stdout

STDOUT = Path("-")
WriterOpener = Callable[..., "AbstractContextManager[_PoseWriter]"]
_FileLister = Callable[[Path], Mapping[str, Path]]  # the files under a name, by what their stems add to it


class _PoseWriter(Protocol):
    """A pose file that is open for writing."""

    def write(self, frame_poses: FramePoses) -> None:
        """Add a frame."""


class PoseOutput:
    """The files of a format under `path`; they are called NAME.part.SUFFIX, `part`, until they are complete.

    After a run that was stopped, or that failed, they keep that name and hold the frames so far. Nothing is
    kept without a frame, nor, unless the format `grows`, after KeyboardInterrupt or when writing itself has
    failed, whose errors name the file. A stream that nobody reads any more sets the flag `stop`.

    part: None for a stream; a `folder` for some formats. files: those under a name. begun: the part has frames.
    """

    def __init__(
        self, path: Path, opened: Callable[[Path], AbstractContextManager[_PoseWriter]], stop: StopFlag, *,
        part: Path | None, files: _FileLister, folder: bool, grows: bool, begun: bool,
    ) -> None:  # fmt: skip
        self.path = path
        self.written: list[Path] = []  # after the block
        self._part, self._files, self._folder, self._grows, self._stop = part, files, folder, grows, stop
        self._opened = opened(part or path)
        self._has_frames = begun
        self._usable = False  # there is a frame, and it could be written
        self._inner: Any = None  # while it is open and somebody reads it
        self._claim = ExitStack()

    def __enter__(self) -> PoseOutput:
        with self._named_errors(), ExitStack() as stack:
            if self._part is not None:
                stack.enter_context(claim(self._part, folder=self._folder))
            self._inner = self._opened.__enter__()
            self._claim = stack.pop_all()
        return self

    def write(self, frame_poses: FramePoses) -> None:
        """Add a frame."""
        self._usable = False
        if self._inner is None:
            return
        with self._named_errors():
            self._inner.write(frame_poses)
            self._usable = self._has_frames = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        complete = kind is None and not self._stop.ended_early
        usable = self._usable and (kind is None or issubclass(kind, Exception))
        grown = self._grows and self._has_frames
        keep = complete or usable or grown
        try:
            with self._named_errors():
                if complete and self._grows and self._inner is not None:
                    self._inner.complete = True
                self._opened.__exit__(None, None, None) if keep else self._opened.__exit__(kind, error, trace)
        except BaseException:
            keep, complete = grown, False
            raise
        finally:
            with self._named_errors(), self._claim:
                self._settle(keep=keep, complete=complete)

    def _settle(self, *, keep: bool, complete: bool) -> None:
        """Give the files their names, or remove them."""
        listed = {} if self._part is None else self._files(self._part)
        parts = {ending: part for ending, part in listed.items() if part.exists()}
        if not keep:
            for part in parts.values():
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        elif parts:
            self.written = self._rename(parts) if complete else [*parts.values()]
        elif self._inner is not None and self.path != STDOUT:  # a stream, or a folder that has its files
            self.written = [self.path]

    def _rename(self, parts: Mapping[str, Path]) -> list[Path]:
        """Give complete files their names in place of those of an earlier run."""
        target = follow_links(self.path)
        named = {target.with_name(fit_name(target.stem, f"{end}{target.suffix}")): each for end, each in parts.items()}
        before = self._files(target)
        for name, each in named.items():
            each.replace(follow_links(name))
        for old in set(before.values()) - set(named):
            old.unlink(missing_ok=True)
        return [self.path] if list(named) == [target] else list(named)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, BrokenPipeError) and self._part is None:  # the reader has enough, like `head`
                self._inner = None
                if self.path == STDOUT:
                    silence_stdout()
                return self._stop.set("pipe")
            raise FormatError(f"cannot write {self.path}: {error.strerror or error}") from error
        except (FormatError, InputError) as error:
            raise type(error)(f"cannot write {self.path}: {error}") from error


@contextmanager
def open_stream(path: Path, mode: Literal["r+b", "wb"] = "wb") -> Iterator[IO[bytes]]:
    """A file, or the standard output for `-`."""
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with open_into(path) if is_stream(path) else path.open(mode) as file:
        yield file


def open_spool(path: Path) -> IO[bytes]:
    """A nameless file on the disk of `path`: the folder of temporary files is often held in memory."""
    return tempfile.TemporaryFile(dir=None if is_stream(path) else path.parent)
