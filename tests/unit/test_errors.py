"""The exception tree: each cause has one class, each class its registered code and its text."""

from __future__ import annotations

import pytest

from pyiwarp import errors
from pyiwarp.codes import Layer
from pyiwarp.errors import (
    TERMS,
    ConnectionLost,
    IwarpError,
    ProtocolViolation,
    Rejected,
    StartupError,
    Term,
    TerminatedByPeer,
    UsageError,
    WorkFailed,
)


def subclasses(root: type[IwarpError]) -> list[type[IwarpError]]:
    """Every class below `root`, as the module defines them."""
    found = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, root)]
    return [cls for cls in found if cls is not root]


VIOLATIONS = [cls for cls in subclasses(ProtocolViolation) if hasattr(cls, "term")]
FAMILIES = [(errors.MpaError, Layer.LLP), (errors.DdpError, Layer.DDP), (errors.RdmapError, Layer.RDMAP)]


def raised(cls: type[IwarpError]) -> IwarpError:
    """An instance with as many arguments as its text has places."""
    places = getattr(cls, "rule", "").count("{")
    return cls(*range(1, places + 1))


def test_only_the_families_have_no_code() -> None:
    abstract = {cls.__name__ for cls in subclasses(ProtocolViolation)} - {cls.__name__ for cls in VIOLATIONS}
    families = {"MpaError", "DdpError", "RdmapError"}
    kinds = {"TaggedBufferError", "UntaggedBufferError", "RemoteProtection", "RemoteOperation"}
    assert abstract == families | kinds


@pytest.mark.parametrize("cls", VIOLATIONS)
def test_the_code_of_every_violation_is_registered(cls: type[ProtocolViolation]) -> None:  # RDMAP-5040-4.8-03
    assert cls.term in TERMS


@pytest.mark.parametrize("cls", VIOLATIONS)
def test_the_layer_of_every_violation_is_that_of_its_family(cls: type[ProtocolViolation]) -> None:
    # RDMAP-6580-3.1-01, DDP-6580-3.2-01, MPA-6580-3.3-01
    assert [layer for family, layer in FAMILIES if issubclass(cls, family)] == [cls.term.layer]


@pytest.mark.parametrize("cls", VIOLATIONS)
def test_the_text_of_every_violation_has_the_values_and_the_clause(cls: type[ProtocolViolation]) -> None:
    assert "{" in cls.rule
    assert cls.rule.format(*range(1, 9)) in str(raised(cls))
    assert str(raised(cls)).endswith(f"({TERMS[cls.term][1]})")


def test_a_failed_startup_has_a_code_where_rfc_6581_names_one() -> None:
    """MPA2-6581-8-01."""
    coded = {cls for cls in subclasses(StartupError) if issubclass(cls, ProtocolViolation)}
    assert coded == {errors.InsufficientIrd, errors.NoMatchingRtr, errors.SetupFailed}


def test_tagged_and_untagged_causes_have_their_own_error_type() -> None:  # DDP-5041-7.2-01
    for family, etype in [(errors.TaggedBufferError, 1), (errors.UntaggedBufferError, 2)]:
        assert {cls.term.etype for cls in VIOLATIONS if issubclass(cls, family)} == {etype}
    for family_, etype in [(errors.RemoteProtection, 1), (errors.RemoteOperation, 2)]:
        assert {cls.term.etype for cls in VIOLATIONS if issubclass(cls, family_)} == {etype}


@pytest.mark.parametrize(
    ("cls", "term"),
    [
        (errors.StagNotAssociated, "1/1/02"),  # DDP-5041-7.2-02
        (errors.TaggedVersion, "1/1/04"),  # DDP-5041-7.2-03
        (errors.UntaggedVersion, "1/2/06"),  # DDP-5041-7.2-04
        (errors.InvalidMo, "1/2/04"),  # DDP-5041-7.2-05
        (errors.MessageTooLong, "1/2/05"),
        (errors.NoBufferForMsn, "1/2/02"),
        (errors.MsnOutOfRange, "1/2/03"),
        (errors.NoWriteRight, "1/1/00"),  # DDP has no code for rights
        (errors.ReadAccessRights, "0/1/02"),
        (errors.CannotInvalidate, "0/1/09"),
        (errors.RdmapVersion, "0/2/05"),
        (errors.UnexpectedOpcode, "0/2/06"),
        (errors.CrcMismatch, "2/0/02"),  # MPA-5044-8-02
        (errors.MarkerMismatch, "2/0/03"),  # MPA-5044-8-03
        (errors.InsufficientIrd, "2/0/06"),  # MPA2-6581-9.1-11
        (errors.NoMatchingRtr, "2/0/07"),  # MPA2-6581-9.2-12
    ],
)
def test_causes_and_codes(cls: type[ProtocolViolation], term: str) -> None:
    assert str(cls.term) == term


def test_every_public_exception_is_an_iwarp_error_and_listed() -> None:
    classes = {cls.__name__ for cls in subclasses(IwarpError)} | {"IwarpError"}
    assert set(errors.__all__) == classes | {"TERMS", "Term"}


@pytest.mark.parametrize("cls", subclasses(UsageError))
def test_usage_errors_are_also_the_errors_that_python_programmers_know(cls: type[UsageError]) -> None:
    assert issubclass(cls, (ValueError, RuntimeError))


def test_a_term_describes_itself() -> None:
    assert Term(1, 1, 0).describe() == "DDP: tagged buffer: invalid STag (RFC 5041 §7.2)"
    assert Term(0, 0, 0x7F).describe() == "RDMAP: local catastrophic error 0x7f (RFC 5040 §4.8)"  # RDMAP-5040-4.8-17
    assert Term(3, 0xF, 0xFF).describe() == "unregistered error 3/f/ff"


def test_a_rejection_tells_what_the_peer_said() -> None:  # MPA-5044-7.1.2-14
    assert str(Rejected()) == "the peer rejected the connection (RFC 5044 §7.1.2)"
    assert str(Rejected(b"busy")).endswith("; it said 'busy'")
    assert Rejected(b"busy").private_data == b"busy"


def test_a_terminate_of_the_peer_tells_the_cause() -> None:
    error = TerminatedByPeer(Term(2, 0, 2), b"quoted")
    assert (error.term, error.header) == (Term(2, 0, 2), b"quoted")
    assert str(error) == "the peer terminated the stream: MPA: CRC error (RFC 5044 §8)"


def test_a_failed_work_request_holds_its_completion() -> None:
    completion = object()
    assert WorkFailed(completion).completion is completion


def test_a_lost_connection_and_a_timeout_are_python_s_too() -> None:
    assert issubclass(ConnectionLost, ConnectionError)
    assert issubclass(errors.StartupTimeout, TimeoutError)
