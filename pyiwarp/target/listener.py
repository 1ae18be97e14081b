"""A port where MPA connections come in, each with the watch that has seen it from its first octet."""

from __future__ import annotations

from pyiwarp import cm
from pyiwarp.capture import Address
from pyiwarp.errors import Closed
from pyiwarp.negotiation import Offer
from pyiwarp.target.watch import Watch

__all__ = ["MpaListener"]


class MpaListener:
    """A listener of the connection manager; made by `open`."""

    def __init__(self) -> None:
        self._listener: cm.Listener | None = None
        self._watches: dict[str, Watch] = {}

    @classmethod
    async def open(cls, host: str, port: int, offer: Offer) -> MpaListener:
        """Listen; raises `OSError`."""
        listener = cls()
        listener._listener = await cm.listen(host, port, offer, make_tap=listener._new_watch)
        return listener

    @property
    def port(self) -> int:
        """The TCP port."""
        return 0 if self._listener is None else self._listener.port

    async def next_request(self) -> tuple[cm.ConnectRequest, Watch]:
        """The next MPA Request; raises `Closed` once this was closed."""
        if self._listener is None:
            raise Closed("the port was never opened")
        request = await self._listener.get_request()
        return request, self._watches.get(request.peername) or Watch()

    def close(self) -> None:
        """Stop listening; accepted connections continue. A second call does nothing."""
        if self._listener is not None:
            self._listener.close()

    def _new_watch(self) -> Watch:
        name = ""

        def on_opened(peer: Address) -> None:
            nonlocal name
            host, port = peer[:2]
            name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            self._watches[name] = watch

        watch = Watch(on_opened, lambda: self._watches.pop(name, None))
        return watch
