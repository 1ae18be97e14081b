"""What `pyiwarp run` tells the process that it becomes, and the command line of that process."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyiwarp.profile import PROFILES
from pyiwarp.run.program import Kind, Program
from pyiwarp.sockets import StreamOptions

if TYPE_CHECKING:
    from pyiwarp.sockets.family.installing import Place

__all__ = ["Orders"]

_LIBRARY: Final = str(Path(__file__).parents[2])

_START: Final = f"""\
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
sys.path.append({_LIBRARY!r})
from pyiwarp.run.process import main
sys.path.remove({_LIBRARY!r})
main()
"""
"""Nothing is imported from the directory that `-c` puts before all others."""


@dataclass(frozen=True, slots=True)
class Orders:
    """The program, and which of its sockets become iWARP: all without `only`, and none with `pyverbs`."""

    kind: Kind
    name: str
    arguments: Sequence[str]
    only: Sequence[Place] = ()
    check: bool = False
    peer: str = "rfc"
    crc: bool | None = None
    pyverbs: bool = False

    @classmethod
    def parse(cls, text: str) -> Orders:
        """The orders in an argument that `command` has written."""
        orders = cls(**json.loads(text))
        return replace(orders, kind=Kind(orders.kind), only=[(host, port) for host, port in orders.only])

    def command(self, flags: Sequence[str] = ()) -> list[str]:
        """The command line of the process, for `os.execv`; `flags` are options of the interpreter."""
        return [sys.executable, *flags, "-c", _START, json.dumps(asdict(self))]

    @property
    def program(self) -> Program:
        """What is run."""
        return Program(self.kind, self.name, self.arguments)

    @property
    def options(self) -> StreamOptions:
        """How streams are set up."""
        usual = StreamOptions()
        connection = replace(usual.connection, crc=self.crc, profile=PROFILES[self.peer])
        return replace(usual, connection=connection)
