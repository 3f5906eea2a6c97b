from .api import PoseEstimator as PoseEstimator
from .api import video as video
from .poses import Poses as Poses

__version__: str
