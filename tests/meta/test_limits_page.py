"""The page of the limits has the defaults that the code has."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest

import pyiwarp
from pyiwarp import blocking
from pyiwarp.buffers import BUFFER_SIZE
from pyiwarp.cli.files import serve
from pyiwarp.cli.tunnel import tunnel
from pyiwarp.cm.reception import ListenerCounters
from pyiwarp.connections.options import Options
from pyiwarp.connections.serving import CLOSING_LINGER
from pyiwarp.files.session import ServerSettings
from pyiwarp.mpa import LARGEST_FPDU
from pyiwarp.pump import SHARED_TURN_FPDUS, TURN_FPDUS
from pyiwarp.queues.counters import QpCounters
from pyiwarp.sockets.family.bridge import ORPHAN_TIMEOUT
from pyiwarp.sockets.family.enginethread import AT_EXIT, AT_EXIT_MOST

PAGE: Final = (Path(__file__).parents[2] / "docs/limits.md").read_text(encoding="utf-8")
ROWS: Final = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:2] == "| "]
LIMITS: Final = [row for row in ROWS if row[0][:5] != "Limit"]
COMMANDS: Final[dict[str, Callable[..., object]]] = {"serve": serve, "tunnel": tunnel}
FIXED: Final = {
    "the end of each connection of a server that is closed": CLOSING_LINGER,
    "a closed socket of AF_IWARP whose peer takes nothing": ORPHAN_TIMEOUT,
    "what sockets of AF_IWARP have sent, when the program ends and nothing moves": AT_EXIT,
    "the same, however much moves": AT_EXIT_MOST,
    "octets of an unfinished FPDU": LARGEST_FPDU,
    "octets that are received at once": BUFFER_SIZE,
    "FPDUs that are processed in one turn": TURN_FPDUS,
    "the same while other connections have news": SHARED_TURN_FPDUS,
}


def default(place: str) -> Any:
    """What is used when the limit is not set at `place`, a word of the page."""
    if found := re.fullmatch(r"(\w+)\((\w+)=…\)", place):
        return inspect.signature(getattr(pyiwarp, found[1])).parameters[found[2]].default
    if found := re.fullmatch(r"pyiwarp (serve|tunnel) --([\w-]+)", place):
        return inspect.signature(COMMANDS[found[1]]).parameters[found[2].replace("-", "_")].default
    kind, name = place.split(".")
    return getattr({"Options": Options(), "ServerSettings": ServerSettings()}[kind], name)


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row[0])
def test_the_default_is_that_of_the_code(row: list[str]) -> None:
    limit, stated, where, _ = row
    if where[0] == "–":
        assert float(stated) == FIXED[limit]
        return
    places = re.findall(r"`([^`]+)`", where)
    assert places, "a limit is set somewhere"
    for place in places:
        assert (None if stated == "–" else float(stated)) == default(place), place


def test_every_limit_in_seconds_and_every_counter_of_a_refusal_is_on_the_page() -> None:
    for field in fields(Options):
        if field.name.endswith(("timeout", "_depth", "_size", "linger")) or field.name in ("ird", "ord", "max_message"):
            assert f"`Options.{field.name}`" in PAGE, field.name
    for counter in ("dropped_for_room", "dropped_of_address", "turned_away", "over_limit", "rests", "failed"):
        assert counter in ListenerCounters._fields
        assert f"`{counter}`" in PAGE
    assert {"fpdu_timeouts", "violations"} <= set(QpCounters._fields)
    assert {"backlog", "per_address"} <= set(inspect.signature(blocking.listen).parameters)
