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


class PackedLinked(ctypes.Structure):
    """Its buffer says that it is octets, as does that of a union."""

    _pack_ = 1
    _layout_ = "ms"  # which Python 3.14 wants to be said
    _fields_ = (("number", ctypes.c_int), ("next", ctypes.POINTER(ctypes.c_int)))


class PackedObject(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("number", ctypes.c_char), ("object", ctypes.py_object))


class Address(ctypes.Union):
    _fields_ = (("number", ctypes.c_uint64), ("address", ctypes.c_void_p))


class WithUnion(ctypes.Structure):
    _fields_ = (("number", ctypes.c_int), ("either", Address))


class WithArray(ctypes.Structure):
    _fields_ = (("number", ctypes.c_int), ("several", PackedObject * 3))


class Derived(PackedLinked):
    _fields_ = (("more", ctypes.c_int),)  # type: ignore[assignment]


class DerivedArray(PackedObject * 2):  # type: ignore[misc]
    pass


class PackedNumbers(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("number", ctypes.c_char), ("other", ctypes.c_uint64), ("bits", ctypes.c_uint32, 3))


class NumberOrOctets(ctypes.Union):
    _fields_ = (("number", ctypes.c_uint64), ("octets", ctypes.c_char * 8), ("packed", PackedNumbers * 2))


class BigEndian(ctypes.BigEndianStructure):
    _fields_ = (("P", ctypes.c_uint32), ("O", ctypes.c_double))


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
    "a packed structure with a pointer": PackedLinked,
    "a packed structure with an object": PackedObject,
    "a union with an address": Address,
    "a structure with such a union": WithUnion,
    "a structure with an array of packed structures": WithArray,
    "a structure that inherits a pointer": Derived,
    "an array with a name": DerivedArray,
    "unions": lambda: (Address * 2)(),
    "packed structures in two dimensions": lambda: (PackedObject * 2 * 3)(),
    "a part of packed structures": lambda: memoryview((PackedObject * 2)()).cast("B", (18,))[9:],
    "packed structures as an array of octets": lambda: np.frombuffer(cast("Any", (PackedLinked * 2)()), dtype="u1")[2:],
    "a view": lambda: memoryview((ctypes.c_void_p * 2)()),
    "a view as octets": lambda: memoryview(cast("Any", np.array(["one", "two"], dtype=object))).cast("B"),
}
PLAIN: dict[str, Callable[[], Any]] = {
    "complex numbers": lambda: np.zeros(4, dtype=complex),
    "a field whose name has an O": lambda: np.zeros(2, dtype=[("Offset", "<i4"), ("Z", "<i4"), ("P&X", "<i4")]),
    "characters": lambda: (ctypes.c_char * 4)(),
    "a packed structure without pointers": PackedNumbers,
    "a union without pointers": NumberOrOctets,
    "structures in the order of the network": lambda: (BigEndian * 2)(),
    "an array that is a view of plain structures": lambda: np.frombuffer(
        cast("Any", (PackedNumbers * 2)()), dtype="u1"
    )[1:],
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
