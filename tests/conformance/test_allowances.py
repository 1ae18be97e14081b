"""Allowances for peers that go their own way."""

from __future__ import annotations

import pytest

from pyiwarp.conformance.bench.allowances import PLAIN, Allowances
from pyiwarp.conformance.bench.observed import Message
from pyiwarp.decode.framing import Fpdu
from pyiwarp.errors import Term

BITFIELDS = Allowances(little_endian_terminates=True)
HEADER = bytes.fromhex("4147000000000000000200000001 00000000")


@pytest.mark.parametrize(
    ("theirs", "plain"),
    [
        ("02020000", "20020000"),
        ("21020300", "1202c000"),
        ("10000700", "0100e000"),
        ("11000320", "1100c020"),
        ("110008", "110008"),
    ],
)
def test_bit_fields_of_a_little_endian_machine(theirs: str, plain: str) -> None:
    assert BITFIELDS.read_terminate(bytes.fromhex(theirs)).hex() == plain
    assert PLAIN.read_terminate(bytes.fromhex(theirs)).hex() == theirs


def test_a_message_is_read_with_them_and_shown_as_it_came() -> None:
    ulpdu = HEADER + bytes.fromhex("02020000")
    fpdu = Fpdu(0, b"", ulpdu, b"", 0, 0, ())
    seen, plain = Message(fpdu, BITFIELDS), Message(fpdu)
    assert seen.terminate is not None
    assert seen.terminate.term == Term(2, 0, 2)
    assert seen.annotated()[:-1] == plain.annotated()
    assert "2/0/02" in seen.annotated()[-1]
    assert plain.terminate is not None
    assert plain.terminate.term == Term(0, 2, 2)
