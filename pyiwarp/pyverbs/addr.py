"""Addresses: GIDs, global routes, and the address handles of datagrams, which iWARP does not have."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from pyiwarp.pyverbs.base import PyverbsCM, PyverbsObject, Record, unsupported
from pyiwarp.pyverbs.pyverbs_error import PyverbsUserError
from pyiwarp.pyverbs.utils import gid_str, gid_str_to_array

__all__ = ["AH", "GID", "GRH", "AHAttr", "GlobalRoute"]

_NO_GID: Final = bytes(16)


class GID(PyverbsObject):
    """An address of a port: 16 octets, written `xxxx:xxxx:...` in eight words."""

    def __init__(self, val: str | None = None, *, raw: bytes = _NO_GID) -> None:
        super().__init__()
        self.raw: bytes = raw if val is None else octets_of(val)
        """Its octets."""

    def __str__(self) -> str:
        return text_of(self.raw)

    @property
    def gid(self) -> str:
        """Its text."""
        return text_of(self.raw)

    @gid.setter
    def gid(self, val: str) -> None:
        self.raw = octets_of(val)


def octets_of(text: str) -> bytes:
    """The octets of a GID that is written in eight words; raises `PyverbsUserError` for what is none."""
    return bytes.fromhex("".join(gid_str_to_array(text)))


def text_of(raw: bytes) -> str:
    """The text of a GID."""
    return gid_str(int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little"))


def _raw_of(gid: object) -> bytes:
    if not isinstance(gid, GID):
        raise TypeError(f"a GID is wanted, not {gid!r}")
    return gid.raw


class _Printed(PyverbsObject):
    """Values that are printed one in a line, each under its name."""

    LINES: ClassVar[tuple[tuple[str, str], ...]]
    INDENT: ClassVar[str] = ""

    def __str__(self) -> str:
        return "".join(f"{self.INDENT}{name:22}: {getattr(self, field):<20}\n" for name, field in self.LINES)


class GRH(_Printed):
    """The global routing header of a datagram, as a value."""

    LINES = (
        ("DGID", "dgid"),
        ("SGID", "sgid"),
        ("version tclass flow", "version_tclass_flow"),
        ("paylen", "paylen"),
        ("next header", "next_hdr"),
        ("hop limit", "hop_limit"),
    )

    def __init__(
        self,
        sgid: GID | None = None,
        dgid: GID | None = None,
        version_tclass_flow: int = 0,
        paylen: int = 0,
        next_hdr: int = 0,
        hop_limit: int = 1,
    ) -> None:
        super().__init__()
        self._sgid, self._dgid = _raw_of(sgid), _raw_of(dgid)
        self.version_tclass_flow = version_tclass_flow
        self.paylen = paylen
        self.next_hdr = next_hdr
        self.hop_limit = hop_limit

    @property
    def dgid(self) -> str:
        """Where it goes, as text."""
        return text_of(self._dgid)

    @dgid.setter
    def dgid(self, val: str) -> None:
        self._dgid = octets_of(val)

    @property
    def sgid(self) -> str:
        """Where it comes from, as text."""
        return text_of(self._sgid)

    @sgid.setter
    def sgid(self, val: str) -> None:
        self._sgid = octets_of(val)


class GlobalRoute(_Printed):
    """The way to a GID."""

    LINES = (
        ("DGID", "dgid"),
        ("flow label", "flow_label"),
        ("sgid index", "sgid_index"),
        ("hop limit", "hop_limit"),
        ("traffic class", "traffic_class"),
    )

    def __init__(
        self,
        dgid: GID | None = None,
        flow_label: int = 0,
        sgid_index: int = 0,
        hop_limit: int = 1,
        traffic_class: int = 0,
    ) -> None:
        super().__init__()
        self.raw: bytes = _raw_of(dgid)
        """The octets of the GID."""
        self.flow_label = flow_label
        self.sgid_index = sgid_index
        self.hop_limit = hop_limit
        self.traffic_class = traffic_class

    @property
    def dgid(self) -> str:
        """The GID that it leads to, as text."""
        return text_of(self.raw)

    @dgid.setter
    def dgid(self, val: str) -> None:
        self.raw = octets_of(val)


class _OfRoute:
    """A value of the global route; None without one."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, attr: AHAttr | None, owner: type) -> int | None:
        return int(getattr(attr, self._name)) if attr is not None and attr.is_global else None

    def __set__(self, attr: AHAttr, value: int) -> None:
        setattr(attr, self._name, value)


_OF_ROUTE: Final = ("flow_label", "sgid_index", "hop_limit", "traffic_class")


class AHAttr(Record):
    """The way of a queue pair to its peer: with `is_global` the GID and the other values of `gr`."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "dlid": 0,
        "sl": 0,
        "src_path_bits": 0,
        "static_rate": 0,
        "is_global": 0,
        "port_num": 1,
        "gr": None,
    }
    flow_label = _OfRoute()
    sgid_index = _OfRoute()
    hop_limit = _OfRoute()
    traffic_class = _OfRoute()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        route: GlobalRoute | None = self.gr if self.is_global else None
        if self.is_global and route is None:
            raise PyverbsUserError("Global AH Attr is created but gr parameter is None")
        self.raw: bytes = _NO_GID if route is None else route.raw
        for name in _OF_ROUTE:
            setattr(self, name, 0 if route is None else getattr(route, name))

    @property
    def dgid(self) -> str | None:
        """The GID of the peer, as text; None without a global route."""
        return text_of(self.raw) if self.is_global else None

    @dgid.setter
    def dgid(self, val: str) -> None:
        if self.is_global:
            self.raw = octets_of(val)

    def __str__(self) -> str:
        names = ["port_num", "sl", "src_path_bits", "static_rate", "is_global"]
        if self.is_global:
            names += ["dgid", *_OF_ROUTE]
        shown = {"src_path_bits": "source path bits", "traffic_class": "traffic_class"}
        return "".join(f"  {shown.get(each, each.replace('_', ' ')):22}: {getattr(self, each):<20}\n" for each in names)


class AH(PyverbsCM):
    """An address handle. iWARP has only connections (RFC 5040 §1.1), so none can be made."""

    def __init__(self, pd: object, **kwargs: object) -> None:
        super().__init__()
        unsupported("Failed to create AH")
