"""The dissector for Wireshark, seen with tshark: on captures of siw and on our own; and where its file is written."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pyiwarp
from pyiwarp import Access, Options, RemoteRegion
from pyiwarp.capture import Capture
from pyiwarp.cli import app
from pyiwarp.codes import Rtr
from pyiwarp.errors import UsageError
from pyiwarp.files import ClientSettings, FileServer, Root, connected
from pyiwarp.wireshark.folders import FILE, dissector, install, plugin_folder, uninstall
from tests.children import finished
from tests.patience import PATIENCE

TSHARK = shutil.which("tshark")
CAPTURES = Path(__file__).parents[2] / "interop" / "captures"
LUA = Path(__file__).parents[2] / "pyiwarp" / "wireshark" / FILE
runner = CliRunner(env={"COLUMNS": "80"})

seen_with_tshark = pytest.mark.skipif(
    TSHARK is None and not os.environ.get("CI"), reason="tshark (Debian's package of that name) is not installed"
)


def tshark(file: Path, *options: str, env: dict[str, str] | None = None) -> str:
    """What tshark prints of a capture with the dissector; its guess that Sends carry RPC is turned off."""
    assert TSHARK is not None, "in CI tshark is installed before the tests run"
    script = [] if env else ["-X", f"lua_script:{LUA}"]
    command = [TSHARK, *script, "-r", str(file), "--disable-protocol", "rpcordma", *options]
    done = finished(command, env=env) if env else finished(command)
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stdout + done.stderr
    return done.stdout


def fields(file: Path, *names: str) -> list[list[str]]:
    """The values of these fields, a list for each packet that has any."""
    wanted = [word for name in names for word in ("-e", name)]
    rows = [line.split("\t") for line in tshark(file, "-T", "fields", *wanted).splitlines()]
    return [row for row in rows if any(row)]


async def _lend(conn: pyiwarp.Connection) -> None:
    async with conn.register(bytearray(64), Access.LOCAL_WRITE | Access.REMOTE_WRITE) as region:
        await conn.send(region.advertise())
        async for _ in conn:
            pass


async def _immediates(file: Path, options: Options) -> None:
    with Capture(file) as capture:
        async with (
            await pyiwarp.serve(_lend, "127.0.0.1", options=Options(markers=options.markers)) as server,
            pyiwarp.connect("127.0.0.1", server.port, options=replace(options, capture=capture)) as conn,
        ):
            remote = RemoteRegion.parse(await conn.recv())
            await conn.send_immediate(b"12345678")
            await conn.write_with_immediate(bytearray(b"hi"), remote, b"abcdefgh")
            await conn.send(bytes(4))


@seen_with_tshark
@pytest.mark.parametrize("markers", [False, True])
def test_immediate_data_and_the_words_of_revision_2(tmp_path: Path, markers: bool) -> None:
    file = tmp_path / "session.pcapng"
    options = Options(rtr=Rtr.WRITE, ird=7, markers=markers)
    asyncio.run(asyncio.wait_for(_immediates(file, options), PATIENCE))
    names = ("peer_to_peer", "rtr_send", "rtr_write", "rtr_read", "ird")
    (request, _reply) = fields(file, *(f"pyiwarp.mpa.{name}" for name in names))
    assert request == ["1", "0", "1", "0", "7"]
    data = [b"12345678".hex(), b"abcdefgh".hex()]
    assert ",".join(row[0] for row in fields(file, "pyiwarp.immediate_data")).split(",") == data  # one packet, or two
    listed = tshark(file)
    assert all(f"data {each}" in listed for each in data)
    assert "Immediate Data [last DDP segment]" in listed
    assert "Unknown" not in listed


@seen_with_tshark
def test_what_siw_offered_is_shown() -> None:
    file = CAPTURES / "startup-peer-to-peer-siw_p2p-peer-connects.pcapng"
    names = ("word", "peer_to_peer", "rtr_send", "ird", "rtr_write", "rtr_read", "ord")
    rows = fields(file, *(f"pyiwarp.mpa.{name}" for name in names))
    assert rows == [["0x8010c010", "1", "0", "16", "1", "1", "16"]] * 2


@seen_with_tshark
def test_a_session_of_revision_1_has_no_word() -> None:
    assert fields(CAPTURES / "startup-revision-1-siw-pyiwarp-connects.pcapng", "pyiwarp.mpa.word") == []


@seen_with_tshark
def test_rsockets_are_named_and_their_words_read() -> None:
    file = CAPTURES / "rstream-short-siw-peer-connects.pcapng"
    services = fields(file, "pyiwarp.service", "pyiwarp.rsockets.credits")
    assert services == [["rsockets", "384"]] * 2
    said = tshark(file)
    assert "{rsockets: SGL 384}" in said
    assert "{rsockets: DATA 64}" in said
    assert "{rsockets: CTRL " in said


@seen_with_tshark
def test_the_file_service_is_named_and_its_messages_read(tmp_path: Path) -> None:
    served, file = tmp_path / "served", tmp_path / "session.pcapng"
    served.mkdir()
    (served / "name").write_bytes(b"content")

    async def main() -> None:
        with Root(served) as root, Capture(file) as capture:
            async with FileServer(root) as server:
                await server.start("127.0.0.1")
                async with connected(
                    "127.0.0.1", server.port, ClientSettings(options=Options(capture=capture))
                ) as client:
                    await client.get("name", tmp_path / "here")

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert fields(file, "pyiwarp.service") == [["pyiwarp file service"]] * 2
    said = ",".join(row[0] for row in fields(file, "pyiwarp.files.op")).split(",")
    assert [word for word in said if word != "busy"] == ["get", "found", "ready", "placed", "sent", "kept"]
    assert "{file service: get}" in tshark(file)


@seen_with_tshark
@pytest.mark.parametrize("file", sorted(CAPTURES.glob("*.pcapng")), ids=lambda file: file.stem)
def test_no_capture_makes_an_error(file: Path) -> None:
    shown = tshark(file, "-V")
    assert "pyiwarp.cut" not in shown
    assert "Malformed" not in shown


@seen_with_tshark
def test_it_is_found_in_the_folder_where_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of a user who has none yet, which tshark names and reads."""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "WIRESHARK_CONFIG_DIR", "WIRESHARK_PLUGIN_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = plugin_folder()
    assert folder.is_relative_to(tmp_path)
    result = runner.invoke(app, ["wireshark", "--install"])
    assert (result.exit_code, result.output) == (0, f"wrote {folder / FILE}\n")
    file = CAPTURES / "startup-peer-to-peer-siw_p2p-peer-connects.pcapng"
    assert "IRD: 16" in tshark(file, "-V", env=dict(os.environ))
    result = runner.invoke(app, ["wireshark", "--uninstall"])
    assert (result.exit_code, result.output) == (0, f"removed {folder / FILE}\n")
    assert "IRD: 16" not in tshark(file, "-V", env=dict(os.environ))
    assert runner.invoke(app, ["wireshark", "--uninstall"]).output == f"nothing to remove in {folder}\n"


def test_it_is_written_over_itself_and_over_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        assert install(folder).read_text(encoding="utf-8") == dissector()
    assert [each.name for each in folder.iterdir()] == [FILE]
    (folder / FILE).write_text("-- somebody's own")
    for change in (install, uninstall):
        with pytest.raises(UsageError, match="is not pyiwarp's"):
            change(folder)
    result = runner.invoke(app, ["wireshark", "--install", "--folder", str(folder)])
    assert result.exit_code == 1
    assert (folder / FILE).read_text() == "-- somebody's own"


def test_a_folder_can_be_named(tmp_path: Path) -> None:
    assert runner.invoke(app, ["wireshark", "--install", "--folder", str(tmp_path)]).exit_code == 0
    assert (tmp_path / FILE).exists()
    assert runner.invoke(app, ["wireshark", "--uninstall", "--folder", str(tmp_path)]).exit_code == 0
    assert not (tmp_path / FILE).exists()


def test_it_is_printed_without_an_option() -> None:
    assert runner.invoke(app, ["wireshark"]).output == dissector()


def a_program(folder: Path, name: str, says: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    path.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="the program that stands for tshark is a shell script")
def test_the_folder_is_what_the_program_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    if shutil.which("tshark") or shutil.which("wireshark"):
        monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / name) if (tmp_path / name).exists() else None)
    with pytest.raises(UsageError, match="neither tshark nor wireshark is found"):
        plugin_folder()
    a_program(tmp_path, "wireshark", "Temp: /tmp\nPersonal Plugins:   /home/a b/plugins/3.2  ")
    assert plugin_folder() == Path("/home/a b/plugins/3.2")
    a_program(tmp_path, "tshark", "Personal Plugins: /x\nPersonal Lua Plugins:\t/y")
    assert plugin_folder() == Path("/y")
    a_program(tmp_path, "tshark", "no such thing")
    with pytest.raises(UsageError, match="names no folder"):
        plugin_folder()
