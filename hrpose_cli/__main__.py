"""The command line: `hrpose`, and `python -m hrpose_cli`."""

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # Ctrl-C while all else is loaded
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def main() -> None:
    """Run the command that the arguments name."""
    from hrpose_cli.cli import app

    app(prog_name="hrpose")


if __name__ == "__main__":
    main()
