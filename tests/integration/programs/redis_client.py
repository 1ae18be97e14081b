"""redis-py: values, a pipeline, a list that another connection fills."""

import sys
import threading

import redis

client = redis.Redis("127.0.0.1", int(sys.argv[1]), socket_timeout=60, protocol=2)
assert client.ping()
assert client.set("key", b"\0value\r\n" * 10_000)
assert client.get("key") == b"\0value\r\n" * 10_000
with client.pipeline() as pipeline:
    for _ in range(100):
        pipeline.incr("counter")
    assert pipeline.execute()[-1] == 100

filler = threading.Timer(0.1, client.rpush, ("list", "late"))
filler.daemon = True
filler.start()
assert client.blpop(["list"], timeout=30) == (b"list", b"late")
filler.join(30)
assert not filler.is_alive()
client.close()
print("done")
