"""Checkpoints as the authors and mmpose write them."""

from collections import defaultdict

import numpy as np
import torch
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

# What programs put around a state dict: dictionaries, and words before each key.
WRAPPERS = {
    **{
        name: (lambda s, name=name: {name: s, "epoch": 3})
        for name in ("model", "model_state_dict", "net", "state_dict")
    },
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "Lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "loops": {}, "hparams": {"lr": 0.1}},
    "DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "AveragedModel": lambda s: {f"module.{k}": v for k, v in s.items()} | {"n_averaged": torch.tensor(3)},
    "EMA keys": lambda s: {f"ema_{k}": v for k, v in s.items()},
    "EMA model": lambda s: {f"ema_model.{k}": v for k, v in s.items()},
    "own name": lambda s: {f"pose_net.{k}": v for k, v in s.items()},
    "loss beside": lambda s: {f"model.{k}": v for k, v in s.items()} | {"loss.weight": torch.ones(3)},
    "optimizer beside": lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "lr": 0.1}},
    "moments beside": lambda s: {"model": s, "moments": {k: {"exp_avg": v, "exp_avg_sq": v} for k, v in s.items()}},
}


def prefixed(state: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    return {(head if k.startswith("final_layer") else "backbone.") + k: v for k, v in state.items()}
