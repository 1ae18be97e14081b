"""The two forms of connections and identifiers: tests that await run on both, as what is called never suspends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import pytest

from pyiwarp import Options, blocking, blockingcm, rdmacm
from tests.integration.loops import joined, run_on
from tests.integration.polled import nothing_left, pair
from tests.patience import PATIENCE

Call = Callable[..., Coroutine[Any, Any, Any]]
Body = Callable[..., Coroutine[Any, Any, None]]


async def awaited(operation: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call an operation, and wait for it if that takes `await`."""
    result = operation(*arguments, **named)
    return await result if isinstance(result, Awaitable) else result


class AwaitableForm:
    """Tests of the connections and identifiers of asyncio."""

    rdma_cm = rdmacm
    limit: Mapping[str, float] = {}
    """Arguments that bound a wait: here `run` bounds all of them."""

    def run(self, body: Body, *arguments: Any) -> None:
        run_on(asyncio.new_event_loop, lambda: body(*arguments))

    def connected(self, body: Body, left: Options | None = None, right: Options | None = None) -> None:
        async def main() -> None:
            async with joined(left, right) as (one, other):
                await body(one, other)

        self.run(main)

    async def progress(self) -> None:
        """Let every connection make progress."""
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object]) -> None:
        """Let every connection make progress until it is true."""
        while not condition():
            await self.progress()


class BlockingForm:
    """Tests of the connections and identifiers that poll; none of their operations suspends a coroutine."""

    rdma_cm = blockingcm
    limit: Mapping[str, float] = {"timeout": PATIENCE}
    """Arguments that bound a wait."""

    def run(self, body: Body, *arguments: Any) -> None:
        with nothing_left(), pytest.raises(StopIteration):
            body(*arguments).send(None)

    def connected(self, body: Body, left: Options | None = None, right: Options | None = None) -> None:
        with pair(left, right) as (one, other):
            self.run(body, one, other)

    async def progress(self) -> None:
        """Let every connection make progress."""
        blocking.progress()

    async def until(self, condition: Callable[[], object]) -> None:
        """Let every connection make progress until it is true."""
        assert blocking.wait_until(condition, PATIENCE)


Form = AwaitableForm | BlockingForm
FORMS: dict[str, type[Form]] = {"awaitable": AwaitableForm, "blocking": BlockingForm}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]()
