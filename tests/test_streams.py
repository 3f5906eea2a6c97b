import os
import subprocess
import sys
from pathlib import Path

import pytest

CLOSED = """
import os, sys
from hrpose_cli.streams import open_closed_streams
open_closed_streams()
with open(sys.argv[1], 'w') as file:
    file.write(f'{sys.stdin.read()}{file.fileno() > 2}')
    try:
        print(1, flush=True)
    except OSError:
        file.write('!')
os._exit(0)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_open_closed_streams_keeps_their_numbers_from_files(tmp_path: Path) -> None:
    shell = f'{sys.executable} -c "{CLOSED}" {tmp_path}/said <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell]).returncode == 0
    assert (tmp_path / "said").read_text() == "True!"
