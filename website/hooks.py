"""What mkdocs calls while it builds: pages that are no Markdown in `docs/`, and links that lead out of it.

The README and its siblings become pages; each source file that a page links to becomes one, with its lines numbered;
each demo of `pyiwarp explain` is the page that the command writes; each public module has a page of its reference.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound

from pyiwarp.explain.demos import DEMOS

__all__ = ["on_files", "on_page_markdown"]

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "interop/captures/README.md": "project/captures.md",
    "interop/README.md": "project/interop.md",
}
"""Markdown beside `docs/`, and where it is on the pages."""

MODULES: Final = (
    *("pyiwarp", "pyiwarp.blocking", "pyiwarp.blockingcm", "pyiwarp.capture", "pyiwarp.cm", "pyiwarp.devices"),
    *("pyiwarp.errors", "pyiwarp.files", "pyiwarp.profile", "pyiwarp.rdmacm", "pyiwarp.sockets", "pyiwarp.verbs"),
)
"""The public modules."""

_LINK: Final = re.compile(r"(?<!!)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_SECONDS: Final = 120.0


def _place(path: str) -> str:
    """Where a file or folder of the repository is on the pages."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PAGES.get(path) or f"source/{path.lstrip('.')}.html"  # what begins with a dot is left out by mkdocs


def _home(uri: str) -> str:
    """Which file of the repository is the page at this place."""
    return next((path for path, place in PAGES.items() if place == uri), f"docs/{uri}")


def _linked(markdown: str, home: str) -> set[str]:
    """The files and folders of the repository that a page links to."""
    targets = (posixpath.normpath(posixpath.join(posixpath.dirname(home), link)) for link, _ in _LINK.findall(markdown))
    return {target for target in targets if not target.startswith("..") and (ROOT / target).exists()}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in `docs/`."""
    made: dict[str, str] = {place: (ROOT / path).read_text(encoding="utf-8") for path, place in PAGES.items()}
    texts = {file.src_uri: file.content_string for file in files.documentation_pages()} | made
    linked = set[str]().union(*(_linked(text, _home(uri)) for uri, text in texts.items()))
    for path in sorted(linked):
        if (place := _place(path)).startswith("source/"):
            made[place] = _source(path, linked)
    made["demos.md"] = _demos()
    made |= {f"explain/{name}.html": _explained(name) for name in DEMOS}
    made["api/index.md"] = "# Public modules\n\n" + "".join(f"* [{name}]({name}.md)\n" for name in MODULES)
    made |= {f"api/{name}.md": f"# {name}\n\n::: {name}\n" for name in MODULES}
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Let links to files of the repository lead to their pages."""
    uri = page.file.src_uri
    home = _home(uri)

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(home), match[1]))
        if target.startswith("..") or not (ROOT / target).exists():
            return match[0]
        return f"]({posixpath.relpath(_place(target), posixpath.dirname(uri) or '.')}{match[2] or ''})"

    return _LINK.sub(moved, markdown)


# --- pages that are made ---------------------------------------------------------------------------------------------


def _demos() -> str:
    """The list of the demos."""
    lines = [f"| [{name}](explain/{name}.html) | {shows} |" for name, shows in DEMOS.items()]
    return "\n".join(
        [
            "# Sessions, octet by octet",
            "",
            "Each page is a session that was played when these pages were made, as",
            "`pyiwarp explain --demo NAME --html FILE` writes it. Choose a message, then a field; ↑ ↓ ← → do it too.",
            "[How to have a page of a session of your own](explain.md).",
            "",
            "| Demo | What it shows |",
            "|---|---|",
            *lines,
            "",
        ]
    )


def _explained(demo: str) -> str:
    """The page that `pyiwarp explain` writes of a demo."""
    with tempfile.TemporaryDirectory(prefix="pyiwarp-docs-") as scratch:
        path = Path(scratch) / f"{demo}.html"
        command = [sys.executable, "-m", "pyiwarp", "explain", "--demo", demo, "--html", str(path)]
        subprocess.run(command, check=True, timeout=_SECONDS, cwd=ROOT)
        return path.read_text(encoding="utf-8")


def _source(path: str, linked: set[str]) -> str:
    """A page of a source file with its lines numbered, or of a folder with what is in it and has a page."""
    whole = ROOT / path
    if whole.is_dir():
        names = sorted(each.name + "/" * each.is_dir() for each in whole.iterdir() if each.name[0] not in "._")
        body = "<ul>" + "".join(_entry(path, name, linked) for name in names) + "</ul>"
        return _page(path, body, lambda: "")
    text = whole.read_text(encoding="utf-8")
    formatter = HtmlFormatter(linenos="inline", lineanchors="L", anchorlinenos=True)
    try:
        lexer = get_lexer_for_filename(path)
    except ClassNotFound:
        return _page(path, f"<pre>{escape(text)}</pre>", lambda: "")
    return _page(path, highlight(text, lexer, formatter), lambda: str(formatter.get_style_defs(".highlight")))


def _entry(folder: str, name: str, linked: set[str]) -> str:
    path = posixpath.join(folder, name.rstrip("/"))
    if path not in linked or not _place(path).startswith("source/"):
        return f"<li>{escape(name)}</li>"
    to = posixpath.relpath(_place(path), posixpath.dirname(_place(folder)))
    return f'<li><a href="{escape(to)}">{escape(name)}</a></li>'


def _page(title: str, body: str, style: Callable[[], str]) -> str:
    up = posixpath.relpath("index.html", posixpath.dirname(_place(title)))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style()}
body {{ margin: 1rem; font: 15px/1.5 sans-serif; }} pre {{ overflow-x: auto; line-height: 1.4; }}
.linenos, .highlight a {{ color: inherit; text-decoration: none; }} .highlight {{ background: none; }}
</style></head><body><p><a href="{up}">pyiwarp</a> / {escape(title)}</p>
{body}
</body></html>
"""
