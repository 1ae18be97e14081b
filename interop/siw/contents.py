"""What goes into the guest's image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import elf, host
from .cpio import Archive
from .errors import PreparationError

TOOLS = (
    "busybox-static",
    "curl",
    "ibverbs-providers",
    "ibverbs-utils",
    "iperf",
    "iproute2",
    "ncat",
    "perftest",
    "rdmacm-utils",
    "redis-tools",
    "wget",
)
"""Packages with the programs below."""

HEADERS = ("libibverbs-dev", "librdmacm-dev")
"""Packages needed only to compile the verbs program."""

PROGRAMS = (
    *("rping", "ucmatose", "rstream", "riostream", "rcopy", "cmtime"),
    *("rdma_server", "rdma_client", "rdma_xserver", "rdma_xclient"),
    *("ib_write_bw", "ib_read_bw", "ib_send_bw", "ib_write_lat", "ib_read_lat", "ib_send_lat"),
    *("ibv_devinfo", "ibv_devices", "ibv_asyncwatch", "rdma"),
    *("curl", "iperf", "ncat", "redis-cli"),
)

OVER_APPLETS = ("wget",)
"""Programs that take the place of busybox's."""

PRELOADS = ("rsocket/librspreload.so",)
"""Libraries that programs are started with; their sockets are rsockets then."""

BOOT_MODULES = (
    *("virtio_pci", "virtio_net"),
    *("rdma_cm", "rdma_ucm", "ib_uverbs"),
    *("crc32c_generic", "crc32c_intel", "libcrc32c"),
)
"""Loaded at boot before siw."""

SOURCES = Path(__file__).parent
"""Where the guest's own programs and scripts are."""

_PROGRAM_DIRECTORIES = ("usr/bin", "bin", "usr/sbin", "sbin")
_STRICT = ("-Os", "-s", "-Wall", "-Wextra", "-Werror", "-std=gnu17")
_LIBRARIES = f"usr/lib/{host.TRIPLET}"
_LOADER = "ld-linux-x86-64.so.2"
_LOADED_BY_NAME = ("libgcc_s.so.1",)  # pthread_exit() opens it: no program names it
_ETC = {
    "hosts": "127.0.0.1 localhost\n10.0.2.15 guest\n10.0.2.2 host\n",
    "passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "group": "root:x:0:\n",
    "services": "",
    "nsswitch.conf": "hosts: files\n",
}


@dataclass(frozen=True)
class Ingredients:
    """All that an image is put together from."""

    tools: Path  # the unpacked packages TOOLS, HEADERS and their libraries
    modules: Sequence[Path]  # to load at boot, in this order
    variants: Path  # the directory of the built siw modules
    compiler: str
    work: Path  # to compile in


def pack(ingredients: Ingredients) -> bytes:
    """The initial root file system, as a cpio archive."""
    archive = Archive()
    _base(archive)
    _busybox(archive, ingredients.tools)
    _programs(archive, ingredients)
    _modules(archive, ingredients)
    archive.file("init", (SOURCES / "init.sh").read_bytes(), 0o755)
    return archive.encode()


def _base(archive: Archive) -> None:
    for name in ("proc", "sys", "dev", "tmp", "run", "root", "etc", "var", "bin"):
        archive.directory(name)
    archive.character_device("dev/console", 5, 1)
    archive.link("sbin", "bin")
    for name, text in _ETC.items():
        archive.file(f"etc/{name}", text.encode())


def _busybox(archive: Archive, tools: Path) -> None:
    busybox = _program(tools, "busybox")
    archive.copy(busybox, "bin/busybox")
    for applet in host.run([busybox, "--list"]).split():
        if applet != "busybox" and applet not in OVER_APPLETS:
            archive.link(f"bin/{applet}", "busybox")


def _programs(archive: Archive, ingredients: Ingredients) -> None:
    tools = ingredients.tools
    programs = {f"bin/{name}": _program(tools, name) for name in (*PROGRAMS, *OVER_APPLETS)}
    programs |= {f"{_LIBRARIES}/{name}": (tools / _LIBRARIES / name).resolve() for name in PRELOADS}
    programs |= {f"bin/{path.name}": path for path in compile_programs(ingredients)}
    programs |= {str(path.relative_to(tools)): path for path in _provider(tools)}
    for target, path in programs.items():
        archive.copy(path, target)
    needed = elf.libraries(tools, programs.values())
    needed |= {name: elf.find_library(tools, name) for name in _LOADED_BY_NAME}
    for name, path in needed.items():
        archive.copy(path, f"{_LIBRARIES}/{name}")
    archive.link(f"lib64/{_LOADER}", f"/{_LIBRARIES}/{_LOADER}")
    archive.file("etc/libibverbs.d/siw.driver", b"driver siw\n")


def _provider(tools: Path) -> list[Path]:
    found = sorted((tools / _LIBRARIES / "libibverbs").glob("libsiw-*.so"))
    if not found:
        raise PreparationError("the package ibverbs-providers has no provider for siw")
    return found


def _modules(archive: Archive, ingredients: Ingredients) -> None:
    names = []
    for path in ingredients.modules:
        archive.file(f"lib/modules/{path.name}", path.read_bytes())
        names.append(path.name)
    archive.file("etc/boot-modules", "".join(f"/lib/modules/{name}\n" for name in names).encode())
    for path in sorted(ingredients.variants.glob("*.ko")):
        archive.copy(path, f"lib/siw/{path.name}")


def _program(tools: Path, name: str) -> Path:
    for directory in _PROGRAM_DIRECTORIES:
        if (path := tools / directory / name).is_file():
            return path
    raise PreparationError(f"none of the packages {' '.join(TOOLS)} has the program {name}")


def compile_programs(ingredients: Ingredients) -> list[Path]:
    """Compile the control agent, the line buffering preload, the verbs program and the target for the guest."""
    libraries = ingredients.tools / _LIBRARIES
    include = f"-I{ingredients.tools / 'usr/include'}"
    link = [include, f"-L{libraries}", f"-Wl,-rpath-link={libraries}", "-l:librdmacm.so.1", "-l:libibverbs.so.1"]
    return [
        _compile(ingredients, ["agent.c"], "agent", ["-static"]),
        _compile(ingredients, ["linebuffer.c"], "linebuffer.so", ["-shared", "-fPIC"]),
        _compile(ingredients, ["verbpeer.c", "lines.c"], "verbpeer", link),
        _compile(ingredients, ["target.c", "lines.c"], "target", link),
    ]


def _compile(ingredients: Ingredients, sources: Sequence[str], target: str, options: Sequence[str]) -> Path:
    output = ingredients.work / target
    # the libraries come last: the linker takes from them only what the source asked for before
    prefix = f"-ffile-prefix-map={SOURCES}=."
    compiler = [ingredients.compiler, *_STRICT, prefix, "-Wl,--build-id=none"]
    host.run([*compiler, "-o", output, *(SOURCES / source for source in sources), *options])
    return output
