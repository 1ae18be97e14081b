"""Breakages of the fast ways of what is alone: a small Send past the batches, and one that comes by itself."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "the pad of a Send past the batches is left out of its CRC",
        "engine/sending",
        "        fpdus = body + (_crc_field(crc32c(body)) if crc else _NO_CRC)\n        if",
        "        fpdus = body + (_crc_field(crc32c(body[: 20 + nbytes])) if crc else _NO_CRC)\n        if",
        ("MPA-5044-4.4-13",),
    ),
    Mutation(
        "a Send past the batches has no pad",
        "engine/sending",
        ", msn), octets, PADS[-nbytes & 3]))",
        ", msn), octets))",
        ("MPA-5044-4.1-03",),
    ),
    Mutation(
        "a Send past the batches has a CRC of zero",
        "engine/sending",
        "        fpdus = body + (_crc_field(crc32c(body)) if crc else _NO_CRC)\n        if",
        "        fpdus = body + _NO_CRC\n        if",
        ("MPA-5044-4.4-13",),
    ),
    Mutation(
        "Sends past the batches have one MSN",
        "engine/sending",
        "            self.send_msn = msn + 1 & MSN_MASK  # DDP-5041-4.3-09\n            if handed",
        "            if handed",
        ("DDP-5041-4.3-09",),
    ),
    Mutation(
        "a Send past the batches is as long as it likes",
        "engine/sending",
        "if not self._quiet or nbytes > most - UNTAGGED_SIZE:",
        "if not self._quiet:",
        ("DDP-5041-5.2-02",),
    ),
    Mutation(
        "a Send past the batches completes before what was posted before it",
        "queues/sq",
        "        if self._posted or self._framed or self._sent or self._late or self._telling or not "
        "self.may_post_fast:\n            return False\n        sges,",
        "        if not self.may_post_fast:\n            return False\n        sges,",
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
        "if deframer.crc and crc32c(view[start:nbytes]) != INTACT:",
        "if False:",
        ("MPA-5044-6-01",),
    ),
    Mutation(
        "any MSN will do for a Send that comes by itself",
        "engine/stream",
        "if qn_msn != sends.due_msn or mo:",
        "if qn_msn >> 32 or mo:",
        ("DDP-5041-7.1-09",),
    ),
    Mutation(
        "a Send that comes by itself may begin with a hole",
        "engine/stream",
        "if qn_msn != sends.due_msn or mo:",
        "if qn_msn != sends.due_msn:",
        ("DDP-5041-5.4-02",),
    ),
    Mutation(
        "a Send that comes by itself may be larger than its receive",
        "engine/stream",
        "if not UNTAGGED_SIZE <= length <= room + UNTAGGED_SIZE:",
        "if not UNTAGGED_SIZE <= length:",
        ("DDP-5041-7.1-08",),
    ),
    Mutation(
        "the pad of a Send that comes by itself is placed",
        "engine/stream",
        "payload, taker = view[start + _SEND_BODY : stop],",
        "payload, taker = view[start + _SEND_BODY : nbytes - 4],",
        ("MPA-5044-4.3-14",),
    ),
    Mutation(
        "a Write that comes with its Send may begin before its region",
        "engine/fast_receive",
        "not region.to <= to <= region.to",
        "not to <= region.to",
        ("DDP-5041-7.1-12",),
    ),
    Mutation(
        "a Write that comes with its Send may end behind its region",
        "engine/fast_receive",
        "<= region.to + region.nbytes - nbytes:",
        "<= region.to + region.nbytes - nbytes + 1:",
        ("DDP-5041-7.1-13",),
    ),
    Mutation(
        "the CRC of a Write that comes with its Send is not looked at",
        "engine/fast_receive",
        "if crc and crc32c(view[:size]) != INTACT:",
        "if False:",
        ("MPA-5044-6-01",),
    ),
    Mutation(
        "a Write is sent with its Send past the batches, however long it is",
        "engine/sending",
        "            if nbytes > most - TAGGED_SIZE:\n                return NOT_NOW\n",
        "",
        ("DDP-5041-5.2-02",),
    ),
    Mutation(
        "nobody is told that a Send that comes by itself is solicited",
        "queues/rq",
        "fields = (wr_id, _SUCCESS, _RECV, len(payload), self.qp_num, None, solicited, None",
        "fields = (wr_id, _SUCCESS, _RECV, len(payload), self.qp_num, None, False, None",
        ("DDP-5041-4.3-03",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
