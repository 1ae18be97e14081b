"""Commands and their words, without a process for each."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from pyiwarp.cli import app, main

runner = CliRunner()


@pytest.mark.parametrize(
    "words",
    [
        ("get",),
        ("get", "localhost"),
        ("get", "localhost:port", "x"),
        ("get", "[::1", "x"),
        ("get", "localhost", "x", "y", "-o", "/dev/null"),
        ("get", "localhost", "x", "--revision", "3"),
        ("get", "localhost", "x", "--mulpdu", "127"),
        ("get", "localhost", "x", "--timeout", "0"),
        ("put", "localhost"),
        ("put", "localhost", "x", "y", "--as", "z"),
        ("serve", "/no/such/directory"),
        ("serve", __file__),
        ("serve", "/", "--port", "65536"),
        ("fetch",),
        ("demo", "--mib", "0"),
        ("tunnel", "tcp:localhost:1", "tcp:localhost:2"),
        ("tunnel", "iwarp:localhost:1", "iwarp:localhost:2"),
        ("tunnel", "tcp:localhost", "iwarp:localhost:2"),
        ("tunnel", "udp:localhost:1", "iwarp:localhost:2"),
        ("tunnel", "tcp:localhost:0", "iwarp:localhost:0"),
        ("tunnel", "tcp:localhost:0/x", "iwarp:localhost:1"),
        ("tunnel", "tcp:localhost:0", "iwarp:localhost:1", "--clients", "0"),
    ],
)
def test_usage_errors_end_with_2(words: tuple[str, ...]) -> None:
    result = runner.invoke(app, words)
    assert result.exit_code == 2
    assert "Usage" in result.output


@pytest.mark.parametrize("command", ["serve", "get", "put", "ls", "tunnel", "info", "demo"])
def test_every_command_has_help(command: str) -> None:
    assert command in runner.invoke(app, ["--help"]).output
    result = runner.invoke(app, [command, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_info_is_for_people_and_as_data() -> None:
    shown = runner.invoke(app, ["info"]).output
    assert "uvloop" in shown
    assert re.search(r"file digests +(BLAKE3 \(blake3 [\d.]+\), )?SHA-256", shown)
    assert json.loads(runner.invoke(app, ["info", "--json"]).output)["max_ord"] == 128
    assert "asyncio" in runner.invoke(app, ["info", "--loop", "asyncio"]).output


def test_an_interrupt_before_the_loop_runs_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a command still imports what it needs, nobody but Python listens to Ctrl-C."""

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pyiwarp.cli.files.address", interrupted)
    monkeypatch.setattr("sys.argv", ["pyiwarp", "ls", "localhost"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert capsys.readouterr().err == "pyiwarp: interrupted\n"
