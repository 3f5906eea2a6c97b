"""People from frame to frame: track ids, smoothing and interpolation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
