"""Breakages of MPA: CRCs (RFC 5044 section 4.4)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation, Replacement

MUTATIONS: Final = (
    Mutation(
        "no CRC is generated",
        "engine/sending",
        "Packer(crc=agreement.crc,",
        "Packer(crc=False,",
        ("MPA-5044-4.4-01", "MPA-5044-4.4-08", "MPA-5044-7.1.1-09"),
    ),
    Mutation(
        "no CRC is checked",
        "engine/stream",
        "else Deframer)(crc=agreement.crc)",
        "else Deframer)(crc=False)",
        ("MPA-5044-4.4-01", "MPA-5044-4.4-08", "MPA-5044-4.4-17", "MPA-5044-4.4-18", "MPA-5044-7.1.1-09"),
    ),
    Mutation(
        "CRCs are off by default",
        "negotiation",
        "    crc: bool = True  # MPA",
        "    crc: bool = False  # MPA",
        ("MPA-5044-4.4-04", "MPA-5044-1.2-02", "MPA-5044-4.4-03"),
    ),
    Mutation(
        "a Responder asks for no CRC unless the Request does",
        "startup",
        "crc = request.crc or offer.crc",
        "crc = request.crc",
        ("MPA-5044-4.4-04", "MPA-5044-7.1.1-09"),
    ),
    Mutation(
        "a Reply repeats the Request's C",
        "startup",
        "reply=True, markers=offer.markers, crc=crc)",
        "reply=True, markers=offer.markers, crc=request.crc)",
        ("MPA-5044-4.4-04",),
    ),
    Mutation(
        "a Responder uses CRCs only if both want them",
        "startup",
        "crc = request.crc or offer.crc",
        "crc = request.crc and offer.crc",
        ("MPA-5044-4.4-05", "MPA-5044-4.4-08", "MPA-5044-7.1.1-09"),
    ),
    Mutation(
        "an Initiator uses CRCs only if both want them",
        "negotiation",
        "crc=offer.crc or reply.crc",
        "crc=offer.crc and reply.crc",
        ("MPA-5044-4.4-05", "MPA-5044-4.4-08", "MPA-5044-7.1.1-09"),
    ),
    Mutation(
        "without CRC a Send is told to be longer than it was",
        "engine/fast_receive",
        "(opcode, msn, mo + nbytes, solicited",
        "(opcode, msn, mo + nbytes + (not crc), solicited",
        ("MPA-5044-4.4-07",),
    ),
    Mutation(
        "CRCs of Writes are not checked after 500 FPDUs",
        "engine/fast_receive",
        "        view, crc, end = deframer.view, deframer.crc, deframer.end\n",
        "        view, crc, end = deframer.view, deframer.crc and deframer.fpdus < 500, deframer.end\n",
        ("MPA-5044-4.4-08",),
    ),
    Mutation(
        "no CRCs of small messages are generated after 500 FPDUs",
        "engine/packing",
        "self._buffer, self._at, self._crc, lead",
        "self._buffer, self._at, self._crc and self.framer.fpdus < 500, lead",
        ("MPA-5044-4.4-08",),
    ),
    Mutation(
        "no CRCs are generated after 500 FPDUs",
        "engine/packing",
        "self._buffer, self._at, self._mark, self._out, self._crc\n",
        "self._buffer, self._at, self._mark, self._out, self._crc and self.framer.fpdus < 500\n",
        ("MPA-5044-4.4-08",),
    ),
    Mutation(
        "the first CRC is checked although both sides said no",
        "mpa",
        "        if self.crc:\n            self._verify(start, start",
        "        if self.crc or not self.fpdus:\n            self._verify(start, start",
        ("MPA-5044-4.4-09", "MPA-5044-4.1-08", "MPA-5044-7.1.1-08", "MPA-5044-7.1.1-10"),
        (
            Replacement(
                "engine/fast_receive",
                "        while fpdus < most:\n            source",
                "        if not deframer.fpdus:\n            return 0\n        while fpdus < most:\n            source",
            ),
        ),
    ),
    Mutation(
        "the CRC goes out most significant octet first",
        "mpa",
        '_CRC: Final = Struct("<I")',
        '_CRC: Final = Struct(">I")',
        ("MPA-5044-4.4-12",),
    ),
    Mutation(
        "the CRC goes out most significant octet first in what is packed",
        "engine/packing",
        'Struct(f"<{pad}xI")',
        'Struct(f">{pad}xI")',
        ("MPA-5044-4.4-12",),
    ),
    Mutation(
        "the CRC is that of Ethernet",
        "crc",
        '    return "fastcrc", crc32.iscsi\n',
        '    return "fastcrc", crc32.iso_hdlc\n',
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
        "the CRC leaves out the pad of what is framed early",
        "engine/packing",
        "                if pad:\n                    crc = crc32c(PADS[pad], crc)  #",
        "                if pad:\n                    crc = crc  #",
        ("MPA-5044-4.4-13",),
    ),
    Mutation(
        "the CRC in a run leaves out the pad",
        "engine/packing",
        "crc = crc32c(buffer[at:stop])\n                if pad:\n                    crc = crc32c(zeros, crc)",
        "crc = crc32c(buffer[at:stop])\n                if pad:\n                    crc = crc",
        ("MPA-5044-4.4-13",),
    ),
    Mutation(
        "the CRC in a run of large payloads leaves out the pad",
        "engine/packing",
        "crc32c(buffer[at:body]))\n                if pad:\n                    crc = crc32c(zeros, crc)",
        "crc32c(buffer[at:body]))\n                if pad:\n                    crc = crc",
        ("MPA-5044-4.4-13",),
    ),
    Mutation(
        "a marker before the CRC is forgotten",
        "mpa",
        "                marked.append(_marker(offset - start))\n                offset += MARKER_SIZE",
        "                offset += MARKER_SIZE",
        ("MPA-5044-4.4-14",),
    ),
    Mutation(
        "the CRC of a received FPDU leaves out the leading marker",
        "mpa",
        "self._verify(self.start, start + size - CRC_SIZE)",
        "self._verify(start, start + size - CRC_SIZE)",
        ("MPA-5044-4.4-15", "MPA-5044-4.3-07"),
    ),
    Mutation(
        "a Write is placed before its CRC is checked",
        "engine/fast_receive",
        "            if crc and crc32c(view[start:stop]) != INTACT:  # MPA",
        "            memory[offset : offset + nbytes] = view[start + _TAGGED_BODY : start + _TAGGED_BODY + nbytes]\n"
        "            if crc and crc32c(view[start:stop]) != INTACT:  # MPA",
        ("MPA-5044-4.4-17", "MPA-5044-6-01"),
    ),
    Mutation(
        "a wrong CRC is overlooked",
        "mpa",
        "if computed != received:",
        "if False:",
        ("MPA-5044-4.4-18", "MPA-5044-8-02"),
    ),
    Mutation(
        "a wrong CRC is overlooked where markers are",
        "mpa",
        "        if self.crc:\n            self._verify(self.start",
        "        if False:\n            self._verify(self.start",
        ("MPA-5044-4.4-18", "MPA-5044-6-01", "MPA-5044-8-02"),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
