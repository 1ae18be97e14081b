"""aiosmtpd: says the subject of each message that came."""

import asyncio
import contextlib
import email
from typing import Any

from aiosmtpd.smtp import SMTP


class Handler:
    """Takes every message."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """A message is here."""
        print(email.message_from_bytes(envelope.content)["Subject"], len(envelope.content) > 100_000, flush=True)
        return "250 OK"


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Handler()), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
