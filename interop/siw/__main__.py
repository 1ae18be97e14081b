"""`python -m interop.siw`: prepare, boot and use the siw guest from a shell."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import smoke as smoke_test
from .errors import SiwError
from .guest import ADDRESS, HOST_ADDRESS, Guest
from .prepare import prepare_image
from .progress import Progress
from .snapshots import fresh
from .variants import NAMES

app = typer.Typer(help="A Linux soft-iWARP (siw) peer in a QEMU guest.", no_args_is_help=True, add_completion=False)

Cache = Annotated[Path | None, typer.Option(help="Directory to keep images in (default: $PYIWARP_CACHE or ~/.cache).")]
VariantName = Annotated[str, typer.Option(help=f"Which siw: {', '.join(NAMES)}.")]
Ports = Annotated[list[int], typer.Option("--port", help="Port of the guest to reach from the host; repeatable.")]


@app.command()
def prepare(cache: Cache = None, rebuild: Annotated[bool, typer.Option(help="Build even if cached.")] = False) -> None:
    """Build the guest's image from Debian packages, unless it is in the cache."""
    print(prepare_image(cache, rebuild=rebuild).directory)


@app.command()
def boot(cache: Cache = None, variant: VariantName = "siw", port: Ports = [7174]) -> None:  # noqa: B006
    """Boot a guest and keep it until Ctrl-C, with some of its ports reachable from here."""
    asyncio.run(_boot(cache, variant, port))


@app.command()
def run(
    command: Annotated[str, typer.Argument(help="Shell command to run in the guest.")],
    cache: Cache = None,
    variant: VariantName = "siw",
    timeout: Annotated[float, typer.Option(help="Seconds it may take.")] = 60.0,
) -> None:
    """Run one command in a fresh guest; its output and exit status become ours."""
    raise typer.Exit(asyncio.run(_run(cache, variant, command, timeout)))


@app.command()
def smoke(cache: Cache = None, variant: VariantName = "siw") -> None:
    """Check that a guest works: rping and the verbs program, each with itself."""
    asyncio.run(_smoke(cache, variant))


async def _guest(cache: Path | None, variant: str, ports: list[int] | None = None) -> Guest:
    if variant not in NAMES:
        raise typer.BadParameter(f"{variant!r} is not one of {', '.join(NAMES)}")
    progress = Progress()
    image = await asyncio.to_thread(prepare_image, cache, progress)
    with progress.step("guest", variant):
        return await fresh(image, variant, ports=ports or ())


async def _boot(cache: Path | None, variant: str, ports: list[int]) -> None:
    async with await _guest(cache, variant, ports) as guest:
        for port in ports:
            print(f"port {port} of the guest: 127.0.0.1:{await guest.forward(port)}")
        print(f"in the guest, its own address is {ADDRESS} and this host is {HOST_ADDRESS}; Ctrl-C ends it", flush=True)
        while not await asyncio.to_thread(guest.machine.await_end, 0.5):
            pass
        raise await guest.lost("the guest ended")


async def _run(cache: Path | None, variant: str, command: str, timeout: float) -> int:
    async with await _guest(cache, variant) as guest:
        result = await guest.run(command, timeout=timeout, check=False)
    sys.stdout.buffer.write(result.stdout)
    sys.stderr.buffer.write(result.stderr)
    return result.status


async def _smoke(cache: Path | None, variant: str) -> None:
    async with await _guest(cache, variant) as guest:
        with Progress().step("smoke", "rping and verbs, both ways"):
            await smoke_test.smoke(guest)


def main() -> None:
    """Run the command line; errors of ours are one message and status 1."""
    try:
        app()
    except (SiwError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
