"""`python -m hrpose_cli`: the command line."""

from hrpose_cli.cli import app

app(prog_name="hrpose")
