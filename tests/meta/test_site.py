"""`make docs`: the pages are built without a warning, their links lead somewhere, and nothing in them is fetched."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from pyiwarp.explain.demos import DEMOS
from tests.children import finished

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed: pip install -e '.[docs]'")

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.tools


class Page(HTMLParser):
    """The anchors of a page, where its links lead, and what a browser fetches for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := found.get(name))}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"] or "")
        if tag == "link" and found.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(found.get("href") or "")
        self.fetched += [value for name in ("src", "srcset", "data") if (value := found.get(name))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--config-file",
        "website/mkdocs.yml",
        "--site-dir",
        str(folder),
    ]
    done = finished(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def broken(pages: dict[Path, Page]) -> Iterator[str]:
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the root of a server
            continue
        for link in page.links:
            target, anchor = urldefrag(link)
            if "://" in target or target.startswith(("mailto:", "data:")):
                continue
            to = (path.parent / unquote(target)).resolve() if target else path
            to = to / "index.html" if to.is_dir() else to
            if not to.is_file():
                yield f"{path.name}: {link}"
            elif to in pages and anchor and unquote(anchor) not in pages[to].anchors and anchor != "__top":
                yield f"{path.name}: {link} has no such anchor"


def test_every_link_leads_somewhere(pages: dict[Path, Page]) -> None:
    assert not list(broken(pages))
    assert sum(len(page.links) for page in pages.values()) > 5000


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not [each for each in page.fetched if "//" in each and not each.startswith("data:")], path
    for path in site.rglob("*.css"):
        assert "url(http" not in path.read_text(encoding="utf-8"), path


def test_the_search_knows_the_pages(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"] if "Terminate" in entry["text"]}
    assert {"glossary.html", "errors.html", "api/pyiwarp.errors.html"} <= found


def test_the_demos_are_there(site: Path, pages: dict[Path, Page]) -> None:
    linked = pages[site / "demos.html"].links
    for name in DEMOS:
        assert f"explain/{name}.html" in linked
        assert (site / "explain" / f"{name}.html").stat().st_size > 10_000


def test_the_modules_have_their_names(site: Path) -> None:
    page = Page(site / "api" / "pyiwarp.html")
    assert {"pyiwarp.Connection", "pyiwarp.Connection.write", "pyiwarp.connect"} <= page.anchors
