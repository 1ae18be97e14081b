"""Builds the guest's image from Debian packages, or finds it in the cache."""

import json
import shutil
import tempfile
from pathlib import Path

from . import contents, host, modules, packages, plan
from .contents import Ingredients
from .errors import PreparationError
from .host import Need
from .image import MANIFEST, Image, cache_directory
from .locks import locked
from .packages import Apt, Package
from .plan import Plan
from .progress import Progress

_PARTS = "parts"  # downloads and modules, shared by all images of the cache
_KEPT_IMAGES = 3
_LOCK_PATIENCE = 1800.0  # seconds; several times what a build takes on a slow machine


def prepare_image(cache: Path | None = None, progress: Progress | None = None, *, rebuild: bool = False) -> Image:
    """The image of today's packages, built unless the cache has it.

    `cache` overrides the directory to keep images in, `rebuild` builds even what is there. Needs no privilege. Raises
    `PreparationError`, whose message says what to install or to run first.
    """
    progress = progress or Progress()
    directory = cache_directory(cache)
    host.require((*host.RUN, *host.APT))
    directory.mkdir(parents=True, exist_ok=True)
    waiting = "another run is preparing an image in the same cache: waiting for it"
    with locked(directory / "lock", _LOCK_PATIENCE, lambda: progress.note(waiting)):
        apt = Apt(directory / _PARTS / "apt")
        chosen = _resolve(apt, directory, progress)
        if isinstance(chosen, Image):
            return chosen
        image = Image(directory / chosen.key)
        if not image.whole or rebuild:
            host.require((*host.BUILD, Need(chosen.kernel.compiler, chosen.kernel.compiler)))
            _build(chosen, image, apt, progress)
            _prune(directory, image)
        (image.directory / MANIFEST).touch()  # the cache keeps those used last
        progress.note(f"image     {image.directory}")
        return image


def _resolve(apt: Apt, directory: Path, progress: Progress) -> Plan | Image:
    """What to build; or, if apt cannot tell, the latest image that the present sources built."""
    try:
        with progress.step("resolve", "versions of the packages"):
            return plan.resolve(apt)
    except PreparationError as error:
        images = [image for image in _images(directory) if image.key.startswith(plan.own_key())]
        if not images:
            raise
        progress.note(f"{str(error).splitlines()[0]}; taking the image built before")
        return images[0]


def _build(chosen: Plan, image: Image, apt: Apt, progress: Progress) -> None:
    parts = image.directory.parent / _PARTS
    parts.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=image.directory.parent) as name:
        work = Path(name)
        debs = _download(chosen, parts, apt, progress)
        with progress.step("unpack", f"{len(debs)} packages"):
            _unpack(chosen, debs, parts / "debs", work)
        variants = _modules(chosen, parts, work, progress)
        with progress.step("pack", "programs, libraries and modules"):
            _pack(chosen, variants, work)
        with progress.step("store", image.key):
            _store(chosen, work / "image", image, progress)


def _download(chosen: Plan, parts: Path, apt: Apt, progress: Progress) -> list[Package]:
    """Download what is needed, which without new modules to build is little; give what there is to unpack."""
    debs = [chosen.kernel.image, *chosen.tools]
    if not (parts / chosen.modules_key).exists():
        debs += chosen.kernel.headers
        source = parts / _source_name(chosen)
        if not source.exists():
            _siw_source(chosen.kernel.source, source, apt, progress)
    size = sum(deb.size for deb in debs) / 1e6
    with progress.step("download", f"{len(debs)} packages, {size:.0f} MB"):
        apt.download(debs, parts / "debs")
    keep = {deb.file for deb in (*debs, *chosen.kernel.headers)}
    for path in (parts / "debs").iterdir():
        if path.name not in keep:
            path.unlink()
    return debs


def _source_name(chosen: Plan) -> str:
    return f"siw-source-{chosen.kernel.source.version}"


def _siw_source(deb: Package, destination: Path, apt: Apt, progress: Progress) -> None:
    """Keep siw's 14 files of the kernel's source package, and not the package."""
    detail = f"{deb.name} {deb.version}, {deb.size / 1e6:.0f} MB, for siw's directory of it"
    with progress.step("source", detail), tempfile.TemporaryDirectory(dir=destination.parent) as name:
        work = Path(name)
        apt.download([deb], work)
        modules.extract_siw(work / deb.file, work / "siw")
        (work / "siw").rename(destination)


def _unpack(chosen: Plan, debs: list[Package], directory: Path, work: Path) -> None:
    headers = [deb for deb in debs if deb in chosen.kernel.headers]
    packages.unpack([chosen.kernel.image], directory, work / "kernel")
    packages.unpack(headers, directory, work / "headers")
    packages.unpack(chosen.tools, directory, work / "tools")


def _modules(chosen: Plan, parts: Path, work: Path, progress: Progress) -> Path:
    """The directory of the built siw modules."""
    built = parts / chosen.modules_key
    if not built.exists():
        names = ", ".join(variant.name for variant in chosen.variants)
        with progress.step("build", names):
            tree = modules.relocate_headers(work / "headers", chosen.kernel.release)
            source = parts / _source_name(chosen)
            modules.build_modules(chosen.variants, source, tree, work / "headers", work / "siw", work / "modules")
            (work / "modules").rename(built)
    return built


def _pack(chosen: Plan, variants: Path, work: Path) -> None:
    release = chosen.kernel.release
    boot = modules.module_order(work / "kernel", release, contents.BOOT_MODULES)
    ingredients = Ingredients(work / "tools", boot, variants, chosen.kernel.compiler, work)
    output = work / "image"
    output.mkdir()
    (output / "initrd.cpio").write_bytes(contents.pack(ingredients))
    shutil.copy(work / "kernel/boot" / f"vmlinuz-{release}", output / "vmlinuz")


def _store(chosen: Plan, built: Path, image: Image, progress: Progress) -> None:
    """Move the finished image to its place in one step: a reader sees all of it or nothing."""
    debs = (chosen.kernel.image, *chosen.kernel.headers, chosen.kernel.source, *chosen.tools)
    manifest = {
        "kernel": chosen.kernel.release,
        "variants": {variant.name: variant.reason for variant in chosen.variants},
        "packages": {deb.name: deb.version for deb in debs},
        "seconds": progress.seconds,
    }
    (built / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    if image.directory.exists():
        shutil.rmtree(image.directory)
    built.rename(image.directory)


def _images(directory: Path) -> list[Image]:
    """The whole images of a cache, the one used last first."""
    found = [Image(path) for path in directory.iterdir() if (path / MANIFEST).exists()]
    return sorted(found, key=lambda image: (image.directory / MANIFEST).stat().st_mtime, reverse=True)


def _prune(directory: Path, latest: Image) -> None:
    others = [image for image in _images(directory) if image != latest]
    for image in others[_KEPT_IMAGES - 1 :]:
        shutil.rmtree(image.directory, ignore_errors=True)
