"""Breakages of the checks that messages and memory get (RFC 5040 §7.2 and §8.1)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation, Replacement

MUTATIONS: Final = (
    Mutation(
        "RV is not checked",
        "rdmap",
        "lawful = octet >> _VERSION_SHIFT == _VERSION and (octet",
        "lawful = (octet",
        ("RDMAP-5040-7.2-03",),
    ),
    Mutation(
        "any opcode may come on any queue",
        "rdmap",
        '    if opcode is None:\n        _refuse(octet, f"it may not come on queue {qn}")\n    return opcode',
        "    return opcode or Opcode.SEND",
        ("RDMAP-5040-7.2-02",),
    ),
    Mutation(
        "a Send may come tagged",
        "rdmap",
        "TAGGED_OPCODES: Final = frozenset({Opcode.WRITE, Opcode.READ_RESPONSE})",
        "TAGGED_OPCODES: Final = frozenset({Opcode.WRITE, Opcode.READ_RESPONSE, Opcode.SEND})",
        ("RDMAP-5040-7.2-02",),
    ),
    Mutation(
        "a later MSN of a Read Request will do",
        "ddp",
        "        if header.msn != self.due_msn:",
        "        if header.msn < self.due_msn or (self.qn != 1 and header.msn != self.due_msn):",
        ("RDMAP-5040-7.2-06",),
    ),
    Mutation(
        "any MO of a Read Request will do",
        "ddp",
        "        if end > self.size:\n            self._refuse",
        "        if end > self.size and self.qn != 1:\n            self._refuse",
        ("RDMAP-5040-7.2-06",),
    ),
    Mutation(
        "an MO outside the Read Request's buffer is said to be too long a message",
        "ddp",
        "        if header.mo >= self.size and header.mo:",
        "        if header.mo >= self.size and header.mo and self.qn != 1:",
        ("RDMAP-5040-7.2-06",),
    ),
    Mutation(
        "any opcode may come on the queue of Reads",
        "rdmap",
        "QueueNumber.READ_REQUEST: QUEUE_OPCODES[QueueNumber.READ_REQUEST] | {",
        "QueueNumber.READ_REQUEST: QUEUE_OPCODES[QueueNumber.READ_REQUEST] | {Opcode.SEND, Opcode.TERMINATE, ",
        ("RDMAP-5040-7.2-07", "RDMAP-5040-7.2-02", "RDMAP-5040-5.3-08"),
    ),
    Mutation(
        "a Read may begin before its region",
        "mr",
        "        if offset < 0 or offset + nbytes > region.nbytes:",
        "        if (offset < 0 and right != REMOTE_READ) or offset + nbytes > region.nbytes:",
        ("RDMAP-5040-7.2-11", "RDMAP-5040-5.2.1-14", "SEC-5040-8.1.1-03"),
    ),
    Mutation(
        "a Read may end one octet after its region",
        "mr",
        "        if offset < 0 or offset + nbytes > region.nbytes:",
        "        if offset < 0 or offset + nbytes > region.nbytes + (right == REMOTE_READ):",
        ("RDMAP-5040-7.2-12", "RDMAP-5040-5.2.1-14", "SEC-5040-8.1.1-03"),
    ),
    Mutation(
        "a Read may wrap",
        "mr",
        "            if to + nbytes > TO_LIMIT:",
        "            if to + nbytes > TO_LIMIT and right == REMOTE_READ:\n"
        "                return memoryview(bytes(nbytes)), region\n            if to + nbytes > TO_LIMIT:",
        ("RDMAP-5040-7.2-13",),
    ),
    Mutation(
        "a Read that wraps is said to be out of bounds",
        "mr",
        "            if to + nbytes > TO_LIMIT:",
        "            if to + nbytes > TO_LIMIT and right != REMOTE_READ:",
        ("RDMAP-5040-7.2-13",),
    ),
    Mutation(
        "a Read's STag is found without its key",
        "mr",
        "        region = self._regions.get(stag)\n        if region is None:  # DDP-5041-7.1-10",
        "        region = self._regions.get(stag)\n        if region is None and right == REMOTE_READ:\n"
        "            region = next((r for s, r in self._regions.items() if s >> 8 == stag >> 8), None)\n"
        "        if region is None:  # DDP-5041-7.1-10",
        ("RDMAP-5040-7.2-09",),
    ),
    Mutation(
        "a Read of an unknown STag is said to be out of bounds",
        "mr",
        "            raise errors.invalid(stag)",
        "            raise errors.invalid(stag) if errors is DDP_ERRORS else errors.bounds(stag, to, nbytes)",
        ("RDMAP-5040-7.2-09", "RDMAP-5040-5.2.1-14"),
    ),
    Mutation(
        "Reads reach other protection domains",
        "mr",
        "        if region.scope is not pd and region.scope is not stream:  # DDP-5041-8.2-01",
        "        if region.scope is not pd and region.scope is not stream and right != REMOTE_READ:  #",
        ("RDMAP-5040-7.2-10", "SEC-5040-8.1.1-01", "SEC-5040-8.1.1-02"),
    ),
    Mutation(
        "Writes reach other protection domains",
        "mr",
        "        if region.scope is not pd and region.scope is not stream:  # DDP-5041-8.2-01",
        "        if region.scope is not pd and region.scope is not stream and right != REMOTE_WRITE:  #",
        ("SEC-5040-8.1.1-01", "SEC-5040-8.1.1-02"),
    ),
    Mutation(
        "the fast way writes to other protection domains",
        "mr",
        "or not (region.scope is pd or region.scope is stream) or",
        "or",
        ("SEC-5040-8.1.1-01", "SEC-5040-8.1.1-02"),
    ),
    Mutation(
        "Atomics reach other protection domains",
        "mr",
        "        if region.scope is not pd and region.scope is not stream:  # DDP-5041-8.2-01",
        "        if region.scope is not pd and region.scope is not stream and right != REMOTE_ATOMIC:  #",
        ("SEC-5040-8.1.1-01", "SEC-5040-8.1.1-02", "EXT-7306-8.2-06"),
    ),
    Mutation(
        "Reads need no right",
        "mr",
        "        if not region.rights & right:",
        "        if right != REMOTE_READ and not region.rights & right:",
        ("RDMAP-5040-7.2-14", "SEC-5040-8.1.1-05", "RDMAP-5040-3.2-07"),
    ),
    Mutation(
        "Writes need no right",
        "mr",
        "        if not region.rights & right:",
        "        if right != REMOTE_WRITE and not region.rights & right:",
        ("SEC-5040-8.1.1-05", "RDMAP-5040-3.2-07"),
    ),
    Mutation(
        "the fast way needs no right to write",
        "mr",
        " or not region.rights & REMOTE_WRITE:",
        ":",
        ("SEC-5040-8.1.1-05", "RDMAP-5040-3.2-07"),
    ),
    Mutation(
        "an STag that names nothing is invalidated silently",
        "mr",
        '            raise CannotInvalidate(stag, "it names no region here")',
        "            return",
        ("RDMAP-5040-7.2-04",),
    ),
    Mutation(
        "DV of untagged segments is not looked at",
        "fastwire",
        "    if control & VERSION_MASK != VERSION:\n        raise UntaggedVersion",
        "    if False:\n        raise UntaggedVersion",
        ("RDMAP-5040-7.2-01", "EXT-7306-8.2-01"),
    ),
    Mutation(
        "DV of tagged segments is not looked at",
        "fastwire",
        "    if control & VERSION_MASK != VERSION:\n        raise TaggedVersion",
        "    if False:\n        raise TaggedVersion",
        ("RDMAP-5040-7.2-01",),
    ),
    Mutation(
        "DV is not looked at in the fast way of Writes",
        "engine/fast_receive",
        "or control & _KIND != TAGGED | VERSION:",
        "or not control & TAGGED:",
        ("RDMAP-5040-7.2-01",),
    ),
    Mutation(
        "MSN is not looked at in the fast way of Sends",
        "engine/fast_receive",
        "            if qn_msn != queue.due_msn:",
        "            if qn_msn >> 32:",
        ("RDMAP-5040-7.2-01",),
    ),
    Mutation(
        "Writes need no bounds",
        "mr",
        "        return self._reach(stag, to, nbytes, pd, right, DDP_ERRORS, stream)[0]",
        "        return self._reach(stag, to, nbytes, pd, right, DDP_ERRORS, stream)[0] if"
        " self._regions.get(stag) is None or to - self._regions[stag].to !="
        " self._regions[stag].nbytes else memoryview(bytearray(nbytes))",
        ("RDMAP-5040-7.2-01", "SEC-5040-8.1.1-03"),
    ),
    Mutation(
        "the fast way writes one octet too far",
        "engine/fast_receive",
        "region.to, region.nbytes - nbytes, nbytes",
        "region.to, region.nbytes - nbytes + 1, nbytes",
        ("SEC-5040-8.1.1-03", "RDMAP-5040-7.2-01"),
    ),
    Mutation(
        "opcode F is a Send's",
        "rdmap",
        "        lawful = octet >> _VERSION_SHIFT == _VERSION and (octet & _OPCODE_MASK) in opcodes",
        "        octet = octet - 12 if octet & 15 == 15 else octet\n"
        "        lawful = octet >> _VERSION_SHIFT == _VERSION and (octet & _OPCODE_MASK) in opcodes",
        ("RDMAP-5040-7.2-02", "RDMAP-6580-3.4-02", "EXT-7306-8.2-02"),
    ),
    Mutation(
        "the targets of Writes outlive one delivery",
        "engine/fast_receive",
        "        targets: dict[int, _Target] = {}  #",
        "        targets = vars(FastReceive.run).setdefault('targets', {})  #",
        ("SEC-5040-8.1.1-06",),
    ),
    Mutation(
        "any stream gives back what one stream has",
        "mr",
        "        if shared and region.scope is pd:",
        "        if shared:",
        ("SEC-5040-8.1.1-07",),
    ),
    Mutation(
        "a region that is shared with a stream that has ended is not the peer's to give back",
        "queues/qp_pump",
        "return any(other is not self and other.state is not QpState.IDLE for other in self.pd.queue_pairs)",
        "return False",
        ("SEC-5040-8.1.1-07",),
    ),
    Mutation(
        "STags are counted",
        "mr",
        "        self._random_index = random_index or (lambda: secrets.randbits(24))",
        "        self._random_index = random_index or (lambda: len(self._indices) + 1)",
        ("SEC-5040-8.1.1-08", "SEC-5040-8.1.1-09"),
    ),
    Mutation(
        "STags have a constant stride",
        "mr",
        "        self._random_index = random_index or (lambda: secrets.randbits(24))",
        "        self._random_index = random_index or (lambda: (len(self._indices) + 1) * 0x9E37)",
        ("SEC-5040-8.1.1-08",),
    ),
    Mutation(
        "the next key of an STag is the old one plus one",
        "access",
        "stag + 1 + secrets.randbelow(_KEY_MASK) & _KEY_MASK",
        "stag + 1 & _KEY_MASK",
        ("SEC-5040-8.1.1-08",),
    ),
    Mutation(
        "STags are small",
        "mr",
        "        self._random_index = random_index or (lambda: secrets.randbits(24))",
        "        self._random_index = random_index or (lambda: secrets.randbits(22))",
        ("SEC-5040-8.1.1-09",),
    ),
    Mutation(
        "an overflow ends all queue pairs",
        "verbs",
        "if cq in (qp.send_cq, qp.recv_cq) and qp.state",
        "if qp.state",
        ("SEC-5040-8.1.1-11",),
    ),
    Mutation(
        "IRD is what the peer asks",
        "rdmap",
        "        if self.count >= self.limit:\n            raise NoBufferForMsn",
        "        if self.count >= 64:\n            raise NoBufferForMsn",
        ("SEC-5040-8.1.1-12", "RDMAP-5040-6.1-06", "RDMAP-5040-5.2.1-02", "SEC-5040-8.1.2-07"),
    ),
    Mutation(
        "a queue pair may be of any size",
        "verbs",
        "        _check_cap(cap, self.context.device)\n",
        "",
        ("SEC-5040-8.1.2-02",),
    ),
    Mutation(
        "a completion queue takes any number of completions",
        "queues/cq",
        "        if len(self._completions) >= self.capacity:",
        "        if False:",
        ("SEC-5040-8.1.2-05", "SEC-5040-8.1.1-11"),
    ),
    Mutation(
        "read-only memory is offered to be written",
        "access",
        "def check_writable(view: memoryview, access: Access) -> None:\n",
        "def check_writable(view: memoryview, access: Access) -> None:\n    return\n\n\n"
        "def _unused(view: memoryview, access: Access) -> None:\n",
        ("SEC-5040-8.1.2-04",),
    ),
    Mutation(
        "IRD is counted for all streams together",
        "rdmap",
        "        self.limit = limit\n        self.count = 0\n",
        "        self.limit = limit\n\n"
        "    count = property(lambda self: _served[0], lambda self, value: _served.__setitem__(0, value))\n\n"
        "    def _nothing(self) -> None:\n        pass\n",
        ("SEC-5040-8.1.2-07",),
        (
            Replacement(
                "rdmap",
                "class InboundReads:\n",
                "_served = [0]\n\n\nclass InboundReads:\n",
            ),
        ),
    ),
    Mutation(
        "completion queues are made of any size, and grow to any",
        "queues/cq",
        "        if self.max_cqe is not None and capacity > self.max_cqe:",
        "        if False:",
        ("SEC-5040-8.1.2-05", "SEC-5040-8.1.2-02", "SEC-5040-8.1.2-06"),
        (
            Replacement(
                "verbs",
                "        if capacity > max_cqe:\n",
                "        if False:\n",
            ),
        ),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
