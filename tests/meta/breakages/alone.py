"""Breakages of the fast ways of what is alone: a small Send past the batches, and one that comes by itself."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "the pad of a Send past the batches is left out of its CRC",
        "engine/sending",
        "crc32c(body) if self.agreement.crc",
        "crc32c(body[: _UNTAGGED_BODY + nbytes]) if self.agreement.crc",
        ("MPA-5044-4.4-13",),
    ),
    Mutation(
        "a Send past the batches has no pad",
        "engine/sending",
        "octets, PADS[-(_UNTAGGED_BODY + nbytes) & 3]))",
        "octets))",
        ("MPA-5044-4.1-03",),
    ),
    Mutation(
        "a Send past the batches has a CRC of zero",
        "engine/sending",
        "_CRC.pack(crc32c(body) if self.agreement.crc else 0)",
        "_CRC.pack(0)",
        ("MPA-5044-4.4-13",),
    ),
    Mutation(
        "Sends past the batches have one MSN",
        "engine/sending",
        "            self.send_msn = msn + 1 & MSN_MASK  # DDP-5041-4.3-09\n            self.in_transit",
        "            self.in_transit",
        ("DDP-5041-4.3-09",),
    ),
    Mutation(
        "a Send past the batches is as long as it likes",
        "engine/sending",
        "            or nbytes > self.mulpdu - UNTAGGED_SIZE\n",
        "",
        ("DDP-5041-5.2-02",),
    ),
    Mutation(
        "a Send past the batches completes before what was posted before it",
        "queues/sq",
        "        if self._posted or self._framed or self._sent or self._late or not self.may_post_fast:",
        "        if not self.may_post_fast:",
        ("RDMAP-5040-5.5-12",),
    ),
    Mutation(
        "a Send past the batches completes before TCP has it",
        "queues/sq",
        "        if handed == HELD:\n            self._framed.append(request)\n        elif told:",
        "        if told:",
        ("RDMAP-5040-5.5-11",),
    ),
    Mutation(
        "the CRC of a Send that comes by itself is not looked at",
        "engine/stream",
        "if deframer.crc and crc32c(view[:nbytes]) != INTACT:",
        "if False:",
        ("MPA-5044-6-01",),
    ),
    Mutation(
        "any MSN will do for a Send that comes by itself",
        "engine/stream",
        "if qn_msn != queue.due_msn or mo or",
        "if qn_msn >> 32 or mo or",
        ("DDP-5041-7.1-09",),
    ),
    Mutation(
        "a Send that comes by itself may begin with a hole",
        "engine/stream",
        "if qn_msn != queue.due_msn or mo or",
        "if qn_msn != queue.due_msn or",
        ("DDP-5041-5.4-02",),
    ),
    Mutation(
        "a Send that comes by itself may be larger than its receive",
        "engine/stream",
        "not 0 <= size <= sges[0].nbytes:",
        "size < 0:",
        ("DDP-5041-7.1-08",),
    ),
    Mutation(
        "the pad of a Send that comes by itself is placed",
        "engine/stream",
        "receives.deliver_alone(view[_SEND_BODY : _SEND_BODY + size],",
        "receives.deliver_alone(view[_SEND_BODY : nbytes - 4],",
        ("MPA-5044-4.3-14",),
    ),
    Mutation(
        "nobody is told that a Send that comes by itself is solicited",
        "queues/rq",
        "fields = (receive.wr_id, _SUCCESS, _RECV, nbytes, self.qp_num, None, solicited, None",
        "fields = (receive.wr_id, _SUCCESS, _RECV, nbytes, self.qp_num, None, False, None",
        ("DDP-5041-4.3-03",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
