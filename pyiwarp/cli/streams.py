"""Standard streams that are closed, full, gone, slow or narrow: they cost what is printed, never what is done.

`prepare` is called once, before a command runs. A command whose work is more than what it prints (a server, a transfer)
calls `keep_going`: what standard output does not take is lost then, and the command goes on. The others, as `ls`, end.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["flush", "keep_going", "prepare"]

WAIT: Final = 0.2
"""Seconds that a command which goes on waits for a reader that does not read, once."""

_AT_ONCE: Final = getattr(select, "PIPE_BUF", 512)
"""Octets that a pipe takes without waiting when it says that it takes some."""

_MODES: Final = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)


def prepare() -> None:
    """Open what is closed on the null device, and escape characters that the encoding of a stream has not.

    Descriptors 0 to 2 must not become sockets: uvloop ends the process when it closes one of them.
    """
    for fd, mode in enumerate(_MODES):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, mode)  # the lowest number that is free, and those below are taken
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the whole process
    sys.stdout = _harmless(sys.stdout, 1)
    sys.stderr = _harmless(sys.stderr, 2)
    if (stderr := _Lossy.of(sys.stderr, 2)) is not None:
        sys.stderr = stderr


def keep_going() -> None:
    """From now on standard output takes what it can, and the rest is lost."""
    if (stdout := _Lossy.of(sys.stdout, 1)) is not None:
        flush(sys.stdout)
        sys.stdout = stdout


def flush(stream: TextIO) -> OSError | None:
    """Flush at the end of a command; returns the error. Python does not try again when it exits."""
    try:
        stream.flush()
    except OSError as error:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def _harmless(stream: TextIO | None, fd: int) -> TextIO:
    """The stream, or one of `fd`, which escapes what its encoding has not."""
    if stream is None:
        return open(fd, "w", errors="backslashreplace", closefd=False)
    if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors="backslashreplace")
    return stream


class _Lossy(io.RawIOBase):
    """Writes to a descriptor; what it does not take is lost."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._patience = WAIT

    @classmethod
    def of(cls, stream: TextIO, fd: int) -> TextIO | None:
        """A text stream like `stream` that loses what `fd` does not take; None if `stream` is not that descriptor's.

        Each line goes out as it is printed.
        """
        try:
            if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != fd or isinstance(stream.buffer, _Direct):
                return None
        except (OSError, ValueError):
            return None
        return io.TextIOWrapper(
            _Direct(cls(fd), 1 << 16), encoding=stream.encoding, errors=stream.errors, line_buffering=True
        )

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, octets: Buffer, /) -> int:
        """Write all, or as much as is taken; returns the number of octets as if all were."""
        with memoryview(octets).cast("B") as view:
            written = 0
            with suppress(OSError):
                while written < view.nbytes and self._takes_some():
                    with view[written : written + _AT_ONCE] as piece:
                        written += os.write(self._fd, piece)
            return view.nbytes

    def _takes_some(self) -> bool:
        """Whether a write of so many octets would not wait: a pipe whose reader sleeps must not stop a server."""
        if not hasattr(select, "poll"):
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        ready = poll.poll(self._patience * 1000)
        self._patience = WAIT if ready else 0.0
        return bool(ready)  # with POLLERR alone the write says why


class _Direct(io.BufferedWriter):
    """The buffer between the two, by which a stream that was made here is known."""
