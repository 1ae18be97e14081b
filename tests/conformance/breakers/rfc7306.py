"""Breakers of the cases of RFC 7306; a Terminate that a case awaits names another cause unless a row says otherwise."""

from __future__ import annotations

from pyiwarp.conformance.catalogue import cases
from tests.conformance.breakers.generic import LIES_ABOUT_MEMORY, NEVER_TERMINATES, NO_COMPLETIONS, OTHER_CODE
from tests.conformance.breakers.placement import (
    BEYOND_ORD,
    CARRIES_RUN_ON,
    CHANGES_NOTHING,
    COMPARES_ALL,
    COMPARES_NOTHING,
    COMPLETES_BACKWARDS,
    EXTRA_OCTET,
    FORGETS_IMMEDIATE,
    INVALIDATES_ALWAYS,
    INVENTS_COMPLETIONS,
    NEVER_SOLICITED,
    ONE_INBOUND_READ,
    OTHER_COMPARE,
    OTHER_GIVEN_VALUE,
    OTHER_IDENTIFIER,
    OTHER_MO,
    OTHER_MSN,
    OTHER_OPERAND,
    OTHER_PAYLOAD,
    OTHER_QN,
    OTHER_STAG,
    OTHER_VALUE,
    PLACES_NOTHING,
    SETS_ATOMIC_RESERVED,
    SETS_RDMAP_RESERVED,
    SWAPS,
    SWAPS_ALL,
    T_COPY,
    assign,
)
from tests.conformance.peers import Breaker

OWN = assign(
    (
        CHANGES_NOTHING,
        "EXT-7306-5.1.1-06 EXT-7306-5.1.1-07 EXT-7306-5.2.1-09 EXT-7306-5.1.2-01 EXT-7306-5.4-09 EXT-7306-5.4-06 "
        "EXT-7306-5-03 EXT-7306-5.2.1-03 EXT-7306-5.1.2-01/2",
    ),
    (CARRIES_RUN_ON, "EXT-7306-5.1.1-05"),
    (COMPARES_ALL, "EXT-7306-5.1.2-01/3"),
    (SWAPS_ALL, "EXT-7306-5.1.2-01/4 EXT-7306-5.1.2-02/3 EXT-7306-5.1.2-03"),
    (COMPARES_NOTHING, "EXT-7306-5.1.2-02 EXT-7306-5.1.2-02/2"),
    (OTHER_VALUE, "EXT-7306-5.2.2-02 EXT-7306-5.2.1-06 EXT-7306-5.2.1-18"),
    (OTHER_QN, "EXT-7306-5-05"),
    (EXTRA_OCTET, "EXT-7306-5.2.2-01 EXT-7306-6.3-05"),
    (OTHER_IDENTIFIER, "EXT-7306-5.2.1-05"),
    (INVALIDATES_ALWAYS, "EXT-7306-4.1-04 EXT-7306-4.1-04/2"),
    (INVENTS_COMPLETIONS, "EXT-7306-5.2.1-12 EXT-7306-5.4-08"),
    (NO_COMPLETIONS, "EXT-7306-5.2.1-13 EXT-7306-7-03 EXT-7306-5.4-07 EXT-7306-5.2.2-06"),
    (SWAPS, "EXT-7306-5.2.1-17 EXT-7306-5.2.2-09 EXT-7306-7-01 EXT-7306-6.3-06 EXT-7306-5.2.1-16"),
    (PLACES_NOTHING, "EXT-7306-5.4-05 EXT-7306-5.4-04 EXT-7306-6.4-01"),
    (ONE_INBOUND_READ, "EXT-7306-5.2.1-11"),
    (OTHER_MSN, "EXT-7306-5-06 EXT-7306-6.3-04 EXT-7306-5.2-01"),
    (FORGETS_IMMEDIATE, "EXT-7306-6.1-01"),
    (NEVER_SOLICITED, "EXT-7306-6.1-01/2"),
    (COMPLETES_BACKWARDS, "EXT-7306-6.3-03 EXT-7306-5-06/2"),
    (OTHER_PAYLOAD, "EXT-7306-6.2-01"),
    (SETS_RDMAP_RESERVED, "EXT-7306-4.1-02 EXT-7306-6.3-01"),
    (OTHER_OPERAND, "EXT-7306-5.2.1-01 EXT-7306-5.2.1-01/2"),
    (SETS_ATOMIC_RESERVED, "EXT-7306-5.2.1-02"),
    (OTHER_COMPARE, "EXT-7306-5.2.1-08"),
    (OTHER_MO, "EXT-7306-5.2.1-10"),
    (OTHER_STAG, "EXT-7306-4.1-03"),
    (BEYOND_ORD, "EXT-7306-5.2-01/2"),
    (OTHER_GIVEN_VALUE, "EXT-7306-5.2.2-07"),
    (LIES_ABOUT_MEMORY, "EXT-7306-5.1.1-03 EXT-7306-5.1.2-06"),
    (T_COPY, "EXT-7306-8.1-02"),
)
BREAKERS: dict[str, Breaker] = {
    case.id: OWN.get(case.id, NEVER_TERMINATES if "Terminate of any kind" in case.accepts else OTHER_CODE)
    for case in cases()
    if case.id.startswith("EXT-") and (case.id in OWN or "Terminate" in case.accepts)
}
