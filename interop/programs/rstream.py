"""rstream's dialogue with plain sockets, every octet verified: SIZE COUNT ITERATIONS, and HOST PORT for a client."""

import json
import socket
import sys
from collections.abc import Iterator
from itertools import count

GREETING = 16


def rolling() -> Iterator[int]:
    """What one side sends: each octet is one more than that before it."""
    return (number % 256 for number in count())


def send(sock: socket.socket, octets: Iterator[int], nbytes: int) -> None:
    """The next ones."""
    sock.sendall(bytes(next(octets) for _ in range(nbytes)))


def receive(sock: socket.socket, octets: Iterator[int], nbytes: int) -> None:
    """As many, which must be the next ones."""
    came = bytearray()
    while len(came) < nbytes:
        piece = sock.recv(nbytes - len(came))
        assert piece, f"it ended after {len(came)} of {nbytes} octets"
        came += piece
    assert came == bytes(next(octets) for _ in range(nbytes)), "other octets came"


def play(sock: socket.socket, *, client: bool) -> None:
    """The client speaks first, each time."""
    turns = [(send, rolling()), (receive, rolling())]
    if not client:
        turns.reverse()
    for act, octets in turns:
        act(sock, octets, GREETING)
    for _ in range(ITERATIONS):
        for act, octets in turns:
            for _ in range(COUNT):
                act(sock, octets, SIZE)


SIZE, COUNT, ITERATIONS = map(int, sys.argv[1:4])
if place := sys.argv[4:]:
    with socket.create_connection((place[0], int(place[1]))) as sock:
        play(sock, client=True)
else:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        sock, _ = listener.accept()
        with sock:
            play(sock, client=False)
            assert sock.recv(1) == b"", "it said more than it should"
print(json.dumps({"played": ITERATIONS}), flush=True)
