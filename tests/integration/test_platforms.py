"""Each way to use the stack where a platform lacks something of Linux: connections of every kind, and the command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.children import finished
from tests.platforms import EXPECTED, FILES, NETWORK, SYSTEMS, without

SCRIPTS = {
    "awaitable": """
async def main():
    async def handler(conn):
        async with conn.register(bytearray(BULK), RIGHTS) as region:
            await conn.send(region.advertise())
            async for message in conn:
                await conn.send(message.upper())
    async with await pyiwarp.serve(handler, HOST) as server:
        async with pyiwarp.connect(HOST, server.port) as conn:
            remote = RemoteRegion.parse(await conn.recv())
            await conn.write(DATA, remote)
            async with conn.register(bytearray(BULK), Access.LOCAL_WRITE) as sink:
                await conn.read(sink[:], remote)
                assert bytes(sink.view) == DATA
            await conn.send(b"awaited")
            assert await conn.recv() == b"AWAITED"
asyncio.run(asyncio.wait_for(main(), 50))
""",
    "blocking": """
ports = queue.Queue()
def serve():
    with blocking.listen(HOST) as listener:
        ports.put(listener.port)
        with listener.get_request(timeout=50).accept() as conn, conn.register(bytearray(BULK), RIGHTS) as region:
            conn.send(region.advertise())
            for message in conn:
                conn.send(message.upper())
thread = threading.Thread(target=serve)
thread.start()
with blocking.connect(HOST, ports.get(timeout=50)) as conn:
    remote = RemoteRegion.parse(conn.recv(timeout=50))
    conn.write(DATA, remote, timeout=50)
    with conn.register(bytearray(BULK), Access.LOCAL_WRITE) as sink:
        conn.read(sink[:], remote, timeout=50)
        assert bytes(sink.view) == DATA
    conn.send(b"blocking")
    assert conn.recv(timeout=50) == b"BLOCKING"
thread.join(50)
assert not thread.is_alive()
try:
    blocking.connect(HOST, 1)
except OSError:
    pass
else:
    raise AssertionError("nothing listens there")
assert not blocking.wait_until(lambda: False, 0.01)
""",
    "rdma_cm": """
ports = queue.Queue()
def serve():
    with blockingcm.CmId() as listening:
        listening.bind_addr(HOST, 0)
        listening.listen()
        ports.put(listening.local_addr[1])
        with listening.get_request() as passive:
            qp = passive.create_qp()
            memory = bytearray(8)
            qp.post_recv(Recv((qp.pd.register(memory, Access.LOCAL_WRITE)[:],)))
            passive.accept()
            blocking.wait(qp.recv_cq, 1, 50)
            assert memory == b"blocking"
            passive.disconnect()
thread = threading.Thread(target=serve)
thread.start()
with blockingcm.CmId() as active:
    active.resolve_addr(HOST, ports.get(timeout=50))
    active.resolve_route()
    qp = active.create_qp()
    active.connect()
    qp.post_send(Send((), inline=b"blocking"))
    active.disconnect()
thread.join(50)
assert not thread.is_alive()

channel = Context().create_comp_channel()
cq = Context().create_cq(16)
for _ in range(2):
    assert select.select([channel], [], [], 0)[0] == []
    channel.put(cq)
    assert select.select([channel], [], [], 50)[0] == [channel]
    assert channel.get_cq_event() is cq
channel.close()

async def main():
    async with rdmacm.CmId() as listening, rdmacm.CmId() as active:
        listening.bind_addr(HOST)
        await listening.listen()
        await active.resolve_addr(HOST, listening.local_addr[1])
        await active.resolve_route()
        active.create_qp()
        connecting = active.connect()
        async with await listening.get_request() as passive:
            qp = passive.create_qp()
            memory = bytearray(8)
            qp.post_recv(Recv((qp.pd.register(memory, Access.LOCAL_WRITE)[:],)))
            await passive.accept()
            await connecting
            active.qp.post_send(Send((), inline=b"rdma_cm!"))
            while not qp.recv_cq.poll():
                await asyncio.sleep(0.001)
            assert memory == b"rdma_cm!"
            await active.disconnect()
asyncio.run(asyncio.wait_for(main(), 50))
""",
}
HEAD = """
import asyncio, os, queue, select, socket, sys, threading
import pyiwarp
from pyiwarp import Access, RemoteRegion, blocking, blockingcm, rdmacm
from pyiwarp.verbs import Context, Recv, Send
HOST, BULK, RIGHTS = "127.0.0.1", 300_000, Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE
DATA = os.urandom(BULK)
"""


def gone(taken: str) -> str:
    """A program that fails if something of it is still there."""
    lines = [
        f"assert not {EXPECTED.get(name) or 'hasattr({}, {!r})'.format(*name.split('.'))}, {name!r}"
        for name in taken.split()
    ]
    return "\n".join(["import asyncio, mmap, os, select, signal, socket, sys", *lines])


@pytest.mark.parametrize("lack", NETWORK)
def test_connections_without_it(lack: str, tmp_path: Path) -> None:
    program = "\n".join([HEAD, gone(NETWORK[lack]), *SCRIPTS.values(), "print('sound')"])
    done = finished([sys.executable, "-c", program], env=without(NETWORK[lack], tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "sound\n", "")


COMMANDS = """
import json, os, pathlib, runpy, signal, sys
import pyiwarp.cli.transfers

def command(output, *words):
    pid = os.fork()
    if pid:
        return pid
    os.dup2(output, 1)
    sys.argv[1:] = words
    runpy.run_module("pyiwarp", run_name="__main__", alter_sys=True)
    sys.exit()

def ends_well(pid):
    assert os.waitpid(pid, 0)[1] == 0

OCTETS = os.urandom(1_000_001)
served, mine = sys.argv[1:]
reading, writing = os.pipe()
server = command(writing, "serve", served, "--port", "0", "--json")
os.close(writing)
listening = json.loads(os.read(reading, 10_000))
address = f"{listening['host']}:{listening['port']}"
pathlib.Path(mine, "file").write_bytes(OCTETS)
ends_well(command(1, "put", address, f"{mine}/file"))
ends_well(command(1, "get", f"{address}/file", "-o", f"{mine}/back"))
os.kill(server, signal.SIGTERM)
ends_well(server)
assert pathlib.Path(served, "file").read_bytes() == pathlib.Path(mine, "back").read_bytes() == OCTETS
"""
"""The commands of the file service, each forked by a process that has imported them, which takes most of their time."""


@pytest.mark.parametrize("lack", [lack for lack in FILES if lack not in SYSTEMS])
def test_files_both_ways_without_it(lack: str, tmp_path: Path) -> None:
    """The command serves a directory, puts and gets."""
    for name in ("served", "mine"):
        (tmp_path / name).mkdir()
    program = "\n".join([gone(FILES[lack]), COMMANDS])
    command = [sys.executable, "-c", program, str(tmp_path / "served"), str(tmp_path / "mine")]
    done = finished(command, env=without(FILES[lack], tmp_path))
    assert (done.returncode, done.stderr) == (0, "pyiwarp: stopped; 0 transfers interrupted\n")
    assert sorted(os.listdir(tmp_path / "served")) == ["file"]
    assert "put file: 1,000,001 octets" in done.stdout


@pytest.mark.parametrize("lack", SYSTEMS)
def test_the_demonstration_without_what_a_system_lacks(lack: str, tmp_path: Path) -> None:
    """The command serves a directory, gets and puts, in processes of their own; it has verified what it says."""
    done = finished([sys.executable, "-m", "pyiwarp", "demo", "--mib", "1"], env=without(FILES[lack], tmp_path))
    assert done.returncode == 0, done.stderr
    assert "octet for octet" in done.stdout
    assert done.stderr == ""
