"""Memory that holds pointers is refused wherever memory is given: a peer's Write would forge addresses."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from pyiwarp.errors import BadWorkRequest
from pyiwarp.mr import Access
from pyiwarp.verbs import RegMr, Send, Write
from tests.harness import REMOTE, Node, Pair
from tests.integration.polled import pair


class Linked(ctypes.Structure):
    _fields_ = (("number", ctypes.c_int), ("next", ctypes.POINTER(ctypes.c_int)))


POINTERS: dict[str, Callable[[], Any]] = {
    "objects": lambda: np.array(["one", "two"], dtype=object),
    "no objects": lambda: np.zeros(0, dtype=object),
    "a structure with an object": lambda: np.zeros(2, dtype=[("a", "<i8"), ("b", "O")]),
    "objects of ctypes": lambda: (ctypes.py_object * 2)(),
    "addresses": lambda: (ctypes.c_void_p * 2)(),
    "strings of C": lambda: (ctypes.c_char_p * 2)(),
    "wide strings of C": lambda: (ctypes.c_wchar_p * 2)(),
    "pointers": lambda: (ctypes.POINTER(ctypes.c_int) * 2)(),
    "functions": lambda: (ctypes.CFUNCTYPE(None) * 2)(),
    "a structure with a pointer": Linked,
    "a view": lambda: memoryview((ctypes.c_void_p * 2)()),
    "a view as octets": lambda: memoryview(cast("Any", np.array(["one", "two"], dtype=object))).cast("B"),
}
PLAIN: dict[str, Callable[[], Any]] = {
    "complex numbers": lambda: np.zeros(4, dtype=complex),
    "a field whose name has an O": lambda: np.zeros(2, dtype=[("Offset", "<i4"), ("Z", "<i4"), ("P&X", "<i4")]),
    "characters": lambda: (ctypes.c_char * 4)(),
    "a view of octets": lambda: memoryview(bytearray(8))[2:],
}
WAYS: dict[str, Callable[[Node, Any], object]] = {
    "register": lambda node, memory: node.pd.register(memory, REMOTE),
    "register for this side": lambda node, memory: node.pd.register(memory, Access(0)),
    "register without rights": lambda node, memory: node.pd.register(memory),
    "reregister": lambda node, memory: node.pd.register(bytearray(4), REMOTE).reregister(memory),
    "RegMr": lambda node, memory: node.post(RegMr(node.pd.alloc_stag(), memory, REMOTE)),
    "RegMr of several": lambda node, memory: node.post(RegMr(node.pd.alloc_stag(), [bytearray(4), memory], REMOTE)),
    "Send": lambda node, memory: node.post(Send(inline=memory)),
    "Write": lambda node, memory: node.post(Write(inline=memory, remote=node.region(64)[:].remote())),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", POINTERS)
def test_memory_that_holds_pointers_is_refused(kind: str, way: str) -> None:  # SEC-5042-6.2.1-01
    node = Pair().right
    memory = POINTERS[kind]()
    before = bytes(memory)
    with pytest.raises(BadWorkRequest, match="holds pointers"):
        WAYS[way](node, memory)
    assert bytes(memory) == before


@pytest.mark.parametrize("kind", POINTERS)
def test_connections_refuse_it_too(kind: str) -> None:
    memory = POINTERS[kind]()
    with pair() as (one, other), other.register(bytearray(64), REMOTE) as far:
        for call in (
            lambda: one.send(memory),
            lambda: one.write(memory, far[:].remote()),
            lambda: one.read(memory, far[:].remote()),
            lambda: one.register(memory, REMOTE),
        ):
            with pytest.raises(BadWorkRequest, match="holds pointers"):
                call()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", PLAIN)
def test_other_memory_is_not(kind: str, way: str) -> None:
    WAYS[way](Pair().right, PLAIN[kind]())
