"""Full Operation as the bench sees it: FPDUs and messages, right and wrong, and what the peer answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.judge import FpduJudge
from pyiwarp.conformance.bench.observed import Closed, Frame, Message, Observation, Reset, Silence
from pyiwarp.conformance.bench.patterns import Failed, Pattern, ended, message, read_response, silence, terminate
from pyiwarp.conformance.bench.segments import build_read_request, build_tagged, build_untagged
from pyiwarp.conformance.bench.shown import Shown
from pyiwarp.conformance.bench.startup_line import Line
from pyiwarp.decode.framing import Deframer
from pyiwarp.errors import Term

__all__ = ["PROBE_STAG", "Stream"]

PROBE_STAG: Final = 0x50524F42  # names nothing here; the answer to a probe says it back
OWN_TRAFFIC: Final = {
    Opcode.SEND,
    Opcode.SEND_SE,
    Opcode.SEND_INVAL,
    Opcode.SEND_SE_INVAL,
    Opcode.WRITE,
    Opcode.READ_REQUEST,
}


class Stream:
    """One stream after startup; `request` and `reply` are the frames that settled it.

    Every FPDU of the peer is judged by what can be known of it whatever the case: see `judge`. `patient` passes over
    messages that the peer's program sends of its own accord while a reaction is awaited. `shown` is the memory that
    the peer may Write and Read, None if it may know of more.
    """

    def __init__(
        self,
        line: Line,
        request: Frame,
        reply: Frame,
        *,
        initiator: bool,
        patient: bool,
        shown: Shown | None = None,
    ) -> None:
        mine, theirs = (request, reply) if initiator else (reply, request)
        self.line = line
        self.initiator = initiator
        self.request = request
        self.reply = reply
        self.crc = bool(request.header.flags.crc or reply.header.flags.crc)
        self.shown = shown
        self._judge = FpduJudge(
            line.allowances,
            crc=self.crc,
            markers=bool(mine.header.flags.markers),
            emss=line.tcp.announced_mss,
            shown=shown,
        )
        self.framer = Framer(bool(theirs.header.flags.markers), self._judge.sent)
        line.begin_full_operation(markers=self.framer.markers)
        self.deframer = Deframer(bool(mine.header.flags.markers))
        self.deframer.buffer = line.tcp.buffer
        self.next_msn = dict.fromkeys(range(4), 1)
        self.first: Message | None = None  # the peer's first FPDU, if the bench had to wait for it
        self._patient = patient

    # --- sending -----------------------------------------------------------------------------------------------------

    async def send_octets(self, octets: bytes) -> None:
        """Send octets as they are, wherever an FPDU should begin."""
        self._judge.sent_octets()
        await self.line.send(octets)

    async def fpdu(self, ulpdu: bytes, **wrong: Any) -> None:
        """Send one FPDU; `wrong` is what `Framer.frame` can do wrong."""
        await self.line.send(self.framer.frame(ulpdu, **wrong))

    async def fpdus(self, ulpdus: Iterable[bytes]) -> None:
        """Send several FPDUs in one piece."""
        await self.line.send(b"".join(self.framer.frame(ulpdu) for ulpdu in ulpdus))

    async def write(self, stag: int, to: int, payload: bytes = b"", **fields: Any) -> None:
        """Send an RDMA Write in one segment; `fields` are those of `build_tagged`."""
        await self.fpdu(build_tagged(Opcode.WRITE, stag, to, payload, **fields))

    async def write_badly(self) -> None:
        """Send an empty Write whose CRC has its last octet changed."""
        await self.fpdu(build_tagged(Opcode.WRITE, 0, 0), crc_mask=0x0100_0000)

    async def send(self, payload: bytes = b"", *, opcode: int = Opcode.SEND, **fields: Any) -> None:
        """Send a Send in one segment; `fields` are those of `build_untagged`, the MSN is the one due unless given."""
        await self.fpdu(self.untagged(opcode, QueueNumber.SEND, payload, **fields))

    async def read(
        self,
        stag: int,
        to: int,
        size: int,
        *,
        sink_stag: int = PROBE_STAG,
        sink_to: int = 0,
        **fields: Any,
    ) -> None:
        """Send a Read Request for `size` octets of the peer's region."""
        await self.fpdu(self.read_request(stag, to, size, sink_stag=sink_stag, sink_to=sink_to, **fields))

    def read_request(
        self, stag: int, to: int, size: int, *, sink_stag: int = PROBE_STAG, sink_to: int = 0, **fields: Any
    ) -> bytes:
        """The segment that `read` sends."""
        payload = build_read_request(sink_stag, sink_to, size, stag, to)
        return self.untagged(Opcode.READ_REQUEST, QueueNumber.READ_REQUEST, payload, **fields)

    async def respond(self, stag: int, to: int, payload: bytes = b"", **fields: Any) -> None:
        """Send a Read Response in one segment."""
        await self.fpdu(build_tagged(Opcode.READ_RESPONSE, stag, to, payload, **fields))

    def untagged(self, opcode: int, qn: int, payload: bytes = b"", *, msn: int | None = None, **fields: Any) -> bytes:
        """An untagged segment with the MSN that is due on its queue, or with `msn`; a last segment moves the MSN on."""
        number = self.next_msn.get(qn, 1) if msn is None else msn
        if msn is None and fields.get("last", True):
            self.next_msn[qn] = (number + 1) & 0xFFFF_FFFF
        return build_untagged(opcode, qn, number, payload, **fields)

    def finish(self) -> None:
        """Send FIN."""
        self.line.finish()

    def reset(self) -> None:
        """Send RST."""
        self.line.reset()

    # --- seeing ------------------------------------------------------------------------------------------------------

    async def observe(self, seconds: float | None = None) -> Observation:
        """The next FPDU, or what else happens within `seconds` (by default the bench's time limit)."""
        seconds = self.line.timeout if seconds is None else seconds
        tcp = self.line.tcp
        try:
            async with asyncio.timeout(seconds):
                while (came := self._here()) is None:
                    await tcp.more()
                return came
        except TimeoutError:  # what came in the turn of the loop in which the time ran out is no silence
            return self._here() or Silence(seconds, bytes(tcp.buffer))

    def _here(self) -> Observation | None:
        """What there is to see now."""
        if (came := self._next()) is not None:
            return came
        tcp = self.line.tcp
        if tcp.over:
            return Reset(bytes(tcp.buffer)) if tcp.rst else Closed(bytes(tcp.buffer))
        return None

    def _next(self) -> Message | None:
        """The next FPDU that is all there; `Failed` if the judge finds something wrong with it."""
        fpdu = self.deframer.next()
        if fpdu is None:
            return None
        self.line.last = seen = Message(fpdu, self.line.allowances)
        self._judge.judge(seen)
        return seen

    def judge_rest(self) -> None:
        """Judge the FPDUs that have come and that the case did not look at; raises `Failed`."""
        while self._next() is not None:
            pass

    async def expect(self, pattern: Pattern, seconds: float | None = None) -> Observation:
        """The next observation, which must fit; `seconds` are for it and for all that is passed over before it."""
        clock = asyncio.get_running_loop().time
        end = clock() + (self.line.timeout if seconds is None else seconds)
        while True:
            seen = await self.observe(max(0.0, end - clock()))
            if pattern.fits(seen):
                return seen
            if not self._passed_over(seen) or clock() > end:
                raise pattern.missed(seen)

    def _passed_over(self, seen: Observation) -> bool:
        if not self._patient or not isinstance(seen, Message) or seen.segment is None:
            return False
        return seen.segment.opcode in OWN_TRAFFIC

    async def expect_message(self, pattern: Pattern, seconds: float | None = None) -> Message:
        """The next observation, which must be a message that fits."""
        seen = await self.expect(pattern, seconds)
        assert isinstance(seen, Message), "the pattern admits messages alone"
        return seen

    async def expect_terminated(self, *terms: Term, **fields: object) -> Message:
        """A Terminate with one of `terms`, then nothing more and the end of the stream; returns the Terminate."""
        seen = await self.expect_message(terminate(*terms, **fields))
        await self.expect_over()
        return seen

    async def expect_torn_down(self, *terms: Term) -> Observation:
        """The stream ends, with a Terminate (of `terms`, if any are given) before the end or without one."""
        seen = await self.expect(terminate(*terms) | ended())
        if isinstance(seen, Message):
            await self.expect_over()
        return seen

    async def expect_over(self) -> None:
        """The stream ends and nothing comes before; once this side has closed its half too."""
        self.finish()
        await self.expect(ended())

    async def expect_quiet(self, seconds: float | None = None) -> None:
        """Nothing may come, and the stream may not end, for `seconds` (by default the bench's quiet time)."""
        pattern = silence()
        seen = await self.observe(self.line.quiet if seconds is None else seconds)
        if not pattern.fits(seen):  # nothing is passed over: it is silence that is due
            raise pattern.missed(seen)

    async def expect_no_reaction(self, seconds: float | None = None) -> None:
        """Nothing may come for `seconds` (by default the bench's quiet time) but what the peer's program sends."""
        clock = asyncio.get_running_loop().time
        end = clock() + (self.line.quiet if seconds is None else seconds)
        while (left := end - clock()) > 0:
            seen = await self.observe(left)
            if not (silence().fits(seen) or self._passed_over(seen)):
                raise silence().missed(seen)

    async def probe(self) -> Message:
        """The peer is alive and has processed all that was sent: it answers a Read Request for nothing.

        Needs an inbound Read of the peer's (IRD of at least 1). Returns the Response.
        """
        await self.read(0, 0, 0)
        return await self.expect_message(read_response(b"", stag=PROBE_STAG, to=0, last=True))

    async def expect_read(self, stag: int, to: int, size: int) -> bytes:
        """Read `size` octets of the peer's region; every segment of the Response must lie where it should."""
        await self.read(stag, to, size)
        return await self.expect_response(size)

    async def expect_response(self, size: int, stag: int = PROBE_STAG, to: int = 0) -> bytes:
        """The Response of `size` octets to a Read that named `stag` and `to` as its sink."""
        octets = bytearray()
        while True:
            pattern = message(Opcode.READ_RESPONSE, tagged=True, stag=stag, to=to + len(octets))
            segment = (await self.expect_message(pattern)).segment
            assert segment is not None, "the pattern admits segments alone"
            octets += segment.payload
            if segment.last:
                break
        if len(octets) != size:
            raise Failed(f"a Read Response of {size} octets", f"one of {len(octets)}")
        return bytes(octets)

    async def expect_send(self, payload: bytes, opcode: int = Opcode.SEND, msn: int | None = None) -> list[Message]:
        """A whole message on queue 0 with this payload, in segments whose MO grows; returns them."""
        came: list[Message] = []
        octets = bytearray()
        while True:
            fields: dict[str, object] = {"tagged": False, "qn": QueueNumber.SEND, "mo": len(octets)}
            if msn is not None:
                fields["msn"] = msn
            seen = await self.expect_message(message(opcode, **fields))
            segment = seen.segment
            assert segment is not None, "the pattern admits segments alone"
            came.append(seen)
            octets += segment.payload
            if segment.last:
                break
        if octets != payload:
            expected = f"a Send of {len(payload)} octets {payload[:16].hex(' ')}..."
            raise Failed(expected, f"{len(octets)} octets {octets[:16].hex(' ')}...", came[-1].annotated())
        return came
