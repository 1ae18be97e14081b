"""`pyiwarp lab`: a prompt with a raw peer and a real endpoint, joined in memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pyiwarp.cli.running import fail

if TYPE_CHECKING:
    from pyiwarp.lab.prompt import Prompt

__all__ = ["lab"]


def lab(
    code: Annotated[
        str | None,
        typer.Option("-c", metavar="CODE", help="Run this code instead of asking for lines; - is standard input."),
    ] = None,
    exercise: Annotated[
        int | None,
        typer.Option(metavar="N", help="Begin exercise N: the endpoint breaks a rule, and you say which."),
    ] = None,
) -> None:
    """Send any octets to a real endpoint, at a Python prompt.

    No network is used. A raw peer builds messages by the fields of the RFCs, right ones and wrong ones. Shown are both
    sides' messages, completions, memory and states. Lines that come from a pipe are run without a prompt.
    """
    from pyiwarp.errors import UsageError
    from pyiwarp.lab.prompt import Prompt

    try:
        prompt = Prompt(exercise)
    except UsageError as error:
        raise typer.BadParameter(str(error), param_hint="--exercise") from None
    if code is None and sys.stdin.isatty():
        prompt.interact()
    else:
        _run(prompt, sys.stdin.read() if code in (None, "-") else code or "")


def _run(prompt: Prompt, text: str) -> None:
    """Run lines; an error ends the command with exit code 1 and its traceback, without the frames of the command."""
    import traceback

    from pyiwarp.errors import UsageError

    try:
        prompt.run(text)
    except UsageError as error:
        fail(str(error))
    except BrokenPipeError:
        raise  # the reader of standard output has seen enough
    except Exception as error:
        within = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<lab>"]
        lines = traceback.format_list(within) + traceback.format_exception_only(error)
        sys.stderr.writelines(["Traceback (most recent call last):\n", *lines])
        raise typer.Exit(1) from None
