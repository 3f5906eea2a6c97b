"""Bring skeletons into hrpose_cli/skeletons.json: python make_skeletons.py FACTS.json.

FACTS: names, flip_pairs [left, right], limbs, upper, sigmas, notes and source by skeleton, as mmpose and the authors
of the data sets publish them. Skeletons that FACTS lacks stay as they are.
"""

import json
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "hrpose_cli" / "skeletons.json"
# Runs of keypoints: the part of the body that they belong to, and their number.
PARTS = {
    "wholebody": [["body", 17], ["feet", 6], ["face", 68], ["hands", 42]],
    "feet23": [["body", 17], ["feet", 6]],
    "halpe26": [["body", 20], ["feet", 6]],
    "halpe136": [["body", 20], ["feet", 6], ["face", 68], ["hands", 42]],
    "synthpose": [["body", 17], ["markers", 35]],
    "body25": [["body", 19], ["feet", 6]],
}
# Keypoints under their authors' names that other skeletons call otherwise.
MEANINGS = {
    "halpe26": {"head": "head_top", "hip": "mid_hip"},
    "halpe136": {"head": "head_top", "hip": "mid_hip"},
    "jhmdb": {"head": "middle_of_head"},
}
# Of two published sets, the one that is used.
SIGMAS_FROM = {
    "halpe26": "mmpose's halpe26.py; the Halpe authors' cocoeval.py has .080 for head, neck, hip and .089 for the feet",
    "halpe136": "the Halpe authors' cocoeval.py; mmpose's halpe26.py has others for head, neck, hip and feet",
}
# Sigmas of keypoints that have none published, by what their names end with.
CHOSEN = [
    (("elbow",), 0.072), (("wrist",), 0.062), (("knee",), 0.087), (("ankle", "meta", "toe", "calc", "heel"), 0.089),
    (("ASIS", "PSIS", "hip"), 0.107), (("sternum", "shoulder", "C7", "L2", "T11", "T6", "neck"), 0.079),
]  # fmt: skip


def entry(name: str, facts: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The entry of a skeleton."""
    upper = facts.get("upper") or [k for k, keypoint in enumerate(facts["names"]) if not is_leg(keypoint)]
    found = {
        "source": facts["source"],
        "sigmas_from": SIGMAS_FROM.get(name) or facts.get("sigmas_reason") or "the source",
        "parts": PARTS.get(name, [["body", len(facts["names"])]]),
        "meanings": MEANINGS.get(name, {}),
        "keypoints": facts["names"],
        "pairs": facts["flip_pairs"],
        "limbs": facts["limbs"],
        "upper": [facts["names"][k] for k in upper],
        "sigmas": facts["sigmas"] or [sigma(keypoint, known) for keypoint in facts["names"]],
    }
    return {key: value for key, value in found.items() if value}


def is_leg(keypoint: str) -> bool:
    return any(part in keypoint for part in ("hip", "knee", "ankle", "toe", "heel"))


def sigma(keypoint: str, known: dict[str, float]) -> float:
    """That of the same keypoint of WholeBody, or else a chosen one."""
    if keypoint in known:
        return known[keypoint]
    return next(value for ends, value in CHOSEN if keypoint.endswith(ends))


def lines(value: dict[str, Any]) -> str:
    """JSON with a line for each fact."""
    rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(fact)}" for key, fact in value.items())
    return "{\n" + rows + "\n }"


def main() -> None:
    facts, data = json.loads(Path(sys.argv[1]).read_text()), json.loads(DATA.read_text())
    known = dict(zip(facts["wholebody"]["names"], facts["wholebody"]["sigmas"], strict=True))
    data |= {name: entry(name, skeleton, known) for name, skeleton in facts.items()}
    DATA.write_text(
        "{\n" + ",\n".join(f" {json.dumps(name)}: {lines(value)}" for name, value in data.items()) + "\n}\n"
    )


if __name__ == "__main__":
    main()
