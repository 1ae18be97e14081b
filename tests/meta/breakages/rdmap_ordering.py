"""Breakages of ordering, of completion, and of the numbers of Reads (RFC 5040 §5.5 and §6.1)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "what was framed early is not waited for",
        "queues/sq",
        "        if self._framed:\n            return  #",
        "        if False:\n            return  #",
        ("RDMAP-5040-5.5-12",),
    ),
    Mutation(
        "a request overtakes those that wait",
        "queues/sq",
        "can_frame_now or self._posted or self._late",
        "can_frame_now or self._late",
        ("RDMAP-5040-5.5-12",),
    ),
    Mutation(
        "one Read more than ORD is outstanding",
        "rdmap",
        "return len(self._reads) >= self.limit",
        "return len(self._reads) > self.limit",
        ("RDMAP-5040-6.1-05",),
    ),
    Mutation(
        "one Read more than IRD is served",
        "rdmap",
        "if self.count >= self.limit:",
        "if self.count > self.limit:",
        ("RDMAP-5040-6.1-06",),
    ),
    Mutation(
        "work requests complete out of order",
        "queues/sq",
        "        while queue and queue[0].done:\n            posted = queue.popleft()",
        "        for posted in [p for p in queue if p.done]:\n            queue.remove(posted)",
        ("RDMAP-5040-5.5-12",),
    ),
    Mutation(
        "memory is given to the peer before a fence lets it",
        "queues/sq",
        "        if self.answers_due and posted.request.fence:",
        "        if False:",
        ("RDMAP-5040-5.5-10", "RDMAP-5040-5.5-09"),
    ),
    Mutation(
        "a Read starts although ORD is used up",
        "queues/sq",
        "return not (posted.kind.answered and stream.reads.full)",
        "return True",
        ("RDMAP-5040-6.1-05",),
    ),
    Mutation(
        "a Read that confirms starts although ORD is used up",
        "queues/confirming_sq",
        " or stream.reads.full or stream.peer_closed",
        " or stream.peer_closed",
        ("RDMAP-5040-6.1-05",),
    ),
    Mutation(
        "what the peer has confirmed completes before TCP lets go of it",
        "queues/confirming_sq",
        "                if posted in self._flushed_to_tcp:",
        "                if True:",
        ("RDMAP-5040-5.5-11",),
    ),
    Mutation(
        "every batch ends with four octets of nothing",
        "engine/sending",
        "        packer.end()\n",
        "        packer.end()\n        out.append(bytes(4))\n",
        ("RDMAP-5040-6.1-01", "RDMAP-5040-3.1-01"),
    ),
    Mutation(
        "what comes behind a Read that ORD holds back overtakes it",
        "queues/sq",
        "not self._may_start(posted, stream)) or self._waiting:",
        "not self._may_start(posted, stream)):",
        ("RDMAP-5040-5.5-10",),
    ),
    Mutation(
        "one Read less than ORD is outstanding",
        "rdmap",
        "return len(self._reads) >= self.limit",
        "return len(self._reads) >= max(1, self.limit - 1)",
        ("RDMAP-5040-6.1-03",),
    ),
    Mutation(
        "the plain way delivers a Send with its first segment",
        "ddp",
        "        if not header.last:\n            return None\n",
        "        if not header.last and self.qn:\n            return None\n",
        ("RDMAP-5040-5.5-05", "RDMAP-5040-5.5-13"),
    ),
    Mutation(
        "the fast way delivers a Send with its first segment",
        "engine/fast_receive",
        "            if last:\n                msn = queue.due_msn\n                queue.close()",
        "            if True:\n                msn = queue.due_msn\n                queue.close()",
        ("RDMAP-5040-5.5-05", "RDMAP-5040-5.5-13"),
    ),
    Mutation(
        "the newest Read is answered first",
        "rdmap",
        "        read = self._reads[0] if self._reads else None",
        "        read = self._reads[-1] if self._reads else None",
        ("RDMAP-5040-5.5-06",),
    ),
    Mutation(
        "a Response completes the newest Read",
        "rdmap",
        "            raise MalformedMessage(Opcode.READ_RESPONSE, read.extent.placed, read.nbytes)\n"
        "        self._reads.popleft()\n        return read",
        "            raise MalformedMessage(Opcode.READ_RESPONSE, read.extent.placed, read.nbytes)\n"
        "        self._reads.popleft()\n"
        "        if isinstance(self._reads[-1] if self._reads else None, OutstandingRead):\n"
        "            self._reads[-1].token, read.token = read.token, self._reads[-1].token\n        return read",
        ("RDMAP-5040-5.5-06",),
    ),
    Mutation(
        "a Read Request is served with its first segment",
        "ddp",
        "        if not header.last:\n            return None\n",
        "        if not header.last and (self.qn != 1 or end < 28):\n            return None\n",
        ("RDMAP-5040-5.5-07", "RDMAP-5040-5.5-14", "EXT-7306-5.4-04"),
    ),
    Mutation(
        "a Read that reads what was read before gets what it got",
        "engine/stream",
        "        self._answers.append(ReadAnswer(request, region.pieces(source), region,",
        "        was = vars(self).setdefault('was', {}).setdefault((stag, to, nbytes), bytes(source))\n"
        "        self._answers.append(ReadAnswer(request, (memoryview(was),), region,",
        ("RDMAP-5040-5.5-08",),
    ),
    Mutation(
        "a Send completes when it is posted",
        "queues/request_kinds",
        "    stream.send(posted.payload, token=posted, solicited=request.solicited, inval_stag=request.inval_stag)\n",
        "    stream.send(posted.payload, token=None, solicited=request.solicited, inval_stag=request.inval_stag)\n"
        "    posted.done = True\n",
        ("RDMAP-5040-5.5-11",),
    ),
    Mutation(
        "a Write completes when it is posted",
        "queues/request_kinds",
        "    stream.write(posted.payload, stag=stag, to=to, token=posted)\n",
        "    stream.write(posted.payload, stag=stag, to=to, token=None)\n    posted.done = True\n",
        ("RDMAP-5040-5.5-11",),
    ),
    Mutation(
        "Immediate Data completes when it is posted",
        "queues/request_kinds",
        "    stream.immediate(bytes(posted.payload[0]), token=posted, solicited=request.solicited)\n",
        "    stream.immediate(bytes(posted.payload[0]), token=None, solicited=request.solicited)\n"
        "    posted.done = True\n",
        ("RDMAP-5040-5.5-11", "EXT-7306-6.4-01"),
    ),
    Mutation(
        "what is framed early completes when it is posted",
        "queues/sq",
        "        self._framed += requests if done == len(requests) else islice(requests, done)\n",
        "        self._sent += requests if done == len(requests) else islice(requests, done)\n"
        "        self._complete_sent()\n",
        ("RDMAP-5040-5.5-11",),
    ),
    Mutation(
        "a Send completes with its first segment",
        "engine/packing",
        "                if message.last_given:\n                    given.append(messages.popleft())\n"
        "                    break\n            if one:",
        "                if message.sent and message.token is not None:\n"
        "                    given.append(message)\n                if message.last_given:\n"
        "                    messages.popleft()\n                    break\n            if one:",
        ("RDMAP-5040-5.5-11",),
    ),
    Mutation(
        "a Write behind a Read completes first",
        "queues/sq",
        "        while queue and queue[0].done:\n            posted = queue.popleft()",
        "        while any(each.done for each in queue):\n"
        "            posted = next(each for each in queue if each.done)\n            queue.remove(posted)",
        ("RDMAP-5040-5.5-12", "RDMAP-5040-3.2-02"),
    ),
    Mutation(
        "a Read completes when it has its octets but not their last segment",
        "engine/stream",
        "        if header.last:\n            read = self.reads.delivered()",
        "        if header.last or (self.reads.due and self.reads.due.extent.due == self.reads.due.nbytes):\n"
        "            read = self.reads.delivered()",
        ("RDMAP-5040-5.5-16",),
    ),
    Mutation(
        "the fast way completes a Read that has its octets but not their last segment",
        "engine/fast_receive",
        "            if last and read is not None:",
        "            if read is not None and not read.left:",
        ("RDMAP-5040-5.5-16",),
    ),
    Mutation(
        "a Read completes with the first segment of its Response",
        "engine/fast_receive",
        "            if last and read is not None:",
        "            if read is not None:",
        ("RDMAP-5040-5.5-16", "RDMAP-5040-5.2.2-04"),
    ),
    Mutation(
        "a Read that was answered completes with the next thing that does",
        "queues/sq",
        "        self._settle((token,))",
        "        token.done = True",
        ("RDMAP-5040-5.5-19", "RDMAP-5040-5.2.2-04", "EXT-7306-5.2.2-07"),
    ),
    Mutation(
        "confirmed Sends complete without an answer",
        "queues/confirming_sq",
        "                self._flushed_to_tcp.add(posted)\n        self._complete()",
        "                posted.done = True\n        self._complete()",
        ("RDMAP-5040-5.5-07",),
    ),
    Mutation(
        "by default twice as many Reads go out as come in",
        "negotiation",
        "    ord: int = 16",
        "    ord: int = 32",
        ("RDMAP-5040-6.1-04",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
