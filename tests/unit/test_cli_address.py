"""HOST[:PORT][/PATH], with IPv6."""

from __future__ import annotations

import pytest
import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.options import octets
from pyiwarp.files import DEFAULT_PORT


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("alpha", Address("alpha")),
        ("alpha:1234", Address("alpha", 1234)),
        ("alpha/big.bin", Address("alpha", DEFAULT_PORT, "big.bin")),
        ("alpha:1/a/b", Address("alpha", 1, "a/b")),
        ("10.0.0.1:65535", Address("10.0.0.1", 65535)),
        ("::1", Address("::1")),
        ("fe80::1%eth0/x", Address("fe80::1%eth0", DEFAULT_PORT, "x")),
        ("[::1]", Address("::1")),
        ("[::1]:9/x:y", Address("::1", 9, "x:y")),
        ("alpha/", Address("alpha")),
    ],
)
def test_what_users_write(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    "text", ["", "/x", ":1", "alpha:0", "alpha:65536", "alpha:http", "alpha:-1", "alpha:１", "[::1", "[::1]x", "[]:1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"no|write"):
        Address.parse(text)


def test_it_prints_as_it_is_written() -> None:
    assert str(Address("::1", 4420, "x")) == "[::1]:4420/x"
    assert str(Address("alpha", 1)) == "alpha:1"


def test_names_are_below_the_path() -> None:
    assert Address("a", 1, "dir/").names(["x", "y/z"]) == ["dir/x", "dir/y/z"]
    assert Address("a", 1).names(["x"]) == ["x"]
    assert Address("a", 1, "x").names([]) == ["x"]
    assert Address("a").names([]) == []


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("0", 0), ("1000", 1000), ("5k", 5000), ("500M", 500_000_000), ("2GiB", 2 << 30), ("1TB", 10**12), ("3KIB", 3072)],
)
def test_sizes(text: str, nbytes: int) -> None:
    assert octets(text) == nbytes


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "1 G", "1GiBB", "1Gi", "1iB", "1MK", "٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no size"):
        octets(text)
