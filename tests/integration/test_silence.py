"""TCP keep-alive and user timeout, as options and for identifiers; what asyncio's names tell of a connection."""

from __future__ import annotations

import math
import socket
from dataclasses import replace
from typing import Any

import pytest

from pyiwarp import Options, UsageError
from pyiwarp.cm.cm_events import ConnParam
from pyiwarp.sockets import StreamOptions
from tests.hosts import HOST
from tests.integration.forms import AwaitableForm, BlockingForm, Form, awaited, form
from tests.integration.loops import Runner, joined, run
from tests.integration.streamrig import QUICK, pair

__all__ = ["form", "run"]  # the fixtures

IMPATIENT = Options(keepalive=2.5, user_timeout=1.5)
TCP = socket.IPPROTO_TCP


def times_of(sock: Any) -> tuple[bool, int, int, int]:
    return (
        bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
        sock.getsockopt(TCP, socket.TCP_KEEPIDLE),
        sock.getsockopt(TCP, socket.TCP_KEEPINTVL),
        sock.getsockopt(TCP, socket.TCP_USER_TIMEOUT),
    )


def system() -> tuple[bool, int, int, int]:
    with socket.socket() as fresh:
        return times_of(fresh)


def test_they_are_those_of_the_options_at_either_end(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        assert times_of(one.get_extra_info("socket")) == (True, 3, 3, 1500)
        assert times_of(other.get_extra_info("socket")) == system()

    form.connected(body, IMPATIENT)

    async def mirrored(one: Any, other: Any) -> None:
        assert times_of(one.get_extra_info("socket")) == system()
        assert times_of(other.get_extra_info("socket")) == (True, 3, 3, 1500)

    form.connected(mirrored, None, IMPATIENT)


def test_they_are_set_on_either_loop(run: Runner) -> None:
    async def main() -> None:
        async with joined(IMPATIENT, Options(user_timeout=0.0005)) as (one, other):
            assert times_of(one.get_extra_info("socket")) == (True, 3, 3, 1500)
            assert times_of(other.get_extra_info("socket")) == (*system()[:3], 1)

    run(main)


def test_they_are_those_of_the_connection_below_a_stream(run: Runner) -> None:
    async def main() -> None:
        below = replace(StreamOptions().connection, keepalive=4, user_timeout=5)
        async with pair(replace(QUICK, connection=below), QUICK) as ((_, one), (_, other)):
            assert times_of(one.get_extra_info("socket")) == (True, 4, 4, 5000)
            assert times_of(other.get_extra_info("socket")) == system()

    run(main)


def test_they_are_those_of_the_parameters_of_an_identifier(form: Form) -> None:
    given = ConnParam(keepalive=7, user_timeout=2)
    if isinstance(form, BlockingForm):
        channel: Any = form.rdma_cm.EventChannel()
        ids: dict[str, Any] = {}
        with form.rdma_cm.CmId(channel) as listener, form.rdma_cm.CmId(channel) as one:
            listener.bind_addr(HOST)
            listener.listen()
            assert listener.local_addr is not None
            one.resolve_addr(HOST, listener.local_addr[1])
            for event in channel:
                follow(event, ids, given)
                if len(ids) == 2:
                    break
            check(ids)
        return

    async def main() -> None:
        channel: Any = form.rdma_cm.EventChannel()
        ids: dict[str, Any] = {}
        listener, one = form.rdma_cm.CmId(channel), form.rdma_cm.CmId(channel)
        listener.bind_addr(HOST)
        await awaited(listener.listen)
        assert listener.local_addr is not None
        one.resolve_addr(HOST, listener.local_addr[1])
        async for event in channel:
            follow(event, ids, given)
            if len(ids) == 2:
                break
        check(ids)
        listener.close()

    form.run(main)


def follow(event: Any, ids: dict[str, Any], given: ConnParam) -> None:
    """One step of a program of events; `ids` gets both ends when they are connected."""
    match event.type.name:
        case "ADDR_RESOLVED":
            event.id.resolve_route()
        case "ROUTE_RESOLVED":
            event.id.create_qp()
            event.id.connect(given)
        case "CONNECT_REQUEST":
            event.id.create_qp()
            event.id.accept(ConnParam(user_timeout=3))
            ids["there"] = event.id
        case "ESTABLISHED" if event.id is not ids["there"]:
            ids["here"] = event.id


def check(ids: dict[str, Any]) -> None:
    assert times_of(ids["here"].driver.tcp_socket) == (True, 7, 7, 2000)
    assert times_of(ids["there"].driver.tcp_socket) == (*system()[:3], 3000)
    for each in ids.values():
        each.close()


@pytest.mark.parametrize("made", [Options, ConnParam])
@pytest.mark.parametrize("name", ["keepalive", "user_timeout"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1e10, "10", True])
def test_a_time_that_tcp_does_not_take_is_refused(made: Any, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} is .*seconds"):
        made(**{name: value})


@pytest.mark.parametrize(("name", "option"), [("keepalive", "TCP_KEEPIDLE"), ("user_timeout", "TCP_USER_TIMEOUT")])
def test_a_platform_without_the_option_says_so(name: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, option)
    monkeypatch.delattr(socket, "TCP_KEEPALIVE", raising=False)
    with pytest.raises(UsageError, match=f"{name} is 5 s: sockets of this platform have no {option}"):
        Options(**{name: 5.0})  # type: ignore[arg-type]
    Options()


def test_keepalive_as_macos_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "TCP_KEEPALIVE", socket.TCP_KEEPIDLE, raising=False)
    monkeypatch.delattr(socket, "TCP_KEEPIDLE")
    monkeypatch.delattr(socket, "TCP_KEEPINTVL")
    probe = BlockingForm()

    async def body(one: Any, other: Any) -> None:
        assert one.get_extra_info("socket").getsockopt(TCP, socket.TCP_KEEPALIVE) == 9  # type: ignore[attr-defined]

    probe.connected(body, Options(keepalive=9))


def test_what_asyncios_names_tell(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        assert one.get_extra_info("peername") == one.peer_addr == other.get_extra_info("sockname")
        assert one.get_extra_info("sockname") == one.get_extra_info("socket").getsockname()
        assert one.get_extra_info("compression") is None
        assert one.get_extra_info("cipher", "none") == "none"
        one.abort()
        if isinstance(form, AwaitableForm):
            await one.wait_closed()
        assert one.get_extra_info("socket", "gone") == "gone"
        assert one.get_extra_info("peername") == other.local_addr

    form.connected(body)
