"""The six tests of perftest that are spoken here, and what tells one from the other."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["PerfTest"]


class PerfTest(StrEnum):
    """The six tests, by the names of perftest's programs without ib_."""

    WRITE_BW = "write_bw"
    READ_BW = "read_bw"
    SEND_BW = "send_bw"
    WRITE_LAT = "write_lat"
    READ_LAT = "read_lat"
    SEND_LAT = "send_lat"

    @property
    def caption(self) -> str:
        """What perftest calls it above the figures."""
        verb = "Send" if self.sends else "RDMA_Read" if self.reads else "RDMA_Write"
        return f"{verb} {'Latency' if self.is_latency else 'BW'} Test"

    @property
    def reads(self) -> bool:
        """Whether the client Reads."""
        return self in (PerfTest.READ_BW, PerfTest.READ_LAT)

    @property
    def sends(self) -> bool:
        """Whether receives are needed."""
        return self in (PerfTest.SEND_BW, PerfTest.SEND_LAT)

    @property
    def is_latency(self) -> bool:
        """Whether times are measured, one message after the other."""
        return self in (PerfTest.WRITE_LAT, PerfTest.READ_LAT, PerfTest.SEND_LAT)

    @property
    def key_exchanges(self) -> int:
        """How often the records are exchanged before the test begins, or before its first size is begun."""
        return 4 if self in (PerfTest.WRITE_LAT, PerfTest.READ_LAT) else 3
