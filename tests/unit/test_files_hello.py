"""Which digest a client and a server of the file service agree on, whatever the other one says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiwarp.codes import MAX_PRIVATE_DATA
from pyiwarp.errors import Rejected
from pyiwarp.files import digests
from pyiwarp.files.digests import Digest
from pyiwarp.files.errors import BadMessage
from pyiwarp.files.hello import HELLO, NAMES_LIMIT, STRANGER, agreed, answer, knows_no_digests, offer

WITH_BLAKE3 = HELLO + b" blake3"


@pytest.fixture(autouse=True)
def blake3_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed in this file."""
    monkeypatch.setattr(digests, "BLAKE3", Digest.SHA256.begin)


def test_both_have_blake3() -> None:
    assert offer(sha256=False) == WITH_BLAKE3
    assert answer(WITH_BLAKE3, sha256=False) == (Digest.BLAKE3, WITH_BLAKE3)
    assert agreed(WITH_BLAKE3, WITH_BLAKE3) is Digest.BLAKE3


def test_either_asks_for_sha256() -> None:
    assert offer(sha256=True) == HELLO
    assert answer(WITH_BLAKE3, sha256=True) == (Digest.SHA256, HELLO)
    assert answer(HELLO, sha256=False) == (Digest.SHA256, HELLO)
    assert agreed(WITH_BLAKE3, HELLO) is agreed(HELLO, HELLO) is Digest.SHA256


def test_either_has_no_blake3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "BLAKE3", None)
    assert offer(sha256=False) == HELLO
    assert answer(WITH_BLAKE3, sha256=False) == (Digest.SHA256, HELLO)


def test_names_of_later_versions_are_passed_over() -> None:
    names = b" k12 blake4 blake3" + b" x" * (NAMES_LIMIT - 3)
    assert answer(HELLO + names, sha256=False) == (Digest.BLAKE3, WITH_BLAKE3)
    assert answer(HELLO + b" k12", sha256=False) == (Digest.SHA256, HELLO)
    assert answer(HELLO + b" blake3 blake3", sha256=False) == (Digest.BLAKE3, WITH_BLAKE3)


@pytest.mark.parametrize(
    "private_data",
    [
        b"",
        b"pyiwarp files 2",
        b"pyiwarp files 1 ",
        b"pyiwarp files 1  blake3",
        b"pyiwarp files 1 blake3 ",
        b"pyiwarp files 1 BLAKE3",
        b"pyiwarp files 1\nblake3",
        b"pyiwarp files 1 blake3\n",
        b"pyiwarp files 1blake3",
        b"pyiwarp files 1 \xff",
        b"pyiwarp files 1 \0blake3",
        b"pyiwarp files 1 " + b"x" * 17,
        b"pyiwarp files 1" + b" x" * (NAMES_LIMIT + 1),
        b"pyiwarp files 1" + b" x" * 248,
    ],
)
def test_a_client_that_says_anything_else_is_a_stranger(private_data: bytes) -> None:
    assert len(private_data) <= MAX_PRIVATE_DATA
    assert answer(private_data, sha256=False) is None


@given(st.binary(max_size=MAX_PRIVATE_DATA) | st.binary(max_size=60).map(lambda tail: HELLO + tail))
def test_whatever_a_client_says_the_server_answers_what_the_client_takes(private_data: bytes) -> None:
    chosen = answer(private_data, sha256=False)
    if chosen is not None:
        digest, hello = chosen
        assert hello in (HELLO, WITH_BLAKE3)
        assert (digest is Digest.BLAKE3) == (b"blake3" in private_data.split())


@given(st.sampled_from([HELLO, WITH_BLAKE3]), st.binary(max_size=60) | st.binary(max_size=60).map(lambda b: HELLO + b))
def test_a_client_takes_nothing_that_it_has_not_offered(offered: bytes, answered: bytes) -> None:
    if answered in (HELLO, offered):
        agreed(offered, answered)
        return
    with pytest.raises(BadMessage):
        agreed(offered, answered)


def test_a_digest_that_was_not_offered_has_an_error_of_its_own() -> None:
    with pytest.raises(BadMessage, match="chose a digest that this client has not offered"):
        agreed(HELLO, WITH_BLAKE3)
    with pytest.raises(BadMessage, match="it is not a file server"):
        agreed(WITH_BLAKE3, b"a web server")


def test_only_the_words_of_an_earlier_version_are_a_reason_to_connect_again() -> None:
    assert knows_no_digests(Rejected(STRANGER))
    for words in (b"", b"the server is full", STRANGER + b" ", STRANGER[:-1]):
        assert not knows_no_digests(Rejected(words))
