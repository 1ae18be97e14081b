"""Which work request an error belongs to, and with what status it completes; all others are flushed.

A Terminate quotes the headers of the message that the peer refused (RFC 5040 §4.8). If the work request that sent it
has not completed yet, it fails with the status that the table gives for the Terminate's code, and only the others are
flushed. Sends and Writes have often completed by then, unless their completions are confirmed ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.ddp import MSN_MASK
from pyiwarp.errors import (
    InvalidMo,
    MalformedMessage,
    MessageTooLong,
    MisplacedResponse,
    ProtocolViolation,
    Term,
    TerminatedByPeer,
)
from pyiwarp.fastwire import READ_REQUEST_SIZE, TAGGED, TAGGED_SIZE, UNTAGGED_SIZE
from pyiwarp.queues.request_kinds import Posted
from pyiwarp.queues.work import Status, WorkOpcode

__all__ = ["STATUSES", "is_too_long", "refused_request", "status_of", "wrong_answer"]

_ON_SEND_QUEUE: Final = frozenset({WorkOpcode.SEND, WorkOpcode.IMMEDIATE})

STATUSES: Final[Mapping[Term, Status]] = {
    Term(0, 0, 0x00): Status.REM_OP_ERR,
    Term(0, 1, 0x00): Status.REM_ACCESS_ERR,
    Term(0, 1, 0x01): Status.REM_ACCESS_ERR,
    Term(0, 1, 0x02): Status.REM_ACCESS_ERR,
    Term(0, 1, 0x03): Status.REM_ACCESS_ERR,
    Term(0, 1, 0x04): Status.REM_ACCESS_ERR,
    Term(0, 1, 0x09): Status.REM_ACCESS_ERR,
    Term(0, 1, 0xFF): Status.REM_ACCESS_ERR,
    Term(0, 2, 0x05): Status.REM_INV_REQ_ERR,
    Term(0, 2, 0x06): Status.REM_INV_REQ_ERR,
    Term(0, 2, 0x07): Status.REM_OP_ERR,
    Term(0, 2, 0x08): Status.REM_OP_ERR,
    Term(0, 2, 0x09): Status.REM_ACCESS_ERR,
    Term(0, 2, 0xFF): Status.REM_INV_REQ_ERR,
    Term(1, 0, 0x00): Status.REM_OP_ERR,
    Term(1, 1, 0x00): Status.REM_ACCESS_ERR,
    Term(1, 1, 0x01): Status.REM_ACCESS_ERR,
    Term(1, 1, 0x02): Status.REM_ACCESS_ERR,
    Term(1, 1, 0x03): Status.REM_ACCESS_ERR,
    Term(1, 1, 0x04): Status.REM_INV_REQ_ERR,
    Term(1, 2, 0x01): Status.REM_INV_REQ_ERR,
    Term(1, 2, 0x02): Status.REM_INV_REQ_ERR,
    Term(1, 2, 0x03): Status.REM_INV_REQ_ERR,
    Term(1, 2, 0x04): Status.REM_INV_REQ_ERR,
    Term(1, 2, 0x05): Status.REM_INV_REQ_ERR,
    Term(1, 2, 0x06): Status.REM_INV_REQ_ERR,
    Term(2, 0, 0x01): Status.FATAL_ERR,
    Term(2, 0, 0x02): Status.FATAL_ERR,
    Term(2, 0, 0x03): Status.FATAL_ERR,
    Term(2, 0, 0x04): Status.FATAL_ERR,
    Term(2, 0, 0x05): Status.FATAL_ERR,
    Term(2, 0, 0x06): Status.FATAL_ERR,
    Term(2, 0, 0x07): Status.FATAL_ERR,
}
"""The status of the work request that a Terminate is about. MPA's errors (layer 2) quote no header, but a peer may."""


def status_of(term: Term) -> Status:
    """The status for a Terminate; codes that are not registered give REM_OP_ERR."""
    return STATUSES.get(term, Status.REM_OP_ERR)


def refused_request(
    error: TerminatedByPeer,
    begun: Sequence[Posted],
    asked: Sequence[Posted | None],
    next_send_msn: int,
    next_read_msn: int,
) -> Posted | None:
    """The work request whose message the Terminate quotes, if it is one of `begun`.

    `begun` are those that are not complete and whose messages were given to the stream, in order; `asked` those of them
    that the peer answers, with None for a Read that no work request asked for. The MSNs are those of the messages that
    come next on QN 0 and QN 1: counting back from them finds the message that an MSN names.
    """
    from pyiwarp import wire

    octets = error.header
    if len(octets) >= TAGGED_SIZE and octets[0] & TAGGED:
        tagged = wire.TaggedHeader.parse(octets)
        return _writer(begun, tagged.stag, tagged.to) if tagged.rdmap.opcode == Opcode.WRITE else None
    if len(octets) < UNTAGGED_SIZE:
        return None
    untagged = wire.UntaggedHeader.parse(octets)
    if untagged.qn == QueueNumber.SEND:
        return _counted_back(
            [each for each in begun if each.kind.opcode in _ON_SEND_QUEUE], next_send_msn, untagged.msn
        )
    if untagged.qn != QueueNumber.READ_REQUEST:
        return None
    found = _counted_back(asked, next_read_msn, untagged.msn)
    quoted = octets[UNTAGGED_SIZE:]
    if found is not None and len(quoted) >= READ_REQUEST_SIZE:
        request = wire.ReadRequestHeader.parse(quoted)
        if request.source_stag != found.request.remote.stag:
            return None  # it is not the Request that had this number
    return found


def wrong_answer(violation: ProtocolViolation, begun: Sequence[Posted]) -> Posted | None:
    """The Read whose Response has not the octets that were asked for: the oldest one that waits."""
    short = isinstance(violation, MalformedMessage) and violation.args[0] == Opcode.READ_RESPONSE
    if short or isinstance(violation, MisplacedResponse):
        return next((each for each in begun if each.kind.answered and not each.done), None)
    return None


def is_too_long(violation: ProtocolViolation) -> bool:
    """Whether a Send did not fit the receive that it took."""
    return isinstance(violation, MessageTooLong | InvalidMo) and violation.args[0] == QueueNumber.SEND


def _writer(begun: Sequence[Posted], stag: int, to: int) -> Posted | None:
    """The first Write with octets there: of several that name the same place it is the one that arrives first.

    A Write without octets is named only if no other fits: a peer seldom checks memory that is not written.
    """
    empty: Posted | None = None
    for each in begun:
        if each.kind.opcode is WorkOpcode.WRITE and each.request.remote.stag == stag:
            start = each.request.remote.to
            if start <= to < start + each.nbytes:
                return each
            if start == to and not each.nbytes:
                empty = empty or each
    return empty


def _counted_back(messages: Sequence[Posted | None], next_msn: int, msn: int) -> Posted | None:
    """The message with `msn` of those whose last one came just before `next_msn`."""
    back = (next_msn - msn) & MSN_MASK
    return messages[-back] if 1 <= back <= len(messages) else None
