"""`Socket`: a `socket.socket` whose methods are the operations of its family.

Of a family that is registered (`families`), each method calls the family's `ProtoOps`; of any other family, it is the
method of `socket.socket`. This is the kernel's `struct socket`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterable
from typing import Any, Final, Self, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from pyiwarp.sockets.family.families import LEAST_NUMBER, ProtoOps, sock_family

__all__ = ["Buffer", "KernelSocket", "Sock", "Socket", "failed", "kind_of", "unsupported", "wait_ready"]

Buffer = bytes | bytearray | memoryview
T = TypeVar("T")

KernelSocket: Final = socket.socket
"""The class as Python has it, whatever `install` puts into its place."""

_FLAGS: Final = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


def _created(sock: Socket) -> None:
    """Nothing to give up: `create` has not grafted anything yet."""


_NOTHING: Final = ProtoOps(family=0, owner=__name__, release=_created)


class Sock:
    """What a family keeps of a socket, as the kernel's `struct sock`: families derive from it.

    Several socket objects may stand for one, as after `dup`: `holders` of them are not closed.
    """

    def __init__(self) -> None:
        self.ops: ProtoOps = _NOTHING
        """The operations of its family."""
        self.family = 0
        """The family that the program has asked for; AF_INET where TCP is replaced."""
        self.type = 0
        """SOCK_STREAM or another type, without flags."""
        self.proto = 0
        """The protocol that the program has asked for; 0 is the usual one."""
        self.holders = 0


_sks: Final[WeakKeyDictionary[socket.socket, Sock]] = WeakKeyDictionary()
# Beside the sockets, as a class with attributes of its own could not become a base of `ssl.SSLSocket` later.

_by_inode: Final[WeakValueDictionary[int, Sock]] = WeakValueDictionary()
# For descriptors that come back: of `detach`, of `dup`, and of modules that make a socket of another's descriptor.


def kind_of(type: int) -> int:
    """A type of sockets without its flags: SOCK_STREAM or another."""
    return type & ~_FLAGS


def failed(number: int) -> OSError:
    """The error of a system call, by its number."""
    return OSError(number, os.strerror(number))


def unsupported(what: str) -> OSError:
    """The error for an operation that a family does not have."""
    return OSError(errno.EOPNOTSUPP, f"{os.strerror(errno.EOPNOTSUPP)}: {what}")


def wait_ready(sock: socket.socket, events: int, timeout: float | None) -> None:
    """Wait until one of `events` (those of `select.poll`) is there; raises `TimeoutError` after `timeout` seconds."""
    poll = select.poll()
    poll.register(sock, events)
    if not poll.poll(None if timeout is None else timeout * 1000):
        raise TimeoutError("timed out")


def _has(operation: T | None, what: str) -> T:
    if operation is None:
        raise unsupported(what)
    return operation


class Socket(socket.socket):
    """A socket of any family: one of the kernel's, or one that is registered with `sock_register`.

    Takes what `socket.socket` takes, and has its methods and its errors. `fileno` can be given to `select`, `poll`,
    `epoll` and to asyncio.
    """

    __slots__ = ()

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        if fileno is not None:
            self._adopt(family, type, proto, fileno)
            return
        chosen = self.choose(family, type, proto)
        if chosen is None:
            super().__init__(family, type, proto)
        else:
            kind = socket.SOCK_STREAM if type == -1 else type
            asked = _sks[self] = Sock()
            asked.family, asked.type, asked.proto = (socket.AF_INET if family == -1 else family), kind, max(proto, 0)
            sock_family(chosen).create(self, asked.proto)

    def choose(self, family: int, type: int, proto: int) -> int | None:
        """The registered family that makes a socket of these arguments; None for the kernel's own."""
        return family if family >= LEAST_NUMBER else None

    def _adopt(self, family: int, type: int, proto: int, fileno: int) -> None:
        """A descriptor that the program hands over, which may be that of a family's socket."""
        known = _by_inode.get(os.fstat(fileno).st_ino) if isinstance(fileno, int) and fileno >= 0 else None
        if known is None:
            super().__init__(family, type, proto, fileno)
        else:
            super().__init__(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno)
            self._stand_for(known)

    # --- for families ------------------------------------------------------------------------------------------------

    def graft(self, ops: ProtoOps, sk: Sock, fileno: int) -> None:
        """Called by a family's `create`: its operations, its own `sk`, and the descriptor that programs wait for.

        The descriptor is the socket's from now on. It is an end of a pair: what `socket.socketpair` gives.
        """
        asked = _sks[self]
        sk.ops, sk.family, sk.type, sk.proto = ops, asked.family, kind_of(asked.type), asked.proto
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno)
        if asked.type & socket.SOCK_NONBLOCK:
            self.setblocking(False)
        self._stand_for(sk)

    @classmethod
    def grafted(cls, like: Sock, sk: Sock, fileno: int) -> Socket:
        """A socket of the same family as another, whose `sk` and descriptor are there: what `accept` returns."""
        sk.ops, sk.family, sk.type, sk.proto = like.ops, like.family, like.type, like.proto
        sock = Socket.__new__(Socket)
        KernelSocket.__init__(sock, socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno)
        sock._stand_for(sk)
        return sock

    def exchange(self, fileno: int, sk: Sock) -> None:
        """Stand for another `sk`, or for the same with another pair, under the same number; `fileno` is closed."""
        os.dup2(fileno, self.fileno(), os.get_inheritable(self.fileno()))
        os.close(fileno)
        self.settimeout(self.gettimeout())
        self._stand_for(sk)

    def _stand_for(self, sk: Sock) -> None:
        before = _sks.get(self)
        if before is not sk:
            if before is not None:
                before.holders -= 1
            _sks[self] = sk
            sk.holders += 1
        _by_inode[os.fstat(self.fileno()).st_ino] = sk

    @property
    def ops(self) -> ProtoOps | None:
        """The operations of its family; None if that is one of the kernel's."""
        sk = _sks.get(self)
        return None if sk is None else sk.ops

    @property
    def sk(self) -> Any:
        """What its family keeps of it; None if that is one of the kernel's."""
        return _sks.get(self)

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def family(self) -> int:  # type: ignore[override]  # a number that no enumeration has
        """The family that the program has asked for."""
        sk = _sks.get(self)
        return super().family if sk is None else _as_enum(socket.AddressFamily, sk.family)

    @property
    def type(self) -> socket.SocketKind:
        """The type, without flags."""
        sk = _sks.get(self)
        return super().type if sk is None else _as_enum(socket.SocketKind, sk.type)

    @property
    def proto(self) -> int:
        """The protocol, 0 for the usual one."""
        sk = _sks.get(self)
        return super().proto if sk is None else sk.proto

    def __repr__(self) -> str:
        ops = self.ops
        if ops is None:
            return super().__repr__()
        closed = " [closed]" if self.fileno() < 0 else ""
        words = [f"fd={self.fileno()}", f"family={self.family!s}", f"type={self.type!s}", f"proto={self.proto}"]
        for name, method in (("laddr", self.getsockname), ("raddr", self.getpeername)):
            try:
                words.append(f"{name}={method()}")
            except OSError:
                continue
        said = ops.describe(self)
        return f"<{type(self).__module__}.{type(self).__name__}{closed} {', '.join(words)}{said and f', {said}'}>"

    # --- names and connections ---------------------------------------------------------------------------------------

    def bind(self, address: Any) -> None:
        """As `socket.socket.bind`."""
        if (ops := self.ops) is None:
            return super().bind(address)
        self._check_open()
        _has(ops.bind, "bind")(self, address)

    def listen(self, backlog: int = socket.SOMAXCONN) -> None:
        """As `socket.socket.listen`."""
        if (ops := self.ops) is None:
            return super().listen(backlog)
        self._check_open()
        _has(ops.listen, "listen")(self, backlog)

    def accept(self) -> tuple[socket.socket, Any]:
        """As `socket.socket.accept`."""
        if (ops := self.ops) is None:
            return super().accept()
        self._check_open()
        accepted, address = _has(ops.accept, "accept")(self)
        if socket.getdefaulttimeout() is None and self.gettimeout():
            accepted.setblocking(True)
        return accepted, address

    def connect(self, address: Any) -> None:
        """As `socket.socket.connect`."""
        if (ops := self.ops) is None:
            return super().connect(address)
        self._check_open()
        _has(ops.connect, "connect")(self, address)

    def connect_ex(self, address: Any) -> int:
        """As `socket.socket.connect_ex`: the errno instead of an exception, 0 for none."""
        if self.ops is None:
            return super().connect_ex(address)
        try:
            self.connect(address)
        except socket.gaierror:
            raise
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def getsockname(self) -> Any:
        """As `socket.socket.getsockname`."""
        return super().getsockname() if (ops := self.ops) is None else self._name(ops, peer=False)

    def getpeername(self) -> Any:
        """As `socket.socket.getpeername`."""
        return super().getpeername() if (ops := self.ops) is None else self._name(ops, peer=True)

    def _name(self, ops: ProtoOps, *, peer: bool) -> Any:
        self._check_open()
        return _has(ops.getname, "getname")(self, peer)

    def shutdown(self, how: int) -> None:
        """As `socket.socket.shutdown`."""
        if (ops := self.ops) is None:
            return super().shutdown(how)
        self._check_open()
        _has(ops.shutdown, "shutdown")(self, _c_int(how))

    # --- options -----------------------------------------------------------------------------------------------------

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        """As `socket.socket.setsockopt`."""
        if (ops := self.ops) is None:
            return (
                super().setsockopt(level, optname, value)
                if optlen is None
                else super().setsockopt(level, optname, value, optlen)
            )
        self._check_open()
        given = _c_int(value) if isinstance(value, int) else bytes(value)
        _has(ops.setsockopt, "setsockopt")(self, level, optname, given)

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> Any:
        """As `socket.socket.getsockopt`: a number, or with `buflen` octets."""
        if (ops := self.ops) is None:
            return super().getsockopt(level, optname, buflen)
        self._check_open()
        value = _has(ops.getsockopt, "getsockopt")(self, level, optname)
        if not buflen:
            return value if isinstance(value, int) else int.from_bytes(value[:4], _ORDER, signed=True)
        return (value.to_bytes(4, _ORDER, signed=True) if isinstance(value, int) else value)[:buflen]

    def poll(self) -> int:
        """What is ready, in the bits of `select.poll`."""
        if (ops := self.ops) is None:
            raise unsupported("poll: the family is the kernel's, select.poll waits for it")
        self._check_open()
        return _has(ops.poll, "poll")(self)

    def ioctl(self, request: int, argument: bytes = b"") -> int | bytes:
        """As `fcntl.ioctl` on the socket."""
        if (ops := self.ops) is None:
            raise unsupported("ioctl: the family is the kernel's, fcntl.ioctl is for it")
        self._check_open()
        return _has(ops.ioctl, "ioctl")(self, request, argument)

    # --- octets ------------------------------------------------------------------------------------------------------

    def _send(self, ops: ProtoOps, buffers: list[Buffer], flags: int) -> int:
        self._check_open()
        return _has(ops.sendmsg, "sendmsg")(self, buffers, flags)

    def _receive(self, ops: ProtoOps, buffers: list[Buffer], flags: int) -> int:
        self._check_open()
        return _has(ops.recvmsg, "recvmsg")(self, buffers, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        """As `socket.socket.send`."""
        return super().send(data, flags) if (ops := self.ops) is None else self._send(ops, [data], flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """As `socket.socket.sendall`: the timeout is for all of it."""
        if (ops := self.ops) is None:
            return super().sendall(data, flags)
        timeout = self.gettimeout()
        deadline = None if timeout is None else time.monotonic() + timeout
        with memoryview(data) as view, view.cast("B") as left:
            done = self._send(ops, [left], flags)
            while done < len(left):
                if timeout and deadline is not None:
                    wait_ready(self, select.POLLOUT, max(0.0, deadline - time.monotonic()))
                done += self._send(ops, [left[done:]], flags)

    def sendmsg(self, buffers: Iterable[Any], ancdata: Iterable[Any] = (), flags: int = 0, address: Any = None) -> int:
        """As `socket.socket.sendmsg`; a connected stream passes the address over, and takes no ancillary data."""
        if (ops := self.ops) is None:
            return super().sendmsg(buffers, ancdata, flags, address)
        if list(map(_checked_ancillary, ancdata)):
            raise unsupported("ancillary data")
        if not isinstance(address, tuple | None):
            raise TypeError(f"sendmsg(): an address is a tuple, not {type(address).__name__}")
        return self._send(ops, list(buffers), flags)

    def sendto(self, data: Any, *flags_and_address: Any) -> int:
        """As `socket.socket.sendto`; a connected stream passes the address over."""
        if (ops := self.ops) is None:
            return super().sendto(data, *flags_and_address)
        if not 1 <= len(flags_and_address) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(flags_and_address) + 1} given)")
        return self._send(ops, [data], flags_and_address[0] if len(flags_and_address) == 2 else 0)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """As `socket.socket.recv`."""
        if (ops := self.ops) is None:
            return super().recv(bufsize, flags)
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        buffer = bytearray(bufsize)
        nbytes = self._receive(ops, [buffer], flags)
        with memoryview(buffer) as view:
            return bytes(view[:nbytes])

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As `socket.socket.recv_into`."""
        if (ops := self.ops) is None:
            return super().recv_into(buffer, nbytes, flags)
        if nbytes < 0:
            raise ValueError("negative buffersize in recv_into")
        with memoryview(buffer) as view, view.cast("B") as octets:
            if nbytes > len(octets):
                raise ValueError("buffer too small for requested bytes")
            return self._receive(ops, [octets[: nbytes or len(octets)]], flags)

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Any]:
        """As `socket.socket.recvfrom`; a stream has no address to tell."""
        return super().recvfrom(bufsize, flags) if self.ops is None else (self.recv(bufsize, flags), None)

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As `socket.socket.recvfrom_into`; a stream has no address to tell."""
        if self.ops is None:
            return super().recvfrom_into(buffer, nbytes, flags)
        return self.recv_into(buffer, nbytes, flags), None

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, Any]:
        """As `socket.socket.recvmsg`; a stream of a registered family has no ancillary data."""
        if self.ops is None:
            return super().recvmsg(bufsize, ancbufsize, flags)
        _check_ancillary(ancbufsize)
        if bufsize < 0:
            raise ValueError("negative buffer size in recvmsg()")
        return self.recv(bufsize, flags), [], 0, None

    def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0
    ) -> tuple[int, list[Any], int, Any]:
        """As `socket.socket.recvmsg_into`; a stream of a registered family has no ancillary data."""
        if (ops := self.ops) is None:
            return super().recvmsg_into(buffers, ancbufsize, flags)
        _check_ancillary(ancbufsize)
        return self._receive(ops, [memoryview(buffer).cast("B") for buffer in buffers], flags), [], 0, None

    # --- direct writes -----------------------------------------------------------------------------------------------

    def _direct(self) -> ProtoOps:
        self._check_open()
        return self.ops or _NOTHING

    def riomap(self, buffer: Any, offset: int = -1) -> int:
        """Let the peer write `buffer`, a writable one, under `offset`; -1 is its TO. Returns the offset.

        As librdmacm's `riomap`. The peer knows of it before what is sent next, and changes the buffer at any time until
        `riounmap` or the end of the stream. Raises `OSError`: EINVAL with the reason if the peer has no room for it
        (RDMA_IOMAPSIZE there), or if the buffer or the offset will not do; EAGAIN, ENOTCONN, `TimeoutError` as `send`.
        """
        return _has(self._direct().riomap, "riomap")(self, buffer, offset)

    def riounmap(self, offset: int) -> None:
        """The buffer under `offset` is the program's alone again; a write of the peer's into it ends the stream."""
        _has(self._direct().riounmap, "riounmap")(self, offset)

    def riowrite(self, data: Any, offset: int) -> int:
        """Write `data` into the buffer that the peer offers under `offset`, or behind its start; returns the length.

        As librdmacm's `riowrite`: the peer's program is not told, and has the octets before what is sent next. Raises
        `OSError`: EINVAL with the reason if no one buffer of the peer's has all of them; the others as `riomap`.
        """
        return _has(self._direct().riowrite, "riowrite")(self, data, offset)

    # --- the end -----------------------------------------------------------------------------------------------------

    def dup(self) -> Self:
        """As `socket.socket.dup`: the same connection under another descriptor."""
        if self.ops is None:
            return super().dup()
        self._check_open()
        copy = self.__class__(self.family, self.type, self.proto, fileno=os.dup(self.fileno()))
        copy.settimeout(self.gettimeout())
        return copy

    def detach(self) -> int:
        """As `socket.socket.detach`: the descriptor lives on, and `Socket(fileno=…)` makes a socket of it again."""
        ops, sk, fileno = self.ops, self.sk, super().detach()
        if ops is not None and fileno >= 0:
            sk.holders -= 1
        return fileno

    def _real_close(self, *args: Any) -> None:
        """What `close` does when no file of `makefile` is open any more."""
        ops = self.ops
        was_open = self.fileno() >= 0
        super()._real_close(*args)  # type: ignore[misc]  # the name at which socket.socket lets classes see to its end
        if ops is not None and was_open:
            ops.release(self)

    def _check_open(self) -> None:
        if self.fileno() < 0:
            raise failed(errno.EBADF)


def _c_int(value: int) -> int:
    """A number that the system call takes; raises `OverflowError` for a larger one."""
    if not -(1 << 31) <= value < 1 << 31:
        raise OverflowError(f"{value} is no C int")
    return value


def _checked_ancillary(item: Any) -> Any:
    """Raises `TypeError` for what is no ancillary data at all."""
    if not isinstance(item, tuple) or len(item) != 3 or not all(isinstance(number, int) for number in item[:2]):
        raise TypeError("an item of ancillary data is a tuple of two numbers and octets")
    return memoryview(item[2])


def _check_ancillary(ancbufsize: int) -> None:
    if ancbufsize < 0:
        raise ValueError("invalid ancillary data buffer length")


def _as_enum(kind: Any, value: int) -> Any:
    try:
        return kind(value)
    except ValueError:
        return value


_ORDER: Final = "little" if memoryview(b"\1\0\0\0").cast("I")[0] == 1 else "big"
