"""The audit of the breakages works: it notices some from all over the table, and does not notice what breaks nothing.

The whole table takes many minutes: `make audit` goes through it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.meta import audit
from tests.meta.breakages import MUTATIONS, Mutation
from tests.meta.compliance import ROOT

pytestmark = [pytest.mark.tools, pytest.mark.timeout(900)]

SOME = 8
SECONDS = 300.0
LIMIT = 800
CHOSEN = MUTATIONS[:: -(-len(MUTATIONS) // SOME)]


def harmless(mutation: Mutation) -> Mutation:
    """The same piece becomes what it was."""
    return mutation._replace(name=f"not {mutation.name}", new=mutation.old, also=())


def said() -> dict[str, set[str]]:
    """What the audit says of each, by its name."""
    mutations = [*CHOSEN, harmless(CHOSEN[0])]
    results = audit.audit(mutations, {rule for each in mutations for rule in each.rules}, SECONDS, 1)
    found: dict[str, set[str]] = {}
    for result in results:
        found.setdefault(result.mutation.name, set()).add(result.said)
    return found


def main() -> None:
    """Run in a process of its own: the audit forks, and its forks must not find the pytest that runs this."""
    found = said()
    for mutation in CHOSEN:
        assert found[mutation.name] == {audit.NOTICED}, (mutation.name, found[mutation.name])
    assert found[harmless(CHOSEN[0]).name] == {"NOT NOTICED"}
    print(f"{len(found)} were tried")


def test_the_audit_notices_what_is_broken_and_nothing_else() -> None:
    command = [sys.executable, "-m", "tests.meta.test_mutations"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"\n{len(CHOSEN) + 1} were tried\n")


if __name__ == "__main__":
    main()
