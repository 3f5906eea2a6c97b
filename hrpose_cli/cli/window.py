"""A live view, where there is a display."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2

from hrpose_cli.errors import MediaError
from hrpose_cli.poses import Image
from hrpose_cli.stopping import StopFlag

_QUIT = (ord("q"), 27)  # 27 is Escape


class Window:
    """Shows RGB images as they come; q, Escape and closing it set the flag `stop`.

    All calls must come from the main thread, as OpenCV demands.
    """

    def __init__(self, title: str, stop: StopFlag) -> None:
        self.title, self.stop = title, stop
        # Without a display, or with one that does not answer, OpenCV does not raise: it ends the process.
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise MediaError("--show needs a display, and this session has none")
        probe = subprocess.run(
            [sys.executable, "-P", "-c", "import cv2; cv2.namedWindow('probe')"], capture_output=True
        )
        if probe.returncode:
            raise MediaError("--show cannot open a window: the display does not answer, or this OpenCV has no windows")
        cv2.namedWindow(title, cv2.WINDOW_NORMAL)

    def __call__(self, image: Image) -> None:
        cv2.imshow(self.title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        pressed = cv2.waitKey(1) & 0xFF
        if pressed in _QUIT or cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1:
            self.stop.set("quit")

    def close(self) -> None:
        cv2.destroyWindow(self.title)
