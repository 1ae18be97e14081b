"""Confirmed completions: a Write or Send completes when the peer is known to have processed it.

With the plain send queue they complete when TCP has them. An error that the peer finds later then ends the stream, but
the work request has completed already (RFC 5040 §5.5 rules 9 and 14). A Read tells more: the peer begins to answer it
only when everything before it was delivered (rules 12 and 17). So a zero-length Read goes behind the newest message,
and its answer confirms all that are before it. One such Read is under way at a time; what is posted meanwhile waits for
the next. A Read or Atomic of the program's own confirms as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyiwarp.engine.stream import Stream
from pyiwarp.queues.request_kinds import Posted
from pyiwarp.queues.sq import SendQueue
from pyiwarp.queues.work import SendRequest

__all__ = ["ConfirmingSendQueue"]


class _Confirmation:
    """The token of a Read whose answer confirms everything up to `last`."""

    __slots__ = ("last",)

    def __init__(self, last: Posted) -> None:
        self.last = last


class ConfirmingSendQueue(SendQueue):
    """A send queue whose requests complete when the peer has processed them."""

    __slots__ = ("_asked", "_confirmed", "_flushed_to_tcp")

    _asked: _Confirmation | None
    _confirmed: set[Posted]
    _flushed_to_tcp: set[Posted]

    def begin(self) -> None:
        """A new connection begins."""
        super().begin()
        self.may_post_fast = False
        self._asked = None
        self._confirmed = set()
        self._flushed_to_tcp = set()

    def post(self, stream: Stream, request: SendRequest) -> None:
        """As `SendQueue.post`; raises `BadWorkRequest` if ORD is 0: no Read could confirm anything."""
        self._check_answerable(stream)
        super().post(stream, request)

    def confirm(self, stream: Stream) -> None:
        """Ask the peer, behind the newest message, if that will not be confirmed otherwise."""
        begun = len(self._posted) - len(self._waiting)
        if self._asked is not None or not begun or stream.reads.full or stream.peer_closed:
            return
        last = self._posted[begun - 1]
        if last.kind.answered or last in self._confirmed:
            return
        self._asked = _Confirmation(last)
        stream.read_nothing(self._asked)

    def sent(self, tokens: Iterable[object]) -> None:
        """TCP has them; that alone does not complete them."""
        for posted in tokens:
            assert isinstance(posted, Posted)
            if posted in self._confirmed:
                self._confirmed.discard(posted)
                posted.done = True
            else:
                self._flushed_to_tcp.add(posted)
        self._complete()

    def answered(self, token: object) -> None:
        """Take an answer: the peer has processed everything before its Request (RDMAP-5040-5.5-07)."""
        if isinstance(token, _Confirmation):
            self._asked = None
            self._confirm_through(token.last)
            self._complete()
        else:
            assert isinstance(token, Posted)
            self._confirm_through(token)
            super().answered(token)

    def requests(self) -> Sequence[Posted | None]:
        """As `SendQueue.requests`, with None for the Read that confirms."""
        found: list[Posted | None] = []
        for posted in self.begun():
            if posted.kind.answered:
                found.append(posted)
            if self._asked is not None and posted is self._asked.last:
                found.append(None)
        return found

    def _confirm_through(self, last: Posted) -> None:
        for posted in self._posted:
            if not posted.kind.answered and not posted.done:
                if posted in self._flushed_to_tcp:
                    self._flushed_to_tcp.discard(posted)
                    posted.done = True
                else:
                    self._confirmed.add(posted)
            if posted is last:
                return
