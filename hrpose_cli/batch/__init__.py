"""Runs over many files: work units, their manifests, shards, and the engines that do the work."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
