"""`pyiwarp info`: versions, limits of the device, the event loop, CRC and digests of files in use."""

from __future__ import annotations

from pyiwarp.cli.options import JsonOption, LoopOption
from pyiwarp.cli.running import LoopName

__all__ = ["info"]


def info(json: JsonOption = False, loop: LoopOption = LoopName.AUTO) -> None:
    """Show versions, limits, the event loop, the CRC and the digests of files."""
    from pyiwarp.cli.running import loop_factory

    facts = _facts(loop_factory(loop).__module__.partition(".")[0])
    if json:
        import json as jsonlib

        print(jsonlib.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):{width}}  {value}")


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
