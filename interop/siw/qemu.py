"""Starting QEMU for a guest: the command line, the process that dies with this one."""

import functools
import subprocess
from collections.abc import Sequence

from . import host
from .image import Image

MEMORY = 160
"""The guest's memory in MiB; it works with 128."""

CPU = {"kvm": "host", "tcg": "qemu64"}
"""The accelerators, and the processor that the guest sees under each."""

NETWORK = "net0"
"""QEMU's name of the user-mode network, which port forwardings are added to."""

_KERNEL_WORDS = (
    *("console=ttyS0", "quiet"),
    *("oops=panic", "panic=-1"),  # with -no-reboot a crash of the kernel ends QEMU, so nobody waits for the dead
    *("mitigations=off", "cryptomgr.notests", "no_timer_check"),  # boots faster
)


def arguments(image: Image, variant: str, accelerator: str) -> list[str]:
    """QEMU's command line without its channels: how the machine looks to the guest.

    A saved state fits only a machine with the same arguments.
    """
    options = {"tcg": "tcg,thread=multi"}
    return [
        "qemu-system-x86_64",
        *("-M", "pc", "-accel", options.get(accelerator, accelerator), "-cpu", CPU[accelerator]),
        *("-smp", "1", "-m", str(MEMORY)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", " ".join([*_KERNEL_WORDS, f"peer_module={variant}"])),
        *("-netdev", f"user,id={NETWORK}", "-device", f"virtio-net-pci,netdev={NETWORK},romfile="),
    ]


def accelerator(arguments: Sequence[str]) -> str:
    """The accelerator in such a command line."""
    return arguments[arguments.index("-accel") + 1].partition(",")[0]


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
