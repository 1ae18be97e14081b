"""The messages of the file transfer: there and back, and nothing else is let in."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiwarp.files.digests import Digest
from pyiwarp.files.errors import BadMessage
from pyiwarp.files.messages import (
    MESSAGE_LIMIT,
    MESSAGES,
    Busy,
    Cancel,
    Commit,
    End,
    Entries,
    Entry,
    Found,
    Get,
    Kept,
    List,
    Message,
    Placed,
    Put,
    Ready,
    Refused,
    Sent,
    Stored,
    decode,
    encode,
    packed,
)

SHA = "0123456789abcdef" * 4

ONE_OF_EACH: list[Message] = [
    Get("é\n/文"),
    Found(1 << 40),
    Get("x", mode=True, times=True),
    Found(1, 0o755, -1),
    Put("x", 0, 1, 2, 0o600, 1 << 62),
    Ready(0xFFFF_FFFF, (1 << 64) - 1),
    Placed(1),
    Sent(SHA),
    Sent(blake3=SHA),
    Kept(),
    Cancel("disk full"),
    Put("x", 0, 1, 2),
    Commit(SHA),
    Commit.of(Digest.BLAKE3, SHA),
    Stored(),
    List(""),
    Entries((Entry("a", "file", 3, 1_700_000_000), Entry("b", "directory", 0, -1))),
    End(2),
    Refused("no"),
    Busy(),
]


def test_there_is_one_of_each() -> None:
    assert {type(message) for message in ONE_OF_EACH} == set(MESSAGES.values())


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: message.op)
def test_there_and_back(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_arbitrary_octets_are_a_bad_message(octets: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(octets)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=9,
)


@given(message=st.sampled_from(ONE_OF_EACH), value=json_values, pick=st.integers(0, 9))
def test_any_value_in_any_field_is_a_message_or_a_bad_one(message: Message, value: object, pick: int) -> None:
    fields = json.loads(encode(message))
    fields[sorted(fields)[pick % len(fields)]] = value
    with suppress(BadMessage):
        decode(json.dumps(fields).encode(errors="surrogatepass"))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 8000,
        "1" * 8000,
        '{"op":"get"}',
        '{"op":"get","name":"x","more":1}',
        '{"op":"get","name":1}',
        '{"op":"found","size":true}',
        '{"op":"found","size":-1}',
        '{"op":"found","size":1e3}',
        f'{{"op":"found","size":{1 << 46}}}',
        '{"op":"placed","upto":null}',
        f'{{"op":"ready","stag":{1 << 32},"to":0}}',
        f'{{"op":"ready","stag":0,"to":{1 << 64}}}',
        f'{{"op":"sent","sha256":"{SHA.upper()}"}}',
        '{"op":"sent","sha256":"00"}',
        '{"op":"sent","blake3":"00"}',
        '{"op":"sent","blake3":null}',
        '{"op":"sent"}',
        '{"op":"commit"}',
        f'{{"op":"commit","sha256":"{SHA}","blake3":"{SHA}"}}',
        f'{{"op":"kept","blake3":"{SHA}"}}',
        '{"op":["get"],"name":"x"}',
        '{"op":"entries","entries":[]}',
        '{"op":"entries","entries":[["x","file",1]]}',
        '{"op":"entries","entries":[["x","door",1,1]]}',
        '{"op":"entries","entries":[["x",["file"],1,1]]}',
        '{"op":"entries","entries":[["x","file",1,99999999999999]]}',
        json.dumps({"op": "get", "name": "é" * 513}),
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        decode(text.encode())


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=255), min_size=1, max_size=200))
def test_listings_fit_their_messages(names: list[str]) -> None:
    entries = [Entry(name, "file", (1 << 63) - 1, 1 << 39) for name in names]
    while entries:
        count = packed(entries)
        assert count > 0
        assert len(encode(Entries(tuple(entries[:count])))) <= MESSAGE_LIMIT
        entries = entries[count:]


@pytest.mark.parametrize("kind", Digest)
def test_a_message_has_the_digest_that_was_agreed_on_or_is_a_bad_one(kind: Digest) -> None:
    (other,) = set(Digest) - {kind}
    message = decode(encode(Sent.of(kind, SHA)))
    assert isinstance(message, Sent)
    assert message.digest(kind) == SHA
    with pytest.raises(BadMessage, match=f"'sent' has another digest than {other.title}"):
        message.digest(other)


def test_the_longest_name_fits() -> None:
    assert len(encode(Put("\x01" * 1024, (1 << 46) - 1, 0xFFFF_FFFF, (1 << 64) - 1))) <= MESSAGE_LIMIT
