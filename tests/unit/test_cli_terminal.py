"""What reaches the terminal is harmless and one line."""

from __future__ import annotations

import errno
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiwarp.cli.terminal import explain, rate, shown
from pyiwarp.files.errors import Refusal


def test_control_characters_are_escaped() -> None:
    assert shown("a\x1b[31m\n\u202eb\udc80 é 文") == r"a\x1b[31m\n\u202eb\udc80 é 文"


@given(st.text(alphabet=st.characters()))
def test_nothing_shown_can_steer_a_terminal(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 10 * 1025


def test_long_text_is_cut() -> None:
    assert shown("x" * 5000) == "x" * 1024 + "…"


def test_errors_become_one_line() -> None:
    assert explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a\nb")) == r"a\nb: No space left on device"
    assert (
        explain(socket.gaierror(-2, "Name or service not known")) == "the host is not known: Name or service not known"
    )
    with pytest.raises(UnicodeError) as raised:
        socket.getaddrinfo("a..b", 1)
    assert explain(raised.value).startswith("the host is not known: a part of its name is empty")
    assert explain(Refusal("no")) == "no"
    assert explain(EOFError()) == "EOFError"


def test_rates_have_the_unit_that_says_most() -> None:
    assert rate(2_500_000_000, 2) == "1.25 GB/s"
    assert rate(1000, 1) == "0.001 MB/s"
    assert rate(0, 0) == "0.000 MB/s"
