"""A simulated network: the asyncio driver and all above it, without sockets and without a clock, from one seed.

`loop` is an event loop in virtual time, `network` has transports that delay, split, stall and cut what they carry,
`world` lets queue pairs work on it and checks what each has seen. `python -m tests.sim` goes through many seeds.
"""
