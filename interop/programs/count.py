"""A server of one client, which counts what comes until the client ends its direction."""

import json
import socket

with socket.create_server(("127.0.0.1", 0)) as listener:
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    client, _ = listener.accept()
    came = 0
    with client:
        while octets := client.recv(1 << 16):
            came += len(octets)
print(json.dumps({"came": came}), flush=True)
