"""What all objects of pyverbs are: they log, close, and close what depends on them first."""

from __future__ import annotations

import copy
import ctypes
import errno
import logging
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from weakref import WeakSet, finalize

from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError

__all__ = [
    "Owner",
    "PyverbsCM",
    "PyverbsObject",
    "PyverbsRDMAErrno",
    "Record",
    "inc_rkey",
    "invalid",
    "unsupported",
]

_KEY = 0xFF


def inc_rkey(rkey: int) -> int:
    """The rkey with the next key, as a window of type 2 has it when it is bound again."""
    return (rkey & ~_KEY) | ((rkey + 1) & _KEY)


def PyverbsRDMAErrno(msg: str) -> PyverbsRDMAError:
    """The error for what C's errno says."""
    return PyverbsRDMAError(msg, ctypes.get_errno())


def unsupported(what: str) -> NoReturn:
    """Raise the error for what no iWARP device does."""
    raise PyverbsRDMAError(what, errno.EOPNOTSUPP)


def invalid(what: str) -> NoReturn:
    """Raise the error for an argument that cannot be."""
    raise PyverbsRDMAError(what, errno.EINVAL)


class PyverbsObject:
    """Whatever pyverbs makes; it has a logger."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    @cached_property
    def logger(self) -> logging.Logger:
        """Where it logs, made when it is first used."""
        return logging.getLogger(type(self).__name__)

    def set_log_level(self, val: int | str) -> None:
        """Log from that level on."""
        self.logger.setLevel(val)


class PyverbsCM(PyverbsObject):
    """An object that `with` closes."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give it up."""


class Owner(PyverbsCM):
    """An object that others depend on: they close first, in the order of `rank`.

    `_let_go` gives up what is below. It is called once, by `close` or when the object is dropped.
    """

    rank: ClassVar[int] = 0
    """Among the objects that depend on one owner, those of smaller rank close first."""

    def __init__(self) -> None:
        super().__init__()
        self.dependents: WeakSet[Owner] = WeakSet()
        self._finalizers: list[Callable[[], object]] = []
        self._closed = False

    def add_ref(self, obj: Owner) -> None:
        """`obj` depends on this object."""
        self.dependents.add(obj)

    def remove_ref(self, obj: Owner) -> None:
        """`obj` does not any more."""
        self.dependents.discard(obj)

    def on_drop(self, call: Callable[..., object], *args: object) -> None:
        """Let `call` be made when the program has dropped the object; it must not hold on to the object."""
        kept = finalize(self, call, *args)
        kept.atexit = False
        self._finalizers.append(kept.detach)

    def close(self) -> None:
        """Close what depends on it, and itself. Twice does nothing."""
        if self._closed:
            return
        self._closed = True
        self.close_dependents()
        for detach in self._finalizers:
            detach()
        self._let_go()

    def close_dependents(self) -> None:
        """Close what depends on it."""
        found = sorted(self.dependents, key=lambda each: each.rank)
        self.dependents.clear()
        for each in found:
            each.close()

    def _let_go(self) -> None:
        """Give up what is below."""


class Record(PyverbsCM):
    """A set of attributes: the constructor takes `FIELDS` in their order, by name too, each with its default."""

    FIELDS: ClassVar[dict[str, Any]] = {}

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        for name, default in self.FIELDS.items():
            setattr(self, name, copy.copy(default))
        if len(args) > len(self.FIELDS):
            raise TypeError(f"{type(self).__name__}() takes at most {len(self.FIELDS)} arguments, {len(args)} given")
        for name, value in [*zip(self.FIELDS, args, strict=False), *kwargs.items()]:
            if name not in self.FIELDS:
                raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {name!r}")
            setattr(self, name, value)

    def __str__(self) -> str:
        lines = (f"{name:<22}: {getattr(self, name)!s:<20}\n" for name in self.FIELDS)
        return f"{type(self).__name__}:\n{''.join(lines)}"
