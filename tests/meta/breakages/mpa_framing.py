"""Breakages of MPA: framing, markers, CRC and the segment size (RFC 5044 sections 1 to 6)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "the pad is one octet too long",
        "mpa",
        "pad = -(length + LENGTH_SIZE) & 3",
        "pad = -(length + LENGTH_SIZE + 3) & 3",
        ("MPA-5044-4.1-05",),
    ),
    Mutation("the pad is not zero", "mpa", r'b"\0\0", b"\0\0\0")', r'b"\1\0", b"\1\0\0")', ("MPA-5044-4.1-03",)),
    Mutation(
        "the CRC goes out most significant octet first",
        "mpa",
        '_CRC: Final = Struct("<I")',
        '_CRC: Final = Struct(">I")',
        ("MPA-5044-4.4-12",),
    ),
    Mutation(
        "the CRC leaves out the pad",
        "mpa",
        "                crc = crc32c(PADS[pad], crc)  #",
        "                crc = crc  #",
        ("MPA-5044-4.4-13",),
    ),
    Mutation(
        "the CRC leaves out the pad of what is packed",
        "engine/packing",
        "                if pad and checked:\n                    crc = crc32c(PADS[pad], crc)  #",
        "                if pad and checked:\n                    crc = crc  #",
        ("MPA-5044-4.4-13",),
    ),
    Mutation(
        "the CRC leaves out the pad of what is laid ready",
        "engine/packing",
        "                if pad:\n                    crc = crc32c(PADS[pad], crc)  #",
        "                if pad:\n                    crc = crc  #",
        ("MPA-5044-4.4-13",),
    ),
    Mutation(
        "the pad of what is laid ready is one octet too long",
        "engine/packing",
        "pad = at - stop & 3",
        "pad = at - stop + 3 & 3",
        ("MPA-5044-4.1-05",),
    ),
    Mutation(
        "the pad of what is packed is one octet too long",
        "engine/packing",
        "pad = -size & 3",
        "pad = 3 - size & 3",
        ("MPA-5044-4.1-05",),
    ),
    Mutation(
        "a wrong CRC is overlooked in a Write",
        "engine/fast_receive",
        "            if crc and crc32c(view[start:stop]) != INTACT:  # MPA",
        "            if False:  # MPA",
        ("MPA-5044-6-01",),
    ),
    Mutation(
        "a wrong CRC is overlooked in a Send",
        "engine/fast_receive",
        "            if crc and crc32c(view[start:stop]) != INTACT:\n",
        "            if False:\n",
        ("MPA-5044-6-01",),
    ),
    Mutation(
        "a wrong CRC is overlooked",
        "mpa",
        "if computed != received:",
        "if False:",
        ("MPA-5044-4.4-18", "MPA-5044-8-02"),
    ),
    Mutation(
        "the CRC is checked although both sides said no",
        "mpa",
        "        if self.crc:\n            self._verify(start, start + size - CRC_SIZE)\n        self.adv",
        "        if True:\n            self._verify(start, start + size - CRC_SIZE)\n        self.adv",
        ("MPA-5044-4.1-07", "MPA-5044-7.1.1-08"),
    ),
    Mutation(
        "ULPDU_Length counts itself",
        "mpa",
        "        head = _LENGTH.pack(length) + header",
        "        head = _LENGTH.pack(length + 2) + header",
        ("MPA-5044-4.1-02",),
    ),
    Mutation(
        "MULPDU forgets EMSS mod 4",
        "mpa",
        "LENGTH_SIZE + CRC_SIZE + emss % 4",
        "LENGTH_SIZE + CRC_SIZE",
        ("MPA-5044-4.5-02",),
    ),
    Mutation(
        "MULPDU forgets the last marker",
        "mpa",
        "-(-emss // MARKER_SPACING)",
        "(emss // MARKER_SPACING)",
        ("MPA-5044-4.5-01",),
    ),
    Mutation("MULPDU falls below 128", "mpa", "max(MIN_MULPDU, min(", "max(64, min(", ("MPA-5044-4.5-07",)),
    Mutation(
        "MULPDU exceeds 64,768",
        "mpa",
        "min(emss - overhead, MAX_MULPDU)",
        "min(emss - overhead, 65_535)",
        ("MPA-5044-3-04",),
    ),
    Mutation(
        "FPDUPTR is off by one word",
        "mpa",
        "_marker(offset + room - start)",
        "_marker(offset + room - start + 4)",
        ("MPA-5044-4.3-04",),
    ),
    Mutation(
        "a marker before the CRC is forgotten",
        "mpa",
        "                marked.append(_marker(offset - start))\n                offset += MARKER_SIZE",
        "                offset += MARKER_SIZE",
        ("MPA-5044-4.4-14",),
    ),
    Mutation(
        "the first marker is missing",
        "mpa",
        "            marked.append(bytes(MARKER_SIZE))  # MPA",
        '            marked.append(b"")  # MPA',
        ("MPA-5044-4.3-09", "MPA-5044-7.1.2-20"),
    ),
    Mutation(
        "markers stand 516 octets apart",
        "mpa",
        "MARKER_SPACING: Final = 512",
        "MARKER_SPACING: Final = 516",
        ("MPA-5044-4.3-03",),
    ),
    Mutation("the low bits of FPDUPTR are believed", "mpa", "[0] & 0xFFFC", "[0] & 0xFFFF", ("MPA-5044-4.2-05",)),
    Mutation(
        "the CRC of a received FPDU leaves out the leading marker",
        "mpa",
        "self._verify(self.start, start + size - CRC_SIZE)",
        "self._verify(start, start + size - CRC_SIZE)",
        ("MPA-5044-4.4-15",),
    ),
    Mutation(
        "CRCs are off by default",
        "negotiation",
        "    crc: bool = True  # MPA",
        "    crc: bool = False  # MPA",
        ("MPA-5044-4.4-04",),
    ),
    Mutation(
        "a connection asks for no CRC",
        "connections/endpoint",
        "crc=self.profile.crc if self.crc is None else self.crc,",
        "crc=bool(self.crc),",
        ("MPA-5044-1.2-02", "MPA-5044-4.4-04"),
    ),
    Mutation(
        "TCP's segment size is not looked at",
        "drivers/asyncio_driver",
        "self.pump.set_emss(",
        "(lambda emss: None)(",
        ("MPA-5044-4.5-06",),
    ),
    Mutation(
        "TCP's segment size is never read on a polled socket",
        "drivers/polling_driver",
        "self.pump.set_emss(",
        "(lambda emss: None)(",
        ("MPA-5044-4.5-06",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
