"""A script without an event loop: one thread lends a large array, another process's script would Read it in pieces.

    python examples/blocking_script.py

Calls return when they are done, each with a time limit. Connections belong to the thread that made them. Nothing moves
while a thread computes, so `blocking.progress()` is called in between.
"""

from __future__ import annotations

import threading
from array import array
from queue import Queue

from pyiwarp import Access, RemoteRegion, blocking

ITEMS, PIECE, LIMIT = 100_000, 64 * 1024, 10.0


def lend(ports: Queue[int]) -> None:
    numbers = array("q", range(ITEMS))
    with blocking.listen("127.0.0.1") as listener:
        ports.put(listener.port)
        with listener.get_request(timeout=LIMIT).accept() as conn, conn.register(numbers, Access.REMOTE_READ) as region:
            conn.send(region.advertise(), timeout=LIMIT)
            assert conn.recv(timeout=LIMIT) == b"done"  # answers Reads meanwhile


def main() -> None:
    ports: Queue[int] = Queue()
    lender = threading.Thread(target=lend, args=(ports,))
    lender.start()
    total = 0
    with blocking.connect("127.0.0.1", ports.get(timeout=LIMIT)) as conn:
        remote = RemoteRegion.parse(conn.recv(timeout=LIMIT))
        with conn.register(bytearray(PIECE)) as piece:
            for start in range(0, remote.nbytes, PIECE):
                part = remote[start : start + PIECE]
                conn.read(piece[: part.nbytes], part, timeout=LIMIT)
                total += sum(piece.view[: part.nbytes].cast("q"))
                blocking.progress()
        try:
            conn.recv(timeout=0.01)
        except TimeoutError:
            print("nothing more to receive; the connection goes on")
        conn.send(b"done", timeout=LIMIT)
    lender.join()
    assert total == sum(range(ITEMS))
    print(f"the sum of {ITEMS:,} numbers, read in pieces: {total:,}")


if __name__ == "__main__":
    main()
