"""Builds siw out of tree, once per variant, and knows which modules it needs loaded before."""

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from . import host
from .errors import PreparationError
from .variants import Variant

_SIW = "drivers/infiniband/sw/siw"


def extract_siw(deb: Path, destination: Path) -> None:
    """Take siw's directory out of the linux-source package `deb` (a tar in a tar in it, 1.3 GB, never on disk)."""
    destination.mkdir(parents=True)
    series = deb.name.partition("_")[0]
    pipeline = (
        f"dpkg-deb --fsys-tarfile {shlex.quote(str(deb))} | tar -xO ./usr/src/{series}.tar.xz | xz -dc -T0 | "
        f"tar -x -C {shlex.quote(str(destination))} --strip-components=5 --wildcards '{series}/{_SIW}/*'"
    )
    host.run(["sh", "-c", pipeline], timeout=600)
    if not (destination / "siw_main.c").exists():
        raise PreparationError(f"{deb.name} holds no {_SIW}/siw_main.c")


def relocate_headers(root: Path, release: str) -> Path:
    """Make the headers unpacked under `root` usable where they are; returns the directory to build with."""
    directory = root / "usr/src" / f"linux-headers-{release}"
    makefile = directory / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{root}/usr/src/"))
    return directory


def build_modules(
    variants: Sequence[Variant], source: Path, headers: Path, root: Path, work: Path, output: Path
) -> None:
    """Build each of `variants` from the pristine `source` with `headers` and put NAME.ko into `output`.

    All are built in one directory, so only the edited files are compiled again. The paths of this host do not get
    into the result: the same inputs give the same octets anywhere.
    """
    output.mkdir(parents=True)
    shutil.copytree(source, work)
    for variant in variants:
        _apply(variant, work)
        _make(headers, work, root)
        shutil.copy(work / "siw.ko", output / f"{variant.name}.ko")
        host.run(["strip", "--strip-debug", "--remove-section=.note.gnu.build-id", output / f"{variant.name}.ko"])
        for file in {edit.file for edit in variant.edits}:
            shutil.copyfile(source / file, work / file)


def _apply(variant: Variant, directory: Path) -> None:
    for edit in variant.edits:
        edit.apply(directory)


def _make(headers: Path, work: Path, root: Path) -> None:
    flags = f"-ffile-prefix-map={work}=siw -ffile-prefix-map={root}=headers"
    jobs = f"-j{os.cpu_count() or 1}"
    goal = [f"M={work}", "CONFIG_RDMA_SIW=m", f"KCFLAGS={flags}", "modules"]
    host.run(["make", "-s", jobs, "-C", headers, *goal], timeout=600)


def module_order(root: Path, release: str, wanted: Sequence[str]) -> list[Path]:
    """The files of the modules `wanted` and of what they need, in the order to load them.

    `root` holds lib/modules/`release`. A module that does not exist is taken as built into the kernel.
    """
    host.run(["depmod", "-b", root, release])
    directory = root / "lib/modules" / release
    order: list[Path] = []
    files: dict[str, list[str]] = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        file, _, needs = line.partition(":")
        # depmod lists what a module needs with the deepest need last
        files[_module(file)] = [*reversed(needs.split()), file]
    for name in wanted:
        order += [directory / file for file in files.get(_module(name), []) if directory / file not in order]
    return order


def _module(name: str) -> str:
    return Path(name).name.partition(".")[0].replace("-", "_")
