"""pyiwarp's connections that one calls and that answer: messages back and forth."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.lanes import options_of
from benchmarks.pairs import HOST, Job, Sample
from benchmarks.timing import back_and_forth
from pyiwarp import blocking

__all__ = ["latency_client", "latency_server"]


def latency_server(job: Job, announce: Callable[[int], None]) -> None:
    with blocking.listen(HOST, options=options_of(job)) as listener:
        announce(listener.port)
        with listener.get_request().accept() as connection:
            for message in connection:
                connection.send(message)


def latency_client(job: Job, port: int) -> Sample:
    message = bytes(job.size)
    with blocking.connect(HOST, port, options=options_of(job)) as connection:

        def there_and_back() -> None:
            connection.send(message)
            connection.recv()

        return back_and_forth(job, there_and_back)
