"""Breakages of enhanced startup: frames, IRD and ORD (RFC 6581 sections 5 to 9.1)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation, Replacement

MUTATIONS: Final = (
    Mutation(
        "small Sends overtake the opening message",
        "engine/sending",
        "idle = not (self.in_transit or self._messages or self._answers",
        "idle = not (self.in_transit or self._answers",
        ("MPA2-6581-5-01",),
    ),
    Mutation(
        "no opening message is sent",
        "engine/sending",
        "            self._queue_rtr(agreement.rtr)",
        "            pass",
        (
            "MPA2-6581-5-01",
            "MPA2-6581-9.2-10",
        ),
    ),
    Mutation(
        "no Initiator asks for peer-to-peer mode",
        "negotiation",
        "_word(rtr=offer.rtr, ird=offer.ird",
        "_word(rtr=NO_RTR, ird=offer.ird",
        (
            "MPA2-6581-5-02",
            "MPA2-6581-9.2-01",
        ),
    ),
    Mutation(
        "a connection asks for no peer-to-peer mode",
        "connections/options",
        "rtr=self.rtr if self.revision > 1 else Rtr(0)",
        "rtr=Rtr(0)",
        ("MPA2-6581-5-02",),
    ),
    Mutation(
        "frames with the enhanced word have no S",
        "wire",
        '"enhanced": frame.enhanced,',
        '"enhanced": False,',
        (
            "MPA2-6581-6-01",
            "MPA2-6581-10-01",
        ),
    ),
    Mutation(
        "S and R have each other's bit",
        "wire",
        (
            '    "rejected" / Flag,  # R: means something in a Reply alone\n'
            '    "enhanced" / Flag,  # S: MPA2-6581-6-01\n'
        ),
        (
            '    "enhanced" / Flag,  # S: MPA2-6581-6-01\n'
            '    "rejected" / Flag,  # R: means something in a Reply alone\n'
        ),
        ("MPA2-6581-6-01",),
    ),
    Mutation(
        "the fast way sets no S",
        "faststartup",
        "_ENHANCED if enhanced else 0",
        "0",
        (
            "MPA2-6581-6-01",
            "MPA2-6581-10-01",
        ),
    ),
    Mutation(
        "the fast way builds enhanced frames of revision 1",
        "faststartup",
        "    if enhanced and (revision == 1 or nbytes",
        "    if enhanced and (nbytes",
        ("MPA2-6581-6-04",),
    ),
    Mutation(
        "the fast way builds frames without their enhanced word",
        "faststartup",
        "(revision == 1 or nbytes < ENHANCED_SIZE)",
        "revision == 1",
        ("MPA2-6581-6-08",),
    ),
    Mutation(
        "the fast way has IRD and ORD in each other's place",
        "faststartup",
        "    peer_to_peer, rtr_send, ird, rtr_write, rtr_read, order = word",
        "    peer_to_peer, rtr_send, order, rtr_write, rtr_read, ird = word",
        ("MPA2-6581-9-01",),
    ),
    Mutation(
        "enhanced frames of revision 1 are built",
        "wire",
        "    if frame.enhanced and frame.revision < _FIRST_ENHANCED_REVISION:",
        "    if False:",
        ("MPA2-6581-6-04",),
    ),
    Mutation(
        "peer-to-peer mode may be asked for in revision 1",
        "negotiation",
        "        if self.rtr and self.revision == 1:",
        "        if False:",
        ("MPA2-6581-6-04",),
    ),
    Mutation(
        "revision 1 cannot be offered",
        "negotiation",
        "        if self.revision not in (1, 2):",
        "        if self.revision != 2:",
        (
            "MPA2-6581-6-05",
            "MPA2-6581-10-03",
        ),
    ),
    Mutation(
        "a Responder of revision 2 refuses revision 1",
        "startup",
        "if not reply and frame.revision > self.offer.revision:",
        "if not reply and frame.revision != self.offer.revision:",
        (
            "MPA2-6581-6-06",
            "MPA2-6581-10-04",
        ),
    ),
    Mutation(
        "PD_Length leaves out the enhanced word",
        "wire",
        '"private_data_length": len(frame.private_data)',
        '"private_data_length": len(frame.private_data) - 4 * frame.enhanced',
        ("MPA2-6581-6-07",),
    ),
    Mutation(
        "a cut enhanced word is read as zeros",
        "wire",
        "    word = EnhancedWord.parse(private_data)",
        '    word = EnhancedWord.parse(bytes(private_data).ljust(4, b"\\0"))',
        (
            "MPA2-6581-6-08",
            "MPA2-6581-12-01",
        ),
        (Replacement("wire", "    if len(private_data) < ENHANCED_SIZE:", "    if False:"),),
    ),
    Mutation(
        "frames without their enhanced word are built",
        "wire",
        "    if frame.enhanced and len(frame.private_data) < ENHANCED_SIZE:",
        "    if False:",
        ("MPA2-6581-6-08",),
    ),
    Mutation(
        "the enhanced word stands behind the Private Data",
        "startup",
        'whole = (word or b"") + private_data',
        'whole = private_data + (word or b"")',
        ("MPA2-6581-6-08",),
    ),
    Mutation(
        "insufficient IRD is reported as a local catastrophe",
        "errors",
        "term = Term(Layer.LLP, 0x0, 0x06)",
        "term = Term(Layer.LLP, 0x0, 0x05)",
        (
            "MPA2-6581-8-01",
            "MPA2-6581-9.1-07",
            "MPA2-6581-9.1-11",
        ),
    ),
    Mutation(
        "an impossible opening message is reported as insufficient IRD",
        "errors",
        "term = Term(Layer.LLP, 0x0, 0x07)",
        "term = Term(Layer.LLP, 0x0, 0x06)",
        (
            "MPA2-6581-8-01",
            "MPA2-6581-9.2-12",
        ),
    ),
    Mutation(
        "a startup that fails here is reported as an invalid frame",
        "errors",
        "term = Term(Layer.LLP, 0x0, 0x05)",
        "term = Term(Layer.LLP, 0x0, 0x04)",
        (
            "MPA2-6581-8-01",
            "MPA2-6581-9.3-02",
        ),
    ),
    Mutation(
        "IRD and ORD have each other's place",
        "wire",
        (
            '    "ird" / BitsInteger(14),\n'
            '    "rtr_write" / Flag,  # C\n'
            '    "rtr_read" / Flag,  # D\n'
            '    "ord" / BitsInteger(14),'
        ),
        (
            '    "ord" / BitsInteger(14),\n'
            '    "rtr_write" / Flag,  # C\n'
            '    "rtr_read" / Flag,  # D\n'
            '    "ird" / BitsInteger(14),'
        ),
        ("MPA2-6581-9-01",),
    ),
    Mutation(
        "C and D have each other's place",
        "wire",
        '    "rtr_write" / Flag,  # C\n    "rtr_read" / Flag,  # D\n',
        '    "rtr_read" / Flag,  # D\n    "rtr_write" / Flag,  # C\n',
        ("MPA2-6581-9-01",),
    ),
    Mutation(
        "a Responder's program sees its own IRD for the peer's",
        "startup",
        "            peer_ird=request.ird,",
        "            peer_ird=ird,",
        ("MPA2-6581-9.1-01",),
    ),
    Mutation(
        "a Responder's program does not see the peer's ORD",
        "startup",
        "            peer_ord=request.ord,",
        "            peer_ord=None,",
        ("MPA2-6581-9.1-01",),
    ),
    Mutation(
        "an Initiator's program sees its own IRD for the peer's",
        "negotiation",
        "        peer_ird=reply.ird,",
        "        peer_ird=ird,",
        (
            "MPA2-6581-9.1-01",
            "MPA2-6581-9.1-12",
        ),
    ),
    Mutation(
        "an Initiator's program does not see the peer's ORD",
        "negotiation",
        "        peer_ord=reply.ord,",
        "        peer_ord=None,",
        (
            "MPA2-6581-9.1-01",
            "MPA2-6581-9.1-12",
        ),
    ),
    Mutation(
        "a Reply says more ORD than the Responder keeps to",
        "negotiation",
        "order=UNNEGOTIATED if request.ird == UNNEGOTIATED else order,",
        "order=UNNEGOTIATED if request.ird == UNNEGOTIATED else offer.ord,",
        (
            "MPA2-6581-9.1-02",
            "MPA2-6581-9.1-04",
        ),
    ),
    Mutation(
        "a Responder keeps to its own ORD, whatever its Reply says",
        "negotiation",
        "    return word, ird, order\n",
        "    return word, ird, offer.ord\n",
        (
            "MPA2-6581-9.1-02",
            "MPA2-6581-9.1-04",
        ),
    ),
    Mutation(
        "a Responder without IRD makes no room for the opening Read",
        "negotiation",
        "            ird = max(ird, 1)",
        "            pass",
        ("MPA2-6581-9.1-03",),
    ),
    Mutation(
        "the Responder's ORD exceeds the Initiator's IRD",
        "negotiation",
        "min(offer.ord, request.ird)",
        "offer.ord",
        ("MPA2-6581-9.1-04",),
    ),
    Mutation(
        "a Reply says more IRD than the Responder has",
        "negotiation",
        "ird=UNNEGOTIATED if request.ord == UNNEGOTIATED else ird,",
        "ird=UNNEGOTIATED if request.ord == UNNEGOTIATED else max(ird, request.ord),",
        ("MPA2-6581-9.1-05",),
    ),
    Mutation(
        "a rejecting Reply has no enhanced word",
        "startup",
        "word = reply_word(request, self.offer)[0]",
        "word = None",
        ("MPA2-6581-9.1-06",),
    ),
    Mutation(
        "an Initiator serves half of the Reads that the Responder may ask for",
        "negotiation",
        "        ird=ird,\n        ord=order,\n        private_data=reply",
        "        ird=ird // 2,\n        ord=order,\n        private_data=reply",
        (
            "MPA2-6581-9.1-08",
            "MPA2-6581-9.1-17",
        ),
    ),
    Mutation(
        "one Read at once is served, whatever was agreed",
        "engine/sending",
        "rdmap.InboundReads(agreement.ird)",
        "rdmap.InboundReads(min(agreement.ird, 1))",
        (
            "MPA2-6581-9.1-08",
            "MPA2-6581-9.1-17",
        ),
    ),
    Mutation(
        "ORD is not crossed with the peer's IRD",
        "negotiation",
        "        order = min(order, reply.ird)",
        "        order = order",
        ("MPA2-6581-9.1-09",),
    ),
    Mutation(
        "one Read more than agreed may be outstanding",
        "engine/sending",
        "rdmap.OutstandingReads(agreement.ord)",
        "rdmap.OutstandingReads(agreement.ord + 1)",
        ("MPA2-6581-9.1-09",),
    ),
    Mutation(
        "a missing IRD goes unnoticed",
        "negotiation",
        "        fault = InsufficientIrd(reply.ord, ird)",
        "        pass",
        ("MPA2-6581-9.1-10",),
    ),
    Mutation(
        "a rejection does not tell the peer's IRD and ORD",
        "startup",
        "Rejected(received.private_data, received.ird, received.ord)",
        "Rejected(received.private_data, None, None)",
        ("MPA2-6581-9.1-12",),
    ),
    Mutation(
        "0x3FFF cannot be offered",
        "negotiation",
        "check_count(name, depth, 0, UNNEGOTIATED,",
        "check_count(name, depth, 0, UNNEGOTIATED - 1,",
        ("MPA2-6581-9.1-13",),
    ),
    Mutation(
        "0x3FFF is another number",
        "codes",
        "UNNEGOTIATED: Final = 0x3FFF",
        "UNNEGOTIATED: Final = 0x3FFE",
        ("MPA2-6581-9.1-13",),
    ),
    Mutation(
        "the Responder's ORD of 0x3FFF is too many for the Initiator",
        "negotiation",
        "reply.ord != UNNEGOTIATED and reply.ord > ird",
        "reply.ord > ird",
        (
            "MPA2-6581-9.1-13",
            "MPA2-6581-9.1-17",
        ),
    ),
    Mutation(
        "the Responder's IRD of 0x3FFF leaves the Initiator no Reads",
        "negotiation",
        "        order = min(order, reply.ird)",
        "        order = min(order, reply.ird)\n    elif reply.ird is not None:\n        order = 0",
        (
            "MPA2-6581-9.1-13",
            "MPA2-6581-9.1-15",
        ),
    ),
    Mutation(
        "the Initiator's IRD of 0x3FFF leaves the Responder no Reads",
        "negotiation",
        "order = offer.ord if request.ird == UNNEGOTIATED else",
        "order = 0 if request.ird == UNNEGOTIATED else",
        (
            "MPA2-6581-9.1-13",
            "MPA2-6581-9.1-16",
        ),
    ),
    Mutation(
        "0x3FFF in IRD is negotiated",
        "negotiation",
        "order=UNNEGOTIATED if request.ird == UNNEGOTIATED else order,",
        "order=order,",
        (
            "MPA2-6581-9.1-13",
            "MPA2-6581-9.1-16",
        ),
    ),
    Mutation(
        "0x3FFF in ORD is negotiated",
        "negotiation",
        "ird=UNNEGOTIATED if request.ord == UNNEGOTIATED else ird,",
        "ird=ird,",
        ("MPA2-6581-9.1-14",),
    ),
    Mutation(
        "an offer may carry 512 octets beside the enhanced word",
        "negotiation",
        "(ENHANCED_SIZE if self.revision == 2 else 0)",
        "0",
        ("MPA2-6581-9-02",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
