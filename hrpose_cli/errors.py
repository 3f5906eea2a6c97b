"""Every error that a user can cause or meet.

HRPoseError             what the command line turns into one red line and exit code 1, or 2 for a UsageError
├── InputError          an image, box file, annotation file or value that cannot be used
│   └── UsageError      options that no file and no machine could make right
├── WeightsError        weights that are missing, unknown, damaged or made for another net
├── MediaError          video or audio that cannot be read or written
├── FormatError         a pose file that does not hold what its format promises
└── BackendError        a device, precision or runtime that this machine does not offer

A message says what is wrong and what to do about it, in one line. An `assert` or any other
exception is a bug of ours.
"""

from __future__ import annotations


class HRPoseError(Exception):
    """The root: catch this one."""


class InputError(HRPoseError):
    """An image, box file, annotation file or value that cannot be used."""


class UsageError(InputError):
    """Options that no file and no machine could make right: values that do not exist, or exclude each other."""


class WeightsError(HRPoseError):
    """Weights that are missing, unknown, damaged or made for another net."""


class MediaError(HRPoseError):
    """Video or audio that cannot be read or written."""


class FormatError(HRPoseError):
    """A pose file that does not hold what its format promises."""


class BackendError(HRPoseError):
    """A device, precision or runtime that this machine does not offer."""


def first_line(error: Exception) -> str:
    """The start of what another library says; some say nothing, torch says it after its advice."""
    if isinstance(error, KeyError):
        return "it holds something else"
    said = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    return (said or type(error).__name__).splitlines()[0][:120]


def describe_error(error: BaseException) -> str:
    """One line about an error that a user can meet: what is wrong, and with which file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{'reading or writing failed' if error.filename is None else error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"there is not enough memory: {error}".removesuffix(": ")
    if isinstance(error, RecursionError):
        return "a file is nested too deeply to be read"
    if isinstance(error, ImportError):
        return f"a package cannot be loaded: {_describe_import(str(error))}"
    return str(error)


def _describe_import(text: str) -> str:
    """What is missing; of the libraries that slim systems lack, where it is."""
    library, shared, _ = text.partition(": cannot open shared object file")
    if not shared:
        return f"{text}: install hrpose again"
    known = any(name in library for name in ("libGL", "libgthread", "libglib"))
    advice = "apt-get install libgl1 libglib2.0-0" if known else "install the package that holds it"
    return f"the system has no {library}; on Debian and Ubuntu: {advice}"
