"""The values of rdma_cm: addresses that are looked up, parameters of connections, and what only datagrams have."""

from __future__ import annotations

import errno
import socket
from typing import Any, ClassVar

from pyiwarp.pyverbs import librdmacm_enums as ce
from pyiwarp.pyverbs.base import PyverbsCM, PyverbsObject, Record, unsupported
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError

__all__ = ["AddrInfo", "ConnParam", "JoinMCAttrEx", "UDParam"]


class ConnParam(PyverbsObject):
    """What a program says when it connects or accepts.

    `resources` is how many Reads and Atomics of the peer this side takes at once, `depth` how many of its own it will
    have outstanding. `qp_num` names a queue pair that was not made by an identifier, `data_len` is how many octets of
    private data fit. The others mean nothing over TCP.
    """

    def __init__(
        self,
        resources: int = 1,
        depth: int = 1,
        flow_control: int = 0,
        retry: int = 5,
        rnr_retry: int = 5,
        srq: int = 0,
        qp_num: int = 0,
        data_len: int = 0,
    ) -> None:
        super().__init__()
        self.resources = resources
        self.depth = depth
        self.flow_control = flow_control
        self.retry = retry
        self.rnr_retry = rnr_retry
        self.srq = srq
        self.qpn = qp_num
        self.data_len = data_len
        self._private_data = b""

    @property
    def private_data(self) -> bytes:
        """What goes along with the MPA startup frame."""
        return self._private_data

    def set_private_data(self, data: bytes) -> None:
        """Take as many octets of `data` as fit in `data_len`."""
        taken = bytes(data[: self.data_len])
        if taken:
            self._private_data = taken

    def __str__(self) -> str:
        lines = (
            ("Connection parameters", ""),
            ("responder resources", self.resources),
            ("initiator depth", self.depth),
            ("flow control", self.flow_control),
            ("retry count", self.retry),
            ("rnr retry count", self.rnr_retry),
            ("srq", self.srq),
            ("qp number", self.qpn),
        )
        return "".join(f"{name:<4}: {value:<4}\n" for name, value in lines)


class AddrInfo(PyverbsCM):
    """Addresses that were looked up: `src` of this side, `dst` of the peer, each a host with a service.

    Raises `PyverbsRDMAError` for a name that is unknown.
    """

    def __init__(
        self,
        src: str | bytes | None = None,
        dst: str | bytes | None = None,
        src_service: str | bytes | None = None,
        dst_service: str | bytes | None = None,
        port_space: int = 0,
        flags: int = 0,
    ) -> None:
        super().__init__()
        self.src: tuple[str, int] | None = None
        """Address and port of this side."""
        self.dst: tuple[str, int] | None = None
        """Address and port of the peer."""
        self.get_addrinfo(src, dst, src_service, dst_service, port_space, flags)

    def get_addrinfo(
        self,
        src: str | bytes | None = None,
        dst: str | bytes | None = None,
        src_service: str | bytes | None = None,
        dst_service: str | bytes | None = None,
        port_space: int = 0,
        flags: int = 0,
    ) -> None:
        """Look other addresses up, which take the place of those that are here."""
        self.port_space = port_space
        self.flags = flags
        self.src = self.dst = None
        passive = bool(flags & ce.RAI_PASSIVE)
        if src is not None or passive:
            self.src = _look_up(src, src_service, flags | ce.RAI_PASSIVE)
        if not passive:
            self.dst = _look_up(dst, dst_service, flags)


def _look_up(host: str | bytes | None, service: str | bytes | None, flags: int) -> tuple[str, int]:
    hints = socket.AI_PASSIVE if flags & ce.RAI_PASSIVE else 0
    if flags & ce.RAI_NUMERICHOST:
        hints |= socket.AI_NUMERICHOST
    if host is None and service is None:
        service = "0"  # any address, any port
    try:
        found = socket.getaddrinfo(host, service, socket.AF_UNSPEC, socket.SOCK_STREAM, 0, hints)
    except (OSError, UnicodeError):
        raise PyverbsRDMAError("Failed to get Address Info", errno.EINVAL) from None
    ipv4 = [each for each in found if each[0] == socket.AF_INET]
    address = (ipv4 or found)[0][4]
    return str(address[0]), int(address[1])


class JoinMCAttrEx(Record):
    """How a multicast group would be joined."""

    FIELDS: ClassVar[dict[str, Any]] = {"addr": None, "comp_mask": 0, "join_flags": 0}


class UDParam(PyverbsObject):
    """The parameters of a peer of datagrams. iWARP has only connections (RFC 5040 §1.1)."""

    def __init__(self, cm_event: object) -> None:
        super().__init__()
        unsupported("Failed to get UD parameters")
