"""http.server for a few requests, and no more: DIRECTORY, and how many."""

import functools
import http.server
import json
import sys

directory, requests = sys.argv[1], int(sys.argv[2])
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=directory)
with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
    print(json.dumps({"port": server.server_port}), flush=True)
    for _ in range(requests):
        server.handle_request()
