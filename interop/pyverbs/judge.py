"""The process that runs rdma-core's tests, and tells each outcome as it comes, and after each class what it has left.

`python -m interop.pyverbs.judge ORDERS` with a JSON object: directory (that of the tests), only (patterns of ids; all
without any), done (ids to leave out), alone (whether to have a network of its own), limit (seconds for a test) and tell
(the descriptor to write to).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import unittest
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.util import module_from_spec, spec_from_file_location
from ipaddress import IPv6Address
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from interop.foreign.teller import Teller, cases, say
from interop.pyverbs import leaks, network, shims
from interop.pyverbs.tally import Tally
from interop.pyverbs.warm_up import connect_once
from pyiwarp import pyverbs
from pyiwarp.pyverbs.device import Context, get_device_list


def device() -> tuple[str, str]:
    """The name of the first device, and its IP address, which is its GID."""
    name: str = get_device_list()[0].name.decode()
    with Context(name=name) as context:
        gid = IPv6Address(context.query_gid(1, 0).gid)
    return name, str(gid.ipv4_mapped or gid)


def load(directory: Path, name: str) -> list[unittest.TestCase]:
    """All tests of the package in `directory`, as its `run_tests.py` finds them."""
    sys.path.insert(0, str(directory))
    sys.argv[1:] = ["--dev", name]
    importlib.import_module("args_parser").parser.parse_args()
    spec = spec_from_file_location("tests", directory / "__init__.py", submodule_search_locations=[str(directory)])
    assert spec is not None
    assert spec.loader is not None
    package = module_from_spec(spec)
    sys.modules["tests"] = package
    spec.loader.exec_module(package)
    return list(cases(unittest.defaultTestLoader.loadTestsFromModule(package)))


def wanted(test: str, only: Sequence[str]) -> bool:
    """Whether one of the patterns is about this test."""
    return not only or any(fnmatchcase(test, f"tests.{pattern}") for pattern in only)


def main() -> None:
    """Run what the orders say."""
    orders: Final[dict[str, Any]] = json.loads(sys.argv[1])
    if orders["alone"]:
        network.enter()
    os.environ["PYIWARP_VERBS_IMPLICIT"] = "1"  # tests of implicit ODP are among them
    pyverbs.install()
    tally = Tally()
    name, address = device()
    bin_directory = Path(tempfile.mkdtemp(dir=os.getcwd()))
    shims.write(bin_directory, name, address)
    connect_once(name)
    done = set(orders["done"])
    every = load(Path(orders["directory"]), name)
    tests = [each for each in every if each.id() not in done and wanted(each.id(), orders["only"])]
    say(orders["tell"], tests=[each.id() for each in tests])
    classes = {kind: list(some) for kind, some in groupby(tests, type)}
    del every, tests
    teller = Teller(orders["tell"], tally, orders["limit"])
    usual, memory = leaks.Held.now(), leaks.resident()
    for kind in list(classes):
        unittest.TestSuite(classes.pop(kind)).run(teller)  # a suite lets go of each test that has run
        left = leaks.left_beyond(usual)
        say(orders["tell"], after=f"{kind.__module__}.{kind.__qualname__}", left=left)
        if left:
            usual = leaks.Held.now()  # the next class answers for itself
    say(orders["tell"], grown=leaks.resident() - memory)
    say(orders["tell"], over=True)
    os._exit(0)  # a thread that a test has left behind must not keep this process


if __name__ == "__main__":
    main()
