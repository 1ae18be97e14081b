"""Breakages of enhanced startup: opening messages and revisions (RFC 6581 sections 9.2 to 12)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation, Replacement

MUTATIONS: Final = (
    Mutation(
        "a Request names one opening message of those it knows",
        "negotiation",
        "_word(rtr=offer.rtr, ird=offer.ird",
        "_word(rtr=offer.rtr & Rtr.WRITE or offer.rtr, ird=offer.ird",
        ("MPA2-6581-9.2-02",),
    ),
    Mutation(
        "a Responder without a choice of its own knows no opening message",
        "negotiation",
        "supported = offer.rtr or ALL_RTRS",
        "supported = offer.rtr",
        (
            "MPA2-6581-9.2-03",
            "MPA2-6581-9.2-04",
        ),
    ),
    Mutation(
        "A is answered only if an opening message matches",
        "negotiation",
        "    if request.peer_to_peer:\n        supported",
        "    if request.peer_to_peer and request.rtr & offer.rtr:\n        supported",
        (
            "MPA2-6581-9.2-04",
            "MPA2-6581-9.2-09",
        ),
    ),
    Mutation(
        "a Reply names one of the opening messages that match",
        "negotiation",
        "rtr = request.rtr & supported or supported",
        "rtr = request.rtr & supported & Rtr.WRITE or request.rtr & supported or supported",
        ("MPA2-6581-9.2-05",),
    ),
    Mutation(
        "a Reply names opening messages that were not asked for",
        "negotiation",
        "rtr = request.rtr & supported or supported",
        "rtr = supported & ~request.rtr or supported",
        (
            "MPA2-6581-9.2-05",
            "MPA2-6581-9.2-07",
        ),
    ),
    Mutation(
        "the Responder offers no RTR if none matches",
        "negotiation",
        "request.rtr & supported or supported",
        "request.rtr & supported",
        ("MPA2-6581-9.2-09",),
    ),
    Mutation(
        "an Initiator opens with a Write in any case",
        "negotiation",
        "    if common & Rtr.WRITE:",
        "    if True:",
        (
            "MPA2-6581-9.2-10",
            "MPA2-6581-9.2-11",
        ),
    ),
    Mutation(
        "an Initiator opens with a Send where a Read was agreed",
        "engine/sending",
        "        elif rtr is Rtr.READ:\n            self.read_nothing",
        "        elif False:\n            self.read_nothing",
        (
            "MPA2-6581-9.2-10",
            "MPA2-6581-9.2-17",
        ),
    ),
    Mutation(
        "a missing RTR goes unnoticed",
        "negotiation",
        "            fault = fault or NoMatchingRtr(offer.rtr, reply.rtr)",
        "            pass",
        ("MPA2-6581-9.2-11",),
    ),
    Mutation(
        "an Initiator goes on without the peer-to-peer mode that it asked for",
        "negotiation",
        "    elif offer.rtr:  # an unenhanced",
        "    elif False:  # an unenhanced",
        ("MPA2-6581-9.2-11",),
    ),
    Mutation(
        "client-server mode sets A",
        "negotiation",
        "        peer_to_peer=bits != 0,\n        rtr_send",
        "        peer_to_peer=True,\n        rtr_send",
        (
            "MPA2-6581-9.2-13",
            "MPA2-6581-9.2-14",
        ),
    ),
    Mutation(
        "client-server in, peer-to-peer out",
        "negotiation",
        "    if request.peer_to_peer:\n        supported",
        "    if True:\n        supported",
        (
            "MPA2-6581-9.2-14",
            "MPA2-6581-9.2-15",
        ),
    ),
    Mutation(
        "RTR bits without A are built",
        "wire",
        "    if not word.peer_to_peer and (word",
        "    if False and (word",
        ("MPA2-6581-9.2-15",),
    ),
    Mutation(
        "the fast way builds RTR bits without A",
        "faststartup",
        " and (peer_to_peer or not (rtr_send or rtr_write or rtr_read))",
        "",
        ("MPA2-6581-9.2-15",),
    ),
    Mutation(
        "the fast way believes RTR bits without A",
        "faststartup",
        "        there and first & _SECOND != 0,",
        "        first & _SECOND != 0,",
        ("MPA2-6581-9.2-16",),
    ),
    Mutation(
        "RTR bits are believed without A",
        "wire",
        "word.rtr_send and word.peer_to_peer,",
        "word.rtr_send,",
        ("MPA2-6581-9.2-16",),
        (
            Replacement("wire", "word.rtr_write and word.peer_to_peer,", "word.rtr_write,"),
            Replacement("wire", "word.rtr_read and word.peer_to_peer,", "word.rtr_read,"),
        ),
    ),
    Mutation(
        "the opening Read asks for an octet",
        "engine/sending",
        "ReadRequest(_ANY_STAG, 0, 0, _ANY_STAG, 0)",
        "ReadRequest(_ANY_STAG, 0, 1, _ANY_STAG, 0)",
        ("MPA2-6581-9.2-17",),
    ),
    Mutation(
        "the opening Send solicits an event",
        "engine/sending",
        "            self.send(_NO_PAYLOAD, token=None)",
        "            self.send(_NO_PAYLOAD, token=None, solicited=True)",
        ("MPA2-6581-9.2-17",),
    ),
    Mutation(
        "the opening Write is no last segment",
        "ddp",
        "_TAGGED_LAST: Final = TAGGED | VERSION | LAST",
        "_TAGGED_LAST: Final = TAGGED | VERSION",
        ("MPA2-6581-9.2-17",),
    ),
    Mutation(
        "the opening Send has no MSN of its own",
        "engine/sending",
        "            self.send(_NO_PAYLOAD, token=None)",
        "            self.send(_NO_PAYLOAD, token=None)\n            self.send_msn = 1",
        ("MPA2-6581-9.2-18",),
    ),
    Mutation(
        "the opening Read has no MSN of its own",
        "engine/sending",
        "            self.read_nothing(token=None)",
        "            self.read_nothing(token=None)\n            self.read_msn = 1",
        ("MPA2-6581-9.2-18",),
    ),
    Mutation(
        "the opening Read gets no answer",
        "engine/stream",
        "        if request.read_size == 0:  # RDMAP-5040-5.2.1-15, RDMAP-5040-5.2.1-16\n",
        (
            "        if request.read_size == 0:\n"
            "            self._inbound.end()\n"
            "            return\n"
            "        if False:\n"
        ),
        ("MPA2-6581-9.2-18",),
    ),
    Mutation(
        "the Initiator's ORD is not raised for the opening Read",
        "negotiation",
        "            order = max(order, 1)",
        "            pass",
        ("MPA2-6581-9.3-01",),
    ),
    Mutation(
        "a startup that cannot be finished ends without a Terminate",
        "cm/handshake",
        "_begin(pd.create_qp(cq, cq), driver, replace(agreement, fault=fault))",
        "driver.abort()",
        ("MPA2-6581-9.3-02",),
    ),
    Mutation(
        "an enhanced Request gets an unenhanced Reply",
        "startup",
        "reply = _frame(request.revision, word, offer",
        "reply = _frame(request.revision, None, offer",
        ("MPA2-6581-10-01",),
    ),
    Mutation(
        "an unenhanced Request gets an enhanced Reply",
        "negotiation",
        "        return None, offer.ird, offer.ord  # MPA2",
        (
            "        unasked = None if request.revision == 1 else _word(rtr=NO_RTR, ird=offer.ird, or"
            "der=offer.ord)\n"
            "        return unasked, offer.ird, offer.ord  # MPA2"
        ),
        (
            "MPA2-6581-10-02",
            "MPA2-6581-10-05",
        ),
    ),
    Mutation(
        "a Request is always of revision 2",
        "startup",
        "self._out.append(_frame(offer.revision, word,",
        "self._out.append(_frame(2, word,",
        ("MPA2-6581-10-03",),
    ),
    Mutation(
        "a Responder of revision 1 takes revision 2",
        "startup",
        "        if not reply and frame.revision > self.offer.revision:",
        "        if False:",
        ("MPA2-6581-10-06",),
    ),
    Mutation(
        "nothing is tried after a peer has hung up",
        "connections/options",
        "if self.fall_back and self.revision != 1 else None",
        "if False else None",
        ("MPA2-6581-10-07",),
    ),
    Mutation(
        "the second try has revision 2 again",
        "connections/options",
        "replace(self, revision=1)",
        "self",
        ("MPA2-6581-10-07",),
    ),
    Mutation(
        "a Responder's ORD follows the Initiator's IRD without a bound",
        "negotiation",
        "else min(offer.ord, request.ird)",
        "else request.ird",
        ("MPA2-6581-12-01",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
