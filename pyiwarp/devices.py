"""Devices by name: soft RNICs with the limits and defaults of other RNICs, to try a program against a constrained peer.

A device is data. A connection that is made in a protection domain of such a device, without options of its own,
offers no more than the device does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyiwarp.codes import Rtr
from pyiwarp.errors import UsageError
from pyiwarp.verbs import Device

__all__ = ["DEVICES", "device_named"]

DEVICES: Final[Mapping[str, Device]] = {
    device.name: device
    for device in (
        Device(),
        Device(  # the Linux kernel's soft-iWARP driver as it ships: no CRC unless the peer asks, no markers
            "siw",
            max_qp_wr=32_768,
            max_sge=6,
            max_inline=80,
            max_cqe=3_276_800,
            max_ird=128,
            max_ord=128,
            crc=False,
            refuse_markers=True,
            rtr=Rtr(0),
        ),
        Device(  # an adapter from before RFC 6581: revision 1, so IRD and ORD are what the two programs tell each other
            "rnic-v1",
            max_qp_wr=4096,
            max_sge=4,
            max_inline=64,
            max_cqe=65_536,
            max_mr=65_536,
            max_ird=16,
            max_ord=16,
            revision=1,
            crc=True,
            rtr=Rtr(0),
        ),
        Device(  # as little as a program may meet: one Read at once, one SGE, nothing inline, markers
            "minimal",
            max_qp_wr=16,
            max_sge=1,
            max_inline=0,
            max_cqe=64,
            max_mr=64,
            max_ird=1,
            max_ord=1,
            crc=True,
            markers=True,
            rtr=Rtr.WRITE,
        ),
    )
}
"""The devices by name; `pyiwarp0` is the one without constraints."""


def device_named(name: str) -> Device:
    """The device called `name`; raises `UsageError` that lists the names there are."""
    if name not in DEVICES:
        raise UsageError(f"no device is called {name!r}; there are {', '.join(DEVICES)}")
    return DEVICES[name]
