"""The states of an iWARP queue pair and of TCP below it, and what moves them: tables that drawings are made from.

RFC 5040 §6.2 and RFC 5041 §6.2 say how a stream ends; the names are those of the verbs model.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["NEXT", "NEXT_TCP", "TCP_OVER", "QpInput", "QpState", "TcpInput", "TcpState"]


class QpState(Enum):
    """The states of an iWARP queue pair."""

    __hash__ = object.__hash__  # members are compared by identity; Python's own hashes their names

    IDLE = "idle"
    RTS = "ready to send"
    CLOSING = "closing"
    TERMINATE = "terminating"
    ERROR = "error"


class QpInput(Enum):
    """What moves a queue pair from state to state."""

    __hash__ = object.__hash__

    CONNECTED = "connected"
    CLOSE = "close"
    PEER_FIN = "peer closed its half"
    LOCAL_FAULT = "this side found an error"
    PEER_TERMINATE = "the peer terminated"
    LLP_CLOSED = "TCP closed"
    LLP_LOST = "TCP was lost"
    RESET = "reset"


def _next_states() -> dict[tuple[QpState, QpInput], QpState]:
    state, fed = QpState, QpInput
    table = {
        state.IDLE: {fed.CONNECTED: state.RTS, fed.CLOSE: state.IDLE, fed.RESET: state.IDLE},
        state.RTS: {
            fed.CLOSE: state.CLOSING,
            fed.PEER_FIN: state.CLOSING,
            fed.LOCAL_FAULT: state.TERMINATE,
            fed.PEER_TERMINATE: state.ERROR,
            fed.LLP_CLOSED: state.ERROR,
            fed.LLP_LOST: state.ERROR,
        },
        state.CLOSING: {
            fed.CLOSE: state.CLOSING,
            fed.PEER_FIN: state.CLOSING,
            fed.LOCAL_FAULT: state.TERMINATE,
            fed.PEER_TERMINATE: state.ERROR,
            fed.LLP_CLOSED: state.IDLE,
            fed.LLP_LOST: state.ERROR,
        },
        state.TERMINATE: {
            fed.CLOSE: state.TERMINATE,
            fed.PEER_FIN: state.TERMINATE,
            fed.LOCAL_FAULT: state.TERMINATE,
            fed.PEER_TERMINATE: state.TERMINATE,
            fed.LLP_CLOSED: state.ERROR,
            fed.LLP_LOST: state.ERROR,
        },
        state.ERROR: dict.fromkeys(fed, state.ERROR) | {fed.RESET: state.IDLE},
    }
    del table[state.ERROR][fed.CONNECTED]
    return {(start, cause): end for start, row in table.items() for cause, end in row.items()}


NEXT: Final = _next_states()
"""Every transition there is; a pair that is missing is a `WrongState`."""


class TcpState(Enum):
    """The TCP connection of a queue pair; it may end much later than the queue pair enters ERROR."""

    __hash__ = object.__hash__

    NONE = "no connection"
    SETTLING = "settling"  # established; this side holds back its first FPDU, as the peer's profile asks
    OPEN = "open"
    RESETTING = "resetting"  # given up without a Terminate: the driver shall reset it
    CLOSING = "closing"  # both sides know that the stream has ended: the driver shall close it
    ENDED = "ended"  # the driver has closed it


class TcpInput(Enum):
    """What moves TCP from state to state, as a queue pair sees it."""

    __hash__ = object.__hash__

    ESTABLISHED = "TCP established"
    SETTLED = "the peer has settled"
    CUT_OFF = "cut off without a Terminate"
    FINISHED = "both sides know that the stream has ended"
    LET_GO = "the driver closed TCP"
    RESET = "reset"


NEXT_TCP: Final = {
    (TcpState.NONE, TcpInput.ESTABLISHED): TcpState.SETTLING,
    (TcpState.NONE, TcpInput.RESET): TcpState.NONE,
    (TcpState.SETTLING, TcpInput.SETTLED): TcpState.OPEN,
    (TcpState.SETTLING, TcpInput.CUT_OFF): TcpState.RESETTING,
    (TcpState.SETTLING, TcpInput.FINISHED): TcpState.CLOSING,
    (TcpState.SETTLING, TcpInput.LET_GO): TcpState.ENDED,
    (TcpState.OPEN, TcpInput.CUT_OFF): TcpState.RESETTING,
    (TcpState.OPEN, TcpInput.FINISHED): TcpState.CLOSING,
    (TcpState.OPEN, TcpInput.LET_GO): TcpState.ENDED,
    (TcpState.RESETTING, TcpInput.LET_GO): TcpState.ENDED,
    (TcpState.CLOSING, TcpInput.LET_GO): TcpState.ENDED,
    (TcpState.ENDED, TcpInput.LET_GO): TcpState.ENDED,
    (TcpState.ENDED, TcpInput.CUT_OFF): TcpState.ENDED,
    (TcpState.ENDED, TcpInput.FINISHED): TcpState.ENDED,
    (TcpState.ENDED, TcpInput.ESTABLISHED): TcpState.SETTLING,
    (TcpState.ENDED, TcpInput.RESET): TcpState.NONE,
}
"""Every transition of TCP there is, as far as the queue pair is concerned; a pair that is missing is a `WrongState`."""

TCP_OVER: Final = frozenset({TcpState.RESETTING, TcpState.CLOSING, TcpState.ENDED})
"""The states in which nothing is sent and input is discarded."""
