"""Which identity is behind which name of a relay's socket."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from ktaskd.model.errors import IdentityMissing
from ktaskd.model.identity import Identity

_PREFIX = "unix-abstract:"
"""How grpc's context.peer() begins for a peer that is bound to an abstract name."""


class PeerTable:
    """Identities of living connections, by random name.

    A name is no secret, since all can read it in /proc/net/unix. It proves who
    calls because only the daemon's uid reaches the socket that names are used
    on, and a name that is bound cannot be bound again.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._identities: dict[str, Identity] = {}
        self.on_call: Callable[[str], None] = lambda _: None
        """Called with the name of a connection when a handler begins with a call of it."""
        self.on_taken: Callable[[str, int], None] = lambda _, __: None
        """Called with the name, and the bytes, when a handler has taken a request over."""

        self.on_reading: Callable[[str], AbstractAsyncContextManager[None] | None] = lambda _: None
        """The time in which a handler of the connection of this name reads its request; None: it is here."""

    def __len__(self) -> int:
        """Living connections of all uids."""
        return len(self._identities)

    def add(self, identity: Identity) -> str:
        """Remember `identity` under a fresh name of 128 random bits."""
        name = secrets.token_hex(16)
        self._identities[name] = identity
        return name

    def describe(self, name: str, identity: Identity) -> None:
        """More is known of who is behind a name; the uid stays the same."""
        self._identities[name] = identity

    def remove(self, name: str) -> None:
        """Forget a name; from now on calls in that name are refused."""
        del self._identities[name]

    def identity(self, peer: str) -> Identity:
        """Who calls; asked once for each call, when its handler begins.

        Args:
            peer: what grpc's context.peer() says.
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
        """The time in which a handler reads the request of a call; it may begin with a wait."""
        return self.on_reading(peer.removeprefix(_PREFIX))

    def taken(self, peer: str, size: int) -> None:
        """A handler has taken over the request of a call, which the relay need not count any more."""
        self.on_taken(peer.removeprefix(_PREFIX), size)
