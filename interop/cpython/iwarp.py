"""What the runner asks of `pyiwarp.sockets`: to stand for TCP, and to tell of every stream that is established."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from pyiwarp.sockets.engine import Engine


def install() -> None:
    """From now on TCP sockets of this process are those of the family.

    A first pair starts the thread of the engine: tests count the threads that they leave behind.
    """
    from pyiwarp import sockets

    sockets.install(all=True)
    for end in socket.socketpair(sockets.AF_IWARP):
        end.close()


def in_the_engine() -> bool:
    """Whether this is the thread that moves the octets of the family's streams."""
    return threading.current_thread().name == "pyiwarp.sockets"


def on_stream(call: Callable[[], object]) -> None:
    """`call` for each end of a stream whose peer has said in MPA startup that it speaks rsockets."""
    begin = Engine.begin

    def begin_and_tell(self: Engine, *arguments: Any, **keywords: Any) -> Any:
        answer = begin(self, *arguments, **keywords)
        call()
        return answer

    Engine.begin = begin_and_tell  # type: ignore[method-assign]  # of every stream
