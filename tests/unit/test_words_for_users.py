"""What users read has the words of the RFCs and of the system: no `None`, no `key=True`, no repr of Python's."""

from __future__ import annotations

import errno
import inspect
import os
import re
import sys
from collections.abc import Iterator
from enum import Enum
from typing import Final

import pytest

from pyiwarp import errors, files, verbs
from pyiwarp.access import Access
from pyiwarp.cli.terminal import explain
from pyiwarp.codes import Opcode, Rtr
from pyiwarp.conformance.bench.patterns import in_words, message, reply, request, terminate
from pyiwarp.errors import TERMS, Rejected, Term, TerminatedByPeer, WorkFailed
from pyiwarp.fastwire import ReadRequest
from pyiwarp.pump import reason_of
from pyiwarp.queues.work import Completion, Status, WorkOpcode
from pyiwarp.rdmacm import CmEventType, CmState
from pyiwarp.verbs import AsyncEventType, QpState
from pyiwarp.wire import AtomicRequest
from tests.children import ENVIRONMENT, finished

PYTHON: Final = re.compile(r"\b(?:None|True|False|object at|dataclass|Errno)\b|<|=\(|b'|\[\]")


def messages_of_errors() -> Iterator[tuple[str, str]]:
    """Each error of the package with arguments as it has them."""
    special: dict[str, tuple[object, ...]] = {
        "NoMatchingRtr": (Rtr.WRITE | Rtr.READ, Rtr(0)),
        "Rejected": (b"busy", 1, None),
        "TerminatedByPeer": (Term(1, 2, 5), b"", 100),
        "WorkFailed": (Completion(object(), Status.REM_OP_ERR, WorkOpcode.READ, error=None),),
    }
    for module in (errors, files):
        for name in module.__all__:
            cls = getattr(module, name)
            if not (inspect.isclass(cls) and issubclass(cls, errors.IwarpError)):
                continue
            if issubclass(cls, errors.ProtocolViolation) and not hasattr(cls, "term"):
                continue  # a family, of which none is raised
            holes = len(re.findall(r"{[^}]*}", getattr(cls, "rule", "{}")))
            yield name, str(cls(*special.get(name, (5, 7, 9, 11)[:holes])))


@pytest.mark.parametrize(("name", "text"), [pytest.param(*each, id=each[0]) for each in messages_of_errors()])
def test_errors(name: str, text: str) -> None:
    assert text
    assert not PYTHON.search(text)


def test_terminates() -> None:
    for term in [*TERMS, Term(0, 0, 9), Term(3, 4, 5)]:
        for error in (TerminatedByPeer(term), TerminatedByPeer(term, bytes(18), 77)):
            assert not PYTHON.search(str(error))


@pytest.mark.parametrize("kind", [AsyncEventType, CmEventType, CmState, QpState, Status, WorkOpcode, verbs.WindowType])
def test_events_and_states(kind: type[Enum]) -> None:
    """Messages and log lines have their values."""
    assert not any(PYTHON.search(str(each.value)) for each in kind)


def test_rights_and_opening_messages_are_named() -> None:
    assert repr(Access.LOCAL_WRITE | Access.REMOTE_READ) == "LOCAL_WRITE|REMOTE_READ"
    assert repr(Access(0)) == repr(Rtr(0)) == "none"
    assert repr(Rtr.WRITE) == "WRITE"


def test_what_a_peer_said_is_text_or_octets() -> None:
    assert str(Rejected(b"the server is full")).endswith("; it said 'the server is full'")
    assert str(Rejected(b"\x00\x9f")).endswith("; it said the octets 009f")
    assert str(Rejected()).endswith("(RFC 5044 §7.1.2)")


def test_a_failed_work_request_says_which_and_how() -> None:
    done = Completion(object(), Status.REM_OP_ERR, WorkOpcode.READ)
    assert str(WorkFailed(done)) == "a work request failed: read remote operation error, 0 octets"


def test_the_system_speaks_without_its_number() -> None:
    assert (
        reason_of(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))) == "Connection reset by peer"
    )
    assert reason_of(TimeoutError("too long")) == "too long"


def test_the_command_line_tells_of_objects_without_brackets() -> None:
    assert explain(errors.Closed("the peer closed it: <Connection with 127.0.0.1:4 RTS>")) == (
        "the peer closed it: Connection with 127.0.0.1:4 RTS"
    )


# --- the conformance tester ------------------------------------------------------------------------------------------


def test_what_is_due() -> None:
    due = terminate(Term(2, 0, 2), segment_length=None, ddp_header=b"", rdma_header=b"")
    assert str(due) == "Terminate 2/0/02 with no DDP Segment Length, no DDP header, no RDMA header"
    assert str(terminate(segment_length=118)) == "Terminate with DDP Segment Length=0x76"
    assert str(request(private_data=b"", enhanced=True)) == "an MPA Request with no private data, enhanced=1"
    assert str(reply(rejected=False)) == "an MPA Reply with rejected=0"
    assert str(message(Opcode.SEND, payload=b"")) == "Send with no payload"


@pytest.mark.parametrize(
    ("came", "words"),
    [
        (None, "none"),
        ([None, None], "none, none"),
        ([True, False], "1, 0"),
        ([(1, "send"), (2, "write")], "1 send, 2 write"),
        (b"", "nothing"),
        (ReadRequest(1, 2, 3, 4, 5), "sink stag 1, sink to 2, read size 3, source stag 4, source to 5"),
        (
            AtomicRequest(0, 1, 2, 3, 4, 5),
            "atomic opcode 0, request id 1, stag 2, to 3, data 4, mask 5, compare data 0, "
            "compare mask 0xffffffffffffffff",
        ),
    ],
)
def test_what_came(came: object, words: str) -> None:
    assert in_words(came) == words


# --- screens ---------------------------------------------------------------------------------------------------------

COMMANDS: Final = (
    "",
    "serve",
    "get",
    "put",
    "ls",
    "ping",
    "perf",
    "conform",
    "target",
    "tunnel",
    "rstream",
    "rcopy",
    "run",
    "info",
    "demo",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_has_no_word_of_pythons(command: str) -> None:
    words = [command, "--help"] if command else ["--help"]
    done = finished([sys.executable, "-m", "pyiwarp", *words], env={**ENVIRONMENT, "COLUMNS": "80"})
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not re.search(r"\b(?:None|True|False)\b", done.stdout)
    assert "[[" not in done.stdout
