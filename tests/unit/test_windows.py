"""Memory windows: narrower, revocable views of regions with STags of their own (RFC 5040 §3.2, RFC 5042 §6)."""

from __future__ import annotations

import pytest

from pyiwarp.errors import (
    BadWorkRequest,
    BaseOrBounds,
    CannotInvalidate,
    Closed,
    InvalidStag,
    NoWriteRight,
    ReadAccessRights,
    ReadInvalidStag,
    RegionInUse,
    StagNotAssociated,
    WorkRequestRefused,
    WrongState,
)
from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.verbs import (
    BindMw,
    FetchAdd,
    LocalInvalidate,
    MemoryWindow,
    QpState,
    QueuePair,
    Read,
    RegMr,
    Send,
    Status,
    WindowType,
    WorkOpcode,
    Write,
)
from tests.harness import Node, Pair, agreed, ended, octets_of

BINDABLE = Access.LOCAL_WRITE | Access.WINDOW_BIND
ALL = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC
TYPES_2 = (WindowType.TYPE_2A, WindowType.TYPE_2B)


def bound(
    node: Node, region: MemoryRegion, start: int, stop: int, access: Access = ALL, kind: WindowType = WindowType.TYPE_2B
) -> MemoryWindow:
    window = node.pd.alloc_window(kind)
    if kind is WindowType.TYPE_1:
        window.bind(node.qp, region[start:stop], access, wr_id="bind")
    else:
        node.post(BindMw(window, region[start:stop], access, wr_id="bind"))
    (completion,) = node.sent()
    assert (completion.wr_id, completion.status, completion.opcode) == ("bind", Status.SUCCESS, WorkOpcode.BIND_MW)
    return window


# --- reaching memory through a window --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WindowType)
def test_a_window_shows_some_octets_of_a_region(kind: WindowType) -> None:  # DDP-5041-7.1-12, SEC-5042-6.3.4-01
    pair = Pair()
    region = pair.right.region(b"0123456789" * 2, BINDABLE)
    window = bound(pair.right, region, 8, 16, kind=kind)
    assert (window.to, window.nbytes, window.is_bound) == (region.to + 8, 8, True)
    assert window.stag != region.stag
    assert bytes(window.binding.view) == b"89012345"
    assert repr(window.binding).startswith(f"<Binding of a window STag={window.stag:#010x} TO={window.to:#x} 8 octets")
    assert repr(window).startswith(f"<MemoryWindow {kind.value} STag={window.stag:#010x} TO={window.to:#x} 8 octets")
    assert RemoteRegion.parse(window.advertise()) == window.remote() == RemoteRegion(window.to, window.stag, 8)
    sink = pair.left.region(8)
    pair.left.post(Write(inline=b"ab", remote=window.remote().at(1)), Read(sink[:], window.remote(), "read"))
    pair.run()
    assert octets_of(sink) == b"8ab12345"
    assert octets_of(region) == b"012345678ab123456789"
    assert pair.left.qp.state is QpState.RTS


REFUSED = {
    "behind it": (ALL, 8, 1, BaseOrBounds),
    "in front of it": (ALL, -1, 1, BaseOrBounds),
    "over its end": (ALL, 7, 2, BaseOrBounds),
    "without the right": (Access.REMOTE_READ, 0, 1, NoWriteRight),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_window_does_not_show(case: str) -> None:  # DDP-5041-7.1-11, DDP-5041-7.1-12, DDP-5041-7.1-13
    access, offset, nbytes, error = REFUSED[case]
    pair = Pair()
    region = pair.right.region(24, BINDABLE | ALL)  # the region itself would allow it
    window = bound(pair.right, region, 8, 16, access)
    pair.left.post(Write(inline=b"xx"[:nbytes], remote=RemoteRegion(window.to + offset, window.stag, nbytes)))
    pair.run()
    assert type(pair.right.qp.error) is error
    assert octets_of(region) == bytes(24)


def test_a_window_may_grant_what_its_region_does_not() -> None:  # RDMAP-5040-7.2-14
    pair = Pair()
    region = pair.right.region(b"a secret", BINDABLE)
    window = bound(pair.right, region, 0, 8, Access.REMOTE_READ)
    sink = pair.left.region(8)
    pair.left.post(Read(sink[:], window.remote()))
    pair.run()
    assert octets_of(sink) == b"a secret"
    pair.left.post(Read(sink[:], region[:].remote()))
    pair.run()
    assert isinstance(pair.right.qp.error, ReadAccessRights)


def test_a_zero_based_window() -> None:
    pair = Pair()
    region = pair.right.region(16, BINDABLE)
    window = bound(pair.right, region, 8, 16, ALL | Access.ZERO_BASED)
    assert window.to == 0
    pair.left.post(Write(inline=b"x", remote=RemoteRegion(3, window.stag, 1)))
    pair.run()
    assert octets_of(region) == bytes(11) + b"x" + bytes(4)


def test_atomics_are_aligned_as_the_memory_is() -> None:  # EXT-7306-5.2.1-07
    pair = Pair()
    region = pair.right.region(32, BINDABLE)
    window = bound(pair.right, region, 4, 24, ALL | Access.ZERO_BASED)
    pair.left.post(FetchAdd(RemoteRegion(4, window.stag, 8), 7))
    pair.run()
    assert [completion.value for completion in pair.left.sent()] == [0]
    assert octets_of(region).count(7) == 1
    pair.left.post(FetchAdd(RemoteRegion(0, window.stag, 8), 7))
    pair.run()
    assert "multiple of 8" in str(pair.right.qp.error)


def test_a_window_onto_memory_in_pieces() -> None:
    pair = Pair()
    buffers = [bytearray(4), bytearray(4), bytearray(4)]
    region = pair.right.pd.alloc_stag()
    pair.right.post(RegMr(region, buffers, BINDABLE))
    window = pair.right.pd.alloc_window()
    pair.right.post(BindMw(window, region[2:11], ALL))
    sink = pair.left.region(9)
    pair.left.post(Write(inline=b"123456789", remote=window.remote()), Read(sink[:], window.remote()))
    pair.run()
    assert buffers == [b"\0\x0012", b"3456", b"789\0"]
    assert octets_of(sink) == b"123456789"
    with pytest.raises(RegionInUse, match="1 windows"):
        pair.right.post(LocalInvalidate(region))


# --- binding ---------------------------------------------------------------------------------------------------------


def test_type_1_is_bound_anew_and_to_nothing() -> None:  # DDP-5041-7.1-10
    pair = Pair()
    node, region = pair.right, pair.right.region(16, BINDABLE)
    window = bound(node, region, 0, 8, kind=WindowType.TYPE_1)
    first = window.remote()
    window.bind(node.qp, region[8:], ALL)
    assert window.stag >> 8 == first.stag >> 8
    assert window.stag != first.stag
    pair.left.post(Write(inline=b"now", remote=window.remote()))
    pair.run()
    assert octets_of(region)[8:11] == b"now"
    assert region.windows == 1
    window.bind(node.qp, region[3:3])
    assert (window.is_bound, window.nbytes, region.windows) == (False, 0, 0)
    with pytest.raises(Closed, match="not bound"):
        window.advertise()
    window.bind(node.qp, None)
    pair.left.post(Write(inline=b"late", remote=first))
    pair.run()
    assert isinstance(pair.right.qp.error, InvalidStag)


def test_type_1_serves_every_queue_pair_of_its_protection_domain() -> None:  # SEC-5041-8.3.1-03
    pair = Pair()
    region = pair.right.region(8, BINDABLE)
    window = bound(pair.right, region, 0, 8, kind=WindowType.TYPE_1)
    scope: object = window.binding.scope
    assert scope is pair.right.pd
    assert pair.right.context.stags.sink(window.stag, window.to, 1, pair.right.pd, stream=Node().qp) is not None
    own = pair.right.pd.register(bytearray(8), BINDABLE, qp=pair.right.qp)
    window.bind(pair.right.qp, own[:], ALL)
    assert window.binding.scope is pair.right.qp, "no wider than the region"


@pytest.mark.parametrize("kind", TYPES_2)
def test_type_2_serves_the_queue_pair_that_bound_it(kind: WindowType) -> None:
    # DDP-5041-8.2-02, SEC-5041-8.3.1-03, SEC-5042-6.1.1-03
    pair = Pair()
    window = bound(pair.right, pair.right.region(8, BINDABLE), 0, 8, kind=kind)
    stags = pair.right.context.stags
    stags.sink(window.stag, window.to, 1, pair.right.pd, stream=pair.right.qp)
    with pytest.raises(StagNotAssociated):
        stags.sink(window.stag, window.to, 1, pair.right.pd, stream=Node().qp)


@pytest.mark.parametrize("kind", TYPES_2)
def test_type_2_has_the_key_that_was_chosen(kind: WindowType) -> None:
    node = Pair().left
    region = node.region(8, BINDABLE)
    window = node.pd.alloc_window(kind)
    index = window.stag >> 8
    for key in (5, None, 0xFF, None):
        before = window.stag
        node.post(BindMw(window, region[:], key=key))
        assert window.stag >> 8 == index
        if key is None:
            assert window.stag != before, "another key, whichever"
        else:
            assert window.stag & 0xFF == key
        with pytest.raises(WrongState, match="invalidate it first"):
            node.post(BindMw(window, region[:]))
        node.post(LocalInvalidate(window))
        assert not window.is_bound


def bad_requests(node: Node, other: Node) -> dict[str, tuple[BindMw, type[Exception], str]]:
    region, plain = node.region(8, BINDABLE), node.region(8)
    readable = node.pd.register(b"constant", Access.WINDOW_BIND)
    closed = node.region(8, BINDABLE)
    gone = closed[:]
    closed.close()
    second = node.pd.create_qp(node.send_cq, node.recv_cq)
    theirs = node.pd.register(bytearray(8), BINDABLE, qp=second)
    one, two = node.pd.alloc_window(WindowType.TYPE_1), node.pd.alloc_window()
    shut = node.pd.alloc_window()
    shut.close()
    onto = bound(node, region, 0, 4)
    far = region[:]._replace(offset=4)
    return {
        "no WINDOW_BIND": (BindMw(two, plain[:]), BadWorkRequest, "WINDOW_BIND"),
        "local rights": (BindMw(two, region[:], Access.LOCAL_WRITE), BadWorkRequest, "cannot grant"),
        "zero based type 1": (BindMw(one, region[:], Access.ZERO_BASED), BadWorkRequest, "cannot grant"),
        "a key for type 1": (BindMw(one, region[:], key=3), BadWorkRequest, "keys itself"),
        "a key of nine bits": (BindMw(two, region[:], key=256), BadWorkRequest, "8 bits"),
        "type 2 to nothing": (BindMw(two, None), BadWorkRequest, "LocalInvalidate"),
        "type 2 to no octets": (BindMw(two, region[2:2]), BadWorkRequest, "LocalInvalidate"),
        "writing what is read-only": (BindMw(two, readable[:], Access.REMOTE_WRITE), BadWorkRequest, "LOCAL_WRITE"),
        "Atomics on what is read-only": (BindMw(two, readable[:], Access.REMOTE_ATOMIC), BadWorkRequest, "LOCAL_WRITE"),
        "outside the region": (BindMw(two, far), BadWorkRequest, "lie outside"),
        "a closed region": (BindMw(two, gone), Closed, "closed or invalidated"),
        "a closed window": (BindMw(shut, region[:]), Closed, "closed"),
        "a window onto a window": (BindMw(two, onto.binding[:]), BadWorkRequest, "not to another window"),
        "another queue pair's region": (BindMw(two, theirs[:]), BadWorkRequest, "another queue pair"),
        "another domain's region": (BindMw(two, other.region(8, BINDABLE)[:]), BadWorkRequest, "protection domain"),
        "another domain's window": (BindMw(other.pd.alloc_window(), region[:]), BadWorkRequest, "protection domain"),
    }


@pytest.mark.parametrize("case", bad_requests(Pair().left, Node()))
def test_what_cannot_be_bound(case: str) -> None:  # SEC-5041-8.3.2-05, SEC-5042-2.2.2-01, SEC-5042-7.3-01
    pair = Pair()
    request, error, message = bad_requests(pair.left, pair.right)[case]
    with pytest.raises(error, match=message):
        pair.left.post(request)
    assert pair.left.sent() == [], "nothing was posted"
    assert request.sge is None or len([w for w in pair.left.pd.windows if w.is_bound]) == 1


def test_only_type_1_is_bound_by_a_call() -> None:
    node = Pair().left
    region = node.region(8, BINDABLE)
    for kind in TYPES_2:
        with pytest.raises(BadWorkRequest, match="post a BindMw"):
            node.pd.alloc_window(kind).bind(node.qp, region[:])


# --- taking it back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES_2)
def test_a_local_invalidate(kind: WindowType) -> None:  # SEC-5042-6.2.2-02
    pair = Pair()
    region = pair.right.region(8, BINDABLE)
    window = bound(pair.right, region, 0, 8, kind=kind)
    remote = window.remote()
    pair.right.post(LocalInvalidate(window.stag, "inv"))
    assert ended(pair.right.sent()) == [("inv", Status.SUCCESS)]
    assert (window.is_bound, region.windows, region.is_open) == (False, 0, True)
    with pytest.raises(Closed, match="no memory"):
        pair.right.post(LocalInvalidate(window))
    pair.left.post(Write(inline=b"x", remote=remote))
    pair.run()
    assert isinstance(pair.right.qp.error, InvalidStag)


def test_the_peer_s_send_with_invalidate() -> None:  # RDMAP-5040-5.3-14
    pair = Pair()
    region = pair.right.region(8, BINDABLE)
    window = bound(pair.right, region, 0, 8)
    pair.right.receive()
    pair.left.post(Send(inline=b"done", inval_stag=window.stag))
    pair.run()
    assert pair.right.received()[0].inval_stag == window.stag
    assert (window.is_bound, region.is_open, region.windows) == (False, True, 0)
    pair.right.post(BindMw(window, region[4:], ALL))
    pair.left.post(Write(inline=b"more", remote=window.remote()))
    pair.run()
    assert octets_of(region) == b"\0\0\0\0more"


@pytest.mark.parametrize("what", ["window of type 1", "region with a window"])
def test_what_the_peer_cannot_invalidate(what: str) -> None:  # RDMAP-5040-5.3-15
    pair = Pair()
    region = pair.right.region(8, BINDABLE | ALL)
    window = bound(pair.right, region, 0, 8, kind=WindowType.TYPE_1)
    pair.right.receive()
    pair.left.post(Send(inline=b"", inval_stag=window.stag if what == "window of type 1" else region.stag))
    pair.run()
    assert isinstance(pair.right.qp.error, CannotInvalidate)
    assert (window.is_bound, region.is_open) == (True, True)


def second_queue_pair(node: Node) -> QueuePair:
    second = node.pd.create_qp(node.send_cq, node.recv_cq)
    second.connect(agreed())
    return second


def test_who_may_invalidate() -> None:
    node = Pair().left
    region = node.region(8, BINDABLE)
    second = second_queue_pair(node)
    first = bound(node, region, 0, 8, kind=WindowType.TYPE_1)
    with pytest.raises(BadWorkRequest, match="binding it to nothing"):
        node.post(LocalInvalidate(first))
    of_one = bound(node, region, 0, 8, kind=WindowType.TYPE_2B)
    with pytest.raises(BadWorkRequest, match="only the queue pair that bound the window"):
        second.post_send(LocalInvalidate(of_one))
    of_all = bound(node, region, 0, 8, kind=WindowType.TYPE_2A)
    second.post_send(LocalInvalidate(of_all))
    assert [window.is_bound for window in (first, of_one, of_all)] == [True, True, False]


def test_a_region_does_not_close_while_windows_are_bound() -> None:
    node = Pair().left
    region = node.region(8, BINDABLE)
    windows = [bound(node, region, 0, 8) for _ in range(2)]
    for attempt in (region.close, region.reregister, lambda: node.post(LocalInvalidate(region))):
        with pytest.raises(RegionInUse, match="2 windows are bound"):
            attempt()
    windows[0].close()
    with windows[1]:
        pass
    windows[1].close()
    assert node.pd.windows == []
    assert repr(windows[0]).endswith(" closed>")
    region.close()


@pytest.mark.parametrize("kind", WindowType)
def test_a_closed_window_shows_nothing(kind: WindowType) -> None:  # SEC-5042-6.2.2-02
    pair = Pair()
    region = pair.right.region(8, BINDABLE)
    window = bound(pair.right, region, 0, 8, kind=kind)
    remote = window.remote()
    window.close()
    pair.left.post(Write(inline=b"x", remote=remote))
    pair.run()
    assert isinstance(pair.right.qp.error, InvalidStag)
    assert octets_of(region) == bytes(8)


def test_a_retired_region_shuts_its_windows() -> None:  # SEC-5042-6.2.2-02, SEC-5041-8.3.1-07
    pair = Pair()
    region = pair.right.region(8, BINDABLE)
    window = bound(pair.right, region, 0, 8)
    remote, released = window.remote(), list[bool]()
    region.retire(lambda: released.append(True))
    assert released == [True]
    assert not window.is_bound
    pair.left.post(Write(inline=b"x", remote=remote))
    pair.run()
    assert isinstance(pair.right.qp.error, InvalidStag)


def test_a_protection_domain_does_not_close_over_windows() -> None:
    node = Node()
    node.qp.close()
    window = node.pd.alloc_window()
    assert repr(node.pd) == "<ProtectionDomain 0 regions 1 windows 0 queue pairs>"
    with pytest.raises(RegionInUse, match="windows"):
        node.pd.close()
    node.pd.close(force=True)
    assert not window.is_open
    with pytest.raises(Closed):
        node.pd.alloc_window()


def test_everything_goes_with_the_context() -> None:
    pair = Pair()
    region = pair.right.region(8, BINDABLE)
    window = bound(pair.right, region, 0, 8)
    pair.right.context.close()
    assert (window.is_open, region.is_open, len(pair.right.context.stags)) == (False, False, 0)


def test_work_through_a_window_pins_the_region() -> None:  # RDMAP-5040-7.2-09
    pair = Pair()
    region = pair.right.region(1 << 20, BINDABLE)
    window = bound(pair.right, region, 0, 1 << 20)
    sink = pair.left.region(1 << 20)
    pair.right_end.clogged = True
    pair.left.post(Read(sink[:], window.remote()))
    pair.run()
    assert (region.pins, window.binding.pins) == (1, 1)
    window.close()
    assert region.windows == 1, "the answer's memory is still held"
    pair.right_end.clogged = False
    pair.run()
    assert isinstance(pair.right.qp.error, ReadInvalidStag), "the rest of the answer is refused"
    assert (region.pins, region.windows) == (0, 0)
    region.close()


# --- in the send queue -----------------------------------------------------------------------------------------------


def fenced(node: Node, peer: Node) -> None:
    """Hold the send queue for what has a fence."""
    node.post(Read(node.region(4)[:], peer.region(4)[:].remote(), "read"))


def test_a_bind_that_a_fence_holds_and_its_advertisement() -> None:  # RDMAP-5040-5.5-10
    pair = Pair()
    region, window = pair.left.region(8, BINDABLE), pair.left.pd.alloc_window()
    fenced(pair.left, pair.right)
    pair.left.post(BindMw(window, region[2:6], ALL, fence=True, wr_id="bind"))
    pair.left.post(Send(inline=window.advertise(), wr_id="send"))
    assert pair.left.context.stags.get(window.stag) is None, "not for peers before its turn"
    for attempt in (region.close, window.close):
        with pytest.raises(RegionInUse):
            attempt()
    received = pair.right.receive(16)
    pair.run()
    assert ended(pair.left.sent()) == [(name, Status.SUCCESS) for name in ("read", "bind", "send")]
    pair.right.post(Write(inline=b"here", remote=RemoteRegion.parse(received.view)))
    pair.run()
    assert octets_of(region) == b"\0\0here\0\0"


def test_a_bind_that_is_done_and_not_complete_keeps_the_window_open() -> None:
    pair = Pair()
    region, window = pair.left.region(8, BINDABLE), pair.left.pd.alloc_window()
    fenced(pair.left, pair.right)
    pair.left.post(BindMw(window, region[2:6], ALL, wr_id="bind"))  # it waits for no fence, only for its completion
    assert pair.left.context.stags.get(window.stag) is not None
    with pytest.raises(RegionInUse, match="not complete"):
        window.close()
    assert window.is_bound
    pair.run()
    assert ended(pair.left.sent()) == [(name, Status.SUCCESS) for name in ("read", "bind")]
    window.close()


def test_a_bind_whose_region_goes_while_it_is_held_fails() -> None:
    pair = Pair()
    region, window = pair.left.region(8, BINDABLE), pair.left.pd.alloc_window()
    fenced(pair.left, pair.right)
    pair.left.post(BindMw(window, region[:], ALL, fence=True, wr_id="bind"), Send(inline=b"", wr_id="send"))
    stag = window.stag
    region.retire()
    pair.run()
    completions = pair.left.sent()
    assert ended(completions) == [
        ("read", Status.SUCCESS),
        ("bind", Status.MW_BIND_ERR),
        ("send", Status.WR_FLUSH_ERR),
    ]
    assert isinstance(completions[1].error, WorkRequestRefused)
    assert pair.left.qp.state is QpState.ERROR
    assert pair.left.context.stags.get(stag) is None
    assert not window.is_bound
    window.close()


def test_a_bind_that_is_flushed_changes_nothing() -> None:  # RDMAP-5040-6.2.1-02
    pair = Pair()
    region = pair.left.region(8, BINDABLE)
    fresh = pair.left.pd.alloc_window()
    one = bound(pair.left, region, 0, 4, kind=WindowType.TYPE_1)
    two = bound(pair.left, region, 4, 8)
    stags = [window.stag for window in (fresh, one, two)]
    fenced(pair.left, pair.right)
    pair.left.post(BindMw(fresh, region[:], fence=True), LocalInvalidate(two), BindMw(one, None))
    one.bind(pair.left.qp, region[1:3])
    assert [window.is_bound for window in (fresh, one, two)] == [True, True, False]
    pair.left_end.lose()
    assert [window.is_bound for window in (fresh, one, two)] == [False, True, True]
    assert [window.stag for window in (fresh, one, two)] == stags
    assert (one.nbytes, region.windows) == (4, 2)
    for window in (fresh, one, two):
        window.close()
    region.close()


def test_the_old_binding_stands_until_the_new_one_s_turn() -> None:
    pair = Pair()
    region = pair.left.region(8, BINDABLE)
    window = bound(pair.left, region, 0, 4, kind=WindowType.TYPE_1)
    old = window.stag
    fenced(pair.left, pair.right)
    window.bind(pair.left.qp, region[4:], fence=True)
    assert pair.left.context.stags.get(old) is not None
    pair.run()
    assert pair.left.context.stags.get(old) is None
    assert pair.left.context.stags.get(window.stag) is window.binding
