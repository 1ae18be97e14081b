"""The examples run, say what they should, and stay short enough to be read."""

from __future__ import annotations

import asyncio
import runpy
import sys
from pathlib import Path
from typing import Final

import pytest

from pyiwarp import ConnectionLost, cm, connect
from tests.children import finished
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

SAID = {
    "blocking_script": "the sum of 100,000 numbers, read in pieces: 4,999,950,000",
    "blockingcm_server": "HELLO FROM A SCRIPT",
    "http_beside_rdma": "squares: the sum is 332,833,500\nones: the sum is 50",
    "kv_atomics": "8 clients share 9 keys, and every value is whole",
    "parameter_server": "4 workers made 240 steps; the error fell to less than a tenth",
    "rdmacm_server": "HELLO FROM CLIENT 2\n3 clients were served",
    "slow_consumer": "confirm=True: 200 messages taken, the producer was ahead by at most 8",
    "echo": "4096 octets came back",
    "kv_store": "100 keys found with",
    "lock_and_counter": "8 clients drew 200 tickets, no two the same, and added up to 900",
    "loop_family": "HELLO from the house",
    "numpy_arrays": "read 2,048,000 octets into the array itself: the mean is 127,999.5",
    "rpc_srq": "16 clients made 416 calls; ",
    "ring_buffer": "2000 records, 299,400 octets",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path) -> None:
    run = finished([sys.executable, "-W", "error", str(path)], timeout=2 * PATIENCE, cwd=ROOT)
    assert (run.returncode, run.stderr) == (0, "")
    assert SAID[path.stem] in run.stdout


MALFORMED: Final = {
    "no JSON": b"\xff{",
    "nothing": b"",
    "an object": b"{}",
    "an unknown procedure": b'["sub", 1, 2]',
    "a procedure without hash": b"[[]]",
    "too few arguments": b'["add", 1]',
    "arguments of another type": b'["upper", 1]',
    "deep": b"[" * 256,
    "a long reply": b'["upper", "' + "ÿ".encode() * 100 + b'"]',
}


async def test_a_malformed_call_ends_its_own_connection_and_no_other() -> None:
    path = ROOT / "examples" / "rpc_srq.py"
    rpc_srq = runpy.run_path(str(path))
    server = rpc_srq["Server"]()
    async with await cm.listen("127.0.0.1", 0) as listener:
        duties = [asyncio.ensure_future(duty) for duty in (server.accept(listener), server.answer(), server.watch())]
        try:
            async with asyncio.timeout(PATIENCE):
                for what, call in MALFORMED.items():
                    async with connect("127.0.0.1", listener.port) as stranger:
                        await stranger.send(call)
                        with pytest.raises(ConnectionLost):
                            print(what, await stranger.recv())
                    await rpc_srq["client"](listener.port, 1)
        finally:
            for duty in duties:
                duty.cancel()
            ends = await asyncio.gather(*duties, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 3
    server.pd.context.close()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 100


def test_each_example_is_known() -> None:
    assert {path.stem for path in EXAMPLES} == set(SAID)
