from .api import PoseEstimator as PoseEstimator
from .poses import Poses as Poses

__version__: str
