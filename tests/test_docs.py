"""The documentation: its links lead somewhere, its commands parse, and it names what files contain."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import hrpose_cli
from hrpose_cli.cli import app
from hrpose_cli.skeletons import COCO

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "samples/README.md", "weights/MODEL_CARD.md")]
PAGES += sorted(ROOT.glob("docs/*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def fenced_blocks(text: str, *languages: str) -> list[str]:
    return [code for language, code in re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S) if language in languages]


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


# Links -------------------------------------------------------------------------------------------


def links(page: Path) -> list[str]:
    """The relative targets of links and images."""
    text = without_fences(page.read_text())
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", without_fences(page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_readme_links_to_every_page() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(ROOT / "README.md")}
    assert {page.resolve() for page in PAGES[1:]} <= linked


def test_the_readme_has_the_two_blocks_that_are_run() -> None:
    """One installs and runs the main job; `.ci/run` runs the other."""
    install, check = fenced_blocks((ROOT / "README.md").read_text(), "bash")
    assert "pip install . " in install
    assert "pytest" in check


# Commands ----------------------------------------------------------------------------------------


def shell_lines(text: str) -> list[str]:
    """The lines of shell blocks."""
    blocks = fenced_blocks(text, "bash", "console")
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def code_spans(text: str) -> list[str]:
    """The commands in sentences, which may leave arguments out."""
    return re.findall(r"`((?:hrpose|python -m hrpose_cli) [^`]+)`", without_fences(text).replace("\n", " "))


def hrpose_arguments(line: str) -> Iterator[list[str]]:
    """The words after each hrpose in a shell line, also where another program starts it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for between, group in groupby(lexer, key=lambda word: set(word) <= set("|&;<>()")):
        words = ["hrpose" if word == "hrpose_cli" else word for word in group]
        if not between and "hrpose" in words:
            yield words[words.index("hrpose") + 1 :]


def parse_error(arguments: list[str]) -> Exception | None:
    """The error of parsing a command line, without running it."""
    command: Any = typer.main.get_command(app)
    try:
        while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
            command, arguments = command.commands[arguments[0]], arguments[1:]
        if arguments or not hasattr(command, "commands"):
            command.make_context(command.name, list(arguments))
    except typer.Exit:  # after --help and --version
        pass
    except Exception as error:
        return error
    return None


def is_missing(error: Exception | None) -> bool:
    return type(error).__name__ == "MissingParameter"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_parse(page: Path) -> None:
    whole = [each for line in shell_lines(page.read_text()) for each in hrpose_arguments(line)]
    parts = [each for line in code_spans(page.read_text()) for each in hrpose_arguments(line)]
    errors = [(each, parse_error(each)) for each in whole]
    errors += [(each, error) for each in parts if not is_missing(error := parse_error(each))]
    wrong = [f"hrpose {shlex.join(each)}: {getattr(error, 'message', repr(error))}" for each, error in errors if error]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line", ["image x --no-such-option", "video x --background pink", "imagine x", "eval", "video x --crf y"]
)
def test_wrong_commands_do_not_parse(line: str) -> None:
    (arguments,) = hrpose_arguments(f"ls *.jpg | OMP_NUM_THREADS=1 xargs hrpose {line} | head > file  # comment")
    assert arguments == line.split()
    assert parse_error(arguments) is not None


def test_every_command_is_in_the_docs() -> None:
    lines = [line for page in PAGES for line in shell_lines(page.read_text()) + code_spans(page.read_text())]
    used = {arguments[0] for line in lines for arguments in hrpose_arguments(line) if arguments}
    assert set(typer.main.get_command(app).commands) <= used  # type: ignore[attr-defined]


def option_names(command: Any) -> set[str]:
    """The options of a command and of those below it."""
    own = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
    return own.union(*(option_names(each) for each in getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_options_in_sentences_exist(page: Path) -> None:
    named = set(re.findall(r"`(--[a-z][a-z-]*)", without_fences(page.read_text())))
    assert named <= option_names(typer.main.get_command(app)) | {"--help"}


# Python and files --------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_examples_import_what_there_is(page: Path) -> None:
    for code in fenced_blocks(page.read_text(), "python"):
        for node in ast.parse(code).body:
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("hrpose_cli"):
                exec(compile(ast.Module([node], []), str(page), "exec"), {})


@pytest.fixture(scope="module")
def pose_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same tracked person in several formats."""
    folder = tmp_path_factory.mktemp("poses")
    keypoints = [1, 2, 2] * len(COCO)
    person = {"id": 1, "image_id": 1, "category_id": 1, "track_id": 1, "bbox": [0, 0, 9, 9], "keypoints": keypoints}
    person |= {"raw_keypoints": keypoints, "filled": [1] * len(COCO)}
    image = {"id": 1, "file_name": "clip.mp4", "width": 64, "height": 48, "frame_index": 0, "time": 0.0}
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    content = {"images": [image], "annotations": [person], "categories": [category]}
    (folder / "poses.json").write_text(json.dumps(content))
    for suffix in ("csv", "jsonl", "npz"):
        result = CliRunner().invoke(app, ["convert", str(folder / "poses.json"), str(folder / f"poses.{suffix}")])
        assert result.exit_code == 0, result.output
    return folder


def keys_in_files(folder: Path) -> set[str]:
    """The columns, keys and arrays of all formats."""
    header, frame, end = (json.loads(line) for line in (folder / "poses.jsonl").read_text().splitlines())
    columns = (folder / "poses.csv").read_text().splitlines()[0].split(",")
    with np.load(folder / "poses.npz") as arrays:
        return {*columns, *header, *frame, *frame["people"][0], *end, *arrays.files}


def test_the_page_on_files_names_every_column_and_key(pose_files: Path) -> None:
    page = (ROOT / "docs" / "files.md").read_text()
    assert {key for key in keys_in_files(pose_files) if f"`{key}`" not in page} == set()


def test_contributing_names_every_room() -> None:
    package = Path(hrpose_cli.__file__).parent
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    diagram = " ".join(fenced_blocks((ROOT / "CONTRIBUTING.md").read_text(), "text"))
    assert {room for room in rooms - {"__init__"} if not re.search(rf"\b{room}\b", diagram)} == set()
