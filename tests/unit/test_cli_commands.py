"""Commands and their words, without a process for each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from pyiwarp.bounds import DEFAULT_BACKLOG, PER_ADDRESS
from pyiwarp.cli import app, main
from pyiwarp.pyverbs.device import Context, guid_format, port_state_to_str

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
        ("get", "localhost", "x", "--pcapng", "/"),
        ("get", "localhost", "x", "--timeout", "0"),
        ("put", "localhost"),
        ("put", "localhost", "x", "y", "--as", "z"),
        ("serve", "/no/such/directory"),
        ("serve", __file__),
        ("serve", "/", "--port", "65536"),
        ("fetch",),
        ("demo", "--mib", "0"),
        ("target", "--port", "65535"),  # the port for commands would be the next one
        ("tunnel", "tcp:localhost:1", "tcp:localhost:2"),
        ("tunnel", "iwarp:localhost:1", "iwarp:localhost:2"),
        ("tunnel", "tcp:localhost", "iwarp:localhost:2"),
        ("tunnel", "udp:localhost:1", "iwarp:localhost:2"),
        ("tunnel", "tcp:localhost:0", "iwarp:localhost:0"),
        ("tunnel", "tcp:localhost:0/x", "iwarp:localhost:1"),
        ("tunnel", "tcp:localhost:0", "iwarp:localhost:1", "--clients", "0"),
        ("rstream", "-T", "x"),
        ("rstream", "-T", "f"),
        ("rstream", "-S", "0"),
        ("rstream", "-B", "3"),
        ("rstream", "-s", "localhost", "-p", "0"),
        ("rcopy",),
        ("rcopy", "x"),
        ("rcopy", "x", "localhost", "--root", "/"),
        ("rcopy", "x", "[::1"),
        ("rcopy", "x", ":y"),
        ("rcopy", "--root", "/no/such/directory"),
        ("lab", "--exercise", "0"),
        ("wireshark", "--install", "--uninstall"),
        ("wireshark", "--folder", "/"),
        ("lab", "--exercise", "99"),
    ],
)
def test_usage_errors_end_with_2(words: tuple[str, ...]) -> None:
    result = runner.invoke(app, words)
    assert result.exit_code == 2
    assert "Usage" in result.output


@pytest.mark.parametrize(
    "command",
    ["serve", "get", "put", "ls", "tunnel", "rstream", "rcopy", "run", "explain", "lab", "wireshark", "info", "demo"],
)
def test_every_command_has_help(command: str) -> None:
    assert command in runner.invoke(app, ["--help"]).output
    result = runner.invoke(app, [command, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_info_is_for_people_and_as_data() -> None:
    shown = runner.invoke(app, ["info"]).output
    assert re.search(r"^build +(pure Python|compiled)$", shown, re.MULTILINE)
    assert "uvloop" in shown
    assert re.search(r"file digests +(BLAKE3 \(blake3 [\d.]+\), )?SHA-256", shown)
    assert json.loads(runner.invoke(app, ["info", "--json"]).output)["max_ord"] == 128
    assert "asyncio" in runner.invoke(app, ["info", "--loop", "asyncio"]).output


def test_info_shows_the_device_as_verbs_programs_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are those of `query_device`, `query_port` and `query_gid`."""
    monkeypatch.setenv("PYIWARP_VERBS", "iw0=127.0.0.1, iw1=::1")
    shown = runner.invoke(app, ["info"]).output
    assert max(map(len, shown.splitlines())) <= 80
    assert re.findall(r"hca_id: (\w+)", shown) == ["iw0", "iw1"]
    assert re.findall(r"node_guid: +(\S+)", shown) == ["0200:5e00:0000:0001", "0200:5e00:0000:0002"]
    assert re.findall(r"GID\[0\]: +(\S+)", shown) == ["::ffff:127.0.0.1", "::1"]
    assert "GID[1]" not in shown  # no address
    first, second = json.loads(runner.invoke(app, ["info", "--json"]).output)["verbs_devices"]
    with Context(name="iw1") as context:
        limits, port = context.query_device(), context.query_port(1)
    assert guid_format(limits.node_guid) == second["node_guid"]
    for name in ("max_qp", "max_mr", "max_qp_wr", "max_sge", "max_cqe", "max_srq", "max_qp_rd_atom"):
        assert getattr(limits, name) == first[name] == second[name]
        assert re.search(rf"{name}: +{first[name]}\n", shown)
    assert second["ports"][0]["state"] == port_state_to_str(port.state) == "Active (4)"
    assert second["ports"][0]["max_msg_sz"] == port.max_msg_sz


@pytest.mark.parametrize("value", ["iw0=localhost", "iw0", "=127.0.0.1", ""])
def test_info_refuses_a_device_that_cannot_be(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PYIWARP_VERBS", value)
    result = runner.invoke(app, ["info"])
    assert result.exit_code == 2
    assert f"PYIWARP_VERBS has {value!r}" in result.output.replace("\n", " ")


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


# --- what the words become -------------------------------------------------------------------------------------------


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A function of a command's words; returns the settings with which the command would have run."""

    def settings(*words: str) -> Any:
        found = []
        monkeypatch.setattr("pyiwarp.cli.files.run", lambda work, loop, **options: found.append(work))
        for name in ("serve_until_stopped", "run_transfers"):
            monkeypatch.setattr(f"pyiwarp.cli.transfers.{name}", lambda *arguments, **options: arguments[-1])
        result = runner.invoke(app, words)
        assert result.exit_code == 0, result.output
        return found[0]

    return settings


def test_every_option_of_a_server_has_its_effect(settled: Callable[..., Any]) -> None:
    plain = settled("serve", "/")
    assert (plain.read_only, plain.fsync, plain.patience, plain.idle, plain.clients) == (False, False, 30.0, 300.0, 64)
    assert (plain.backlog, plain.per_address) == (DEFAULT_BACKLOG, PER_ADDRESS)
    assert plain.max_file is plain.max_client is plain.reserve is None
    limits = ["--timeout", "7", "--idle", "8", "--clients", "9", "--backlog", "10", "--per-address", "11"]
    sizes = ["--max-file", "12K", "--max-client", "13KiB", "--reserve", "14"]
    told = settled("serve", "/", "--read-only", "--fsync", *limits, *sizes)
    assert (told.read_only, told.fsync, told.patience, told.idle, told.clients) == (True, True, 7.0, 8.0, 9)
    assert (told.backlog, told.per_address) == (10, 11)
    assert (told.max_file, told.max_client, told.reserve) == (12_000, 13 * 1024, 14)


@pytest.mark.parametrize("words", [("get", "localhost", "a"), ("put", "localhost", "a")])
def test_every_option_of_a_client_has_its_effect(settled: Callable[..., Any], words: tuple[str, ...]) -> None:
    plain = settled(*words)
    assert (plain.patience, plain.fsync, plain.mode, plain.times) == (30.0, False, False, False)
    given = ["--timeout", "7", *(["--fsync"] if words[0] == "get" else [])]
    told = settled(*words, *given, "--mode")
    assert (told.patience, told.fsync, told.mode, told.times) == (7.0, words[0] == "get", True, False)
    assert settled(*words, "--times").times


@pytest.mark.parametrize("words", [("serve", "/"), ("get", "localhost", "a"), ("put", "localhost", "a")])
def test_every_option_of_a_connection_has_its_effect(settled: Callable[..., Any], words: tuple[str, ...]) -> None:
    plain = settled(*words).options
    assert (plain.timeout, plain.first_fpdu_timeout, plain.fpdu_timeout, plain.linger) == (10.0, 30.0, 30.0, 5.0)
    assert (plain.crc, plain.markers, plain.revision, plain.mulpdu, plain.capture) == (True, False, 2, None, None)
    told = settled(*words, *["--timeout", "4", "--no-crc", "--markers", "--mulpdu", "1000"]).options
    assert (told.timeout, told.first_fpdu_timeout, told.fpdu_timeout, told.linger) == (4.0, 4.0, 4.0, 4.0)
    assert (told.crc, told.markers, told.mulpdu) == (False, True, 1000)
    if words[0] != "serve":
        assert settled(*words, "--revision", "1").options.revision == 1
