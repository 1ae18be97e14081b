"""What is attacked: a process with a server of messages on one driver, and on the event loops a file server beside it.

    python -m tests.hostile.server DRIVER DIRECTORY

It prints a JSON object with the ports and the STag of memory that any client may read and write. Then it prints its
`Figures` for each line that it reads, and ends when there are no more lines.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop

import pyiwarp
from pyiwarp import Access, Options, blocking
from pyiwarp.errors import IwarpError
from pyiwarp.files import FileServer, Root, ServerSettings
from pyiwarp.files.messages import MESSAGE_LIMIT
from pyiwarp.verbs import Context, MemoryRegion, ProtectionDomain
from tests.children import first_line, started
from tests.hosts import HOST
from tests.patience import PATIENCE

__all__ = ["DRIVERS", "FILE", "Figures", "Server", "held_by", "serving"]

DRIVERS: Final = "asyncio", "uvloop", "polling"
FILE: Final = "file"
RIGHTS: Final = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
REGION: Final = 4096
LIMIT: Final = 20.0
"""Seconds. Hostile clients leave earlier by themselves; a good one may be slow on a busy machine."""

OPTIONS: Final = Options(timeout=LIMIT, first_fpdu_timeout=LIMIT, fpdu_timeout=LIMIT, linger=0.5, crc=False)
STEP: Final = 0.005  # seconds that the polled server waits for news
ROOT: Final = Path(__file__).parents[2]


class Figures(NamedTuple):
    """What a server has at one moment."""

    connections: int
    tasks: int  # of the event loop; without one threads
    faults: int  # log records at ERROR and complaints of the loop
    descriptors: int = 0
    resident: float = 0.0  # MB in RAM


# --- in the server's process -----------------------------------------------------------------------------------------


class Faults(logging.Handler):
    """Counts what should not happen, and says it on standard error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "pyiwarp.cm.reception":
            return  # it may have no file descriptor left for a moment
        self.count += 1
        print(self.format(record), file=sys.stderr, flush=True)


def open_memory() -> tuple[ProtectionDomain, MemoryRegion]:
    """A protection domain with memory for any client."""
    pd = Context().alloc_pd()
    return pd, pd.register(bytearray(REGION), RIGHTS)


def announce(region: MemoryRegion, port: int, files: int) -> None:
    print(json.dumps({"port": port, "files": files, "stag": region.stag, "to": region.to}), flush=True)


def answer_lines(figures: Callable[[], Figures], stop: Callable[[], object]) -> None:
    """A thread that reads standard input."""

    def answer() -> None:
        for _ in sys.stdin:
            print(json.dumps(figures()), flush=True)
        stop()

    threading.Thread(target=answer, daemon=True).start()


async def talk(connection: pyiwarp.Connection) -> None:
    """Answer the first message with an advertisement of the connection's own memory; send each other back."""
    with connection.register(bytearray(REGION), RIGHTS, shared=False) as region:
        answer = bytes(region[:].remote())
        async for message in connection:
            await connection.send(answer or message)
            answer = b""


async def serve(directory: Path, faults: Faults) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(lambda _, context: logging.getLogger("loop").error("%r", context))
    pd, memory = open_memory()
    settings = ServerSettings(patience=LIMIT, idle=LIMIT, reserve=0, options=replace(OPTIONS, recv_size=MESSAGE_LIMIT))
    with Root(directory) as root:
        async with (
            await pyiwarp.serve(talk, HOST, options=OPTIONS, pd=pd) as server,
            FileServer(root, settings) as files,
        ):
            await files.start(HOST)

            def figures() -> Figures:
                connections = len(server._tasks) + len(files._slots)
                return Figures(connections, len(asyncio.all_tasks(loop)), faults.count)

            answer_lines(figures, lambda: loop.call_soon_threadsafe(stopped.set))
            announce(memory, server.port, files.port)
            await stopped.wait()


def serve_polled(faults: Faults) -> None:
    pd, memory = open_memory()
    stopped = threading.Event()
    talking: dict[blocking.Connection, Talk] = {}
    with blocking.listen(HOST, options=OPTIONS, pd=pd) as listener:
        answer_lines(lambda: Figures(len(talking), threading.active_count(), faults.count), stopped.set)
        announce(memory, listener.port, 0)
        while not stopped.is_set():
            with suppress(TimeoutError, IwarpError):
                connection = listener.get_request(timeout=STEP).accept()
                talking[connection] = Talk(connection)
            for connection, talk in list(talking.items()):
                if not talk.goes_on():
                    connection.abort()
                    talking.pop(connection).region.retire()


class Talk:
    """As `talk`, a step at a time."""

    def __init__(self, connection: blocking.Connection) -> None:
        self.connection = connection
        self.region = connection.register(bytearray(REGION), RIGHTS, shared=False)
        self.answer = bytes(self.region[:].remote())

    def goes_on(self) -> bool:
        """Answer the messages that are here; returns False when the connection has ended."""
        try:
            while True:
                message = self.connection.recv(timeout=0)
                self.connection.send(self.answer or message, timeout=1)
                self.answer = b""
        except TimeoutError:
            return not self.connection.is_closed
        except IwarpError:
            return False


def main(driver: str, directory: str) -> None:
    faults = Faults()
    if driver == "polling":
        serve_polled(faults)
        return
    factory = uvloop.new_event_loop if driver == "uvloop" else asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(Path(directory), faults))


# --- in the client's process -----------------------------------------------------------------------------------------


def held_by(pid: int) -> tuple[int, float]:
    """The descriptors of a process, and the MB that it has in RAM."""
    place = Path(f"/proc/{pid}")
    resident = int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return len(os.listdir(place / "fd")), resident


class Server:
    """A server's process, as clients see it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        facts = self._read()
        self.port, self.files = int(facts["port"]), int(facts["files"])
        self.stag, self.to = int(facts["stag"]), int(facts["to"])

    def _read(self) -> Any:
        line = first_line(self.process)
        assert line, f"the server ended with {self.process.wait(PATIENCE)}"
        return json.loads(line)

    def figures(self) -> Figures:
        """What it has now."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        connections, tasks, faults, *_ = self._read()
        return Figures(connections, tasks, faults, *held_by(self.process.pid))

    def at_rest(self) -> Figures:
        """What it has when the last connection has ended; raises `TimeoutError` if one does not end."""
        until = time.monotonic() + PATIENCE
        before = self.figures()
        while True:
            time.sleep(0.05)
            now = self.figures()
            if not now.connections and now.descriptors == before.descriptors and now.tasks == before.tasks:
                return now
            if time.monotonic() > until:
                raise TimeoutError(f"the server does not come to rest: {now}")
            before = now


@contextmanager
def serving(driver: str, directory: Path) -> Iterator[Server]:
    """A server in a process of its own; `directory` is what its file server serves."""
    (directory / FILE).write_bytes(b"what is served")
    command = [sys.executable, "-m", "tests.hostile.server", driver, str(directory)]
    with started(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) == 0, "it ends in order"


if __name__ == "__main__":
    main(*sys.argv[1:])
