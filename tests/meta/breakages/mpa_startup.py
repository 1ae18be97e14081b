"""Breakages of MPA: startup, closing and errors (RFC 5044 sections 7 and 8)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation

MUTATIONS: Final = (
    Mutation(
        "a marker that points elsewhere is overlooked",
        "mpa",
        "        if fpduptr != expected:",
        "        if False:",
        ("MPA-5044-8-03",),
    ),
    Mutation(
        "markers are not sent although asked for",
        "startup",
        "            send_markers=request.markers,  # MPA-5044-7.1.1-06",
        "            send_markers=False,  #",
        ("MPA-5044-7.1.1-06",),
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
        "a rejecting Reply is taken for an accepting one",
        "startup",
        "elif received.rejected:",
        "elif False:",
        ("MPA-5044-7.1.1-13", "MPA-5044-7.1.2-14"),
    ),
    Mutation(
        "a revision that nobody knows is accepted",
        "startup",
        "if frame.revision not in (1, 2):",
        "if False:",
        ("MPA-5044-7.1.1-17",),
    ),
    Mutation(
        "octets behind the Request are overlooked",
        "startup",
        "        if self.state is StartupState.DECIDING:\n",
        "        if False:\n",
        ("MPA-5044-7.1.2-11",),
    ),
    Mutation(
        "the Request is waited for for ever",
        "startup",
        'return TimeLimit("the MPA Request", self.offer.timeout)',
        "return None",
        ("MPA-5044-7.1.2-27",),
    ),
    Mutation(
        "more private data than fits is offered",
        "negotiation",
        "        if len(self.private_data) > limit:",
        "        if False:",
        ("MPA-5044-7.1.1-23", "MPA2-6581-9-02"),
    ),
    Mutation(
        "the Responder speaks first",
        "engine/sending",
        "self._mute = agreement.role is Role.RESPONDER",
        "self._mute = False",
        ("MPA-5044-7.1.2-16",),
    ),
    Mutation(
        "the Request has a wrong key",
        "wire",
        'b"MPA ID Req Frame"',
        'b"MPA ID REQ Frame"',
        ("MPA-5044-7.1.1-01",),
    ),
    Mutation(
        "a CRC error is reported as a marker mismatch",
        "errors",
        "term = Term(Layer.LLP, 0x0, 0x02)",
        "term = Term(Layer.LLP, 0x0, 0x03)",
        ("MPA-5044-8-02",),
    ),
    Mutation(
        "a polled socket's FIN does not wait for what the kernel has not taken",
        "drivers/polling_driver",
        "if pump.output_ended and not self._sent_fin and not self._pending:",
        "if pump.output_ended and not self._sent_fin:",
        ("MPA-5044-7.2-01",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
