"""Runs in the virtual machine as root: install the package, run the checks, and report the results."""

import json
import os
import subprocess
import sys
import traceback

PORT = "/dev/ttyS1"
VENV = "/usr/lib/ktaskd/bin/python"


def say(line: dict[str, object]) -> None:
    """Send one line of results through the serial port, the only connection to the host."""
    with open(PORT, "w", encoding="utf-8") as port:
        port.write(json.dumps(line) + "\n")


def install() -> bool:
    """Install the package as an administrator would."""
    done = subprocess.run(["dpkg", "-i", "/vm/ktaskd.deb"], capture_output=True, text=True)
    text = done.stdout + done.stderr
    say({"name": "install", "ok": done.returncode == 0, "figure": "dpkg -i", "detail": text})
    return not done.returncode


def main() -> None:
    """Run the checks or the script that the argument names."""
    subprocess.run(["stty", "-F", PORT, "raw", "-echo"], check=False)
    try:
        if not install():
            return
        if sys.argv[1] == "script":
            done = subprocess.run(["bash", "/vm/script"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            text = done.stdout.decode(errors="replace")
            say(
                {"name": "script", "ok": done.returncode == 0, "figure": str(done.returncode), "detail": text}
            )
        else:
            done = subprocess.run(
                [VENV, "-B", "-m", "guest.run", *sys.argv[1:]],
                env={**os.environ, "PYTHONPATH": "/vm", "KTASKD_SOCKET": "/run/ktaskd"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            if done.returncode:
                raise RuntimeError(done.stdout.decode(errors="replace"))
    except BaseException:
        say({"name": "guest", "ok": False, "figure": "", "detail": traceback.format_exc()})
    finally:
        say({"done": True})


main()
