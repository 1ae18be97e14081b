"""What is below a queue pair: the states, the connection to its peer, work on its way, completions.

It does not hold on to the queue pair that the program has, so that one that is dropped is found. Everything here is
called while the poller is held.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyiwarp import Access, blocking
from pyiwarp.errors import Closed, ConnectionLost, QueueFull, TerminatedByPeer, UsageError, WrongState
from pyiwarp.pyverbs.base import invalid
from pyiwarp.pyverbs.connecting import Attempts, offer, patience
from pyiwarp.pyverbs.core import Timer
from pyiwarp.pyverbs.cq import WC, WcQueue
from pyiwarp.pyverbs.libibverbs_enums import (
    ibv_event_type,
    ibv_qp_state,
    ibv_wc_flags,
    ibv_wc_opcode,
    ibv_wc_status,
)
from pyiwarp.pyverbs.opened import peer_profile
from pyiwarp.pyverbs.pd import Domain
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError
from pyiwarp.pyverbs.rendezvous import End, Hello, gid_of, host_of, number, port_of
from pyiwarp.pyverbs.translating import AHEAD, STATUSES, Part, Work, imm_of, length_and_imm
from pyiwarp.verbs import (
    BindMw,
    Completion,
    LocalInvalidate,
    QpCap,
    QpOptions,
    QpState,
    QueuePair,
    Recv,
    SendRequest,
    SharedReceiveQueue,
    Status,
    WorkOpcode,
)

if TYPE_CHECKING:
    from pyiwarp.pyverbs.qp_attr import QPCap

__all__ = ["LEAST_INLINE", "Link"]

_STATE, _STATUS, _WC = ibv_qp_state, ibv_wc_status, ibv_wc_opcode
RESET, INIT, RTR, RTS = _STATE.IBV_QPS_RESET, _STATE.IBV_QPS_INIT, _STATE.IBV_QPS_RTR, _STATE.IBV_QPS_RTS
SQD, ERR = _STATE.IBV_QPS_SQD, _STATE.IBV_QPS_ERR
_CONNECTABLE: Final = (RTR, RTS, SQD)
_SUCCESS, _FLUSHED = _STATUS.IBV_WC_SUCCESS, _STATUS.IBV_WC_WR_FLUSH_ERR
_WITH_IMM, _WITH_INV = int(ibv_wc_flags.IBV_WC_WITH_IMM), int(ibv_wc_flags.IBV_WC_WITH_INV)
_LOCAL: Final = (BindMw, LocalInvalidate)
_ANSWERED: Final = (_WC.IBV_WC_RDMA_READ, _WC.IBV_WC_COMP_SWAP, _WC.IBV_WC_FETCH_ADD)
_QUIET: Final = 0.001
LEAST_INLINE: Final = 256
"""Octets that every queue pair takes inline."""


class Link:
    """One queue pair of the program's: `state`, its number `qpn`, and, once it is in INIT, that of the stack below.

    `receiver` is the queue pair of the stack. One that is connected to itself has another for what it sends.
    """

    def __init__(
        self,
        domain: Domain,
        cap: QPCap,
        send_queue: WcQueue | None,
        recv_queue: WcQueue | None,
        srq: SharedReceiveQueue | None,
    ) -> None:
        self.opened = domain.opened
        self.core = self.opened.core
        self.domain = domain
        self.cap = cap
        self.send_queue = send_queue
        self.recv_queue = recv_queue
        self.srq = srq
        self.state = RESET
        self.peer: End | None = None
        self.access = Access(0)
        self.ird = self.ord = 1
        self.timeout = self.retry_cnt = 0
        self.by_cm = False
        self.confirms = True
        """Whether work completes when the peer has processed it; changed before `begin`."""
        self.notifies_drained = False
        self.on_down: Callable[[], None] | None = None
        """Called when the connection has ended."""
        self.receiver: QueuePair | None = None
        self._sender: QueuePair | None = None
        self._up = False
        self._closed = False
        self._epoch = 0  # what belongs to an earlier one says nothing any more
        self._attempts: Attempts | None = None
        self._held: deque[tuple[Work, list[SendRequest]]] = deque()
        self._outstanding = 0
        self._timer: Timer | None = None
        self._is_lost = False  # and told by the first work that was on its way
        self._is_blamed = False  # whether the work that the peer has refused was told
        self._undecided: list[Work] = []  # flushed, and perhaps before that one
        self._ahead: bytes | None = None
        self.qpn, self._door = number(self.core, self, self.opened.host)
        for queue in (send_queue, recv_queue):
            if queue is not None:
                queue.users.add(self)

    @property
    def end(self) -> End:
        """This queue pair as its peer names it."""
        return End(gid_of(self.opened.host), self.qpn)

    @property
    def is_up(self) -> bool:
        """Whether it is connected."""
        return self._up

    # --- states ------------------------------------------------------------------------------------------------------

    def move(self, state: ibv_qp_state) -> None:
        """Move to a state that the table of `qp` allows."""
        before, self.state = self.state, state
        if state is RESET:
            self._reset()
        elif state is INIT:
            self.begin()
        elif state is ERR:
            self._end_by_program()
        elif state is RTR and not self.by_cm:
            self._meet()
        elif state is SQD and before is RTS:
            self._drain()
        elif state is RTS and self._up:
            self._post_held()

    def begin(self) -> QueuePair:
        """A queue pair of the stack that is ready to connect: the one that is there, if it is."""
        if self.receiver is None:
            self.receiver = self._sender = self._make(self.cap.max_recv_wr, self.srq)
        return self.receiver

    def set_access(self, flags: int) -> None:
        """Let the peer do so much."""
        self.access = Access(flags & int(Access.REMOTE_WRITE | Access.REMOTE_READ | Access.REMOTE_ATOMIC))
        if self.receiver is not None:
            self.receiver.modify(access=self.access)

    def settle(self) -> None:
        """The program closes the queue pair: answer what its peer has asked."""
        if self._up and self.state is not ERR and not self.core.left_behind:
            self.core.settle(_QUIET)

    def close(self) -> None:
        """The queue pair is gone; nothing is told any more."""
        if self._closed:
            return
        self._closed = True
        for queue in (self.send_queue, self.recv_queue):
            if queue is not None:
                queue.users.discard(self)
        if not self.core.left_behind:
            with self.core.poller:
                self._leave()
                self._door.forget(self.qpn)
        self.on_down = None

    def fail(self) -> None:
        """End: a completion queue has overflowed."""
        if self.state not in (RESET, ERR):
            self.opened.tell(ibv_event_type.IBV_EVENT_QP_FATAL)
            self.move(ERR)

    def _make(self, max_recv_wr: int, srq: SharedReceiveQueue | None) -> QueuePair:
        cap = self.cap
        below = QpCap(
            2 * cap.max_send_wr + 2, max_recv_wr, max(1, cap.max_send_sge, cap.max_recv_sge), cap.max_inline_data
        )
        profile = peer_profile()
        options = QpOptions(
            pause_when_starved=True,
            profile=profile,
            confirm=self.confirms and profile.name == "rfc",  # siw answers a Read behind another wrongly
            judge_receives_late=True,
            complete_bad_sends=True,
            immediate_apart=AHEAD,
            access=self.access,
            srq=srq,
        )
        epoch = self._epoch

        def on_done(completion: Completion) -> None:
            if epoch == self._epoch:
                self._completed(completion)

        def on_ended() -> None:
            if epoch == self._epoch:
                self._ended()

        cq = self.opened.context.create_cq(1)
        cq.taker = on_done
        made = self.domain.verbs.create_qp(cq, cq, below, options)
        made.on_ended = on_ended
        return made

    def _reset(self) -> None:
        self._leave()
        for queue in (self.send_queue, self.recv_queue):
            if queue is not None:
                queue.drop(self.qpn)

    def _leave(self) -> None:
        """Leave the connection, or the attempt; what was posted is forgotten."""
        self._epoch += 1
        self.core.connections -= self._up
        self._up = self._is_lost = self._is_blamed = False
        self._undecided.clear()
        self._stop_timer()
        self._ahead = None
        self._held.clear()
        self._outstanding = 0
        if self._attempts is not None:
            self._attempts.cancel()
            self._attempts = None
        for each in {self.receiver, self._sender} - {None}:
            assert each is not None, "None was left out"
            each.close()
        self.receiver = self._sender = None

    def _end_by_program(self) -> None:
        """End, and flush everything."""
        if self._attempts is not None:
            self._attempts.cancel()
        reason = Closed("the program moved the queue pair to ERROR")
        for each in (self._sender, self.receiver):
            if each is not None and self._up:
                each.abort(reason)
            elif each is not None:
                each.close()
        self._flush_held()

    def _drain(self) -> None:
        """SQD: what is begun ends, what is posted waits."""
        epoch = self._epoch

        def on_drained() -> None:
            if epoch == self._epoch and self.state is SQD and self.notifies_drained:
                self.opened.tell(ibv_event_type.IBV_EVENT_SQ_DRAINED)

        if self._sender is not None:
            self._sender.drain_sq(on_drained)

    @property
    def is_draining(self) -> bool:
        """Whether work that was begun before SQD is left."""
        return self.state is SQD and self._outstanding > len(self._held)

    # --- the connection ----------------------------------------------------------------------------------------------

    def offer(self, private_data: bytes = b"") -> blocking.Offer:
        """What it brings to MPA startup."""
        return offer(private_data, self.ird, self.ord)

    def take_request(self, request: blocking.Request, caller: End) -> bool:
        """Accept or reject the peer that asks; False while it is not known whether it is wanted."""
        if self.by_cm or self._up or self.state is ERR or (self.state in _CONNECTABLE and caller != self.peer):
            request.reject()  # the caller tries again, as long as it wants to
            return True
        if self.state not in _CONNECTABLE:
            return False
        request.accept_qp(self.begin(), self.offer())
        if self._sender is self.receiver:  # else it is connected to itself, and the other half says when it is up
            self.now_up()
        return True

    def now_up(self) -> None:
        """It is connected."""
        self._up = True
        self.core.connections += 1
        self._stop_timer()
        if self.state is RTS:
            self._post_held()

    def _meet(self) -> None:
        """Find the peer: the smaller of the two connects."""
        assert self.peer is not None, "the mask of RTR has it"
        if self.end > self.peer:
            self._door.match()
            return
        if self.end == self.peer:
            self._sender = self._make(0, None)
        caller = self._sender or self.begin()
        self._attempts = Attempts(
            self.core,
            caller,
            self.opened.host,
            host_of(self.peer.gid),
            port_of(self.peer.qpn),
            self.offer(bytes(Hello(self.end, self.peer))),
            self.now_up,
        )

    def _watch_time(self) -> None:
        """A peer that work waits for must come in time."""
        limit = patience(self.timeout, self.retry_cnt)
        if self._timer is not None or limit is None or self.by_cm:
            return
        epoch = self._epoch

        def on_time() -> None:
            if epoch == self._epoch and not self._up and self._held and self.state is RTS:
                self._settle(self._held[0][0], _STATUS.IBV_WC_RETRY_EXC_ERR)
                self.move(ERR)

        self._timer = self.core.later(limit, on_time)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ended(self) -> None:
        """The connection has ended, and everything on its way is complete."""
        self._flush_undecided()
        if self.state is not ERR:
            self.state = ERR
            for each in (self._sender, self.receiver):
                if each is not None and each.alive:
                    each.abort(Closed("the other half of a queue pair that is connected to itself has ended"))
            self._flush_held()
        if self.on_down is not None:
            self.on_down()

    def _flush_held(self) -> None:
        while self._held:
            work, _ = self._held.popleft()
            self._settle(work, _FLUSHED)

    # --- posting -----------------------------------------------------------------------------------------------------

    def post_recv(self, request: Recv) -> None:
        """Post a receive."""
        failed = "Failed to post recv"
        if self.state is RESET or self.srq is not None or len(request.sges) > max(1, self.cap.max_recv_sge):
            invalid(failed)
        if self.state is ERR:
            self._push_receive(request.wr_id, _FLUSHED)
            return
        try:
            self.begin().post_recv(request)
        except QueueFull:
            raise PyverbsRDMAError(failed, errno.ENOMEM) from None

    def post(self, work: Work, requests: list[SendRequest], failed: str) -> None:
        """Post what stands for one work request of the program."""
        if self.state is ERR:
            self._outstanding += 1
            self._settle(work, _FLUSHED)
            return
        if self.state not in (RTS, SQD):
            invalid(failed)
        if self._outstanding >= max(1, self.cap.max_send_wr):
            raise PyverbsRDMAError(failed, errno.ENOMEM)
        if self.state is SQD or not self._up or self._held:
            self._held.append((work, requests))
            self._outstanding += 1
            if not self._up:
                self._watch_time()
            return
        self._give(work, requests, failed)

    def _give(self, work: Work, requests: list[SendRequest], failed: str) -> None:
        self._outstanding += 1
        below = self.receiver if isinstance(requests[0], _LOCAL) else self._sender
        assert below is not None, "it is connected"
        try:
            if len(requests) == 1:
                below.post_send(requests[0])
            else:
                below.post_send_many(requests)
        except WrongState as error:
            if below.alive and below.state is QpState.RTS and isinstance(requests[0], _LOCAL):
                self._outstanding -= 1
                raise PyverbsRDMAError(f"{failed}: {error}", errno.EINVAL) from error
            self._settle(work, _FLUSHED)  # the peer is leaving
        except UsageError as error:
            self._outstanding -= 1
            raise PyverbsRDMAError(f"{failed}: {error}", errno.EINVAL) from error

    def _post_held(self) -> None:
        while self._held and self.state is RTS:
            work, requests = self._held.popleft()
            self._outstanding -= 1
            try:
                self._give(work, requests, "")
            except PyverbsRDMAError:
                self._outstanding += 1
                self._settle(work, _STATUS.IBV_WC_LOC_QP_OP_ERR)
                self.move(ERR)

    # --- completions -------------------------------------------------------------------------------------------------

    def _completed(self, completion: Completion) -> None:
        """A work request of the stack is complete."""
        if completion.opcode is WorkOpcode.RECV:
            self._received(completion)
            return
        token = completion.wr_id
        work = token.work if isinstance(token, Part) else token
        assert isinstance(work, Work), "each work request has one"
        if isinstance(completion.error, TerminatedByPeer) and not self._is_blamed:
            self._refused(work, completion.status)
        elif work is token or not completion.ok:
            self._settle(work, self._status_of(completion))

    def _refused(self, work: Work, status: Status) -> None:
        """The peer has refused a message, and the work on its way is flushed in its order, the refused one amidst.

        What the peer answers nothing to, and came before that message, it has processed: on InfiniBand it succeeds.
        """
        self._undecided.append(work)
        if status is Status.WR_FLUSH_ERR:
            return
        self._is_blamed = True
        undecided, self._undecided = self._undecided[:-1], []
        for earlier in undecided:
            if earlier is not work:
                self._settle(earlier, _FLUSHED if earlier.opcode in _ANSWERED else _SUCCESS)
        self._settle(work, STATUSES[status])

    def _flush_undecided(self) -> None:
        undecided, self._undecided = self._undecided, []
        for work in undecided:
            self._settle(work, _FLUSHED)

    def _status_of(self, completion: Completion) -> int:
        """The first work that a lost connection flushes was retried in vain."""
        if completion.ok:
            return _SUCCESS
        lost = completion.status is Status.WR_FLUSH_ERR and isinstance(completion.error, ConnectionLost)
        if lost and not self._is_lost:
            self._is_lost = True
            return _STATUS.IBV_WC_RETRY_EXC_ERR
        return STATUSES[completion.status]

    def _settle(self, work: Work, status: int) -> None:
        """Complete a work request of the program, once."""
        if work.settled:
            return
        work.settled = True
        self._outstanding -= 1
        if self.send_queue is not None and (work.signaled or status != _SUCCESS):
            wc = WC(work.wr_id, status, work.opcode, 0, work.nbytes, self.qpn)
            self.send_queue.push(wc)

    def _received(self, completion: Completion) -> None:
        wr_id = completion.wr_id
        if wr_id is None:
            self._ahead = completion.immediate
            return
        assert isinstance(wr_id, int), "as the program posted it"
        if not completion.ok:
            self._push_receive(wr_id, STATUSES[completion.status])
            return
        ahead, self._ahead = self._ahead, None
        wc = WC(wr_id, _SUCCESS, _WC.IBV_WC_RECV, 0, completion.nbytes, self.qpn)
        wc.src_qp = 0 if self.peer is None else self.peer.qpn
        if completion.immediate is not None:  # of a Write
            wc.opcode, wc.wc_flags = _WC.IBV_WC_RECV_RDMA_WITH_IMM, _WITH_IMM
            wc.byte_len, wc.imm_data = length_and_imm(completion.immediate)
        elif ahead is not None:
            wc.wc_flags, wc.imm_data = _WITH_IMM, imm_of(ahead)
        elif completion.inval_stag is not None:
            wc.wc_flags, wc.imm_data = _WITH_INV, completion.inval_stag
        if self.recv_queue is not None:
            self.recv_queue.push(wc, solicited=completion.solicited)

    def _push_receive(self, wr_id: object, status: int) -> None:
        assert isinstance(wr_id, int), "as the program posted it"
        if self.recv_queue is not None:
            self.recv_queue.push(WC(wr_id, status, _WC.IBV_WC_RECV, 0, 0, self.qpn))
