"""Breakers of the cases of RFC 5044."""

from __future__ import annotations

from tests.conformance.breakers.generic import (
    ACCEPTS_ANYTHING,
    BABBLES,
    ECHO,
    FORGETS_PRIVATE_DATA,
    GOES_ON,
    NEVER_TERMINATES,
    OVERLOOKS_CRC,
    SILENT_INITIATOR,
)
from tests.conformance.peers import Breaker

BREAKERS: dict[str, Breaker] = {
    "MPA-5044-7.1.1-03": ECHO,
    "MPA-5044-7.1.1-01": SILENT_INITIATOR,
    "MPA-5044-7.1.1-02": ACCEPTS_ANYTHING,
    "MPA-5044-7.1.1-04": GOES_ON,
    "MPA-5044-7.1.2-03": BABBLES,
    "MPA-5044-7.1.2-09": FORGETS_PRIVATE_DATA,
    "MPA-5044-8-02": NEVER_TERMINATES,
    "MPA-5044-4.4-17": OVERLOOKS_CRC,
}
