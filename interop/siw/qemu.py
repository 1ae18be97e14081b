"""Starting QEMU for a guest: the accelerator, the command line, the process that dies with this one."""

import functools
import os
import subprocess
import tempfile
from pathlib import Path

from . import host
from .image import Image

MEMORY = 160
"""The guest's memory in MiB; it works with 128."""

ACCELERATOR_VARIABLE = "PYIWARP_ACCEL"
"""Environment variable: `kvm` or `tcg`, to decide without trying."""

NETWORK = "net0"
"""QEMU's name of the user-mode network, which port forwardings are added to."""

_KERNEL_WORDS = (
    *("console=ttyS0", "quiet"),
    *("oops=panic", "panic=-1"),  # with -no-reboot a crash of the kernel ends QEMU, so nobody waits for the dead
    *("mitigations=off", "cryptomgr.notests", "no_timer_check"),  # boots faster
)
_CPU = {"tcg": "qemu64", "kvm": "host"}
_PROBE_PATIENCE = 1.5
_PROBE_PORT, _PROBE_VALUE = 0xF4, 0x10
_ROM_SIZE = 65536


def arguments(image: Image, variant: str, accelerator: str) -> list[str]:
    """QEMU's command line without its channels: how the machine looks to the guest.

    A saved state fits only a machine with the same arguments.
    """
    options = {"tcg": "tcg,thread=multi"}
    return [
        "qemu-system-x86_64",
        *("-M", "pc", "-accel", options.get(accelerator, accelerator), "-cpu", _CPU[accelerator]),
        *("-smp", "1", "-m", str(MEMORY)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", " ".join([*_KERNEL_WORDS, f"peer_module={variant}"])),
        *("-netdev", f"user,id={NETWORK}", "-device", f"virtio-net-pci,netdev={NETWORK},romfile="),
    ]


def start(argv: list[str], console: int, monitor: int, incoming: int | None = None) -> subprocess.Popen[bytes]:
    """Start QEMU with its serial console in the file `console` and its monitor on the socket `monitor`.

    Both are descriptors, as is `incoming`, a file with a saved state to start from. `console` is appended to, by QEMU
    for its own complaints as well. The kernel kills QEMU when the calling thread ends, however that happens.
    """
    channels = ["-chardev", f"file,id=console,path=/proc/self/fd/{console},append=on", "-serial", "chardev:console"]
    channels += ["-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"]
    passed = [console, monitor]
    if incoming is not None:
        channels += ["-incoming", f"fd:{incoming}"]
        passed.append(incoming)
    return subprocess.Popen(
        _bound_to_us([*argv, *channels]),
        pass_fds=passed,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=console,
    )


def _bound_to_us(argv: list[str]) -> list[str]:
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


@functools.cache
def version() -> str:
    """What QEMU says of itself."""
    return host.run(["qemu-system-x86_64", "--version"]).splitlines()[0]


@functools.cache
def accelerator() -> str:
    """`kvm` where it runs a guest, else `tcg`.

    That /dev/kvm can be opened proves nothing: inside some virtual machines it then never runs an instruction. So a
    machine whose firmware is four instructions long is tried; it takes 0.2 s where it works and 1.5 s at most.
    """
    if chosen := os.environ.get(ACCELERATOR_VARIABLE):
        return chosen
    return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and runs_code("kvm") else "tcg"


def runs_code(accelerator: str, patience: float = _PROBE_PATIENCE) -> bool:
    """Whether a machine with this accelerator executes instructions, tried for at most `patience` seconds."""
    code = bytes([0xB0, _PROBE_VALUE, 0xE6, _PROBE_PORT, 0xF4])  # mov al, VALUE; out PORT, al; hlt
    rom = bytes(_ROM_SIZE - 16) + code.ljust(16, b"\xf4")  # a processor starts 16 octets below the ROM's end
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rom"
        path.write_bytes(rom)
        machine = ["-M", "pc", "-accel", accelerator, "-cpu", _CPU.get(accelerator, "max"), "-m", "16", "-nodefaults"]
        exit_device = ["-device", f"isa-debug-exit,iobase={_PROBE_PORT},iosize=4"]
        argv = ["qemu-system-x86_64", *machine, "-display", "none", "-bios", str(path), *exit_device]
        try:
            done = subprocess.run(_bound_to_us(argv), timeout=patience, capture_output=True)
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == _PROBE_VALUE << 1 | 1
