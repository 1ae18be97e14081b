"""A client that sends so many octets: HOST, PORT, and how many."""

import socket
import sys

host, port, nbytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.create_connection((host, port)) as server:
    server.sendall(bytes(nbytes))
    server.shutdown(socket.SHUT_WR)
    while server.recv(1 << 16):
        pass
