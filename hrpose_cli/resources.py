"""Where the files that the package ships lie: inside the wheel, or beside it in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def shipped(folder: str) -> Path:
    """The folder `weights` or `samples`; an installed package keeps both under `data/`."""
    inside = PACKAGE / "data" / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder
