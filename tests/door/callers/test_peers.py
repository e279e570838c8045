from __future__ import annotations

import pytest

from ktaskd.door.callers.peers import PeerTable
from ktaskd.model.errors import IdentityMissing
from ktaskd.model.identity import Identity


def test_a_name_stands_for_its_identity_while_it_lives() -> None:
    peers = PeerTable()
    identities = [Identity(uid=uid, gid=1, pid=pid) for uid, pid in ((7, 1), (7, 2), (8, 3))]
    names = [peers.add(identity) for identity in identities]
    assert [peers.identity(f"unix-abstract:{name}") for name in names] == identities
    assert len(peers) == 3
    peers.remove(names[0])
    assert len(peers) == 2
    with pytest.raises(IdentityMissing):
        peers.identity(f"unix-abstract:{names[0]}")


@pytest.mark.parametrize("peer", ["unix:", "", "unix-abstract:", "unix-abstract:guess", "ipv4:127.0.0.1:1"])
def test_no_other_peer_is_anybody(peer: str) -> None:
    peers = PeerTable()
    peers.add(Identity(uid=0, gid=0, pid=1))
    with pytest.raises(IdentityMissing):
        peers.identity(peer)


def test_a_bare_name_is_nobody() -> None:
    peers = PeerTable()
    name = peers.add(Identity(uid=0, gid=0, pid=1))
    with pytest.raises(IdentityMissing):
        peers.identity(name)


def test_names_hold_128_random_bits() -> None:
    peers = PeerTable()
    names = {peers.add(Identity(uid=0, gid=0, pid=1)) for _ in range(1000)}
    assert len(names) == 1000
    assert all(len(bytes.fromhex(name)) == 16 for name in names)
