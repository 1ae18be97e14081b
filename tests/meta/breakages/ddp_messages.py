"""Breakages of how DDP cuts messages, places and delivers them (RFC 5041 §5)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "a message of the plain way is one segment",
        "ddp",
        "room = mulpdu - self.HEADER_SIZE",
        "room = 64_000",
        (
            "DDP-5041-5.2-01",
            "DDP-5041-5.2-02",
        ),
    ),
    Mutation(
        "a message is one segment",
        "engine/packing",
        "most = mulpdu - message.HEADER_SIZE",
        "most = 60_000",
        (
            "DDP-5041-5.2-01",
            "DDP-5041-5.2-02",
        ),
    ),
    Mutation(
        "segments of the plain way exceed the MULPDU",
        "ddp",
        "room = mulpdu - self.HEADER_SIZE",
        "room = mulpdu",
        ("DDP-5041-5.2-02",),
    ),
    Mutation(
        "small Writes exceed the MULPDU",
        "engine/sending",
        "_WRITE_LEAD, self.mulpdu - TAGGED_SIZE, messages",
        "_WRITE_LEAD, self.mulpdu, messages",
        ("DDP-5041-5.2-02",),
    ),
    Mutation(
        "small Sends exceed the MULPDU",
        "engine/sending",
        "        most = self.mulpdu - UNTAGGED_SIZE\n        framed",
        "        most = self.mulpdu\n        framed",
        ("DDP-5041-5.2-02",),
    ),
    Mutation(
        "segments exceed the MULPDU",
        "engine/packing",
        "most = mulpdu - message.HEADER_SIZE",
        "most = mulpdu",
        ("DDP-5041-5.2-02",),
    ),
    Mutation(
        "a message of 2^32 octets in one element may be posted",
        "queues/request_kinds",
        "        if nbytes <= MAX_MESSAGE:",
        "        if True:",
        ("DDP-5041-5.2-03",),
    ),
    Mutation(
        "a message of 2^32 octets may be sent",
        "ddp",
        "if self.nbytes > MAX_MESSAGE:",
        "if self.nbytes > MAX_MESSAGE + 1:",
        ("DDP-5041-5.2-03",),
    ),
    Mutation(
        "a message of 2^32 octets in several elements may be posted",
        "queues/checks",
        "if nbytes > MAX_MESSAGE:",
        "if nbytes > MAX_MESSAGE + 1:",
        ("DDP-5041-5.2-03",),
    ),
    Mutation(
        "a message of 2^32 octets may be posted",
        "queues/checks",
        "    if nbytes > MAX_MESSAGE:",
        "    if False:",
        ("DDP-5041-5.2-03",),
    ),
    Mutation(
        "an octet is lost behind the full segments of a Write",
        "engine/packing",
        "        message.sent = end\n        return at, count",
        "        message.sent = end + 1\n        return at, count",
        ("DDP-5041-5.2-04",),
    ),
    Mutation(
        "an octet is lost behind the large segments of a Write",
        "engine/packing",
        "        message.sent = end\n        return at, mark, count",
        "        message.sent = end + 1\n        return at, mark, count",
        ("DDP-5041-5.2-04",),
    ),
    Mutation(
        "the last of several elements is not sent",
        "ddp",
        "self.nbytes = sum(map(len, payload))",
        "self.nbytes = sum(map(len, payload[:-1]))",
        ("DDP-5041-5.2-04",),
    ),
    Mutation(
        "the segments in the middle of a Send are not placed",
        "engine/fast_receive",
        "            if len(buffer) == 1:\n                buffer[0][mo",
        "            if mo and not last:\n                pass\n            elif len(buffer) == 1:\n"
        "                buffer[0][mo",
        ("DDP-5041-5.2-05",),
    ),
    Mutation(
        "of several Writes that come together the second is not placed",
        "engine/fast_receive",
        "            memory[offset : offset + nbytes] = view[body : body + nbytes]\n",
        "            if fpdus != 1:\n                memory[offset : offset + nbytes] = view[body : body + nbytes]\n",
        ("DDP-5041-5.2-05",),
    ),
    Mutation(
        "the segments in the middle of a message of the plain way are not placed",
        "ddp",
        "            scatter(buffer, header.mo, payload)\n        if not header.last",
        "            if header.last or not header.mo:\n                scatter(buffer, header.mo, payload)\n"
        "        if not header.last",
        ("DDP-5041-5.2-05",),
    ),
    Mutation(
        "a Write of the plain way is placed without its last octet",
        "engine/stream",
        "                sink[:] = payload",
        "                sink[:-1] = payload[:-1]",
        ("DDP-5041-5.2-05",),
    ),
    Mutation(
        "a message begins with MO 0",
        "ddp",
        "        buffer = self.open()\n        if buffer is None:  # DDP",
        "        if header.mo and not self.underway:\n            self._refuse(header, header.mo)\n"
        "        buffer = self.open()\n        if buffer is None:  # DDP",
        (
            "DDP-5041-5.2-06",
            "DDP-5041-5.3-03",
        ),
    ),
    Mutation(
        "the MO does not grow the plain way",
        "ddp",
        "self.inval_stag, self.qn, self.msn, offset))",
        "self.inval_stag, self.qn, self.msn, 0))",
        ("DDP-5041-5.2-07",),
    ),
    Mutation(
        "the MO does not grow",
        "ddp",
        "self.inval_stag, self.qn, self.msn, offset)\n",
        "self.inval_stag, self.qn, self.msn, 0)\n",
        ("DDP-5041-5.2-07",),
    ),
    Mutation(
        "the program's TO is not looked at",
        "ddp",
        "        self.stag = stag\n        self.to = to\n",
        "        self.stag = stag\n        self.to = 0\n",
        ("DDP-5041-5.2-08",),
    ),
    Mutation(
        "the program's TO is not looked at in a small Write",
        "queues/fast_post",
        "messages.append((stag, to, octets, nbytes))",
        "messages.append((stag, 0, octets, nbytes))",
        ("DDP-5041-5.2-08",),
    ),
    Mutation(
        "the TO does not grow the plain way",
        "ddp",
        "self.stag, self.to + offset & TO_MASK))",
        "self.stag, self.to & TO_MASK))",
        ("DDP-5041-5.2-09",),
    ),
    Mutation(
        "the TO of a last segment does not grow",
        "ddp",
        "to = self.to + offset & TO_MASK\n",
        "to = self.to\n",
        ("DDP-5041-5.2-09",),
    ),
    Mutation(
        "the TO does not grow in a run",
        "engine/packing",
        "message.to + offset & TO_MASK)\n            buffer",
        "message.to)\n            buffer",
        ("DDP-5041-5.2-09",),
    ),
    Mutation(
        "the TO does not grow in a run of large payloads",
        "engine/packing",
        "message.to + offset & TO_MASK)\n            piece",
        "message.to)\n            piece",
        ("DDP-5041-5.2-09",),
    ),
    Mutation(
        "the TO does not grow",
        "ddp",
        "to = self.to + offset & TO_MASK",
        "to = self.to",
        ("DDP-5041-5.2-09",),
    ),
    Mutation(
        "an empty message that is small is not sent",
        "engine/packing",
        "            if nbytes > most or at > _FULL:\n                break\n",
        "            if nbytes > most or at > _FULL:\n                break\n            if not nbytes:\n"
        "                framed += 1\n                continue\n",
        ("DDP-5041-5.2-10",),
    ),
    Mutation(
        "an empty message is not sent",
        "engine/packing",
        "                if nbytes > most:\n                    nbytes = most\n",
        "                if nbytes > most:\n                    nbytes = most\n                if not nbytes:\n"
        "                    given.append(messages.popleft())\n                    break\n",
        ("DDP-5041-5.2-10",),
    ),
    Mutation(
        "an empty message ends in a second segment",
        "ddp",
        "        if self.nbytes > MAX_MESSAGE:  # DDP",
        '        if not self.nbytes:\n            self.nbytes, self.single = 1, b"\\0"\n'
        "        if self.nbytes > MAX_MESSAGE:  # DDP",
        ("DDP-5041-5.2-10",),
    ),
    Mutation(
        "an empty Send is refused",
        "ddp",
        "        if end > self.size:\n",
        "        if end > self.size or not end:\n",
        ("DDP-5041-5.2-10",),
    ),
    Mutation(
        "an empty Write may be of any DV",
        "engine/stream",
        "        header = parse_tagged(ulpdu)\n",
        "        if len(ulpdu) == TAGGED_SIZE and ulpdu[1] == 0x40:\n            return\n"
        "        header = parse_tagged(ulpdu)\n",
        ("DDP-5041-5.2-11",),
    ),
    Mutation(
        "an empty Write may be of any RV and opcode",
        "engine/stream",
        "        opcode = rdmap.admit_tagged(header.rdmap)\n",
        "        if len(ulpdu) == TAGGED_SIZE and header.rdmap != 0x42:\n            return\n"
        "        opcode = rdmap.admit_tagged(header.rdmap)\n",
        ("DDP-5041-5.2-11",),
    ),
    Mutation(
        "the STag of an empty Write is looked at",
        "engine/stream",
        "            if nbytes:  # DDP-5041-5.2-12: without payload",
        "            if self._table.get(header.stag) or nbytes:  # without payload",
        (
            "DDP-5041-5.2-11",
            "DDP-5041-5.2-12",
            "DDP-5041-7.1-15",
        ),
    ),
    Mutation(
        "the STag of an empty Response is looked at",
        "rdmap",
        "        if not nbytes:  # DDP-5041-5.2-12\n",
        "        if not nbytes and stag == read.sink_stag:\n",
        ("DDP-5041-5.2-12",),
    ),
    Mutation(
        "the TO of an empty Response is looked at",
        "rdmap",
        "        if not nbytes:  # DDP-5041-5.2-12\n",
        "        if not nbytes and to == read.sink_to:\n",
        ("DDP-5041-5.2-12",),
    ),
    Mutation(
        "a queued Send overtakes what was posted before",
        "engine/sending",
        "        self._messages.append(UntaggedOutbound(octet, payload",
        "        self._messages.appendleft(UntaggedOutbound(octet, payload",
        (
            "DDP-5041-5.3-01",
            "RDMAP-5040-5.3-09",
            "RDMAP-5040-5.5-10",
        ),
    ),
    Mutation(
        "a queued Write overtakes what was posted before",
        "engine/sending",
        "        self._messages.append(TaggedOutbound(_WRITE",
        "        self._messages.appendleft(TaggedOutbound(_WRITE",
        ("DDP-5041-5.3-01",),
    ),
    Mutation(
        "what lies ready leaves behind the next batch",
        "engine/packing",
        "        self._fpdus_left = fpdus\n        if self.early_fpdus:\n            self._count_early()",
        "        self._fpdus_left = fpdus\n        if self.early_fpdus:\n            self.discard_early()",
        ("DDP-5041-5.3-01",),
    ),
    Mutation(
        "the full segments of a Write leave in reverse",
        "engine/packing",
        "            lead(buffer, at, word, message.to + offset & TO_MASK)\n"
        "            buffer[body:stop] = payload[offset : offset + most]\n",
        "            back = message.sent + end - most - offset\n"
        "            lead(buffer, at, word, message.to + back & TO_MASK)\n"
        "            buffer[body:stop] = payload[back : back + most]\n",
        ("DDP-5041-5.3-02",),
    ),
    Mutation(
        "the large segments of a Write leave in reverse",
        "engine/packing",
        "            lead(buffer, at, word, message.to + offset & TO_MASK)\n"
        "            piece = view[offset : offset + most]\n",
        "            back = message.sent + end - most - offset\n"
        "            lead(buffer, at, word, message.to + back & TO_MASK)\n"
        "            piece = view[back : back + most]\n",
        ("DDP-5041-5.3-02",),
    ),
    Mutation(
        "a message with a hole is delivered",
        "ddp",
        "        if self.extent.due != end:",
        "        if False:",
        ("DDP-5041-5.4-02", "EXT-7306-8.2-01"),
    ),
    Mutation(
        "octets that came before make up for those of a hole",
        "extent",
        "        if (at and pieces[at - 1][1] > start) or (at < len(pieces) and pieces[at][0] < stop):",
        "        if False:",
        ("DDP-5041-5.4-02", "RDMAP-5040-5.2.2-08"),
    ),
    Mutation(
        "a message with a hole is delivered the fast way",
        "engine/fast_receive",
        "            if mo != extent.due:",
        "            if extent.due < 0:",
        ("DDP-5041-5.4-02",),
    ),
    Mutation(
        "the MSNs of received messages stand still",
        "ddp",
        "        self.due_msn = self.due_msn + 1 & MSN_MASK",
        "        self.due_msn = self.due_msn",
        ("DDP-5041-5.3-05",),
    ),
    Mutation(
        "a Send that comes again is delivered again",
        "engine/fast_receive",
        "if qn_msn != queue.due_msn:",
        "if qn_msn > queue.due_msn:",
        ("DDP-5041-5.3-05",),
    ),
    Mutation(
        "a Send that comes again is delivered again the plain way",
        "ddp",
        "if header.msn != self.due_msn:",
        "if header.msn > self.due_msn:",
        ("DDP-5041-5.3-05",),
    ),
    Mutation(
        "receives are taken newest first",
        "queues/rq",
        "            receive = self.posted.popleft()",
        "            receive = self.posted.pop()",
        ("DDP-5041-5.3-06",),
    ),
    Mutation(
        "a connection gives messages newest first",
        "connections/endpoint",
        "completion = self._inbox.popleft()",
        "completion = self._inbox.pop()",
        ("DDP-5041-5.3-06",),
    ),
    Mutation(
        "a Send that is whole is not delivered if it has several segments",
        "engine/fast_receive",
        "            if last:\n                msn",
        "            if last and not mo:\n                msn",
        ("DDP-5041-5.4-01",),
    ),
    Mutation(
        "a message of the plain way that is whole is not delivered if it has several segments",
        "ddp",
        "        if not header.last:\n            return None\n",
        "        if not header.last or header.mo:\n            return None\n",
        ("DDP-5041-5.4-01",),
    ),
    Mutation(
        "a message in the middle of another is delivered",
        "ddp",
        "if header.msn != self.due_msn:",
        "if header.msn < self.due_msn:",
        (
            "DDP-5041-5.4-01",
            "DDP-5041-5.4-02",
        ),
    ),
    Mutation(
        "a message is delivered the fast way before its predecessor",
        "engine/fast_receive",
        "if qn_msn != queue.due_msn:",
        "if qn_msn < queue.due_msn:",
        (
            "DDP-5041-5.4-01",
            "DDP-5041-5.4-02",
        ),
    ),
    Mutation(
        "the length of a message is that of its last segment",
        "engine/fast_receive",
        "msn, mo + nbytes, solicited",
        "msn, nbytes, solicited",
        (
            "DDP-5041-5.4-03",
            "DDP-5041-5.4-04",
        ),
    ),
    Mutation(
        "the length of a message of the plain way is that of its last segment",
        "ddp",
        "return end  # DDP",
        "return len(payload)  # DDP",
        (
            "DDP-5041-5.4-03",
            "DDP-5041-5.4-04",
        ),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
