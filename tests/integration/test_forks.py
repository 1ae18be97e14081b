"""A child that was forked cannot harm what its parent has: it is told so when it uses it, and its end ends nothing."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator

import pytest

import pyiwarp
from tests.children import finished
from tests.hosts import HOST
from tests.patience import PATIENCE

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server, in a thread of its own, that sends each message back and tells of the end of each peer."""
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    ready, over = threading.Event(), asyncio.Event()

    async def handler(conn: pyiwarp.Connection) -> None:
        async for message in conn:
            await conn.send(message)

    async def main() -> None:
        async with await pyiwarp.serve(handler, HOST) as server:
            ports.append(server.port)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert ready.wait(PATIENCE)
    yield ports[0]
    loop.call_soon_threadsafe(over.set)
    thread.join(PATIENCE)
    loop.close()


HEAD = """
import asyncio, os, sys
import pyiwarp
from pyiwarp import Access, blocking, blockingcm, cm
from pyiwarp.errors import WrongProcess
from pyiwarp.verbs import Context, Recv, Send

PORT = int(sys.argv[1])

def refused(call):
    try:
        call()
    except WrongProcess as error:
        assert "belongs to the process that forked this one" in str(error), error
    else:
        raise AssertionError(f"{call} went through")

def in_child(body, leave=os._exit):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            body()
        except BaseException as error:
            import traceback
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            os._exit(1)
        leave(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
"""

SCRIPTS = {
    "a blocking connection": """
with blocking.connect("127.0.0.1", PORT) as conn, conn.register(bytearray(8)) as region:
    def use():
        refused(lambda: conn.send(b"from the child"))
        refused(lambda: conn.recv(timeout=1))
        conn.close()
        conn.abort()
    in_child(use)
    in_child(lambda: None, sys.exit)
    in_child(lambda: conn.abort())
    with blocking.listen("127.0.0.1") as listener:
        in_child(lambda: (refused(lambda: listener.get_request(timeout=1)), listener.close()))
        in_child(lambda: None, sys.exit)
        with blocking.connect("127.0.0.1", PORT) as other:
            other.send(b"listens on")
    def anew():
        with blocking.connect("127.0.0.1", PORT) as own:
            own.send(b"of the child")
            assert own.recv(timeout=10) == b"of the child"
    in_child(anew)
    conn.send(b"still there")
    assert conn.recv(timeout=10) == b"still there"
    print("sound")
""",
    "a queue pair that polls": """
import select
pd = Context().alloc_pd()
channel = pd.context.create_comp_channel()
cq = pd.context.create_cq(16, channel=channel)
qp = pd.create_qp(cq, cq)
memory = bytearray(64)
qp.post_recv(Recv((pd.register(memory, Access.LOCAL_WRITE)[:],)))
blocking.connect_qp(qp, "127.0.0.1", PORT)
number = channel.fileno()
def use():
    refused(cq.poll)
    refused(lambda: qp.post_send(Send((), inline=b"x")))
    assert select.select([number], [], [], 0)[0] == []
    channel.put(cq)  # its own bell rings
    assert select.select([number], [], [], 0)[0] == [number]
    qp.close()
in_child(use)
in_child(pd.context.close)
assert select.select([number], [], [], 0)[0] == []
qp.post_send(Send((), inline=b"still there"))
assert len(blocking.wait(cq, 2, 10)) == 2
assert memory.startswith(b"still there")
qp.close()
print("sound")
""",
    "an identifier of rdma_cm that polls": """
with blockingcm.CmId() as listening, blockingcm.CmId() as connected:
    listening.bind_addr("127.0.0.1", 0)
    listening.listen()
    connected.resolve_addr("127.0.0.1", PORT)
    connected.resolve_route()
    connected.create_qp()
    connected.connect()
    qp = connected.qp
    def use():
        refused(lambda: qp.post_send(Send((), inline=b"x")))
        refused(lambda: listening.get_request(timeout=1))
        connected.close()
        listening.close()
    in_child(use)
    in_child(lambda: None, sys.exit)
    memory = bytearray(64)
    qp.post_recv(Recv((qp.pd.register(memory, Access.LOCAL_WRITE)[:],)))
    qp.post_send(Send((), inline=b"still there"))
    assert blocking.wait(qp.send_cq, 1, 10)[0].ok
    assert blocking.wait(qp.recv_cq, 1, 10)[0].ok
    assert memory.startswith(b"still there")
print("sound")
""",
    "an awaitable connection": """
async def main():
    async def handler(conn):
        async for message in conn:
            await conn.send(message)
    async with await pyiwarp.serve(handler, "127.0.0.1") as server, await pyiwarp.listen("127.0.0.1") as listener:
        async with pyiwarp.connect("127.0.0.1", server.port) as conn:
            def use():
                asyncio.events._set_running_loop(None)
                refused(lambda: asyncio.run(conn.send(b"from the child")))
                refused(lambda: asyncio.run(conn.recv()))
                refused(lambda: asyncio.run(listener.get_request()))
                asyncio.run(conn.close())
                conn.abort()
                conn.qp.close()
                listener.close()
            in_child(use)
            await conn.send(b"still there")
            assert await asyncio.wait_for(conn.recv(), 10) == b"still there"
            async with pyiwarp.connect("127.0.0.1", server.port) as other:
                await other.send(b"listens on")
                assert await asyncio.wait_for(other.recv(), 10) == b"listens on"
asyncio.run(main())
print("sound")
""",
    "the end of a connection that a child has too": """
async def main():
    ended = asyncio.Queue()
    async def handler(conn):
        try:
            async for message in conn:
                pass
        finally:
            ended.put_nowait(conn.close_reason)
    async with await pyiwarp.serve(handler, "127.0.0.1") as server:
        for end in ("close", "abort"):
            conn = await pyiwarp.connect("127.0.0.1", server.port)
            sleeping = os.fork()
            if sleeping == 0:
                import time
                time.sleep(60)
                os._exit(0)
            if end == "close":
                await conn.close()
            else:
                conn.abort()
            await asyncio.wait_for(ended.get(), 10)
            os.kill(sleeping, 9)
            os.waitpid(sleeping, 0)
asyncio.run(main())
print("sound")
""",
}


ON_ASYNCIO, ON_UVLOOP = "asyncio.run(main())", "import uvloop\nuvloop.run(main())"
WITH_A_LOOP = [name for name, script in SCRIPTS.items() if ON_ASYNCIO in script]


@pytest.mark.parametrize(
    ("loop", "name"), [*(("asyncio", name) for name in SCRIPTS), *(("uvloop", name) for name in WITH_A_LOOP)]
)
def test_a_child_cannot_harm(name: str, loop: str, echo: int) -> None:
    script = HEAD + SCRIPTS[name]
    if loop == "uvloop":
        script = script.replace(ON_ASYNCIO, ON_UVLOOP)
    ended = finished([sys.executable, "-c", script, str(echo)])
    assert ended.stdout == "sound\n", ended.stdout + ended.stderr
    assert ended.returncode == 0
