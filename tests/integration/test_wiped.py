"""Two users of one daemon, whose jobs the same worker runs one after the other.

Guards: I8
"""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.integration.test_priority import workers
from tests.integration.test_users import OTHER, PRELUDE
from tests.support.real_daemon import connected, running, spec, state_name, write_config
from tests.support.remains import places_of
from tests.support.users import OtherUsers

pytestmark = pytest.mark.other_uid

HAND_OVER = """
import ktask
secret = words[0].encode() * 20_000
with ktask.connect(directory) as client, ktask.memory(len(secret)) as m, ktask.memory(len(secret)) as copy:
    m[:] = secret
    client.run('file.crc32', data=m)
    client.run('file.copy', src=m, dst=copy)
    print(json.dumps(copy[:] == secret), flush=True)
    sys.stdin.readline()
"""


def test_worker_when_the_next_job_is_another_users_then_nothing_of_the_first_is_in_it(
    reachable_dir: Path, run_as: OtherUsers
) -> None:
    config = write_config(
        reachable_dir / "ktaskd.toml", sockets={"mode": "0666"}, workers={"user": "nobody", "leads": 1}
    )
    place, secret = reachable_dir / "run", f"of X: {uuid.uuid4().hex}"
    with running(place, "--config", config) as daemon, connected(daemon.socket) as stubs:
        # Then there are leads only, and one at that.
        stubs.control.SetMode(control_pb2.SetModeRequest(mode=control_pb2.MODE_PAUSED))
        command = [str(run_as.interpreter), "-c", PRELUDE + HAND_OVER, str(place), secret]
        with run_as.start(OTHER, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            assert client.stdout.readline() == "true\n"
            # Its handles live, and what they are of is mapped.
            (lead,) = workers(stubs, control_pb2.WORKER_CLASS_LEAD)
            assert lead.chunks
            assert places_of(lead.pid, secret.encode())
            noop = spec("selftest.noop", ranges=[{"length": "1"}])
            assert state_name(stubs.jobs.Run(pb.RunRequest(spec=noop)).job) == "SUCCEEDED"
            (now,) = workers(stubs, control_pb2.WORKER_CLASS_LEAD)
            assert (now.pid, now.chunks) == (lead.pid, lead.chunks + 1)
            assert places_of(lead.pid, secret.encode()) == []
            assert "freed memory" in now.gave_up
            client.stdin.close()
