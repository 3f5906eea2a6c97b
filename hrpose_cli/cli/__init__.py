"""The command line: one command per file; shared options are declared in hrpose_cli/options.py."""

from hrpose_cli.cli.main import app

__all__ = ["app"]
