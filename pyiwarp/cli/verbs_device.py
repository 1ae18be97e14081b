"""The devices as verbs programs see them: what `ibv_devinfo` shows of hardware, from `pyiwarp.pyverbs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum, IntFlag
from socket import AF_INET6, inet_ntop
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pyiwarp.pyverbs.device import Context

__all__ = ["devices", "lines"]

_GUIDS: Final = ("node_guid", "sys_image_guid")
_HEXADECIMAL: Final = ("max_mr_size", "page_size_cap", "vendor_id", "hw_ver")
_ALWAYS: Final = ("hw_ver",)
_NAMES: Final = {"fw_version": "fw_ver"}
_PORT: Final = ("max_msg_sz", "gid_tbl_len")


def devices() -> list[dict[str, Any]]:
    """Each device with its limits and its port, under the names of `ibv_device_attr` and `ibv_port_attr`.

    A limit that is 0, as iWARP does not have the thing, is left out. Raises `UsageError` if the environment names a
    device that cannot be.
    """
    from pyiwarp.pyverbs import device as d

    found: list[dict[str, Any]] = []
    for device in d.get_device_list():
        name = device.name.decode()
        with d.Context(name=name) as context:
            limits = context.query_device()
            said = {each: _said(each, getattr(limits, each)) for each in limits.FIELDS}
            found.append(
                {
                    "hca_id": name,
                    "transport": f"{d.translate_transport_type(device.transport_type)} ({device.transport_type:d})",
                    **{_NAMES.get(each, each): value for each, value in said.items() if value or each in _ALWAYS},
                    "ports": [_port(context, number) for number in range(1, limits.phys_port_cnt + 1)],
                }
            )
    return found


def _said(name: str, value: Any) -> Any:
    from pyiwarp.pyverbs.device import guid_format

    if name in _GUIDS:
        return guid_format(value)
    if isinstance(value, IntFlag):
        return [flag.name.removeprefix("IBV_DEVICE_") for flag in value if flag.name is not None]
    if isinstance(value, IntEnum):
        return value.name
    return value


def _port(context: Context, number: int) -> dict[str, Any]:
    from pyiwarp.pyverbs import device as d

    port = context.query_port(number)
    gids = [context.query_gid(number, index).raw for index in range(port.gid_tbl_len)]
    return {
        "port": number,
        "state": d.port_state_to_str(port.state),
        "max_mtu": d.translate_mtu(port.max_mtu),
        "active_mtu": d.translate_mtu(port.active_mtu),
        "link_layer": d.translate_link_layer(port.link_layer),
        **{name: getattr(port, name) for name in _PORT},
        "gids": {index: inet_ntop(AF_INET6, gid) for index, gid in enumerate(gids) if any(gid)},
    }


def lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What `devices` has found, as `ibv_devinfo` shows it, in 80 columns."""
    for device in found:
        yield f"hca_id: {device['hca_id']}"
        yield from _block(device, "  ", ("hca_id", "ports"))
        for port in device["ports"]:
            yield f"    port: {port['port']}"
            yield from _block(port, "      ", ("port", "gids"))
            yield from (f"      {f'GID[{index}]:':22}{gid}" for index, gid in port["gids"].items())


def _block(values: Mapping[str, Any], indent: str, without: Sequence[str]) -> Iterator[str]:
    for name, value in values.items():
        if name in without:
            continue
        texts = value if isinstance(value, list) else [hex(value) if name in _HEXADECIMAL else str(value)]
        for number, text in enumerate(texts):
            yield f"{indent}{'' if number else f'{name}:':22}{text}"
