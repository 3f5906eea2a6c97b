"""The command line: one command a file, and the options that they share."""

from hrpose_cli.cli.main import app

__all__ = ["app"]
