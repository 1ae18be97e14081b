"""Calls of procedures, one by one and many at once."""

import sys
from xmlrpc.client import Binary, Fault, MultiCall, ServerProxy

LONG = bytes(range(256)) * 2000

with ServerProxy(f"http://127.0.0.1:{sys.argv[1]}", allow_none=True) as proxy:
    assert proxy.add(2, 3) == 5
    answer = proxy.same(Binary(LONG))
    assert isinstance(answer, Binary)
    assert answer.data == LONG
    calls = MultiCall(proxy)
    for number in range(20):
        calls.add(number, number)
    answers = calls()
    assert [answers[number] for number in range(20)] == [2 * number for number in range(20)]
    try:
        proxy.no_such_procedure()
    except Fault:
        pass
    else:
        raise AssertionError("a procedure that is not there was called")
print("done")
