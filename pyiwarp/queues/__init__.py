"""Queue pairs and their queues: work requests in, completions out, one stream between.

May import: engine, memory, and the modules of the layers below; no driver. Read `work` first (work requests and
completions), then `qp_states` (the tables), `qp_pump` and `qp` (the queue pair as a driver and as a program see it),
`qp_options`, `sq`, `rq` and `srq` (the queues), `request_kinds` and `checks` (how each kind is judged and begun),
`fast_post` (small messages), `cq` and `event_queues` (where completions and events are told), `attribution` (which work
request an error belongs to), `confirming_sq`, `counters`, `waiting`, `thread_checks`.
"""
