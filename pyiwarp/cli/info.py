"""`pyiwarp info`: versions, the build, limits of the device, also as verbs programs see it, loop, CRC and digests."""

from __future__ import annotations

import typer

from pyiwarp.cli.options import JsonOption, LoopOption
from pyiwarp.cli.running import LoopName

__all__ = ["info", "is_compiled"]

_COMPILED = (".so", ".pyd")


def info(json: JsonOption = False, loop: LoopOption = LoopName.AUTO) -> None:
    """Show versions, the build, limits, event loop, CRC, digests of files, and the device as verbs programs see it."""
    from pyiwarp.cli.running import loop_factory
    from pyiwarp.cli.verbs_device import devices, lines
    from pyiwarp.errors import UsageError

    facts = _facts(loop_factory(loop).__module__.partition(".")[0])
    try:
        found = devices()
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    if json:
        import json as jsonlib

        print(jsonlib.dumps({**facts, "verbs_devices": found}))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):{width}}  {value}")
    print("\nas verbs programs see it (pyiwarp run --pyverbs)")
    for line in lines(found):
        print(line)


def is_compiled() -> bool:
    """Whether the stack that runs here is the compiled build."""
    from importlib.util import find_spec

    spec = find_spec("pyiwarp.engine.stream")
    return spec is not None and (spec.origin or "").endswith(_COMPILED)


def _facts(loop: str) -> dict[str, object]:
    import platform
    from dataclasses import asdict
    from importlib.metadata import version

    import crc32c

    from pyiwarp import Device, __version__
    from pyiwarp.codes import MAX_MULPDU, MAX_PRIVATE_DATA, MIN_MULPDU
    from pyiwarp.crc import LIBRARY
    from pyiwarp.files.digests import Digest

    device = {name: value for name, value in asdict(Device()).items() if name == "name" or name.startswith("max_")}
    how = "" if LIBRARY == "fastcrc" else ", in hardware" if crc32c.hardware_based else ", in software"
    blake3 = f"BLAKE3 (blake3 {version('blake3')}), " if Digest.BLAKE3.is_here else ""
    return {
        "pyiwarp": __version__,
        "build": "compiled" if is_compiled() else "pure Python",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "event_loop": f"uvloop {version('uvloop')}" if loop == "uvloop" else loop,
        "crc32c": f"{LIBRARY} {version(LIBRARY)}{how}",
        "file_digests": f"{blake3}SHA-256",
        "mpa_revisions": "1 (RFC 5044), 2 (RFC 6581)",
        "mulpdu": f"{MIN_MULPDU} to {MAX_MULPDU} octets",
        "private_data": f"{MAX_PRIVATE_DATA} octets",
        "device": device.pop("name"),
        **device,
    }
