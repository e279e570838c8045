"""Descriptors for reflection, which finds methods and fields as well as types, and has their comments."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor

from ktaskd.api.comments import Commented


class Symbols:
    """The pool of all descriptors, which also knows the files of methods and fields.

    Protobuf's own pool does not find methods, so `grpcurl describe ktask.v1.Jobs.Run`
    would answer that there is no such symbol.
    """

    def __init__(self) -> None:
        """Wrap the default pool."""
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the pool."""
        return getattr(self._pool, name)

    def FindFileByName(self, name: str) -> Commented:
        """Return the file of this name; raises KeyError."""
        return Commented(self._pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> Commented:
        """Return the file that declares a symbol; raises KeyError."""
        return Commented(self._find(symbol))

    def _find(self, symbol: str) -> FileDescriptor:
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            parent, _, name = symbol.rpartition(".")
            file = self._pool.FindFileContainingSymbol(parent)
            if not _has_member(file, parent, name):
                raise
            return file


def _has_member(file: FileDescriptor, parent: str, name: str) -> bool:
    service = file.services_by_name.get(parent.rpartition(".")[2])
    if service is not None and service.full_name == parent:
        return name in service.methods_by_name
    message = file.message_types_by_name.get(parent.rpartition(".")[2])
    return message is not None and message.full_name == parent and name in message.fields_by_name
