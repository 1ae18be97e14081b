"""Several clients at once, each of which says by a half-close that it has sent all."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor


def talk(number: int) -> None:
    address = ("127.0.0.1", int(sys.argv[1]))
    with socket.create_connection(address, timeout=60) as client, client.makefile("rwb") as lines:
        for turn in range(50):
            lines.write(b"client %d turn %d\n" % (number, turn))
            lines.flush()
            assert lines.readline() == b"CLIENT %d TURN %d\n" % (number, turn)
        client.shutdown(socket.SHUT_WR)
        assert lines.read() == b"that was all\n"


with ThreadPoolExecutor(8) as pool:
    list(pool.map(talk, range(8)))
print("done")
