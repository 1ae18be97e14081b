"""The commands of iproute2 that rdma-core's tests call to learn the address of the device; no kernel knows this one."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Final

_NETDEV: Final = "lo"


def write(directory: Path, device: str, address: str) -> None:
    """Put `rdma` and `ip` first on this process's PATH. They say that port 1 of `device` has the IP address.

    Older versions of the tests call `ls` for the kernel's directory of the device.
    """
    link = [{"ifname": device, "port": 1, "netdev": _NETDEV}]
    addresses = [{"address": "00:00:00:00:00:00", "addr_info": [{"local": address}]}]
    _script(directory / "rdma", f"echo {shlex.quote(json.dumps(link))}")
    _script(directory / "ip", f"echo {shlex.quote(json.dumps(addresses))}")
    sysfs = shlex.quote(f"/sys/class/infiniband/{device}/device/net/")
    _script(directory / "ls", f'[ "$*" = {sysfs} ] && echo {_NETDEV} || exec {shutil.which("ls")} "$@"')
    os.environ["PATH"] = os.pathsep.join([str(directory), os.environ.get("PATH", os.defpath)])


def _script(file: Path, body: str) -> None:
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
