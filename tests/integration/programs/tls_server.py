"""http.server behind TLS."""

import contextlib
import http.server
import ssl
from pathlib import Path

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(Path(__file__).with_name("localhost.pem"))


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what it was given."""

    def do_POST(self) -> None:
        """An echo."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_address[1], flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
