"""The contract between engine and drivers, as both sides see it.

MPA startup and queue pairs are pumps; the asyncio driver and the polling driver drive them. MPA startup hands a
connection over by exchanging one pump for the other.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

from pyiwarp.buffers import Octets

__all__ = [
    "HELD",
    "NOT_NOW",
    "SHARED_TURN_FPDUS",
    "STEADY_LOOK",
    "TAKEN",
    "TURN_FPDUS",
    "Driver",
    "Pump",
    "TimeLimit",
    "address_word",
    "no_callback",
    "no_writer",
    "reason_of",
    "socket_name",
]


class TimeLimit(NamedTuple):
    """How long the present wait may last, in seconds, and for what; a changed `progress` begins a new wait."""

    waiting_for: str
    seconds: float
    progress: int = 0


STEADY_LOOK: Final = TimeLimit("a look at a steady stream", 5.0)
"""How often a driver asks for the time limit of a stream that is `steady`: seldom, so that bulk data pays nothing."""


TURN_FPDUS: Final = 512
"""FPDUs of the fast way that one stream processes in one turn at most: others have their share (RFC 5042 §6.4.4)."""

SHARED_TURN_FPDUS: Final = 64
"""As many in a turn while other connections have something to do: about what one ordinary message takes."""

NOT_NOW: Final = 0
"""What `Driver.write_small` has done: nothing. The octets go the plain way, by `kick` and `Pump.next_iov`."""

TAKEN: Final = 1
"""The kernel holds all the octets."""

HELD: Final = 2
"""The driver holds some of the octets; it calls `Pump.flushed` when the kernel has them."""


class Pump(Protocol):
    """What a driver drives; nothing here blocks, sleeps or reads a clock."""

    def receive_view(self) -> memoryview:
        """Where the next octets shall land; never empty."""

    def received(self, nbytes: int) -> bool:
        """`nbytes` octets now lie in that view.

        Returns True if a steady pump is as it was: of these octets themselves there is nothing to write, and nothing to
        settle. Callbacks that change something call `Driver.kick`.
        """

    def received_eof(self) -> None:
        """The peer closed its half."""

    def set_emss(self, emss: int) -> None:
        """TCP's segment size is `emss` octets now."""

    def resume(self) -> None:
        """Continue what waited inside the pump, such as a Send for which a receive was posted since."""

    def proceed(self, fpdus: int = TURN_FPDUS) -> None:
        """The next turn begins: continue with the input that the last one has left (`behind`).

        It ends after what takes as long as `fpdus` of the fast way.
        """

    def next_iov(self) -> list[Octets]:
        """Octets to write now; [] when there are none."""

    def flushed(self) -> None:
        """The kernel holds everything that `next_iov` gave."""

    def time_limit(self) -> TimeLimit | None:
        """How long the present wait may last; a changed answer begins a new wait."""

    def timed_out(self, limit: TimeLimit) -> None:
        """The wait that `limit` describes took too long."""

    def lost(self, cause: Exception | None) -> None:
        """TCP has ended; `cause` is None if both halves were closed."""

    @property
    def steady(self) -> bool:
        """Whether the driver only moves octets now: it reads, no end is near, and a look at the time limit each
        `STEADY_LOOK` is enough."""

    @property
    def behind(self) -> bool:
        """Whether input waits for the next turn: the driver lets others have theirs, then calls `proceed`."""

    @property
    def wants_input(self) -> bool:
        """Whether octets may be received now."""

    @property
    def output_ended(self) -> bool:
        """Whether nothing will be written any more."""

    @property
    def over(self) -> bool:
        """Whether the driver shall close the connection."""

    @property
    def broken(self) -> bool:
        """Whether the driver shall reset TCP: a FIN would look like a graceful end (RFC 5041 §6.2)."""


class Driver(Protocol):
    """What moves octets between TCP and a pump, as far as connection managers know it."""

    def kick(self) -> None:
        """There may be something to write."""

    def write_small(self, octets: bytes) -> int:
        """Write octets at once, past `Pump.next_iov`, if nothing else is being written; returns what was done of it.

        It is NOT_NOW, TAKEN or HELD. It never raises, and calls nothing of the pump but `steady`.
        """

    def write_pieces(self, pieces: list[Octets]) -> int:
        """As `write_small`, for pieces that are the caller's again when this returns: what the kernel does not take is
        copied. More of them may follow at once."""

    def exchange(self, pump: Pump) -> None:
        """Drive `pump` from now on."""

    def abort(self) -> None:
        """End TCP at once; what was not sent is lost."""

    @property
    def tcp_socket(self) -> Any:
        """The socket, for its options; None once TCP has ended."""

    def limit_silence(self, keepalive: float | None, user_timeout: float | None) -> None:
        """Let TCP find out that the peer is gone; see `Options`."""

    @property
    def left_behind(self) -> bool:
        """Whether this process is a forked child, and the connection is its parent's."""

    @property
    def peer_addr(self) -> tuple[Any, ...] | None:
        """The peer's address, as sockets give it; None if it was never known."""

    @property
    def local_addr(self) -> tuple[Any, ...] | None:
        """This side's address, as sockets give it."""

    @property
    def peername(self) -> str:
        """The peer's address, for messages."""

    @property
    def sockname(self) -> str:
        """This side's address, for messages."""


def socket_name(name: tuple[str, int] | tuple[str, int, int, int]) -> tuple[str, int]:
    """Host and port of a socket address; a link-local one keeps its scope, without which it says nothing (RFC 4007)."""
    host, port = name[:2]
    scope = name[3] if len(name) == 4 else 0
    return (f"{host}%{scope}" if scope and "%" not in host else host), port


def reason_of(error: Exception) -> str:
    """What an error says, without the number and the brackets that Python puts before the system's words."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def address_word(name: tuple[Any, ...] | None) -> str:
    """Host and port of one end as one string, from a socket address; "?" without one."""
    if name is None:
        return "?"
    host, port = socket_name(name)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def no_callback() -> None:
    """The value of a callback attribute that nobody has set."""


def no_writer(octets: bytes | list[Octets]) -> int:
    """The value of a `write_small` or `write_pieces` attribute that nobody has set."""
    return NOT_NOW
