"""COCO JSON files, read and checked in one place: annotations, results, boxes and pose files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
