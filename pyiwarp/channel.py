"""Completion channels: one place, with one file descriptor, where many completion queues tell of new completions."""

from __future__ import annotations

from pyiwarp.cq import CompletionQueue
from pyiwarp.eventqueue import EventQueue

__all__ = ["CompletionChannel"]


class CompletionChannel(EventQueue[CompletionQueue]):
    """Made by `Context.create_comp_channel`; give it to `create_cq`, then `request_notify` on the queue.

    Each request gives one event: the queue itself, taken with `get_cq_event` or `async for`. Then request again, poll
    the queue until it is empty, and `ack_events` sooner or later. `fileno` is readable while events wait.
    """

    def get_cq_event(self) -> CompletionQueue | None:
        """Take the oldest event: the completion queue that has something; None if there is none. Never waits."""
        return self.get()

    def _take(self) -> CompletionQueue:
        cq = super()._take()
        cq.unacked += 1
        return cq
