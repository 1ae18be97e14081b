"""A procedure call, by the standard library."""

import contextlib
from xmlrpc.server import SimpleXMLRPCServer

with SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False, allow_none=True) as server:
    server.register_function(lambda a, b: a + b, "add")
    server.register_function(lambda data: data, "same")
    server.register_multicall_functions()
    print(server.server_address[1], flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
