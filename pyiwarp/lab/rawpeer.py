"""The raw side of the laboratory: messages and startup frames by the fields of the RFCs, right ones and wrong ones.

The methods give octets and send nothing; `Lab` sends. Each has the names that the RFC's figure has for its fields, in
Python's spelling: `stag`, `to`, `qn`, `msn`, `mo`, `last` for L, `dv`, `rv`.
"""

from __future__ import annotations

from typing import Any, Final

from pyiwarp.codes import ENHANCED_SIZE, REPLY_KEY, REQUEST_KEY, Opcode, QueueNumber
from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.segments import build_read_request, build_tagged, build_untagged
from pyiwarp.errors import Term
from pyiwarp.wire import (
    AtomicRequest,
    AtomicResponse,
    EnhancedWord,
    StartupHeader,
    Terminate,
    build_atomic_request,
    build_atomic_response,
    build_terminate,
)

__all__ = ["RawPeer"]

_MSN_MASK: Final = 0xFFFF_FFFF


class RawPeer:
    """Builds what a peer may say; it counts MSNs and octets, as far as it is not told which to take."""

    def __init__(self) -> None:
        self._framer = Framer()
        self._msns: dict[int, int] = {}

    @property
    def markers(self) -> bool:
        """Whether its FPDUs have markers, because the endpoint asked for them (RFC 5044 §4.3)."""
        return self._framer.markers

    @markers.setter
    def markers(self, markers: bool) -> None:
        self._framer.markers = markers

    # --- startup -----------------------------------------------------------------------------------------------------

    def request(self, private_data: bytes = b"", **fields: Any) -> bytes:
        """An MPA Request (RFC 5044 §7.1.1); `fields` are those of `startup`."""
        return self.startup(REQUEST_KEY, private_data, **fields)

    def reply(self, private_data: bytes = b"", **fields: Any) -> bytes:
        """An MPA Reply (RFC 5044 §7.1.1); `fields` are those of `startup`."""
        return self.startup(REPLY_KEY, private_data, **fields)

    def startup(
        self,
        key: bytes,
        private_data: bytes = b"",
        *,
        revision: int = 2,
        crc: bool = True,
        markers: bool = False,
        rejected: bool = False,
        ird: int = 4,
        ord: int = 4,
        pd_length: int | None = None,
        rsvd: int = 0,
        **word: bool,
    ) -> bytes:
        """A startup frame with this key of 16 octets.

        From revision 2 on the enhanced word of RFC 6581 §9 comes before the private data: `ird`, `ord` and, as True,
        `peer_to_peer`, `rtr_send`, `rtr_write`, `rtr_read`. `pd_length` is sent as it is.
        """
        enhanced = revision > 1
        names = ("peer_to_peer", "rtr_send", "rtr_write", "rtr_read")
        bits = dict.fromkeys(names, False) | word
        body = (EnhancedWord.build({**bits, "ird": ird, "ord": ord}) if enhanced else b"") + private_data
        flags = {"markers": markers, "crc": crc, "rejected": rejected, "enhanced": enhanced, "rsvd": rsvd}
        length = len(private_data) + ENHANCED_SIZE * enhanced if pd_length is None else pd_length
        header: bytes = StartupHeader.build(
            {"key": key, "flags": flags, "revision": revision, "private_data_length": length}
        )
        return header + body

    # --- Full Operation ----------------------------------------------------------------------------------------------

    def fpdu(self, ulpdu: bytes, **framing: Any) -> bytes:
        """The FPDU of a ULPDU at this point of the stream (RFC 5044 §4).

        `framing` makes it wrong: `length`, `pad`, `crc` go into it as they are, `crc_mask` is XORed to the right CRC.
        """
        return self._framer.frame(ulpdu, **framing)

    def tagged(self, opcode: int, stag: int, to: int, payload: bytes = b"", **fields: Any) -> bytes:
        """A tagged segment (RFC 5041 §4.2) as a ULPDU; `fields` are `last`, `dv`, `rv`, `ddp_rsvd`, `rdmap_rsvd`."""
        return build_tagged(opcode, stag, to, payload, **fields)

    def untagged(
        self, opcode: int, qn: int, payload: bytes = b"", *, msn: int | None = None, last: bool = True, **fields: Any
    ) -> bytes:
        """An untagged DDP segment (RFC 5041 §4.3) as a ULPDU; `fields` are those of `tagged`, `mo` and `inval_stag`.

        Without `msn` it belongs to the next message of its queue (RFC 5041 §5.3).
        """
        due = self._msns.get(qn, 1)
        if msn is None and last:
            self._msns[qn] = (due + 1) & _MSN_MASK
        return build_untagged(opcode, qn, due if msn is None else msn, payload, last=last, **fields)

    def send(self, payload: bytes = b"", *, inval_stag: int | None = None, se: bool = False, **fields: Any) -> bytes:
        """A Send, with Invalidate, with Solicited Event, or with both (RFC 5040 §4.3), as a ULPDU."""
        opcode = (
            (Opcode.SEND_SE if se else Opcode.SEND)
            if inval_stag is None
            else (Opcode.SEND_SE_INVAL if se else Opcode.SEND_INVAL)
        )
        qn = fields.pop("qn", QueueNumber.SEND)
        return self.untagged(opcode, qn, payload, inval_stag=inval_stag or 0, **fields)

    def write(self, stag: int, to: int, payload: bytes = b"", **fields: Any) -> bytes:
        """A segment of an RDMA Write (RFC 5040 §4.2) as a ULPDU."""
        return self.tagged(Opcode.WRITE, stag, to, payload, **fields)

    def read_request(
        self, sink_stag: int, sink_to: int, read_size: int, source_stag: int, source_to: int, **fields: Any
    ) -> bytes:
        """An RDMA Read Request (RFC 5040 §4.4) as a ULPDU."""
        header = build_read_request(sink_stag, sink_to, read_size, source_stag, source_to)
        return self.untagged(Opcode.READ_REQUEST, fields.pop("qn", QueueNumber.READ_REQUEST), header, **fields)

    def read_response(self, stag: int, to: int, payload: bytes = b"", **fields: Any) -> bytes:
        """A segment of an RDMA Read Response (RFC 5040 §4.5) as a ULPDU."""
        return self.tagged(Opcode.READ_RESPONSE, stag, to, payload, **fields)

    def atomic_request(self, stag: int, to: int, request_id: int = 1, **operation: int) -> bytes:
        """An Atomic Request (RFC 7306 §5.2.1) as a ULPDU, by default a FetchAdd of `data` 1.

        `operation` are the fields of `wire.AtomicRequest`: `atomic_opcode`, `data`, `mask`, `compare_data`,
        `compare_mask`.
        """
        fields = {"atomic_opcode": 0, "data": 1, "mask": 0} | operation
        header = build_atomic_request(AtomicRequest(request_id=request_id, stag=stag, to=to, **fields))
        return self.untagged(Opcode.ATOMIC_REQUEST, QueueNumber.READ_REQUEST, header)

    def atomic_response(self, request_id: int, original_value: int, **fields: Any) -> bytes:
        """An Atomic Response (RFC 7306 §5.2.2) as a ULPDU."""
        header = build_atomic_response(AtomicResponse(request_id, original_value))
        return self.untagged(Opcode.ATOMIC_RESPONSE, QueueNumber.ATOMIC_RESPONSE, header, **fields)

    def immediate(self, data: bytes, *, se: bool = False, **fields: Any) -> bytes:
        """Immediate Data, of eight octets if it is right, with Solicited Event or without (RFC 7306 §6), as a ULPDU."""
        return self.untagged(Opcode.IMMEDIATE_SE if se else Opcode.IMMEDIATE, QueueNumber.SEND, data, **fields)

    def terminate(
        self, layer: int, etype: int, code: int, *, length: int | None = None, ddp: bytes = b"", rdma: bytes = b""
    ) -> bytes:
        """A Terminate (RFC 5040 §4.8) as a ULPDU; `length`, `ddp` and `rdma` quote the segment that it refuses."""
        header = build_terminate(Terminate(Term(layer, etype, code), length, ddp, rdma))
        return self.untagged(Opcode.TERMINATE, QueueNumber.TERMINATE, header)
