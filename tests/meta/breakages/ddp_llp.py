"""Breakages of what DDP asks of the layer below it (RFC 5041 §3)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation, Replacement

MUTATIONS: Final = (
    Mutation(
        "the MULPDU stays what TCP said first",
        "engine/sending",
        "        if not self._fixed_mulpdu:\n            self.mulpdu = mulpdu_for",
        "        if not self._fixed_mulpdu and self.mulpdu == MIN_MULPDU:\n            self.mulpdu = mulpdu_for",
        ("MPA-5041-3-01",),
    ),
    Mutation(
        "TCP's segment size is read once",
        "drivers/asyncio_driver",
        "        self._emss_due = self._written + EMSS_REFRESH",
        "        self._emss_due = 1 << 62",
        ("MPA-5041-3-01",),
    ),
    Mutation(
        "TCP's segment size is read once on a polled socket",
        "drivers/polling_driver",
        "                self._emss_serves = EMSS_REFRESH",
        "                self._emss_serves = 1 << 62",
        ("MPA-5041-3-01",),
    ),
    Mutation(
        "another MULPDU cuts a message anew from its beginning",
        "engine/sending",
        "            self.mulpdu = mulpdu_for(emss, markers=self.agreement.send_markers)\n",
        "            self.mulpdu = mulpdu_for(emss, markers=self.agreement.send_markers)\n"
        "            if self._underway is not None:\n                self._underway[0].sent = 0\n",
        ("MPA-5041-3-02",),
    ),
    Mutation(
        "another MULPDU drops what lies ready",
        "engine/sending",
        "            self.mulpdu = mulpdu_for(emss, markers=self.agreement.send_markers)\n",
        "            self.mulpdu = mulpdu_for(emss, markers=self.agreement.send_markers)\n"
        "            self._packer.discard_early()\n",
        ("MPA-5041-3-02",),
    ),
    Mutation(
        "a flush forgets the last request",
        "queues/sq",
        "        while self._posted:\n            posted = self._posted.popleft()\n            unpin",
        "        while len(self._posted) > 1:\n            posted = self._posted.popleft()\n            unpin",
        ("MPA-5041-3-03",),
    ),
    Mutation(
        "a flush forgets what lies ready",
        "queues/sq",
        "        self._record_framed()\n        failed",
        "        failed",
        (
            "MPA-5041-3-03",
            "RDMAP-5040-5.5-12",
        ),
    ),
    Mutation(
        "what the transport still holds counts as sent",
        "drivers/asyncio_driver",
        "return transport.get_write_buffer_size() == 0",
        "return True",
        ("MPA-5041-3-03",),
    ),
    Mutation(
        "what the kernel takes a part of counts as sent",
        "drivers/polling_driver",
        "        if sent == nbytes:\n",
        "        if sent:\n",
        ("MPA-5041-3-03",),
    ),
    Mutation(
        "what was given to TCP in part counts as sent when TCP is lost",
        "queues/qp_pump",
        "        self.stream.abandon()\n        self._flush()",
        "        self._sq.sent([message.token for message in self.stream._messages])\n        self.stream.abandon()\n"
        "        self._flush()",
        ("MPA-5041-3-03",),
    ),
    Mutation(
        "the pad belongs to the segment",
        "mpa",
        "return view[start + LENGTH_SIZE : start + LENGTH_SIZE + length]",
        "return view[start + LENGTH_SIZE : start + size - CRC_SIZE]",
        (
            "MPA-5041-3-04",
            "MPA-5041-3-08",
        ),
    ),
    Mutation(
        "the pad of a Send is placed the fast way",
        "engine/fast_receive",
        "                nbytes = length - UNTAGGED_SIZE\n",
        "                nbytes = (length + LENGTH_SIZE + 3 & ~3) - LENGTH_SIZE - UNTAGGED_SIZE\n",
        (
            "MPA-5041-3-04",
            "MPA-5041-3-08",
        ),
    ),
    Mutation(
        "behind one last segment all are the last",
        "engine/fast_receive",
        "                last = control & LAST != 0\n                nbytes",
        "                last = last or control & LAST != 0\n                nbytes",
        ("MPA-5041-3-04",),
    ),
    Mutation(
        "the digest of a Write is not looked at",
        "engine/fast_receive",
        "            if crc and crc32c(view[start:stop]) != INTACT:  # MPA",
        "            if False:  # MPA",
        ("MPA-5041-3-07",),
    ),
    Mutation(
        "the digest of a Send is not looked at",
        "engine/fast_receive",
        "            if crc and crc32c(view[start:stop]) != INTACT:\n",
        "            if False:\n",
        ("MPA-5041-3-07",),
    ),
    Mutation(
        "a wrong CRC is overlooked the plain way",
        "mpa",
        "if computed != received:",
        "if False:",
        ("MPA-5041-3-07",),
    ),
    Mutation(
        "a wrong CRC is overlooked with markers",
        "mpa",
        "            self._verify(self.start, start + size - CRC_SIZE)",
        "            pass",
        ("MPA-5041-3-07",),
    ),
    Mutation(
        "a digest is not asked for",
        "negotiation",
        "    crc: bool = True  # MPA",
        "    crc: bool = False  # MPA",
        ("MPA-5041-3-07",),
    ),
    Mutation(
        "the FPDUs of large payloads have no digest",
        "engine/packing",
        "                    if checked:\n                        crc = crc32c(view, crc32c(buffer[at:body]))",
        "                    if False:\n                        crc = crc32c(view, crc32c(buffer[at:body]))",
        ("MPA-5041-3-07",),
    ),
    Mutation(
        "the FPDUs of small messages have no digest",
        "engine/packing",
        "            if checked:\n                crc = crc32c(buffer[at:stop])\n                if pad:\n"
        "                    crc = crc32c(PADS",
        "            if False:\n                crc = crc32c(buffer[at:stop])\n                if pad:\n"
        "                    crc = crc32c(PADS",
        ("MPA-5041-3-07",),
    ),
    Mutation(
        "the pad belongs to the segment where there are markers",
        "mpa",
        "return ulpdu[LENGTH_SIZE : LENGTH_SIZE + length]",
        "return ulpdu[LENGTH_SIZE:]",
        ("MPA-5041-3-08",),
    ),
    Mutation(
        "the pad of a Write is placed the fast way",
        "engine/fast_receive",
        "        nbytes = length - TAGGED_SIZE\n",
        "        nbytes = (length + LENGTH_SIZE + 3 & ~3) - LENGTH_SIZE - TAGGED_SIZE\n",
        ("MPA-5041-3-08",),
    ),
    Mutation(
        "a stream with an error goes idle",
        "queues/qp_states",
        "            fed.LLP_CLOSED: state.ERROR,\n            fed.LLP_LOST: state.ERROR,\n        },\n"
        "        state.ERROR",
        "            fed.LLP_CLOSED: state.IDLE,\n            fed.LLP_LOST: state.IDLE,\n        },\n"
        "        state.ERROR",
        ("MPA-5041-3-09",),
    ),
    Mutation(
        "the error of a stream is forgotten",
        "queues/qp_pump",
        "        self.error = error = event.error\n",
        "        error = event.error\n",
        (
            "MPA-5041-3-09",
            "DDP-5041-6.2.2-02",
            "DDP-5041-6.2.2-03",
            "DDP-5041-7-01",
            "DDP-5041-8.3-04",
        ),
    ),
    Mutation(
        "a stream that the peer has terminated goes on",
        "queues/qp_states",
        "            fed.PEER_TERMINATE: state.ERROR,\n            fed.LLP_CLOSED: state.ERROR,",
        "            fed.PEER_TERMINATE: state.RTS,\n            fed.LLP_CLOSED: state.ERROR,",
        ("MPA-5041-3-09",),
    ),
    Mutation(
        "input goes on after an error",
        "engine/stream",
        "        segment = bytes(self._segment)\n        self._stop_input()\n",
        "        segment = bytes(self._segment)\n",
        (
            "MPA-5041-3-10",
            "DDP-5041-7.1-18",
        ),
    ),
    Mutation(
        "input goes on after the peer's Terminate",
        "engine/stream",
        "        self._events.append(PeerTerminated(error))\n        self._stop_input()\n",
        "        self._events.append(PeerTerminated(error))\n",
        (
            "MPA-5041-3-10",
            "RDMAP-5040-5.4-05",
            "RDMAP-5040-7-03",
            "RDMAP-5040-7-02",
        ),
    ),
    Mutation(
        "what was posted leaves behind the Terminate",
        "engine/sending",
        "            return self._terminates\n",
        "            return self._terminates or self._messages\n",
        (
            "MPA-5041-3-10",
            "RDMAP-5040-5.4-09",
        ),
        (Replacement("engine/sending", "        self._messages.clear()\n", ""),),
    ),
    Mutation(
        "what lies ready leaves in front of the Terminate",
        "engine/sending",
        "        self._packer.discard_early()\n",
        "",
        (
            "MPA-5041-3-10",
            "RDMAP-5040-7.1-03",
            "RDMAP-5040-5.4-08",
        ),
    ),
    Mutation(
        "the peer is answered behind the Terminate",
        "engine/sending",
        "            return self._terminates\n",
        "            return self._terminates or self._answers\n",
        (
            "MPA-5041-3-10",
            "RDMAP-5040-5.4-09",
        ),
        (Replacement("engine/sending", "        self._answers.clear()\n", ""),),
    ),
    Mutation(
        "what was posted leaves after the peer's Terminate",
        "queues/qp_pump",
        "        stream.drop_output()\n        stream.finish()",
        "        stream.finish()",
        ("MPA-5041-3-10",),
    ),
    Mutation(
        "nobody is told of a graceful end",
        "engine/stream",
        "        return [PeerClosed()]",
        "        return []",
        ("MPA-5041-3-11",),
    ),
    Mutation(
        "the program is not called when all is over",
        "queues/qp_pump",
        "            self.on_ended()\n",
        "            pass\n",
        ("MPA-5041-3-11",),
    ),
    Mutation(
        "the asyncio driver does not tell of a FIN",
        "drivers/asyncio_driver",
        "            self.pump.received_eof()\n",
        "            pass\n",
        ("MPA-5041-3-11",),
    ),
    Mutation(
        "the polling driver does not tell of a FIN",
        "drivers/polling_driver",
        "        self.pump.received_eof()\n        return _NO_MORE",
        "        return _MORE",
        ("MPA-5041-3-11",),
    ),
    Mutation(
        "the half stays open after a Terminate",
        "queues/qp_pump",
        "return self._over or (self._ending and not waits and",
        "return self._over or (self.state is QpState.CLOSING and not waits and",
        ("MPA-5041-3-12",),
    ),
    Mutation(
        "the connection stays when both halves are closed",
        "queues/qp_pump",
        "return self._over or (self.output_ended and self.stream.peer_closed)",
        "return self._over",
        ("MPA-5041-3-12",),
    ),
    Mutation(
        "a silent peer is waited for without end",
        "queues/qp_pump",
        "        if self._ending and not self._over:\n",
        "        if self.state is QpState.CLOSING and not self._over:\n",
        ("MPA-5041-3-12",),
    ),
    Mutation(
        "the asyncio driver sends no FIN after a Terminate",
        "drivers/asyncio_driver",
        "            transport.write_eof()  #",
        "            pass  #",
        ("MPA-5041-3-12",),
    ),
    Mutation(
        "the polling driver sends no FIN after a Terminate",
        "drivers/polling_driver",
        "            self._socket.shutdown(socket.SHUT_WR)  #",
        "            pass  #",
        (
            "MPA-5041-3-12",
            "RDMAP-5040-7-03",
        ),
    ),
    Mutation(
        "the asyncio driver keeps the connection of a stream that is over",
        "drivers/asyncio_driver",
        "        if pump.over:\n            self._close(transport)\n            return\n",
        "",
        ("MPA-5041-3-12",),
    ),
    Mutation(
        "the polling driver keeps the connection of a stream that is over",
        "drivers/polling_driver",
        "            if pump.over:\n                self._close()\n                return\n",
        "",
        ("MPA-5041-3-12",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
