"""Breakages of MPA: the startup frames (RFC 5044 section 7.1.1)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation, Replacement

MUTATIONS: Final = (
    Mutation(
        "the Request has a wrong key",
        "codes",
        'b"MPA ID Req Frame"',
        'b"MPA ID REQ Frame"',
        ("MPA-5044-7.1.1-01",),
    ),
    Mutation(
        "half of a key is looked at",
        "wire",
        "    if due.startswith(seen):  # MPA",
        "    if due[:12].startswith(seen[:12]):  # MPA",
        (
            "MPA-5044-7.1.1-02",
            "MPA-5044-7.1.1-04",
        ),
    ),
    Mutation(
        "a Responder takes a Reply for a Request",
        "wire",
        "    if due.startswith(seen):  # MPA",
        "    if due.startswith(seen) or (not reply and REPLY_KEY.startswith(seen)):  # MPA",
        (
            "MPA-5044-7.1.1-02",
            "MPA-5044-7.1.2-21",
        ),
    ),
    Mutation(
        "the Reply has a wrong key",
        "codes",
        'b"MPA ID Rep Frame"',
        'b"MPA ID REP Frame"',
        ("MPA-5044-7.1.1-03",),
    ),
    Mutation(
        "an Initiator takes a Request for a Reply",
        "wire",
        "    if due.startswith(seen):  # MPA",
        "    if due.startswith(seen) or (reply and REQUEST_KEY.startswith(seen)):  # MPA",
        (
            "MPA-5044-7.1.1-04",
            "MPA-5044-7.1.2-21",
        ),
    ),
    Mutation(
        "a Responder sends markers if it asks for them itself",
        "startup",
        "send_markers=request.markers,",
        "send_markers=offer.markers,",
        (
            "MPA-5044-7.1.1-05",
            "MPA-5044-7.1.1-06",
            "MPA-5044-7.1.1-07",
        ),
    ),
    Mutation(
        "an Initiator sends markers if it asks for them itself",
        "negotiation",
        "send_markers=reply.markers,",
        "send_markers=offer.markers,",
        (
            "MPA-5044-7.1.1-05",
            "MPA-5044-7.1.1-06",
            "MPA-5044-7.1.1-07",
        ),
    ),
    Mutation(
        "markers are not sent although asked for",
        "startup",
        "            send_markers=request.markers,  # MPA-5044-7.1.1-06",
        "            send_markers=False,  #",
        ("MPA-5044-7.1.1-06",),
    ),
    Mutation(
        "a Responder expects markers only if both sides want them",
        "startup",
        "receive_markers=offer.markers,\n            ird",
        "receive_markers=offer.markers and request.markers,\n            ird",
        ("MPA-5044-7.1.1-07",),
    ),
    Mutation(
        "an Initiator expects markers only if both sides want them",
        "negotiation",
        "receive_markers=offer.markers,\n        ird",
        "receive_markers=offer.markers and reply.markers,\n        ird",
        ("MPA-5044-7.1.1-07",),
    ),
    Mutation(
        "the Responder ignores the Request's C",
        "startup",
        "crc = request.crc or offer.crc",
        "crc = offer.crc",
        ("MPA-5044-7.1.1-09",),
    ),
    Mutation(
        "the Initiator ignores the Reply's C",
        "negotiation",
        "crc=offer.crc or reply.crc",
        "crc=offer.crc",
        ("MPA-5044-7.1.1-09",),
    ),
    Mutation(
        "a Request may have R",
        "wire",
        "    if frame.rejected and not frame.reply:  # MPA",
        "    if False:  # MPA",
        ("MPA-5044-7.1.1-11",),
    ),
    Mutation(
        "a Request has R",
        "startup",
        "markers=offer.markers, crc=offer.crc))",
        "markers=offer.markers, crc=offer.crc, rejected=True))",
        ("MPA-5044-7.1.1-11",),
        (Replacement("wire", "    if frame.rejected and not frame.reply:  # MPA", "    if False:  # MPA"),),
    ),
    Mutation(
        "a Request with R is refused",
        "wire",
        "    check_startup_key(header.key, reply=reply)\n",
        (
            "    check_startup_key(header.key, reply=reply)\n"
            "    if header.flags.rejected and not reply:\n"
            '        raise MalformedStartup("R")\n'
        ),
        ("MPA-5044-7.1.1-12",),
    ),
    Mutation(
        "R of a Request is believed",
        "wire",
        "header.flags.rejected and reply,",
        "header.flags.rejected,",
        ("MPA-5044-7.1.1-12",),
    ),
    Mutation(
        "a rejecting Reply is taken for an accepting one",
        "startup",
        "elif received.rejected:",
        "elif False:",
        ("MPA-5044-7.1.1-13", "MPA-5044-7.1.2-14"),
    ),
    Mutation(
        "a rejecting Reply has no R",
        "startup",
        "crc=request.crc, rejected=True",
        "crc=request.crc, rejected=False",
        (
            "MPA-5044-7.1.1-13",
            "MPA-5044-7.1.2-05",
            "MPA-5044-7.1.2-19",
        ),
    ),
    Mutation(
        "an accepting Reply has R",
        "startup",
        "reply=True, markers=offer.markers, crc=crc)",
        "reply=True, markers=offer.markers, crc=crc, rejected=True)",
        (
            "MPA-5044-7.1.1-13",
            "MPA-5044-7.1.2-08",
        ),
    ),
    Mutation(
        "the reserved bits of startup frames go out as ones",
        "wire",
        '"rsvd" / Default(BitsInteger(4), 0),  # MPA-5044-7.1.1-14',
        '"rsvd" / Default(BitsInteger(4), 8),  # MPA-5044-7.1.1-14',
        (
            "MPA-5044-7.1.1-14",
            "MPA2-6581-6-02",
        ),
    ),
    Mutation(
        "S is looked at in revision 1",
        "wire",
        "header.flags.enhanced and header.revision >= _FIRST_ENHANCED_REVISION",
        "header.flags.enhanced",
        (
            "MPA-5044-7.1.1-15",
            "MPA2-6581-6-04",
            "MPA2-6581-6-06",
        ),
    ),
    Mutation(
        "reserved bits of startup frames are refused",
        "wire",
        "    check_startup_key(header.key, reply=reply)\n",
        (
            "    check_startup_key(header.key, reply=reply)\n"
            "    if header.flags.rsvd:\n"
            '        raise MalformedStartup("Res")\n'
        ),
        (
            "MPA-5044-7.1.1-15",
            "MPA2-6581-6-03",
        ),
    ),
    Mutation(
        "frames of revision 1 say 2",
        "wire",
        '"revision": frame.revision,',
        '"revision": 2,',
        (
            "MPA-5044-7.1.1-16",
            "MPA2-6581-10-02",
            "MPA2-6581-10-03",
        ),
    ),
    Mutation(
        "enhanced frames say revision 1",
        "wire",
        '"revision": frame.revision,',
        '"revision": 1,',
        (
            "MPA-5044-7.1.1-16",
            "MPA2-6581-6-04",
        ),
    ),
    Mutation(
        "a revision that nobody knows is accepted",
        "startup",
        "if frame.revision not in (1, 2):",
        "if False:",
        ("MPA-5044-7.1.1-17",),
    ),
    Mutation(
        "revision 0 is accepted",
        "startup",
        "if frame.revision not in (1, 2):",
        "if frame.revision > 2:",
        ("MPA-5044-7.1.1-17",),
    ),
    Mutation(
        "revisions above 2 are accepted",
        "startup",
        "if frame.revision not in (1, 2):",
        "if frame.revision < 1:",
        ("MPA-5044-7.1.1-17",),
    ),
    Mutation(
        "the revision of a received frame is lost",
        "wire",
        "        revision=header.revision,\n",
        "        revision=1,\n",
        ("MPA-5044-7.1.1-18",),
    ),
    Mutation(
        "PD_Length is little-endian",
        "wire",
        '"private_data_length" / Int16ub',
        '"private_data_length" / Int16ul',
        ("MPA-5044-7.1.1-19",),
        (Replacement("wire", "    Int16ub,\n", "    Int16ub,\n    Int16ul,\n"),),
    ),
    Mutation(
        "PD_Length counts the header",
        "wire",
        '"private_data_length": len(frame.private_data)',
        '"private_data_length": len(frame.private_data) + 20',
        ("MPA-5044-7.1.1-19",),
    ),
    Mutation(
        "an octet that came with the Request is overlooked",
        "startup",
        "        if self._have > self._size:",
        "        if False:",
        (
            "MPA-5044-7.1.1-20",
            "MPA-5044-7.1.2-26",
        ),
    ),
    Mutation(
        "what comes behind a Request is left in TCP",
        "startup",
        "STARTUP_HEADER_SIZE + (role is Role.RESPONDER))",
        "STARTUP_HEADER_SIZE)",
        (
            "MPA-5044-7.1.1-20",
            "MPA-5044-7.1.2-26",
        ),
    ),
    Mutation(
        "a FIN in the Private Data is overlooked",
        "startup",
        "        self._peer_closed = True\n        self.lost(None)",
        "        self._peer_closed = True\n        if self._have <= STARTUP_HEADER_SIZE:\n            self.lost(None)",
        (
            "MPA-5044-7.1.1-20",
            "MPA-5044-7.1.2-23",
        ),
    ),
    Mutation(
        "1,024 octets of Private Data are accepted",
        "wire",
        "    if header.private_data_length > MAX_PRIVATE_DATA:",
        "    if header.private_data_length > 2 * MAX_PRIVATE_DATA:",
        (
            "MPA-5044-7.1.1-21",
            "MPA-5044-7.1.2-23",
            "MPA-5044-7.1.2-26",
        ),
    ),
    Mutation(
        "512 octets of Private Data are refused",
        "wire",
        "    if header.private_data_length > MAX_PRIVATE_DATA:",
        "    if header.private_data_length >= MAX_PRIVATE_DATA:",
        (
            "MPA-5044-7.1.1-21",
            "MPA-5044-7.1.2-23",
        ),
    ),
    Mutation(
        "a Responder's program gets 255 octets of Private Data at most",
        "startup",
        "            private_data=request.private_data,",
        "            private_data=request.private_data[:255],",
        ("MPA-5044-7.1.1-22",),
    ),
    Mutation(
        "an Initiator's program gets no Private Data",
        "negotiation",
        "        private_data=reply.private_data,",
        '        private_data=b"",',
        ("MPA-5044-7.1.1-22",),
    ),
    Mutation(
        "more private data than fits is offered",
        "negotiation",
        "        if len(self.private_data) > limit:",
        "        if False:",
        ("MPA-5044-7.1.1-23", "MPA2-6581-9-02"),
    ),
    Mutation(
        "a Reply may carry too much Private Data",
        "startup",
        "        if len(private_data) > limit:\n",
        "        if False:\n",
        (
            "MPA-5044-7.1.1-23",
            "MPA2-6581-9-02",
        ),
        (Replacement("wire", "    if len(frame.private_data) > MAX_PRIVATE_DATA:", "    if False:"),),
    ),
    Mutation(
        "the fast way takes a Reply for a Request",
        "faststartup",
        "if key != (REPLY_KEY if reply else REQUEST_KEY) or",
        "if key not in (REPLY_KEY, REQUEST_KEY) or",
        (
            "MPA-5044-7.1.1-02",
            "MPA-5044-7.1.1-04",
        ),
    ),
    Mutation(
        "the fast way believes R of a Request",
        "faststartup",
        "rejected = reply and flags & _REJECTED != 0",
        "rejected = flags & _REJECTED != 0",
        ("MPA-5044-7.1.1-12",),
    ),
    Mutation(
        "the fast way builds Requests with R",
        "faststartup",
        " or (rejected and not reply) or",
        " or",
        ("MPA-5044-7.1.1-11",),
    ),
    Mutation(
        "the fast way sends reserved bits as ones",
        "faststartup",
        "| (_ENHANCED if enhanced else 0)",
        "| (_ENHANCED if enhanced else 0) | 8",
        (
            "MPA-5044-7.1.1-14",
            "MPA2-6581-6-02",
        ),
    ),
    Mutation(
        "the fast way reads a reserved bit as S",
        "faststartup",
        "revision == 2 and flags & _ENHANCED != 0",
        "revision == 2 and flags & 0x18 != 0",
        (
            "MPA-5044-7.1.1-15",
            "MPA2-6581-6-03",
        ),
    ),
    Mutation(
        "the fast way looks at S in revision 1",
        "faststartup",
        "revision == 2 and flags & _ENHANCED != 0",
        "flags & _ENHANCED != 0",
        (
            "MPA-5044-7.1.1-15",
            "MPA2-6581-6-06",
        ),
    ),
    Mutation(
        "the fast way loses the revision",
        "faststartup",
        'rejected, enhanced, revision, b""), nbytes',
        'rejected, enhanced, 1, b""), nbytes',
        ("MPA-5044-7.1.1-18",),
    ),
    Mutation(
        "the fast way has PD_Length little-endian",
        "faststartup",
        "_HEADER.pack(REPLY_KEY if reply else REQUEST_KEY, flags, revision, nbytes)",
        'Struct("<16sBBH").pack(REPLY_KEY if reply else REQUEST_KEY, flags, revision, nbytes)',
        ("MPA-5044-7.1.1-19",),
    ),
    Mutation(
        "the fast way takes more Private Data than is allowed",
        "faststartup",
        "or nbytes > MAX_PRIVATE_DATA or not 1 <= revision",
        "or not 1 <= revision",
        ("MPA-5044-7.1.1-21",),
    ),
    Mutation(
        "the fast way builds frames with too much Private Data",
        "faststartup",
        "    if nbytes > MAX_PRIVATE_DATA or (rejected",
        "    if (rejected",
        ("MPA-5044-7.1.1-23",),
    ),
    Mutation(
        "frames with too much Private Data are built",
        "wire",
        "    if len(frame.private_data) > MAX_PRIVATE_DATA:",
        "    if False:",
        (
            "MPA-5044-7.1.1-23",
            "MPA2-6581-9-02",
        ),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
