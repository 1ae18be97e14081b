"""Breakages of MPA: the end of a connection, and errors (RFC 5044 sections 7.2 and 8)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "a polled socket's FIN does not wait for what the kernel has not taken",
        "drivers/polling_driver",
        "if pump.output_ended and not self._sent_fin and not self._pending:",
        "if pump.output_ended and not self._sent_fin:",
        ("MPA-5044-7.2-01",),
    ),
    Mutation(
        "both halves are closed at once",
        "drivers/asyncio_driver",
        "            self._end_half(transport)\n        self._watch",
        "            self._close(transport)\n        self._watch",
        ("MPA-5044-7.2-01",),
    ),
    Mutation(
        "the half is not closed",
        "drivers/asyncio_driver",
        "            transport.write_eof()  # MPA",
        "            pass  # MPA",
        ("MPA-5044-7.2-01",),
    ),
    Mutation(
        "the half of a polled socket is not closed",
        "drivers/polling_driver",
        "            self._socket.shutdown(socket.SHUT_WR)  # MPA",
        "            pass  # MPA",
        ("MPA-5044-7.2-01",),
    ),
    Mutation(
        "the half is closed with messages still queued",
        "engine/sending",
        "return self._finishing and not (self._messages or self._answers or self._packer.early_fpdus)",
        "return self._finishing",
        ("MPA-5044-7.2-01",),
    ),
    Mutation(
        "the half is closed while a batch is on its way",
        "engine/sending",
        "        if self.in_transit or self._prologue:\n",
        "        if self._prologue:\n",
        ("MPA-5044-7.2-01",),
    ),
    Mutation(
        "a FIN in the middle of an FPDU is graceful",
        "engine/stream",
        '            (not self.deframer.idle or self.waiting_ulpdu is not None, "an FPDU"),\n',
        "",
        (
            "MPA-5044-7.2-01",
            "MPA-5044-8-01",
        ),
    ),
    Mutation(
        "a FIN is not seen",
        "drivers/asyncio_driver",
        "            self.pump.received_eof()\n            self._run()",
        "            self._run()",
        ("MPA-5044-7.2-02",),
    ),
    Mutation(
        "a FIN is not seen on a polled socket",
        "drivers/polling_driver",
        "        self.pump.received_eof()\n        return _NO_MORE",
        "        return _NO_MORE",
        ("MPA-5044-7.2-02",),
    ),
    Mutation(
        "the loss of TCP is not told",
        "drivers/asyncio_driver",
        "        self.pump.lost(exc)\n",
        "",
        ("MPA-5044-8-01",),
    ),
    Mutation(
        "the loss of a polled socket is not told",
        "drivers/polling_driver",
        "        self.pump.lost(cause)\n",
        "",
        ("MPA-5044-8-01",),
    ),
    Mutation(
        "a CRC error is reported as a marker mismatch",
        "errors",
        "term = Term(Layer.LLP, 0x0, 0x02)",
        "term = Term(Layer.LLP, 0x0, 0x03)",
        ("MPA-5044-8-02",),
    ),
    Mutation(
        "a CRC error has the code of no rule",
        "errors",
        "term = Term(Layer.LLP, 0x0, 0x02)",
        "term = Term(Layer.LLP, 0x0, 0x01)",
        ("MPA-5044-8-02",),
    ),
    Mutation(
        "a marker that points elsewhere is overlooked",
        "mpa",
        "        if fpduptr != expected:",
        "        if False:",
        ("MPA-5044-8-03", "MPA-5044-8-04"),
    ),
    Mutation(
        "only the leading marker is checked",
        "mpa",
        "                self._check_marker(position, stream_offset, position - start)\n",
        "",
        (
            "MPA-5044-8-03",
            "MPA-5044-8-04",
        ),
    ),
    Mutation(
        "the leading marker is not checked",
        "mpa",
        "            self._check_marker(start - lead, offset - lead, 0)\n",
        "            pass\n",
        (
            "MPA-5044-8-03",
            "MPA-5044-8-04",
        ),
    ),
    Mutation(
        "a violation is not told to the program",
        "engine/stream",
        "        self._events.append(Violated(violation))\n",
        "",
        ("MPA-5044-8-06",),
    ),
    Mutation(
        "input goes on after an error in an FPDU",
        "engine/stream",
        "        self.deframer = Discarder(self.deframer.fpdus)\n",
        "",
        ("MPA-5044-8-09",),
    ),
    Mutation(
        "MPA's errors are told by no Terminate",
        "engine/stream",
        "            self._terminates.append(self._terminate_message(violation, segment))",
        (
            "            if segment:\n"
            "                self._terminates.append(self._terminate_message(violation, segment))"
        ),
        (
            "MPA-5044-8-10",
            "MPA-5044-8-02",
        ),
    ),
    Mutation(
        "the end does not wait for the Terminate",
        "engine/sending",
        "            return not self._terminates\n",
        "            return True\n",
        ("MPA-5044-8-10",),
    ),
    Mutation(
        "a reset overtakes the Terminate",
        "queues/qp_pump",
        "        return self._tcp is TcpState.RESETTING\n",
        "        return self._tcp is TcpState.RESETTING or self.state is QpState.TERMINATE\n",
        ("MPA-5044-8-10",),
    ),
    Mutation(
        "MPA's errors have EType 1",
        "errors",
        "term = Term(Layer.LLP, 0x0, 0x02)",
        "term = Term(Layer.LLP, 0x1, 0x02)",
        ("MPA-6580-3.3-01",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
