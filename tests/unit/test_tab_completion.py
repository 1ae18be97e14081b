"""`dir()`, and tab completion with it, shows what programs need of the package and its objects, and nothing else."""

from __future__ import annotations

import asyncio

import pyiwarp
from pyiwarp import blocking
from pyiwarp.connections.awaitable import Connection, Region
from pyiwarp.connections.endpoint import Endpoint
from pyiwarp.connections.options import Options
from pyiwarp.verbs import Context, ProtectionDomain

PACKAGE = """
    Access Closed Connection ConnectionLost Context Device Disconnected IwarpError Listener MemoryRegion Message Options
    ProtectionDomain ProtocolViolation Region RegionSlice Rejected RemoteRegion Request Server StartupError
    TerminatedByPeer UsageError WorkFailed
    blocking blockingcm capture cm connect devices errors files listen profile rdmacm serve sockets verbs
"""
CONNECTION = """
    abort agreement bind close close_reason compare_swap fetch_add get_extra_info invalidate is_closed local_addr
    options pd peer_addr peername private_data qp read read_many recv recv_into recv_large recv_message register
    register_fast send send_immediate send_large wait_closed write write_many write_with_immediate
"""
REGION = """
    access advertise close forget_caller is_open is_retired log nbytes pd pins reregister retire stag to view
    when_released windows
"""
QUEUE_PAIR = """
    abort alive cap close connect counters disconnect drain drain_rq drain_sq error linger modify on_ended
    on_half_closed options pd peer post_recv post_recv_many post_send post_send_many profile qp_num query recv_cq
    send_cq send_room
    speak_first state stream
"""
DOMAIN = """
    alloc_stag alloc_window close context create_qp create_qp_as create_srq fast_regions queue_pairs regions register
    windows
"""
COMPLETION_QUEUE = """
    ack_events arm capacity channel close context empty_polls is_open max_cqe overflowed poll request_notify resize
    taker unacked
"""
CONTEXT = "alloc_pd async_events close counters create_comp_channel create_cq debug device query_device"


def names(words: str, *more: str) -> list[str]:
    return sorted([*words.split(), *more])


def domain() -> ProtectionDomain:
    return Context().alloc_pd()


def test_the_package() -> None:
    assert dir(pyiwarp) == names(PACKAGE)


def test_a_connection_and_its_regions() -> None:
    async def main() -> None:
        conn = Connection(domain(), Options(), owns_pd=True)
        assert dir(conn) == names(CONNECTION)
        region = conn.register(bytearray(8))
        assert type(region) is Region
        assert dir(region) == names(REGION, "aclose", "wait_closed")
        conn.abort()

    asyncio.run(main())


def test_a_polled_connection_and_its_regions() -> None:
    conn = blocking.Connection(domain(), Options(), owns_pd=True)
    assert dir(conn) == names(CONNECTION, "poller")
    assert dir(conn.register(bytearray(8))) == names(REGION, "drain", "wait_closed")
    conn.abort()


def test_the_class_of_connections() -> None:
    """Of a class `dir()` shows all it has, but this is all that is internal."""
    shown = {name for name in dir(Connection) if name[0] != "_"}
    assert shown - set(CONNECTION.split()) == {"attach", "of", "tells_of_the_end"}
    assert {name for name in vars(Endpoint) if name[0] != "_"} - set(CONNECTION.split()) == {
        "attach",
        "of",
        "tells_of_the_end",
    }


def test_the_objects_of_verbs() -> None:
    context = Context()
    pd = context.alloc_pd()
    cq = context.create_cq()
    assert dir(context) == names(CONTEXT)
    assert dir(pd) == names(DOMAIN)
    assert dir(cq) == names(COMPLETION_QUEUE)
    assert dir(pd.create_qp(cq, cq)) == names(QUEUE_PAIR)
    assert dir(pd.register(bytearray(8))) == names(REGION)
    context.close()


def test_a_debugging_context_shows_the_same() -> None:
    pd = pyiwarp.Device(debug=True).open().alloc_pd()
    cq = pd.context.create_cq()
    assert dir(cq) == names(COMPLETION_QUEUE)
    assert dir(pd.create_qp(cq, cq)) == names(QUEUE_PAIR)
