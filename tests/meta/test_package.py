"""What is published: one version for code, metadata and git, and links that hold in the source distribution."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

import pyiwarp

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MANIFEST: Final = [line.split() for line in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()]
LINK: Final = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def links(page: Path) -> set[str]:
    """The files that a page links to, from the root of the repository."""
    targets = {target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target}
    return {str((page.parent / target).resolve().relative_to(ROOT)) for target in targets}


def is_published(name: str) -> bool:
    """Whether the source distribution has a file or folder: the package, its description, what the manifest names."""
    included = {word for words in MANIFEST if words and words[0] == "include" for word in words[1:]}
    grafted = {words[1] for words in MANIFEST if words and words[0] == "graft"}
    return name in included | {"pyproject.toml", "setup.py"} or name.partition("/")[0] in grafted | {"pyiwarp"}


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_hold_in_the_source_distribution(page: Path) -> None:
    assert not {name for name in links(page) if not is_published(name)}


def test_the_readme_is_what_an_index_shows() -> None:
    """Where it is shown without the repository its links lead nowhere: it says where the files are."""
    assert PROJECT["project"]["readme"] == "README.md"
    assert len(links(ROOT / "README.md")) > 30
    assert "source distribution" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_version_has_one_home() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "pyiwarp.__version__"}
    assert version("pyiwarp") == pyiwarp.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", pyiwarp.__version__)


def test_the_changelog_begins_with_what_is_to_come_or_with_this_version() -> None:
    first = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert first in ("Unreleased", pyiwarp.__version__)


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or not shutil.which("git"), reason="this is no clone of the repository"
)
def test_git_has_no_other_version() -> None:
    """A tag `v1.2.3` names the commit of that version; behind it the code says another one."""

    def git(*words: str) -> list[str]:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.split()

    own = f"v{pyiwarp.__version__}"
    here = [tag for tag in git("tag", "--points-at", "HEAD") if tag.startswith("v")]
    assert here in ([], [own])
    assert own not in git("tag", "--list") or here == [own], f"{own} is an earlier commit: the version is to be raised"
