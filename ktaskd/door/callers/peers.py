"""Which identity is behind which name of a relay's socket."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from ktaskd.model.errors import IdentityMissing
from ktaskd.model.identity import Command, Identity

_PREFIX = "unix-abstract:"
"""How grpc's context.peer() begins for a peer that is bound to an abstract name."""

log = logging.getLogger(__name__)


def _as_it_is(identity: Identity) -> Identity:
    return identity


def _not_known(_: Identity) -> Command:
    return Command()


class PeerTable:
    """Identities of living connections, by random name.

    A name is no secret, since everybody can read it in /proc/net/unix. It proves who
    calls because only the daemon's uid reaches the socket that names are used
    on, and a name that is bound cannot be bound again.

    Args:
        describer: returns an identity with more known facts about the caller; when it
            raises, the caller is served without them.
        command_of: returns the command line of a caller's process, which may be read a moment later.
    """

    def __init__(
        self,
        describer: Callable[[Identity], Identity] = _as_it_is,
        command_of: Callable[[Identity], Command] = _not_known,
    ) -> None:
        """Start empty."""
        self._identities: dict[str, Identity] = {}
        self._describer = describer
        self._command_of = command_of
        self.on_call: Callable[[str], None] = lambda _: None
        """Called with the name of a connection when a handler begins with one of its calls."""
        self.on_taken: Callable[[str, int], None] = lambda _, __: None
        """Called with the name and the bytes when a handler has taken over a request."""

        self.on_reading: Callable[[str], AbstractAsyncContextManager[None] | None] = lambda _: None
        """Called with the name; returns a context in which a handler reads its request, or None."""

    def __len__(self) -> int:
        """Living connections of all uids."""
        return len(self._identities)

    def add(self, identity: Identity) -> str:
        """Remember `identity` under a fresh name of 128 random bits."""
        name = secrets.token_hex(16)
        self._identities[name] = identity
        return name

    def describe(self, name: str) -> None:
        """Look up more about who is behind a name. Credentials and account stay as they were."""
        identity = self._identities[name]
        uid, gid, pid, pidfd = identity.uid, identity.gid, identity.pid, identity.pidfd
        command = self._command_of(identity)
        identity = self._identities[name] = replace(identity, command=command)
        try:
            # The kernel has named the caller, and no description changes that.
            described = self._describer(identity)
            self._identities[name] = replace(
                described,
                uid=uid,
                gid=gid,
                pid=pid,
                pidfd=pidfd,
                account=identity.account,
                command=command,
            )
        except Exception:
            log.exception("describe_failed pid=%d", pid)

    def remove(self, name: str) -> None:
        """Forget a name; from now on calls in that name are refused."""
        del self._identities[name]

    def identity(self, peer: str) -> Identity:
        """Return who calls. Ask once for each call, when its handler begins.

        Args:
            peer: the value of grpc's context.peer().
        Raises:
            IdentityMissing: the call did not come through a living relay.
        """
        name = peer.removeprefix(_PREFIX)
        identity = self._identities.get(name) if name != peer else None
        if identity is None:
            raise IdentityMissing("the call did not come through the daemon's public socket")
        self.on_call(name)
        return identity

    def reading(self, peer: str) -> AbstractAsyncContextManager[None] | None:
        """Return a context in which a handler reads the request of a call; entering it may wait."""
        return self.on_reading(peer.removeprefix(_PREFIX))

    def taken(self, peer: str, size: int) -> None:
        """Note that a handler has taken over the request of a call, so the relay stops counting it."""
        self.on_taken(peer.removeprefix(_PREFIX), size)
