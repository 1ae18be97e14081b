"""`python -m pyiwarp` is the `pyiwarp` command, which begins here so that Ctrl-C is silent while it is imported."""

from __future__ import annotations

import os
import signal

__all__ = ["main"]


def main() -> None:
    """The entry point of the `pyiwarp` command."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # as a shell has it; nothing is begun yet
    from pyiwarp.cli import main as command

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    main()
