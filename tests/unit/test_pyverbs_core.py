"""The progress of a process: all threads share one, whoever asks for it first; it ends in order."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from pyiwarp.pyverbs import core as home
from pyiwarp.pyverbs.core import Core, core
from tests.children import finished
from tests.patience import PATIENCE


def test_threads_that_ask_at_once_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Core):
        """One that takes a moment, so that another thread asks meanwhile."""

        def __init__(self) -> None:
            time.sleep(0.05)
            super().__init__()

    monkeypatch.setattr(home, "_current", None)
    monkeypatch.setattr(home, "Core", Slow)
    found: list[Core] = []
    threads = [threading.Thread(target=lambda: found.append(core())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(found) == 4
    assert len(set(map(id, found))) == 1
    found[0].stop()


def test_a_forked_child_wakes_nobody_by_descriptors_that_are_others_now() -> None:
    left = Core()
    left.leave_behind()
    pipes = [os.pipe() for _ in range(8)]
    left.wake()
    for reader, writer in pipes:
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        os.close(reader)
        os.close(writer)


ENDS_AT_ONCE = """
from pyiwarp.pyverbs.cmid import CMID, AddrInfo
from pyiwarp.pyverbs.librdmacm_enums import RAI_PASSIVE

listener = CMID(AddrInfo(src="127.0.0.1", src_service="0", flags=RAI_PASSIVE))
listener.listen()
"""


def test_a_process_that_ends_with_everything_open_says_nothing() -> None:
    for _ in range(3):
        run = finished([sys.executable, "-c", ENDS_AT_ONCE])
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
