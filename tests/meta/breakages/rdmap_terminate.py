"""Breakages of the Terminate message (RFC 5040 §4.8 and §5.4, RFC 6580 §3.1)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "the DDP Segment Length counts the payload alone",
        "rdmap",
        "length = len(segment)  #",
        "length = len(segment) - 18  #",
        ("RDMAP-5040-4.8-09",),
    ),
    Mutation(
        "the Read Request header is not quoted",
        "rdmap",
        "rdma_header = read_request  #",
        'rdma_header = b""  #',
        ("RDMAP-5040-4.8-13", "RDMAP-5040-7.1-04"),
    ),
    Mutation(
        "a local catastrophe quotes headers",
        "rdmap",
        "        return False  # RDMAP-5040-4.8-12",
        "        return True  #",
        ("RDMAP-5040-4.8-12",),
    ),
    Mutation(
        "a Read of withdrawn memory goes on",
        "engine/sending",
        "        if isinstance(answer, ReadAnswer) and answer.revoked:",
        "        if False:",
        ("RDMAP-5040-4.8-16",),
    ),
    Mutation(
        "a partly answered Read is quoted as it came",
        "engine/responses",
        "        request, sent = self.request, self.sent",
        "        request, sent = self.request, 0",
        ("RDMAP-5040-4.8-16",),
    ),
    Mutation(
        "Terminates go on the queue of Reads",
        "engine/stream",
        "return UntaggedOutbound(octet, (payload,), qn=QueueNumber.TERMINATE,",
        "return UntaggedOutbound(octet, (payload,), qn=QueueNumber.READ_REQUEST,",
        ("RDMAP-5040-5.4-02", "RDMAP-5040-4.1-06", "RDMAP-5040-3.1-02"),
    ),
    Mutation(
        "Terminates go out with the opcode of a Send",
        "engine/stream",
        "octet = rdmap.control_octet(Opcode.TERMINATE)",
        "octet = rdmap.control_octet(Opcode.SEND)",
        ("RDMAP-5040-5.4-01",),
    ),
    Mutation(
        "the header copy comes before the length",
        "wire",
        '    "segment_length"  # there for M',
        '    "rsvd_before" / If(this.control.has_ddp_header, Default(Int16ub, 0)),\n'
        '    "segment_length"  # there for M',
        ("RDMAP-5040-4.8-01",),
    ),
    Mutation(
        "EType comes before the layer",
        "wire",
        '    "layer" / BitsInteger(4),\n    "etype" / BitsInteger(4),',
        '    "etype" / BitsInteger(4),\n    "layer" / BitsInteger(4),',
        ("RDMAP-5040-4.8-02", "RDMAP-5040-4.8-01"),
    ),
    Mutation(
        "D comes before M",
        "wire",
        '    "has_length" / Flag,  # M: the DDP Segment Length is valid\n    "has_ddp_header" / Flag,  # D',
        '    "has_ddp_header" / Flag,  # D\n    "has_length" / Flag,  # M',
        ("RDMAP-5040-4.8-02",),
    ),
    Mutation(
        "R comes before D",
        "wire",
        '    "has_ddp_header" / Flag,  # D\n    "has_rdma_header" / Flag,  # R',
        '    "has_rdma_header" / Flag,  # R\n    "has_ddp_header" / Flag,  # D',
        ("RDMAP-5040-4.8-02",),
    ),
    Mutation(
        "a message that is too long has a code that nobody registered",
        "errors",
        "term = Term(Layer.DDP, 0x2, 0x05)",
        "term = Term(Layer.DDP, 0x2, 0x0A)",
        ("RDMAP-5040-4.8-03",),
    ),
    Mutation(
        "an unexpected opcode has a code that nobody registered",
        "errors",
        "term = Term(Layer.RDMAP, 0x2, 0x06)",
        "term = Term(Layer.RDMAP, 0x2, 0x0A)",
        ("RDMAP-5040-4.8-03", "RDMAP-6580-3.1-01"),
    ),
    Mutation(
        "a Read out of bounds has a code that nobody registered",
        "errors",
        "term = Term(Layer.RDMAP, 0x1, 0x01)",
        "term = Term(Layer.RDMAP, 0x1, 0x08)",
        ("RDMAP-5040-4.8-03", "RDMAP-6580-3.1-01"),
    ),
    Mutation(
        "errors of operations are told without headers",
        "rdmap",
        "isinstance(error, RemoteProtection | RemoteOperation)",
        "isinstance(error, RemoteProtection)",
        ("RDMAP-5040-4.8-04", "RDMAP-5040-4.8-05", "RDMAP-5040-7.1-03"),
    ),
    Mutation(
        "errors of protection are told without headers",
        "rdmap",
        "isinstance(error, RemoteProtection | RemoteOperation)",
        "isinstance(error, RemoteOperation)",
        ("RDMAP-5040-4.8-04", "RDMAP-5040-4.8-05", "RDMAP-5040-7.1-04", "RDMAP-5040-4.8-15"),
    ),
    Mutation(
        "M stands for the RDMA header",
        "wire",
        '"has_length": segment_length is not None,',
        '"has_length": bool(rdma_header),',
        ("RDMAP-5040-4.8-04", "RDMAP-5040-4.8-09"),
    ),
    Mutation(
        "D is never set",
        "wire",
        '"has_ddp_header": bool(ddp_header),',
        '"has_ddp_header": False,',
        ("RDMAP-5040-4.8-05", "RDMAP-5040-4.8-10", "RDMAP-5040-4.8-11"),
    ),
    Mutation(
        "R is never set",
        "wire",
        '"has_rdma_header": bool(rdma_header),',
        '"has_rdma_header": False,',
        ("RDMAP-5040-4.8-06", "RDMAP-5040-4.8-13"),
    ),
    Mutation(
        "the RDMA header goes along with errors of operations",
        "rdmap",
        "if isinstance(error, RemoteProtection) and len(read_request)",
        "if isinstance(error, RemoteOperation) and len(read_request)",
        ("RDMAP-5040-4.8-06", "RDMAP-5040-4.8-13", "RDMAP-5040-7.1-04"),
    ),
    Mutation(
        "the reserved bits of a Terminate are ones",
        "wire",
        '"rsvd" / Default(BitsInteger(13), 0),  # RDMAP-5040-4.8-07',
        '"rsvd" / Default(BitsInteger(13), 1),  # ',
        ("RDMAP-5040-4.8-07",),
    ),
    Mutation(
        "reserved bits of a Terminate that are set make it none",
        "wire",
        "    control = TerminateControl.parse(message)\n",
        "    control = TerminateControl.parse(message)\n    if control.rsvd:\n"
        "        raise MalformedMessage(Opcode.TERMINATE, len(message), 4)\n",
        ("RDMAP-5040-4.8-08",),
    ),
    Mutation(
        "the DDP Segment Length counts MPA's length field",
        "rdmap",
        "length = len(segment)  #",
        "length = len(segment) + 2  #",
        ("RDMAP-5040-4.8-09", "RDMAP-5040-7.1-03", "RDMAP-5040-7.1-04"),
    ),
    Mutation(
        "a DDP Segment Length that comes is valid without M",
        "wire",
        "    if not control.has_length or len(octets)",
        "    if len(octets)",
        ("RDMAP-5040-4.8-09",),
    ),
    Mutation(
        "the length field is there for M alone",
        "wire",
        "lambda header: header.control.has_length or header.control.has_ddp_header",
        "lambda header: header.control.has_length",
        ("RDMAP-5040-4.8-10",),
    ),
    Mutation(
        "the length field of a Terminate that comes is there for M alone",
        "wire",
        "    if not (control.has_length or control.has_ddp_header):",
        "    if not control.has_length:",
        ("RDMAP-5040-4.8-10",),
    ),
    Mutation(
        "every header copy has 14 octets",
        "rdmap",
        "size = TAGGED_SIZE if segment[0] & TAGGED else UNTAGGED_SIZE",
        "size = TAGGED_SIZE",
        ("RDMAP-5040-4.8-11", "RDMAP-5040-7.1-04"),
    ),
    Mutation(
        "every header copy has 18 octets",
        "rdmap",
        "size = TAGGED_SIZE if segment[0] & TAGGED else UNTAGGED_SIZE",
        "size = UNTAGGED_SIZE",
        ("RDMAP-5040-4.8-11", "RDMAP-5040-7.1-03"),
    ),
    Mutation(
        "the header copy shows L set",
        "rdmap",
        "ddp_header = segment[:size]",
        "ddp_header = bytes([segment[0] | 0x40]) + segment[1:size]",
        ("RDMAP-5040-4.8-11",),
    ),
    Mutation(
        "the RDMA header is cut",
        "rdmap",
        "rdma_header = read_request  #",
        "rdma_header = read_request[:12] + bytes(16)  #",
        ("RDMAP-5040-4.8-13", "RDMAP-5040-4.8-15", "RDMAP-5040-7.1-04"),
    ),
    Mutation(
        "a Terminate for a Send quotes a Read Request",
        "engine/stream",
        "        if len(segment) >= UNTAGGED_SIZE and segment[1] & 0x0F == Opcode.READ_REQUEST:",
        "        if segment:",
        ("RDMAP-5040-4.8-14", "RDMAP-5040-7.1-03", "EXT-7306-8.1-02"),
    ),
    Mutation(
        "a partly answered Read's sink is quoted as it came",
        "engine/responses",
        "            request.sink_to + sent & TO_MASK,",
        "            request.sink_to,",
        ("RDMAP-5040-4.8-16",),
    ),
    Mutation(
        "a partly answered Read's source is quoted as it came",
        "engine/responses",
        "            request.source_to + sent,",
        "            request.source_to,",
        ("RDMAP-5040-4.8-16",),
    ),
    Mutation(
        "a partly answered Read's size is quoted as it came",
        "engine/responses",
        "            request.read_size - sent,",
        "            request.read_size,",
        ("RDMAP-5040-4.8-16",),
    ),
    Mutation(
        "a Read that has got nothing yet is quoted advanced",
        "engine/stream",
        "            read_request = bytes(self._request_octets[:READ_REQUEST_SIZE])",
        "            read_request = bytes(self._request_octets[:4]) + bytes(8) +"
        " bytes(self._request_octets[12:READ_REQUEST_SIZE])",
        ("RDMAP-5040-4.8-15",),
    ),
    Mutation(
        "a local catastrophe of the peer's has code 0 only",
        "wire",
        "    rest = bytes(message[TerminateControl.sizeof() :])\n",
        "    if control.layer == 0 and control.etype == 0 and control.code:\n"
        "        raise MalformedMessage(Opcode.TERMINATE, 0, 0)\n"
        "    rest = bytes(message[TerminateControl.sizeof() :])\n",
        ("RDMAP-5040-4.8-17",),
    ),
    Mutation(
        "errors of MPA quote headers",
        "rdmap",
        "return error.term.layer == Layer.DDP or isinstance",
        "return error.term.layer != Layer.RDMAP or isinstance",
        ("RDMAP-5040-4.8-18",),
    ),
    Mutation(
        "a Terminate takes the program's receive",
        "engine/stream",
        "UntaggedQueue(QueueNumber.TERMINATE, self._terminate_buffer)",
        "UntaggedQueue(QueueNumber.TERMINATE, take_receive)",
        ("RDMAP-5040-5.4-03", "RDMAP-5040-5.4-04"),
    ),
    Mutation(
        "a Terminate has room for four octets",
        "engine/stream",
        "octets = bytearray(_LARGEST_TERMINATE)",
        "octets = bytearray(4)",
        ("RDMAP-5040-5.4-04",),
    ),
    Mutation(
        "a Terminate that comes is ignored",
        "engine/stream",
        "        error ="
        " rdmap.parse_terminate(self._profile.read_terminate(bytes(self._terminate_octets[:nbytes])))\n"
        "        self._events.append(PeerTerminated(error))\n        self._stop_input()\n",
        "        return\n",
        ("RDMAP-5040-5.4-05", "RDMAP-5040-5.4-06"),
    ),
    Mutation(
        "any MSN of a Terminate will do",
        "ddp",
        "        if header.msn != self.due_msn:",
        "        if header.msn != self.due_msn and self.qn != 2:",
        ("RDMAP-5040-5.4-07", "RDMAP-5040-7.2-01"),
    ),
    Mutation(
        "a Terminate without a cause is one",
        "wire",
        "    if len(message) < TerminateControl.sizeof():",
        "    message = bytes(message).ljust(4, b'\\0')\n    if len(message) < TerminateControl.sizeof():",
        ("RDMAP-5040-5.4-07",),
    ),
    Mutation(
        "a Terminate without a cause is dropped silently",
        "engine/stream",
        "        error = rdmap.parse_terminate(",
        "        if nbytes < 4:\n            return\n        error = rdmap.parse_terminate(",
        ("RDMAP-5040-5.4-07",),
    ),
    Mutation(
        "what ORD held back is forgotten at the end",
        "queues/sq",
        "        self._waiting.clear()\n        self._record_framed()\n        failed",
        "        for _ in self._waiting:\n            unpin(self._posted.pop().sges)\n"
        "        self._waiting.clear()\n        self._record_framed()\n        failed",
        ("RDMAP-5040-5.4-08", "RDMAP-5040-6.2.1-02"),
    ),
    Mutation(
        "what was not begun succeeds at the end",
        "queues/sq",
        "        self._waiting.clear()\n        self._record_framed()\n"
        "        failed, status = self.failed_request or (None, Status.WR_FLUSH_ERR)\n        self.begin()",
        "        unbegun = list(self._waiting)\n        self._waiting.clear()\n        self._record_framed()\n"
        "        failed, status = self.failed_request or (unbegun[0] if unbegun else None, Status.SUCCESS)\n"
        "        self.begin()",
        ("RDMAP-5040-5.4-08",),
    ),
    Mutation(
        "a Terminate is answered with another",
        "queues/qp_pump",
        "        stream.drop_output()\n        stream.finish()\n",
        '        stream._fail(LocalCatastrophe("in answer"))\n',
        ("RDMAP-5040-5.4-10",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
