"""Which kernel the guest runs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import PreparationError
from .packages import Apt, Package

FLAVOUR = "cloud-amd64"
"""Of Debian's kernels the smallest to download and the quickest to boot; it has all of InfiniBand but siw."""


@dataclass(frozen=True)
class Kernel:
    """The packages of one kernel version, all of the same build, and the compiler it was built with."""

    release: str  # as `uname -r` says, 6.1.0-56-cloud-amd64
    image: Package
    headers: tuple[Package, ...]
    source: Package
    compiler: str


def resolve(apt: Apt) -> Kernel:
    """Find the kernel apt would install today. Raises `PreparationError` if apt knows none."""
    meta = f"linux-image-{FLAVOUR}"
    names = [name for name in apt.depends([meta]).get(meta, []) if name.startswith("linux-image-")]
    if not names:
        raise PreparationError(f"{meta} names no kernel: run as root first: apt-get update")
    image = apt.candidates(names[:1])[0]
    release = image.name.removeprefix("linux-image-")
    headers = f"linux-headers-{release}"
    under = apt.depends([headers])[headers]
    build = [headers, *(name for name in under if name.startswith(("linux-headers-", "linux-kbuild-")))]
    source = f"linux-source-{re.findall(r'^[0-9]+[.][0-9]+', release)[0]}"
    # CONFIG_MODVERSIONS: a module fits only the very build its headers come from
    found = {
        package.name: package for package in apt.candidates([f"{name}={image.version}" for name in [*build, source]])
    }
    return Kernel(release, image, tuple(found[name] for name in build), found[source], _compiler(under))


def _compiler(depends: Sequence[str]) -> str:
    """`gcc-12` from `linux-compiler-gcc-12-x86`, which the headers depend on."""
    for name in depends:
        if match := re.match(r"linux-compiler-(gcc-[0-9.]+)", name):
            return match[1]
    return "gcc"
