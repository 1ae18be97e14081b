"""Breakages of RDMA Write, RDMA Read and the Send types (RFC 5040 §5.1 to §5.3)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "a zero-length Read is checked",
        "engine/stream",
        "        if request.read_size == 0:  #",
        "        if False:  #",
        ("RDMAP-5040-5.2.1-15",),
    ),
    Mutation(
        "Responses come newest first",
        "engine/sending",
        "        answer = queue[0]\n",
        "        queue.rotate(1)\n        answer = queue[0]\n",
        ("RDMAP-5040-5.2.2-07",),
    ),
    Mutation(
        "the fast way does not look at a Send's version",
        "engine/fast_receive",
        "_PLAIN_SENDS: Final = admission(frozenset({Opcode.SEND, Opcode.SEND_SE}))",
        "_PLAIN_SENDS: Final = admission(frozenset({Opcode.SEND, Opcode.SEND_SE}))[64:128] * 4",
        ("RDMAP-5040-5.3-07", "RDMAP-5040-7.2-03", "RDMAP-5040-4.1-07"),
    ),
    Mutation(
        "a shorter Read Request is filled with what the one before left",
        "engine/stream",
        "parse_read_request(self._request_octets[:nbytes])",
        "parse_read_request(self._request_octets[: max(nbytes, READ_REQUEST_SIZE)])",
        ("RDMAP-5040-5.2.1-05",),
    ),
    Mutation(
        "a Read Request of another length is dropped silently",
        "engine/stream",
        "        request = parse_read_request(self._request_octets[:nbytes])\n",
        "        if nbytes != READ_REQUEST_SIZE:\n            return\n"
        "        request = parse_read_request(self._request_octets[:nbytes])\n",
        ("RDMAP-5040-5.2.1-05",),
    ),
    Mutation(
        "a Write beside the beginning of a region is refused",
        "mr",
        "        offset = to - region.to\n        if offset < 0 or",
        "        offset = to - region.to\n        if offset or",
        ("RDMAP-5040-5.1-04",),
    ),
    Mutation(
        "Writes overtake what waits",
        "engine/sending",
        "self._messages.append(TaggedOutbound(_WRITE",
        "self._messages.appendleft(TaggedOutbound(_WRITE",
        ("RDMAP-5040-5.1-06", "RDMAP-5040-5.5-10"),
    ),
    Mutation(
        "early Writes leave newest first",
        "queues/fast_post",
        "    return stream.write_now(messages)",
        "    return stream.write_now(messages[::-1])",
        ("RDMAP-5040-5.1-06", "RDMAP-5040-5.5-10"),
    ),
    Mutation(
        "Reads overtake what waits",
        "engine/sending",
        "        self._messages.append(\n            UntaggedOutbound(\n"
        "                rdmap.control_octet(Opcode.READ_REQUEST)",
        "        self._messages.appendleft(\n            UntaggedOutbound(\n"
        "                rdmap.control_octet(Opcode.READ_REQUEST)",
        ("RDMAP-5040-5.2.1-07", "RDMAP-5040-5.5-10"),
    ),
    Mutation(
        "Reads that ORD holds back leave newest first",
        "queues/sq",
        "            self._waiting.append(posted)\n            return",
        "            self._waiting.appendleft(posted)\n            return",
        ("RDMAP-5040-5.2.1-07", "RDMAP-5040-5.5-10", "EXT-7306-5.2.1-16"),
    ),
    Mutation(
        "the STag changes within a Write",
        "ddp",
        "build_tagged(Tagged(self.last_given, self.rdmap, self.stag, ",
        "build_tagged(Tagged(self.last_given, self.rdmap, self.stag + (offset > 0), ",
        ("RDMAP-5040-5.1-08", "RDMAP-5040-5.2.2-09"),
    ),
    Mutation(
        "the STag changes in the last segment of a Write",
        "ddp",
        "TAGGED_SIZE + nbytes, control, self.rdmap, self.stag, to)",
        "TAGGED_SIZE + nbytes, control, self.rdmap, self.stag + (offset > 0), to)",
        ("RDMAP-5040-5.1-08", "RDMAP-5040-5.2.2-09"),
    ),
    Mutation(
        "a Write of no octets is looked at",
        "engine/stream",
        "            if nbytes:  # DDP-5041-5.2-12: without",
        "            if True:  # without",
        ("RDMAP-5040-5.1-09",),
    ),
    Mutation(
        "a Write of no octets is not sent",
        "engine/sending",
        "        self._messages.append(TaggedOutbound(_WRITE, payload, stag, to, token))",
        "        if payload:\n            self._messages.append(TaggedOutbound(_WRITE, payload, stag, to, token))",
        ("RDMAP-5040-5.1-09", "RDMAP-5040-3.2-01"),
    ),
    Mutation(
        "a Response is answered twice",
        "engine/stream",
        "        self._answers.append(ReadAnswer(request, region.pieces(source), region,"
        " bytes(self._segment[:UNTAGGED_SIZE])))",
        "        for _ in range(2):\n"
        "            self._answers.append(ReadAnswer(request, region.pieces(source), region,"
        " bytes(self._segment[:UNTAGGED_SIZE])))",
        ("RDMAP-5040-5.2-01",),
    ),
    Mutation(
        "every segment of a Response is a message",
        "ddp",
        "TAGGED_SIZE + nbytes << 48 | _TAGGED_MORE << 40",
        "TAGGED_SIZE + nbytes << 48 | (_TAGGED_LAST if self.rdmap & 2 else _TAGGED_MORE) << 40",
        ("RDMAP-5040-5.2-01",),
    ),
    Mutation(
        "the plain way takes a Response that is too short",
        "rdmap",
        "        if read.extent.due != read.nbytes:\n            raise MalformedMessage",
        "        if False:\n            raise MalformedMessage",
        ("RDMAP-5040-5.2.2-08", "RDMAP-5040-5.2.2-05"),
    ),
    Mutation(
        "the MSN of Read Requests stands still",
        "ddp",
        "        self._buffer = None\n        self.due_msn = self.due_msn + 1 & MSN_MASK",
        "        self._buffer = None\n        self.due_msn = self.due_msn + (self.qn != 1) & MSN_MASK",
        ("RDMAP-5040-5.2.1-02", "EXT-7306-5.2.1-11"),
    ),
    Mutation(
        "any MSN of a Read Request will do",
        "ddp",
        "        if header.msn != self.due_msn:",
        "        if header.msn != self.due_msn and self.qn != 1:",
        ("RDMAP-5040-5.2.1-02", "RDMAP-5040-7.2-06", "EXT-7306-8.2-01"),
    ),
    Mutation(
        "an earlier MSN of a Read Request will do",
        "ddp",
        "        if header.msn != self.due_msn:",
        "        if header.msn > self.due_msn or (self.qn != 1 and header.msn != self.due_msn):",
        ("RDMAP-5040-5.2.1-02", "RDMAP-5040-7.2-06"),
    ),
    Mutation(
        "a Read Request may come on the queue of Sends",
        "rdmap",
        "QueueNumber.SEND: QUEUE_OPCODES[QueueNumber.SEND] | {",
        "QueueNumber.SEND: QUEUE_OPCODES[QueueNumber.SEND] | {Opcode.READ_REQUEST, ",
        ("RDMAP-5040-5.2.1-06", "RDMAP-5040-7.2-02"),
    ),
    Mutation(
        "a Read Request may come on the Terminate's queue",
        "rdmap",
        "    QueueNumber.TERMINATE: QUEUE_OPCODES[QueueNumber.TERMINATE],",
        "    QueueNumber.TERMINATE: QUEUE_OPCODES[QueueNumber.TERMINATE] | {Opcode.READ_REQUEST},",
        ("RDMAP-5040-5.2.1-06", "RDMAP-5040-7.2-02"),
    ),
    Mutation(
        "Reads wait for the program",
        "engine/stream",
        "            self._on_read_request(header.msn, nbytes)",
        "            self._events.append(Delivered(opcode, header.msn, nbytes, False, None, None))",
        ("RDMAP-5040-5.2.1-03", "RDMAP-5040-5.2.1-12", "RDMAP-5040-5.2.1-04"),
    ),
    Mutation(
        "Responses leave newest first",
        "engine/stream",
        "        self._answers.append(ReadAnswer(request, region.pieces",
        "        self._answers.appendleft(ReadAnswer(request, region.pieces",
        ("RDMAP-5040-5.2.1-08", "RDMAP-5040-5.2.2-07", "RDMAP-5040-5.5-17"),
    ),
    Mutation(
        "empty Responses overtake the others",
        "engine/stream",
        "            self._answers.append(ReadAnswer(request, (), None))",
        "            self._answers.appendleft(ReadAnswer(request, (), None))",
        ("RDMAP-5040-5.2.1-08", "RDMAP-5040-5.2.2-07", "RDMAP-5040-5.5-17"),
    ),
    Mutation(
        "a Read into several regions names the first",
        "queues/request_kinds",
        "    if sge is not None and not isinstance(sge, RegionSlice):",
        "    if False:",
        ("RDMAP-5040-5.2.1-09",),
    ),
    Mutation(
        "Responses begin one octet late",
        "engine/stream",
        "        source, region = self._table.source(stag, to, nbytes, self._pd, self._scope)\n",
        "        source, region = self._table.source(stag, to, nbytes, self._pd, self._scope)\n"
        "        source = region.pinned_view(to - region.to + 1, nbytes)\n",
        ("RDMAP-5040-5.2.1-12",),
    ),
    Mutation(
        "an empty Read is not answered",
        "engine/stream",
        "            self._answers.append(ReadAnswer(request, (), None))\n",
        "",
        ("RDMAP-5040-5.2.1-13", "RDMAP-5040-5.2.1-16"),
    ),
    Mutation(
        "an empty Read is answered with an octet",
        "engine/stream",
        "            self._answers.append(ReadAnswer(request, (), None))\n",
        "            self._answers.append(ReadAnswer(request, (memoryview(bytes(1)),), None))\n",
        ("RDMAP-5040-5.2.1-16",),
    ),
    Mutation(
        "an empty Read of memory that is not there is refused",
        "engine/stream",
        "            self._answers.append(ReadAnswer(request, (), None))\n",
        "            if self._table.get(request.source_stag) is None:\n"
        "                raise ReadInvalidStag(request.source_stag)\n"
        "            self._answers.append(ReadAnswer(request, (), None))\n",
        ("RDMAP-5040-5.2.1-15", "RDMAP-5040-5.2.1-13"),
    ),
    Mutation(
        "Reads need no bounds",
        "mr",
        "        return self._reach(stag, to, nbytes, pd, REMOTE_READ, RDMAP_ERRORS, stream)",
        "        region = self._regions.get(stag)\n"
        "        return self._reach(stag, to if region is None or region.scope is not pd else"
        " region.to, nbytes if region is None else min(nbytes, region.nbytes), pd, REMOTE_READ,"
        " RDMAP_ERRORS, stream)",
        ("RDMAP-5040-5.2.1-14", "RDMAP-5040-7.2-11", "RDMAP-5040-7.2-12", "RDMAP-5040-7.2-13"),
    ),
    Mutation(
        "one Read less than IRD is served",
        "rdmap",
        "if self.count >= self.limit:",
        "if self.count >= self.limit - 1:",
        ("RDMAP-5040-5.2.2-03", "RDMAP-5040-6.1-02", "EXT-7306-5.2.2-05"),
    ),
    Mutation(
        "a Read that was answered still counts",
        "engine/sending",
        "            self._inbound.end()",
        "            pass",
        ("RDMAP-5040-5.2.2-03", "RDMAP-5040-6.1-02", "EXT-7306-5.2.2-05"),
    ),
    Mutation(
        "a Response is not delivered",
        "engine/stream",
        "            read = self.reads.delivered()\n            self._events.append(ReadDone(read.token, read.nbytes))",
        "            read = self.reads.delivered()\n            if not payload:\n"
        "                self._events.append(ReadDone(read.token, read.nbytes))",
        ("RDMAP-5040-5.2.2-04", "RDMAP-5040-5.5-19"),
    ),
    Mutation(
        "the fast way does not deliver a Response",
        "engine/fast_receive",
        "                events.append(ReadDone(done.token, done.nbytes))",
        "                pass",
        ("RDMAP-5040-5.2.2-04", "RDMAP-5040-5.5-19"),
    ),
    Mutation(
        "the fast way takes a Response to another STag",
        "engine/fast_receive",
        "or read is None or read.sink_stag != stag:",
        "or read is None:",
        ("RDMAP-5040-5.2.2-05", "RDMAP-5040-5.2.2-08"),
    ),
    Mutation(
        "a Response may give an octet twice, the fast way",
        "engine/fast_receive",
        "                if offset != extent.due or (last",
        "                if (last",
        ("RDMAP-5040-5.2.2-05", "RDMAP-5040-5.2.2-08"),
    ),
    Mutation(
        "a Response may give an octet twice, the plain way",
        "rdmap",
        "        elif reason := read.extent.add(offset, offset + nbytes):",
        "        elif (reason := read.extent.add(offset, offset + nbytes)) and False:",
        ("RDMAP-5040-5.2.2-08", "RDMAP-5040-5.2.2-05"),
    ),
    Mutation(
        "the plain way takes a Response before its sink",
        "rdmap",
        "        if not read.sink_to <= to <= read.sink_to + read.nbytes - nbytes:",
        "        if not to <= read.sink_to + read.nbytes - nbytes:",
        ("RDMAP-5040-5.2.2-05",),
    ),
    Mutation(
        "a Response that nobody asked for is ignored",
        "rdmap",
        '            raise UnexpectedOpcode(Opcode.READ_RESPONSE, "no Read is outstanding")',
        "            return",
        ("RDMAP-5040-5.2.2-05",),
    ),
    Mutation(
        "a Response must begin at the sink's beginning",
        "rdmap",
        "        offset = to - read.sink_to",
        "        if not read.extent.placed and to != read.sink_to:\n"
        "            raise BaseOrBounds(stag, to, nbytes)\n        offset = to - read.sink_to",
        ("RDMAP-5040-5.2.2-06",),
    ),
    Mutation(
        "a Response's TO begins at 0",
        "engine/responses",
        "to=request.sink_to)",
        "to=0)",
        ("RDMAP-5040-5.2.2-06", "RDMAP-5040-4.4-03"),
    ),
    Mutation(
        "segments of two Responses mix",
        "engine/sending",
        "        if self._underway is not None:\n            return self._underway",
        "        if self._underway is not None and len(self._answers) > 1:\n            self._answers.rotate(1)\n"
        "        if self._underway is not None:\n            return self._underway",
        ("RDMAP-5040-5.2.2-07", "RDMAP-5040-5.5-17"),
    ),
    Mutation(
        "a Send takes the receive of the one before",
        "ddp",
        "        self.close()\n        return end",
        "        self.due_msn = self.due_msn + 1 & MSN_MASK\n        return end",
        ("RDMAP-5040-5.3-02",),
    ),
    Mutation(
        "the fast way puts a Send into the receive of the one before",
        "engine/fast_receive",
        "                queue.close()\n",
        "                queue.due_msn += 1\n",
        ("RDMAP-5040-5.3-02",),
    ),
    Mutation(
        "the second segment of a Send takes a receive of its own",
        "ddp",
        "        if not header.last:\n            return None\n",
        "        if not header.last:\n            self._buffer = None\n            return None\n",
        ("RDMAP-5040-5.3-02",),
    ),
    Mutation(
        "the fast way lets a Send overrun its receive",
        "engine/fast_receive",
        "            if buffer is None or mo + nbytes > queue.size:",
        "            if buffer is None:",
        ("RDMAP-5040-5.3-04",),
    ),
    Mutation(
        "the plain way lets a Send overrun its receive",
        "ddp",
        "        if end > self.size:\n            self._refuse",
        "        if end > self.size + 1:\n            self._refuse",
        ("RDMAP-5040-5.3-04",),
    ),
    Mutation(
        "a Send that is too long is cut",
        "ddp",
        "        if end > self.size:\n            self._refuse(header, end)",
        "        if end > self.size:\n            payload = payload[: self.size - header.mo]\n"
        "            end = self.size",
        ("RDMAP-5040-5.3-04",),
    ),
    Mutation(
        "receives complete newest first",
        "queues/rq",
        "        receive = self.taken.popleft()",
        "        receive = self.taken.pop()",
        ("RDMAP-5040-5.3-05",),
    ),
    Mutation(
        "a Send takes the newest receive",
        "queues/rq",
        "            receive = self.posted.popleft()\n",
        "            receive = self.posted.pop()\n",
        ("RDMAP-5040-5.3-05",),
    ),
    Mutation(
        "an empty Send takes no receive",
        "ddp",
        "        buffer = self.open()\n        if buffer is None:",
        "        buffer = self.open() if payload or not header.last or header.mo else ()\n        if buffer is None:",
        ("RDMAP-5040-5.3-11", "RDMAP-5040-5.3-10"),
    ),
    Mutation(
        "the fast way needs no receive for an empty Send",
        "engine/fast_receive",
        "            buffer = queue.open()\n            if buffer is None or",
        "            buffer = queue.open() if nbytes or mo else (memoryview(bytearray()),)\n"
        "            if buffer is None or",
        ("RDMAP-5040-5.3-11", "RDMAP-5040-5.3-10"),
    ),
    Mutation(
        "the plain way refuses an empty Send",
        "ddp",
        "        end = header.mo + len(payload)\n",
        "        end = header.mo + len(payload)\n        if not end:\n"
        "            raise MessageTooLong(self.qn, header.msn, end, self.size)\n",
        ("RDMAP-5040-5.3-10",),
    ),
    Mutation(
        "a Send Inv invalidates before it is delivered",
        "engine/stream",
        "        if nbytes is None:\n            return\n",
        "        if nbytes is None:\n            if opcode in rdmap.INVALIDATING_OPCODES:\n"
        "                self._table.forget(header.inval_stag)\n            return\n",
        ("RDMAP-5040-5.3-13",),
    ),
    Mutation(
        "a Send Inv takes another stream's memory",
        "mr",
        "        if region.scope is not pd and region.scope is not stream:\n            raise CannotInvalidate",
        "        if region.scope is not pd and region.scope is not stream and shared:\n"
        "            raise CannotInvalidate",
        ("RDMAP-5040-5.3-13", "RDMAP-5040-7.2-05", "RDMAP-5040-5.3-15", "SEC-5040-8.1.1-01"),
    ),
    Mutation(
        "a Send SE Inv invalidates nothing",
        "rdmap",
        "INVALIDATING_OPCODES: Final = frozenset({Opcode.SEND_INVAL, Opcode.SEND_SE_INVAL})",
        "INVALIDATING_OPCODES: Final = frozenset({Opcode.SEND_INVAL})",
        ("RDMAP-5040-5.3-14",),
    ),
    Mutation(
        "an invalidated region is void for Writes alone",
        "mr",
        "        region.retire(by_peer=True)  # RDMAP-5040-5.3-14",
        "        region.rights &= ~REMOTE_WRITE",
        ("RDMAP-5040-5.3-14",),
    ),
    Mutation(
        "an invalidated region is void for Reads alone",
        "mr",
        "        region.retire(by_peer=True)  # RDMAP-5040-5.3-14",
        "        region.rights &= ~REMOTE_READ",
        ("RDMAP-5040-5.3-14",),
    ),
    Mutation(
        "an STag that cannot be invalidated is said to be invalid",
        "errors",
        "term = Term(Layer.RDMAP, 0x1, 0x09)",
        "term = Term(Layer.RDMAP, 0x1, 0x03)",
        ("RDMAP-5040-5.3-15",),
    ),
    Mutation(
        "a type 1 window is invalidated",
        "memory/windows",
        'return "a memory window of type 1 cannot be invalidated" if self._fixed else ""',
        'return ""',
        ("RDMAP-5040-5.3-15",),
    ),
    Mutation(
        "a Write that has a Send behind it is placed behind that Send",
        "engine/stream",
        "                sink[:] = payload\n",
        "                if self.deframer.end - self.deframer.start < 30:\n                    sink[:] = payload\n",
        ("RDMAP-5040-5.1-07", "RDMAP-5040-5.5-08"),
    ),
    Mutation(
        "a Response is never sent",
        "engine/stream",
        "        self._answers.append(ReadAnswer(request, region.pieces(source), region,"
        " bytes(self._segment[:UNTAGGED_SIZE])))\n",
        "        return\n",
        ("RDMAP-5040-5.2.2-01", "RDMAP-5040-5.2.1-12", "RDMAP-5040-5.2-01"),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
