"""How a coroutine becomes a scenario."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from interop.peer import Can, PeerKind, Role
from interop.stage import Stage

Run = Callable[[Stage], Awaitable[None]]

LIMIT = 60.0
"""Seconds for a scenario: most take one, on a machine that does nothing else."""

BOTH = (Role.PYIWARP_CONNECTS, Role.PEER_CONNECTS)


@dataclass(frozen=True, eq=False)
class Scenario:
    """One row of the matrix.

    `needs` says for each role what the peer must be able to do; a role that is missing is not played. `timeout` is
    in seconds. With `alone` the peer is thrown away afterwards.
    """

    name: str
    group: str
    about: str
    run: Run
    needs: Mapping[Role, Can]
    timeout: float
    alone: bool

    def lacking(self, kind: PeerKind, role: Role) -> Can:
        """What `kind` cannot do of what is needed."""
        return self.needs[role] & ~kind.can


registered: dict[str, Scenario] = {}
"""Every scenario by its name."""


def scenario(
    group: str,
    *,
    roles: tuple[Role, ...] = BOTH,
    needs: Can = Can.NOTHING,
    connecting_needs: Can = Can.CONNECT_REVISION_2,
    timeout: float = LIMIT,
    alone: bool = False,
) -> Callable[[Run], Run]:
    """Make a coroutine the scenario of its own name; the first line of its docstring says what it is about.

    `connecting_needs` is what a peer must be able to do besides `needs` where it connects.
    """

    def register(run: Run) -> Run:
        add(
            run.__name__.replace("_", "-"),
            group,
            _first_line(run),
            run,
            roles=roles,
            needs=needs,
            connecting_needs=connecting_needs,
            timeout=timeout,
            alone=alone,
        )
        return run

    return register


def add(
    name: str,
    group: str,
    about: str,
    run: Run,
    *,
    roles: tuple[Role, ...] = BOTH,
    needs: Can = Can.NOTHING,
    connecting_needs: Can = Can.CONNECT_REVISION_2,
    timeout: float = LIMIT,
    alone: bool = False,
) -> None:
    """Add a scenario that has no coroutine of its own name."""
    assert name not in registered, f"two scenarios are called {name}"
    each = {role: needs | (connecting_needs if role is Role.PEER_CONNECTS else Can.NOTHING) for role in roles}
    registered[name] = Scenario(name, group, about, run, each, timeout, alone)


def _first_line(run: Run) -> str:
    assert run.__doc__, f"{run.__name__} says what it is about"
    return run.__doc__.strip().splitlines()[0]
