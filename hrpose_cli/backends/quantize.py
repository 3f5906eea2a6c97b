"""Nets in 8-bit integers for OpenVINO, after training: nncf measures the ranges on real crops."""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stdout
from functools import cache
from typing import Any

from hrpose_cli.backends.openvino import import_openvino
from hrpose_cli.errors import BackendError
from hrpose_cli.poses import Image

_FP32_OPERATIONS = ["Add", "Concat", "Interpolate"]  # types of operations


@cache
def import_nncf() -> Any:
    """The package nncf, silent, and without the package through which it would report to its makers."""
    import_openvino()  # keeps openvino_telemetry from being imported, here as well
    try:
        import nncf
    except ImportError as error:
        raise BackendError("int8 needs the package nncf: pip install 'hrpose[quantize]'") from error
    nncf.set_log_level(logging.ERROR)
    return nncf


def quantize_model(model: Any, crops: Image) -> Any:
    """OpenVINO's graph `model` with weights and activations of 8 bits, ranges measured on `crops` (N, h, w, 3).

    The last convolution stays as it is: its output is the heatmaps, whose flanks tell a keypoint's place
    to a fraction of a pixel. So do `_FP32_OPERATIONS`, where branches of unlike ranges meet.
    "mixed" gives activations a range that need not be symmetric about 0.
    """
    nncf = import_nncf()
    convolutions = [op.get_friendly_name() for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]
    with redirect_stdout(io.StringIO()):  # nncf draws progress bars
        return nncf.quantize(
            model,
            nncf.Dataset([crop[None] for crop in crops]),
            subset_size=len(crops),
            preset=nncf.QuantizationPreset.MIXED,
            # Not every net has all of them, which nncf would call an error.
            ignored_scope=nncf.IgnoredScope(names=convolutions[-1:], types=_FP32_OPERATIONS, validate=False),
        )
