"""Checkpoints as the authors and mmpose write them."""

from collections import defaultdict

import numpy as np
from torch import Tensor

STYLES = {
    "official": lambda s: s,
    "DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "mmpose 0.x": lambda s: {"meta": {}, "state_dict": prefixed(s, "keypoint_head.")},
    "mmpose 1.x": lambda s: {"meta": {}, "state_dict": prefixed(s, "head."), "message_hub": {}},
    "checkpoint": lambda s: {"epoch": 3, "state_dict": s, "optimizer": {}},
    "before batch counters": lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
    "half precision": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    # mmpose 1.x writes numpy arrays into its meta, HRNet's training a numpy score: torch refuses both
    "numpy beside": lambda s: {
        "meta": {"dataset_meta": {"sigmas": np.array([0.1]), "colors": {"a", "b"}, "hooks": defaultdict(int)}},
        "state_dict": prefixed(s, "head."),
        "perf": np.float64(0.7),
    },
}


def prefixed(state: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    return {(head if k.startswith("final_layer") else "backbone.") + k: v for k, v in state.items()}
