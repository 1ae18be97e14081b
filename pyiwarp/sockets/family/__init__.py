"""A family of blocking sockets above the streams of `pyiwarp.sockets`, on a table of families in the kernel's shape.

`create_connection` and `create_server` are those of the module `socket`. All else that programs use is public in
`pyiwarp.sockets`.

May import what `pyiwarp.sockets` may, the public names of `pyiwarp`, and the modules of `pyiwarp.sockets`, which know
nothing of this folder. Read in this order: `families` (the table), `socketclass` (the program's socket), `streamsock`
and `streamops` (what all families of streams share); `iwarpsock`, `sockoptions`, `directwrites`, `iwarpproto` and
`af_iwarp` (the family that is registered); `enginethread`, `startupbridge` and `bridge` (the thread that serves it);
`blocking` and `installing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiwarp.exports import lazy_exports

if TYPE_CHECKING:
    from pyiwarp.sockets.family.blocking import create_connection, create_server

__all__ = ["create_connection", "create_server"]

__getattr__, __dir__ = lazy_exports(__name__, {"blocking": ("create_connection", "create_server")})
