"""The filter of system calls, run step by step as the kernel would."""

from __future__ import annotations

import errno
import platform
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.libc import NUMBERS_OF
from ktaskd.host.processes.confine import ARCHITECTURES, REFUSED, make_filter
from tests.host.ownprocess import in_own_process

ALLOW = "allow"

X86_64 = {
    "socket": 41,
    "ptrace": 101,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "io_uring_setup": 425,
    "pidfd_getfd": 438,
}
GENERIC = {
    "socket": 198,
    "ptrace": 117,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "io_uring_setup": 425,
    "pidfd_getfd": 438,
}
"""Written again from the kernel's tables, and not from the code."""


def answer(program: bytes, architecture: int, number: int) -> str:
    """Run the filter on a call as the kernel would. Source: Documentation/networking/filter.rst"""
    data = struct.pack("II", number, architecture) + bytes(56)
    accumulator = at = 0
    for _ in range(1000):
        code, yes, no, k = struct.unpack_from("HBBI", program, 8 * at)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("I", data, k)
        elif code == 0x15:
            at += yes if accumulator == k else no
        elif code == 0x35:
            at += yes if accumulator >= k else no
        elif code == 0x06:
            return ALLOW if k == 0x7FFF0000 else errno.errorcode[k & 0xFFFF] if k >> 16 == 5 else hex(k)
    raise AssertionError("it never ends")


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_filter_when_a_call_is_refused_then_eperm_and_its_neighbours_pass(machine: str) -> None:
    program, architecture = make_filter(machine), ARCHITECTURES[machine]
    wanted = X86_64 if machine == "x86_64" else GENERIC
    assert set(wanted) == set(REFUSED)
    refused = {n for n in range(600) if answer(program, architecture, n) == "EPERM"}
    assert refused == set(wanted.values())
    assert all(answer(program, architecture, n) == ALLOW for n in set(range(600)) - refused)


@pytest.mark.parametrize("machine", ARCHITECTURES)
@given(number=st.integers(0, 2**32 - 1), architecture=st.integers(0, 2**32 - 1))
def test_filter_when_of_another_architecture_then_no_call_at_all(
    machine: str, number: int, architecture: int
) -> None:
    own = ARCHITECTURES[machine]
    if architecture != own:
        assert answer(make_filter(machine), architecture, number) == "ENOSYS"
    if number >= 1 << 30:  # the numbers of x32
        assert answer(make_filter(machine), own, number) == "ENOSYS"


def test_filter_when_the_machine_is_not_known_then_an_error() -> None:
    with pytest.raises(OSError, match="sparc64"):
        make_filter("sparc64")


def test_numbers_when_the_kernels_headers_are_here_then_the_same() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if platform.machine() != "x86_64" or not header.exists():
        return
    lines = [line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_")]
    known = {words[1].removeprefix("__NR_"): int(words[2]) for words in lines}
    ours = NUMBERS_OF["x86_64"]
    assert {name: known[name] for name in ours if name in known} == {n: ours[n] for n in ours if n in known}


def test_network_when_given_up_without_no_new_privileges_then_an_error_without_rights() -> None:
    code = (
        "from ktaskd.host.processes import confine\n"
        "if os.geteuid() == 0:\n"
        "    os.setresuid(65534, 65534, 65534)\n"
        "try:\n"
        "    confine.give_up_network()\n"
        "except OSError as error:\n"
        "    print(error.errno in (1, 13, 38), confine.has_network())\n"
        "process.apply_no_new_privileges()\n"
        "confine.give_up_network()\n"
        "print(confine.has_network())\n"
    )
    assert in_own_process(code) == ["True True", "False"]
