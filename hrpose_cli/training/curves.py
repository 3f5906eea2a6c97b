"""The log of a training as a picture."""

from __future__ import annotations

import json
from pathlib import Path

from hrpose_cli.files import replacing


def draw_curves(log: Path, picture: Path) -> None:
    """Loss and average precision over the samples seen, as a PNG; nothing where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    left.plot([row["samples"] for row in rows], [row["loss"] for row in rows], color="tab:blue")
    left.set(xlabel="samples", ylabel="loss", yscale="log")
    measured = [row for row in rows if "AP" in row]
    if measured:
        right = left.twinx()
        right.plot([row["samples"] for row in measured], [row["AP"] for row in measured], "o-", color="tab:orange")
        right.set(ylabel="average precision")
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=120)
