"""Sessions of each kind, cut at every octet and with every bit flipped: the promises of the targets hold.

The sessions have no CRC, so that a flipped bit reaches DDP and RDMAP; with a CRC `test_engine` damages them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
SESSIONS = [(target, path.name) for target in ("stream", "startup") for path in sorted((CORPUS / target).iterdir())]


@pytest.mark.parametrize(("target", "name"), SESSIONS)
def test_a_session_is_cut_at_every_octet(target: str, name: str) -> None:
    octets = (CORPUS / target / name).read_bytes()
    for length in range(len(octets)):
        TARGETS[target](octets[:length])


@pytest.mark.parametrize(("target", "name"), SESSIONS)
def test_every_bit_of_a_session_is_flipped(target: str, name: str) -> None:
    octets = bytearray((CORPUS / target / name).read_bytes())
    for bit in range(8, 8 * len(octets)):  # the first octet says how the session is delivered
        octets[bit >> 3] ^= 1 << (bit & 7)
        TARGETS[target](bytes(octets))
        octets[bit >> 3] ^= 1 << (bit & 7)
