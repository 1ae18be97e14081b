"""The CRC32C of the stack: both libraries agree, on any octets in any pieces, and each is used where it is alone."""

from __future__ import annotations

import sys

import pytest
from crc32c import crc32c as of_the_package
from hypothesis import given
from hypothesis import strategies as st

from pyiwarp import crc
from tests.children import finished

KNOWN = {
    b"": 0,
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    b"123456789": 0xE3069283,
}
"""RFC 3720 appendix B.4, and the check value of the catalogues."""

HIDE = """
import sys
sys.modules["fastcrc"] = None
from pyiwarp import crc
from tests.children import finished
from pyiwarp.mpa import Framer
out = []
Framer(crc=True).frame(b"head", [b"payload"], 7, out)
print(crc.LIBRARY, crc.crc32c(b"123456789"), b"".join(out).hex())
"""


@pytest.mark.parametrize(("octets", "value"), KNOWN.items(), ids=lambda value: repr(value)[:20])
def test_known_values(octets: bytes, value: int) -> None:
    assert crc.crc32c(octets) == of_the_package(octets) == value


@given(pieces=st.lists(st.binary(max_size=70), max_size=5), lead=st.integers(0, 7))
def test_the_libraries_agree_on_any_pieces(pieces: list[bytes], lead: int) -> None:
    ours = theirs = 0
    for piece in pieces:
        view = memoryview(bytearray(lead) + piece)[lead:]
        ours, theirs = crc.crc32c(view, ours), of_the_package(view, theirs)
    assert ours == theirs == of_the_package(b"".join(pieces))


@pytest.mark.parametrize("nbytes", [1 << 14, (1 << 14) + 1, 65_288, 1 << 20])
def test_the_libraries_agree_on_large_buffers(nbytes: int) -> None:
    octets = bytes(range(251)) * (nbytes // 251 + 1)
    assert crc.crc32c(octets[:nbytes]) == of_the_package(octets[:nbytes])


def test_without_fastcrc_the_other_one_does_the_same() -> None:
    done = finished([sys.executable, "-c", HIDE])
    assert done.returncode == 0, done.stderr
    library, value, octets = done.stdout.split()
    assert (library, int(value)) == ("crc32c", 0xE3069283)
    body = bytes.fromhex(octets)
    assert int.from_bytes(body[-4:], "little") == crc.crc32c(body[:-4])
