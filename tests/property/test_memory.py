"""Regions, windows and fast registration at random: whatever is posted, in whatever order, nothing is left over."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pyiwarp.errors import UsageError
from pyiwarp.mr import Access
from pyiwarp.verbs import BindMw, LocalInvalidate, Read, Recv, RegMr, Send, Status, WindowType, Write
from tests.harness import REMOTE, Pair

BINDABLE = REMOTE | Access.WINDOW_BIND

ACTIONS = (
    *("reg", "reg", "reg2", "inv", "inv-window", "inv-plain", "bind", "bind", "bind1", "unbind1"),
    *("read", "read-inv", "send", "write", "peer-inv", "run", "run", "step", "clog", "close", "lose"),
)

steps = st.lists(st.tuples(st.sampled_from(ACTIONS), st.booleans(), st.integers(0, 1)), max_size=40)


class Scene:
    """One side with a region of each kind, and what was posted there."""

    def __init__(self) -> None:
        self.pair = Pair()
        self.node = self.pair.left
        self.far = self.pair.right.region(64)
        self.buffers = [bytearray(range(32)) for _ in range(3)]
        self.plain = [self.node.pd.register(self.buffers[0], BINDABLE, qp=self.node.qp), self.node.region(32, BINDABLE)]
        self.fast = [self.node.pd.alloc_stag(qp=self.node.qp), self.node.pd.alloc_stag()]
        self.windows = [self.node.pd.alloc_window(kind) for kind in (WindowType.TYPE_2A, WindowType.TYPE_2B)]
        self.first = self.node.pd.alloc_window(WindowType.TYPE_1)
        self.posted: list[object] = []
        self.numbers = itertools.count()

    def post(self, make: Any) -> None:
        number = next(self.numbers)
        self.node.post(make(number))
        self.posted.append(number)

    def take(self, name: str, fence: bool, which: int) -> None:
        fast, window, plain = self.fast[which], self.windows[which], self.plain[which]
        remote, qp = self.far[:32].remote(), self.node.qp
        actions: dict[str, Any] = {
            "reg": lambda: self.post(lambda n: RegMr(fast, self.buffers[1], BINDABLE, wr_id=n, fence=fence)),
            "reg2": lambda: self.post(lambda n: RegMr(fast, self.buffers[1:], BINDABLE, wr_id=n, fence=fence)),
            "inv": lambda: self.post(lambda n: LocalInvalidate(fast, n, fence=fence)),
            "inv-window": lambda: self.post(lambda n: LocalInvalidate(window.stag, n, fence=fence)),
            "inv-plain": lambda: self.post(lambda n: LocalInvalidate(plain, n, fence=fence)),
            "bind": lambda: self.post(lambda n: BindMw(window, (fast if fence else plain)[:9], wr_id=n, fence=fence)),
            "bind1": lambda: self.post(lambda n: BindMw(self.first, fast[4:], wr_id=n, fence=fence)),
            "unbind1": lambda: self.post(lambda n: BindMw(self.first, None, wr_id=n)),
            "read": lambda: self.post(lambda n: Read(fast[:8], remote, n, fence=fence)),
            "read-inv": lambda: self.post(lambda n: Read(plain[:8], remote, n, invalidate_sink=True)),
            "send": lambda: self.post(lambda n: Send((fast[:3], plain[:3]), n, fence=fence)),
            "write": lambda: self.post(lambda n: Write((fast[:3],), remote, n)),
            "peer-inv": self.peer_invalidates,
            "run": self.pair.run,
            "step": self.pair.step,
            "clog": lambda: setattr(self.pair.left_end, "clogged", fence),
            "close": (window if fence else fast).close,
            "lose": lambda: self.pair.left_end.lose() if qp.alive and fence else None,
        }
        actions[name]()

    def peer_invalidates(self) -> None:
        stag = self.windows[1].stag if self.windows[1].is_bound else self.fast[0].stag
        self.node.qp.post_recv(Recv((), "recv"))
        self.pair.right.post(Send(inline=b"", inval_stag=stag))


@settings(max_examples=200, deadline=None)
@given(steps)
def test_every_request_completes_once_and_all_memory_is_let_go(script: list[tuple[str, bool, int]]) -> None:
    scene = Scene()
    for number in range(40):
        scene.pair.right.qp.post_recv(Recv((), number))
    for name, fence, which in script:
        with contextlib.suppress(UsageError):
            scene.take(name, fence, which)
    scene.pair.left_end.clogged = False
    scene.pair.run()
    scene.node.qp.close()
    completions = scene.node.sent()
    assert [completion.wr_id for completion in completions] == scene.posted, "each once, in order"
    statuses = [completion.status for completion in completions]
    refused = {Status.MW_BIND_ERR, Status.REM_ACCESS_ERR, Status.REM_INV_REQ_ERR, Status.REM_OP_ERR}
    assert set(statuses) <= {Status.SUCCESS, Status.WR_FLUSH_ERR, *refused}
    failed = [status is not Status.SUCCESS for status in statuses]
    assert failed == sorted(failed), "nothing succeeds behind what failed"
    for handle in (*scene.windows, scene.first, *scene.fast):
        assert handle.incomplete_changes == 0
        handle.close()
    for region in scene.plain:
        assert (region.pins, region.windows) == (0, 0)
        region.close()
    assert len(scene.node.context.stags) == 0
    for buffer in scene.buffers:
        buffer.clear()  # nothing holds any of them
