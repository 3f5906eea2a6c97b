"""Write facts into the metadata of a safetensors file. Its tensors stay as they are, byte by byte.

    python benchmarks/record.py weights/person-yolo11n.safetensors 'box_ap={"openvino cpu bf16": 0.5186}'

An int8 net beside it, which names the file that it was made of by its SHA-256, follows.
"""

import argparse
import json
from pathlib import Path

from hrpose_cli.files import sha256_file
from hrpose_cli.outputs import atomic_write


def record(path: Path, facts: dict[str, str]) -> None:
    """Add `facts` to the metadata of the safetensors file `path`."""
    before = sha256_file(path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = header.get("__metadata__", {}) | facts
    written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    written += b" " * (-len(written) % 8)  # tensors begin at a multiple of 8
    with atomic_write(path) as temporary:
        temporary.write_bytes(len(written).to_bytes(8, "little") + written + content[8 + size :])
    quantized = path.with_suffix(".int8.xml")
    if quantized.is_file():
        text = quantized.read_text().replace(before, sha256_file(path))
        with atomic_write(quantized) as temporary:
            temporary.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("facts", nargs="+", help="KEY=VALUE")
    arguments = parser.parse_args()
    record(arguments.file, dict(fact.split("=", 1) for fact in arguments.facts))


if __name__ == "__main__":
    main()
