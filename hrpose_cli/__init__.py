"""People in pictures and video, and a skeleton for each."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hrpose_cli.api import PoseEstimator
    from hrpose_cli.poses import Poses

__version__ = "0.1.0"
__all__ = ["PoseEstimator", "Poses", "__version__"]

HOMES = {"PoseEstimator": "hrpose_cli.api", "Poses": "hrpose_cli.poses"}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: `hrpose --help` must not wait for torch."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(HOMES[name]), name)
