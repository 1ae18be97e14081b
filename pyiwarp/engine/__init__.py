"""The engine of one stream: octets in, events and octets out. The only place that sees MPA, DDP and RDMAP together.

May import: the layers (`mpa`, `ddp`, `rdmap`, `mr`), `negotiation`, `wire`, `fastwire`, `profile`, memory; nothing of
queues or drivers. Read `events` first (what the engine tells its owner), then `stream` (receiving, and the whole),
`sending` (the other half), `responses` (answers to Reads and Atomics), `packing` and `fast_receive`.

Some steps have a fast way beside the plain one. The fast way takes what is common and leaves everything else,
untouched, to the plain way, which alone judges and raises. Each pair is held equal by a property test in
`tests/property/`; to learn the protocol, read the plain way.

========= ================================ ==================================== ======================================
Step      Fast way                         Plain way                            Property test
========= ================================ ==================================== ======================================
Receiving `fast_receive.FastReceive.run`:  `Stream._on_tagged`, `_on_untagged`  `test_any_input_has_the_same_fate`:
          Writes, Read Responses, Sends    with `mpa.Deframer.next_ulpdu`       the same memory, events, violations
          in whole FPDUs
Receiving `MarkedDeframer.unmarked`: many  `MarkedDeframer.next_ulpdu`          the same, and `test_fast_markers.py`
markers   FPDUs whose markers are usual
Posting   `queues.fast_post` with          `queues.request_kinds` with          `test_posting_the_fast_way_says_and_
          `Packer.frame_early`: small      `SendQueue.post`, `Stream.write`     completes_the_same`: the same octets,
          Sends and Writes on an idle      and `Stream.send`                    completions, counters, errors
          stream
Receiving `Stream.receive_alone`: one read `Stream.received`                    `test_any_input_has_the_same_fate`
alone     is one small Send
Reading   `QueuePair.take_small`: octets   `ReceiveQueue.deliver_alone`          `test_octets_that_are_read_directly_
alone     go to who waits for them                                              are_those_of_the_receives`
Posting   `SendingHalf.send_alone` with    `SendQueue.post_fast` or `post`,      `test_small_sends_past_the_batches_
alone     `SendQueue.send_alone`: a small  then `next_iov` and `flushed`        say_and_complete_the_same`
          Send, past the batches
Posting   `ReceiveQueue.post_fast`: a list `ReceiveQueue.post`                  `test_receives_posted_together_are_
receives  of receives of one piece                                              those_posted_one_by_one`
Packing   `Packer._pack_contiguous`, with  `Packer._pack_plainly` with          `test_any_messages_become_the_same_
          markers `_pack_marked`: many     `ddp.Outbound.next_segment` and      octets`, and `test_fast_markers.py`
          FPDUs of contiguous payloads     `mpa.Framer.frame`
========= ================================ ==================================== ======================================

`MemoryRegion.source_view`, `pin_source` and `pin_sink` are the fast twins of `queues.checks.check_sges` for a request
of one element. They answer yes or no; `check_sges` names the rule.
"""
