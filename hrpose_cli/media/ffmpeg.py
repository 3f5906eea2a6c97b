"""The ffmpeg program that imageio-ffmpeg ships, as a process that leaves nothing behind."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO, NoReturn

from hrpose_cli.errors import MediaError

_PATIENCE = 2  # seconds for a process that has closed its pipe to end by itself
_FIRST_LINES = 2  # of its messages that an error repeats: the cause comes first, then what follows from it


def run_ffmpeg(arguments: Sequence[str]) -> None:
    """Run ffmpeg to its end, without a pipe; MediaError with its message if it fails."""
    ffmpeg = FfmpegProcess(arguments)
    try:
        ffmpeg.finish()
    finally:
        ffmpeg.kill()


class FfmpegProcess:
    """A running ffmpeg that reads from a pipe, `stdin`.

    It gets a session of its own, so that Ctrl-C in the terminal does not end it: we close the pipe,
    and it finishes the file. Its messages go to a file, because a pipe that nobody
    reads fills up and stops it. End it by `finish`, `fail` or `kill`.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        import imageio_ffmpeg

        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  closed when the process has ended
        try:
            self._process = subprocess.Popen(
                [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostats", "-loglevel", "error", "-y", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._messages,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
            )
        except (OSError, RuntimeError) as error:
            self._messages.close()
            raise MediaError(f"ffmpeg cannot be started: {error}") from error

    @property
    def stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def finish(self) -> None:
        """Close the pipe and wait until all is written."""
        self._close_pipe()
        if self._process.wait():
            self.fail()
        self._messages.close()

    def fail(self) -> NoReturn:
        """Raise a MediaError with the reason why it ended early."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        code, words = self._process.poll(), self._words()
        self.kill()
        raise MediaError(f"ffmpeg stopped early ({_describe_exit(code)}){': ' * bool(words)}{words}")

    def kill(self) -> None:
        """End it at once, if it still runs; no process is left behind."""
        self._process.kill()
        self._process.wait()
        self._close_pipe()
        self._messages.close()

    def _close_pipe(self) -> None:
        with contextlib.suppress(OSError):  # it has ended already; its exit code says why
            self.stdin.close()

    def _words(self) -> str:
        if self._messages.closed:
            return ""
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").splitlines()
        plain = [re.sub(r"^(\[[^]]*\]\s*)*", "", line).strip() for line in lines]  # [out#0/mp4 @ 0x55b3] ...
        said = [line for line in dict.fromkeys(plain) if line and not line.startswith("Last message repeated")]
        return " | ".join(said[:_FIRST_LINES])


def _describe_exit(code: int | None) -> str:
    """Describe an exit code in words."""
    if code is None:
        return "it reads no more"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
