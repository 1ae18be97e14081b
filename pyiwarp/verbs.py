"""The verbs objects and who owns whom: Device, Context, ProtectionDomain; the door to all the others.

As in libibverbs a Context is an opened Device, memory and queue pairs belong to a protection domain, and what others
depend on closes last. Regions, queues and work requests live in `mr` and the folder `queues`, and are named here too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

from pyiwarp.codes import Rtr
from pyiwarp.drivers.descriptors import Source
from pyiwarp.errors import BadWorkRequest, Closed, QueueFull, RegionInUse, UsageError
from pyiwarp.exports import public_names
from pyiwarp.memory.fastreg import FastRegion
from pyiwarp.memory.handles import StagHandle
from pyiwarp.memory.log import AccessLog, AccessRecord, RegionCounters
from pyiwarp.memory.windows import MemoryWindow, WindowType
from pyiwarp.mr import Access, MemoryRegion, Region, RegionSlice, RemoteRegion, StagTable
from pyiwarp.queues.counters import ContextCounters, QpCounters
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.event_queues import AsyncEvent, AsyncEventQueue, AsyncEventType, CompletionChannel
from pyiwarp.queues.qp import QpCap, QpState, QueuePair
from pyiwarp.queues.qp_options import QpKeywords, QpOptions
from pyiwarp.queues.srq import SharedReceiveQueue, SrqAttributes
from pyiwarp.queues.thread_checks import debugging, watched
from pyiwarp.queues.work import (
    BindMw,
    CompareSwap,
    Completion,
    FetchAdd,
    Immediate,
    LocalInvalidate,
    LocalSge,
    Read,
    Recv,
    RegMr,
    Send,
    SendRequest,
    Sge,
    Status,
    WorkOpcode,
    Write,
)

if TYPE_CHECKING:
    from pyiwarp.buffers import Buffer

__all__ = [
    "Access",
    "AccessLog",
    "AccessRecord",
    "AsyncEvent",
    "AsyncEventQueue",
    "AsyncEventType",
    "BindMw",
    "CompareSwap",
    "Completion",
    "CompletionChannel",
    "CompletionQueue",
    "Context",
    "ContextCounters",
    "Device",
    "FastRegion",
    "FetchAdd",
    "Immediate",
    "LocalInvalidate",
    "LocalSge",
    "MemoryRegion",
    "MemoryWindow",
    "ProtectionDomain",
    "QpCap",
    "QpCounters",
    "QpOptions",
    "QpState",
    "QueuePair",
    "Read",
    "Recv",
    "RegMr",
    "RegionCounters",
    "RegionSlice",
    "RemoteRegion",
    "Send",
    "SendRequest",
    "Sge",
    "SharedReceiveQueue",
    "SrqAttributes",
    "Status",
    "WindowType",
    "WorkOpcode",
    "Write",
]

Kind = TypeVar("Kind", bound=QueuePair)

MAX_ASYNC_EVENTS: Final = 4096
MAX_CHANNEL_EVENTS: Final = 1 << 16

_WATCHED_CQ: Final = ("poll", "arm", "request_notify", "ack_events", "resize", "push", "close", "__anext__")
_WATCHED_SRQ: Final = ("post_recv", "modify", "query", "take", "close")
_WATCHED_QP: Final = (
    *("connect", "disconnect", "abort", "close", "modify", "query", "counters"),
    *("drain", "drain_sq", "drain_rq", "post_send", "post_send_many", "post_recv", "post_recv_many"),
    *("pair_large", "pair_small", "send_small"),
)

_CONTEXT_INTERNAL: Final = frozenset({"driven_by", "forget", "qp_closed", "report", "stags"})
_PD_INTERNAL: Final = frozenset({"adopt", "check_open", "driven_by", "qp_closed", "register_as", "report", "stags"})


@dataclass(frozen=True, slots=True)
class Device:
    """A soft RNIC: its `name`, its limits, and what it offers in MPA startup by default.

    `max_mr` counts everything that has an STag: regions and windows. `max_pieces` buffers may make up one region.
    `max_ird` and `max_ord` count Reads at once per queue pair. `revision`, `crc` (None: as suits the peer), `markers`,
    `refuse_markers` and `rtr` are as in `Options`, whose `of` takes them from here. With `debug` its queue
    pairs and queues raise `WrongThread` in a thread or event loop that they do not belong to.
    """

    name: str = "pyiwarp0"
    max_qp_wr: int = 32_768
    """Work requests that a queue of a queue pair holds at most."""
    max_sge: int = 64
    """Elements in the list of one work request."""
    max_inline: int = 64 * 1024
    """Octets that a work request carries itself."""
    max_cqe: int = 1 << 20
    """Completions that a completion queue holds at most."""
    max_mr: int = 1 << 20
    max_pieces: int = 1 << 16
    max_ird: int = 128
    max_ord: int = 128
    revision: int = 2
    crc: bool | None = None
    markers: bool = False
    refuse_markers: bool = False
    rtr: Rtr = Rtr.WRITE | Rtr.READ  # flags do not change
    debug: bool = False

    @property
    def default_cap(self) -> QpCap:
        """What a queue pair or shared receive queue holds if the program does not say: never more than the device."""
        usual = QpCap()
        return QpCap(
            min(usual.max_send_wr, self.max_qp_wr),
            min(usual.max_recv_wr, self.max_qp_wr),
            min(usual.max_sge, self.max_sge),
            min(usual.max_inline, self.max_inline),
        )

    def open(self, random_index: Callable[[], int] | None = None) -> Context:
        """A context of this device; `random_index` replaces the source of STag indices, for tests."""
        return Context(self, random_index)


DEFAULT_DEVICE: Final = Device()
"""The device of contexts for which the program chose none."""


class Context:
    """An opened device: it owns the STags, the protection domains and the completion queues.

    `async_events` has the asynchronous events of all of them.
    """

    def __init__(self, device: Device | None = None, random_index: Callable[[], int] | None = None) -> None:
        self.device: Device = device or DEFAULT_DEVICE
        """The device that was opened."""
        self.stags = StagTable(random_index)
        self._async_events: AsyncEventQueue | None = None
        self._sources: list[Source] = []
        self.debug: bool = self.device.debug or debugging()
        """Whether its objects check the thread and the event loop of their callers."""
        self._past = QpCounters()  # of queue pairs that are closed
        self._pds: set[ProtectionDomain] = set()
        self._open = True

    def __repr__(self) -> str:
        return f"<Context {self.device.name} {len(self._pds)} PDs {len(self.stags)} regions>"

    def __dir__(self) -> list[str]:
        return public_names(self, _CONTEXT_INTERNAL)

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def async_events(self) -> AsyncEventQueue:
        """The asynchronous events of this context, as `ibv_get_async_event` gives them.

        They are kept from the first time on that this is looked at: events hold on to the queue pairs that they are
        about, and a program that never takes any shall not keep those of the past. A closed context has none.
        """
        if self._async_events is None:
            self._async_events = AsyncEventQueue(MAX_ASYNC_EVENTS)
            for source in self._sources:
                self._async_events.driven_by(source)
            if not self._open:
                self._async_events.close()
        return self._async_events

    def query_device(self) -> Device:
        """The device and its limits, as `ibv_query_device`."""
        return self.device

    def alloc_pd(self) -> ProtectionDomain:
        """A new protection domain (RFC 5041 §8.2)."""
        self._check_open()
        pd = ProtectionDomain(self)
        self._pds.add(pd)
        return pd

    def create_cq(self, capacity: int = 1024, *, channel: CompletionChannel | None = None) -> CompletionQueue:
        """A completion queue for `capacity` completions; if it overflows its queue pairs end.

        `channel` is where it tells of new completions when asked to (`CompletionQueue.request_notify`).
        """
        self._check_open()
        max_cqe = self.device.max_cqe
        if capacity > max_cqe:
            raise UsageError(f"{capacity} completions; {self.device.name} offers {max_cqe}")
        kind = watched(CompletionQueue, *_WATCHED_CQ) if self.debug else CompletionQueue
        return kind(capacity, self._on_overflow, context=self, channel=channel, max_cqe=max_cqe)

    def create_comp_channel(self, capacity: int = MAX_CHANNEL_EVENTS) -> CompletionChannel:
        """A completion channel for the events of any number of completion queues, `capacity` at once."""
        self._check_open()
        return CompletionChannel(capacity)

    def counters(self) -> ContextCounters:
        """What the context holds now, and what all of its queue pairs have done since it was opened."""
        qps = [qp for pd in self._pds for qp in pd.queue_pairs]
        total = self._past
        for qp in qps:
            total = total.plus(qp.counters())
        events = self._async_events
        waiting, missed = (0, 0) if events is None else (len(events), events.missed)
        return ContextCounters(len(qps), len(self.stags), waiting, missed, total)

    def report(self, event: AsyncEventType, source: object, error: Exception | None = None) -> None:
        """Put an event into `async_events`; for the objects of the context."""
        if self._async_events is not None:
            self._async_events.put(AsyncEvent(event, source, error))

    def driven_by(self, source: Source) -> None:
        """Queue pairs make progress when `source` does: `async_events` tells of its news; for connection managers."""
        if source not in self._sources:
            self._sources.append(source)
            if self._async_events is not None:
                self._async_events.driven_by(source)

    def qp_closed(self, qp: QueuePair) -> None:
        """The queue pair is gone; what it has done still counts."""
        self._past = self._past.plus(qp.counters())

    def forget(self, pd: ProtectionDomain) -> None:
        """The protection domain is gone."""
        self._pds.discard(pd)

    def close(self) -> None:
        """Close the context and, first, everything in it. Twice does nothing."""
        for pd in list(self._pds):
            pd.close(force=True)
        self._open = False
        if self._async_events is not None:
            self._async_events.close()

    def _check_open(self) -> None:
        if not self._open:
            raise Closed(f"the context is closed: {self!r}")

    def _on_overflow(self, cq: CompletionQueue) -> None:
        """SEC-5042-6.4.6-01: the queue pairs of other completion queues do not notice."""
        error = QueueFull(f"a completion queue overflowed: {cq!r}")
        self.report(AsyncEventType.CQ_ERR, cq, error)
        for pd in list(self._pds):
            for qp in pd.queue_pairs:
                if cq in (qp.send_cq, qp.recv_cq) and qp.state is not QpState.IDLE and not qp.over:
                    self.report(AsyncEventType.QP_FATAL, qp, error)
                    qp.abort(error)


class ProtectionDomain:
    """What may touch what: queue pairs reach the regions of their own protection domain and no others."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.stags = context.stags
        self._qps: set[QueuePair] = set()
        self._srqs: set[SharedReceiveQueue] = set()
        self._regions: set[MemoryRegion] = set()  # closed ones are dropped now and then
        self._handles: set[StagHandle] = set()  # these too
        self._tidied = self._tidied_handles = 64
        self._open = True

    def __repr__(self) -> str:
        regions = len(self.regions) + len(self.fast_regions)
        windows = f" {len(self.windows)} windows" if self.windows else ""
        srqs = f" {len(self._srqs)} shared receive queues" if self._srqs else ""
        return f"<ProtectionDomain {regions} regions{windows} {len(self._qps)} queue pairs{srqs}>"

    def __dir__(self) -> list[str]:
        return public_names(self, _PD_INTERNAL)

    def __enter__(self) -> ProtectionDomain:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def queue_pairs(self) -> list[QueuePair]:
        """The queue pairs that are open."""
        return list(self._qps)

    @property
    def regions(self) -> list[MemoryRegion]:
        """The regions that are open."""
        return [region for region in self._regions if region.is_open and region.pd is self]

    @property
    def windows(self) -> list[MemoryWindow]:
        """The memory windows that are not closed."""
        return [handle for handle in self._handles if handle.is_open and isinstance(handle, MemoryWindow)]

    @property
    def fast_regions(self) -> list[FastRegion]:
        """The regions of `alloc_stag` that are not closed, with memory and without."""
        return [handle for handle in self._handles if handle.is_open and isinstance(handle, FastRegion)]

    def register(
        self,
        buffer: Buffer,
        access: Access = Access.LOCAL_WRITE,
        *,
        qp: QueuePair | None = None,
        log: AccessLog | None = None,
        to: int | None = None,
    ) -> MemoryRegion:
        """Register the memory of `buffer`, without copying it; read-only buffers need `Access(0)` or REMOTE_READ.

        Any contiguous buffer will do: bytearray, mmap, array, NumPy, shared memory. Every queue pair of the protection
        domain lets its peer reach the memory, or only `qp` (RFC 5041 §8.2); a peer may invalidate what its stream
        does not share. A read-only buffer, `memoryview(buffer).toreadonly()` also, promises that its octets stay as
        they are while a peer reads them: they are sent without a copy. If they change all the same, the peer finds a
        CRC that does not fit and ends the connection, or, without CRC, gets old and new octets (RFC 5044 §4.4). What
        peers do to the memory is noted and counted in `log`, if one is given; that costs a little for each segment, and
        nothing without. `to` is the TO of the first octet; by default one like an address that tells nothing of the
        memory's, or 0 with ZERO_BASED (RFC 5042 §6.4). With REMOTE_ATOMIC it must be aligned to eight octets as the
        memory is. Raises `BadWorkRequest`, or `UsageError` if the device holds as many regions as it can.
        """
        return self.register_as(MemoryRegion, buffer, access, qp=qp, log=log, to=to)

    def register_as(
        self,
        kind: type[Region],
        buffer: Buffer,
        access: Access,
        *,
        qp: QueuePair | None = None,
        log: AccessLog | None = None,
        to: int | None = None,
    ) -> Region:
        """As `register`, for a class of regions with more abilities."""
        self._check_stag_for(qp)
        region = self.stags.register(self, buffer, access, kind, qp, log, to)
        self.adopt(region)
        return region

    def adopt(self, region: MemoryRegion) -> None:
        """The region belongs to this protection domain from now on."""
        self.check_open()
        if len(self._regions) > 2 * self._tidied:
            self._regions = set(self.regions)
            self._tidied = max(64, len(self._regions))
        self._regions.add(region)

    def alloc_stag(
        self, max_pieces: int = 64, *, max_octets: int | None = None, qp: QueuePair | None = None
    ) -> FastRegion:
        """A region without memory, which `RegMr` work requests give it: at most `max_pieces` buffers at a time.

        `max_octets` bounds their octets, `qp` and the errors are those of `register`.
        """
        self._check_stag_for(qp)
        device = self.context.device
        if not 1 <= max_pieces <= device.max_pieces:
            raise UsageError(f"{max_pieces} buffers in one region; {device.name} offers 1 to {device.max_pieces}")
        region = FastRegion(self.stags, self, max_pieces, max_octets, qp)
        self._add_handle(region)
        return region

    def alloc_window(self, kind: WindowType = WindowType.TYPE_2B) -> MemoryWindow:
        """A memory window onto nothing; see `WindowType`. Raises `UsageError` as `register` does."""
        self._check_stag_for(None)
        window = MemoryWindow(self.stags, self, kind)
        self._add_handle(window)
        return window

    def _check_stag_for(self, qp: QueuePair | None) -> None:
        self.check_open()
        if qp is not None and qp.pd is not self:
            raise BadWorkRequest(f"the queue pair belongs to another protection domain: {qp!r}")
        limit = self.context.device.max_mr
        if len(self.stags) >= limit:
            raise UsageError(f"{limit} regions are registered; {self.context.device.name} holds no more")

    def _add_handle(self, handle: StagHandle) -> None:
        if len(self._handles) > 2 * self._tidied_handles:
            self._handles = {known for known in self._handles if known.is_open}
            self._tidied_handles = max(64, len(self._handles))
        self._handles.add(handle)

    def create_qp(
        self,
        send_cq: CompletionQueue,
        recv_cq: CompletionQueue,
        cap: QpCap | None = None,
        options: QpOptions | None = None,
        **fields: Unpack[QpKeywords],
    ) -> QueuePair:
        """A queue pair in this protection domain; see `QueuePair`.

        Without `cap` it has the defaults of `QpCap`, as far as the device can. `options` are those of `QpOptions`; each
        may be given as a keyword too, and then counts instead.
        """
        return self.create_qp_as(QueuePair, send_cq, recv_cq, cap, options, **fields)

    def create_qp_as(
        self,
        kind: type[Kind],
        send_cq: CompletionQueue,
        recv_cq: CompletionQueue,
        cap: QpCap | None = None,
        options: QpOptions | None = None,
        **fields: Unpack[QpKeywords],
    ) -> Kind:
        """As `create_qp`, for a class of queue pairs of the program's own, which inherits from `QueuePair`."""
        self.check_open()
        cap, options = cap or self.context.device.default_cap, options or QpOptions()
        if fields:
            options = replace(options, **fields)
        _check_cap(cap, self.context.device)
        self._check_queues(send_cq, recv_cq, options.srq)
        made: Any = kind
        if self.context.debug:
            made = watched(made, *_WATCHED_QP)
        qp: Kind = made(self, send_cq, recv_cq, cap, options)
        self._qps.add(qp)
        return qp

    def create_srq(
        self, max_wr: int | None = None, max_sge: int | None = None, *, judge_receives_late: bool = False
    ) -> SharedReceiveQueue:
        """A shared receive queue for `max_wr` receives of at most `max_sge` elements; give it to `create_qp`.

        By default as much as `create_qp` gives a receive queue without `cap`. `judge_receives_late` is that of
        `QpOptions`.
        """
        self.check_open()
        device = self.context.device
        max_wr = device.default_cap.max_recv_wr if max_wr is None else max_wr
        max_sge = device.default_cap.max_sge if max_sge is None else max_sge
        if max_sge > device.max_sge:
            raise UsageError(f"{max_sge} SGEs; {device.name} offers {device.max_sge}")
        kind = watched(SharedReceiveQueue, *_WATCHED_SRQ) if self.context.debug else SharedReceiveQueue
        srq = kind(
            *(self, max_wr, max_sge, self._on_srq_limit, self._srqs.discard, device.max_qp_wr),
            judged_late=judge_receives_late,
        )
        self._srqs.add(srq)
        return srq

    def qp_closed(self, qp: QueuePair) -> None:
        """The queue pair is gone."""
        if qp in self._qps:
            self._qps.discard(qp)
            self.context.qp_closed(qp)

    def report(self, event: AsyncEventType, source: object, error: Exception | None = None) -> None:
        """Put an event of an object of the protection domain into the context's `async_events`."""
        self.context.report(event, source, error)

    def driven_by(self, source: Source) -> None:
        """Queue pairs of the protection domain make progress when `source` does."""
        self.context.driven_by(source)

    def close(self, *, force: bool = False) -> None:
        """Close an empty protection domain, or with `force` everything in it first.

        Raises `RegionInUse` if regions, windows or queue pairs are open.
        """
        if not self._open:
            return
        if force:
            for qp in self.queue_pairs:
                qp.close()
            for srq in list(self._srqs):
                srq.close()
            for handle in (*self.windows, *self.fast_regions) if self._handles else ():
                handle.close()
            for region in self.regions:
                region.close()
        if self._qps or self._srqs or self.regions or (self._handles and (self.windows or self.fast_regions)):
            raise RegionInUse(f"regions, windows, queue pairs or shared receive queues are open: {self!r}")
        self._open = False
        self.context.forget(self)

    def check_open(self) -> None:
        """Raises `Closed` if the protection domain was closed."""
        if not self._open:
            raise Closed(f"the protection domain is closed: {self!r}")

    def _check_queues(self, send_cq: CompletionQueue, recv_cq: CompletionQueue, srq: SharedReceiveQueue | None) -> None:
        """Check that the queues for a new queue pair are open and of this context and protection domain."""
        for cq in (send_cq, recv_cq):
            if not cq.is_open:
                raise Closed(f"the completion queue is closed: {cq!r}")
            if cq.context not in (None, self.context):
                raise BadWorkRequest(f"the completion queue belongs to another context: {cq!r}")
        if srq is not None:
            if not srq.is_open:
                raise Closed(f"the shared receive queue is closed: {srq!r}")
            if srq.pd is not self:
                raise BadWorkRequest(f"the shared receive queue belongs to another protection domain: {srq!r}")

    def _on_srq_limit(self, srq: SharedReceiveQueue) -> None:
        self.report(AsyncEventType.SRQ_LIMIT_REACHED, srq)


def _check_cap(cap: QpCap, device: Device) -> None:
    """Raises `UsageError` if a queue pair would hold more than the device offers."""
    for name, asked, limit in (
        ("send work requests", cap.max_send_wr, device.max_qp_wr),
        ("receive work requests", cap.max_recv_wr, device.max_qp_wr),
        ("SGEs", cap.max_sge, device.max_sge),
        ("inline octets", cap.max_inline, device.max_inline),
    ):
        if asked < 0:
            raise UsageError(f"{asked} {name}; a queue pair holds 0 to {limit} on {device.name}")
        if asked > limit:
            raise UsageError(f"{asked} {name}; {device.name} offers {limit}")
