"""fakeredis' TCP server."""

from fakeredis import TcpFakeServer

server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
print(server.server_address[1], flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    server.server_close()
