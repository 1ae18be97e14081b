"""Breakages of MPA: segment sizes, and how FPDUs are received (RFC 5044 sections 4.5 to 6)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "MULPDU forgets the last marker",
        "mpa",
        "-(-emss // MARKER_SPACING)",
        "(emss // MARKER_SPACING)",
        ("MPA-5044-4.5-01",),
    ),
    Mutation(
        "MULPDU forgets EMSS mod 4",
        "mpa",
        "LENGTH_SIZE + CRC_SIZE + emss % 4",
        "LENGTH_SIZE + CRC_SIZE",
        ("MPA-5044-4.5-02",),
    ),
    Mutation(
        "segments are never larger than the first of a message",
        "ddp",
        "room = mulpdu - self.HEADER_SIZE  # DDP",
        "room = min(mulpdu - self.HEADER_SIZE, self.sent or mulpdu)  # DDP",
        ("MPA-5044-4.5-03",),
    ),
    Mutation(
        "four octets of each TCP segment are left",
        "mpa",
        "min(emss - overhead, MAX_MULPDU)",
        "min(emss - overhead - 4, MAX_MULPDU)",
        ("MPA-5044-4.5-05", "MPA-5044-5.1-01"),
    ),
    Mutation(
        "four octets of the MULPDU are left in what is packed",
        "engine/packing",
        "most = mulpdu - message.HEADER_SIZE  # DDP",
        "most = mulpdu - message.HEADER_SIZE - 4  # DDP",
        ("MPA-5044-4.5-05",),
    ),
    Mutation(
        "four octets of the MULPDU are left on the plain way",
        "ddp",
        "room = mulpdu - self.HEADER_SIZE  # DDP",
        "room = mulpdu - self.HEADER_SIZE - 4  # DDP",
        ("MPA-5044-4.5-05",),
    ),
    Mutation(
        "TCP's segment size is not looked at",
        "drivers/asyncio_driver",
        "self.pump.set_emss(",
        "(lambda emss: None)(",
        ("MPA-5044-4.5-06", "MPA-5044-3-02", "MPA-5044-5.1-01"),
    ),
    Mutation(
        "TCP's segment size is never read on a polled socket",
        "drivers/polling_driver",
        "self.pump.set_emss(",
        "(lambda emss: None)(",
        ("MPA-5044-4.5-06", "MPA-5044-3-02"),
    ),
    Mutation(
        "TCP's segment size is believed once and for all",
        "engine/sending",
        "        if not self._fixed_mulpdu:\n",
        "        if not self._fixed_mulpdu and self.mulpdu == MIN_MULPDU:\n",
        ("MPA-5044-4.5-06",),
    ),
    Mutation(
        "TCP's segment size is read once for each connection",
        "drivers/asyncio_driver",
        "self._emss_due = self._written + EMSS_REFRESH",
        "self._emss_due = 1 << 60",
        ("MPA-5044-4.5-06",),
    ),
    Mutation(
        "TCP's segment size is read once for each polled connection",
        "drivers/polling_driver",
        "self._emss_serves = EMSS_REFRESH",
        "self._emss_serves = 1 << 60",
        ("MPA-5044-4.5-06",),
    ),
    Mutation(
        "MULPDU falls below 128", "mpa", "max(MIN_MULPDU, min(", "max(64, min(", ("MPA-5044-4.5-07", "MPA-5044-3-04")
    ),
    Mutation(
        "segments are cut to what a partly filled TCP segment has room for",
        "engine/sending",
        "more = packer.pack(queue, self._unflushed, self.mulpdu, one=bool",
        "more = packer.pack(queue, self._unflushed, max(32, self.mulpdu - self.octets_sent % self.mulpdu), one=bool",
        ("MPA-5044-4.5-08",),
    ),
    Mutation(
        "small FPDUs wait for others",
        "drivers/asyncio_driver",
        '        self._socket = transport.get_extra_info("socket")\n',
        '        self._socket = transport.get_extra_info("socket")\n'
        "        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)\n",
        ("MPA-5044-5.1-03",),
    ),
    Mutation(
        "small FPDUs wait for others on a polled socket",
        "drivers/polling_driver",
        "socket.TCP_NODELAY, 1)",
        "socket.TCP_NODELAY, 0)",
        ("MPA-5044-5.1-03",),
    ),
    Mutation(
        "one FPDU is taken of each delivery",
        "engine/stream",
        "                    self._on_untagged(ulpdu)\n                if self.waiting_ulpdu is not None:\n",
        "                    self._on_untagged(ulpdu)\n                if True:\n",
        ("MPA-5044-5.1-04", "MPA-5044-5.1-05", "MPA-5044-A.4-01"),
    ),
    Mutation(
        "an FPDU that comes in pieces is dropped",
        "mpa",
        "        if have < size:\n            return None\n",
        "        if have < size:\n            self.start = self.end\n            return None\n",
        ("MPA-5044-5.1-05", "MPA-5044-A.4-01"),
    ),
    Mutation(
        "an unfinished FPDU is not moved to the front",
        "mpa",
        "        buffer[:left] = self.view[self.start : self.end]\n",
        "",
        ("MPA-5044-5.1-05", "MPA-5044-A.4-01"),
    ),
    Mutation(
        "the pad is not counted where the next FPDU is looked for",
        "mpa",
        "return ((ulpdu_length + LENGTH_SIZE + 3) & ~3) + CRC_SIZE",
        "return ulpdu_length + LENGTH_SIZE + CRC_SIZE",
        ("MPA-5044-5.2-01", "MPA-5044-6-03"),
    ),
    Mutation(
        "a wrong CRC is overlooked in a Write",
        "engine/fast_receive",
        "            if crc and crc32c(view[start:stop]) != INTACT:  # MPA",
        "            if False:  # MPA",
        ("MPA-5044-6-01", "MPA-5044-4.4-17", "MPA-5044-4.4-18"),
    ),
    Mutation(
        "a wrong CRC is overlooked in a Send",
        "engine/fast_receive",
        "            if crc and crc32c(view[start:stop]) != INTACT:\n",
        "            if False:\n",
        ("MPA-5044-6-01", "MPA-5044-4.4-18"),
    ),
    Mutation(
        "a Send is placed before its CRC is checked",
        "engine/fast_receive",
        "            if crc and crc32c(view[start:stop]) != INTACT:\n                break\n            buffer",
        "            if (early := queue.open()) and len(early) == 1 and mo + nbytes <= queue.size:\n"
        "                early[0][mo : mo + nbytes] = view[start + _UNTAGGED_BODY : start + _UNTAGGED_BODY + nbytes]\n"
        "            if crc and crc32c(view[start:stop]) != INTACT:\n                break\n            buffer",
        ("MPA-5044-6-01",),
    ),
    Mutation(
        "an FPDU with a wrong CRC is skipped",
        "mpa",
        "            self._verify(start, start + size - CRC_SIZE)\n        self.adv",
        "            try:\n                self._verify(start, start + size - CRC_SIZE)\n"
        "            except CrcMismatch:\n"
        "                self.advance(size, 1)\n                return self.next_ulpdu()\n"
        "        self.adv",
        ("MPA-5044-6-02", "MPA-5044-6-03", "MPA-5044-8-02"),
    ),
    Mutation(
        "the last octet of an FPDU is not waited for",
        "mpa",
        "        if have < size:\n",
        "        if have < size - 1:\n",
        ("MPA-5044-6-04",),
    ),
    Mutation(
        "the last octet of an FPDU with markers is not waited for",
        "mpa",
        "        if have < lead + size:\n",
        "        if have < lead + size - 1:\n",
        ("MPA-5044-6-04",),
    ),
    Mutation(
        "the last octet of a Write is not waited for on the fast way",
        "engine/fast_receive",
        "if stop > end or not 0 <= offset",
        "if stop > end + 1 or not 0 <= offset",
        ("MPA-5044-6-04",),
    ),
    Mutation(
        "the last octet of a Send is not waited for on the fast way",
        "engine/fast_receive",
        "nbytes < 0 or stop > end or nbytes",
        "nbytes < 0 or stop > end + 1 or nbytes",
        ("MPA-5044-6-04",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
