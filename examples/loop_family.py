"""A protocol family of one's own: AF_LOOP, streams between the sockets of one process, whose addresses are words.

    python examples/loop_family.py

What a family needs, in the kernel's names: a number, a `Proto` (what it does with its own `sk`), a `ProtoOps` (what the
methods of a socket call; `stream_ops` makes one for streams), a `create`, and `sock_register`.
"""

from __future__ import annotations

import errno
import os
import socket

from pyiwarp import sockets
from pyiwarp.sockets import Proto, Socket, State, StreamSock

AF_LOOP = 4000  # a number that the kernel does not know

names: dict[str, StreamSock] = {}  # who is bound
waiting: dict[StreamSock, list[tuple[StreamSock, int]]] = {}  # who listens, and whom nobody has accepted yet


def get_port(sk: StreamSock, address: str) -> None:
    if names.setdefault(address, sk) is not sk:
        raise OSError(errno.EADDRINUSE, "the word is taken")
    sk.sockname = address


def listen(sk: StreamSock, backlog: int) -> None:
    sk.state = State.LISTENING
    waiting.setdefault(sk, [])


def connect(sk: StreamSock, address: str) -> bool:
    listener = names.get(address)
    if listener not in waiting or listener.near is None:
        raise OSError(errno.ECONNREFUSED, "nobody listens there")
    near = sk.take_near()
    sk.make_writable(near)
    child = StreamSock(LOOP)
    child.sockname, child.peername = address, sk.sockname
    sk.state = child.state = State.CONNECTED
    sk.peername = address
    waiting[listener].append((child, near.detach()))  # the end of one socket is the other socket
    listener.near.send(b"!")  # the listener is readable
    return True


def accept(sock: Socket, sk: StreamSock) -> tuple[StreamSock, int]:
    sockets.pair_recvmsg(sock, [bytearray(1)], 0)  # waits, as long as the socket's timeout allows
    return waiting[sk].pop(0)


def destroy(sk: StreamSock) -> None:
    if names.get(sk.sockname) is sk:
        del names[sk.sockname]
    for _, fileno in waiting.pop(sk, []):
        os.close(fileno)


LOOP = Proto(
    name="loop",
    get_port=get_port,
    hash=listen,
    connect=connect,
    accept=accept,
    destroy=destroy,
    sendmsg=sockets.pair_sendmsg,
    recvmsg=sockets.pair_recvmsg,
    shutdown=sockets.pair_shutdown,
)
OPS = sockets.stream_ops(AF_LOOP, __name__)


def create(sock: Socket, protocol: int) -> None:
    if sock.type != socket.SOCK_STREAM or protocol:
        raise OSError(errno.EPROTONOSUPPORT, "the family has streams alone")
    sk = StreamSock(LOOP)
    sock.graft(OPS, sk, sk.new_pair())


def main() -> None:
    sockets.proto_register(LOOP)
    sockets.sock_register(sockets.NetProtoFamily(AF_LOOP, create))
    sockets.install()  # for programs that know the module socket alone, such as what follows
    with socket.socket(AF_LOOP) as listener, socket.socket(AF_LOOP) as client:
        listener.bind("the house")
        listener.listen()
        client.connect("the house")
        peer, _ = listener.accept()
        client.sendall(b"hello")
        with peer:
            peer.sendall(peer.recv(100).upper())
        print(client.recv(100).decode(), "from", client.getpeername())


if __name__ == "__main__":
    main()
