"""A peer that may say anything, and what it plays with: the scene of the engine's tests."""

from __future__ import annotations

from typing import Any

import pytest

from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.queues.work import Read
from tests.harness import RawPeer, octets_of


class Stage:
    """A RawPeer and what it usually plays with: three regions with different rights, receives, a peer's memory."""

    def __init__(self, **peer: Any) -> None:
        self.peer = RawPeer(**peer)
        self.node = self.peer.node
        self.region = self.node.region(b"." * 64)
        self.read_only = self.node.region(b"r" * 64, Access.REMOTE_READ)
        self.write_only = self.node.region(b"w" * 64, Access.REMOTE_WRITE)
        self.foreign = self.node.context.alloc_pd().register(
            bytearray(b"f" * 64), Access.REMOTE_READ | Access.REMOTE_WRITE
        )
        self.receive = self.node.receive(40, "recv 1")
        self.node.receive(40, "recv 2")

    @property
    def error(self) -> Exception | None:
        return self.node.qp.error

    def memory(self) -> list[bytes]:
        return [octets_of(region) for region in (self.region, self.read_only, self.write_only, self.foreign)]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def asked(stage: Stage, nbytes: int = 8, **fields: Any) -> MemoryRegion:
    """A Read of this side's, on its way."""
    sink = stage.node.region(b"-" * nbytes, Access.LOCAL_WRITE)
    stage.node.post(Read(sink[:], RemoteRegion(0x1000, 0x77, nbytes), "read", **fields))
    stage.peer.hears()
    return sink
