"""From boxes to poses: crops, heatmaps and their decoding, top-down and bottom-up estimators."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
