"""Numbers computed with the authors' own code; README.md says how. Nothing here is ours."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent


@cache
def load(name: str) -> Any:
    """The arrays of `name`.npz."""
    return np.load(FOLDER / f"{name}.npz")
