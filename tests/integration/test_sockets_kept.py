"""Blocking sockets beyond connecting: options, copies, files, flags, what is dropped, children, the program's end."""

from __future__ import annotations

import errno
import gc
import io
import os
import select
import selectors
import socket
import struct
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from pyiwarp import sockets
from pyiwarp.sockets import AF_IWARP, RDMA_IOMAPSIZE, RDMA_RQSIZE, RDMA_SQSIZE, SOL_RDMA, Socket, family
from pyiwarp.sockets.family.enginethread import engine
from tests.children import finished
from tests.hosts import HOST, ipv6
from tests.integration.loops import octets
from tests.integration.socketrig import new, pair_of, quick, read_all, serving, within
from tests.patience import PATIENCE

__all__ = ["quick"]  # the fixture

ANY = socket.SOL_SOCKET


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "name", "given", "found"),
    [
        (ANY, socket.SO_RCVBUF, 65536, 131072),
        (ANY, socket.SO_SNDBUF, 65536, 131072),
        (ANY, socket.SO_RCVBUF, 1, 1024),
        (ANY, socket.SO_REUSEADDR, 1, 1),
        (ANY, socket.SO_KEEPALIVE, 1, 1),
        (ANY, socket.SO_OOBINLINE, 1, 1),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77, 77),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 7, 7),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3, 3),
        (SOL_RDMA, RDMA_SQSIZE, 1, 16),
        (SOL_RDMA, RDMA_RQSIZE, 100, 100),
        (SOL_RDMA, RDMA_IOMAPSIZE, 4, 4),
    ],
)
def test_options(level: int, name: int, given: int, found: int) -> None:
    with new() as sock:
        sock.setsockopt(level, name, given)
        assert sock.getsockopt(level, name) == found
        sock.setsockopt(level, name, struct.pack("i", given))
        assert struct.unpack("i", sock.getsockopt(level, name, 4)) == (found,)


def test_what_a_socket_is_in_options() -> None:
    with serving() as listener, new() as sock:
        for name, value in (
            (socket.SO_TYPE, socket.SOCK_STREAM),
            (socket.SO_DOMAIN, AF_IWARP),
            (socket.SO_PROTOCOL, 0),
            (socket.SO_ACCEPTCONN, 0),
            (socket.SO_ERROR, 0),
            (socket.SO_REUSEPORT, 0),
        ):
            assert sock.getsockopt(ANY, name) == value
        assert listener.getsockopt(ANY, socket.SO_ACCEPTCONN) == 1


def test_options_that_there_are_not() -> None:
    with new() as sock:
        for level, number in ((4242, errno.EOPNOTSUPP), (SOL_RDMA, errno.EOPNOTSUPP), (ANY, errno.ENOPROTOOPT)):
            with pytest.raises(OSError, match=r"option|Protocol not available|supported") as raised:
                sock.getsockopt(level, 9999)
            assert raised.value.errno == number
            with pytest.raises(OSError, match=r"option|Protocol not available|supported") as raised:
                sock.setsockopt(level, 9999, 1)
            assert raised.value.errno == number


def test_sizes_are_chosen_before_connecting_and_inherited() -> None:
    with new() as listener, new() as client:
        listener.bind((HOST, 0))
        listener.setsockopt(SOL_RDMA, RDMA_RQSIZE, 20)
        listener.setsockopt(ANY, socket.SO_RCVBUF, 4096)
        listener.listen()
        client.connect(listener.getsockname())
        with listener.accept()[0] as accepted:
            assert accepted.getsockopt(SOL_RDMA, RDMA_RQSIZE) == 20
            assert accepted.getsockopt(ANY, socket.SO_RCVBUF) == 8192
            accepted.settimeout(None)
            data = octets(100_000)
            thread = threading.Thread(target=client.sendall, args=(data,))
            thread.start()
            assert within(lambda: accepted.recv(len(data), socket.MSG_WAITALL)) == data
            thread.join(PATIENCE)
            with pytest.raises(OSError, match="Invalid"):
                client.setsockopt(SOL_RDMA, RDMA_RQSIZE, 20)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_linger() -> None:
    with pair_of() as (one, other):
        one.setsockopt(ANY, socket.SO_LINGER, struct.pack("ii", 1, int(PATIENCE)))
        assert struct.unpack("ii", one.getsockopt(ANY, socket.SO_LINGER, 8)) == (1, int(PATIENCE))
        one.sendall(octets(100_000))
        one.close()  # returns when it has left
        assert one.sk.finished.is_set()
        assert read_all(other) == octets(100_000)
        with pytest.raises(OSError, match="Invalid"):
            other.setsockopt(ANY, socket.SO_LINGER, 1)


# --- flags, messages, files ------------------------------------------------------------------------------------------


def test_flags_of_a_new_socket() -> None:
    with Socket(AF_IWARP, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
        assert sock.gettimeout() == 0
        assert sock.type == socket.SOCK_STREAM
        assert not sock.get_inheritable()


def test_flags_of_receiving() -> None:
    with pair_of() as (one, other):
        other.settimeout(None)  # as with TCP these flags are the system's, and a timeout is Python's
        with pytest.raises(BlockingIOError):
            other.recv(1, socket.MSG_DONTWAIT)
        one.sendall(b"hello")
        assert within(lambda: other.recv(5, socket.MSG_PEEK | socket.MSG_WAITALL)) == b"hello"
        other.settimeout(PATIENCE)
        assert other.recv(5) == b"hello"
        for call in (lambda: one.send(b"x", socket.MSG_OOB), lambda: one.recv(1, socket.MSG_OOB)):
            with pytest.raises(OSError, match="MSG_OOB") as raised:
                call()
            assert raised.value.errno == errno.EOPNOTSUPP


def test_messages() -> None:
    with pair_of() as (one, other):
        assert one.sendmsg([b"ab", bytearray(b"cd"), memoryview(b"ef")]) == 6
        first, second = bytearray(4), bytearray(4)
        assert other.recvmsg_into([first, second], 100) == (6, [], 0, None)
        assert first + second[:2] == b"abcdef"
        assert one.sendto(b"x", ("127.0.0.1", 1)) == 1
        assert other.recvfrom(1) == (b"x", None)
        with pytest.raises(OSError, match="ancillary data") as raised:
            one.sendmsg([b"x"], [(ANY, socket.SCM_RIGHTS, b"\0\0\0\0")])
        assert raised.value.errno == errno.EOPNOTSUPP


def test_makefile() -> None:
    with pair_of() as (one, other):
        with one.makefile("rw", encoding="ascii", newline="\n") as file, other.makefile("rwb") as peer:
            one.close()  # the file goes on
            file.write("one\ntwo\n")
            file.flush()
            assert [peer.readline(), peer.readline()] == [b"one\n", b"two\n"]
            peer.write(b"answer\n")
            peer.flush()
            assert file.readline() == "answer\n"
        assert other.recv(1) == b""


def test_sendfile(tmp_path: Path) -> None:
    data = octets(400_000)
    (tmp_path / "file").write_bytes(data)
    with pair_of() as (one, other), (tmp_path / "file").open("rb") as file:
        other.settimeout(None)
        sent: list[int] = []
        thread = threading.Thread(target=lambda: sent.append(one.sendfile(file, 1000)))
        thread.start()
        assert within(lambda: other.recv(len(data) - 1000, socket.MSG_WAITALL)) == data[1000:]
        thread.join(PATIENCE)
        assert sent == [len(data) - 1000]
        assert one.sendfile(io.BytesIO(b"no file of the system")) == 21


def test_ioctl_and_poll() -> None:
    with pair_of() as (one, other):
        assert one.poll() & select.POLLOUT
        assert not one.poll() & select.POLLIN
        other.sendall(b"hello")
        assert select.select([one], [], [], PATIENCE)[0]
        assert one.poll() & select.POLLIN
        assert one.ioctl(0x541B, bytes(4)) == struct.pack("i", 5)  # FIONREAD


def test_selectors() -> None:
    with pair_of() as (one, other), selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ)
        assert not selector.select(0)
        other.sendall(b"x")
        assert selector.select(PATIENCE)[0][0].fileobj is one


# --- copies, and what is dropped -------------------------------------------------------------------------------------


def test_copies_share_the_stream() -> None:
    with pair_of() as (one, other):
        copy = one.dup()
        one.close()
        copy.sendall(b"still here")
        assert other.recv(100) == b"still here"
        assert copy.getpeername() == other.getsockname()
        assert copy.family == AF_IWARP
        copy.close()
        assert other.recv(1) == b""


def test_a_descriptor_that_was_detached_is_known_again() -> None:
    with pair_of() as (one, other):
        fileno = one.detach()
        assert one.fileno() == -1
        os.write(fileno, b"raw")
        assert other.recv(3) == b"raw"
        with Socket(fileno=fileno) as again:
            assert again.getpeername() == other.getsockname()
            assert "iWARP as initiator" in repr(again)
        assert other.recv(1) == b""


def test_a_descriptor_that_was_detached_and_closed_ends_the_stream() -> None:
    with pair_of() as (one, other):
        os.close(one.detach())
        assert other.recv(1) == b""


def test_numbers_that_no_option_takes() -> None:
    with new() as sock:
        for name in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            before = sock.getsockopt(ANY, name)
            with pytest.raises(OverflowError):
                sock.setsockopt(ANY, name, 1 << 40)
            assert sock.getsockopt(ANY, name) == before


def test_what_is_dropped_is_told_and_leaves_nothing() -> None:
    """The listener, the connected socket and the one that nobody has accepted."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        listener = new()
        listener.bind((HOST, 0))
        listener.listen()
        client = new()
        client.connect(listener.getsockname())
        client.sendall(bytes(100_000))
        del listener, client
        gc.collect()
    said = [str(each.message) for each in told if each.category is ResourceWarning]
    assert len(said) == 2
    assert all("unclosed <pyiwarp.sockets.family.socketclass.Socket" in each for each in said)


def test_memory_is_given_back() -> None:
    """The rings of streams that have ended are not kept."""
    from pyiwarp.sockets.engine import Engine

    for _ in range(5):
        with pair_of() as (one, other):
            one.sendall(b"x")
            assert other.recv(1)
    deadline = time.monotonic() + PATIENCE
    while [each for each in gc.get_objects() if isinstance(each, Engine)]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        gc.collect()


# --- module functions ------------------------------------------------------------------------------------------------


def test_create_server_and_create_connection() -> None:
    with (
        family.create_server((HOST, 0)) as server,
        family.create_connection(server.getsockname(), timeout=PATIENCE, source_address=(HOST, 0)) as sock,
    ):
        server.settimeout(PATIENCE)
        peer, address = server.accept()
        with peer:
            peer.settimeout(PATIENCE)
            assert address == sock.getsockname()
            sock.sendall(b"x")
            assert peer.recv(1) == b"x"


@ipv6
def test_both_families_of_addresses() -> None:
    with family.create_server(("", 0), dualstack_ipv6=True) as server:
        server.settimeout(PATIENCE)
        for host in ("127.0.0.1", "::1"):
            with family.create_connection((host, server.getsockname()[1]), timeout=PATIENCE) as sock:
                server.accept()[0].close()
                assert sock.getpeername()[0] == host


def test_socketpair() -> None:
    one, other = sockets.socketpair()
    with one, other:
        one.settimeout(PATIENCE)
        other.settimeout(PATIENCE)
        for left, right in ((one, other), (other, one)):
            left.sendall(b"hello")
            assert right.recv(5) == b"hello"
            assert left.getpeername() == right.getsockname()


def test_socketpair_that_does_not_wait() -> None:
    one, other = sockets.socketpair(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with one, other:
        for end in (one, other):
            assert end.gettimeout() == 0
            with pytest.raises(BlockingIOError):
                end.recv(1)


# --- processes -------------------------------------------------------------------------------------------------------

FORKS = """
import os, socket, sys
from pyiwarp.sockets import AF_IWARP, Socket, family, socketpair

def child(body):
    pid = os.fork()
    if pid == 0:
        try:
            body()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return pid

def done(pid):
    assert os.waitpid(pid, 0)[1] == 0

one, other = socketpair()
with one, other:                           # a child goes on with what its parent has connected
    pid = child(lambda: (one.close(), other.sendall(other.recv(5).upper())))
    other.close()
    one.sendall(b"hello")
    assert one.recv(5) == b"HELLO"
    done(pid)
    assert one.recv(1) == b""              # the last copy of the other end is closed

with family.create_server(("127.0.0.1", 0)) as server:   # children accept at their parent's listener
    def serve():
        peer, address = server.accept()
        assert peer.getpeername() == address
        with peer:
            peer.sendall(peer.recv(5).upper())
    pids = [child(serve) for _ in range(2)]
    for _ in pids:
        with family.create_connection(server.getsockname()) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5) == b"HELLO"
    for pid in pids:
        done(pid)

    def ask():                             # a child has an engine thread of its own
        with family.create_connection(server.getsockname()) as sock:
            sock.sendall(b"child")
            assert sock.recv(5) == b"CHILD"
    pid = child(ask)
    serve()
    done(pid)

one, other = socketpair()
with one, other:                           # what a child closes is for its parent to send, and to wait for
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 1, 0]))
    done(child(other.close))
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))

unconnected = Socket(AF_IWARP)
server = family.create_server(("127.0.0.1", 0))
def connect():
    unconnected.connect(server.getsockname())
    unconnected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 30, 0, 0, 0]))
    unconnected.sendall(b"x")
    unconnected.close()                    # waits: os._exit leaves the engine thread no time
pid = child(connect)
unconnected.close()
peer, _ = server.accept()
assert peer.recv(1) == b"x"
done(pid)
peer.close()
server.close()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_children() -> None:
    # Python 3.12 warns of every fork beside a thread
    warnings = ("-W", "error::ResourceWarning", "-W", "ignore::DeprecationWarning")
    run = finished([sys.executable, *warnings, "-c", FORKS], timeout=PATIENCE)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "done\n"


@pytest.mark.parametrize("close", ["sock.close()", "pass"])
def test_a_program_that_ends_has_sent_everything(close: str) -> None:
    script = f"""
import sys
from pyiwarp.sockets import family
sock = family.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(bytes(range(256)) * 2000)
{close}
"""
    with serving() as listener:
        got: list[bytes] = []

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                got.append(read_all(peer))

        thread = threading.Thread(target=serve)
        thread.start()
        run = finished([sys.executable, "-c", script, str(listener.getsockname()[1])], timeout=PATIENCE)
        assert (run.returncode, run.stderr) == (0, "")
        thread.join(PATIENCE)
        assert got == [bytes(range(256)) * 2000]


class Dripping:
    """Something that the engine thread serves, of which a little leaves whenever it is asked."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.left = 1 << 40

    def on_hang_up(self) -> None: ...

    def leave(self) -> None: ...

    def waiting(self) -> int:
        """One octet less each time."""
        self.left -= 1
        return self.left


def test_the_end_of_a_program_has_a_limit_however_much_moves() -> None:
    thread, served = engine(), Dripping()
    thread.ask(lambda: thread.watch(served))
    try:
        within(lambda: thread.finish(patience=PATIENCE, most=0.2))
    finally:
        thread.ask(lambda: thread.unwatch(served))
        served.near.close()
        served.far.close()
    assert served.left < (1 << 40) - 1, "something moved"
