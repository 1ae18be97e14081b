"""Which exceptions a client and a server should catch, when they come, and what to do."""

from __future__ import annotations

from typing import Final, NamedTuple

BOTH: Final = ("client", "server")
CLIENT: Final = ("client",)


class Catch(NamedTuple):
    """A row of the table: exceptions, and whose program meets them."""

    names: tuple[str, ...]
    sides: tuple[str, ...]
    when: str
    remedy: str


CATCHES: Final = (
    Catch(
        ("OSError",),
        BOTH,
        "`connect`: the name is unknown, or no TCP connection; `listen`, `serve`: the address cannot be bound",
        "tell the user, or try again later",
    ),
    Catch(
        ("Rejected",),
        CLIENT,
        "the peer's program refused, or its server is full; `private_data` is what it said",
        "ask for something else, or later",
    ),
    Catch(
        ("StartupTimeout",),
        CLIENT,
        "TCP is there, and no MPA Reply came within `Options.timeout`",
        "is it an iWARP peer that listens there? Then try again",
    ),
    Catch(
        ("StartupError",),
        CLIENT,
        "what came is no MPA frame, or the two sides cannot agree; the class says on what",
        "change `Options`; the same again will fail again",
    ),
    Catch(
        ("Disconnected",),
        BOTH,
        "the peer has closed the connection, and all that it sent was received",
        "it is the end; `async for` and `for` end by themselves",
    ),
    Catch(
        ("ConnectionLost",),
        BOTH,
        "TCP was reset or lost, or the peer owed something for too long (`FpduTimeout`)",
        "what the peer did not answer may be lost: connect anew and ask for it again",
    ),
    Catch(
        ("MessageRefused",),
        BOTH,
        "`send_large`, `recv_large`: the message is larger than the receiver's `Options.max_message`",
        "the connection goes on: send less at once, or let the receiver take more",
    ),
    Catch(
        ("TerminatedByPeer",),
        BOTH,
        "the peer refused what this side sent; `term` says why: an STag, bounds, rights, a Send that was too long",
        "a fault of this program or of the peer's: log it; [what it means](errors.md)",
    ),
    Catch(
        ("ProtocolViolation",),
        BOTH,
        "the peer broke a rule of the RFCs and was told; the class says which",
        "a fault of the peer's: log it, and do not rely on what came last",
    ),
    Catch(
        ("WorkFailed",),
        BOTH,
        "a work request failed and the connection had no error of its own; `completion.status` says how",
        "as `TerminatedByPeer`",
    ),
    Catch(
        ("TimeoutError",),
        BOTH,
        "a `timeout=` of a blocking call, or `asyncio.timeout`, is over",
        "the work goes on and its memory stays pinned: wait again, or `abort`",
    ),
    Catch(
        ("Closed",),
        BOTH,
        "this side has closed the object meanwhile, in another task",
        "it is the end; `async for` and `for` end by themselves",
    ),
    Catch(
        ("UsageError",),
        BOTH,
        "the call is not allowed; nothing was sent, and nothing has changed",
        "mend the program; only `QueueFull` of verbs is worth catching: poll completions, then post again",
    ),
    Catch(
        ("RefusedByPeer",),
        CLIENT,
        "the file server refuses a name, a size, or all clients; the connection goes on",
        "tell the user",
    ),
    Catch(
        ("IwarpError",),
        BOTH,
        "any of these but `OSError` and `TimeoutError`",
        "the last clause of a `try`: the connection has ended",
    ),
)

CATCHING: Final = """A connection that has ended raises its cause at every call that waits, and `close_reason` keeps it.
A program that only wants to go on with the next connection catches `IwarpError` and `OSError`. A subclass is covered by
its row: `MalformedStartup` by `StartupError`, say; the [tree](#errors-pyiwarperrors) shows all.
"""

CATCHING_NOTES: Final = """`serve` catches for its handlers: an error that tells of the peer's end is logged at INFO,
any other with its traceback at ERROR, and neither reaches another connection. `asyncio.CancelledError` and
`KeyboardInterrupt` are for the program around: let them pass.
"""
