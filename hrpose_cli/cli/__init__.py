"""The command line: one command per file; options are declared in hrpose_cli/spread.py."""

from hrpose_cli.cli.main import app

__all__ = ["app"]
