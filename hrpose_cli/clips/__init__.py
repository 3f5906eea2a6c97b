"""A clip to files: estimated, tracked, drawn and written; resumed or rendered from saved poses."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
