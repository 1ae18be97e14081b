"""Breakages of how errors are told and how a stream ends (RFC 5040 §6.2, §7 and §7.1)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation, Replacement

MUTATIONS: Final = (
    Mutation(
        "the Terminate stays in its queue",
        "engine/sending",
        "            return self._terminates\n",
        "            return deque()\n",
        ("RDMAP-5040-7.1-03",),
    ),
    Mutation(
        "the program is not told of a rule that the peer broke",
        "queues/qp_pump",
        "        self._tell(event_of_violation(error), error)",
        "        pass",
        ("RDMAP-5040-7.1-01", "RDMAP-5040-3.2-04", "RDMAP-5040-3.2-05", "RDMAP-5040-3.2-06"),
    ),
    Mutation(
        "what is posted behind an error is framed at once",
        "engine/sending",
        "return idle and self._frames_early and self.violation is None",
        "return idle and self._frames_early",
        ("RDMAP-5040-7.1-05", "RDMAP-5040-5.4-09"),
    ),
    Mutation(
        "errors of MPA are not told",
        "engine/stream",
        "        if not self._mute:  # wire",
        "        if not self._mute and violation.term.layer != 2:  # wire",
        ("RDMAP-5040-6.2.1-01",),
    ),
    Mutation(
        "errors of DDP are not told",
        "engine/stream",
        "        if not self._mute:  # wire",
        "        if not self._mute and violation.term.layer != 1:  # wire",
        ("RDMAP-5040-6.2.1-01", "RDMAP-5040-3.2-04", "RDMAP-5040-3.2-05"),
    ),
    Mutation(
        "errors of RDMAP are not told",
        "engine/stream",
        "        if not self._mute:  # wire",
        "        if not self._mute and violation.term.layer != 0:  # wire",
        ("RDMAP-5040-6.2.1-01", "RDMAP-5040-3.2-06"),
    ),
    Mutation(
        "receives outlive the peer's Terminate",
        "queues/qp_pump",
        "        self._sq.flush(self.error)\n        self._rq.flush(self.error)\n        if not",
        "        self._sq.flush(self.error)\n"
        "        if self._stream is None or self._stream.violation or self._over:\n"
        "            self._rq.flush(self.error)\n        if not",
        ("RDMAP-5040-6.2.1-02",),
    ),
    Mutation(
        "Reads outlive the peer's Terminate",
        "queues/qp_pump",
        "        self._sq.flush(self.error)\n        self._rq.flush(self.error)\n        if not",
        "        if self._stream is None or self._stream.violation or self._over:\n"
        "            self._sq.flush(self.error)\n        self._rq.flush(self.error)\n        if not",
        ("RDMAP-5040-6.2.1-02",),
    ),
    Mutation(
        "TCP is closed at once behind a Terminate, whatever the peer still sends",
        "queues/qp_pump",
        "        return self._over or (self.output_ended and self.stream.peer_closed)",
        "        return self._over or (self.output_ended and (self.stream.peer_closed or"
        " self.state is QpState.TERMINATE))",
        ("RDMAP-5040-6.2.1-04",),
    ),
    Mutation(
        "a stream that a violation ended is as before",
        "queues/qp_states",
        "            fed.LOCAL_FAULT: state.TERMINATE,\n            fed.PEER_TERMINATE: state.ERROR,\n"
        "            fed.LLP_CLOSED: state.ERROR,",
        "            fed.LOCAL_FAULT: state.RTS,\n            fed.PEER_TERMINATE: state.ERROR,\n"
        "            fed.LLP_CLOSED: state.ERROR,",
        ("RDMAP-5040-7-01",),
    ),
    Mutation(
        "Writes are placed behind an error",
        "engine/stream",
        "        segment = bytes(self._segment)\n        self._stop_input()\n",
        "        segment = bytes(self._segment)\n        self.input_discarded = True\n",
        ("RDMAP-5040-7-02", "RDMAP-5040-7.1-05"),
    ),
    Mutation(
        "TCP stays open behind a Terminate",
        "engine/sending",
        "            return not self._terminates\n",
        "            return False\n",
        ("RDMAP-5040-7-03",),
    ),
    Mutation(
        "TCP stays open behind the peer's Terminate",
        "queues/qp_pump",
        "        stream.drop_output()\n        stream.finish()\n",
        "        stream.drop_output()\n",
        ("RDMAP-5040-7-03",),
    ),
    Mutation(
        "a collapse of this side is not told",
        "queues/qp",
        'self._take(self.stream.fail(LocalCatastrophe("the program ended the stream")))',
        'self.abort(LocalCatastrophe("the program ended the stream"))',
        ("RDMAP-5040-7.1-02",),
    ),
    Mutation(
        "a collapse of this side has the code of a wrong version",
        "errors",
        "    term = Term(Layer.RDMAP, 0x0, 0x00)",
        "    term = Term(Layer.RDMAP, 0x2, 0x05)",
        ("RDMAP-5040-7.1-02", "EXT-7306-8.1-01"),
    ),
    Mutation(
        "a collapse of this side quotes what came last",
        "rdmap",
        "    if isinstance(error, LocalCatastrophe):",
        "    if False:",
        ("RDMAP-5040-7.1-02", "RDMAP-5040-4.8-12"),
        (
            Replacement(
                "rdmap",
                "return error.term.layer == Layer.DDP or isinstance(error, RemoteProtection | RemoteOperation)",
                "return error.term.layer != Layer.LLP",
            ),
            Replacement(
                "engine/stream",
                '        self._segment = b""\n        if self.waiting_ulpdu is None:\n            self.deframer',
                "        if self.waiting_ulpdu is None:\n            self.deframer",
            ),
        ),
    ),
    Mutation(
        "what waited goes before the Terminate",
        "engine/stream",
        "        prologue = self._prologue\n        self.drop_output()\n        self._prologue = prologue\n",
        "",
        ("RDMAP-5040-7.1-03",),
        (
            Replacement(
                "engine/sending",
                "            return self._terminates\n",
                "            return self._messages or self._terminates\n",
            ),
        ),
    ),
    Mutation(
        "the last error is told",
        "engine/stream",
        "            self._fail(violation.with_traceback(None))  # its",
        "            self.violation = None\n            self._fail(violation.with_traceback(None))\n"
        "            self._terminates = deque([self._terminates[-1]])  # its",
        ("RDMAP-5040-7.1-05",),
        (
            Replacement(
                "engine/stream",
                "        segment = bytes(self._segment)\n        self._stop_input()\n",
                "        segment = bytes(self._segment)\n",
            ),
        ),
    ),
    Mutation(
        "asyncio's driver resets TCP behind a Terminate",
        "drivers/asyncio_driver",
        "            transport.write_eof()  #",
        "            self.abort()  #",
        ("RDMAP-5040-6.2.1-04",),
    ),
    Mutation(
        "the polling driver resets TCP behind a Terminate",
        "drivers/polling_driver",
        "            self._socket.shutdown(socket.SHUT_WR)  #",
        "            self.abort()  #",
        ("RDMAP-5040-6.2.1-04",),
    ),
    Mutation(
        "the polling driver closes TCP behind a Terminate, with octets unread",
        "drivers/polling_driver",
        "            self._socket.shutdown(socket.SHUT_WR)  #",
        "            self._end(None)  #",
        ("RDMAP-5040-6.2.1-04",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
