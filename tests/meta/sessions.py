"""The sessions of `pyiwarp lab` in the documents: what each line prints, and the pages with that filled in anew.

    python -m tests.meta.sessions

The blocks of a page are one session. A block that begins with `pycon exercise=N` begins exercise N.
"""

from __future__ import annotations

import builtins
import doctest
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Final

from pyiwarp.lab.prompt import Prompt

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "```pycon" in page.read_text("utf-8")]
_BLOCK: Final = re.compile(r"```pycon(?: exercise=(\d+))?\n(.*?)```", re.DOTALL)


def filled(text: str) -> str:
    """A page with the outputs of its sessions as they are now."""
    names = Prompt().names

    def block(match: re.Match[str]) -> str:
        nonlocal names
        if match[1]:
            names = Prompt(int(match[1])).names
        lines = [line for example in doctest.DocTestParser().get_examples(match[2]) for line in _played(example, names)]
        head = match[0].partition("\n")[0]
        return "\n".join([head, *lines, "```"])

    with _value_kept():
        return _BLOCK.sub(block, text)


def _played(example: doctest.Example, names: dict[str, Any]) -> Iterator[str]:
    """The lines of an example and what they print."""
    for number, line in enumerate(example.source.splitlines()):
        yield f"{'...' if number else '>>>'} {line}".rstrip()
    said = io.StringIO()
    with redirect_stdout(said):
        exec(compile(example.source, "<lab>", "single"), names)
    yield from said.getvalue().splitlines()


@contextmanager
def _value_kept() -> Iterator[None]:
    """Let what the lines print as Python's prompt does leave nothing behind: it keeps the last value as `_`."""
    hook, before = sys.displayhook, vars(builtins).get("_")
    sys.displayhook = sys.__displayhook__
    try:
        yield
    finally:
        sys.displayhook = hook
        if before is None:
            vars(builtins).pop("_", None)
        else:
            vars(builtins)["_"] = before


def main() -> None:
    """Write the pages anew."""
    for page in PAGES:
        text = page.read_text("utf-8")
        page.write_text(filled(text), "utf-8")
        print(f"{page.relative_to(ROOT)}: {'as it was' if filled(text) == text else 'changed'}")


if __name__ == "__main__":
    main()
