"""Attributes of the calling process."""

from __future__ import annotations

import resource

import pytest

from tests.host.ownprocess import in_own_process


def test_process_when_set_then_read_back() -> None:
    code = (
        "from pathlib import Path\n"
        "process.apply_limits()\n"
        "process.raise_oom_score(321)\n"
        "process.raise_oom_score(5)\n"
        "process.set_name('ktaskd-helper-of-node-0')\n"
        "process.apply_no_new_privileges()\n"
        "print(process.read_dumpable())\n"
        "process.apply_undumpable()\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(process.read_oom_score() >= 321, process.read_dumpable(), 'NoNewPrivs:\\t1' in status)\n"
        "print(Path('/proc/self/comm').read_text().strip())\n"
        "import resource\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), *resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert in_own_process(code) == ["True", "True False True", "ktaskd-helper-o", f"(0, 0) {hard} {hard}"]


def test_user_when_it_is_that_already_then_nothing_is_asked() -> None:
    code = "uid = os.getuid()\nprocess.apply_user(uid, -1)\nprint(os.getresuid() == (uid, uid, uid))\n"
    assert in_own_process(code) == ["True"]


@pytest.mark.other_uid
def test_user_when_changed_then_no_way_back() -> None:
    code = (
        "process.apply_user(65534, 65533)\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups())\n"
        "try:\n"
        "    process.apply_user(0, 0)\n"
        "except PermissionError:\n"
        "    print('refused')\n"
    )
    assert in_own_process(code) == ["(65534, 65534, 65534) (65533, 65533, 65533) [65533]", "refused"]


def test_data_limit_when_lifted_then_what_the_hard_one_is() -> None:
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 40))\n"
        "process.lift_data_limit()\n"
        "print(*resource.getrlimit(resource.RLIMIT_DATA))\n"
    )
    assert in_own_process(code) == [f"{1 << 40} {1 << 40}"]


def test_process_when_it_refuses_new_code_then_its_children_do_not() -> None:
    code = (
        "import mmap\n"
        "def can():\n"
        "    try:\n"
        "        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()\n"
        "    except PermissionError:\n"
        "        return False\n"
        "    return True\n"
        "print(can(), process.refuse_new_code(), flush=True)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    print(can(), flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(can())\n"
    )
    first, *after = in_own_process(code)
    if first == "True False":
        pytest.skip("needs PR_SET_MDWE with PR_MDWE_NO_INHERIT, of Linux 6.6")
    assert (first, after) == ("True True", ["True", "False"])
