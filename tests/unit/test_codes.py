"""The numbers with names, against the RFCs' figures."""

from __future__ import annotations

from pyiwarp.codes import (
    MAX_MESSAGE,
    MAX_MULPDU,
    MAX_PRIVATE_DATA,
    MIN_MULPDU,
    UNNEGOTIATED,
    AtomicOpcode,
    Layer,
    Opcode,
    QueueNumber,
)


def test_opcodes_are_those_of_the_figures() -> None:  # RDMAP-5040-4.1-05, EXT-7306-4.1-02
    assert {opcode.name: opcode.value for opcode in Opcode} == {
        "WRITE": 0x0,
        "READ_REQUEST": 0x1,
        "READ_RESPONSE": 0x2,
        "SEND": 0x3,
        "SEND_INVAL": 0x4,
        "SEND_SE": 0x5,
        "SEND_SE_INVAL": 0x6,
        "TERMINATE": 0x7,
        "IMMEDIATE": 0x8,
        "IMMEDIATE_SE": 0x9,
        "ATOMIC_REQUEST": 0xA,
        "ATOMIC_RESPONSE": 0xB,
    }


def test_queue_numbers_are_those_of_the_figures() -> None:  # RDMAP-5040-4.1-06, EXT-7306-4.1-05
    numbers = [QueueNumber.SEND, QueueNumber.READ_REQUEST, QueueNumber.TERMINATE, QueueNumber.ATOMIC_RESPONSE]
    assert numbers == list(QueueNumber) == [0, 1, 2, 3]


def test_atomic_opcodes_are_those_of_the_figure() -> None:  # EXT-7306-5.2.1-04
    assert {opcode.name: opcode.value for opcode in AtomicOpcode} == {"FETCH_ADD": 0, "COMPARE_SWAP": 2}


def test_layers_are_those_of_the_figure() -> None:  # RDMAP-5040-4.8-03
    assert {layer.name: layer.value for layer in Layer} == {"RDMAP": 0, "DDP": 1, "LLP": 2}


def test_limits() -> None:  # MPA-5044-3-04, MPA-5044-7.1.1-23, MPA2-6581-9.1-13
    assert (MIN_MULPDU, MAX_MULPDU, MAX_PRIVATE_DATA) == (128, 64_768, 512)
    assert (MAX_MESSAGE, UNNEGOTIATED) == (2**32 - 1, 2**14 - 1)


def test_a_marker_can_point_back_over_the_largest_fpdu() -> None:
    """FPDUPTR has 16 bits; of the largest FPDU and its markers, the last word lies 4 octets before the end."""
    without_markers = 2 + MAX_MULPDU + 2 + 4
    markers = -(-without_markers // 508)
    assert without_markers + 4 * markers - 4 <= 0xFFFF
