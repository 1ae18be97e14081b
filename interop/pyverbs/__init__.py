"""rdma-core's own Python tests as somebody else's judge of `pyiwarp.pyverbs`: unchanged, with iWARP below.

`source` says where the tests come from, `judge` is the process that runs them (in a network of its own, `network`, with
`shims` for the commands that tests call, counted by `tally`, searched for leaks by `leaks`), `expected` has what each
test is to do, `page` writes it for readers.
"""
