"""Breakages of enhanced startup (RFC 6581) and of the registries that it extends (RFC 6580)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "ORD is not crossed with the peer's IRD",
        "negotiation",
        "        order = min(order, reply.ird)",
        "        order = order",
        ("MPA2-6581-9.1-09",),
    ),
    Mutation(
        "the Responder's ORD exceeds the Initiator's IRD",
        "negotiation",
        "min(offer.ord, request.ird)",
        "offer.ord",
        ("MPA2-6581-9.1-04",),
    ),
    Mutation(
        "0x3FFF in ORD is negotiated",
        "negotiation",
        "ird=UNNEGOTIATED if request.ord == UNNEGOTIATED else ird,",
        "ird=ird,",
        ("MPA2-6581-9.1-14",),
    ),
    Mutation(
        "a missing IRD goes unnoticed",
        "negotiation",
        "        fault = InsufficientIrd(reply.ord, ird)",
        "        pass",
        ("MPA2-6581-9.1-10",),
    ),
    Mutation(
        "a missing RTR goes unnoticed",
        "negotiation",
        "            fault = fault or NoMatchingRtr(offer.rtr, reply.rtr)",
        "            pass",
        ("MPA2-6581-9.2-11",),
    ),
    Mutation(
        "the Responder offers no RTR if none matches",
        "negotiation",
        "request.rtr & supported or supported",
        "request.rtr & supported",
        ("MPA2-6581-9.2-09",),
    ),
    Mutation(
        "a Responder of revision 1 takes revision 2",
        "startup",
        "        if not reply and frame.revision > self.offer.revision:",
        "        if False:",
        ("MPA2-6581-10-06",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
