"""The `post` command: from its words to a work request and the memory that it uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pyiwarp import Access, RegionSlice, RemoteRegion
from pyiwarp.codes import ATOMIC_SIZE
from pyiwarp.memory.atomics import ALL_ONES
from pyiwarp.target.memory import pattern
from pyiwarp.target.session import Session
from pyiwarp.target.settings import MAX_REGION
from pyiwarp.target.words import Words
from pyiwarp.verbs import CompareSwap, FetchAdd, Immediate, Read, Send, SendRequest, Write

__all__ = ["OPERATIONS", "post"]

_STAG: Final = (1 << 32) - 1


def post(session: Session, words: Words) -> None:
    """Post what the words say; raises `Refused`, or `UsageError` for what the verbs refuse."""
    session.post(_MAKERS[words.choice("op", OPERATIONS)](session, words))


def _send(session: Session, words: Words) -> SendRequest:
    octets = _octets(words)
    inval_stag = words.number("inv", most=_STAG) if words.has("inv") else None
    request = Send((), _wr(words), None, inval_stag, words.flag("se"), _signaled(words), words.flag("fence"))
    words.end()
    return request._replace(sges=_sges(session, octets))


def _write(session: Session, words: Words) -> SendRequest:
    octets = _octets(words)
    request = Write((), _remote(words), _wr(words), None, _signaled(words), words.flag("fence"))
    words.end()
    return request._replace(sges=_sges(session, octets))


def _read(session: Session, words: Words) -> SendRequest:
    sink = _sink(session, words, words.number("len", 0, MAX_REGION))
    request = Read(sink, _remote(words), _wr(words), _signaled(words), words.flag("fence"))
    words.end()
    return request


def _immediate(session: Session, words: Words) -> SendRequest:
    request = Immediate(words.octets("data"), _wr(words), words.flag("se"), _signaled(words), words.flag("fence"))
    words.end()
    return request


def _fetch_add(session: Session, words: Words) -> SendRequest:
    request = FetchAdd(
        _remote(words),
        words.number("add"),
        words.number("mask", 0),
        _atomic_sink(session, words),
        _wr(words),
        _signaled(words),
        words.flag("fence"),
    )
    words.end()
    return request


def _compare_swap(session: Session, words: Words) -> SendRequest:
    request = CompareSwap(
        _remote(words),
        words.number("compare"),
        words.number("swap"),
        words.number("compare_mask", ALL_ONES),
        words.number("swap_mask", ALL_ONES),
        _atomic_sink(session, words),
        _wr(words),
        _signaled(words),
        words.flag("fence"),
    )
    words.end()
    return request


_MAKERS: Final[Mapping[str, Callable[[Session, Words], SendRequest]]] = {
    "send": _send,
    "write": _write,
    "read": _read,
    "immediate": _immediate,
    "fetchadd": _fetch_add,
    "cmpswap": _compare_swap,
}
OPERATIONS: Final = tuple(_MAKERS)


def _wr(words: Words) -> int:
    return words.number("wr", 0)


def _signaled(words: Words) -> bool:
    return words.flag("signaled", True)


def _remote(words: Words) -> RemoteRegion:
    return RemoteRegion(words.number("to"), words.number("stag", most=_STAG), 0)


def _octets(words: Words) -> bytes:
    """What to send: data= as it is, or len= octets of the pattern seed=."""
    if words.has("data"):
        return words.octets("data")
    return pattern(words.number("len", 0, MAX_REGION), words.number("seed", 0))


def _sges(session: Session, octets: bytes) -> tuple[RegionSlice, ...]:
    """The octets in memory of their own, which nothing changes while they are sent."""
    if not octets:
        return ()
    memory = session.new_memory(len(octets), Access.LOCAL_WRITE)
    memory.octets[:] = octets
    return (memory.region[:],)


def _sink(session: Session, words: Words, nbytes: int) -> RegionSlice | None:
    """Where what is read shall be placed: octets of the scratch memory."""
    scratch = session.regions["scratch"]
    offset = words.number("dest_off", 0)
    scratch.part(offset, nbytes)
    return scratch.region[offset : offset + nbytes] if nbytes else None


def _atomic_sink(session: Session, words: Words) -> RegionSlice | None:
    return _sink(session, words, ATOMIC_SIZE) if words.has("dest_off") else None
