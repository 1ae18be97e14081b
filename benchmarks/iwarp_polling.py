"""pyiwarp without an event loop: polling a completion queue also serves the sockets, without sleeping."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from benchmarks.lanes import COUNT, END, SECONDS, Lane, depth_of, memory_of, options_of
from benchmarks.pairs import HOST, Job, Sample
from benchmarks.posting import post_all
from benchmarks.timing import back_and_forth, now
from pyiwarp.cm import polling_cm
from pyiwarp.drivers.poller import Poller
from pyiwarp.errors import Disconnected
from pyiwarp.verbs import Completion, Context, ProtectionDomain, QpCap, Recv, Send

__all__ = ["latency_client", "latency_server", "stream_client", "stream_server"]

PATIENCE = 20.0


class PolledLane(Lane):
    """A lane whose completions are polled for."""

    def __init__(self, pd: ProtectionDomain, job: Job, memory: bytearray) -> None:
        depth = depth_of(job)
        self.send_cq, self.recv_cq = pd.context.create_cq(depth + 1), pd.context.create_cq(depth + 1)
        qp = pd.create_qp(
            self.send_cq,
            self.recv_cq,
            QpCap(max_send_wr=depth, max_recv_wr=depth + 1),  # a client throws before it has caught
            pause_when_starved=True,
            mulpdu=job.mulpdu,
        )
        super().__init__(pd, qp, job, memory)
        self._heard: deque[bytes] = deque()

    def take(self) -> None:
        """Take what has come: control messages are kept, data is forgotten."""
        self._heard.extend(self.control_in(self.recv_cq.poll()))

    def tell(self, octets: bytes) -> None:
        """Send a control message."""
        self.post_control(octets)
        while not self.sent():
            self.take()

    def hear(self) -> bytes:
        """The peer's next control message."""
        while not self._heard:
            self.take()
            self.check_alive()
        return self._heard.popleft()

    def sent(self) -> list[Completion]:
        """Completions of the send queue; raises why a work request failed."""
        done = self.send_cq.poll()
        for completion in done:
            if not completion.ok:
                raise completion.error or RuntimeError(f"a work request failed: {completion}")
        return done

    def check_alive(self) -> None:
        """Raises why the connection has ended, if it has."""
        if not self.qp.alive:
            raise self.qp.error or Disconnected("the peer closed the connection")

    def stream(self, until: float) -> int:
        """Keep `outstanding` messages underway until then, one batch at least; how many octets that were."""
        posted = underway = 0
        while underway or not posted or now() < until:
            while underway < self.room and (not posted or now() < until):
                post_all(self.qp, self.batch)
                underway += 1
                posted += 1
            underway -= len(self.sent())
            if self.recv_cq:
                self.take()
        return posted * self.batch_octets


def _accepted(job: Job, announce: Callable[[int], None]) -> PolledLane:
    """Listen, announce, and accept one connection."""
    poller, offer = Poller(), options_of(job).offer(b"")
    listener = polling_cm.Listener(poller, HOST, 0, offer)
    announce(listener.port)
    request = listener.get_request(PATIENCE)
    if request is None:
        raise RuntimeError("no client connected")
    lane = PolledLane(Context().alloc_pd(), job, memory_of(job))
    polling_cm.accept(request, lane.qp, offer)
    return lane


def _connected(job: Job, port: int) -> PolledLane:
    lane = PolledLane(Context().alloc_pd(), job, memory_of(job))
    polling_cm.connect(Poller(), lane.qp, HOST, port, options_of(job).offer(b""))
    return lane


# --- bandwidth and rate ----------------------------------------------------------------------------------------------


def stream_server(job: Job, announce: Callable[[int], None]) -> None:
    lane = _accepted(job, announce)
    lane.meet(lane.hear())
    lane.tell(lane.region[:].advertise())
    while True:
        (seconds,) = SECONDS.unpack(lane.hear())
        nbytes = lane.stream(now() + seconds) if job.both_ways else 0
        lane.hear()
        lane.tell(COUNT.pack(nbytes))


def stream_client(job: Job, port: int) -> Sample:
    lane = _connected(job, port)
    lane.tell(lane.region[:].advertise())
    lane.meet(lane.hear())
    for seconds in (job.warmup, job.seconds):
        began = now()
        lane.tell(SECONDS.pack(seconds))
        nbytes = lane.stream(began + seconds)
        lane.tell(END)
        (back,) = COUNT.unpack(lane.hear())
        rate = (nbytes + int(back)) / (now() - began)
    return {"GB/s": rate / 1e9, "messages/s": rate / job.size}


# --- latency ---------------------------------------------------------------------------------------------------------


def latency_server(job: Job, announce: Callable[[int], None]) -> None:
    lane = _accepted(replace(job, kind="send"), announce)
    back = _Thrower(lane)
    while True:
        back.catch()
        back.throw()


def latency_client(job: Job, port: int) -> Sample:
    there = _Thrower(_connected(replace(job, kind="send"), port))

    def there_and_back() -> None:
        there.throw()
        there.catch()

    return back_and_forth(job, there_and_back)


class _Thrower:
    """Sends messages that ask for no completion, and takes them; receives are posted when nobody waits for it."""

    def __init__(self, lane: PolledLane) -> None:
        self._qp = lane.qp
        self._poll = lane.recv_cq.poll
        self._send = Send((lane.region[: lane.job.size],), signaled=False)
        self._receive = Recv((lane.region[: lane.job.size],))

    def throw(self) -> None:
        self._qp.post_send(self._send)
        self._qp.post_recv(self._receive)

    def catch(self) -> None:
        poll = self._poll
        while not (done := poll()):
            pass
        if not done[0].ok:
            raise done[0].error or RuntimeError(f"a receive failed: {done[0]}")
