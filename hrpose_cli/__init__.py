"""People in pictures and video, and a skeleton for each."""

__version__ = "0.1.0"
