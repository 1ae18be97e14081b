"""Breakages of MPA: markers (RFC 5044 sections 4.2 and 4.3)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "markers are little-endian",
        "mpa",
        'return fpduptr.to_bytes(MARKER_SIZE, "big")',
        'return fpduptr.to_bytes(MARKER_SIZE, "little")',
        ("MPA-5044-4.2-01",),
    ),
    Mutation(
        "the reserved half of a marker is not zero",
        "mpa",
        "return fpduptr.to_bytes(",
        "return (fpduptr | 1 << 16).to_bytes(",
        ("MPA-5044-4.2-01", "MPA-5044-4.2-02"),
    ),
    Mutation(
        "the reserved half of a received marker must be zero",
        "mpa",
        "fpduptr = _LENGTH.unpack_from(self.view, position + 2)[0] & 0xFFFC",
        'fpduptr = int.from_bytes(self.view[position : position + 4], "big") & 0xFFFF_FFFC',
        ("MPA-5044-4.2-03",),
    ),
    Mutation(
        "the low bits of FPDUPTR go out as ones",
        "mpa",
        "return fpduptr.to_bytes(",
        "return (fpduptr | 3 if fpduptr else 0).to_bytes(",
        ("MPA-5044-4.2-04",),
    ),
    Mutation(
        "the low bits of FPDUPTR are believed",
        "mpa",
        "[0] & 0xFFFC",
        "[0] & 0xFFFF",
        ("MPA-5044-4.2-05", "MPA-5044-4.3-08"),
    ),
    Mutation(
        "an Initiator sends no markers",
        "negotiation",
        "send_markers=reply.markers,",
        "send_markers=False,",
        ("MPA-5044-4.3-01", "MPA-5044-7.1.1-06"),
    ),
    Mutation(
        "no stream sends markers",
        "engine/packing",
        "(MarkedFramer if markers else Framer)(crc=crc)",
        "Framer(crc=crc)",
        ("MPA-5044-4.3-01", "MPA-5044-7.1.1-06"),
    ),
    Mutation(
        "what is framed early has no markers",
        "engine/packing",
        "        return not (self._marks or self._plain)\n",
        "        return True\n",
        ("MPA-5044-4.3-01", "MPA-5044-7.1.1-06"),
    ),
    Mutation(
        "packed markers are little-endian",
        "mpa",
        'return lead + [each.to_bytes(MARKER_SIZE, "big")',
        'return lead + [each.to_bytes(MARKER_SIZE, "little")',
        ("MPA-5044-4.3-04",),
    ),
    Mutation(
        "a marker falls behind the last octet of what is packed",
        "mpa",
        "return (nbytes - 1 - first + BETWEEN_MARKERS)",
        "return (nbytes - first + BETWEEN_MARKERS)",
        ("MPA-5044-4.3-06",),
    ),
    Mutation(
        "the CRC of what is packed leaves out the first marker",
        "engine/packing",
        "            begin, sent = at, message.sent\n",
        "            begin, sent = at + 4 * (octets % MARKER_SPACING == 0), message.sent\n",
        ("MPA-5044-4.4-15",),
    ),
    Mutation(
        "markers are taken out unseen",
        "mpa",
        "                if markers[behind:before] != usual[: before - behind]:",
        "                if len(usual) < before - behind:",
        ("MPA-5044-8-03",),
    ),
    Mutation(
        "FPDUs with markers are taken out unverified",
        "mpa",
        "            if crc and crc32c(staged[begin:stop]) != INTACT:",
        "            if crc and len(staged) < stop:",
        ("MPA-5044-6-01", "MPA-5044-4.4-18"),
    ),
    Mutation(
        "a Request always asks for markers",
        "startup",
        "markers=offer.markers, crc=offer.crc))",
        "markers=True, crc=offer.crc))",
        ("MPA-5044-4.3-02",),
    ),
    Mutation(
        "a Reply always asks for markers",
        "startup",
        "reply=True, markers=offer.markers, crc=crc)",
        "reply=True, markers=True, crc=crc)",
        ("MPA-5044-4.3-02",),
    ),
    Mutation(
        "markers stand 516 octets apart",
        "mpa",
        "MARKER_SPACING: Final = 512",
        "MARKER_SPACING: Final = 516",
        ("MPA-5044-4.3-03",),
    ),
    Mutation(
        "FPDUPTR is off by one word",
        "mpa",
        "_marker(offset + room - start)",
        "_marker(offset + room - start + 4)",
        ("MPA-5044-4.3-04",),
    ),
    Mutation(
        "a marker points to the marker before",
        "mpa",
        "start, left = offset, body",
        "start, left = offset - offset % MARKER_SPACING, body",
        ("MPA-5044-4.3-04", "MPA-5044-4.3-11", "MPA-5044-4.3-12"),
    ),
    Mutation(
        "later markers in an FPDU point to the marker before",
        "mpa",
        "                offset += room + MARKER_SIZE\n",
        "                offset += room + MARKER_SIZE\n                start = offset\n",
        ("MPA-5044-4.3-04", "MPA-5044-4.3-11"),
    ),
    Mutation(
        "the sender counts the octets between markers modulo 2^32 - 1",
        "mpa",
        "        offset = self.octets\n        if offset % MARKER_SPACING == 0:",
        "        offset = self.octets % 0xFFFF_FFFF\n        if offset % MARKER_SPACING == 0:",
        ("MPA-5044-4.3-05",),
    ),
    Mutation(
        "the receiver counts the octets between markers modulo 2^32 - 1",
        "mpa",
        "        offset = self.octets + lead\n",
        "        offset = self.octets % 0xFFFF_FFFF + lead\n",
        ("MPA-5044-4.3-05",),
    ),
    Mutation(
        "a marker between FPDUs points to the one behind it",
        "mpa",
        "marked.append(bytes(MARKER_SIZE))  # MPA",
        "marked.append(_marker(MARKER_SIZE))  # MPA",
        ("MPA-5044-4.3-06", "MPA-5044-4.3-12"),
    ),
    Mutation(
        "a marker between FPDUs belongs to the one before it",
        "mpa",
        "        out.extend(marked)\n",
        "        if (self.octets + sum(map(len, marked))) % MARKER_SPACING == 0:\n"
        "            marked.append(bytes(MARKER_SIZE))\n        out.extend(marked)\n",
        ("MPA-5044-4.3-06",),
    ),
    Mutation(
        "the CRC of a sent FPDU leaves out the leading marker",
        "mpa",
        "        for piece in marked:\n",
        "        for piece in marked[self.octets % MARKER_SPACING == 0 :]:\n",
        ("MPA-5044-4.3-07", "MPA-5044-4.4-15"),
    ),
    Mutation(
        "the first marker is missing",
        "mpa",
        "            marked.append(bytes(MARKER_SIZE))  # MPA",
        '            marked.append(b"")  # MPA',
        ("MPA-5044-4.3-09", "MPA-5044-7.1.2-20"),
    ),
    Mutation(
        "the sender's markers are counted from the startup frame",
        "mpa",
        "        self._crc = crc\n        self.fpdus = 0\n        self.octets = 0\n",
        "        self._crc = crc\n        self.fpdus = 0\n        self.octets = 20\n",
        ("MPA-5044-4.3-09", "MPA-5044-4.3-10", "MPA-5044-7.1.2-20"),
    ),
    Mutation(
        "the receiver's markers are counted from the startup frame",
        "mpa",
        "self.octets = 0  # stream offset",
        "self.octets = 20  # stream offset",
        ("MPA-5044-4.3-10",),
    ),
    Mutation(
        "Sends that come together are one message",
        "engine/fast_receive",
        "            if last:\n                msn",
        "            if last and start > enough:\n                msn",
        ("MPA-5044-4.3-13",),
    ),
    Mutation(
        "a ULPDU reaches to the end of what has come",
        "mpa",
        "view[start + LENGTH_SIZE : start + LENGTH_SIZE + length]",
        "view[start + LENGTH_SIZE : max(self.end - CRC_SIZE, start + LENGTH_SIZE + length)]",
        ("MPA-5044-4.3-13",),
    ),
    Mutation(
        "the pad of a Write is passed to DDP on the fast way",
        "engine/fast_receive",
        "        nbytes = length - TAGGED_SIZE\n",
        "        nbytes = (length + 5 & ~3) - 2 - TAGGED_SIZE\n",
        ("MPA-5044-4.3-14",),
    ),
    Mutation(
        "the pad is passed to DDP where markers are",
        "mpa",
        "return ulpdu[LENGTH_SIZE : LENGTH_SIZE + length]",
        "return ulpdu[LENGTH_SIZE:]",
        ("MPA-5044-4.3-14",),
    ),
    Mutation(
        "markers are passed to DDP",
        "mpa",
        "                self._check_marker(position, stream_offset, position - start)\n",
        "                self._check_marker(position, stream_offset, position - start)\n"
        "                body += self.view[position : position + MARKER_SIZE]\n",
        ("MPA-5044-4.3-14",),
    ),
    Mutation(
        "the CRC of a sent FPDU leaves out the markers inside",
        "mpa",
        "            crc = crc32c(piece, crc)  # MPA",
        "            crc = crc32c(piece, crc) if piece is marked[0] or isinstance(piece, memoryview) else crc  # MPA",
        ("MPA-5044-4.3-15",),
    ),
    Mutation(
        "the reserved half of received markers is zeroed before the CRC is computed",
        "mpa",
        "        if self.crc:\n            self._verify(self.start",
        "        for at in range(self.start, start + size - CRC_SIZE):\n"
        "            if (offset + at - start) % MARKER_SPACING == 0:\n"
        "                self.view[at : at + 2] = bytes(2)\n"
        "        if self.crc:\n            self._verify(self.start",
        ("MPA-5044-4.3-15", "MPA-5044-4.3-07", "MPA-5044-4.4-14"),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
