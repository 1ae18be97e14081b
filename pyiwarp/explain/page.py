"""A story as one page for a browser: a template over the values of `records`, without anything from a network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

from pyiwarp.explain.homes import lines_that_cite
from pyiwarp.explain.records import record
from pyiwarp.explain.story import Conversation

__all__ = ["is_page", "page"]

_MARK: Final = b'<meta name="generator" content="pyiwarp explain">'
_HEAD: Final = 1024  # octets of a page that hold the mark

_PLACE: Final = re.compile(r"\{\{(title|data)\}\}")


def is_page(path: Path) -> bool:
    """Whether a file is a page that was made here; raises `OSError` if it cannot be read."""
    with path.open("rb") as file:
        return _MARK in file.read(_HEAD)


def page(title: str, conversations: Iterable[Conversation], clauses: Mapping[str, str]) -> str:
    """The page; `clauses` are the sentences of requirements by id, of which those that are named go in."""
    told = [record(each) for each in conversations]
    named = {
        rule
        for each in told
        for message in each["messages"]
        for unit in message["units"]
        for field in unit["fields"]
        for rule in field["rules"]
    }
    data = {
        "conversations": told,
        "clauses": {rule: clauses[rule] for rule in sorted(named) if rule in clauses},
        "homes": lines_that_cite(named),
    }
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    octets = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # no tag ends the script
    parts = {"title": escape(title.encode("utf-8", "backslashreplace").decode()), "data": octets}
    return _PLACE.sub(lambda match: parts[match[1]], template)  # at once: a title may have the name of the other place
