"""Generate the Python code of the contract. The result is committed."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

COMMENTS = "ktask/v1/comments.binpb"
"""The comments of the contract, below the directory of the code."""

REPOSITORY = Path(__file__).resolve().parent.parent


def generate(output: Path) -> None:
    """Write code and stubs of every .proto file, and their comments, below `output`.

    The same input gives the same bytes: the plugins come from this
    interpreter's environment, and the files are passed in order.

    Raises:
        subprocess.CalledProcessError: protoc failed; the reason is on stderr.
    """
    proto = REPOSITORY / "proto"
    binaries = Path(sys.executable).parent
    files = sorted(str(file.relative_to(proto)) for file in proto.rglob("*.proto"))
    outputs = [f"--{kind}_out={output}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{output}" for kind in ("mypy", "mypy_grpc")]
    plugins = [f"--plugin={name}={binaries / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto}", *plugins, *outputs, *files]
    subprocess.run(command, check=True, cwd=proto)
    with tempfile.TemporaryDirectory() as directory:
        described = Path(directory) / "described"
        words = ["--include_source_info", f"--descriptor_set_out={described}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto}", *words, *files]
        subprocess.run(command, check=True, cwd=proto)
        (output / COMMENTS).write_bytes(comments_of(described.read_bytes()))


def comments_of(described: bytes) -> bytes:
    """The comments of a FileDescriptorSet, and of each file otherwise only the name.

    protoc leaves comments out of the code that it generates, and the daemon adds them when a client such
    as grpcurl asks for the contract.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    comments = FileDescriptorSet()
    for file in FileDescriptorSet.FromString(described).file:
        kept = comments.file.add(name=file.name)
        for location in file.source_code_info.location:
            if location.leading_comments or location.trailing_comments or location.leading_detached_comments:
                kept.source_code_info.location.append(location)
    return comments.SerializeToString(deterministic=True)


def main() -> int:
    """Parse the command line and generate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "client", help="default: client")
    output: Path = parser.parse_args().output.resolve()
    generate(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
