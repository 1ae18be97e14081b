"""urllib over TLS, and a TLS connection that is made on a socket by hand."""

import socket
import ssl
import sys
import urllib.request
from pathlib import Path

PORT = int(sys.argv[1])
LONG = bytes(range(256)) * 4000
context = ssl.create_default_context(cafile=Path(__file__).with_name("localhost.pem"))

with urllib.request.urlopen(f"https://localhost:{PORT}/", LONG, timeout=60, context=context) as answer:
    assert answer.read() == LONG

plain = socket.create_connection(("127.0.0.1", PORT), timeout=60)
with context.wrap_socket(plain, server_hostname="localhost") as secret:
    assert secret.version() in ("TLSv1.2", "TLSv1.3")
    secret.sendall(b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
    assert secret.makefile("rb").read().endswith(b"\r\n\r\nhello")
print("done")
