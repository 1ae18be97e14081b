"""Commands in the guest, over the agent's protocol (agent.c): one connection, one command."""

import asyncio
import contextlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from .errors import CommandFailed, GuestError, GuestTimeout

PORT = 9001
"""Where the agent listens in the guest."""

KEPT_TEXT = 1 << 20
"""How much of its text a job keeps at least; of its output proper it keeps all."""

_HEAD = struct.Struct("!cI")
_START_PATIENCE = 30.0
_TAIL = 2000

T = TypeVar("T")


class Owner(Protocol):
    """What a job needs of its guest: errors that quote the guest's console."""

    def error(self, kind: type[GuestError], message: str) -> GuestError:
        """An error of this kind."""

    async def lost(self, message: str) -> GuestError:
        """The error for a connection that broke: the guest died, or only the connection did."""


@dataclass(frozen=True)
class Result:
    """How a command ended: its exit status (128 + signal when killed), output and error output."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Output, then error output, as text."""
        return (self.stdout + self.stderr).decode(errors="replace")


class Job:
    """A command running in the guest, also an asynchronous context manager that closes it.

    Closing kills the command and what it started. A job belongs to the event loop it was started on; that each of
    its waits raises `GuestDied` or `GuestError` when the connection breaks is not repeated below.
    """

    def __init__(self, owner: Owner, command: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Started by `start`."""
        self.command = command
        self.pid = 0
        self.status: int | None = None
        self._owner, self._reader, self._writer = owner, reader, writer
        self._stdout, self._stderr = bytearray(), bytearray()
        self._searched = 0  # so much of stdout has no end of a line in it
        self._text, self._expect_from = "", 0
        self._news = asyncio.Event()
        self._collector: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, owner: Owner, command: str, port: int) -> Self:
        """Start `command` by the agent behind the host's `port`."""
        try:
            async with asyncio.timeout(_START_PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                job = cls(owner, command, reader, writer)
                try:
                    await job._begin()
                except BaseException:
                    writer.close()
                    raise
                return job
        except TimeoutError:
            raise owner.error(GuestTimeout, f"{command!r} not started in {_START_PATIENCE:.0f} s") from None
        except (OSError, EOFError) as error:
            raise await owner.lost(f"no connection to start {command!r}: {error}") from error

    async def _begin(self) -> None:
        await self._send(b"c", self.command.encode())
        _, content = await self._receive()
        self.pid = int(content)
        self._collector = asyncio.create_task(self._collect())

    @property
    def stdout(self) -> bytes:
        """The command's output so far, without the lines that `readline` took."""
        return bytes(self._stdout)

    @property
    def stderr(self) -> bytes:
        """Its error output so far."""
        return bytes(self._stderr)

    @property
    def text(self) -> str:
        """Both outputs so far in the order they came, of a long one the last `KEPT_TEXT` characters."""
        return self._text

    @property
    def running(self) -> bool:
        """Whether the command is, as far as we heard."""
        return self._collector is not None and not self._collector.done()

    async def wait(self, timeout: float = 60.0) -> Result:
        """Wait for its end. Raises `GuestTimeout` after `timeout` seconds; the command then still runs."""
        status = await self._until(lambda: self.status, timeout, "to end")
        return Result(status, self.stdout, self.stderr)

    async def expect(self, pattern: str, timeout: float = 60.0) -> re.Match[str]:
        """Wait until the output has `pattern` behind where the last call found its own.

        Raises `GuestTimeout` after `timeout` seconds and `CommandFailed` if the command ended without.
        """
        match = await self._until(lambda: re.compile(pattern).search(self.text, self._expect_from), timeout, pattern)
        self._expect_from = match.end()
        return match

    async def readline(self, timeout: float | None = 60.0) -> str:
        """Take the next line of the output proper, without its end; same errors as `expect`."""
        return await self._until(self._take_line, timeout, "a line")

    async def write(self, data: bytes) -> None:
        """Give `data` to the command's standard input."""
        await self._send(b"i", data)

    async def end_input(self) -> None:
        """End its standard input."""
        await self._send(b"z", b"")

    async def signal(self, number: int) -> None:
        """Send signal `number` to the command's process group."""
        await self._send(b"s", bytes([number]))

    async def close(self) -> None:
        """Kill the command if it runs, and wait until nothing of it is left on this side."""
        self._writer.close()
        if self._collector is not None:
            self._collector.cancel()
            await asyncio.gather(self._collector, return_exceptions=True)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, kind: bytes, content: bytes) -> None:
        try:
            self._writer.write(_HEAD.pack(kind, len(content)) + content)
            await self._writer.drain()
        except OSError as error:
            if self.status is None:
                raise await self._owner.lost(f"connection to {self.command!r}: {error}") from error

    async def _receive(self) -> tuple[bytes, bytes]:
        kind, length = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
        return kind, await self._reader.readexactly(length)

    async def _collect(self) -> None:
        """Gather what the command writes until it ends or the connection breaks."""
        try:
            while self.status is None:
                kind, content = await self._receive()
                if kind == b"x":
                    self.status = int(content)
                else:
                    self._keep_text(content.decode(errors="replace"))
                    (self._stderr if kind == b"e" else self._stdout).extend(content)
                self._news.set()
        except (OSError, EOFError):
            pass  # whoever waits sees a command that runs no more and has no status
        finally:
            self._news.set()

    def _keep_text(self, text: str) -> None:
        self._text += text
        if (excess := len(self._text) - KEPT_TEXT) > KEPT_TEXT:
            self._text = self._text[excess:]
            self._expect_from = max(0, self._expect_from - excess)

    async def _until(self, attempt: Callable[[], T | None], timeout: float | None, wanted: str) -> T:
        """What `attempt` gives once it is not None; tried whenever something came from the guest."""
        try:
            async with asyncio.timeout(timeout):
                while (value := attempt()) is None:
                    if not self.running:
                        raise await self._ended(wanted)
                    self._news.clear()
                    await self._news.wait()
                return value
        except TimeoutError:
            raise self._owner.error(
                GuestTimeout, f"waited {timeout} s for {self.command!r}: {wanted}\n{self.text[-_TAIL:]}"
            ) from None

    async def _ended(self, wanted: str) -> GuestError:
        if self.status is None:
            return await self._owner.lost(f"connection to {self.command!r} lost\n{self.text[-_TAIL:]}")
        message = f"{self.command!r} ended with status {self.status}; wanted: {wanted}\n{self.text[-_TAIL:]}"
        return self._owner.error(CommandFailed, message)

    def _take_line(self) -> str | None:
        end = self._stdout.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._stdout)
            return None
        line = self._stdout[:end].decode(errors="replace")
        del self._stdout[: end + 1]
        self._searched = 0
        return line
