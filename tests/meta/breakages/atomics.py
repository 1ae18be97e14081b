"""Breakages of Atomic Operations and their ordering (RFC 7306 §5.1, §5.3, §5.4, §7 and §8)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation, Replacement

MUTATIONS: Final = (
    Mutation(
        "Atomics reach into the next piece",
        "memory/paged",
        "        return misaligned or (len(piece) - start if start + ATOMIC_SIZE > len(piece) else 0)",
        "        return misaligned",
        ("EXT-7306-8.2-04",),
    ),
    Mutation(
        "carries run from field to field",
        "memory/atomics",
        "    below = ~mask & ALL_ONES\n",
        "    below, mask = ALL_ONES, 0\n",
        ("EXT-7306-5.1.1-05",),
    ),
    Mutation(
        "Compare Mask is ignored",
        "memory/atomics",
        "if (compare ^ original) & compare_mask:",
        "if compare ^ original:",
        ("EXT-7306-5.1.2-01",),
    ),
    Mutation(
        "Swap Mask is ignored",
        "memory/atomics",
        "(original & ~swap_mask & ALL_ONES) | (swap & swap_mask)",
        "swap",
        ("EXT-7306-5.1.2-01", "EXT-7306-5.1.2-02"),
    ),
    Mutation(
        "misaligned Atomics are done",
        "mr",
        "if region.misalignment(to - region.to):",
        "if False:",
        ("EXT-7306-8.2-04", "EXT-7306-5.1.1-03"),
    ),
    Mutation(
        "Atomic Responses are said to be tagged",
        "ddp",
        "control = _UNTAGGED_LAST if last else VERSION",
        "control = (_UNTAGGED_LAST if last else VERSION) | (TAGGED if self.qn == 3 else 0)",
        ("EXT-7306-5-05", "EXT-7306-5.2.2-03", "EXT-7306-4.1-05"),
    ),
    Mutation(
        "Atomics need no right",
        "mr",
        "        if not region.rights & right:",
        "        if right != REMOTE_ATOMIC and not region.rights & right:",
        ("EXT-7306-8.2-06",),
    ),
    Mutation(
        "an Atomic is done with all of its octets but not with its last segment",
        "ddp",
        "        if not header.last:\n            return None\n",
        "        if not header.last and (self.qn != 1 or end < 52):\n            return None\n",
        ("EXT-7306-5.4-04", "EXT-7306-5.4-06"),
    ),
    Mutation(
        "Atomics of several threads mix",
        "memory/atomics",
        "    with _one_at_a_time:\n",
        "    if True:\n",
        ("EXT-7306-5-01", "EXT-7306-5.4-02", "EXT-7306-5.3-01"),
        (
            Replacement(
                "memory/atomics",
                "        memory[:] = changed.to_bytes",
                "        __import__('time').sleep(0)\n        memory[:] = changed.to_bytes",
            ),
        ),
    ),
    Mutation(
        "Atomics of a stream read what its Atomic before left",
        "memory/atomics",
        "        original = int.from_bytes(memory, _BYTE_ORDER)\n",
        "        original = _last.get(bytes(memory), int.from_bytes(memory, _BYTE_ORDER))\n",
        ("EXT-7306-5-01",),
        (
            Replacement(
                "memory/atomics",
                "_one_at_a_time = Lock()",
                "_last: dict[bytes, int] = {b'\\2' + bytes(7): 1}\n_one_at_a_time = Lock()",
            ),
        ),
    ),
    Mutation(
        "there is no CmpSwap",
        "memory/atomics",
        "elif request.atomic_opcode == AtomicOpcode.COMPARE_SWAP:",
        "elif False:",
        ("EXT-7306-5-03", "EXT-7306-5.2.1-04"),
    ),
    Mutation(
        "there is no FetchAdd",
        "memory/atomics",
        "if request.atomic_opcode == AtomicOpcode.FETCH_ADD:",
        "if False:",
        ("EXT-7306-5-03", "EXT-7306-5.2.1-04"),
    ),
    Mutation(
        "Responses on queue 3 count Reads too",
        "engine/stream",
        "        self._inbound.begin(msn)\n        if request.read_size",
        "        self._inbound.begin(msn)\n        self._answer_msn = next_msn(self._answer_msn)\n"
        "        if request.read_size",
        ("EXT-7306-5-06",),
    ),
    Mutation(
        "any MSN on queue 3 will do",
        "ddp",
        "        if header.msn != self.due_msn:",
        "        if header.msn != self.due_msn and self.qn != 3:",
        ("EXT-7306-5-06", "EXT-7306-8.2-01", "EXT-7306-5.2.2-08"),
    ),
    Mutation(
        "the program is not told of the peer's stream catastrophe",
        "queues/qp_pump",
        "        self._tell(AsyncEventType.QP_FATAL, event.error)\n        self._flush",
        "        if event.error.term.code != 7:\n            self._tell(AsyncEventType.QP_FATAL, event.error)\n"
        "        self._flush",
        ("EXT-7306-5.1.1-01", "EXT-7306-5.1.2-04"),
    ),
    Mutation(
        "a misaligned target is rounded down before it is sent",
        "queues/work",
        "    stag, to = request.remote.stag, request.remote.to\n",
        "    stag, to = request.remote.stag, request.remote.to & ~7\n",
        ("EXT-7306-5.1.1-01", "EXT-7306-5.1.2-04"),
    ),
    Mutation(
        "a misaligned Atomic is done",
        "mr",
        "        if region.misalignment(to - region.to):  #",
        "        if False:  #",
        (
            "EXT-7306-5.1.1-02",
            "EXT-7306-5.1.1-03",
            "EXT-7306-5.1.1-04",
            "EXT-7306-5.1.2-05",
            "EXT-7306-5.1.2-06",
            "EXT-7306-5.1.2-07",
            "EXT-7306-5.1.2-08",
            "EXT-7306-8.2-04",
        ),
    ),
    Mutation(
        "a misaligned Atomic is dropped silently",
        "engine/stream",
        "        memory = self._table.atomic(request.stag, request.to, self._pd, self._scope)\n",
        "        if request.to & 3:\n            return\n"
        "        memory = self._table.atomic(request.stag, request.to, self._pd, self._scope)\n",
        ("EXT-7306-5.1.1-02", "EXT-7306-5.1.1-04", "EXT-7306-5.1.2-07", "EXT-7306-5.1.2-08"),
    ),
    Mutation(
        "a misaligned Atomic is done and then refused",
        "mr",
        "        if region.misalignment(to - region.to):  #",
        "        if region.misalignment(to - region.to):\n            memory[0] ^= 1  #",
        ("EXT-7306-5.1.1-03", "EXT-7306-5.1.2-06"),
    ),
    Mutation(
        "only odd addresses are misaligned",
        "mr",
        "_LOCAL_WRITE: Final = int(Access.LOCAL_WRITE)\n",
        "_LOCAL_WRITE: Final = int(Access.LOCAL_WRITE)\n_WORD: Final = 4\n",
        ("EXT-7306-8.2-04", "EXT-7306-5.1.1-02", "EXT-7306-5.1.2-05"),
        (
            Replacement(
                "mr",
                "(page_offset(self._view) + offset) % ATOMIC_SIZE",
                "(page_offset(self._view) + offset) % _WORD",
            ),
        ),
    ),
    Mutation(
        "misalignment is said to be an unexpected opcode",
        "errors",
        "term = Term(Layer.RDMAP, 0x2, 0x07)",
        "term = Term(Layer.RDMAP, 0x2, 0x06)",
        ("EXT-7306-8.2-05", "EXT-7306-5.1.1-04", "EXT-7306-5.1.2-08"),
    ),
    Mutation(
        "the carry out of a field is not dropped",
        "memory/atomics",
        "    return (((original & below) + (add & below)) ^ ((original ^ add) & mask)) & ALL_ONES",
        "    return (original + add) & ALL_ONES",
        ("EXT-7306-5.1.1-05",),
    ),
    Mutation(
        "the topmost carry stays",
        "memory/atomics",
        "    return (((original & below) + (add & below)) ^ ((original ^ add) & mask)) & ALL_ONES",
        "    return min(ALL_ONES, ((original & below) + (add & below)) ^ ((original ^ add) & mask))",
        ("EXT-7306-5.1.1-06",),
    ),
    Mutation(
        "memory is in network order",
        "memory/atomics",
        '_BYTE_ORDER: Final = "little" if',
        '_BYTE_ORDER: Final = "big" if',
        ("EXT-7306-5.1.1-07", "EXT-7306-5.2.2-02"),
    ),
    Mutation(
        "what is not compared is not swapped",
        "memory/atomics",
        "    return (original & ~swap_mask & ALL_ONES) | (swap & swap_mask)",
        "    return (original & ~(swap_mask & compare_mask) & ALL_ONES) | (swap & swap_mask & compare_mask)",
        ("EXT-7306-5.1.2-01", "EXT-7306-5.1.2-02"),
    ),
    Mutation(
        "a CmpSwap that does not match swaps all the same",
        "memory/atomics",
        "    if (compare ^ original) & compare_mask:",
        "    if False:",
        ("EXT-7306-5.1.2-01", "EXT-7306-5.1.2-02"),
    ),
    Mutation(
        "a CmpSwap that matches returns the new value",
        "memory/atomics",
        "        return original\n\n\ndef stored",
        "        return changed if request.atomic_opcode == 2 else original\n\n\ndef stored",
        ("EXT-7306-5.1.2-03",),
    ),
    Mutation(
        "a CmpSwap that does not match returns what was compared",
        "memory/atomics",
        "        return original\n\n\ndef stored",
        "        return request.compare_data if request.atomic_opcode == 2 and changed == original else original\n"
        "\n\ndef stored",
        ("EXT-7306-5.1.2-03",),
    ),
    Mutation(
        "Atomic Responses overtake Read Responses",
        "engine/sending",
        "        answer = queue[0]\n        if isinstance",
        "        for index, each in enumerate(queue):\n"
        "            if type(each).__name__ == 'AtomicAnswer' and not queue[0].sent:\n"
        "                del queue[index]\n                queue.appendleft(each)\n                break\n"
        "        answer = queue[0]\n        if isinstance",
        ("EXT-7306-7-01", "EXT-7306-5.4-10"),
    ),
    Mutation(
        "an Atomic completes when it is sent",
        "queues/request_kinds",
        "    stream.atomic(atomic_request_of(request), posted)\n",
        "    stream.atomic(atomic_request_of(request), posted)\n    posted.done = True\n",
        ("EXT-7306-5.4-01", "EXT-7306-5.4-08"),
    ),
    Mutation(
        "an Atomic is done before what was written ahead of it",
        "engine/stream",
        "            self._on_atomic_request(header.msn, nbytes)",
        "            self._on_atomic_request(header.msn, nbytes)\n"
        "            self._answers[-1].single = self._answers[-1].single[:4] + bytes(8)",
        ("EXT-7306-5.4-04", "EXT-7306-5.4-06", "EXT-7306-5.2.2-02"),
    ),
    Mutation(
        "a chain of swaps sees the first value",
        "memory/atomics",
        "        memory[:] = changed.to_bytes(ATOMIC_SIZE, _BYTE_ORDER)\n",
        "        if not (original and request.atomic_opcode == 2):\n"
        "            memory[:] = changed.to_bytes(ATOMIC_SIZE, _BYTE_ORDER)\n",
        ("EXT-7306-5.4-09", "EXT-7306-5.1.2-02"),
    ),
    Mutation(
        "a Terminate about an Atomic quotes nothing",
        "engine/stream",
        "        payload = rdmap.terminate_payload(violation, segment, read_request)",
        "        payload = rdmap.terminate_payload(violation, segment if len(segment) < 70 else b'', read_request)",
        ("EXT-7306-8.1-02",),
    ),
    Mutation(
        "Atomics reach beyond their region",
        "mr",
        "        if offset < 0 or offset + nbytes > region.nbytes:",
        "        if offset < 0 or offset + nbytes > region.nbytes + 8 * (right == REMOTE_ATOMIC):",
        ("EXT-7306-8.2-06", "SEC-5040-8.1.1-03"),
    ),
    Mutation(
        "an Atomic may wrap",
        "mr",
        "            if to + nbytes > TO_LIMIT:",
        "            if to + nbytes > TO_LIMIT and right == REMOTE_ATOMIC:\n"
        "                return memoryview(bytearray(nbytes)), region\n            if to + nbytes > TO_LIMIT:",
        ("EXT-7306-8.2-06",),
    ),
    Mutation(
        "Atomics of several streams see what was there when theirs came",
        "memory/atomics",
        "        original = int.from_bytes(memory, _BYTE_ORDER)\n",
        "        original = _seen.setdefault(id(memory.obj), int.from_bytes(memory, _BYTE_ORDER))\n",
        ("EXT-7306-5.3-01", "EXT-7306-5-01", "EXT-7306-5.4-02"),
        (
            Replacement(
                "memory/atomics",
                "_one_at_a_time = Lock()",
                "_seen: dict[int, int] = {}\n_one_at_a_time = Lock()",
            ),
        ),
    ),
    Mutation(
        "the program hears of a delivery with the next one",
        "queues/qp_pump",
        "        events = stream.received(nbytes)\n        if events:\n            self._take(events)\n",
        "        late = vars(self).setdefault('late', [])\n"
        "        events, late[:] = [*late], stream.received(nbytes)\n"
        "        self._take(events)\n",
        ("EXT-7306-7-03",),
    ),
    Mutation(
        "an Atomic may name any MO",
        "ddp",
        "        end = header.mo + len(payload)\n",
        "        if self.qn == 1 and len(payload) == 52:\n            header = header._replace(mo=0)\n"
        "        end = header.mo + len(payload)\n",
        ("EXT-7306-8.2-01",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
