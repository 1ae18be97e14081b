"""The states of an iWARP queue pair, and what moves it from one to another: a table that drawings are made from.

RFC 5040 §6.2 and RFC 5041 §6.2 say how a stream ends; the names are those of the verbs model.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["NEXT", "QpInput", "QpState"]


class QpState(Enum):
    """The states of an iWARP queue pair."""

    IDLE = "idle"
    RTS = "ready to send"
    CLOSING = "closing"
    TERMINATE = "terminating"
    ERROR = "error"


class QpInput(Enum):
    """What moves a queue pair from state to state."""

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
