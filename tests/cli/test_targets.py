"""Outputs of every command: never an input, never one that --no-clobber keeps, into pipes, and one line if not."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hrpose_cli.formats import read_end
from tests.cli.runner import run as hrpose
from tests.cli.runner import succeeded
from tests.cli.test_main import ONE_PERSON
from tests.conftest import clean_failure, wrong_usage
from tests.formats.builders import HEADER, renamed, save
from tests.formats.builders import clip as poses_of
from tests.media.clips import film, times

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a shell")
TINY = ("--weights", "net.safetensors", "--detector", "none", "--device", "cpu", "--backend", "torch")


@pytest.fixture
def work(tmp_path: Path, weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one file of each kind of input."""
    monkeypatch.chdir(tmp_path)
    film(Path("clip.mp4"), 3, size=(64, 48))
    Image.new("RGB", (40, 30)).save("a.png")
    Path("net.safetensors").write_bytes(weights_file.read_bytes())
    save(
        "p.jsonl",
        [renamed(each, index=i, size=(64, 48)) for i, each in enumerate(poses_of(1, 0, 1))],
        replace(HEADER, size=(64, 48)),
    )
    Path("gt.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    Path("im").mkdir()
    Image.new("RGB", (9, 9)).save("im/a.png")
    Path("one.json").write_text(json.dumps(ONE_PERSON))
    return tmp_path


@pytest.mark.parametrize(
    ("source", "command"),
    [
        ("a.png", "image a.png --no-image --poses OTHER.json"),
        ("a.png", "image a.png --no-image --json-results OTHER.json"),
        ("a.png", "image a.png --out OTHER.png"),
        ("net.safetensors", "image a.png --weights net.safetensors --no-image --json OTHER.json"),
        ("clip.mp4", "video clip.mp4 --out OTHER.mp4"),
        ("clip.mp4", "video clip.mp4 --no-video --json OTHER.json"),
        ("p.jsonl", "convert p.jsonl OTHER.jsonl"),
        ("p.jsonl", "convert p.jsonl OTHER.csv"),
        ("clip.mp4", "render p.jsonl clip.mp4 --out OTHER.mp4"),
        ("p.jsonl", "render p.jsonl clip.mp4 --out OTHER.mp4"),
        ("gt.json", "eval --gt gt.json --predictions gt.json --save OTHER.json"),
        ("clip.mp4", "bench --video clip.mp4 --json OTHER.json"),
        ("net.safetensors", "export net.safetensors --format onnx --out OTHER.onnx"),
        ("net.safetensors", "export net.safetensors --format openvino --out OTHER.bin"),
        ("im/a.png", "eval --gt one.json --images im --weights net.safetensors --device cpu --save OTHER.json"),
        ("im/a.png", "eval --gt one.json --images im --weights net.safetensors --device cpu --json OTHER.json"),
        ("im/a.png", "eval --gt one.json --images im --predictions one.json --json OTHER.json"),
        ("of/x_000000000000_keypoints.json", "convert of of/x_000000000001_keypoints.json"),
        ("p.jsonl", "convert p.jsonl of/x_000000000001_keypoints.json"),
        ("p.jsonl", "convert p.jsonl OTHER_track1.trc"),
        ("seg.ts", "video list.m3u8 --no-video --poses OTHER.csv"),
        ("gt_one.mat", "eval --gt one.json --metric pckh --save OTHER.json"),
        ("im/a.png", "export net.safetensors --format onnx --gt one.json --images im --out OTHER.onnx"),
        ("im/a.png", "export net.safetensors --format openvino --precision int8 --calibrate im --out OTHER.xml"),
        ("im/a.png", "video im --no-video --json OTHER.json"),
        ("im/1.png", "video im/%d.png --no-video --poses OTHER.csv"),
        ("net.int8.bin", "image a.png --weights net.safetensors --no-image --poses OTHER.csv"),
        ("net.bin", "image a.png --weights net.xml --no-image --poses OTHER.csv"),
        ("of/x_000000000000_keypoints.json", "convert of OTHER.csv"),
        ("of/x_000000000000_keypoints.json", "render of clip.mp4 --out OTHER.mp4"),
        ("im/a.png", "train --data one.json --images im --epochs 1 --net lite-hrnet --device cpu --out curves.png"),
        (
            "val/a.png",
            "train --data one.json --images im --val one.json --val-images val --net lite-hrnet --out last.pt",
        ),
        ("one.json", "train --data one.json --images im --epochs 1 --net lite-hrnet --device cpu --out log.jsonl"),
    ],
)
@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_no_output_is_an_input(work: Path, source: str, command: str, link: Any) -> None:
    *words, last = command.split()
    for name in ("out", "val", "of"):
        Path(name).mkdir()
    for name in ("im/1.png", "val/a.png"):
        Image.new("RGB", (9, 9)).save(name)
    if not Path(source).exists():
        Path(source).write_text("{}")
    Path("list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nseg.ts\n#EXT-X-ENDLIST\n")
    target = work / ("out" if "train" in words else "") / last
    link(work / source, target)
    before = Path(source).read_bytes()
    said = wrong_usage(
        hrpose(
            *words,
            "out"
            if "train" in words
            else last.replace(".bin", ".xml").replace("_track1", "").replace("x_000000000001_keypoints.json", ""),
        )
    )
    assert f"{target.name} is an input" in said
    assert Path(source).read_bytes() == before


@pytest.mark.parametrize(
    "command",
    [
        f"image broken.png --out new/er {' '.join(TINY)}",
        "image a.png --weights missing.pth --out new/er/b.png",
        f"video broken.png --out new/er --poses .jsonl {' '.join(TINY)}",
        "convert broken.jsonl new/",
        "convert broken.jsonl new.csv",
        "render broken.jsonl clip.mp4 --out new/er/x.mp4",
        "train --data broken.json --out new/er --epochs 1 --net lite-hrnet --device cpu",
        "train --data one.json --images im --out new/er --epochs 1 --net lite-hrnet --device cpu",  # one is not enough
        "train --data one.json --images im --out new/er --epochs 1 --net lite-hrnet --init missing.pth",
        "export net.safetensors --format onnx --out new/er/x.onnx",
        "eval --gt broken.json --save new.json",
    ],
)
def test_a_run_that_is_refused_leaves_nothing(work: Path, command: str) -> None:
    Path("broken.png").write_bytes(Path("a.png").read_bytes()[:40])
    Path("broken.json").write_text('{"images": [{"id": 1}]}')
    Path("broken.jsonl").write_bytes(Path("p.jsonl").read_bytes().splitlines()[0] + b'\n{"frame": "x"}\n')
    before = sorted(work.rglob("*"))
    clean_failure(result := hrpose(*command.split()), result.exit_code)
    assert result.exit_code in {1, 2}
    assert sorted(work.rglob("*")) == before


def test_no_clobber_leaves_out_clips_and_images_that_are_done(work: Path) -> None:
    options = (*TINY, "--no-clobber")
    Image.new("RGB", (40, 30)).save("b.png")
    Path("a.pose.png").write_text("mine")
    result = hrpose("image", "a.png", "b.png", "--poses", "i.csv", *options)
    assert (result.exit_code, Path("a.pose.png").read_text()) == (0, "mine")
    assert "note: 1 of 2 inputs left out, whose outputs exist (--no-clobber): a.png" in result.stderr
    assert Path("b.pose.png").is_file()
    assert "i.csv exists, and --no-clobber keeps it" in clean_failure(hrpose("image", "a.png", "--json", "i.csv", *options))  # fmt: skip  # noqa: E501
    film(Path("d.mp4"), 2, size=(64, 48))
    Path("clip.pose.jsonl").write_text("mine")
    result = hrpose("video", "clip.mp4", "d.mp4", "--poses", ".jsonl", *options)
    assert (result.exit_code, Path("clip.pose.jsonl").read_text()) == (0, "mine")
    assert "1 of 2 inputs left out, whose outputs exist (--no-clobber): clip.mp4" in result.stderr
    assert (read_end(Path("d.pose.jsonl")), Path("clip.pose.mp4").exists()) == (2, False)
    result = hrpose("video", "clip.mp4", "d.mp4", "--poses", ".jsonl", *options)
    assert (result.exit_code, "2 of 2 inputs left out" in result.stderr) == (0, True)


def test_no_clobber_looks_at_what_an_image_run_would_write(work: Path) -> None:
    options = (*TINY, "--no-image", "--no-clobber")
    for name in ("a.pose.png", "a.heatmaps-1.jpg"):
        Path(name).write_text("mine")
    assert "left out" not in succeeded(hrpose("image", "a.png", "--poses", "i.csv", *options)).stderr
    assert "1 of 1 inputs left out" in succeeded(hrpose("image", "a.png", "--heatmaps", *options)).stderr
    assert Path("a.heatmaps-1.jpg").read_text() == "mine"


def test_no_clobber_refuses_what_convert_and_render_would_replace(work: Path) -> None:
    for name in ("x.csv", "x.mp4", "x_track7.trc", "of/y"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("mine")
    for target in ("x.csv", "x.trc", "of"):
        assert "exists, and --no-clobber keeps it" in clean_failure(
            hrpose("convert", "p.jsonl", target, "--no-clobber")
        )
    said = clean_failure(hrpose("render", "p.jsonl", "clip.mp4", "--out", "x.mp4", "--no-clobber"))
    assert "x.mp4 exists" in said
    assert {Path(name).read_text() for name in ("x.csv", "x.mp4", "x_track7.trc", "of/y")} == {"mine"}
    succeeded(hrpose("convert", "p.jsonl", "new.csv", "--no-clobber"))


@POSIX
@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x.pose.png", "x.json"])
def test_outputs_go_into_pipes(work: Path, name: str) -> None:
    os.mkfifo(name)
    reader = subprocess.Popen(["cp", name, f"got-{name}"])
    if name.endswith("png"):
        Path("a.png").rename("x.png")
    command = {
        "x.mp4": ("render", "p.jsonl", "clip.mp4", "--out", "x.mp4"),
        "x.gif": ("render", "p.jsonl", "clip.mp4", "--out", "x.gif"),
        "x.pose.png": ("image", "x.png", *TINY),
        "x.json": ("image", "a.png", "--no-image", "--json-results", "x.json", *TINY),
    }[name]
    before = {path.name for path in work.iterdir()}
    succeeded(hrpose(*command))
    assert reader.wait() == 0
    assert {path.name for path in work.iterdir()} - before <= {f"got-{name}"}
    assert Path(name).is_fifo()
    if name == "x.mp4":
        assert len(times(Path(f"got-{name}"))) == 3
    assert Path(f"got-{name}").stat().st_size


@POSIX
@pytest.mark.parametrize(
    ("command", "head"),
    [
        ("render p.jsonl clip.mp4 --out", b"ftypisom"),
        ("render p.jsonl clip.mp4 --background transparent --out", b"ftypqt"),
        (f"image a.png {' '.join(TINY)} --out", b"\x89PNG"),
        ("convert p.jsonl --format npz", b"PK"),
        ("eval --gt gt.json --predictions rows.json --json", b'{"metric": "coco"'),
        ("eval --gt gt.json --predictions rows.json --save", b'[{"'),
    ],
)
def test_outputs_go_into_descriptors_and_devices_without_a_suffix(work: Path, command: str, head: bytes) -> None:
    Path("gt.json").write_text(json.dumps(ONE_PERSON))
    Path("rows.json").write_text(json.dumps([{**ONE_PERSON["annotations"][0], "score": 1.0}]))
    before = sorted(work.iterdir())
    for name in ("/dev/null", "descriptor"):
        with tempfile.TemporaryFile() as got:
            succeeded(hrpose(*command.split(), name.replace("descriptor", f"/dev/fd/{got.fileno()}")))
            got.seek(0)
            assert head in got.read()[:20] or name == "/dev/null"
    assert Path("/dev/null").is_char_device()
    assert sorted(work.iterdir()) == before


@POSIX
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("image a.png a.jpg --out /dev/null", "--out /dev/null names one file, but there are 2 images"),
        ("image a.png --heatmaps --out /dev/null", "--out /dev/null takes one image, but --heatmaps writes more"),
        ("video clip.mp4 a.mp4 --out -", "--out - names one file, but there are 2 clips"),
        ("export net.safetensors --format openvino --out /dev/null", "/dev/null takes no file of openvino"),
        ("train --data gt.json --out /dev/null", "--out /dev/null is no folder"),
    ],
)
def test_what_becomes_several_files_needs_a_folder(work: Path, command: str, said: str) -> None:
    for name in ("a.jpg", "a.mp4"):
        Path(name).touch()
    assert said in wrong_usage(hrpose(*command.split()))


@POSIX
@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_poses_come_through_the_standard_input(work: Path, name: str) -> None:
    for command in (f"convert {name} .csv --from jsonl", f"render {name} clip.mp4 --format jsonl --out r.mp4"):
        run = subprocess.run([sys.executable, "-m", "hrpose_cli", *command.split()], input=Path("p.jsonl").read_bytes())
        assert run.returncode == 0
    convert = hrpose("convert", "p.jsonl", "q.csv")
    assert (convert.exit_code, Path("stdin.csv").read_bytes()) == (0, Path("q.csv").read_bytes())
    assert len(times(Path("r.mp4"))) == 3
    said = wrong_usage(hrpose("convert", "-", "x.csv", input=b"{}"))
    assert said.startswith("error: - has the suffix of no pose format")
    assert clean_failure(hrpose("convert", "-", "x.csv", "--from", "jsonl"), 1) == "error: the standard input is empty"


@POSIX
@pytest.mark.parametrize("command", ["convert p.jsonl -", f"image a.png --no-image --poses - {' '.join(TINY)}"])
def test_a_reader_that_has_gone_is_no_error(work: Path, command: str) -> None:
    end, other = os.pipe()
    os.close(end)
    run = subprocess.run([sys.executable, "-m", "hrpose_cli", *command.split()], stdout=other, stderr=subprocess.PIPE)
    os.close(other)
    assert (run.returncode, b"Traceback" in run.stderr) == (0, False), run.stderr


def test_a_suffix_names_a_file_like_the_clip_in_its_folder(work: Path) -> None:
    said = clean_failure(hrpose("video", "clip.mp4", "--no-video", "--poses", "out2/.jsonl", *TINY))
    assert "out2/clip.pose.jsonl cannot be written: there is no folder out2, make it or name another" in said
    Path("out2").mkdir()
    succeeded(hrpose("video", "clip.mp4", "--no-video", "--poses", "out2/.jsonl", *TINY))
    succeeded(hrpose("image", "a.png", "--no-image", "--poses", "out2/.csv", *TINY))
    succeeded(hrpose("convert", "p.jsonl", "out2/.csv"))
    succeeded(hrpose("render", "p.jsonl", "clip.mp4", "--out", "out2/.mkv"))
    names = ["clip.pose.jsonl", "clip.pose.mkv", "p.csv", "poses.csv"]
    assert sorted(path.name for path in Path("out2").iterdir()) == names
    assert "no folder out3" in clean_failure(hrpose("convert", "p.jsonl", "out3/.csv"))


@pytest.mark.parametrize("length", [232, 240, 251])
def test_long_names_are_one_line_before_any_net_is_loaded(work: Path, length: int) -> None:
    long, before = f"{'x' * (length - 4)}.mp4", {path.name for path in work.iterdir()}
    Path("clip.mp4").rename(long)
    options = (*TINY, "--weights", "missing.pth")
    said = clean_failure(hrpose("video", long, "--poses", ".jsonl", "--poses", "of/", *options))
    assert ("File name too long" in said) == (length + len(".pose.jsonl") - len(".mp4") > 255)
    assert {path.name for path in work.iterdir()} == {*before, long} - {"clip.mp4"}


def test_resume_of_complete_clips_needs_no_net(work: Path) -> None:
    command = ("video", "clip.mp4", "--poses", "c.jsonl", "--out", "c.mp4", *TINY)
    succeeded(hrpose(*command))
    before = Path("c.jsonl").read_bytes()
    result = hrpose(*command, "--resume")
    assert result.exit_code == 0
    assert result.stderr == "clip.mp4: already complete, 3 frames, c.mp4, c.jsonl\n"
    os.utime("net.safetensors", (2**32, 2**32))  # whether it is the same has to be looked at
    result = hrpose(*command, "--resume")
    assert "clip.mp4: already complete, 3 frames, c.mp4, c.jsonl" in result.stderr
    assert Path("c.jsonl").read_bytes() == before
    assert "another clip" in clean_failure(hrpose(*command, "--resume", "--no-track"))


@POSIX
@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("convert p.jsonl - > /dev/full", 1, "error: cannot write -: No space left on device"),
        ("convert p.jsonl - >&-", 1, "error: the standard output: Bad file descriptor"),
        ("convert --help > /dev/full", 1, "error: reading or writing failed: No space left on device"),
        ("weights list > /dev/full", 1, "error: reading or writing failed: No space left on device"),
        ("weights list >&-", 1, "error: reading or writing failed: Bad file descriptor"),
        ("convert p.jsonl x.csv --quiet <&- >&-", 0, ""),
    ],
)
def test_closed_and_full_streams_are_one_line(work: Path, shell: str, code: int, said: str) -> None:
    if "full" in shell and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    run = subprocess.run(["sh", "-c", f"{sys.executable} -m hrpose_cli {shell}"], stderr=subprocess.PIPE, text=True)
    assert (run.returncode, run.stderr.strip()) == (code, said)


@POSIX
def test_an_early_ctrl_c_is_silent() -> None:
    code = "import os, signal, hrpose_cli.__main__; os.kill(os.getpid(), signal.SIGINT); print('lives on')"
    reset = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {code}"
    run = subprocess.run([sys.executable, "-c", reset], capture_output=True)
    assert (run.returncode, run.stdout, run.stderr) == (130, b"", b"")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # of the tests
