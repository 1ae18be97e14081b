"""The file service as a library: files served and fetched by RDMA Write and Read, verified by BLAKE3 or SHA-256.

`FileServer` serves a directory (`Root`), `connected` gives a `FileClient`. The `pyiwarp` command prints what they do;
nothing here prints. Stands on the public names of `pyiwarp`, and on `cm`: what its listeners take for one address, and
how they count and log.

Read in this order: `hello` and `messages` (the protocol), `dialogue` (waits for the peer), `directories`, `root`,
`source`, `destination`, `attributes`, `room` (files and disks of this machine), `staging` (memory between a file and
the network), `session` and `server`, `client`. `tasks` has what runs beside a transfer, `digests` what verifies files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyiwarp.exports import lazy_exports

if TYPE_CHECKING:
    from pyiwarp.files.client import ClientSettings, FileClient, connected
    from pyiwarp.files.errors import (
        BadMessage,
        CannotConnect,
        ChecksumMismatch,
        PeerSilent,
        Refusal,
        RefusedByPeer,
        TransferCancelled,
    )
    from pyiwarp.files.messages import Entry
    from pyiwarp.files.report import Report
    from pyiwarp.files.root import Root
    from pyiwarp.files.server import FileServer
    from pyiwarp.files.session import ServerSettings

__all__ = [
    "DEFAULT_PORT",
    "BadMessage",
    "CannotConnect",
    "ChecksumMismatch",
    "ClientSettings",
    "Entry",
    "FileClient",
    "FileServer",
    "PeerSilent",
    "Refusal",
    "RefusedByPeer",
    "Report",
    "Root",
    "ServerSettings",
    "TransferCancelled",
    "connected",
]

DEFAULT_PORT: Final = 15044
"""Of the file service. Wireshark has no dissector for this TCP port, so it looks for MPA there."""

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "client": ("ClientSettings", "FileClient", "connected"),
        "errors": (
            "BadMessage",
            "CannotConnect",
            "ChecksumMismatch",
            "PeerSilent",
            "Refusal",
            "RefusedByPeer",
            "TransferCancelled",
        ),
        "messages": ("Entry",),
        "report": ("Report",),
        "root": ("Root",),
        "server": ("FileServer",),
        "session": ("ServerSettings",),
    },
)
