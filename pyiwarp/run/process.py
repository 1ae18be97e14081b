"""The process of `pyiwarp run`: TCP sockets, or pyverbs, are replaced before the program is run."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress

from pyiwarp import pyverbs
from pyiwarp.run.orders import Orders
from pyiwarp.run.report import FAILED, PyverbsReport, Report
from pyiwarp.sockets import install
from pyiwarp.sockets.family.enginethread import in_engine_thread

__all__ = ["main"]


def main() -> None:
    """Run what the orders in the only argument say. Raises what the program raises."""
    orders = Orders.parse(sys.argv[1])
    if orders.pyverbs:
        _replace_pyverbs(orders)
    else:
        _replace_sockets(orders)
    orders.program.run()


def _replace_pyverbs(orders: Orders) -> None:
    from pyiwarp.pyverbs.opened import PEER_VARIABLE

    os.environ.setdefault(PEER_VARIABLE, orders.peer)
    pyverbs.install()
    sys.addaudithook(PyverbsReport().audit)


def _replace_sockets(orders: Orders) -> None:
    report = Report(in_engine_thread)
    sys.addaudithook(report.audit)
    install(all=not orders.only, only=orders.only, on_plain=report.on_plain, options=orders.options)
    _hide_uvloop()
    if orders.check:
        atexit.register(_check, report, os.getpid())


def _hide_uvloop() -> None:
    """Its loops make TCP sockets of their own, in C, where nothing can replace them: programs do without it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "uvloop"]:
        del sys.modules[name]
    sys.modules["uvloop"] = None  # type: ignore[assignment]  # as the import system has it for what must not be found


def _check(report: Report, pid: int) -> None:
    """The last thing of all, when the program's own work at exit is done."""
    if os.getpid() != pid or report.finish():
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(FAILED)
