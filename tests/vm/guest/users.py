"""Users and programs that may connect."""

from __future__ import annotations

import json
import pwd
import subprocess
from pathlib import Path

from .kit import PATIENCE_S, SOCKET, check, require, run

GRPCURL = ("/vm/grpcurl", "-plaintext", "-unix")
FILE = Path("/srv/data")


def make_users() -> None:
    """Make alice, who is in the group, and bob; and a file for their jobs."""
    for name, more in (("alice", ("-G", "ktask")), ("bob", ())):
        if subprocess.run(["id", name], check=False, capture_output=True).returncode:
            run("useradd", "-m", *more, name)
    FILE.write_bytes(b"ktaskd" * 100_000)
    FILE.chmod(0o644)


def grpcurl(method: str, body: str = "", *, user: str = "", ok: bool = True) -> str:
    """Call a method with grpcurl and return its output."""
    data = ("-d", body) if body else ()
    return run(*GRPCURL, *data, str(SOCKET), *([method] if method else ["list"]), user=user, ok=ok)


@check
def health_when_asked_then_serving() -> str:
    """The standard health service answers."""
    printed = grpcurl("grpc.health.v1.Health/Check")
    require(json.loads(printed)["status"] == "SERVING", printed)
    return "SERVING"


@check
def grpcurl_when_run_by_root_and_by_a_user_then_it_works() -> str:
    """Use reflection, the status and jobs: root's by path, a user's by a handle from `ktask hold`."""
    make_users()
    for user in ("", "alice"):
        require("ktask.v1.Jobs" in grpcurl("list", user=user), "list: no ktask.v1.Jobs")
        require('"topology"' in grpcurl("ktask.v1.Control/GetStatus", user=user), "no status")
    spec = {"spec": {"function": "file.crc32", "sources": {"data": {"path": str(FILE)}}}}
    done = json.loads(grpcurl("ktask.v1.Jobs/Run", json.dumps(spec)))["job"]
    require(done["state"] == "JOB_STATE_SUCCEEDED", f"{done}")
    hold = subprocess.Popen(
        ["runuser", "-u", "alice", "--", "ktask", "--json", "hold", f"data={FILE}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert hold.stdout is not None
        text = hold.stdout.readline()
        while text.count("{") != text.count("}") or "{" not in text:
            text += hold.stdout.readline()
        handle = json.loads(text)["handles"]["data"]
        spec["spec"]["sources"] = {"data": {"handle": handle}}
        mine = json.loads(grpcurl("ktask.v1.Jobs/Run", json.dumps(spec), user="alice"))["job"]
    finally:
        hold.terminate()
        hold.wait(PATIENCE_S)
    require(mine["result"] == done["result"], f"{mine}")
    return f"crc32 {int(done['result']['crc32']):08x} twice"


@check
def user_when_not_in_the_group_then_refused_by_the_socket() -> str:
    """bob is not in the group ktask."""
    make_users()
    printed = run("ktask", "--socket", "/run/ktaskd", "status", user="bob", ok=False)
    require("ermission denied" in printed, printed)
    printed = grpcurl("list", user="bob", ok=False)
    require("permission denied" in printed.lower(), printed)
    return "permission denied"


@check
def path_when_the_daemon_may_not_read_it_then_the_error_names_ktask_hold() -> str:
    """The daemon opens an administrator's path with its own rights."""
    secret = Path("/srv/secret")
    secret.write_bytes(b"1234")
    secret.chmod(0o600)
    spec = {"spec": {"function": "file.crc32", "sources": {"data": {"path": str(secret)}}}}
    printed = grpcurl("ktask.v1.Jobs/Run", json.dumps(spec), ok=False)
    require("ktask hold" in printed and "/srv/secret" in printed, printed)
    require('"crc32"' in run("ktask", "--json", "run", "file.crc32", f"data={secret}"), "root itself cannot")
    return "refused, and says how"


PYTHON = "/usr/lib/ktaskd/bin/python"

OWN_CODE = """
import ktask, os
with ktask.Executor(2) as executor:
    print(executor.submit(lambda: os.getuid()).result())
"""

REFUSED_CODE = """
import ktask
with ktask.connect("/run/ktaskd") as client:
    try:
        client.run(lambda *_: None, ranges=[(0, 1)])
    except ktask.KtaskError as error:
        print(error.code)
"""


@check
def user_unit_when_a_user_starts_it_then_their_own_daemon_runs_jobs() -> str:
    """bob is refused by the system's daemon and has his own, started by `systemctl --user`."""
    make_users()
    uid = pwd.getpwnam("bob").pw_uid
    runtime = f"/run/user/{uid}"
    as_bob = ("env", "-u", "KTASKD_SOCKET", f"XDG_RUNTIME_DIR={runtime}")
    run("systemctl", "start", f"user@{uid}.service")
    try:
        run(*as_bob, "systemctl", "--user", "start", "ktaskd.service", user="bob")
        done = json.loads(run(*as_bob, "ktask", "--json", "run", "file.crc32", f"data={FILE}", user="bob"))
        require("crc32" in done.get("result", done), f"{done}")
        pid = int(run(*as_bob, "systemctl", "--user", "show", "-P", "MainPID", "ktaskd", user="bob"))
        require(Path(f"/proc/{pid}").stat().st_uid == uid, f"process {pid}: not bob's")
        said = run(*as_bob, PYTHON, "-c", OWN_CODE, user="bob")
        require(said.strip() == str(uid), f"code of his own: {said}")
        said = run(PYTHON, "-c", REFUSED_CODE, user="alice")
        require(said.strip() == "PERMISSION_DENIED", f"the system's daemon: {said}")
        run(*as_bob, "systemctl", "--user", "stop", "ktaskd.service", user="bob")
        require(not list(Path(runtime, "ktaskd").glob("*.sock")), "a socket is left")
    finally:
        run("systemctl", "stop", f"user@{uid}.service")
    return "started, ran a job and a call as bob, stopped; the system's runs no code of alice's"
