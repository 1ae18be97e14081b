"""What an image is built from, and the key that names it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import contents, host, kernel, packages
from .kernel import Kernel
from .packages import Apt, Package
from .variants import VARIANTS, Variant

_MODULE_BUILDERS = ("modules.py",)
_IMAGE_BUILDERS = (*_MODULE_BUILDERS, "contents.py", "cpio.py", "elf.py", "prepare.py")
_GUEST_SOURCES = ("agent.c", "linebuffer.c", "lines.h", "lines.c", "verbpeer.c", "target.c", "init.sh")
_DIGITS = 12


@dataclass(frozen=True)
class Plan:
    """Every input of an image, resolved to versions and contents."""

    kernel: Kernel
    tools: tuple[Package, ...]
    compiler: str  # its version, as it says it
    variants: tuple[Variant, ...] = VARIANTS
    sources: Path = contents.SOURCES

    @property
    def key(self) -> str:
        """Name of the image: a hash of our own sources and one of all packages."""
        debs = [self.kernel.image, *self.kernel.headers, self.kernel.source, *self.tools]
        return f"{own_key(self.sources, self.variants)}-{_digest([*_names(debs), self.compiler])}"

    @property
    def modules_key(self) -> str:
        """Name of the built modules, which change less often than the image."""
        debs = [self.kernel.image, *self.kernel.headers, self.kernel.source]
        return _digest([*_names(debs), self.compiler, repr(self.variants), *_texts(self.sources, _MODULE_BUILDERS)])


def resolve(apt: Apt) -> Plan:
    """Ask apt for all versions. Raises `PreparationError` if apt does not know the packages."""
    chosen = kernel.resolve(apt)
    wanted = [*contents.TOOLS, *contents.HEADERS]
    graph = apt.depends(contents.TOOLS, recurse=True)
    names = sorted({*packages.shared_libraries(graph, contents.TOOLS), *wanted})
    return Plan(chosen, tuple(apt.candidates(names)), _compiler_version(chosen.compiler))


def own_key(sources: Path = contents.SOURCES, variants: Sequence[Variant] = VARIANTS) -> str:
    """The part of the key that comes from this package and not from Debian's."""
    return _digest([repr(tuple(variants)), *_texts(sources, (*_IMAGE_BUILDERS, *_GUEST_SOURCES))])


def _compiler_version(compiler: str) -> str:
    return host.run([compiler, "-dumpfullversion"]).strip() if host.find(compiler) else "none"


def _names(debs: Iterable[Package]) -> list[str]:
    return [f"{deb.name} {deb.version} {deb.sha256}" for deb in debs]


def _texts(directory: Path, names: Iterable[str]) -> list[str]:
    return [(directory / name).read_text() for name in names]


def _digest(parts: Sequence[str]) -> str:
    return sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]
