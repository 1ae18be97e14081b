"""Two connections on polled sockets: data, back-pressure, every end, time limits, and the verbs beneath."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from time import monotonic

import pytest

from pyiwarp import (
    Access,
    ConnectionLost,
    Disconnected,
    Options,
    ProtocolViolation,
    RemoteRegion,
    TerminatedByPeer,
    blocking,
)
from pyiwarp.blocking import Connection
from pyiwarp.cm import polling_cm
from pyiwarp.codes import Rtr
from pyiwarp.connections.blocking import _Outcome
from pyiwarp.drivers.tcp import TURN_BATCHES
from pyiwarp.errors import (
    Closed,
    InvalidStag,
    MalformedStartup,
    QueueFull,
    Rejected,
    StartupTimeout,
    VersionMismatch,
    WrongState,
)
from pyiwarp.negotiation import Offer, Role
from pyiwarp.verbs import CompletionQueue, Context, ProtectionDomain, QueuePair, Read, Recv, Send, Status, Write
from tests.harness import fpdu, unframe, write
from tests.hosts import HOST, closed_port
from tests.integration.loops import BOTH_WAYS, octets
from tests.integration.polled import Peer, exchange_advertisement, hold_little, nothing_left, pair, soon
from tests.patience import PATIENCE

QUICK = Options(timeout=PATIENCE, linger=0.3)


def converse(one: Connection, other: Connection, nbytes: int) -> None:
    """Every operation, in both directions."""
    data = octets(nbytes)
    for left, right in ((one, other), (other, one)):
        with right.register(bytearray(nbytes), BOTH_WAYS) as target, left.register(bytearray(nbytes)) as sink:
            remote = exchange_advertisement(target, right, left)
            left.write(data, remote, timeout=PATIENCE)
            left.send(b"written", solicited=True)
            message = right.recv_message(timeout=PATIENCE)
            assert (message.data, message.solicited) == (b"written", True)
            assert bytes(target.view) == data
            left.read(sink[:], remote, timeout=PATIENCE)
            assert bytes(sink.view) == data
            left.send(b"done", invalidate=target.stag)
            assert right.recv_message(timeout=PATIENCE).inval_stag == target.stag
            with right.register(bytearray(1), BOTH_WAYS) as second:
                left.send(sink[:5], solicited=True, invalidate=second.stag)
                assert right.recv_message(timeout=PATIENCE) == (data[:5], True, second.stag, False)


AGREEMENTS = {
    "as it comes": Options(),
    "no crc": Options(crc=False),
    "markers": Options(markers=True),
    "revision 1": Options(revision=1),
    "mulpdu 128": Options(mulpdu=128),
    "mulpdu 64768, markers": Options(mulpdu=64_768, markers=True),
}


@pytest.mark.parametrize("name", AGREEMENTS)
def test_a_conversation(name: str) -> None:
    # MPA-5044-7.1-02, MPA-5044-7.1-06, DDP-5041-6.1-01, RDMAP-5040-3.2-01, -03, RDMAP-5040-5.3-12
    options = AGREEMENTS[name]
    with pair(options, options) as (one, other):
        one.send(b"")  # the Responder is mute until it has heard something
        assert other.recv(timeout=PATIENCE) == b""
        converse(one, other, 70_001)
        assert one.agreement.crc is other.agreement.crc is (options.crc is not False)
        assert one.agreement.revision == options.revision
        assert (one.agreement.role, other.agreement.role) == (Role.INITIATOR, Role.RESPONDER)


@pytest.mark.parametrize("rtr", Rtr)
def test_peer_to_peer(rtr: Rtr) -> None:  # MPA2-6581-9.2-10
    with pair(Options(rtr=rtr), Options(rtr=rtr)) as (one, other):
        other.send(b"the Responder speaks first", timeout=PATIENCE)
        assert one.recv(timeout=PATIENCE) == b"the Responder speaks first"
        assert one.agreement.rtr is rtr
        if rtr is Rtr.SEND:
            assert other.recv(timeout=PATIENCE) == b""
        converse(one, other, 1000)


def test_atomics_and_immediate_data() -> None:
    with pair() as (one, other):
        memory = bytearray(8)
        rights = BOTH_WAYS | Access.REMOTE_ATOMIC
        with other.register(memory, rights) as target:
            remote = exchange_advertisement(target, other, one)
            assert one.fetch_add(remote, 5, timeout=PATIENCE) == 0
            assert one.compare_swap(remote, 5, 7, timeout=PATIENCE) == 5
            assert one.fetch_add(remote, 0, timeout=PATIENCE) == 7
            one.write_with_immediate(b"12345678", remote, b"placed!!", solicited=True, timeout=PATIENCE)
            message = other.recv_message(timeout=PATIENCE)
            assert (message.data, message.immediate, message.solicited) == (b"placed!!", True, True)
            assert memory == b"12345678"
            one.send_immediate(b"followed")
            assert other.recv(timeout=PATIENCE) == b"followed"


def test_back_pressure_moves_all_the_octets() -> None:
    """Far more than TCP holds: the kernel takes parts of gather writes, and reading goes on meanwhile."""
    nbytes = 24 << 20
    data = octets(nbytes)
    with pair(Options(mulpdu=1442), Options()) as (one, other):
        memory = bytearray(nbytes)
        with other.register(memory, BOTH_WAYS) as target, one.register(bytearray(nbytes)) as sink:
            remote = exchange_advertisement(target, other, one)
            one.write(data, remote, timeout=PATIENCE)
            one.read(sink[:], remote, timeout=PATIENCE)
            assert bytes(sink.view) == data
        assert memory == data


def test_messages_keep_their_order() -> None:  # DDP-5041-5.3-06
    sizes = [0, 1, 5000, 4096, 7, 0, 1425, 2]
    with pair(right=Options(recv_size=5000)) as (one, other):
        for number, size in enumerate(sizes):
            one.send(octets(size, number), timeout=PATIENCE)
        soon(lambda: len(other._inbox) == len(sizes))
        assert [other.recv() for _ in sizes] == [octets(size, number) for number, size in enumerate(sizes)]


def test_one_connection_does_not_hold_up_another() -> None:
    with pair() as (busy, sink), pair() as (one, other):
        with sink.register(bytearray(8 << 20), BOTH_WAYS) as target:
            remote = exchange_advertisement(target, sink, busy)
            with busy.register(bytes(8 << 20), Access(0)) as source:
                for number in range(4):
                    busy.qp.post_send(Write((source[:],), remote, _Outcome()))
                    one.send(bytes([number]))
                    assert other.recv(timeout=PATIENCE) == bytes([number])
                soon(lambda: busy.qp.send_room == busy.qp.cap.max_send_wr)
        assert TURN_BATCHES * 256 * 1024 < 8 << 20, "else the turn was never full"


def test_a_message_waits_for_its_receive() -> None:
    """Reading pauses when there is no receive, and goes on when the program has taken a message."""
    with pair(right=Options(recv_depth=2)) as (one, other):
        for number in range(6):
            one.send(bytes([number]))
        soon(lambda: other.qp.stream.starved)
        assert not other.qp.wants_input
        assert [other.recv(timeout=PATIENCE) for _ in range(6)] == [bytes([number]) for number in range(6)]
        one.send(b"on")
        assert other.recv(timeout=PATIENCE) == b"on"


# --- ends ------------------------------------------------------------------------------------------------------------


def test_a_graceful_end() -> None:  # DDP-5041-6.2.1-01, MPA-5044-7.2-01, -02, MPA-5044-3-12
    with pair() as (one, other):
        one.send(b"last words")
        one.qp.disconnect()
        assert other.recv(timeout=PATIENCE) == b"last words"
        with pytest.raises(Disconnected):
            other.recv(timeout=PATIENCE)
        with pytest.raises(Disconnected):
            other.send(b"too late")
        one.close()
        assert one.close_reason is None
        with pytest.raises(Closed):
            one.send(b"closed")


def test_iterating_ends_with_the_connection() -> None:
    with pair() as (one, other):
        for number in range(3):
            one.send(bytes([number]))
        one.qp.disconnect()
        assert list(other) == [b"\0", b"\1", b"\2"]


def test_an_abort_is_no_graceful_end() -> None:  # MPA-5044-8-01
    with pair() as (one, other):
        one.send(b"x")
        one.abort()
        assert other.recv(timeout=PATIENCE) == b"x"
        with pytest.raises(ConnectionLost):
            other.recv(timeout=PATIENCE)


def test_a_violation_reaches_both_programs() -> None:  # RDMAP-5040-3.2-04, -05, RDMAP-5040-6.2.1-01
    with pair() as (one, other):
        one.write(b"x", RemoteRegion(to=0, stag=0x1234_5678, nbytes=8))
        with pytest.raises(InvalidStag):
            other.recv(timeout=PATIENCE)
        with pytest.raises(TerminatedByPeer) as caught:
            one.recv(timeout=PATIENCE)
        assert str(caught.value.term) == "1/1/00"


def test_a_terminate_comes_whole_and_before_the_fin() -> None:  # RDMAP-5040-6.2.1-04, RDMAP-5040-7-03
    """Although octets that nobody read are on their way: they would make a reset of an end in haste."""
    with (
        nothing_left(),
        blocking.listen(HOST, options=Options(linger=PATIENCE)) as listener,
        socket.create_connection((HOST, listener.port), PATIENCE) as raw,
    ):
        raw.settimeout(PATIENCE)
        raw.sendall(b"MPA ID Req Frame\x40\x01\x00\x00")
        with listener.get_request(timeout=PATIENCE).accept() as conn:
            raw.sendall(fpdu(write(5, 0, b"x").octets(0)) + fpdu(write(5, 0, bytes(1000)).octets(0)) * 50)
            with pytest.raises(InvalidStag):
                conn.recv(timeout=PATIENCE)
            heard = b""
            while more := raw.recv(10_000):
                heard += more
            reply, heard = heard[:20], heard[20:]
            ulpdu, size = unframe(heard, 0, markers=False, crc=True)
            assert reply.startswith(b"MPA ID Rep Frame")
            assert (ulpdu[:2], size) == (b"\x41\x47", len(heard)), "a Terminate, and nothing behind it"
            raw.close()


def test_a_terminate_is_read_although_writing_fails() -> None:
    """The peer has said why and reset the connection: the Terminate lies in the socket, the write fails first."""
    with pair(QUICK, QUICK) as (one, other):
        one.write(b"x", RemoteRegion(to=0, stag=0x1234_5678, nbytes=8))
        assert other._llp is not None
        assert one._llp is not None
        deadline = monotonic() + PATIENCE
        while not other._llp.closed and monotonic() < deadline:  # one's socket is not looked at
            other._llp.ready(1)
            if other._llp._sent_fin:
                other._llp.abort()
        assert isinstance(other.close_reason, InvalidStag)
        with pytest.raises(TerminatedByPeer):
            one.send(bytes(100), timeout=PATIENCE)
        assert isinstance(one.close_reason, TerminatedByPeer)


def test_a_silent_peer_ends_with_the_time_limit() -> None:  # MPA-5044-7.1.2-27
    with nothing_left(), socket.create_server((HOST, 0)) as deaf:
        before = monotonic()
        with pytest.raises(StartupTimeout, match=r"MPA Reply did not come within 0\.05 s"):
            blocking.connect(HOST, deaf.getsockname()[1], options=Options(timeout=0.05))
        assert monotonic() - before > 0.04


def test_a_silent_initiator_is_closed() -> None:  # MPA-5044-7.1.2-22
    with (
        nothing_left(),
        blocking.listen(HOST, options=Options(timeout=0.05)) as listener,
        socket.create_connection((HOST, listener.port), PATIENCE) as mute,
    ):
        with pytest.raises(TimeoutError):
            listener.get_request(timeout=0)
        soon(lambda: select.select([mute], [], [], 0)[0])
        assert mute.recv(1) == b""


def test_the_first_fpdu_has_its_time() -> None:
    options = Options(revision=1, first_fpdu_timeout=0.05, linger=0.05)
    with (
        nothing_left(),
        blocking.listen(HOST, options=options) as listener,
        socket.create_connection((HOST, listener.port), PATIENCE) as mute,
    ):
        mute.sendall(b"MPA ID Req Frame\x40\x01\x00\x00")
        with listener.get_request(timeout=PATIENCE).accept() as conn, pytest.raises(StartupTimeout):
            conn.recv(timeout=PATIENCE)


def test_a_closing_side_does_not_wait_for_ever() -> None:
    with pair(Options(linger=0.05)) as (one, other):
        assert other._llp is not None
        other.poller.watch(other._llp, 0)  # it hears nothing any more
        before = monotonic()
        one.close()
        assert monotonic() - before > 0.04
        other._llp.abort()


def test_a_half_closed_peer_is_still_sent_to() -> None:  # DDP-5041-6.2.1-04, DDP-5041-6.2.1-07
    with pair(Options(half_close=True)) as (one, other):
        one.send(b"first")
        assert other.recv(timeout=PATIENCE) == b"first"
        assert other._llp is not None
        other._llp._socket.shutdown(socket.SHUT_WR)
        with pytest.raises(Disconnected, match="its half"):
            one.recv(timeout=PATIENCE)
        one.send(b"still here")
        assert other.recv(timeout=PATIENCE) == b"still here"
        other._llp._sent_fin = True


# --- startup ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", MalformedStartup),
        (b"", ConnectionLost),
        (b"MPA ID Rep Frame\x60\x01\x00\x02no", Rejected),
        (b"MPA ID Rep Frame\x40\x07\x00\x00", VersionMismatch),
    ],
)
def test_replies_that_are_none(reply: bytes, error: type[Exception]) -> None:
    with nothing_left(), socket.create_server((HOST, 0)) as server:
        pd = Context().alloc_pd()
        cq = pd.context.create_cq()
        qp = pd.create_qp(cq, cq)
        connecting = polling_cm.Connecting(
            blocking.poller(), qp, HOST, server.getsockname()[1], Offer(timeout=PATIENCE)
        )
        soon(lambda: connecting.driver)
        server.settimeout(PATIENCE)
        peer, _ = server.accept()
        with peer:
            peer.sendall(reply)
            peer.shutdown(socket.SHUT_WR)
            soon(lambda: connecting.finished)
            assert isinstance(connecting.error, error)
        pd.close(force=True)


def test_nobody_listens() -> None:
    with nothing_left(), closed_port() as port, pytest.raises(ConnectionRefusedError, match=HOST):
        blocking.connect(HOST, port)


def test_tcp_has_its_time_too() -> None:
    with nothing_left(), socket.create_server((HOST, 0), backlog=0) as full:
        port = full.getsockname()[1]
        crowd = [socket.socket() for _ in range(4)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex((HOST, port))
        with pytest.raises(StartupTimeout, match="TCP to"):
            blocking.connect(HOST, port, options=Options(timeout=0.1))
        for each in crowd:
            each.close()


def test_garbage_and_strangers_do_no_harm() -> None:
    """Whatever strangers send, they are closed, and a peer is served."""
    with nothing_left(), blocking.listen(HOST, options=QUICK) as listener:
        strangers = []
        for seed in range(20):
            stranger = socket.create_connection((HOST, listener.port), PATIENCE)
            stranger.sendall(octets(seed * 7, seed))
            if seed % 3 == 0:
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stranger.close()
            strangers.append(stranger)
        with pytest.raises(TimeoutError):
            listener.get_request(timeout=0.05)
        for stranger in strangers:
            stranger.close()


def test_the_backlog_is_bounded() -> None:  # RFC 5042 §6.4
    with nothing_left(), blocking.listen(HOST, backlog=3) as listener:
        crowd = [socket.create_connection((HOST, listener.port), PATIENCE) for _ in range(5)]
        soon(lambda: len(listener._listener._reception._starting) == 3)
        for each in crowd[:2]:  # the oldest that owe their Request
            each.settimeout(PATIENCE)
            with pytest.raises(ConnectionResetError):
                each.recv(1)
        for each in crowd:
            each.close()
        soon(lambda: not listener._listener._reception._starting)


def test_an_initiator_that_left_cannot_be_accepted() -> None:
    with nothing_left(), blocking.listen(HOST) as listener:
        with socket.create_connection((HOST, listener.port), PATIENCE) as peer:
            peer.sendall(b"MPA ID Req Frame\x40\x01\x00\x00")
            request = listener.get_request(timeout=PATIENCE)
        soon(lambda: "failed" in repr(request))
        with pytest.raises(ConnectionLost, match="left before"):
            request.accept()


# --- octets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_any_segmentation_will_do(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # MPA-5044-5.1-05, MPA-5044-A.4-01
    """The kernel takes and gives no more than `size` octets at a time."""
    with pair(Options(mulpdu=200), Options(mulpdu=200)) as (one, other):
        for conn in (one, other):
            llp = conn._llp
            assert llp is not None
            monkeypatch.setattr(llp, "_recv_into", lambda view, sock=llp._socket: sock.recv_into(view[:size]))
            monkeypatch.setattr(
                llp, "_sendmsg", lambda iov, sock=llp._socket: sock.send(b"".join(map(bytes, iov))[:size])
            )
        converse(one, other, 500)


def test_a_flood_of_garbage_is_one_violation() -> None:
    with pair(QUICK, QUICK) as (one, other):
        assert one._llp is not None
        one.send(b"fine")
        assert other.recv(timeout=PATIENCE) == b"fine"
        one._llp._socket.send(b"\0\x40" + octets(200))
        with pytest.raises(ProtocolViolation) as caught:
            other.recv(timeout=PATIENCE)
        assert other.close_reason is caught.value
        assert not other.qp.alive


# --- verbs -----------------------------------------------------------------------------------------------------------


def verbs() -> tuple[ProtectionDomain, CompletionQueue, QueuePair]:
    pd = Context().alloc_pd()
    cq = pd.context.create_cq()
    return pd, cq, pd.create_qp(cq, cq)


def joined(left: QueuePair, right: QueuePair) -> None:
    listener = polling_cm.Listener(blocking.poller(), HOST, 0)
    connecting = polling_cm.Connecting(blocking.poller(), left, HOST, listener.port)
    request = listener.get_request(PATIENCE)
    assert request is not None
    polling_cm.accept(request, right)
    soon(lambda: connecting.finished)
    assert connecting.error is None
    listener.close()


def test_polling_the_completion_queue_is_all_it_takes() -> None:
    (left_pd, left_cq, left), (right_pd, right_cq, right) = verbs(), verbs()
    with nothing_left():
        memory, sink = bytearray(64), bytearray(64)
        target = right_pd.register(memory, BOTH_WAYS)
        local = left_pd.register(sink)
        right.post_recv(Recv((target[0:32], target[32:64]), wr_id="r"))
        joined(left, right)
        left.post_send(Send((), "s", b"x" * 40))
        got: list[object] = []
        deadline = monotonic() + PATIENCE
        while "r" not in got and monotonic() < deadline:
            got += [completion.wr_id for completion in right_cq.poll()]
        assert got == ["r"]
        left.post_send(Read(local[0:40], target[0:40].remote(), "read"))
        (sent, read) = blocking.wait(left_cq, 2, PATIENCE)
        assert (sent.wr_id, read.wr_id, read.status) == ("s", "read", Status.SUCCESS)
        assert bytes(sink[:40]) == b"x" * 40
        assert blocking.wait(left_cq, 1, 0.01) == [], "nothing else was posted"
        left_pd.close(force=True)
        right_pd.close(force=True)


def test_what_is_posted_is_sent_within_the_call() -> None:
    """No poll is needed for octets to leave."""
    (left_pd, left_cq, left), (right_pd, _, right) = verbs(), verbs()
    with nothing_left():
        joined(left, right)
        before = left.stream.fpdus_sent
        left.post_send(Send((), "s", b"now"))
        assert left.stream.fpdus_sent == before + 1
        assert len(left_cq) == 1, "and it is complete"
        left_pd.close(force=True)
        right_pd.close(force=True)


def test_work_posted_from_a_callback_goes_out_too() -> None:
    """A completion's callback posts the next request: the driver is at work, and sees it before it is done."""
    (left_pd, left_cq, left), (right_pd, right_cq, right) = verbs(), verbs()
    with nothing_left():
        region = right_pd.register(bytearray(64))
        for number in range(20):
            right.post_recv(Recv((region[0:1],), number))
        joined(left, right)
        left_numbers = iter(range(1, 20))

        def again() -> None:
            assert left_cq.poll()
            for number in left_numbers:
                left_cq.arm(again)
                left.post_send(Send((), number, bytes([number])))
                return

        left_cq.arm(again)
        left.post_send(Send((), 0, b"\0"))
        assert len(blocking.wait(right_cq, 20, PATIENCE)) == 20
        left_pd.close(force=True)
        right_pd.close(force=True)


def test_flushed_when_the_connection_goes() -> None:
    (left_pd, _, left), (right_pd, right_cq, right) = verbs(), verbs()
    with nothing_left():
        region = right_pd.register(bytearray(64))
        right.post_recv(Recv((region[:],), "r"))
        joined(left, right)
        left.close()
        (completion,) = blocking.wait(right_cq, 1, PATIENCE)
        assert (completion.wr_id, completion.status) == ("r", Status.WR_FLUSH_ERR)
        with pytest.raises(Closed):
            left.post_send(Send((), "late", b"x"))
        left_pd.close(force=True)
        right_pd.close(force=True)


def test_queue_pairs_of_two_programs() -> None:
    """`connect_qp` on one side, `accept_qp` on the other: no Connection on either."""

    def answer(port_known: Callable[[int], None]) -> None:
        pd, cq, qp = verbs()
        region = pd.register(bytearray(8))
        qp.post_recv(Recv((region[:],), "asked"))
        with blocking.listen(HOST) as listener:
            port_known(listener.port)
            llp = listener.get_request(timeout=PATIENCE).accept_qp(qp, Offer(private_data=b"welcome"))
        (asked,) = blocking.wait(cq, 1, PATIENCE)
        qp.post_send(Send((), "answer", bytes(region.view[: asked.nbytes]).upper()))
        assert blocking.wait_until(lambda: llp.closed, PATIENCE)
        pd.close(force=True)

    ports: list[int] = []
    with nothing_left(), Peer(answer, ports.append):
        soon(lambda: ports)
        pd, cq, qp = verbs()
        region = pd.register(bytearray(8))
        qp.post_recv(Recv((region[:],), "answered"))
        llp = blocking.connect_qp(qp, HOST, ports[0])
        assert qp.stream.agreement.private_data == b"welcome"
        qp.post_send(Send((), "asked", b"hello"))
        completions = blocking.wait(cq, 2, PATIENCE)
        assert [(each.wr_id, each.status) for each in completions] == [
            ("asked", Status.SUCCESS),
            ("answered", Status.SUCCESS),
        ]
        assert bytes(region.view[:5]) == b"HELLO"
        qp.disconnect()
        assert blocking.wait_until(lambda: llp.closed, PATIENCE)
        pd.close(force=True)


def test_queue_pairs_that_cannot_be_connected() -> None:
    (left_pd, _, left), (right_pd, _, right) = verbs(), verbs()
    with nothing_left():
        joined(left, right)
        with pytest.raises(WrongState, match="IDLE"):
            blocking.connect_qp(left, HOST, 1)
        left_pd.close(force=True)
        right_pd.close(force=True)


def test_a_full_send_queue_is_waited_for() -> None:
    with pair(Options(send_depth=2)) as (one, other), other.register(bytearray(4 << 20), BOTH_WAYS) as target:
        hold_little(one, other)
        remote = exchange_advertisement(target, other, one)
        with one.register(bytes(4 << 20), Access(0)) as source:
            for _ in range(2):
                one.qp.post_send(Write((source[:],), remote, _Outcome()))
            assert one.qp.send_room == 0
            with pytest.raises(QueueFull):
                one.qp.post_send(Write((source[:],), remote, _Outcome()))
            with pytest.raises(TimeoutError, match="send queue stayed full"):
                one.send(b"x", timeout=0)
            one.send(b"behind", timeout=PATIENCE)
            assert other.recv(timeout=PATIENCE) == b"behind"


def test_time_limits_of_waiting() -> None:
    poller = blocking.poller()
    before = monotonic()
    assert not poller.wait(lambda: False, 0.02)
    assert monotonic() - before > 0.019
    assert poller.wait(lambda: True, 0)
    calls: list[int] = []
    assert not poller.wait(lambda: calls.append(1), 0)
    assert len(calls) >= 1
