"""Breakages of how streams begin and end (RFC 5041 §6)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation, Replacement

MUTATIONS: Final = (
    Mutation(
        "the Initiator waits for the peer too",
        "engine/sending",
        "self._mute = agreement.role is Role.RESPONDER",
        "self._mute = True",
        ("DDP-5041-6.1-01",),
    ),
    Mutation(
        "nothing is received before something was sent",
        "queues/qp_pump",
        "return not self.stream.starved",
        "return not self.stream.starved and self.stream.fpdus_sent > 0",
        ("DDP-5041-6.1-01",),
    ),
    Mutation(
        "an idle stream ends",
        "queues/qp_pump",
        "        if self._ending and not self._over:\n",
        "        if not self._over:\n",
        ("DDP-5041-6.2-01",),
    ),
    Mutation(
        "an error ends the stream without a word",
        "engine/stream",
        "        if not self._mute:  # wire",
        "        if False:  # wire",
        (
            "DDP-5041-6.2-01",
            "DDP-5041-6.2.2-05",
            "DDP-5041-6.2.2-06",
            "DDP-5041-7.1-19",
        ),
    ),
    Mutation(
        "a graceful end does not wait for the send queue",
        "queues/qp_pump",
        "waits = self.state is QpState.CLOSING and self._sq",
        "waits = False",
        ("DDP-5041-6.2.1-01",),
    ),
    Mutation(
        "a graceful end does not wait for what is queued",
        "engine/sending",
        "return self._finishing and not (self._messages or self._answers or self._packer.early_fpdus)",
        "return self._finishing",
        ("DDP-5041-6.2.1-01",),
        (Replacement("queues/qp_pump", "waits = self.state is QpState.CLOSING and self._sq", "waits = False"),),
    ),
    Mutation(
        "a graceful end drops what is queued",
        "queues/qp",
        "            self._move(QpInput.CLOSE)\n",
        "            self._move(QpInput.CLOSE)\n            self.stream.drop_output()\n",
        ("DDP-5041-6.2.1-01",),
    ),
    Mutation(
        "the awaitable connection is closed at once",
        "connections/awaitable",
        "        self.qp.disconnect()\n",
        '        self.qp.abort(Disconnected("closed"))\n',
        ("DDP-5041-6.2.1-01",),
    ),
    Mutation(
        "the blocking connection is closed at once",
        "connections/blocking",
        "            self.qp.disconnect()\n",
        '            self.qp.abort(EOFError("closed"))\n',
        ("DDP-5041-6.2.1-01",),
    ),
    Mutation(
        "the connection of an identifier is closed at once",
        "cm/identifiers",
        "            self.qp.disconnect()\n",
        '            self.qp.abort(EOFError("closed"))\n',
        ("DDP-5041-6.2.1-01",),
    ),
    Mutation(
        "work is taken after a graceful end was asked for",
        "queues/qp",
        "        if self.state is QpState.RTS and not self._closed:\n            self._sq.post(",
        "        if self.state in (QpState.RTS, QpState.CLOSING) and not self._closed:\n            self._sq.post(",
        ("DDP-5041-6.2.1-02",),
    ),
    Mutation(
        "small work is taken after a graceful end was asked for",
        "queues/qp",
        "if stream is None or self.state is not _RTS or self._closed or not self._sq.post_fast(",
        "if stream is None or self.state is QpState.IDLE or self._closed or not self._sq.post_fast(",
        ("DDP-5041-6.2.1-02",),
    ),
    Mutation(
        "small work of a list is taken after a graceful end was asked for",
        "queues/qp",
        "            if stream is not None and self.state is _RTS and not self._closed:\n",
        "            if stream is not None and self.state in (_RTS, QpState.CLOSING) and not self._closed:\n",
        ("DDP-5041-6.2.1-02",),
    ),
    Mutation(
        "nobody is told of a half-closed stream",
        "queues/qp_pump",
        "            self.on_half_closed()\n",
        "            pass\n",
        ("DDP-5041-6.2.1-04",),
    ),
    Mutation(
        "the asyncio driver closes both halves at the peer's FIN",
        "drivers/asyncio_driver",
        "        return True\n\n    def pause_writing",
        "        return False\n\n    def pause_writing",
        ("DDP-5041-6.2.1-04",),
    ),
    Mutation(
        "work is refused after the peer's FIN although it was to go on",
        "queues/qp",
        "        if self.state is QpState.RTS and not self._closed:\n            self._sq.post(",
        "        if self.state is QpState.RTS and not self._closed and not self.stream.peer_closed:\n"
        "            self._sq.post(",
        ("DDP-5041-6.2.1-04",),
        (
            Replacement(
                "queues/qp",
                "        stream = self._flowing\n        if stream is not None and type(request) is Send and self",
                "        stream = self._flowing\n        if self._stream is not None and self._stream.peer_closed:\n"
                "            self._post_send(request)\n            return\n"
                "        if stream is not None and type(request) is Send and self",
            ),
        ),
    ),
    Mutation(
        "the receives are not flushed when the peer's half is closed",
        "queues/qp_pump",
        "            self._rq.flush(self.error)  # DDP",
        "            pass  # DDP",
        ("DDP-5041-6.2.1-04",),
    ),
    Mutation(
        "the peer's FIN ends sending although it was to go on",
        "queues/qp_pump",
        "if self.options.half_close and self.state is QpState.RTS:",
        "if False:",
        ("DDP-5041-6.2.1-04",),
    ),
    Mutation(
        "the second half is closed with a reset by the asyncio driver",
        "drivers/asyncio_driver",
        "        else:\n            transport.close()\n",
        "        else:\n            self.abort()\n",
        (
            "DDP-5041-6.2.1-05",
            "DDP-5041-6.2.1-06",
        ),
    ),
    Mutation(
        "the second half is closed with a reset by the polling driver",
        "drivers/polling_driver",
        "        else:\n            self._end(None)\n\n    def _end(",
        "        else:\n            self.abort()\n\n    def _end(",
        (
            "DDP-5041-6.2.1-05",
            "DDP-5041-6.2.1-06",
        ),
    ),
    Mutation(
        "the peer's FIN ends both halves at once",
        "queues/qp_pump",
        "        self._move(QpInput.PEER_FIN)\n        self.stream.finish()",
        "        self._move(QpInput.PEER_FIN)\n        self.stream.drop_output()\n        self.stream.finish()",
        (
            "DDP-5041-6.2.1-05",
            "DDP-5041-6.2.1-06",
        ),
    ),
    Mutation(
        "whoever closes does not listen any more",
        "queues/qp",
        "            self.stream.finish()\n            self._sq.when",
        "            self.stream.finish()\n            self.stream._stop_input()\n            self._sq.when",
        ("DDP-5041-6.2.1-07",),
    ),
    Mutation(
        "whoever closes reads no more",
        "queues/qp_pump",
        "return not self.stream.starved",
        "return not self.stream.starved and self.state is not QpState.CLOSING",
        ("DDP-5041-6.2.1-07",),
    ),
    Mutation(
        "the program does not learn that TCP was lost",
        "queues/qp_pump",
        "        self.error = self.error or error\n        self._move_tcp(",
        "        self._move_tcp(",
        ("DDP-5041-6.2.2-01",),
    ),
    Mutation(
        "a FIN in the middle of something is a graceful end",
        "engine/stream",
        "            if unfinished:\n",
        "            if False:\n",
        ("DDP-5041-6.2.2-01",),
    ),
    Mutation(
        "a reset is a graceful end to the polling driver",
        "drivers/polling_driver",
        "        except OSError as error:\n            self._end(error)\n            return _NO_MORE\n"
        "        if nbytes:",
        "        except OSError:\n            nbytes = 0\n        if nbytes:",
        ("DDP-5041-6.2.2-01",),
    ),
    Mutation(
        "a reset is a graceful end to the asyncio driver",
        "drivers/asyncio_driver",
        "        self.pump.lost(exc)\n",
        "        if exc is not None:\n            self.pump.received_eof()\n        self.pump.lost(None)\n",
        ("DDP-5041-6.2.2-01",),
    ),
    Mutation(
        "nobody is told of an error of MPA",
        "engine/stream",
        "        self._events.append(Violated(violation))",
        "        if violation.term.layer != 2:\n            self._events.append(Violated(violation))",
        (
            "DDP-5041-6.2.2-02",
            "DDP-5041-7-01",
        ),
    ),
    Mutation(
        "nobody is told of an error of DDP",
        "engine/stream",
        "        self._events.append(Violated(violation))",
        "        if violation.term.layer != 1:\n            self._events.append(Violated(violation))",
        (
            "DDP-5041-6.2.2-03",
            "DDP-5041-8.3-04",
            "DDP-5041-7.1-16",
        ),
    ),
    Mutation(
        "receives stay when the stream fails",
        "queues/qp_pump",
        "        self._sq.flush(self.error)\n        self._rq.flush(self.error)\n",
        "        self._sq.flush(self.error)\n",
        ("DDP-5041-6.2.2-04",),
    ),
    Mutation(
        "sends stay when the stream fails",
        "queues/qp_pump",
        "        self._sq.flush(self.error)\n        self._rq.flush(self.error)\n",
        "        self._rq.flush(self.error)\n",
        ("DDP-5041-6.2.2-04",),
    ),
    Mutation(
        "a flush does not say why",
        "queues/sq",
        "kind.opcode, 0, self.qp_num, error=error)",
        "kind.opcode, 0, self.qp_num)",
        ("DDP-5041-6.2.2-04",),
    ),
    Mutation(
        "a flush of receives does not say why",
        "queues/rq",
        "status, _RECV, 0, self.qp_num, None, False, error, None",
        "status, _RECV, 0, self.qp_num, None, False, None, None",
        ("DDP-5041-6.2.2-04",),
    ),
    Mutation(
        "a flush is a success",
        "queues/sq",
        "Completion(wr_id, Status.WR_FLUSH_ERR, kind",
        "Completion(wr_id, Status.SUCCESS, kind",
        ("DDP-5041-6.2.2-04",),
    ),
    Mutation(
        "an error of DDP ends the stream without a word",
        "engine/stream",
        "        if not self._mute:  # wire",
        "        if violation.term.layer != 1:  # wire",
        (
            "DDP-5041-6.2.2-05",
            "DDP-5041-7.1-19",
        ),
    ),
    Mutation(
        "the FIN does not wait for the Terminate",
        "engine/sending",
        "            return not self._terminates\n",
        "            return True\n",
        ("DDP-5041-6.2.2-06",),
    ),
    Mutation(
        "TCP is aborted instead of a Terminate",
        "queues/qp_pump",
        "        self._tell(event_of_violation(error), error)\n",
        "        self._tell(event_of_violation(error), error)\n        self._move_tcp(TcpInput.FINISHED)\n",
        ("DDP-5041-6.2.2-06",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
