"""The same in a script: rdma_cm's identifiers without an event loop, a thread for the server and one for the client.

    python examples/blockingcm_server.py

Without a channel each step returns when it is over and raises the cause if it failed, as librdmacm's synchronous
identifiers do. `blocking.wait` waits for completions.
"""

from __future__ import annotations

import threading
from queue import Queue

from pyiwarp import Access, blocking
from pyiwarp.blockingcm import CmId, ConnParam
from pyiwarp.verbs import QueuePair, Recv, Send

SIZE, LIMIT = 64, 10.0


def with_receive(cm_id: CmId) -> tuple[QueuePair, bytearray]:
    """A queue pair that waits for one message, and where it will be."""
    qp, memory = cm_id.create_qp(), bytearray(SIZE)
    qp.post_recv(Recv((cm_id.pd.register(memory, Access.LOCAL_WRITE)[:],)))
    return qp, memory


def take(qp: QueuePair, memory: bytearray) -> bytes:
    (done,) = blocking.wait(qp.recv_cq, timeout=LIMIT)
    assert done.ok, done
    return bytes(memory[: done.nbytes])


def serve(ports: Queue[int]) -> None:
    with CmId() as listener:
        listener.bind_addr("127.0.0.1")
        listener.listen()
        assert listener.local_addr is not None
        ports.put(listener.local_addr[1])
        with listener.get_request(timeout=LIMIT) as peer:
            qp, memory = with_receive(peer)
            peer.accept(ConnParam(private_data=b"welcome"))
            qp.post_send(Send(inline=take(qp, memory).upper()))
            peer.disconnect()


def main() -> None:
    ports: Queue[int] = Queue()
    server = threading.Thread(target=serve, args=(ports,))
    server.start()
    with CmId() as cm_id:
        cm_id.resolve_addr("127.0.0.1", ports.get(timeout=LIMIT))
        cm_id.resolve_route()
        qp, memory = with_receive(cm_id)
        cm_id.connect(timeout=LIMIT)
        assert cm_id.agreement.private_data == b"welcome"
        qp.post_send(Send(inline=b"hello from a script"))
        print(take(qp, memory).decode())
        cm_id.disconnect()
    server.join()


if __name__ == "__main__":
    main()
