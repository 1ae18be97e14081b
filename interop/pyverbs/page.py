"""docs/pyverbs-tests.md: the table, for readers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from interop.pyverbs.expected import Passed, Skipped, Table, What

PAGE: Final = Path(__file__).parents[2] / "docs" / "pyverbs-tests.md"

_HEAD: Final = """\
# rdma-core's Python tests on pyiwarp

This page is written by `python -m interop.pyverbs` from
[`interop/pyverbs/expected.toml`](../interop/pyverbs/expected.toml); a change by hand is lost with the next run.

rdma-core tests libibverbs and librdmacm through pyverbs. These are the tests of version {version}, unchanged, on
[`pyiwarp.pyverbs`](pyverbs.md) instead of a device. `make pyverbs` runs them and fails if a test does something else
than this page says, if a class of tests leaves a descriptor, a thread, a child or an object of the stack behind, and if
the process has grown at the end. Each test has a minute.

| of {generic} generic tests | tests |
| --- | --- |
"""

_MEANINGS: Final = {
    What.PROTOCOL: "pass, and show the protocol: MPA was spoken, which is counted",
    What.OBJECTS: "pass, and show calls of the verbs, without traffic",
    What.EMULATION: "pass on what is emulated in software (device memory, on-demand paging, parent domains with"
    " allocators): no proof of the protocol",
    What.NOTHING: "pass, and mean nothing: there is nothing to test here",
}


def text(table: Table) -> str:
    """The page."""
    counts = table.counts()
    skips = [each for each in table.entries if isinstance(each, Skipped)]
    skipped = sum(len(each.tests) for each in skips if not each.vendor)
    lines = [_HEAD.format(version=table.version, generic=counts.total() + skipped).rstrip("\n")]
    lines += [f"| {meaning} | {counts[what]} |" for what, meaning in _MEANINGS.items()]
    lines.append(f"| are skipped | {skipped} |")
    lines += ["", "Tests of one vendor's driver are skipped:", "", "| tests | of |", "| --- | --- |"]
    lines += [f"| `{each.tests[0]}` | {each.reason} |" for each in skips if each.vendor]
    for module, rows in _modules(table).items():
        lines += ["", f"## {module}", "", "| test | outcome |", "| --- | --- |"]
        lines += [f"| `{test}` | {outcome} |" for test, outcome in rows]
    return "\n".join(lines) + "\n"


def _modules(table: Table) -> dict[str, list[tuple[str, str]]]:
    modules: dict[str, list[tuple[str, str]]] = {}
    for test, outcome in sorted(_rows(table)):
        module, _, name = test.partition(".")
        modules.setdefault(module, []).append((name, outcome))
    return modules


def _rows(table: Table) -> Iterator[tuple[str, str]]:
    for each in table.entries:
        if isinstance(each, Passed):
            yield from ((test, f"passed: {each.what.value}") for test in each.tests)
        elif not each.vendor:
            yield from ((test, f"skipped: {each.reason}") for test in each.tests)
