"""Which protocol a connection carries above RDMAP: each is shown what comes, until one is sure."""

from __future__ import annotations

from collections.abc import Callable

from pyiwarp.decode.above.files import FileService
from pyiwarp.decode.above.perftest import Perftest
from pyiwarp.decode.above.protocols import Protocol, Reading
from pyiwarp.decode.above.rping import Rping
from pyiwarp.decode.above.rsockets import Rsockets
from pyiwarp.decode.segments import Segment

__all__ = ["Naming"]


class Naming:
    """The protocols that one connection may carry; messages are shown in their order."""

    def __init__(self) -> None:
        self._likely: list[Protocol] = [FileService(), Rsockets(), Rping(), Perftest()]

    def hello(self, direction: int, private_data: bytes) -> Reading | None:
        """What private data say, None if no protocol knows them."""
        return self._first(lambda protocol: protocol.hello(direction, private_data))

    def read(self, direction: int, segment: Segment) -> Reading | None:
        """What a segment says, None if no protocol knows it."""
        return self._first(lambda protocol: protocol.read(direction, segment))

    def lost(self) -> None:
        """Octets were not captured."""
        for protocol in self._likely:
            protocol.lost()

    def _first(self, asked: Callable[[Protocol], Reading | None]) -> Reading | None:
        found = [reading for protocol in self._likely if (reading := asked(protocol)) is not None]
        if found and found[0].protocol.sure:
            self._likely = [found[0].protocol]
        return found[0] if found else None
