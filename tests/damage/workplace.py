"""A place to damage files, and the judgement of what a reader makes of them.

A damaged file is read, or refused by an HRPoseError of one line that names a file. Everything else is a fault: another
exception, a warning, poses that differ after a conversion, a file left behind.
"""

import json
import re
import shutil
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from hrpose_cli.errors import HRPoseError
from tests.damage.mutations import damage
from tests.damage.whole_files import Case

Maker = Callable[[Path], list[Case]]  # gives whole files; may leave others in a folder that all attempts share
Reader = Callable[[Path], object]  # tries the file of a case that is damaged
LONGEST_MESSAGE = 400


class FaultError(AssertionError):
    """A result that is wrong although nothing was raised, or an error whose message is no use."""


@dataclass(frozen=True)
class Outcome:
    """The fate of an input: "read", "refused", or the name of an exception with the place of its cause."""

    kind: str
    place: str = ""
    text: str = ""


class Workplace:
    """A folder in which damaged files are tried on a reader, one at a time."""

    def __init__(self, name: str, make: Maker, read: Reader, folder: Path) -> None:
        self.name, self.read = name, read
        self.shared, self.input, self.names = folder / "shared", folder / "input", folder / "names.json"
        self.shared.mkdir(parents=True, exist_ok=True)
        self.cases = make(self.shared)

    def lay_out(self, case: Case) -> Path:
        """Write the files of a case, and nothing beside them; returns the path of the first."""
        shutil.rmtree(self.input, ignore_errors=True)
        for name, content in case.items():
            path = self.input / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.names.write_text(json.dumps(list(case)))
        return self.input / next(iter(case))

    def lay_out_damaged(self, seed: int, number: int) -> Path:
        """Lay out one of the cases with its first file damaged, the same for the same numbers."""
        chance = Random(f"{self.name} {seed} {number}")
        case = chance.choice(self.cases)
        name = next(iter(case))
        return self.lay_out(case | {name: damage(name, case[name], chance)})

    def lay_out_kept(self, kept: Path) -> Path:
        """Lay out a case that `keep_case` kept."""
        names = json.loads((kept / "fault.json").read_text())["files"]
        return self.lay_out({name: (kept / name).read_bytes() for name in names})

    def attempt(self, path: Path) -> Outcome:
        """Judge one input."""
        try:
            return Outcome("refused" if is_refused(lambda: self.read(path), path) else "read")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a command's SystemExit too
            return Outcome(type(error).__name__, place_of(error), " ".join(f"{error}".split())[:300])


def keep_case(place: Path, kept: Path, outcome: Outcome) -> None:
    """Copy the files of the last case of the workplace in `place`, with its outcome."""
    shutil.rmtree(kept, ignore_errors=True)
    names = json.loads((place / "names.json").read_text())
    for name in names:
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place / "input" / name, kept / name)
    (kept / "fault.json").write_text(json.dumps({"files": names, **asdict(outcome)}, indent=1))


def is_refused(call: Callable[[], object], path: Path | None) -> bool:
    """Return whether `call` ends in an error of ours; FaultError for one that is no use.

    path: the input, where the error has to name a file.
    """
    try:
        call()
    except HRPoseError as error:
        said = str(error)
        if "\n" in said or "\r" in said:  # other control characters are escaped where they are printed
            raise FaultError(f"a message of several lines: {said!r}") from error
        if len(said) > LONGEST_MESSAGE:
            raise FaultError(f"a message of {len(said)} characters: {said}") from error
        if path and path.name not in said and str(folder_of(path)) not in said:
            raise FaultError(f"a message that names no file: {said}") from error
        return True
    return False


def pass_on(refused: bool, path: Path) -> None:
    """Say that a part of an attempt was refused."""
    if refused:
        raise HRPoseError(f"{path} was refused")


def place_of(error: BaseException) -> str:
    """The last line of ours that an exception came through; the first words of a wrong result."""
    if isinstance(error, FaultError) and error.__cause__ is None:
        return re.sub(r"[^A-Za-z: ]+", "-", str(error))[:40].strip()
    cause = error.__cause__ if isinstance(error, FaultError) else error
    frames = traceback.extract_tb(cause.__traceback__ if cause else None)
    ours = [f for f in frames if "hrpose_cli/" in f.filename] or frames
    return f"{ours[-1].filename.rpartition('hrpose_cli/')[2]}:{ours[-1].lineno}"


def folder_of(path: Path) -> Path:
    """The folder of the workplace that an input lies in."""
    return next(parent for parent in path.parents if (parent / "shared").is_dir())


def check(condition: object, what: str) -> None:
    if not condition:
        raise FaultError(what)
