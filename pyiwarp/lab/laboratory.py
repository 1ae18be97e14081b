"""Both sides and what stands between them: what one side does is carried to the other, and told."""

from __future__ import annotations

from typing import Any, Final

from pyiwarp.decode.directions import Session
from pyiwarp.decode.units import StartupUnit, Unit
from pyiwarp.errors import UsageError
from pyiwarp.lab.endpoint import Endpoint
from pyiwarp.lab.flaws import Flaw
from pyiwarp.lab.rawpeer import RawPeer
from pyiwarp.lab.shown import Change, Happened, octets_text
from pyiwarp.negotiation import Offer, Role
from pyiwarp.verbs import Completion, SendRequest, Status, WorkOpcode
from pyiwarp.wire import StartupHeader

__all__ = ["Lab"]

_MUTED: Final = "waits for the first FPDU of the Initiator (RFC 5044 §7.1.2)"


class Lab:
    """A raw peer and a real endpoint.

    The endpoint is the Responder, or with `initiator` the side that sends the MPA Request. `offer` are its own fields
    of `pyiwarp.negotiation.Offer`: `markers`, `crc`, `revision`, `ird`, `ord`, `rtr`, `private_data`. With `startup`
    False the raw peer has said nothing yet. `flaw` makes the endpoint one that breaks a rule.
    """

    def __init__(
        self, *, initiator: bool = False, startup: bool = True, flaw: Flaw | None = None, **offer: Any
    ) -> None:
        offer = {"ird": 4, "ord": 4} | offer
        self.peer = RawPeer()
        self.endpoint = Endpoint(Role.INITIATOR if initiator else Role.RESPONDER, Offer(**offer))
        self.session = Session()
        """The decoder, which has seen all octets of both directions."""
        self.history: list[tuple[bool, Unit]] = []
        """Every startup frame and FPDU up to now, each with whether the raw peer has sent it."""
        self._flaw = flaw
        self._initiator = initiator
        self._memory: dict[int, bytes] = {}  # what open regions had before this step, by STag
        self._state = self.endpoint.state
        self._fin_told = self._closed_told = self._error_told = False
        self.began = self._carry(note="" if initiator else "waits for the MPA Request")
        if startup:
            revision, ird = offer.get("revision", 2), offer["ird"]
            reply = self.peer.reply(revision=revision, ord=min(4, ird)) if initiator else b""  # MPA2-6581-9.1-04
            self.began = self.say(reply or self.peer.request(revision=revision))

    def __repr__(self) -> str:
        return f"<Lab, {self.endpoint.state}, {len(self.history)} units>"

    @property
    def answers(self) -> list[Unit]:
        """What the endpoint has sent up to now."""
        return [unit for by_peer, unit in self.history if not by_peer]

    # --- the raw peer's side -----------------------------------------------------------------------------------------

    def say(self, *octets: bytes | str) -> Happened:
        """The raw peer sends octets as they are; words are hexadecimal.

        Returns what happened. Raises `UsageError` for words that are not hexadecimal.
        """
        return self._carry(b"".join(_octets(each) for each in octets))

    def frame(self, *ulpdus: bytes, **framing: Any) -> Happened:
        """The raw peer sends ULPDUs, each in an FPDU of its own; `framing` as in `RawPeer.fpdu`."""
        return self.say(*(self.peer.fpdu(ulpdu, **framing) for ulpdu in ulpdus))

    def send(self, payload: bytes = b"", **fields: Any) -> Happened:
        """The raw peer sends a Send; see `RawPeer.send`."""
        return self.frame(self.peer.send(payload, **fields))

    def write(self, stag: int, to: int, payload: bytes = b"", **fields: Any) -> Happened:
        """The raw peer sends an RDMA Write; see `RawPeer.write`."""
        return self.frame(self.peer.write(stag, to, payload, **fields))

    def read(self, read_size: int, source_stag: int, source_to: int, **fields: Any) -> Happened:
        """The raw peer sends an RDMA Read Request, with STag 0x0000beef and TO 0 as its Data Sink unless told."""
        sink = (fields.pop("sink_stag", 0xBEEF), fields.pop("sink_to", 0))
        return self.frame(self.peer.read_request(*sink, read_size, source_stag, source_to, **fields))

    def close(self) -> Happened:
        """The raw peer closes its half of TCP."""
        self.endpoint.joint.end()
        return self._carry()

    # --- the endpoint's side -----------------------------------------------------------------------------------------

    def post(self, *requests: SendRequest) -> Happened:
        """The endpoint's program posts work requests; raises what `QueuePair.post_send` raises."""
        self.endpoint.post(*requests)
        return self._carry(note=_MUTED if self.endpoint.qp.stream.muted else "")

    def disconnect(self) -> Happened:
        """The endpoint's program ends the connection in good order."""
        self.endpoint.qp.disconnect()
        return self._carry()

    def expire(self) -> Happened:
        """Time passes until the endpoint has waited too long; raises `UsageError` if it waits for nothing."""
        waited = self.endpoint.joint.expire()
        return self._carry(note=f"waited too long for {waited}")

    # --- what happens ------------------------------------------------------------------------------------------------

    def _carry(self, octets: bytes = b"", note: str = "") -> Happened:
        """Carry octets to the endpoint, and what it says back, until both rest."""
        self._memory = {region.stag: bytes(region.view) for region in self.endpoint.regions if region.is_open}
        units = self._seen(by_peer=True, octets=octets)
        self.endpoint.joint.give(octets)
        self.endpoint.joint.run()
        said = self.endpoint.joint.take()
        units += self._seen(by_peer=False, octets=said if self._flaw is None else self._flaw.alter(said))
        self.history += units
        notes = ([note] if note else []) + self._notes()
        return Happened(tuple(units), tuple(self._completed()), tuple(self._changes()), tuple(notes))

    def _seen(self, *, by_peer: bool, octets: bytes) -> list[tuple[bool, Unit]]:
        opener = by_peer is not self._initiator  # whether the side that opened the connection has sent them
        found = []
        for direction, unit in self.session.feed(0 if opener else 1, octets):
            sent_by_peer = (direction == 0) is not self._initiator
            found.append((sent_by_peer, unit))
            if isinstance(unit, StartupUnit) and not sent_by_peer:
                self.peer.markers = bool(StartupHeader.parse(unit.octets).flags.markers)
        return found

    def _completed(self) -> list[str]:
        """The completions that have come since, those of flushed work requests as one."""
        completions = self.endpoint.completions()
        flushed = [each for each in completions if each.status is Status.WR_FLUSH_ERR]
        told = [self._completion(each) for each in completions if each not in flushed]
        if flushed:
            names = ", ".join(str(each.wr_id) for each in flushed if each.wr_id is not None)
            told.append(f"{len(flushed)} work requests flushed" + (f": {names}" if names else ""))
        return told

    def _completion(self, completion: Completion) -> str:
        if completion.immediate is not None:
            return f"{completion}: Immediate Data {octets_text(completion.immediate)}"
        memory = self.endpoint.receives.get(completion.wr_id)
        if completion.opcode is not WorkOpcode.RECV or memory is None or not completion.nbytes:
            return str(completion)
        return f"{completion}: {octets_text(bytes(memory.view[: completion.nbytes]))}"

    def _changes(self) -> list[Change]:
        changes = []
        for region in self.endpoint.regions:
            if not region.is_open:
                continue
            now, before = bytes(region.view), self._memory[region.stag]
            different = [at for at, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1]]
            if different:
                changes.append(Change(region.stag, different[0], now[different[0] : different[-1] + 1]))
        return changes

    def _notes(self) -> list[str]:
        """What is new of the endpoint's state, and why."""
        joint, notes = self.endpoint.joint, []
        if self.endpoint.state != self._state:
            self._state = self.endpoint.state
            notes.append(self._state)
        if self.endpoint.error is not None and not self._error_told:
            self._error_told = True
            notes.append(f"{type(self.endpoint.error).__name__}: {self.endpoint.error}")
        if joint.closed and not self._closed_told:
            self._closed_told = self._fin_told = True
            notes.append("resets TCP" if joint.reset else "closes TCP")
        elif joint.sent_fin and not self._fin_told:
            self._fin_told = True
            notes.append("closes its half of TCP")
        return notes


def _octets(octets: bytes | str) -> bytes:
    if not isinstance(octets, str):
        return octets
    try:
        return bytes.fromhex(octets)
    except ValueError:
        raise UsageError(f"{octets!r} is not hexadecimal; write octets as '00 17 41', or as bytes") from None
