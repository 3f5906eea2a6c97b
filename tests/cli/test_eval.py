"""`hrpose eval` on a data set of two images."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.cli.runner import annotated_images, run, succeeded
from tests.conftest import bottom_up_file, clean_failure, wrong_usage


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return annotated_images(tmp_path, 3, 7)


@pytest.fixture
def hrpose(weights_file: Path) -> Any:
    return partial(run_eval, "--weights", weights_file, "--device", "cpu")


def run_eval(*arguments: object) -> Any:
    return run("eval", *arguments, env={"COLUMNS": "200"})


def rows(data: Path, **more: Any) -> list[dict[str, Any]]:
    truth = json.loads(data.read_text())["annotations"]
    return [{k: p[k] for k in ("image_id", "category_id", "keypoints", "bbox")} | {"score": 0.9} | more for p in truth]


def numbers(output: str) -> list[float]:
    return [float(n) for n in re.findall(r"(?<![\w.])-?\d\.\d{4}", output)]


def test_eval_predictions_equal_to_the_ground_truth_score_1(hrpose: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(rows(data)))
    result = succeeded(hrpose("--gt", data, "--predictions", tmp_path / "rows.json"))
    found = numbers(result.output)
    assert len(found) == 10
    assert set(found) == {1.0, -1.0} or set(found) == {1.0}


@pytest.mark.parametrize("protocol", [[], ["--no-rescore", "--nms", "none"], ["--nms", "soft", "--no-flip-test"]])
def test_eval_saves_what_eval_predictions_scores_the_same(
    hrpose: Any, data: Path, tmp_path: Path, protocol: list[str]
) -> None:
    result = succeeded(hrpose("--gt", data, "--save", tmp_path / "saved.json", *protocol))
    assert "boxes by the ground truth" in result.output
    assert len(numbers(result.output)) == 10
    saved = json.loads((tmp_path / "saved.json").read_text())
    assert [row["image_id"] for row in saved] == [3, 7]
    again = hrpose("--gt", data, "--predictions", tmp_path / "saved.json")
    assert numbers(again.output) == numbers(result.output)


def test_eval_boxes_limit_and_images(hrpose: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps(rows(data)))
    (data.parents[1] / "val2017").rename(tmp_path / "elsewhere")
    missing = hrpose("--gt", data, "--boxes", tmp_path / "boxes.json")
    assert missing.exit_code == 1
    assert "--images DIR" in missing.output
    result = succeeded(
        hrpose("--gt", data, "--boxes", tmp_path / "boxes.json", "--images", tmp_path / "elsewhere", "--limit", 1)
    )
    assert "on 1 images" in result.output


def test_eval_notes_files_that_lack_images(hrpose: Any, data: Path, tmp_path: Path) -> None:
    content = json.loads(data.read_text())
    seven = {"images": content["images"][1:], "annotations": []}  # where nobody is found
    renamed = [row | {"id": row["id"] + 90} for row in content["images"]]  # the same files under other ids
    path = tmp_path / "boxes.json"
    for known, note in (
        (rows(data), ""),
        (rows(data)[:1], "boxes.json: boxes for 1 of 2 images\n"),
        (content | {"annotations": []}, ""),
        (seven, "boxes.json: boxes for 1 of 2 images\n"),
        ({"images": renamed, "annotations": []}, ""),
    ):
        path.write_text(json.dumps(known))
        result = succeeded(hrpose("--gt", data, "--boxes", path))
        assert ("note: " in result.stderr) == bool(note)
        assert note in result.stderr
    other = [row | {"file_name": f"x{row['id']}.png"} for row in renamed]
    path.write_text(json.dumps({"images": other, "annotations": []}))
    said = "none of the 2 images, such as 000000000003.png, is in"
    assert said in clean_failure(hrpose("--gt", data, "--boxes", path))
    path.write_text(json.dumps(rows(data)[:1]))
    assert hrpose("--gt", data, "--predictions", path).stderr == "note: rows for 1 of 2 images\n"
    assert hrpose("--gt", data, "--predictions", path, "--limit", 1).stderr == ""


def test_eval_metric_bbox_scores_boxes(hrpose: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps(rows(data)))
    result = succeeded(hrpose("--gt", data, "--metric", "bbox", "--boxes", tmp_path / "boxes.json"))
    found = numbers(result.output)
    assert len(found) == 12
    assert found[0] == 1.0


def change(data: Path, name: str, key: str, value: object = None) -> Path:
    """A copy of the annotations in which every row of `name` lacks `key`, or has another value there."""
    content = json.loads(data.read_text())
    for row in content[name]:
        row.pop(key)
        if value is not None:
            row[key] = value
    path = data.with_name(f"{name}_{key}.json")
    path.write_text(json.dumps(content))
    return path


def test_eval_names_what_a_file_lacks(hrpose: Any, data: Path, tmp_path: Path) -> None:
    good, boxes_only, short = (tmp_path / f"{n}.json" for n in ("good", "boxes", "short"))
    good.write_text(json.dumps(rows(data)))
    boxes_only.write_text(json.dumps([{k: v for k, v in r.items() if k != "keypoints"} for r in rows(data)]))
    short.write_text(json.dumps(rows(data, keypoints=[1.0] * 30)))
    cases = [
        (["--gt", tmp_path / "no.json"], "cannot read"),
        (["--gt", data, "--predictions", data], "result file"),
        (["--gt", data, "--boxes", "no.json"], "cannot read"),
        (["--gt", data, "--predictions", boxes_only], "rows[0] has no keypoints"),
        (["--gt", data, "--predictions", short], "keypoints has 30 values, but must be 51 numbers"),
        (["--gt", change(data, "annotations", "area"), "--predictions", good], "area"),
        (["--gt", change(data, "images", "width")], "width"),
        (
            ["--gt", change(data, "annotations", "keypoints", [1] * 42)],
            "has 14 keypoints, and not the 17 measured: use --metric crowdpose",
        ),
    ]
    for arguments, message in cases:
        assert message in clean_failure(hrpose(*arguments)), arguments
    bare = change(data, "annotations", "keypoints")
    assert "nobody has labelled keypoints and an area" in clean_failure(hrpose("--gt", bare, "--predictions", good))
    assert "name a .json file" in wrong_usage(hrpose("--gt", data, "--predictions", good, "--save", "x.csv"))
    assert "--boxes detector" in wrong_usage(hrpose("--gt", data, "--metric", "bbox", "--boxes", "gt"))


def test_eval_ablation_prints_one_table(hrpose: Any, data: Path, weights_file: Path) -> None:
    result = succeeded(hrpose("--gt", data, "--ablation", "decode", "--weights", weights_file))
    titles = [line for line in result.output.splitlines() if "decoding" in line]
    assert [re.search(r"\w+ decoding", line)[0] for line in titles] == 2 * [
        "argmax decoding", "quarter decoding", "dark decoding"
    ]  # fmt: skip
    assert len(numbers(result.output)) == 6 * 10
    single = hrpose("--gt", data, "--decode", "quarter")
    assert numbers(single.output) == numbers(result.output)[10:20]
    assert "several runs" in wrong_usage(hrpose("--gt", data, "--ablation", "decode", "--save", "x.json"))


@pytest.fixture
def mpii(tmp_path: Path) -> Path:
    """Two people of one image, laid out as the HRNet authors lay out MPII."""
    (tmp_path / "annot").mkdir()
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (120, 100, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    people = [{"image": "a.png", "center": [40 + i, 50], "scale": 0.4} for i in range(2)]
    heads = np.array([[[30, 30], [10, 10]], [[40, 40], [20, 20]]])  # (corners, xy, people)
    truth = {
        "pos_gt_src": keypoints(2).transpose(1, 2, 0) + 1,
        "jnt_missing": np.zeros((16, 2)),
        "headboxes_src": heads,
    }
    savemat(tmp_path / "annot" / "gt_valid.mat", truth)
    path = tmp_path / "annot" / "valid.json"
    path.write_text(json.dumps(people))
    return path


def keypoints(people: int) -> Any:
    """(N, 16, 2) px from 0."""
    return np.random.default_rng(1).uniform(20, 80, (people, 16, 2))


def test_eval_metric_pckh_scores_files(hrpose: Any, mpii: Path, tmp_path: Path) -> None:
    savemat(tmp_path / "pred.mat", {"preds": keypoints(2) + 1})
    flat = np.concatenate([keypoints(2), np.ones((2, 16, 1))], axis=2).reshape(2, -1)
    listed = [{"image_id": i, "keypoints": row.tolist(), "score": 1} for i, row in enumerate(flat)]
    (tmp_path / "rows.json").write_text(json.dumps(listed))
    for name in ("pred.mat", "rows.json"):
        result = succeeded(hrpose("--gt", mpii, "--metric", "pckh", "--predictions", tmp_path / name))
        assert "2 people" in result.output
        assert "PCKh@0.11, which the HRNet and DARK papers call @0.1" in result.output
        assert numbers(result.output) == [1.0] * 24


def test_eval_metric_pckh_runs_the_net(mpii: Path, net: Any, tmp_path: Path) -> None:
    from hrpose_cli.models.find import save_weights
    from hrpose_cli.nets.hrnet import HRNet, NetConfig
    from tests.conftest import TINY, spec
    from tests.reference import rule

    config = TINY | {"joints": 16}
    tiny = HRNet(NetConfig(**config)).eval()
    tiny.load_state_dict(rule.state_dict(tiny))
    save_weights(tiny, replace(spec(), net=config, skeleton="mpii", input_size=(64, 64)), tmp_path / "mpii.safetensors")
    common = ["--gt", mpii, "--metric", "pckh", "--device", "cpu", "--save", tmp_path / "out.json"]
    succeeded(run_eval(*common, "--weights", tmp_path / "mpii.safetensors"))
    saved = json.loads((tmp_path / "out.json").read_text())
    assert [(row["image_id"], len(row["keypoints"])) for row in saved] == [(0, 48), (1, 48)]
    assert saved[1]["bbox"] == [0, 15, 80, 80]  # a square of 200 * 0.4 px, 15 * 0.4 px further down, from 0


def test_eval_runs_a_bottom_up_net(data: Path, tmp_path: Path) -> None:
    weights, saved = bottom_up_file(tmp_path, "coco"), tmp_path / "saved.json"
    command = ["--gt", data, "--weights", weights, "--device", "cpu"]
    result = succeeded(run_eval(*command, "--scales", "1,2", "--save", saved))
    for said in ("bottom-up at scales 1, 2", "quarter decoding", "flip test on", "OKS-NMS none"):
        assert said in result.output
    assert len(numbers(result.output)) == 10
    assert {row["image_id"] for row in json.loads(saved.read_text())} == {3, 7}
    table = run_eval(*command, "--ablation", "decode")
    assert len(numbers(table.output)) == 3 * 10, table.output


def test_eval_metric_pckh_refuses_a_bottom_up_net(mpii: Path, tmp_path: Path) -> None:
    result = run_eval("--gt", mpii, "--metric", "pckh", "--weights", bottom_up_file(tmp_path, "mpii"))
    said = "whole-mpii finds people itself, but PCKh measures the people of MPII's file: use --weights"
    assert said in clean_failure(result)


def crowd(data: Path) -> Path:
    """The two images with 14 keypoints and a crowdIndex, but without areas."""
    content = json.loads(data.read_text())
    for image in content["images"]:
        image["crowdIndex"] = 0.1 * image["id"]
    for row in content["annotations"]:
        row["keypoints"] = row["keypoints"][:42]
        del row["area"]
    path = data.with_name("crowdpose_val2017.json")
    path.write_text(json.dumps(content))
    return path


def test_eval_metric_crowdpose_and_ochuman_score_files(hrpose: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text(json.dumps(rows(data)))
    (tmp_path / "crowd.json").write_text(json.dumps([r | {"keypoints": r["keypoints"][:42]} for r in rows(data)]))
    result = hrpose("--gt", crowd(data), "--metric", "crowdpose", "--predictions", tmp_path / "crowd.json")
    assert numbers(result.output) == [1.0] * 6 + [-1.0, 1.0, -1.0], result.output
    result = hrpose("--gt", data, "--metric", "ochuman", "--predictions", tmp_path / "coco.json")
    assert set(numbers(result.output)) == {1.0, -1.0}, result.output


def test_eval_metric_says_what_it_needs(hrpose: Any, data: Path, mpii: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "valid.json"
    alone.parent.mkdir()
    alone.write_text(mpii.read_text())
    cases = [
        ([data, "crowdpose"], "crowdIndex"),
        ([data, "pckh"], "no MPII annotation file"),
        ([mpii, "coco"], "no COCO annotation file"),
        ([mpii, "pckh"], "the weights give the keypoints of coco, PCKh measures MPII's: use --weights"),
        ([alone, "pckh"], "PCKh needs"),
        ([crowd(data), "crowdpose"], "17 keypoints"),
    ]
    for (gt, metric), message in cases:
        assert message in clean_failure(hrpose("--gt", gt, "--metric", metric)), metric
    assert "leave --boxes out" in wrong_usage(hrpose("--gt", mpii, "--metric", "pckh", "--boxes", "detector"))


def test_eval_measures_the_rest_where_images_are_missing(hrpose: Any, data: Path, tmp_path: Path) -> None:
    (data.parents[1] / "val2017" / "000000000003.png").unlink()
    result = hrpose("--gt", data, "--json", tmp_path / "m.json")
    assert result.exit_code == 3
    assert "error: 1 of 2 images are not in" in result.stderr
    assert "val2017: 000000000003.png\n" in result.stderr
    assert "coco on 1 images" in result.output
    (run,) = json.loads((tmp_path / "m.json").read_text())["runs"]
    assert (run["measured"], run["missing"]) == (1, 1)
    (data.parents[1] / "val2017" / "000000000007.png").write_bytes(b"no image")
    Image.new("RGB", (100, 120)).save(data.parents[1] / "val2017" / "000000000003.png")
    damaged = hrpose("--gt", data)
    assert damaged.exit_code == 3
    assert "000000000007.png is not an image" in damaged.stderr
    (data.parents[1] / "val2017" / "000000000003.png").write_bytes(b"")
    assert hrpose("--gt", data).exit_code == 1


def test_eval_notes_images_of_another_size_than_annotated(hrpose: Any, data: Path) -> None:
    content = json.loads(data.read_text())
    content["images"][0] |= {"width": 120, "height": 100}
    data.write_text(json.dumps(content))
    said = (
        "note: 1 of 2 images have another size than annotated: 000000000003.png is 100x120, but annotated as 120x100\n"
    )
    assert said in hrpose("--gt", data).stderr


def test_eval_json_has_the_numbers_of_every_run(hrpose: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(rows(data)))
    scored = json.loads(hrpose("--gt", data, "--predictions", tmp_path / "rows.json", "--json", "-").stdout)
    assert (scored["metric"], scored["annotations"]) == ("coco", str(data))
    assert {"hrpose", "numpy", "pycocotools"} <= scored["versions"].keys()
    assert scored["runs"][0]["numbers"]["AP"] == pytest.approx(1, abs=1e-9)
    table = hrpose("--gt", data, "--ablation", "decode", "--json", tmp_path / "m.json")
    found = json.loads((tmp_path / "m.json").read_text())["runs"]
    assert [run["info"]["options"]["decode"] for run in found] == ["argmax", "quarter", "dark"]
    assert [round(value, 4) for run in found for value in run["numbers"].values()] == numbers(table.output)
    assert found[0]["info"]["protocol"]["nms"] == "hard"
    assert "name a .json file" in wrong_usage(hrpose("--gt", data, "--json", "m.csv"))


def test_eval_saves_rows_with_the_ids_of_the_annotations(hrpose: Any, data: Path, tmp_path: Path) -> None:
    content = json.loads(data.read_text())
    for row, key in [
        *((row, "id") for row in content["images"]),
        *((row, "image_id") for row in content["annotations"]),
    ]:
        row[key] = f"img-{row[key]}"
    data.write_text(json.dumps(content))
    result = succeeded(hrpose("--gt", data, "--save", tmp_path / "saved.json"))
    assert [row["image_id"] for row in json.loads((tmp_path / "saved.json").read_text())] == ["img-3", "img-7"]
    again = hrpose("--gt", data, "--predictions", tmp_path / "saved.json")
    assert numbers(again.output) == numbers(result.output)


def test_eval_leaves_out_people_whose_annotated_box_gives_no_crop(hrpose: Any, data: Path, tmp_path: Path) -> None:
    content = json.loads(data.read_text())
    content["annotations"][0]["bbox"] = [300, 10, 80, 100]
    data.write_text(json.dumps(content))
    result = succeeded(hrpose("--gt", data, "--save", tmp_path / "saved.json"))
    assert "left out 1 people whose box covers nothing of their image (such as annotations[0])" in result.stderr
    assert [row["image_id"] for row in json.loads((tmp_path / "saved.json").read_text())] == [7]
    (tmp_path / "boxes.json").write_text(json.dumps(rows(data)))
    assert "left out 1 people" in hrpose("--gt", data, "--metric", "bbox", "--boxes", tmp_path / "boxes.json").stderr
    assert "whose box" not in hrpose("--gt", data, "--predictions", tmp_path / "boxes.json").stderr


@pytest.mark.parametrize("kind", ["turned", "fractions", "other"])
def test_eval_notes_predictions_that_are_near_nobody(hrpose: Any, data: Path, tmp_path: Path, kind: str) -> None:
    """Such as those of images that a phone stored on their side, which one side turns upright."""
    found = rows(data)
    for row in found:
        xyv = np.reshape(row["keypoints"], (17, 3))
        change = {"turned": (120 - xyv[:, 1], xyv[:, 0]), "fractions": xyv[:, :2].T / 120, "other": xyv[:, :2].T + 90}
        xyv[:, :2] = np.transpose(change[kind])
        row["keypoints"] = xyv.ravel().tolist()
    (tmp_path / "rows.json").write_text(json.dumps(found))
    content = json.loads(data.read_text())
    for person in content["annotations"]:
        person["keypoints"] = [v / 2 if k % 3 == 0 else v for k, v in enumerate(person["keypoints"])]
        person["area"] = 400
    data.write_text(json.dumps(content))
    result = hrpose("--gt", data, "--predictions", tmp_path / "rows.json")
    said = "note: in 2 of 2 images, such as 000000000003.png, no prediction is near an annotated person"
    assert said in result.stderr
    (tmp_path / "rows.json").write_text(json.dumps(rows(data)))
    assert hrpose("--gt", data, "--predictions", tmp_path / "rows.json").stderr == ""
    (tmp_path / "rows.json").write_text(json.dumps(rows(data) * 25))
    said = "note: left out 10 of 50 predictions: COCO measures the best 20 of an image"
    assert said in hrpose("--gt", data, "--predictions", tmp_path / "rows.json").stderr
    (tmp_path / "rows.json").write_text("[]")
    result = hrpose("--gt", data, "--predictions", tmp_path / "rows.json")
    assert (result.exit_code, result.stderr.count("note:"), numbers(result.output)[0]) == (0, 1, 0)
