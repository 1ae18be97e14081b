"""fakeredis' TCP server."""

from fakeredis import TcpFakeServer

server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
server.daemon_threads = True  # `server_close` waits for others without a limit
print(server.server_address[1], flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    server.server_close()
