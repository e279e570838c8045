"""Generate the Python code of the contract. The result is committed."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def generate(output: Path) -> None:
    """Write code and stubs of every .proto file below `output`.

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


def main() -> int:
    """Parse the command line and generate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "client", help="default: client")
    output: Path = parser.parse_args().output.resolve()
    generate(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
