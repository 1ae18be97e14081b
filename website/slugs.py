"""The anchors of headings, as GitHub makes them: so a link leads to the same heading there and on the pages here."""

from __future__ import annotations

import re

__all__ = ["anchors", "slug"]


def slug(text: str, separator: str = "-") -> str:
    """The anchor of a heading."""
    plain = re.sub(r"<[^>]*>", "", text).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", separator)


def anchors(markdown: str) -> set[str]:
    """All anchors of a page: of headings outside of code, of which a second one of the same name has a number."""
    prose = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    found: dict[str, int] = {}
    names = set(re.findall(r'<a (?:id|name)="([^"]+)"', prose))
    for heading in re.findall(r"^#{1,6} +(.*?) *$", prose, re.MULTILINE):
        name = slug(re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading))
        names.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return names
