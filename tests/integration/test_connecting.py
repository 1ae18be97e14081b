"""Connecting, listening and serving over loopback: peers that answer, refuse, say nothing or nonsense, or leave."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

import pyiwarp
from pyiwarp import Connection, ConnectionLost, Disconnected, Options, Rejected, TerminatedByPeer, UsageError, cm
from pyiwarp.codes import Rtr
from pyiwarp.connections.serving import Request, listen
from pyiwarp.errors import MalformedStartup, NoMatchingRtr, StartupTimeout, WrongState
from tests.hosts import HOST, closed_port, ipv6
from tests.integration.loops import QUICK, Runner, connecting, joined, run, silent_listener, soon, start
from tests.patience import PATIENCE

__all__ = ["run"]  # the fixture

# --- connecting ------------------------------------------------------------------------------------------------------


def test_a_port_where_nobody_listens(run: Runner) -> None:
    async def main() -> None:
        with closed_port() as port, pytest.raises(ConnectionRefusedError):
            await pyiwarp.connect(HOST, port)

    run(main)


def test_a_peer_that_says_nothing(run: Runner) -> None:  # MPA-5044-7.1.2-27
    async def main() -> None:
        async with silent_listener() as port:
            with pytest.raises(StartupTimeout, match=r"the MPA Reply did not come within 0.05 s"):
                await pyiwarp.connect(HOST, port, options=Options(timeout=0.05))

    run(main)


@pytest.mark.parametrize("revision", [1, 2])
def test_a_rejection_arrives_with_its_private_data(run: Runner, revision: int) -> None:  # MPA-5044-7.1.2-14
    async def main() -> None:
        async with await listen(HOST, options=Options(rtr=Rtr.WRITE)) as listener:
            connecting = start(pyiwarp.connect(HOST, listener.port, options=Options(revision=revision)).__aenter__())
            request = await anext(listener)
            await request.reject(b"not today")
            with pytest.raises(Rejected) as caught:
                await connecting
            assert caught.value.private_data == b"not today"
            with pytest.raises(WrongState):
                await request.accept()

    run(main)


def test_a_peer_that_speaks_something_else(run: Runner) -> None:  # MPA-5044-7.1.2-13, MPA-5044-7.1.2-17
    async def main() -> None:
        async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with suppress(ConnectionError):
                assert len(await reader.read()) == 24
            writer.close()

        server = await asyncio.start_server(http, HOST, 0)
        async with server:
            with pytest.raises(MalformedStartup, match="does not speak MPA"):
                await pyiwarp.connect(HOST, server.sockets[0].getsockname()[1])
            await asyncio.sleep(0.01)

    run(main)


def test_strangers_at_the_listener(run: Runner) -> None:  # MPA-5044-7.1.2-04, MPA-5044-7.1.2-22, MPA-5044-8-07
    async def main() -> None:
        async def call(port: int, hello: bytes) -> None:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(hello)
            with suppress(ConnectionResetError):
                assert await reader.read() == b"", "a stranger is told nothing"
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

        async with await listen(HOST, options=Options(timeout=1.0)) as listener:
            strangers = (b"GET / HTTP/1.1\r\n", b"", b"MPA ID Req Fra")
            await asyncio.gather(*(call(listener.port, hello) for hello in strangers))
            async with connecting(listener, None) as (one, other):
                await one.send(b"a friend")
                assert await other.recv() == b"a friend"

    run(main)


def test_an_initiator_that_leaves_before_the_decision(run: Runner) -> None:
    async def main() -> None:
        async with await listen(HOST) as listener:
            connecting_ = start(pyiwarp.connect(HOST, listener.port).__aenter__())
            request = await anext(listener)
            connecting_.cancel()
            await asyncio.gather(connecting_, return_exceptions=True)
            await soon(lambda: "failed" in repr(request))
            with pytest.raises(ConnectionLost, match="left before the decision"):
                await request.accept()
            with pytest.raises(ConnectionLost):
                await request.reject()

    run(main)


def test_requests_of_initiators_that_left_are_not_given(run: Runner) -> None:
    async def main() -> None:
        async with await listen(HOST) as listener:
            gone = start(pyiwarp.connect(HOST, listener.port).__aenter__())
            await soon(lambda: listener._listener._reception._waiting)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            await soon(lambda: not listener._listener._reception._waiting)
            async with connecting(listener, None) as (one, other):
                await one.send(b"x")
                assert await other.recv() == b"x"

    run(main)


def test_no_opening_message_in_common(run: Runner) -> None:  # MPA2-6581-9.2-11, MPA2-6581-9.2-12
    async def main() -> None:
        async with await listen(HOST, options=Options(rtr=Rtr.SEND)) as listener:
            connecting_ = start(pyiwarp.connect(HOST, listener.port, options=Options(rtr=Rtr.WRITE)).__aenter__())
            other = await (await anext(listener)).accept()
            with pytest.raises(NoMatchingRtr):
                await connecting_
            with pytest.raises(TerminatedByPeer) as caught:
                await other.recv()
            assert str(caught.value.term) == "2/0/07"
            await other.close()

    run(main)


def test_the_backlog_is_a_bound(run: Runner) -> None:  # RFC 5042 §6.4
    async def main() -> None:
        async with await listen(HOST, backlog=3) as listener:
            connecting_ = [start(pyiwarp.connect(HOST, listener.port, options=QUICK).__aenter__()) for _ in range(8)]
            await soon(lambda: sum(task.done() for task in connecting_) == 5)
            lost = [task for task in connecting_ if task.done()]
            assert all(isinstance(task.exception(), ConnectionError) for task in lost)
            assert len(listener._listener._reception._starting) == 3
            kept = [await (await anext(listener)).accept() for _ in range(3)]
            mine = [await task for task in connecting_ if task not in lost]
            async with connecting(listener, None) as (one, other):
                await one.send(b"there is room again")
                await other.recv()
            await asyncio.gather(*(conn.close() for conn in [*kept, *mine]))

    run(main)


def test_closing_a_listener(run: Runner) -> None:
    """A Request that was taken may still be accepted; one that nobody took is gone."""

    async def main() -> None:
        listener = await listen(HOST)
        taken = start(pyiwarp.connect(HOST, listener.port).__aenter__())
        request = await anext(listener)
        refused = start(pyiwarp.connect(HOST, listener.port, options=QUICK).__aenter__())
        other_request = await anext(listener)
        untaken = start(pyiwarp.connect(HOST, listener.port).__aenter__())
        await soon(lambda: listener._listener._reception._waiting)
        listener.close()
        listener.close()
        assert listener.port == 0
        with pytest.raises(ConnectionError):
            await untaken
        await other_request.reject()
        with pytest.raises(Rejected):
            await refused
        assert len([request async for request in listener]) <= 1
        other = await request.accept()
        one = await taken
        await asyncio.gather(other.close(), one.close())

    run(main)


def test_closing_a_listener_wakes_whoever_waits(run: Runner) -> None:
    async def main() -> None:
        listener = await listen(HOST)
        waiting = [start(anext(listener)) for _ in range(3)]
        await asyncio.sleep(0)
        listener.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {StopAsyncIteration}

    run(main)


def test_a_queue_pair_connects_once(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, _), await listen(HOST) as listener:
            with pytest.raises(WrongState, match="only a queue pair that is IDLE"):
                await cm.connect(one.qp, HOST, listener.port)

    run(main)


@ipv6
def test_every_address(run: Runner) -> None:
    async def main() -> None:
        async with await listen("::1") as listener:
            task = start(pyiwarp.connect("::1", listener.port).__aenter__())
            other = await (await anext(listener)).accept()
            one = await task
            assert one.peername == f"[::1]:{listener.port}"
            await asyncio.gather(one.close(), other.close())

    run(main)


# --- serving ---------------------------------------------------------------------------------------------------------


def test_serving(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        seen: list[bytes] = []

        def accept(request: Request) -> bytes | None:
            if request.private_data == b"crash":
                raise RuntimeError("a bug in the program")
            return None if request.private_data == b"bad" else b"ok"

        async def handler(conn: Connection) -> None:
            if conn.private_data == b"fail":
                raise RuntimeError("a bug in the handler")
            async for message in conn:
                seen.append(message)

        async with await pyiwarp.serve(handler, HOST, accept=accept) as server:
            async with pyiwarp.connect(HOST, server.port, private_data=b"good") as conn:
                assert conn.private_data == b"ok"
                await conn.send(b"hello")
            await soon(lambda: seen == [b"hello"])
            for refused in (b"bad", b"crash"):
                with pytest.raises(Rejected):
                    await pyiwarp.connect(HOST, server.port, private_data=refused, options=QUICK)
            with pytest.raises(ConnectionLost):
                async with pyiwarp.connect(HOST, server.port, private_data=b"fail") as conn:
                    await conn.recv()
            await soon(lambda: "a bug in the handler" in caplog.text)
            forever = start(server.serve_forever())
            await asyncio.sleep(0)
            forever.cancel()
        assert "a bug in the handler" in caplog.text
        assert "a bug in the program" in caplog.text
        with pytest.raises(UsageError):
            await server.serve_forever()
        await server.close()

    run(main)


def test_closing_a_server_ends_its_handlers(run: Runner) -> None:
    async def main() -> None:
        async def handler(conn: Connection) -> None:
            async for _ in conn:
                pass

        server = await pyiwarp.serve(handler, HOST, options=QUICK)
        conns = [await pyiwarp.connect(HOST, server.port, options=QUICK) for _ in range(3)]
        readers = [start(conn.recv()) for conn in conns]
        async with asyncio.timeout(PATIENCE):
            await server.close()
        for reader in readers:
            with pytest.raises((Disconnected, ConnectionLost)):
                await reader
        await asyncio.gather(*(conn.close() for conn in conns))

    run(main)
