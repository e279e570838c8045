"""The comments of the contract, which reflection adds to the descriptors of its files.

The code that protoc generates has no comments, and a pool would drop them. `make proto` writes them into
a file of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

_NAME = "comments.binpb"


@cache
def read_comments() -> dict[str, descriptor_pb2.SourceCodeInfo]:
    """Return the comments of each file by its name; none if they are not installed."""
    try:
        raw = (files("ktask.v1") / _NAME).read_bytes()
    except OSError:
        return {}
    return {one.name: one.source_code_info for one in descriptor_pb2.FileDescriptorSet.FromString(raw).file}


class Commented:
    """A file of a pool with its comments, as far as reflection uses one."""

    def __init__(self, file: FileDescriptor) -> None:
        """Wrap a file."""
        self._file = file
        self.name = file.name

    @property
    def dependencies(self) -> Iterable[Commented]:
        """The files that it imports."""
        return [Commented(file) for file in self._file.dependencies]

    def CopyToProto(self, proto: descriptor_pb2.FileDescriptorProto) -> None:
        """Copy all of it into an empty message."""
        self._file.CopyToProto(proto)
        comments = read_comments().get(self.name)
        if comments is not None:
            proto.source_code_info.CopyFrom(comments)
