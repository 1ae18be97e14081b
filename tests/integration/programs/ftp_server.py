"""pyftpdlib, with a directory that is gone when it ends."""

import tempfile

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.log import config_logging
from pyftpdlib.servers import FTPServer

config_logging(level=30)
with tempfile.TemporaryDirectory() as directory:
    authorizer = DummyAuthorizer()
    authorizer.add_user("user", "word", directory, perm="elradfmwMT")

    class Handler(FTPHandler):  # type: ignore[misc]  # it has no types
        """One for each client."""

    Handler.authorizer = authorizer
    with FTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.socket.getsockname()[1], flush=True)
        server.serve_forever(handle_exit=True)
