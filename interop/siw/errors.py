"""What can go wrong while the siw guest is prepared, booted or driven."""

import re

CONSOLE_TAIL = 2500
"""How many characters of the guest's console an error message quotes."""

_CRASH = re.compile(r"^.*(BUG:|kernel BUG at|Kernel panic|Oops:|general protection fault|WARNING:)", re.MULTILINE)


def console_tail(console: str) -> str:
    """The part of a console worth quoting: from the first sign of a crash on, else the end."""
    console = console.strip()
    if crash := _CRASH.search(console):
        return console[crash.start() :][:CONSOLE_TAIL]
    return console[-CONSOLE_TAIL:]


class SiwError(Exception):
    """Any error of this package."""


class PreparationError(SiwError):
    """The image cannot be built; the message tells the user what to do about it."""


class GuestError(SiwError):
    """Something went wrong with a guest; the message ends with the tail of its console."""

    def __init__(self, message: str, console: str = "") -> None:
        """Keep `console` whole and quote its end in the message."""
        self.console = console
        super().__init__(f"{message}\n--- guest console ---\n{console_tail(console) or '(empty)'}")


class GuestStartError(GuestError):
    """QEMU did not start, or the guest did not become ready."""


class GuestDied(GuestError):
    """The guest ended (a kernel panic ends QEMU) while somebody was still waiting for it."""


class GuestTimeout(GuestError):
    """The guest lives but did not answer in time."""


class CommandFailed(GuestError):
    """A command in the guest ended with a status other than 0."""


class VerbError(SiwError):
    """A verb failed in the guest: `what` is the call, `errno` its error number."""

    def __init__(self, what: str, errno: int, text: str) -> None:
        """Describe the failed call `what`, its `errno` and the text for it."""
        self.what, self.errno = what, errno
        super().__init__(f"{what}: {text} ({errno})")
