"""Breakages of what RDMAP offers and tells its ULP (RFC 5040 §3)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "Sends go on the Terminate's queue",
        "engine/sending",
        "UntaggedOutbound(octet, payload, QueueNumber.SEND, msn,",
        "UntaggedOutbound(octet, payload, QueueNumber.TERMINATE, msn,",
        ("RDMAP-5040-3.1-02", "RDMAP-5040-4.1-06", "RDMAP-5040-5.3-08"),
    ),
    Mutation(
        "Sends that are framed early go on the queue of Reads",
        "engine/sending",
        "        msn = self.send_msn  # with QN 0 above",
        "        msn = 1 << 32 | self.send_msn",
        ("RDMAP-5040-3.1-02", "RDMAP-5040-4.1-06", "RDMAP-5040-5.3-08"),
    ),
    Mutation(
        "Read Requests go on the queue of Sends",
        "engine/sending",
        "(build_read_request(request),),\n                qn=QueueNumber.READ_REQUEST,",
        "(build_read_request(request),),\n                qn=QueueNumber.SEND,",
        ("RDMAP-5040-3.1-02", "RDMAP-5040-4.1-06", "RDMAP-5040-5.2.1-06"),
    ),
    Mutation(
        "a queue that does not exist is that of Sends",
        "rdmap",
        "    if admission is None:\n        raise InvalidQn(qn)",
        "    if admission is None and qn < 8:\n        raise InvalidQn(qn)\n    if admission is None:\n"
        "        admission = _QUEUE_ADMISSION[0]\n    if admission is None:\n        raise InvalidQn(qn)",
        ("RDMAP-5040-3.1-02",),
    ),
    Mutation(
        "queue 3 exists without RFC 7306",
        "rdmap",
        "(_EXTENDED_ADMISSION if extensions else _QUEUE_ADMISSION).get(qn)",
        "(_EXTENDED_ADMISSION if extensions or qn == 3 else _QUEUE_ADMISSION).get(qn)",
        ("RDMAP-5040-3.1-02", "EXT-7306-1.1-02"),
    ),
    Mutation(
        "the short way takes Sends from any queue",
        "engine/fast_receive",
        "            if qn_msn != queue.due_msn:",
        "            if qn_msn & 0xFFFF_FFFF != queue.due_msn:",
        ("RDMAP-5040-3.1-02", "RDMAP-5040-5.3-08", "RDMAP-5040-7.2-02"),
    ),
    Mutation(
        "every segment of a Write is a message",
        "ddp",
        "TAGGED_SIZE + nbytes << 48 | _TAGGED_MORE << 40",
        "TAGGED_SIZE + nbytes << 48 | _TAGGED_LAST << 40",
        ("RDMAP-5040-3.1-03", "RDMAP-5040-5.2-01"),
    ),
    Mutation(
        "every segment of a Send in pieces is a message",
        "ddp",
        "build_untagged(Untagged(self.last_given,",
        "build_untagged(Untagged(True,",
        ("RDMAP-5040-3.1-03",),
    ),
    Mutation(
        "every segment of a Write in pieces is a message",
        "ddp",
        "build_tagged(Tagged(self.last_given,",
        "build_tagged(Tagged(True,",
        ("RDMAP-5040-3.1-03", "RDMAP-5040-5.2-01"),
    ),
    Mutation(
        "RsvdULP of untagged segments is six octets",
        "fastwire",
        'UNTAGGED_HEAD: Final = Struct(">HBBIIII")',
        'UNTAGGED_HEAD: Final = Struct(">HBBxIIII")',
        ("RDMAP-5040-3.1-04",),
    ),
    Mutation(
        "RsvdULP of tagged segments is two octets",
        "fastwire",
        'TAGGED_HEAD: Final = Struct(">HBBIQ")',
        'TAGGED_HEAD: Final = Struct(">HBBxIQ")',
        ("RDMAP-5040-3.1-04",),
    ),
    Mutation(
        "the first segment of a delivery is quoted",
        "engine/stream",
        "                self._segment = ulpdu\n",
        "                self._segment = self._segment or ulpdu\n",
        ("RDMAP-5040-3.1-05", "RDMAP-5040-4.8-11", "RDMAP-5040-4.8-09", "RDMAP-5040-7.1-03"),
    ),
    Mutation(
        "errors of DDP come without their segment",
        "rdmap",
        "return error.term.layer == Layer.DDP or isinstance",
        "return isinstance",
        ("RDMAP-5040-3.1-05", "RDMAP-5040-4.8-04", "RDMAP-5040-4.8-05", "RDMAP-5040-7.1-03", "RDMAP-5040-4.8-11"),
    ),
    Mutation(
        "a receive that was cut short succeeds",
        "queues/rq",
        "status, self.blame = (self.blame if self._taken else Status.WR_FLUSH_ERR)",
        "status, self.blame = (Status.SUCCESS if self._taken else Status.WR_FLUSH_ERR)",
        ("RDMAP-5040-3.1-06",),
    ),
    Mutation(
        "a Read that was cut short succeeds",
        "queues/sq",
        "return Completion(wr_id, Status.WR_FLUSH_ERR, kind.opcode, 0, self.qp_num, error=error)",
        "return Completion(wr_id, Status.SUCCESS if kind.answered else Status.WR_FLUSH_ERR,"
        " kind.opcode, 0, self.qp_num, error=error)",
        ("RDMAP-5040-3.1-06", "RDMAP-5040-6.2.1-02", "RDMAP-5040-5.4-08"),
    ),
    Mutation(
        "SEND_SE_INVAL goes out as SEND_INVAL",
        "engine/sending",
        "(True, True): rdmap.control_octet(Opcode.SEND_SE_INVAL)",
        "(True, True): rdmap.control_octet(Opcode.SEND_INVAL)",
        ("RDMAP-5040-3.2-01", "RDMAP-5040-4.1-05"),
    ),
    Mutation(
        "SEND_INVAL goes out as SEND",
        "engine/sending",
        "(False, True): rdmap.control_octet(Opcode.SEND_INVAL)",
        "(False, True): rdmap.control_octet(Opcode.SEND)",
        ("RDMAP-5040-3.2-01", "RDMAP-5040-4.1-05"),
    ),
    Mutation(
        "an early Send SE goes out as a Send",
        "engine/sending",
        "_SEND_SE_LEAD if solicited else _SEND_LEAD",
        "_SEND_LEAD",
        ("RDMAP-5040-3.2-01", "RDMAP-5040-4.1-05"),
    ),
    Mutation(
        "a Write goes out as a Read Response",
        "engine/sending",
        "_WRITE: Final = rdmap.control_octet(Opcode.WRITE)",
        "_WRITE: Final = rdmap.control_octet(Opcode.READ_RESPONSE)",
        ("RDMAP-5040-3.2-01", "RDMAP-5040-4.1-05"),
    ),
    Mutation(
        "a Read Request goes out as an Atomic Request",
        "engine/sending",
        "rdmap.control_octet(Opcode.READ_REQUEST)",
        "rdmap.control_octet(Opcode.ATOMIC_REQUEST)",
        ("RDMAP-5040-3.2-01", "RDMAP-5040-4.1-05"),
    ),
    Mutation(
        "Reads have no completion",
        "queues/sq",
        "            if request.signaled or self.all_signaled:\n                opcode, nbytes, value",
        "            if (request.signaled or self.all_signaled) and not posted.kind.answered:\n"
        "                opcode, nbytes, value",
        ("RDMAP-5040-3.2-02",),
    ),
    Mutation(
        "what is framed early has no completion",
        "queues/sq",
        "            if request.signaled or all_signaled:\n                opcode, nbytes = KINDS",
        "            if all_signaled:\n                opcode, nbytes = KINDS",
        ("RDMAP-5040-3.2-02",),
    ),
    Mutation(
        "what is flushed has a completion if it is the first",
        "queues/sq",
        "            self.cq.push(flushed._replace(status=status) if posted is blamed else flushed)\n",
        "            if self.flushes <= 1:\n"
        "                self.cq.push(flushed._replace(status=status) if posted is blamed else flushed)\n",
        ("RDMAP-5040-3.2-02",),
    ),
    Mutation(
        "unsignaled work that fails has no completion",
        "queues/sq",
        "            self.cq.push(flushed._replace(status=status) if posted is blamed else flushed)\n",
        "            if posted.request.signaled:\n"
        "                self.cq.push(flushed._replace(status=status) if posted is blamed else flushed)\n",
        ("RDMAP-5040-3.2-02",),
    ),
    Mutation(
        "a Send SE Inv is not solicited",
        "rdmap",
        "SOLICITED_OPCODES: Final = frozenset({Opcode.SEND_SE, Opcode.SEND_SE_INVAL, Opcode.IMMEDIATE_SE})",
        "SOLICITED_OPCODES: Final = frozenset({Opcode.SEND_SE, Opcode.IMMEDIATE_SE})",
        ("RDMAP-5040-3.2-03", "RDMAP-5040-5.3-06"),
    ),
    Mutation(
        "the program is not told which STag was invalidated",
        "queues/rq",
        "_, _, nbytes, solicited, inval_stag, immediate = event",
        "_, _, nbytes, solicited, _, immediate = event\n        inval_stag = None",
        ("RDMAP-5040-3.2-03",),
    ),
    Mutation(
        "the program is not told that a Send is solicited",
        "queues/rq",
        "_, _, nbytes, solicited, inval_stag, immediate = event",
        "_, _, nbytes, _, inval_stag, immediate = event\n        solicited = False",
        ("RDMAP-5040-3.2-03", "RDMAP-5040-5.3-06"),
    ),
    Mutation(
        "the short way tells the size of the receive",
        "engine/fast_receive",
        "(opcode, msn, mo + nbytes, solicited, None, None)",
        "(opcode, msn, queue.size, solicited, None, None)",
        ("RDMAP-5040-3.2-03", "RDMAP-5040-5.3-03"),
    ),
    Mutation(
        "the short way tells the size of the last segment",
        "engine/fast_receive",
        "(opcode, msn, mo + nbytes, solicited, None, None)",
        "(opcode, msn, nbytes, solicited, None, None)",
        ("RDMAP-5040-3.2-03", "RDMAP-5040-5.3-03"),
    ),
    Mutation(
        "the plain way tells the size of the last segment",
        "ddp",
        "return end  # DDP-5041-5.4-04",
        "return len(payload)",
        ("RDMAP-5040-3.2-03", "RDMAP-5040-5.3-03"),
    ),
    Mutation(
        "no Terminate is sent",
        "engine/stream",
        "            self._terminates.append(self._terminate_message(violation, segment))",
        "            pass",
        ("RDMAP-5040-3.2-04", "RDMAP-5040-3.2-05", "RDMAP-5040-3.2-06", "RDMAP-5040-6.2.1-01"),
    ),
    Mutation(
        "the program is not told of the peer's Terminate",
        "queues/qp_pump",
        "        self._tell(AsyncEventType.QP_FATAL, event.error)\n        self._flush",
        "        self._flush",
        ("RDMAP-5040-3.2-04", "RDMAP-5040-5.4-06"),
    ),
    Mutation(
        "the peer's Terminate is no error",
        "queues/qp_pump",
        "        self.error = self.error or event.error\n",
        "",
        ("RDMAP-5040-3.2-04", "RDMAP-5040-5.4-06", "RDMAP-5040-3.2-08"),
    ),
    Mutation(
        "a Write is delivered",
        "engine/stream",
        "            return  # RDMAP-5040-5.1-02: placed",
        "            if header.last:\n"
        "                self._events.append(Delivered(opcode, 0, nbytes, False, None, None))\n"
        "            return  # placed",
        ("RDMAP-5040-3.2-05", "RDMAP-5040-5.1-02"),
    ),
    Mutation(
        "the short way delivers a Write",
        "engine/fast_receive",
        "            fpdus += 1\n            if last and read is not None:",
        "            fpdus += 1\n            if read is None:\n"
        "                events.append(Delivered(Opcode.WRITE, 0, nbytes, False, None, None))\n"
        "            if last and read is not None:",
        ("RDMAP-5040-3.2-05", "RDMAP-5040-5.1-02"),
    ),
    Mutation(
        "a Write to nowhere is dropped silently",
        "engine/stream",
        "            if nbytes:  # DDP-5041-5.2-12: without",
        "            if nbytes and self._table.get(header.stag):  # without",
        ("RDMAP-5040-3.2-05",),
    ),
    Mutation(
        "a Read Request is delivered",
        "engine/stream",
        "        self._inbound.begin(msn)\n        if request.read_size",
        "        self._inbound.begin(msn)\n"
        "        self._events.append(Delivered(Opcode.READ_REQUEST, msn, 0, False, None, None))\n"
        "        if request.read_size",
        ("RDMAP-5040-3.2-06", "RDMAP-5040-5.2.1-04", "RDMAP-5040-5.2.1-03"),
    ),
    Mutation(
        "a Read of nothing known is answered with nothing",
        "engine/stream",
        "        if request.read_size == 0:  # RDMAP",
        "        if request.read_size == 0 or self._table.get(request.source_stag) is None:  # RDMAP",
        ("RDMAP-5040-3.2-06", "RDMAP-5040-5.2.1-14", "RDMAP-5040-7.2-09"),
    ),
    Mutation(
        "rights are all that there are",
        "mr",
        "        self.rights = int(access)\n        self.log = log",
        "        self.rights = int(access) | int(REMOTE)\n        self.log = log",
        ("RDMAP-5040-3.2-07", "SEC-5040-8.1.1-05"),
    ),
    Mutation(
        "the TO range has no end",
        "mr",
        "offset < 0 or offset + nbytes > region.nbytes",
        "offset < 0",
        ("RDMAP-5040-3.2-07", "SEC-5040-8.1.1-03", "RDMAP-5040-7.2-12"),
    ),
    Mutation(
        "an STag that was disabled goes on",
        "mr",
        "                self.revoked = not by_peer\n                self.table.forget(self.stag)",
        "                self.revoked = not by_peer",
        ("RDMAP-5040-3.2-07", "SEC-5040-8.1.1-04", "SEC-5040-8.1.1-06"),
    ),
    Mutation(
        "an STag for one stream is for all",
        "mr",
        "            region.scope = stream  # DDP-5041-8.3-03",
        "            pass",
        ("RDMAP-5040-3.2-07", "SEC-5040-8.1.1-02"),
    ),
    Mutation(
        "the program is not told what the Terminate quotes",
        "rdmap",
        "terminate.ddp_header + terminate.rdma_header",
        'b""',
        ("RDMAP-5040-3.2-08", "RDMAP-5040-5.4-06"),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
