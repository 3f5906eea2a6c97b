"""Networks in PyTorch: HRNet, Lite-HRNet, SimpleBaseline, Hourglass and HigherHRNet, with the keys of their authors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
