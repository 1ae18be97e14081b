"""The table of protocol families: numbers, refusals, what a family does not have; the kernel's stay as they are."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from pyiwarp import sockets
from pyiwarp.sockets import (
    AF_IWARP,
    NetProtoFamily,
    Proto,
    ProtoOps,
    Sock,
    Socket,
    has_family,
    proto_register,
    proto_unregister,
    protocols,
    sock_register,
    sock_unregister,
)

NUMBER = 4321
RELEASED: list[Socket] = []

BARE = ProtoOps(family=NUMBER, owner=__name__, release=RELEASED.append)


def create(sock: Socket, protocol: int) -> None:
    if protocol == 77:
        raise OSError(errno.EPROTONOSUPPORT, "no such protocol")
    far, near = socket.socketpair()
    near.close()
    sock.graft(BARE, Sock(), far.detach())


@pytest.fixture
def family() -> Iterator[None]:
    """A family without operations."""
    RELEASED.clear()
    sock_register(NetProtoFamily(NUMBER, create))
    yield
    sock_unregister(NUMBER)


def test_a_number_that_nobody_has() -> None:
    assert not has_family(NUMBER)
    for make in (lambda: Socket(NUMBER), lambda: sockets.socketpair(NUMBER)):
        with pytest.raises(OSError, match="not supported") as raised:
            make()
        assert raised.value.errno == errno.EAFNOSUPPORT


def test_registered_and_no_more(family: None) -> None:
    assert has_family(NUMBER)
    with Socket(NUMBER) as sock:
        assert (sock.family, sock.type, sock.proto) == (NUMBER, socket.SOCK_STREAM, 0)
        sock_unregister(NUMBER)
        assert not has_family(NUMBER)
        assert sock.ops is BARE, "sockets that are open go on"
    assert [sock] == RELEASED
    sock_unregister(NUMBER)


def test_a_number_is_given_once(family: None) -> None:
    with pytest.raises(OSError, match="registered already") as raised:
        sock_register(NetProtoFamily(NUMBER, create))
    assert raised.value.errno == errno.EEXIST
    with pytest.raises(OSError, match="registered already"):
        sock_register(NetProtoFamily(AF_IWARP, create))


@pytest.mark.parametrize("number", [0, socket.AF_INET, 255])
def test_the_kernel_s_numbers_are_the_kernel_s(number: int) -> None:
    with pytest.raises(OSError, match="the kernel's") as raised:
        sock_register(NetProtoFamily(number, create))
    assert raised.value.errno == errno.ENOBUFS


def test_which_families_there_are() -> None:
    assert has_family(AF_IWARP)
    assert has_family(socket.AF_INET)
    assert has_family(socket.AF_UNIX)
    assert not has_family(255)


def test_create_refuses(family: None) -> None:
    with pytest.raises(OSError, match="no such protocol") as raised:
        Socket(NUMBER, socket.SOCK_STREAM, 77)
    assert raised.value.errno == errno.EPROTONOSUPPORT


CALLS: list[Callable[[Socket], object]] = [
    lambda sock: sock.bind("x"),
    lambda sock: sock.connect("x"),
    lambda sock: sock.listen(),
    lambda sock: sock.accept(),
    lambda sock: sock.getsockname(),
    lambda sock: sock.getpeername(),
    lambda sock: sock.shutdown(socket.SHUT_WR),
    lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    lambda sock: sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    lambda sock: sock.send(b"x"),
    lambda sock: sock.sendall(b"x"),
    lambda sock: sock.sendmsg([b"x"]),
    lambda sock: sock.recv(1),
    lambda sock: sock.recv_into(bytearray(1)),
    lambda sock: sock.recvmsg(1),
    lambda sock: sock.poll(),
    lambda sock: sock.ioctl(0),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_what_a_family_does_not_have(family: None, number: int) -> None:
    with Socket(NUMBER) as sock, pytest.raises(OSError, match="not supported") as raised:
        CALLS[number](sock)
    assert raised.value.errno == errno.EOPNOTSUPP
    assert [sock] == RELEASED


def test_socketpair_of_a_family_without_leaves_nothing(family: None) -> None:
    with pytest.raises(OSError, match="socketpair"):
        sockets.socketpair(NUMBER)
    assert len(RELEASED) == 2


def test_protocols_are_listed() -> None:
    assert [proto.name for proto in protocols()] == ["rsockets"]
    with pytest.raises(OSError, match="registered already") as raised:
        proto_register(protocols()[0])
    assert raised.value.errno == errno.EEXIST
    mine = Proto(name="mine", sendmsg=lambda *a: 0, recvmsg=lambda *a: 0, shutdown=lambda *a: None)
    proto_register(mine)
    assert protocols()[-1] is mine
    proto_unregister("mine")
    assert mine not in protocols()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_RAW])
def test_af_iwarp_has_streams_alone(kind: int) -> None:
    with pytest.raises(OSError, match="not supported") as raised:
        Socket(AF_IWARP, kind)
    assert raised.value.errno == errno.ESOCKTNOSUPPORT


def test_af_iwarp_has_one_protocol() -> None:
    Socket(AF_IWARP, socket.SOCK_STREAM, socket.IPPROTO_TCP).close()
    with pytest.raises(OSError, match="not supported") as raised:
        Socket(AF_IWARP, socket.SOCK_STREAM, socket.IPPROTO_UDP)
    assert raised.value.errno == errno.EPROTONOSUPPORT


def test_the_kernel_s_families_are_as_before() -> None:
    one, other = (Socket(each.family, each.type, each.proto, each.detach()) for each in socket.socketpair())
    with one, other:
        assert one.ops is None
        one.sendall(b"hello")
        assert other.recv(5) == b"hello"
        assert one.family == socket.AF_UNIX
        one.sendmsg([b"a", b"b"])
        assert other.recvmsg(10)[0] == b"ab"
        assert other.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        with pytest.raises(OSError, match="kernel's"):
            one.poll()
    with Socket() as tcp:
        assert (tcp.family, tcp.type) == (socket.AF_INET, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind(("127.0.0.1", 0))
        assert tcp.getsockname()[1]
        assert "family=2" in repr(tcp)
