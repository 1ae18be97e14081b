"""What builds and drives the siw guest, as far as it goes without one: pure functions, and fakes at the edges."""

import asyncio
import io
import itertools
import os
import shutil
import stat
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from interop.siw import contents, elf, host, kernel, plan, prepare, verbs
from interop.siw.control import Job
from interop.siw.cpio import Archive
from interop.siw.errors import CommandFailed, GuestError, GuestTimeout, PreparationError, VerbError, console_tail
from interop.siw.host import Need
from interop.siw.image import MANIFEST, Image, cache_directory
from interop.siw.locks import locked, locked_by_task
from interop.siw.packages import Apt, Package, parse_depends, parse_uris, shared_libraries
from interop.siw.progress import Progress
from interop.siw.variants import VARIANTS, Edit, Variant
from interop.siw.verbpeer import Reply

ROOT = Path(__file__).parents[2]


# -- cpio


def decode_newc(data: bytes) -> Iterator[tuple[str, int, int, tuple[int, int], bytes]]:
    """(path, inode, mode, device, content) of each record of a newc archive, up to its trailer."""
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        inode, mode, size, device, name_size = fields[0], fields[1], fields[6], (fields[9], fields[10]), fields[11]
        name = data[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        at += (110 + name_size + 3) // 4 * 4
        content = data[at : at + size]
        assert len(content) == size
        at += (size + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            assert at == len(data)
            return
        yield name[:-1].decode(), inode, mode, device, content


def small_archive() -> Archive:
    archive = Archive()
    archive.file("/etc/deep/name", b"12345")
    archive.file("init", b"#!", 0o755)
    archive.link("bin/sh", "busybox")
    archive.character_device("dev/console", 5, 1)
    return archive


def test_cpio_has_every_file_with_its_directories() -> None:
    found = {path: (mode, device, content) for path, _, mode, device, content in decode_newc(small_archive().encode())}
    assert sorted(found) == ["bin", "bin/sh", "dev", "dev/console", "etc", "etc/deep", "etc/deep/name", "init"]
    assert found["etc/deep/name"] == (stat.S_IFREG | 0o644, (0, 0), b"12345")
    assert found["init"][0] == stat.S_IFREG | 0o755
    assert found["bin/sh"] == (stat.S_IFLNK | 0o777, (0, 0), b"busybox")
    assert found["dev/console"] == (stat.S_IFCHR | 0o600, (5, 1), b"")
    assert found["etc"][0] == stat.S_IFDIR | 0o755


def test_cpio_puts_directories_first_and_numbers_inodes() -> None:
    records = list(decode_newc(small_archive().encode()))
    assert [inode for _, inode, *_ in records] == list(range(1, len(records) + 1))
    paths = [path for path, *_ in records]
    for path in paths:
        above = path.rpartition("/")[0]
        assert not above or paths.index(above) < paths.index(path)


def test_cpio_does_not_depend_on_the_order_of_additions() -> None:
    one, other = Archive(), Archive()
    one.file("a", b"1")
    one.file("b/c", b"2")
    other.file("b/c", b"2")
    other.file("a", b"1")
    assert one.encode() == other.encode()


def test_cpio_copies_a_file_with_its_right_to_run(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_bytes(b"x")
    tool.chmod(0o751)
    archive = Archive()
    archive.copy(tool, "bin/tool")
    assert [mode & 0o777 for path, _, mode, *_ in decode_newc(archive.encode()) if path == "bin/tool"] == [0o755]


# -- apt

DEPENDS = """\
rdmacm-utils
  Depends: libc6
  Depends: libibverbs1
iproute2
 |Depends: debconf
  Depends: <debconf-2.0>
    cdebconf
    debconf
  Depends: libbpf1
  Depends: libcap2-bin
  PreDepends: libmnl0
libibverbs1
  Depends: adduser
  Depends: libnl-3-200
libbpf1
  Depends: zlib1g
adduser
  Depends: passwd
debconf
zlib1g
"""

URIS = """\
'http://mirror.test/p/perftest_4.5%2b0.17-1_amd64.deb' perftest_4.5+0.17-1_amd64.deb 266940 SHA256:{a}
'http://mirror.test/l/libbpf1_1%3a1.1.0-1_amd64.deb' libbpf1_1%3a1.1.0-1_amd64.deb 145440 SHA256:{b}
""".format(a="a" * 64, b="b" * 64)


def test_depends_are_read_without_alternatives_and_virtual_packages() -> None:
    graph = parse_depends(DEPENDS)
    assert graph["rdmacm-utils"] == ["libc6", "libibverbs1"]
    assert graph["iproute2"] == ["libbpf1", "libcap2-bin", "libmnl0"]
    assert graph["zlib1g"] == []


def test_only_libraries_are_followed() -> None:
    graph = parse_depends(DEPENDS)
    assert shared_libraries(graph, ["rdmacm-utils", "iproute2"]) == [
        *("iproute2", "libbpf1", "libc6", "libibverbs1", "libmnl0", "libnl-3-200"),
        *("rdmacm-utils", "zlib1g"),
    ]


def test_uris_give_version_file_size_and_hash() -> None:
    perftest, libbpf = parse_uris("Reading package lists...\n" + URIS)
    assert perftest == Package("perftest", "4.5+0.17-1", "perftest_4.5+0.17-1_amd64.deb", 266940, "a" * 64)
    assert libbpf.version == "1:1.1.0-1"
    assert libbpf.file == "libbpf1_1%3a1.1.0-1_amd64.deb"


@pytest.mark.skipif(not shutil.which("apt-cache"), reason="no apt here")
def test_empty_package_lists_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "apt.conf"
    config.write_text(f'Dir::State "{tmp_path}";\nDir::State::status "/dev/null";\n')
    (tmp_path / "lists/partial").mkdir(parents=True)
    monkeypatch.setenv("APT_CONFIG", str(config))
    with pytest.raises(PreparationError, match="apt-get update"):
        kernel.resolve(Apt(tmp_path / "cache"))


class FakeApt(Apt):
    """Answers from fixed texts."""

    def __init__(self, graph: dict[str, list[str]], version: str) -> None:
        self.graph, self.version = graph, version

    def depends(self, names: object, *, recurse: bool = False) -> dict[str, list[str]]:
        return self.graph

    def candidates(self, names: object) -> list[Package]:
        assert isinstance(names, list)
        return sorted((deb(name.partition("=")[0], self.version) for name in names), key=lambda package: package.name)


def deb(name: str, version: str = "1-1", digest: str = "0") -> Package:
    return Package(name, version, f"{name}_{version}_amd64.deb", 1, digest * 64)


def test_the_kernel_is_found_behind_its_meta_package() -> None:
    release = "6.1.0-56-cloud-amd64"
    graph = {
        "linux-image-cloud-amd64": [f"linux-image-{release}"],
        f"linux-headers-{release}": [
            "linux-headers-6.1.0-56-common",
            "linux-kbuild-6.1",
            "linux-compiler-gcc-12-x86",
        ],
    }
    found = kernel.resolve(FakeApt(graph, "6.1.192-2"))
    assert found.release == release
    assert found.compiler == "gcc-12"
    assert found.source.name == "linux-source-6.1"
    assert [header.name for header in found.headers] == [
        f"linux-headers-{release}",
        "linux-headers-6.1.0-56-common",
        "linux-kbuild-6.1",
    ]


def test_no_kernel_behind_the_meta_package_is_explained() -> None:
    with pytest.raises(PreparationError, match="apt-get update"):
        kernel.resolve(FakeApt({}, "1"))


# -- the key


def a_plan(**changes: Any) -> plan.Plan:
    chosen = kernel.Kernel("6.1", deb("image"), (deb("headers"),), deb("source"), "gcc-12")
    return replace(plan.Plan(chosen, (deb("perftest"), deb("busybox-static")), "12.2.0"), **changes)


def test_the_key_is_the_same_for_the_same_inputs() -> None:
    assert a_plan().key == a_plan().key


def test_the_key_changes_with_every_kind_of_input(tmp_path: Path) -> None:
    shutil.copytree(contents.SOURCES, tmp_path / "siw")
    (tmp_path / "siw" / "verbpeer.c").write_text("int main(void) { return 1; }\n")
    changed = [
        a_plan(compiler="12.3.0"),
        a_plan(tools=(deb("perftest", "2-1"), deb("busybox-static"))),
        a_plan(tools=(deb("perftest", digest="1"), deb("busybox-static"))),
        a_plan(kernel=replace(a_plan().kernel, source=deb("source", "2-1"))),
        a_plan(variants=(Variant("siw", "as it is", (Edit("a.c", "x", "y"),)),)),
        a_plan(sources=tmp_path / "siw"),
    ]
    keys = {a_plan().key, *(each.key for each in changed)}
    assert len(keys) == 1 + len(changed)


def test_modules_are_not_built_again_for_a_change_of_our_programs(tmp_path: Path) -> None:
    shutil.copytree(contents.SOURCES, tmp_path / "siw")
    (tmp_path / "siw" / "agent.c").write_text("")
    assert a_plan(sources=tmp_path / "siw").modules_key == a_plan().modules_key
    assert a_plan(compiler="13").modules_key != a_plan().modules_key


def test_all_sources_of_the_guest_are_part_of_the_key() -> None:
    packed = {path.name for path in contents.SOURCES.iterdir() if path.suffix in (".c", ".h", ".sh")}
    assert packed == set(plan._GUEST_SOURCES)


# -- the host


def test_missing_tools_are_one_line_with_what_to_install() -> None:
    needs = (Need("no-such-tool", "some-package"), Need("/no/such/file", "other-dev"), Need("sh", "dash"))
    with pytest.raises(PreparationError) as caught:
        host.require(needs)
    assert str(caught.value) == (
        "missing on this host: no-such-tool, /no/such/file. Install with: apt-get install other-dev some-package"
    )


def test_the_command_line_says_what_is_missing_without_a_traceback(tmp_path: Path) -> None:
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / tool).symlink_to("/bin/false")
    done = subprocess.run(
        [sys.executable, "-m", "interop.siw", "prepare", "--cache", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: missing on this host: qemu-system-x86_64, setpriv. "
        "Install with: apt-get install qemu-system-x86 util-linux\n"
    )


def test_a_failing_host_command_shows_its_last_lines() -> None:
    with pytest.raises(PreparationError, match=r"(?s)status 3.*broken"):
        host.run(["sh", "-c", "echo broken >&2; exit 3"])


def test_a_slow_host_command_is_ended() -> None:
    with pytest.raises(PreparationError, match="timed out"):
        host.run(["sleep", "30"], timeout=0.1)


def test_needed_libraries_are_read_from_readelf() -> None:
    text = (
        " 0x0000000000000001 (NEEDED)             Shared library: [libibverbs.so.1]\n"
        " 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n"
        " 0x000000000000000c (INIT)               0x3000\n"
    )
    assert elf.parse_needed(text) == ["libibverbs.so.1", "libc.so.6"]


def test_a_library_no_package_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match=r"libno\.so\.1"):
        elf.find_library(tmp_path, "libno.so.1")


# -- variants


def test_an_edit_replaces_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("const bool x;\n")
    Edit("a.c", "bool x;", "bool x = true;").apply(tmp_path)
    assert (tmp_path / "a.c").read_text() == "const bool x = true;\n"


@pytest.mark.parametrize("text", ["", "x; x;"])
def test_an_edit_that_does_not_fit_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.c").write_text(text)
    with pytest.raises(PreparationError, match="siw has changed"):
        Edit("a.c", "x;", "y;").apply(tmp_path)


def test_variants_have_reasons_and_names_of_their_own() -> None:
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)
    assert all(variant.reason for variant in VARIANTS)
    assert not VARIANTS[0].edits


# -- the cache


def test_the_cache_is_where_one_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("PYIWARP_CACHE", raising=False)
    assert cache_directory() == tmp_path / "xdg/pyiwarp/siw"
    monkeypatch.setenv("PYIWARP_CACHE", str(tmp_path / "env"))
    assert cache_directory() == tmp_path / "env/siw"
    assert cache_directory(tmp_path / "option") == tmp_path / "option/siw"


def an_image(directory: Path, key: str, when: int) -> Image:
    image = Image(directory / key)
    image.directory.mkdir(parents=True)
    (image.directory / MANIFEST).write_text("{}")
    os.utime(image.directory / MANIFEST, (when, when))
    return image


def quiet() -> Progress:
    return Progress(Console(file=io.StringIO()))


class DeafApt(FakeApt):
    """Knows nothing, as after an installation without package lists."""

    def depends(self, names: object, *, recurse: bool = False) -> dict[str, list[str]]:
        raise PreparationError("no lists")


def test_without_package_lists_the_image_of_the_same_sources_is_taken(tmp_path: Path) -> None:
    an_image(tmp_path, f"{plan.own_key()}-old", 1)
    latest = an_image(tmp_path, f"{plan.own_key()}-new", 2)
    an_image(tmp_path, "other-sources", 3)
    assert prepare._resolve(DeafApt({}, ""), tmp_path, quiet()) == latest


def test_without_package_lists_and_image_the_reason_is_told(tmp_path: Path) -> None:
    an_image(tmp_path, "other-sources", 3)
    with pytest.raises(PreparationError, match="no lists"):
        prepare._resolve(DeafApt({}, ""), tmp_path, quiet())


def test_old_images_are_pruned_and_the_latest_kept(tmp_path: Path) -> None:
    images = [an_image(tmp_path, f"k{when}", when) for when in range(5)]
    prepare._prune(tmp_path, images[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k0", "k3", "k4"]


def test_a_held_lock_is_waited_for_in_vain(tmp_path: Path) -> None:
    waits = []
    with locked(tmp_path / "lock", 1.0, lambda: waits.append("first")):
        second = locked(tmp_path / "lock", 0.3, lambda: waits.append("second"))
        with pytest.raises(PreparationError, match="still held"):
            second.__enter__()
    assert waits == ["second"]
    with locked(tmp_path / "lock", 1.0, lambda: waits.append("third")):
        pass
    assert waits == ["second"]


async def test_tasks_hold_a_lock_one_after_the_other(tmp_path: Path) -> None:
    holding = 0

    async def hold() -> None:
        nonlocal holding
        async with locked_by_task(tmp_path / "lock", 30.0):
            holding += 1
            assert holding == 1
            await asyncio.sleep(0.01)
            holding -= 1

    await asyncio.gather(*(hold() for _ in range(4)))
    async with locked_by_task(tmp_path / "lock", 1.0):
        with pytest.raises(PreparationError, match="still held"):
            await locked_by_task(tmp_path / "lock", 0.3).__aenter__()


def test_another_run_in_the_same_cache_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_LOCK_PATIENCE", 0.3)
    monkeypatch.setattr(host, "require", lambda needs: None)
    (tmp_path / "siw").mkdir()
    out = io.StringIO()
    with (
        locked(tmp_path / "siw" / "lock", 1.0, lambda: None),
        pytest.raises(PreparationError, match="still held"),
    ):
        prepare.prepare_image(tmp_path, Progress(Console(file=out)))
    assert "another run" in out.getvalue()


def test_progress_is_plain_lines_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.accumulate(itertools.repeat(1.5))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    out = io.StringIO()
    progress = Progress(Console(file=out))
    with progress.step("build", "siw [x]"):
        pass
    with pytest.raises(ValueError, match="no"), progress.step("pack"):
        raise ValueError("no")
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["build", "siw", "[x]", "..."],
        ["1.5", "s", "build", "done"],
        ["pack", "..."],
        ["1.5", "s", "pack", "failed"],
    ]
    assert progress.seconds == {"build": 1.5, "pack": 1.5}


# -- errors


def test_an_error_quotes_the_end_of_the_console() -> None:
    assert str(GuestError("lost", "x" * 9000 + "last words")).endswith("x" * 100 + "last words")


def test_of_a_crash_the_beginning_is_quoted() -> None:
    console = "hello\n[ 1.0] BUG: kernel NULL pointer dereference\n" + "trace\n" * 2000
    assert console_tail(console).startswith("[ 1.0] BUG: kernel NULL")


# -- the control channel


class Owner:
    """Stands for the guest a job belongs to."""

    def error(self, kind: type[GuestError], message: str) -> GuestError:
        return kind(message, "the console")

    async def lost(self, message: str) -> GuestError:
        return GuestError(message, "the console")


def frame(kind: bytes, content: bytes) -> bytes:
    return struct.pack("!cI", kind, len(content)) + content


@asynccontextmanager
async def agent(*frames: bytes, hold: bool = False) -> AsyncIterator[Job]:
    """A job whose agent sends `frames`, then hangs up, or with `hold` waits for the host to."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind, length = struct.unpack("!cI", await reader.readexactly(5))
        assert (kind, await reader.readexactly(length)) == (b"c", b"do it")
        writer.write(b"".join(frames))
        if hold:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, await Job.start(Owner(), "do it", server.sockets[0].getsockname()[1]) as job:
        yield job


async def test_a_job_tells_status_and_both_outputs() -> None:
    async with agent(frame(b"p", b"77"), frame(b"o", b"out"), frame(b"e", b"err"), frame(b"x", b"3")) as job:
        result = await job.wait()
    assert (job.pid, result.status, result.stdout, result.stderr) == (77, 3, b"out", b"err")
    assert result.text == "outerr"


async def test_a_job_waits_for_patterns_one_after_the_other() -> None:
    async with agent(frame(b"p", b"1"), frame(b"o", b"ping 1\nping 2\n"), frame(b"x", b"0")) as job:
        assert (await job.expect(r"ping (\d)"))[1] == "1"
        assert (await job.expect(r"ping (\d)"))[1] == "2"
        with pytest.raises(CommandFailed, match=r"(?s)status 0; wanted: ping.*the console"):
            await job.expect("ping")


async def test_a_job_gives_lines_across_frames() -> None:
    async with agent(frame(b"p", b"1"), frame(b"o", b"on"), frame(b"o", b"e\ntwo\nrest"), frame(b"x", b"0")) as job:
        assert [await job.readline(), await job.readline()] == ["one", "two"]
        assert (await job.wait()).stdout == b"rest"


async def test_a_silent_job_times_out() -> None:
    async with agent(frame(b"p", b"1"), frame(b"o", b"half"), hold=True) as job:
        with pytest.raises(GuestTimeout, match=r"(?s)to end.*half.*the console"):
            await job.wait(timeout=0.05)
        assert job.running


async def test_a_lost_connection_is_an_error_of_the_guest() -> None:
    async with agent(frame(b"p", b"1"), frame(b"o", b"so far")) as job:
        with pytest.raises(GuestError, match=r"(?s)lost.*so far.*the console"):
            await job.wait()


async def test_no_agent_is_an_error_of_the_guest() -> None:
    with pytest.raises(GuestError, match="no connection"):
        async with agent():
            pass


# -- the verbs program's replies


def test_a_reply_gives_its_values() -> None:
    reply = Reply("= addr=0x7f00 rkey=0x1200 wc=5:0:128:17:8 wc=6:5:0:0:0 n=2")
    assert reply.number("addr") == 0x7F00
    assert reply.completions() == [
        verbs.Completion(5, verbs.Status.SUCCESS, verbs.Opcode.RECEIVE, 17, verbs.WcFlags.INVALIDATED),
        verbs.Completion(6, verbs.Status.FLUSHED, None, 0, verbs.WcFlags(0)),
    ]


def test_a_reply_gives_its_event() -> None:
    event = Reply("= event=RDMA_CM_EVENT_CONNECT_REQUEST status=0 ird=4 ord=2 data=0a0b").event()
    assert event == verbs.CmEvent(verbs.CmKind.CONNECT_REQUEST, 0, 4, 2, b"\x0a\x0b")
    assert Reply("= event=timeout").event().kind is verbs.CmKind.TIMEOUT


def test_a_failed_verb_names_the_call_and_the_error() -> None:
    with pytest.raises(VerbError, match=r"ibv_post_send: Invalid argument \(22\)") as caught:
        Reply("! ibv_post_send 22")
    assert caught.value.errno == 22


def test_patterns_differ_by_seed_and_tell_positions_apart() -> None:
    one = verbs.pattern(200_000, 1)
    assert len(one) == 200_000
    assert one != verbs.pattern(200_000, 2)
    assert one[:1000] != one[65536:66536]
    assert zlib.crc32(one) == zlib.crc32(verbs.pattern(200_000, 1))
