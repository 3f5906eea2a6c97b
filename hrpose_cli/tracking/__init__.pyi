from .smoothing import FILTER_DEFAULTS as FILTER_DEFAULTS
from .smoothing import OneEuro as OneEuro
from .smoothing import check_cutoff as check_cutoff
from .smoothing import interpolate_poses as interpolate_poses
from .smoothing import smooth_butterworth as smooth_butterworth
from .tracker import SEEN_SCORE as SEEN_SCORE
from .tracker import Tracker as Tracker
from .tracker import boxes_from_keypoints as boxes_from_keypoints
