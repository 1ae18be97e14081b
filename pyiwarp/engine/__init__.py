"""The engine of one stream: octets in, events and octets out. The only place that sees MPA, DDP and RDMAP together.

May import: the layers (`mpa`, `ddp`, `rdmap`, `mr`), `negotiation`, `wire`, `fastwire`, `profile`, memory; nothing of
queues or drivers. Read `events` first (what the engine tells its owner), then `stream` (receiving, and the whole),
`sending` (the other half), `responses` (answers to Reads and Atomics), `packing` and `fast_receive`.
"""
