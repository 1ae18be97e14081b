"""The commands of iproute2 that rdma-core's tests call to learn the address of the device; no kernel knows this one."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any, Final

_NETDEV: Final = "lo"


def write(directory: Path, device: str, address: str) -> None:
    """Put `rdma` and `ip` first on this process's PATH. They say that port 1 of `device` has the IP address."""
    _script(directory / "rdma", [{"ifname": device, "port": 1, "netdev": _NETDEV}])
    _script(directory / "ip", [{"address": "00:00:00:00:00:00", "addr_info": [{"local": address}]}])
    os.environ["PATH"] = os.pathsep.join([str(directory), os.environ.get("PATH", os.defpath)])


def _script(file: Path, answer: list[dict[str, Any]]) -> None:
    file.write_text(f"#!/bin/sh\necho {shlex.quote(json.dumps(answer))}\n")
    file.chmod(0o755)
