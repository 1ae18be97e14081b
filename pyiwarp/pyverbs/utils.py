"""Texts for numbers, as pyverbs has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyiwarp.pyverbs.libibverbs_enums import ibv_rereg_mr_err_code
from pyiwarp.pyverbs.pyverbs_error import PyverbsUserError

__all__ = [
    "access_flags_to_str",
    "be64toh",
    "gid_str",
    "gid_str_to_array",
    "mig_state_to_str",
    "mtu_to_str",
    "qp_state_to_str",
    "qp_type_to_str",
    "rereg_error_to_str",
]

_WORDS: Final = 8
_QP_TYPES: Final = {
    2: "RC",
    3: "UC",
    4: "UD",
    8: "Raw Packet",
    9: "XRCD_SEND",
    10: "XRCD_RECV",
    0xFF: "Driver QP",
}
_QP_STATES: Final = {0: "Reset", 1: "Init", 2: "RTR", 3: "RTS", 4: "SQD", 5: "SQE", 6: "Error", 7: "Unknown"}
_MTUS: Final = {1: 256, 2: 512, 3: 1024, 4: 2048, 5: 4096}
_ACCESS: Final = {
    1: "Local write",
    2: "Remote write",
    4: "Remote read",
    8: "Remote atomic",
    16: "MW bind",
    32: "Zero based",
    64: "On demand",
}
_MIG_STATES: Final = {0: "Migrated", 1: "Re-arm", 2: "Armed"}


def be64toh(num: int) -> int:
    """A number of eight octets in the other order."""
    return int.from_bytes(num.to_bytes(8, "big"), "little")


def gid_str(subnet_prefix: int, interface_id: int) -> str:
    """A GID as text; its halves are numbers in the order of this host."""
    octets = (subnet_prefix.to_bytes(8, "little") + interface_id.to_bytes(8, "little")).hex()
    return ":".join(octets[i : i + 4] for i in range(0, 4 * _WORDS, 4))


def gid_str_to_array(val: str) -> list[str]:
    """The 16 octets of a GID, `xxxx:xxxx:...`, as two digits each."""
    words = val.split(":")
    if len(words) != _WORDS or any(len(word) != 4 for word in words):
        raise PyverbsUserError(f"Invalid GID value ({val})")
    return [word[at : at + 2] for word in words for at in (0, 2)]


def _text(names: Mapping[int, str], number: int) -> str:
    return names.get(int(number), f"Unknown ({number})")


def qp_type_to_str(qp_type: int) -> str:
    """The name of a type of queue pairs."""
    return _text(_QP_TYPES, qp_type)


def qp_state_to_str(qp_state: int) -> str:
    """The name of a queue pair's state."""
    return _text(_QP_STATES, qp_state)


def mtu_to_str(mtu: int) -> int:
    """The octets of an MTU; 0 for a number that is none."""
    return _MTUS.get(int(mtu), 0)


def access_flags_to_str(flags: int) -> str:
    """The names of access flags."""
    return "".join(f"{name} " for flag, name in _ACCESS.items() if flags & flag)


def mig_state_to_str(mig: int) -> str:
    """The name of a state of path migration."""
    return _text(_MIG_STATES, mig)


def rereg_error_to_str(error: int) -> str:
    """The name of an error of re-registration."""
    try:
        return ibv_rereg_mr_err_code(error).name
    except ValueError:
        return f"Unknown error ({error})"
