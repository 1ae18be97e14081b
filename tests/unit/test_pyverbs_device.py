"""Devices of the stand-in for pyverbs: the environment's, their GUIDs, and contexts that are made from a descriptor."""

from __future__ import annotations

import gc
import os

import pytest

from pyiwarp.errors import UsageError
from pyiwarp.pyverbs.device import Context, get_device_list, guid_format, guid_to_hex
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_context_made_from_a_descriptor_closes_it() -> None:
    """As `ibv_import_device` has it: the descriptor is the context's from then on."""
    with Context(name="iw0") as context:
        copies = [os.dup(context.cmd_fd) for _ in range(2)]
        with Context(cmd_fd=copies[0]) as imported:
            assert imported.query_gid(1, 0).gid == context.query_gid(1, 0).gid
            assert _is_open(copies[0])
        imported.close()
        dropped: Context | None = Context(cmd_fd=copies[1])
        assert dropped is not None
        del dropped
        gc.collect()
        assert [_is_open(copy) for copy in copies] == [False, False]
        Context(cmd_fd=context.cmd_fd).close()
        own = context.cmd_fd
        assert _is_open(own)
    assert not _is_open(own)
    with pytest.raises(PyverbsRDMAError):
        Context(cmd_fd=own)


def test_guids_have_the_order_that_verbs_give_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Device.guid` is in that of the host, and `query_device` tells the octets as they are on the wire."""
    monkeypatch.setenv("PYIWARP_VERBS", "iw0=127.0.0.1,iw1=127.0.0.2")
    devices = get_device_list()
    assert [guid_to_hex(device.guid) for device in devices] == ["2005e0000000001", "2005e0000000002"]
    for device in devices:
        with Context(name=device.name.decode()) as context:
            assert guid_format(context.query_device().node_guid) == f"0200:5e00:0000:000{device.index + 1}"
            assert context.query_device_ex().orig_attr.node_guid == context.query_device().node_guid


@pytest.mark.parametrize("value", ["iw0=localhost", "iw0", "=::1", "iw0=127.0.0.1,", ""])
def test_a_device_without_an_ip_address_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PYIWARP_VERBS", value)
    with pytest.raises(UsageError, match="PYIWARP_VERBS has"):
        get_device_list()
