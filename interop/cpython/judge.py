"""The process that runs one module of CPython's tests, and tells each outcome as it comes.

`python -m interop.cpython.judge ORDERS` with a JSON object: module, classes, done (ids to leave out), beside (a
directory to add to the package `test`), over ("tcp" or "iwarp"), limit (seconds for a test) and tell (the descriptor to
write to).
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import threading
import unittest
from typing import Final

from interop.cpython import iwarp
from interop.cpython.tally import Tally
from interop.foreign.teller import Teller, cases, say


def load(module: str, classes: list[str]) -> list[unittest.TestCase]:
    """The tests of `classes`; those of the whole module if there are none."""
    loaded = importlib.import_module(f"test.{module}")
    loader = unittest.defaultTestLoader
    if not classes:
        return list(cases(loader.loadTestsFromModule(loaded)))
    found = [getattr(loaded, name) for name in classes if hasattr(loaded, name)]
    return [each for kind in found for each in cases(loader.loadTestsFromTestCase(kind))]


def main() -> None:
    """Run what the orders say."""
    orders: Final = json.loads(sys.argv[1])
    if orders["over"] == "iwarp":
        iwarp.install()
    tally = Tally(socket.socket)
    if orders["beside"] is not None:
        importlib.import_module("test").__path__.append(orders["beside"])
    done = set(orders["done"])
    tests = [each for each in load(orders["module"], orders["classes"]) if each.id() not in done]
    say(orders["tell"], tests=[each.id() for each in tests])
    suite = unittest.TestSuite(tests)
    suite.run(Teller(orders["tell"], tally, orders["limit"]))
    say(orders["tell"], over=True)
    left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    print("threads at the end:", ", ".join(left) or "none", file=sys.stderr, flush=True)
    os._exit(0)  # a thread that a test has left behind must not keep this process


if __name__ == "__main__":
    main()
