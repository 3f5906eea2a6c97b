from .render import render_clip as render_clip
from .run import ClipOutputs as ClipOutputs
from .run import ClipSummary as ClipSummary
from .run import View as View
from .run import annotate_clip as annotate_clip
from .stages import describe_motion as describe_motion
from .stages import fill_skipped as fill_skipped
from .stages import follow_people as follow_people
