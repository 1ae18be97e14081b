"""Breakages of Immediate Data (RFC 7306 §6)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "Immediate Data of any length is taken",
        "engine/stream",
        "len(payload) != IMMEDIATE_SIZE or not header.last",
        "not header.last",
        ("EXT-7306-6.3-07",),
    ),
    Mutation(
        "Immediate Data is said to be tagged",
        "ddp",
        "control = _UNTAGGED_LAST if last else VERSION",
        "control = (_UNTAGGED_LAST if last else VERSION) | (TAGGED if self.rdmap & 8 and self.qn == 0 else 0)",
        ("EXT-7306-6.3-01", "EXT-7306-4.1-05"),
    ),
    Mutation(
        "Immediate Data that names an STag voids it",
        "engine/stream",
        "        if opcode in rdmap.IMMEDIATE_OPCODES:\n            self._immediate",
        "        if opcode in rdmap.IMMEDIATE_OPCODES:\n            self._table.forget(header.inval_stag)\n"
        "            self._immediate",
        ("EXT-7306-4.1-04",),
    ),
    Mutation(
        "Immediate Data overtakes what waits",
        "engine/sending",
        "        self._messages.append(\n            UntaggedOutbound(\n"
        "                rdmap.control_octet(Opcode.IMMEDIATE_SE if",
        "        self._messages.appendleft(\n            UntaggedOutbound(\n"
        "                rdmap.control_octet(Opcode.IMMEDIATE_SE if",
        ("EXT-7306-6.3-06", "EXT-7306-6.3-04"),
    ),
    Mutation(
        "the version of Immediate Data is not looked at",
        "rdmap",
        "        lawful = octet >> _VERSION_SHIFT == _VERSION and (octet & _OPCODE_MASK) in opcodes",
        "        lawful = (octet >> _VERSION_SHIFT == _VERSION or octet & 14 == 8) and (octet &"
        " _OPCODE_MASK) in opcodes",
        ("EXT-7306-8.2-03", "EXT-7306-4.1-01"),
    ),
    Mutation(
        "Immediate Data goes out with version 0",
        "rdmap",
        "return _VERSION << _VERSION_SHIFT | opcode",
        "return opcode if opcode & 14 == 8 else _VERSION << _VERSION_SHIFT | opcode",
        ("EXT-7306-4.1-01",),
    ),
    Mutation(
        "Immediate Data SE goes out as Immediate Data",
        "engine/sending",
        "Opcode.IMMEDIATE_SE if solicited else Opcode.IMMEDIATE",
        "Opcode.IMMEDIATE",
        ("EXT-7306-4.1-02",),
    ),
    Mutation(
        "Immediate Data names an STag to invalidate",
        "engine/sending",
        "                msn=self.send_msn,  # EXT-7306-6.3-02: the MSNs of Sends go on\n",
        "                msn=self.send_msn,\n                inval_stag=1,\n",
        ("EXT-7306-4.1-03",),
    ),
    Mutation(
        "Immediate Data goes on the queue of Reads",
        "engine/sending",
        "                qn=QueueNumber.SEND,\n                msn=self.send_msn,",
        "                qn=QueueNumber.READ_REQUEST,\n                msn=self.send_msn,",
        ("EXT-7306-4.1-05", "EXT-7306-6.3-04"),
    ),
    Mutation(
        "Immediate Data carries payload",
        "engine/sending",
        "                (data,),\n",
        "                (data, bytes(4)),\n",
        ("EXT-7306-4.2-01", "EXT-7306-6.3-05"),
    ),
    Mutation(
        "four octets stand before Immediate Data",
        "engine/sending",
        "                (data,),\n",
        "                (bytes(4), data[4:]),\n",
        ("EXT-7306-6.2-01",),
    ),
    Mutation(
        "the program does not get Immediate Data",
        "queues/rq",
        "_, _, nbytes, solicited, inval_stag, immediate = event",
        "_, _, nbytes, solicited, inval_stag, _ = event\n        immediate = None",
        ("EXT-7306-6.1-01",),
    ),
    Mutation(
        "Immediate Data SE is not solicited",
        "rdmap",
        "Opcode.SEND_SE_INVAL, Opcode.IMMEDIATE_SE})",
        "Opcode.SEND_SE_INVAL})",
        ("EXT-7306-6.1-01",),
    ),
    Mutation(
        "Immediate Data that is too long is cut",
        "engine/stream",
        "    if len(payload) != IMMEDIATE_SIZE or not header.last:",
        "    if len(payload) < IMMEDIATE_SIZE or not header.last:",
        ("EXT-7306-6.1-02", "EXT-7306-6.3-07"),
    ),
    Mutation(
        "Immediate Data that is too short is filled",
        "engine/stream",
        "    if len(payload) != IMMEDIATE_SIZE or not header.last:",
        "    if len(payload) > IMMEDIATE_SIZE or not header.last:",
        ("EXT-7306-6.1-02", "EXT-7306-6.3-07"),
    ),
    Mutation(
        "Immediate Data may come in segments",
        "engine/stream",
        "    if len(payload) != IMMEDIATE_SIZE or not header.last:",
        "    if len(payload) != IMMEDIATE_SIZE:",
        ("EXT-7306-6.3-07",),
    ),
    Mutation(
        "Immediate Data has an MSN of its own",
        "engine/sending",
        "                token=token,\n            )\n        )\n        self.send_msn = next_msn(self.send_msn)\n"
        "\n    def _queue_rtr",
        "                token=token,\n            )\n        )\n\n    def _queue_rtr",
        ("EXT-7306-6.3-04", "EXT-7306-6.3-06"),
    ),
    Mutation(
        "Immediate Data needs no receive",
        "engine/stream",
        "        try:\n            nbytes = queue.place(header, payload)",
        "        if opcode in rdmap.IMMEDIATE_OPCODES and not queue.underway:\n            queue._buffer = ()\n"
        "        try:\n            nbytes = queue.place(header, payload)",
        ("EXT-7306-6.3-02",),
    ),
    Mutation(
        "Immediate Data overtakes the Sends that came before it",
        "engine/stream",
        "        self._events.append(Delivered(opcode, header.msn, nbytes, solicited, inval_stag, immediate))",
        "        self._events.insert(0 if immediate else len(self._events), Delivered(opcode,"
        " header.msn, nbytes, solicited, inval_stag, immediate))",
        ("EXT-7306-6.3-03",),
    ),
    Mutation(
        "Immediate Data of any length is posted",
        "queues/checks",
        "def check_immediate(",
        "def check_immediate(request):  # type: ignore\n    return bytes(request.data)\n\n\n"
        "def _unused_check_immediate(",
        ("EXT-7306-6.3-05",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
