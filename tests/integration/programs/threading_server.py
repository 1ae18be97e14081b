"""socketserver with a thread for each client: lines come back in capitals; the end of a client's lines is answered."""

import contextlib
import socketserver


class Handler(socketserver.StreamRequestHandler):
    """One for each client."""

    def handle(self) -> None:
        """Until the client says that it has sent all."""
        for line in self.rfile:
            self.wfile.write(line.upper())
        self.wfile.write(b"that was all\n")


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread for each."""

    daemon_threads = True


with Server(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1], flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
