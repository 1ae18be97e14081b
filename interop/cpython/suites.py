"""Which of CPython's tests are run: those that use TCP, by module and class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SUITES: Final[Mapping[str, tuple[str, ...]]] = {
    "test_socket": (
        *("BasicTCPTest", "BasicTCPTest2", "SendmsgTCPTest", "RecvmsgTCPTest", "RecvmsgIntoTCPTest"),
        *("InterruptedSendTimeoutTest", "TCPCloserTest", "NonBlockingTCPTests"),
        *("FileObjectClassTestCase", "UnbufferedFileObjectClassTestCase", "LineBufferedFileObjectClassTestCase"),
        *("SmallBufferedFileObjectClassTestCase", "UnicodeReadFileObjectClassTestCase"),
        *("UnicodeWriteFileObjectClassTestCase", "UnicodeReadWriteFileObjectClassTestCase"),
        *("NetworkConnectionNoServer", "NetworkConnectionAttributesTest", "NetworkConnectionBehaviourTest"),
        *("TCPTimeoutTest", "BufferIOTest", "ContextManagersTest", "InheritanceTest", "NonblockConstantTest"),
        *("SendfileUsingSendTest", "SendfileUsingSendfileTest", "CreateServerTest", "CreateServerFunctionalTest"),
        *("BasicSocketPairTest", "TestExceptions"),
    ),
    "test_asyncio.test_streams": (),
    "test_asyncio.test_sock_lowlevel": (),
    "test_asyncio.test_sendfile": (),
    "test_asyncio.test_server": (),
    "test_asyncio.test_buffered_proto": (),
    "test_asyncio.test_transports": (),
}
"""Module below `test` -> its classes; without any, all of them."""
